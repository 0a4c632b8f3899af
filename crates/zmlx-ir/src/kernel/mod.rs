//! Kernel: what one thread of a block does, as a small typed tree close to C, so that printing it is a matter of
//! spelling. A schedule makes Kernels of a Program; a printer makes text of them; nobody else looks inside.
//!
//! A launch runs `grid` blocks of `threads` threads. A thread has *variables* (scalars, and arrays of constant length
//! that are meant for registers), its block has *shared* arrays, and all read one block of *fields*, the launch's
//! arguments. Blocks may run in *clusters*, for rows that no block can hold: they wait for each other and read each
//! other's shared arrays. Values have a compute type (`DType::compute`); f16 and bf16 exist in buffers alone: a load
//! widens, a store rounds to nearest even.
//!
//! Two kinds of arithmetic stay apart. [`Expr::Op`] is the op table's, with its rules for zero divisors, NaN and
//! wrapping. [`Expr::Arith`] is the machine's: index computations in i32 or i64 that a schedule keeps in range, with
//! divisors above zero.

mod cluster;
mod layout;
mod text;
mod uniform;
mod verify;

pub use layout::Layout;

use crate::{DType, Op};

/// Lanes of a warp: threads that exchange values without shared memory.
pub const WARP: u32 = 32;
/// Bytes of the widest load or store.
pub const VECTOR_BYTES: u32 = 16;
/// Most bytes of shared memory a block may ask for: what every target has.
pub const SHARED_BYTES: usize = 32 * 1024;
/// Most bytes of shared memory that arrays of threads may take beside that.
pub const ASIDE_BYTES: usize = 192 * 1024;
/// Most threads of a block.
pub const THREADS: u32 = 1024;
/// Most blocks of a cluster.
pub const CLUSTER: u32 = 16;

/// A kernel: what every thread of every block runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kernel {
    /// Name of the entry.
    pub name: String,
    /// Device memory, in the order of the parameters.
    pub buffers: Vec<Buffer>,
    /// Launch arguments, in the order of the argument block.
    pub fields: Vec<Field>,
    /// Arrays that the threads of a block share.
    pub shared: Vec<Shared>,
    /// Variables of a thread; each is declared by one statement.
    pub vars: Vec<Var>,
    /// Threads of a block, a multiple of [`WARP`].
    pub threads: u32,
    /// May ops take their second spelling, as all that is made of them is stored in 16 bits?
    pub half: bool,
    /// Blocks of a cluster, a power of two up to [`CLUSTER`]; 0 and 1: blocks know nothing of each other. A grid has whole
    /// clusters, of blocks that follow one another.
    pub cluster: u32,
    /// Blocks that are to run side by side on a processor, if registers can be found; 0 and 1: whatever comes.
    pub resident: u32,
    /// What a thread does.
    pub body: Vec<Stmt>,
}

/// Device memory. Buffers do not overlap.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Name in text.
    pub name: String,
    /// Element type in memory.
    pub dtype: DType,
    /// Is it written (and never read)? Else it is read alone.
    pub write: bool,
}

/// One launch argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Name in text.
    pub name: String,
    /// Its type: i32, i64, f32 or f64.
    pub dtype: DType,
    /// What the host fills in.
    pub role: Role,
}

/// What a field holds. Slots are those of the launched Program's inputs and uniforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Rows of this step.
    Rows,
    /// Rows of the launch: differs from `Rows` in a step that runs on one row.
    LaunchRows,
    /// Columns.
    Cols,
    /// Chunks of so many elements that cover any row: ⌈cols / n⌉, or ⌈(cols + n − 1) / n⌉ if the leading tensor has a
    /// row that does not start on a multiple of n elements of memory.
    Chunks(u32),
    /// Elements between the rows of partial sums: ⌈cols / n⌉ · n, of no columns n.
    Pitch(u32),
    /// Number of partial sums a column.
    Parts,
    /// Number of blocks of the step that leaves partial sums.
    Blocks,
    /// Size of one of the dimensions that the rows are decomposed over, outermost first.
    RowDim(u8),
    /// Stride of input `slot` along one of these, in elements; 0 if the input has no rows.
    RowStride(u32, u8),
    /// Stride of input `slot` along the columns, in elements; 0 if it has none.
    ColStride(u32),
    /// Rows of the table that input `slot` is.
    TableRows(u32),
    /// Elements between these rows.
    TablePitch(u32),
    /// Elements of input `slot` between the last address before its first element that is a multiple of 16 bytes, and
    /// that element.
    Shift(u32),
    /// The value of a uniform.
    Uniform(u32),
}

/// An array that the threads of a block share. Its contents are undefined at the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared {
    /// Name in text.
    pub name: String,
    /// Element type, a compute type.
    pub dtype: DType,
    /// Number of elements.
    pub len: u32,
}

/// A variable of a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Var {
    /// Name in text.
    pub name: String,
    /// Its type, a compute type. An array may also be *packed*: f16 or bf16, two elements in the registers of one; a load
    /// then keeps the bits, and an element is widened where it is read.
    pub dtype: DType,
    /// Length of an array, 0 for a scalar; even for a packed one.
    pub lanes: u32,
    /// Does the array lie in shared memory, beside those of the other threads? For what registers have no room for.
    pub aside: bool,
}

/// A variable, by its place in [`Kernel::vars`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VarId(pub u32);

/// Which thread this is. All are i32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// Thread of its block.
    Thread,
    /// Block of the grid.
    Block,
    /// Number of blocks.
    Grid,
    /// Cluster of the grid.
    Cluster,
    /// Block of its cluster.
    Rank,
}

/// Index arithmetic, and logic on truth values. `Min` and `Max` are also of floats: NaN if one of them is; of two equal
/// zeros either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    BitAnd,
    Min,
    Max,
    Lt,
    Le,
    Eq,
    And,
}

/// Which lane of the warp a shuffle reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shuffle {
    /// The lane whose number differs in these bits.
    Xor(u32),
    /// The lane so many before; its own value where that lies outside of the group of `width` lanes.
    Up(u32),
    /// The lane so many behind; its own value where that lies outside of the group.
    Down(u32),
    /// The lane of this number in the group.
    Lane(u32),
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A float constant, by the bits of its f64.
    Float(DType, u64),
    /// An integer or truth constant.
    Int(DType, i64),
    /// A scalar variable.
    Var(VarId),
    /// An element of an array variable. The index is made of constants and counters of loops with constant bounds.
    Lane(VarId, Box<Expr>),
    /// A launch argument.
    Field(u32),
    /// Which thread this is.
    Special(Special),
    /// An element of a shared array.
    Shared(u32, Box<Expr>),
    /// An element of a shared array of the cluster's block of this rank.
    Remote(u32, Box<(Expr, Expr)>),
    /// An element of a buffer, widened.
    Load(u32, Box<Expr>),
    /// An op of the op table.
    Op(Op, Vec<Expr>),
    /// Machine arithmetic on two indices, or on two truth values.
    Arith(Arith, Box<(Expr, Expr)>),
    /// The first if the condition holds, else the second; only that one is evaluated.
    Pick(Box<(Expr, Expr, Expr)>),
    /// The value of an i32 or i64, found where it stands: what is made of it is not kept in registers from turn to turn of a
    /// loop, as compilers do with what every turn computes alike.
    Fresh(Box<Expr>),
    /// Another lane's value, within groups of so many lanes (a power of two, at most a warp).
    Shuffle(Shuffle, u32, Box<Expr>),
    /// A float as a signed integer of its size, ordered as floats are: zeros are equal, NaN is above all, and the least
    /// integer is below all.
    Order(Box<Expr>),
    /// The float of such an integer: a zero is +0.
    Unorder(Box<Expr>),
    /// The random number in [0, 1) of (seed, index), both i64: `program::philox::rand_unit`.
    Rand(Box<(Expr, Expr)>),
}

/// What is assigned to.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A scalar variable.
    Var(VarId),
    /// An element of an array variable.
    Lane(VarId, Expr),
    /// An element of a shared array.
    Shared(u32, Expr),
}

/// A step of a thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// Declares a scalar with its first value.
    Let(VarId, Expr),
    /// Declares an array; its elements are undefined.
    Array(VarId),
    /// Assigns.
    Set(Place, Expr),
    /// Reads elements `at ..` of a buffer into `lanes` elements of an array variable from `first` on, widened unless the
    /// array is packed. The address is a multiple of the bytes read.
    LoadVector {
        /// Target.
        var: VarId,
        /// First element written.
        first: Expr,
        /// How many.
        lanes: u32,
        /// Source.
        buffer: u32,
        /// First element read.
        at: Expr,
    },
    /// Writes `lanes` elements of an array variable from `first` on, rounded, to elements `at ..` of a buffer. The
    /// address is a multiple of the bytes written.
    StoreVector {
        /// Source.
        var: VarId,
        /// First element read.
        first: Expr,
        /// How many.
        lanes: u32,
        /// Target.
        buffer: u32,
        /// First element written.
        at: Expr,
    },
    /// Writes one element, rounded.
    Store(u32, Expr, Expr),
    /// Four random numbers, as [`Expr::Rand`] of `seed` and `index ..`, into elements `first ..` of an array variable. An
    /// `index` that is a multiple of 4 costs half.
    Rand4 {
        /// Target.
        var: VarId,
        /// First element written.
        first: Expr,
        /// The seed, i64.
        seed: Expr,
        /// Index of the first number, i64.
        index: Expr,
    },
    /// Counts `var` from `from` up to, but not including, `to`.
    For {
        /// The counter, declared here.
        var: VarId,
        /// First value.
        from: Expr,
        /// Bound.
        to: Expr,
        /// Step, above zero.
        step: Expr,
        /// Is it to be unrolled? Then all three are constants.
        unroll: bool,
        /// What is repeated.
        body: Vec<Stmt>,
    },
    /// Runs one of two.
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    /// Waits for all threads of the block; shared memory is as they left it.
    Barrier,
    /// Says to the cluster that this thread is here; all that it wrote to shared memory is seen behind [`Stmt::Await`].
    Arrive,
    /// Waits until all threads of the cluster have arrived. So it is a [`Stmt::Barrier`] too.
    Await,
    /// A remark for people.
    Note(String),
}

impl Kernel {
    /// Bytes of shared memory that a launch adds, for arrays of threads.
    pub fn aside_bytes(&self) -> usize {
        let of = |v: &Var| v.lanes as usize * v.dtype.size_bytes();
        self.vars.iter().filter(|v| v.aside).map(of).sum::<usize>() * self.threads as usize
    }

    /// Type of a value; of a damaged one, any type.
    pub fn dtype(&self, e: &Expr) -> DType {
        let var = |v: &VarId| self.vars.get(v.0 as usize).map_or(DType::F32, |v| v.dtype);
        match e {
            Expr::Float(d, _) | Expr::Int(d, _) => *d,
            Expr::Var(v) => var(v),
            Expr::Lane(v, _) => var(v).compute(),
            Expr::Field(k) => self.fields.get(*k as usize).map_or(DType::I32, |f| f.dtype),
            Expr::Special(_) => DType::I32,
            Expr::Shared(k, _) | Expr::Remote(k, _) => self.shared.get(*k as usize).map_or(DType::F32, |s| s.dtype),
            Expr::Load(k, _) => self.buffers.get(*k as usize).map_or(DType::F32, |b| b.dtype.compute()),
            Expr::Op(Op::Cast(to), _) => to.compute(),
            Expr::Op(op, _) if op.is_predicate() => DType::Bool,
            Expr::Op(_, args) => args.last().map_or(DType::F32, |a| self.dtype(a)),
            Expr::Arith(Arith::Lt | Arith::Le | Arith::Eq | Arith::And, _) => DType::Bool,
            Expr::Arith(_, ab) => self.dtype(&ab.0),
            Expr::Pick(cab) => self.dtype(&cab.1),
            Expr::Shuffle(_, _, e) | Expr::Fresh(e) => self.dtype(e),
            Expr::Order(e) => ordered(self.dtype(e)),
            Expr::Unorder(e) if self.dtype(e) == DType::I64 => DType::F64,
            Expr::Unorder(_) => DType::F32,
            Expr::Rand(_) => DType::F32,
        }
    }
}

impl Expr {
    /// The constant, if it is an integer one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Expr::Int(_, v) => Some(*v),
            _ => None,
        }
    }

    /// Its parts.
    pub fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Float(..) | Expr::Int(..) | Expr::Var(_) | Expr::Field(_) | Expr::Special(_) => vec![],
            Expr::Lane(_, e)
            | Expr::Shared(_, e)
            | Expr::Load(_, e)
            | Expr::Shuffle(_, _, e)
            | Expr::Fresh(e)
            | Expr::Order(e)
            | Expr::Unorder(e) => vec![e],
            Expr::Op(_, args) => args.iter().collect(),
            Expr::Arith(_, ab) | Expr::Rand(ab) | Expr::Remote(_, ab) => vec![&ab.0, &ab.1],
            Expr::Pick(cab) => vec![&cab.0, &cab.1, &cab.2],
        }
    }

    /// Does `f` hold for it or for a part of it?
    pub fn any(&self, f: &dyn Fn(&Expr) -> bool) -> bool {
        f(self) || self.parts().into_iter().any(|e| e.any(f))
    }
}

impl Stmt {
    /// The values it is made of, without those of the statements inside it.
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Stmt::Let(_, e) | Stmt::If(e, ..) | Stmt::Set(Place::Var(_), e) => vec![e],
            Stmt::Set(Place::Lane(_, i) | Place::Shared(_, i), e) | Stmt::Store(_, i, e) => vec![i, e],
            Stmt::LoadVector { first, at, .. } | Stmt::StoreVector { first, at, .. } => vec![first, at],
            Stmt::Rand4 { first, seed, index, .. } => vec![first, seed, index],
            Stmt::For { from, to, step, .. } => vec![from, to, step],
            Stmt::Array(_) | Stmt::Barrier | Stmt::Arrive | Stmt::Await | Stmt::Note(_) => vec![],
        }
    }

    /// The statements inside it.
    pub fn inner(&self) -> [&[Stmt]; 2] {
        match self {
            Stmt::For { body, .. } => [body, &[]],
            Stmt::If(_, then, otherwise) => [then, otherwise],
            _ => [&[], &[]],
        }
    }
}

/// The integer that orders a float.
pub fn ordered(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::I64 } else { DType::I32 }
}

/// Calls `f` for every statement, outer ones first.
pub fn visit<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Stmt)) {
    for s in body {
        f(s);
        s.inner().into_iter().for_each(|b| visit(b, f));
    }
}
