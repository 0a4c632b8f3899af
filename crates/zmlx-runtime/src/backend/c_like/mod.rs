//! The one printer of target text. A [`Dialect`] is a table of what differs between targets; everything else is C.
//!
//! Several kernels share one unit, whose prelude holds the functions that they use and no other. A kernel's entry takes its
//! buffers in order and then, if it has fields, one block of arguments, laid out as `Kernel::layout` says. 16-bit floats
//! are unsigned 16-bit integers in memory, truth values bytes.
//!
//! `print` is total on verified kernels: it gives text, or says what the target lacks.

mod expr;
mod prelude;
pub mod raw;

use crate::Error;
use prelude::Need;
use std::{collections::BTreeSet, fmt::Write};
use zmlx_ir::{
    DType, Op,
    kernel::{Expr, Kernel, Place, Special, Stmt, VarId, visit},
};

/// What differs between targets.
#[derive(Debug)]
pub struct Dialect {
    /// Name of the target.
    pub target: &'static str,
    /// What a unit opens with.
    pub opening: &'static str,
    /// Spelling of each type, in the order of `DType::ALL`; empty where there is none.
    pub types: [&'static str; 10],
    /// An unsigned integer of 64 bits.
    pub u64: &'static str,
    /// Suffix of literals of 64 bits.
    pub long_suffix: &'static str,
    /// Two integers of 64 bits at once.
    pub i64x2: &'static str,
    /// Before pointers to device memory.
    pub device: &'static str,
    /// Before pointers to a thread's variables.
    pub local: &'static str,
    /// Before arrays that a block shares.
    pub shared: &'static str,
    /// Before the functions of the prelude.
    pub function: &'static str,
    /// Waits for all threads of the block.
    pub barrier: &'static str,
    /// Says to a cluster that the thread is here, and waits for all of it; None where blocks are alone.
    pub cluster: Option<[&'static str; 2]>,
    /// Thread of the block, block of the grid, number of blocks, in the body of an entry.
    pub specials: [&'static str; 3],
    /// Infinity and NaN, as f32 and f64.
    pub not_numbers: [&'static str; 4],
    /// The function of an op on f32 and f64; None where it takes one of the prelude.
    pub call: fn(Op, DType) -> Option<&'static str>,
    /// A prelude function of this target's own: f16 to f32, f32 to f16, f32 to bf16, two f32 to a word of 16-bit floats
    /// (`pack_bf16`); shuffles of 64 bits; the smaller and larger of two floats where zeros are alike (`least_f32`,
    /// `most_f32`); second spellings of ops (`exp_half_f32`); an index that
    /// no loop may compute ahead (`fresh_i32`); `remote`, an element
    /// of shared memory of another block.
    pub own: fn(&str) -> Option<&'static str>,
    /// `$0` of the lane whose number differs by `$1`; of the lane `$1` before or behind, or of number `$1`, in groups
    /// of `$2`.
    pub shuffles: [&'static str; 4],
    /// Lane `$1` of the group of `$2` that this lane is in, where shuffles know no groups.
    pub group_lane: Option<&'static str>,
    /// Are shuffles of 64 bits a function of the prelude?
    pub shuffles_words: bool,
    /// Declares the shared memory that a launch adds, as bytes of this name; empty where arrays cannot lie there.
    pub launch_shared: &'static str,
    /// Most buffers of an entry.
    pub buffers: usize,
    /// The parts of an entry up to the opening brace, from its name, parameters, argument type and the rest.
    pub entry: fn(&str, &[String], Option<&str>, &Kernel) -> String,
    /// The prelude of kernels written by hand.
    pub raw: &'static raw::Words,
    /// Words that are no names.
    pub reserved: &'static [&'static str],
}

/// The text of one kernel.
///
/// # Errors
/// A type or op that the target lacks.
pub fn print(kernel: &Kernel, dialect: &Dialect) -> Result<String, Error> {
    unit(&[kernel], dialect)
}

/// The text of a unit of several kernels, with different names.
///
/// # Errors
/// A type or op that the target lacks.
pub fn unit(kernels: &[&Kernel], dialect: &Dialect) -> Result<String, Error> {
    let mut needs = BTreeSet::new();
    let mut entries = String::new();
    for kernel in kernels {
        let mut w = Writer { k: kernel, d: dialect, needs: BTreeSet::new(), text: String::new(), set: BTreeSet::new() };
        w.check()?;
        w.entry();
        needs.append(&mut w.needs);
        entries.push('\n');
        entries += &w.text;
    }
    let body = format!("{}{entries}", prelude::text(needs, dialect));
    let body = if dialect.opening.is_empty() { body.trim_start_matches('\n') } else { &body };
    Ok(format!("{}{body}", dialect.opening))
}

/// The name of a kernel's entry in text: its own, behind what no word or function of a target begins with.
pub fn entry_name(kernel: &Kernel) -> String {
    format!("zmlx_{}", kernel.name)
}

/// A name as it stands inside an entry. Names do not end in `_`, so nothing else has this one.
fn word(name: &str, d: &Dialect) -> String {
    if d.reserved.contains(&name) || RESERVED.contains(&name) || prelude::is_name(name) {
        return format!("{name}_");
    }
    name.into()
}

/// Words of C++, and names that entries use themselves.
const RESERVED: &[&str] = &[
    "aside",
    "alignas",
    "alignof",
    "and",
    "args",
    "asm",
    "auto",
    "bid",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "cluster_id",
    "cluster_rank",
    "compl",
    "concept",
    "const",
    "constexpr",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "half",
    "if",
    "inline",
    "int",
    "long",
    "main",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "nullptr",
    "operator",
    "or",
    "private",
    "protected",
    "public",
    "register",
    "requires",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
    "throw",
    "tid",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "while",
    "xor",
    "blocks",
];

/// Text of one kernel under construction.
struct Writer<'a> {
    k: &'a Kernel,
    d: &'a Dialect,
    needs: BTreeSet<Need>,
    text: String,
    /// Variables that are assigned after their declaration.
    set: BTreeSet<VarId>,
}

impl Writer<'_> {
    fn unsupported(&self, what: &str, dtype: DType) -> Error {
        Error::Unsupported { op: self.k.name.clone(), what: what.into(), dtype, target: self.d.target }
    }

    /// What the target lacks.
    fn check(&mut self) -> Result<(), Error> {
        let k = self.k;
        let missing = |d: &DType| self.d.types[*d as usize].is_empty();
        let mut dtypes: Vec<DType> =
            k.buffers.iter().map(|b| b.dtype).chain(k.fields.iter().map(|f| f.dtype)).collect();
        dtypes.extend(k.vars.iter().map(|v| v.dtype).chain(k.shared.iter().map(|s| s.dtype)));
        let mut set = BTreeSet::new();
        visit(&k.body, &mut |s| {
            s.exprs().into_iter().for_each(|e| collect(k, e, &mut dtypes));
            if let Stmt::Set(Place::Var(v), _) = s {
                set.insert(*v);
            }
        });
        self.set = set;
        if let Some(d) = dtypes.into_iter().find(missing) {
            return Err(self.unsupported("arithmetic", d));
        }
        if let (Some(v), "") = (k.vars.iter().find(|v| v.aside), self.d.launch_shared) {
            return Err(self.unsupported("an array in shared memory", v.dtype));
        }
        if k.cluster > 1 && self.d.cluster.is_none() {
            let dtype = k.buffers.first().map_or(DType::F32, |b| b.dtype);
            return Err(self.unsupported("a row of several blocks", dtype));
        }
        if k.buffers.len() >= self.d.buffers {
            let dtype = k.buffers[0].dtype;
            return Err(self.unsupported(&format!("a kernel of {} buffers", k.buffers.len()), dtype));
        }
        Ok(())
    }

    fn entry(&mut self) {
        let (k, d) = (self.k, self.d);
        let name = entry_name(k);
        let args = format!("{name}_args");
        if !k.fields.is_empty() {
            let _ = writeln!(self.text, "struct {args} {{");
            for f in &k.fields {
                let _ = writeln!(self.text, "    {} {};", d.types[f.dtype as usize], word(&f.name, d));
            }
            self.text += "};\n\n";
        }
        let params: Vec<String> = k
            .buffers
            .iter()
            .map(|b| {
                let constant = if b.write { "" } else { "const " };
                format!("{}{constant}{}* {}", d.device, self.memory(b.dtype), word(&b.name, d))
            })
            .collect();
        self.text += &(d.entry)(&name, &params, (!k.fields.is_empty()).then_some(&args), k);
        self.text += " {\n";
        for (special, (name, spelling)) in
            [Special::Thread, Special::Block, Special::Grid].into_iter().zip(SPECIALS.iter().zip(d.specials))
        {
            let mut used = false;
            let is = |e: &Expr| *e == Expr::Special(special);
            visit(&k.body, &mut |s| used |= s.exprs().iter().any(|e| e.any(&is)));
            used |= special == Special::Thread && k.aside_bytes() > 0;
            used |= special == Special::Block && k.cluster > 1;
            if used {
                let _ = writeln!(self.text, "    const int {name} = {spelling};");
            }
        }
        // a cluster is of blocks that follow one another
        for (special, name, sign) in [(Special::Cluster, CLUSTER, '/'), (Special::Rank, RANK, '%')] {
            let mut used = false;
            let is = |e: &Expr| *e == Expr::Special(special);
            visit(&k.body, &mut |s| used |= s.exprs().iter().any(|e| e.any(&is)));
            if used {
                let _ = writeln!(self.text, "    const int {name} = {} {sign} {};", SPECIALS[1], k.cluster);
            }
        }
        for s in &k.shared {
            let (dtype, name) = (d.types[s.dtype as usize], word(&s.name, d));
            let _ = writeln!(self.text, "    {}{dtype} {name}[{}];", d.shared, s.len);
        }
        self.arrays_aside();
        self.block(&k.body, 1);
        self.text += "}\n";
    }

    /// Arrays in shared memory: element i of a thread lies beside those of the other threads, so that banks do not clash.
    fn arrays_aside(&mut self) {
        let k = self.k;
        if k.aside_bytes() == 0 {
            return;
        }
        self.line(1, self.d.launch_shared);
        // the widest first: each starts where its type may
        let mut aside: Vec<_> = k.vars.iter().filter(|v| v.aside).collect();
        aside.sort_by_key(|v| std::cmp::Reverse(v.dtype.size_bytes()));
        let mut at = 0;
        for v in aside {
            let (dtype, name) = (self.d.types[v.dtype as usize], word(&v.name, self.d));
            self.line(1, &format!("{dtype}* const {name} = ({dtype}*)(aside + {at}) + {};", SPECIALS[0]));
            at += v.lanes as usize * v.dtype.size_bytes() * k.threads as usize;
        }
    }

    /// An element of an array.
    fn lane(&mut self, v: VarId, i: &Expr) -> String {
        match self.k.vars[v.0 as usize].aside {
            true => format!("{}[{} * {}]", self.var(v), self.expr(i), self.k.threads),
            false => format!("{}[{}]", self.var(v), self.top(i)),
        }
    }

    /// Spelling of a type in memory.
    fn memory(&self, dtype: DType) -> &'static str {
        memory(self.d, dtype)
    }

    fn var(&self, v: VarId) -> String {
        word(&self.k.vars[v.0 as usize].name, self.d)
    }

    fn type_of(&self, v: VarId) -> &'static str {
        self.d.types[self.k.vars[v.0 as usize].dtype as usize]
    }

    /// The type of a packed array, which is declared as words of 32 bits.
    fn packed(&self, v: VarId) -> Option<DType> {
        Some(self.k.vars[v.0 as usize].dtype).filter(|d| matches!(d, DType::F16 | DType::BF16))
    }

    fn buffer(&self, k: u32) -> String {
        word(&self.k.buffers[k as usize].name, self.d)
    }

    fn shared(&self, k: u32) -> String {
        word(&self.k.shared[k as usize].name, self.d)
    }

    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.text, "{:1$}{text}", "", depth * 4);
    }

    fn block(&mut self, body: &[Stmt], depth: usize) {
        for s in body {
            self.stmt(s, depth);
        }
    }

    fn stmt(&mut self, s: &Stmt, depth: usize) {
        match s {
            Stmt::Let(v, e) => {
                let constant = if self.set.contains(v) { "" } else { "const " };
                let text = format!("{constant}{} {} = {};", self.type_of(*v), self.var(*v), self.top(e));
                self.line(depth, &text);
            }
            Stmt::Array(v) if self.k.vars[v.0 as usize].aside => {}
            Stmt::Array(v) => {
                let lanes = self.k.vars[v.0 as usize].lanes;
                let (dtype, lanes) = match self.packed(*v) {
                    Some(_) => (self.d.types[DType::U32 as usize], lanes / 2),
                    None => (self.type_of(*v), lanes),
                };
                let text = format!("{dtype} {}[{lanes}];", self.var(*v));
                self.line(depth, &text);
            }
            Stmt::Set(Place::Lane(v, i), e) if self.packed(*v).is_some() => {
                let dtype = self.packed(*v).unwrap_or(DType::F16);
                self.needs.insert(Need::Put(dtype));
                let (var, i, e) = (self.var(*v), self.expr(i), self.top(e));
                let text = format!("{var}[{i} / 2] = put_{dtype}({var}[{i} / 2], {i} & 1, {e});");
                self.line(depth, &text);
            }
            Stmt::Set(place, e) => {
                let place = match place {
                    Place::Var(v) => self.var(*v),
                    Place::Lane(v, i) => self.lane(*v, i),
                    Place::Shared(k, i) => format!("{}[{}]", self.shared(*k), self.top(i)),
                };
                let text = format!("{place} = {};", self.top(e));
                self.line(depth, &text);
            }
            Stmt::LoadVector { var, first, lanes: 1, buffer, at } => {
                let value = Expr::Load(*buffer, Box::new(at.clone()));
                let text = format!("{}[{}] = {};", self.var(*var), self.top(first), self.top(&value));
                self.line(depth, &text);
            }
            Stmt::StoreVector { var, first, lanes: 1, buffer, at } => {
                self.stmt(&Stmt::Store(*buffer, at.clone(), Expr::Lane(*var, Box::new(first.clone()))), depth);
            }
            Stmt::LoadVector { var, first, lanes, buffer, at } => {
                self.vector(true, *var, first, *lanes, *buffer, at, depth);
            }
            Stmt::StoreVector { var, first, lanes, buffer, at } => {
                self.vector(false, *var, first, *lanes, *buffer, at, depth);
            }
            Stmt::Store(k, at, e) => {
                let dtype = self.k.buffers[*k as usize].dtype;
                let value = match dtype {
                    DType::F16 | DType::BF16 => {
                        self.needs.insert(Need::Narrow(dtype));
                        format!("f32_to_{dtype}({})", self.top(e))
                    }
                    DType::Bool => format!("{} ? 1 : 0", self.expr(e)),
                    _ => self.top(e),
                };
                let text = format!("{}[{}] = {value};", self.buffer(*k), self.top(at));
                self.line(depth, &text);
            }
            Stmt::Rand4 { var, first, seed, index } => {
                self.needs.insert(Need::Rand4);
                let [first, seed, index] = [first, seed, index].map(|e| self.top(e));
                let text = format!("rand_units({seed}, {index}, &{}[{first}]);", self.var(*var));
                self.line(depth, &text);
            }
            Stmt::For { var, from, to, step, unroll, body } => {
                if *unroll {
                    self.text += "#pragma unroll\n";
                }
                let (dtype, name) = (self.type_of(*var), self.var(*var));
                let (from, to) = (self.top(from), self.expr(to));
                let step = match step.as_int() {
                    Some(1) => format!("{name}++"),
                    _ => format!("{name} += {}", self.top(step)),
                };
                self.line(depth, &format!("for ({dtype} {name} = {from}; {name} < {to}; {step}) {{"));
                self.block(body, depth + 1);
                self.line(depth, "}");
            }
            Stmt::If(c, then, otherwise) => {
                let c = self.top(c);
                self.line(depth, &format!("if ({c}) {{"));
                self.block(then, depth + 1);
                if !otherwise.is_empty() {
                    self.line(depth, "} else {");
                    self.block(otherwise, depth + 1);
                }
                self.line(depth, "}");
            }
            Stmt::Barrier => self.line(depth, self.d.barrier),
            Stmt::Arrive => self.line(depth, self.d.cluster.unwrap_or_default()[0]),
            Stmt::Await => self.line(depth, self.d.cluster.unwrap_or_default()[1]),
            Stmt::Note(text) => self.line(depth, &format!("// {text}")),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one statement")]
    fn vector(&mut self, load: bool, var: VarId, first: &Expr, lanes: u32, buffer: u32, at: &Expr, depth: usize) {
        let dtype = self.k.buffers[buffer as usize].dtype;
        let packed = load && self.packed(var).is_some();
        let (name, need) = match (load, packed) {
            (true, true) => ("copy", Need::Copy(dtype, lanes)),
            (true, false) => ("load", Need::Load(dtype, lanes)),
            (false, _) => ("store", Need::Store(dtype, lanes)),
        };
        self.needs.insert(need);
        let (memory, var) = (self.buffer(buffer), self.var(var));
        let at = self.top(at);
        let first = if packed { format!("{} / 2", self.expr(first)) } else { self.top(first) };
        self.line(depth, &format!("{name}_{dtype}x{lanes}(&{memory}[{at}], &{var}[{first}]);"));
    }
}

const SPECIALS: [&str; 3] = ["tid", "bid", "blocks"];
const CLUSTER: &str = "cluster_id";
const RANK: &str = "cluster_rank";

fn memory(d: &Dialect, dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => d.types[DType::U8 as usize],
        // spelled as what is as wide
        DType::F16 | DType::BF16 => d.types[DType::F16 as usize],
        dtype => d.types[dtype as usize],
    }
}

fn collect(k: &Kernel, e: &Expr, into: &mut Vec<DType>) {
    into.push(k.dtype(e));
    e.parts().into_iter().for_each(|e| collect(k, e, into));
}
