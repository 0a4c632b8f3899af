//! Program: the verified, typed form of a computation, and the one that is differentiated, scheduled and run.
//!
//! A Program runs over `rows × cols`; `cols` is the axis its reductions and scans run along, `rows` is everything
//! else (views of any rank are strides over the rows). A value has a dtype and an [`Extent`]: the axes it depends on.
//!
//! | extent  | depends on | examples                                   |
//! |---------|------------|--------------------------------------------|
//! | Uniform | nothing    | eps, a seed, a rank-0 tensor, a full sum   |
//! | Row     | rows       | mean(x), a target index                    |
//! | Col     | cols       | a weight or bias, its gradient             |
//! | Elem    | both       | x                                          |
//!
//! Nodes are hash-consed and in topological order: arguments come before their users. A Program is built only
//! through the constructors of `build.rs`, which infer types, insert conversions and simplify.

mod build;
mod once;
pub mod oracle;
pub mod philox;
#[doc(hidden)]
pub mod random;
mod simplify;
mod text;
mod verify;

pub use once::Split;
pub use verify::Fault;

use crate::{DType, Op};
use std::{collections::HashMap, fmt};

/// A node of a Program or of a Formula.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u32);

impl Id {
    /// Position in the node list.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// The axes a value depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent(u8);

impl Extent {
    /// One value a launch.
    pub const UNIFORM: Extent = Extent(0);
    /// One value a row.
    pub const ROW: Extent = Extent(1);
    /// One value a column.
    pub const COL: Extent = Extent(2);
    /// One value an element.
    pub const ELEM: Extent = Extent(3);

    /// Does it depend on the row?
    pub fn has_rows(self) -> bool {
        self.0 & 1 != 0
    }
    /// Does it depend on the column?
    pub fn has_cols(self) -> bool {
        self.0 & 2 != 0
    }
    /// Axes of either.
    pub fn union(self, other: Extent) -> Extent {
        Extent(self.0 | other.0)
    }
    /// Axes of self that `other` lacks.
    pub fn without(self, other: Extent) -> Extent {
        Extent(self.0 & !other.0)
    }
    /// Are all axes of `other` axes of self?
    pub fn contains(self, other: Extent) -> bool {
        self.0 & other.0 == other.0
    }
    /// Number of values for this many rows and columns.
    pub fn len(self, rows: usize, cols: usize) -> usize {
        (if self.has_rows() { rows } else { 1 }) * (if self.has_cols() { cols } else { 1 })
    }
    /// Name in text forms and on the command line: `uniform`, `row`, `col`, `elem`.
    pub fn name(self) -> &'static str {
        ["uniform", "row", "col", "elem"][self.0 as usize]
    }
    /// The extent with this name.
    pub fn from_name(name: &str) -> Option<Extent> {
        (0..4).map(Extent).find(|e| e.name() == name)
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which axes a reduction removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Over {
    /// Along each row: Elem → Row, Col → Uniform.
    Cols,
    /// Along each column: Elem → Col, Row → Uniform. Only gradients make these, and only outputs may be made of them.
    Rows,
    /// Everything: Elem → Uniform. As `Rows`.
    All,
}

impl Over {
    /// The axes removed.
    pub fn axes(self) -> Extent {
        match self {
            Over::Cols => Extent::COL,
            Over::Rows => Extent::ROW,
            Over::All => Extent::ELEM,
        }
    }
}

/// A built-in reduction. NaN propagates through sum, prod, max, min and wins argmax, argmin (first NaN);
/// ties go to the first index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReduceOp {
    /// Sum; of nothing 0.
    Sum,
    /// Product; of nothing 1.
    Prod,
    /// Largest; of nothing −∞ (integers: the smallest value).
    Max,
    /// Smallest; of nothing +∞ (integers: the largest value).
    Min,
    /// Column of the first largest, u32; of nothing 0.
    ArgMax,
    /// Column of the first smallest, u32; of nothing 0.
    ArgMin,
    /// Is any nonzero? Of nothing false.
    Any,
    /// Are all nonzero? Of nothing true.
    All,
    /// The value of this rank, 0 the largest: NaN comes before all numbers, of equals the first column first. Where the
    /// row has no so many, as [`ReduceOp::Max`] of nothing.
    Top(u8),
    /// Column of the value of this rank, u32; where the row has no so many 0.
    ArgTop(u8),
}

/// Ranks that [`ReduceOp::Top`] and [`ReduceOp::ArgTop`] go to.
pub const RANKS: u8 = 64;

impl ReduceOp {
    /// All of them but those of a rank.
    pub const LIST: [ReduceOp; 8] = [
        ReduceOp::Sum,
        ReduceOp::Prod,
        ReduceOp::Max,
        ReduceOp::Min,
        ReduceOp::ArgMax,
        ReduceOp::ArgMin,
        ReduceOp::Any,
        ReduceOp::All,
    ];

    /// Name in formulas and text forms.
    pub fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
            ReduceOp::ArgMax => "argmax",
            ReduceOp::ArgMin => "argmin",
            ReduceOp::Any => "any",
            ReduceOp::All => "all",
            ReduceOp::Top(_) => "top",
            ReduceOp::ArgTop(_) => "argtop",
        }
    }

    /// Its rank, if it has one.
    pub fn rank(self) -> Option<u8> {
        match self {
            ReduceOp::Top(rank) | ReduceOp::ArgTop(rank) => Some(rank),
            _ => None,
        }
    }

    /// Is the result a column?
    pub fn is_column(self) -> bool {
        matches!(self, ReduceOp::ArgMax | ReduceOp::ArgMin | ReduceOp::ArgTop(_))
    }

    /// Value of an empty reduction, in f64 (exact for every dtype but the limits of i64, which saturate).
    pub fn identity(self, dtype: DType) -> f64 {
        let (lo, hi) = dtype.int_range();
        match self {
            ReduceOp::Sum | ReduceOp::Any | ReduceOp::ArgMax | ReduceOp::ArgMin | ReduceOp::ArgTop(_) => 0.0,
            ReduceOp::Prod | ReduceOp::All => 1.0,
            ReduceOp::Max | ReduceOp::Top(_) if dtype.is_float() => f64::NEG_INFINITY,
            ReduceOp::Min if dtype.is_float() => f64::INFINITY,
            ReduceOp::Max | ReduceOp::Top(_) => lo as f64,
            ReduceOp::Min => hi as f64,
        }
    }
}

/// What a scan combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScanOp {
    /// Running sum.
    Sum,
    /// Running product.
    Prod,
    /// Running maximum (NaN propagates).
    Max,
    /// hᵢ = bᵢ + a·h of the position before, `a` being that of the position before too: args are (a, b).
    /// The gradients of cumprod and cummax are such recurrences.
    Affine,
}

/// A scan along a row, Elem → Elem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scan {
    /// What it combines.
    pub op: ScanOp,
    /// From the last column to the first.
    pub reverse: bool,
    /// Position i holds the scan of what comes before i, without i.
    pub exclusive: bool,
}

/// A position or a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Index {
    /// Row of the element, i64.
    Row,
    /// Column of the element, i64.
    Col,
    /// Number of rows, i64.
    Rows,
    /// Number of columns, i64.
    Cols,
}

impl Index {
    /// Name in formulas: a reserved word.
    pub fn name(self) -> &'static str {
        ["row", "col", "rows", "cols"][self as usize]
    }
    /// Extent of the value.
    pub fn extent(self) -> Extent {
        [Extent::ROW, Extent::COL, Extent::UNIFORM, Extent::UNIFORM][self as usize]
    }
}

/// What a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Element of a tensor input (a Formula: of any name).
    Input(u32),
    /// A launch argument.
    Uniform(u32),
    /// A float constant (bits of the f64); in a Formula any literal.
    Const(u64),
    /// An integer or truth constant.
    Int(i64),
    /// A position or size.
    Index(Index),
    /// A pointwise op.
    Op(Op),
    /// A built-in reduction of one argument.
    Reduce(ReduceOp, Over),
    /// A custom monoid over cols (`Program::folds`); arguments are the values its update reads.
    Fold(u32),
    /// A scan of one argument (`Affine`: two).
    Scan(Scan),
    /// `x[t]`: the element of input `x` in this row at column `t`; the argument is `t`, an integer of extent Row
    /// or Uniform. A negative or too large `t` is an error on CPU.
    Pick(u32),
    /// Uniform random number in [0, 1) for this element: Philox4x32-7 of (row·cols + col), keyed by the seed argument.
    Rand,
    /// The argument, made Elem: what a reduction of a value that does not depend on the column reduces.
    Expand,
    /// The arguments side by side, a result of a Formula and nothing else: a Program has an [`Output`] for each.
    Stack,
    /// As `Stack`, but element by element in turn.
    Weave,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// What it computes.
    pub kind: Kind,
    /// From what.
    pub args: Vec<Id>,
    /// Its type, one of the compute types (never f16 or bf16).
    pub dtype: DType,
    /// Its extent.
    pub extent: Extent,
}

/// A tensor input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Input {
    /// Name in the formula.
    pub name: String,
    /// Type in memory.
    pub dtype: DType,
    /// Extent of the view.
    pub extent: Extent,
    /// It is a table: row r of the view is the row of it that this input, an integer of extent Row, has for r.
    pub by: Option<u32>,
}

/// What a launch says of a table beside its view, whose row strides are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// The input that finds its rows.
    pub by: usize,
    /// Elements between its rows.
    pub pitch: usize,
    /// How many it has.
    pub rows: usize,
}

/// A launch argument: a new value never recompiles.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Uniform {
    /// Name in the formula.
    pub name: String,
    /// Type it is passed as.
    pub dtype: DType,
}

/// A tensor output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Output {
    /// Name; the only output of a formula is `out`.
    pub name: String,
    /// The value stored.
    pub node: Id,
    /// Type in memory: conversion (and rounding) happens at the store.
    pub dtype: DType,
    /// Extent of the view; contains the node's, which is repeated over the rest.
    pub extent: Extent,
    /// Its number in a tensor of values side by side: outputs that follow one another from number 0 on. These are of one
    /// type, and all of extent Row or all of Elem. A row of the tensor holds the columns of number 0, then those of number
    /// 1 and so on (a value of extent Row has one).
    pub column: Option<u32>,
    /// In such a tensor: the first column of each, then the second of each and so on.
    pub woven: bool,
}

/// Where an output lies: in a tensor of one, or of several side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Which of the tensors.
    pub tensor: usize,
    /// Its number there.
    pub column: usize,
    /// How many there are.
    pub width: usize,
    /// Do they lie element by element in turn?
    pub woven: bool,
}

impl Column {
    /// Place in a row of the tensor of the output's first element, and from there to the next, for rows of so many columns.
    pub fn lies(self, cols: usize) -> (usize, usize) {
        if self.woven { (self.column, self.width) } else { (self.column * cols, 1) }
    }
}

/// A tensor of one output, or of several side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Type in memory.
    pub dtype: DType,
    /// Extent of each output.
    pub extent: Extent,
    /// How many outputs.
    pub width: usize,
    /// Do they lie side by side, though it may be only one?
    pub stacked: bool,
    /// Element by element in turn?
    pub woven: bool,
}

impl Stored {
    /// Number of its elements.
    pub fn len(self, rows: usize, cols: usize) -> usize {
        self.extent.len(rows, cols) * self.width
    }

    /// Has it one value a row, and so no axis for the columns?
    pub fn is_of_rows(self) -> bool {
        self.extent == Extent::ROW && !self.stacked
    }
}

/// A custom monoid over the columns of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// Start value, an identity of `combine`.
    pub init: f64,
    /// Pointwise Program of inputs (acc, values…), all Elem, and one output.
    pub update: Program,
    /// Pointwise Program of inputs (a, b), both Elem, and one output.
    pub combine: Program,
}

/// A typed computation over rows × cols.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Name for people: statistics, profiles, generated source.
    pub name: String,
    /// Tensor inputs.
    pub inputs: Vec<Input>,
    /// Launch arguments.
    pub uniforms: Vec<Uniform>,
    /// Results.
    pub outputs: Vec<Output>,
    /// Custom monoids.
    pub folds: Vec<Fold>,
    nodes: Vec<Node>,
    memo: HashMap<Node, Id>,
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.inputs == other.inputs
            && self.uniforms == other.uniforms
            && self.outputs == other.outputs
            && self.folds == other.folds
            && self.nodes == other.nodes
    }
}

impl Program {
    /// The nodes, arguments before users.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }

    /// All ids, arguments before users.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = Id> + use<> {
        (0..self.nodes.len() as u32).map(Id)
    }

    /// The memory of its outputs.
    pub fn stored(&self) -> impl Iterator<Item = Stored> + Clone {
        self.tensors().map(|group| {
            let Output { dtype, extent, column, woven, .. } = group[0];
            Stored { dtype, extent, width: group.len(), stacked: column.is_some(), woven }
        })
    }

    /// The tensors that outputs lie in, each with its outputs.
    pub fn tensors(&self) -> impl Iterator<Item = &[Output]> + Clone {
        self.outputs.chunk_by(|_, next| next.column.is_some_and(|k| k > 0))
    }

    /// Where each output lies.
    pub fn columns(&self) -> Vec<Column> {
        let of = |(tensor, group): (usize, &[Output])| {
            let (width, woven) = (group.len(), group[0].woven);
            (0..width).map(move |column| Column { tensor, column, width, woven })
        };
        self.tensors().enumerate().flat_map(of).collect()
    }

    /// How many values of a row it ranks: one more than its highest rank.
    pub fn ranks(&self) -> usize {
        let rank = |n: &Node| match n.kind {
            Kind::Reduce(op, _) => op.rank(),
            _ => None,
        };
        self.nodes.iter().filter_map(rank).max().map_or(0, |rank| usize::from(rank) + 1)
    }

    /// x, if a value is the mean over x along the row: its sum by the number of columns.
    pub(crate) fn mean_of(&self, id: Id) -> Option<Id> {
        let args =
            |id: Id, op: Op| if self.node(id).kind == Kind::Op(op) { self.node(id).args.as_slice() } else { &[] };
        let is_count = |id: Id| match self.node(id).kind {
            Kind::Op(Op::Cast(_)) => self.node(self.node(id).args[0]).kind == Kind::Index(Index::Cols),
            _ => false,
        };
        let sum_of = |id: Id| match self.node(id).kind {
            Kind::Reduce(ReduceOp::Sum, Over::Cols) => Some(self.node(id).args[0]),
            _ => None,
        };
        let inverse = |id: Id| matches!(args(id, Op::Recip), &[n] if is_count(n));
        match (args(id, Op::Div), args(id, Op::Mul)) {
            (&[sum, n], _) if is_count(n) => sum_of(sum),
            (_, &[a, b]) if inverse(b) => sum_of(a),
            (_, &[a, b]) if inverse(a) => sum_of(b),
            _ => None,
        }
    }

    /// Are its float outputs all 16 bits wide, and is there one? Then its ops may take their second spelling.
    pub fn is_half(&self) -> bool {
        let mut floats = self.outputs.iter().map(|o| o.dtype).filter(|d| d.is_float()).peekable();
        floats.peek().is_some() && floats.all(|d| d.size_bytes() == 2)
    }

    /// Which nodes an output needs.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        for o in &self.outputs {
            live[o.node.index()] = true;
        }
        for i in (0..self.nodes.len()).rev() {
            if live[i] {
                for a in &self.nodes[i].args {
                    live[a.index()] = true;
                }
            }
        }
        live
    }
}
