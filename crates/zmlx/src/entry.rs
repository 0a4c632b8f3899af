//! What a catalog file says about its kernel. One harness reads every entry and makes the tests, `zmlx kernels`,
//! `zmlx verify`, `zmlx bench` and docs/KERNELS.md from it.

use crate::{Error, Op, Result, bridge, rowwise, stats};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::{DType, Extent, Formula, Scalar};

/// How an argument's shape follows from the case's `[.., C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgShape {
    /// `[.., C]`
    Full,
    /// `[C]`
    Col,
    /// `[..]`: one value a row.
    Row,
    /// `[V, C]`: a table, of which each row reads the row that this argument has for it.
    Table(&'static str),
}

/// What an argument holds in tests and benchmarks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in [lo, hi).
    Range(f64, f64),
    /// u8 zeros and ones.
    Mask,
    /// u32 columns: 0 ≤ index < C.
    Column,
    /// u8 of any bits.
    Byte,
    /// u32 rows of a table: 0 ≤ index < V.
    Place,
    /// i64 fractions of a turn, of 2⁻⁶⁴ each.
    Turns,
}

/// Rows of tables in tests.
pub const TABLE_ROWS: usize = 5;

impl Values {
    /// One of them, for rows of `cols` columns, from numbers in [0, 1).
    pub fn draw(self, cols: usize, unit: &mut dyn FnMut() -> f64) -> f64 {
        match self {
            Values::Range(lo, hi) => lo + (hi - lo) * unit(),
            Values::Mask => f64::from(unit() < 0.7),
            Values::Column => (unit() * cols as f64).floor(),
            Values::Place => (unit() * TABLE_ROWS as f64).floor(),
            Values::Turns => (unit() - 0.5) * 2f64.powi(64),
            Values::Byte => (unit() * 256.0).floor(),
            Values::Normal(sigma) => {
                let (u, v) = (unit().max(1e-300), unit());
                sigma * (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
            }
        }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Its name in the formula.
    pub name: &'static str,
    /// Its shape.
    pub shape: ArgShape,
    /// What it holds; says also whether it is a float (of any float dtype) or an integer.
    pub values: Values,
}

impl Arg {
    /// A float argument `[.., C]` of standard normal values.
    pub const fn full(name: &'static str) -> Arg {
        Arg { name, shape: ArgShape::Full, values: Values::Normal(1.0) }
    }
    /// A float argument `[C]` of standard normal values.
    pub const fn col(name: &'static str) -> Arg {
        Arg { name, shape: ArgShape::Col, values: Values::Normal(1.0) }
    }
    /// A float table `[V, C]` whose rows this argument finds.
    pub const fn table(name: &'static str, by: &'static str) -> Arg {
        Arg { name, shape: ArgShape::Table(by), values: Values::Normal(1.0) }
    }
    /// One row of a table for each row.
    pub const fn place(name: &'static str) -> Arg {
        Arg { name, shape: ArgShape::Row, values: Values::Place }
    }
    /// A float argument `[..]` of standard normal values: one a row.
    pub const fn row(name: &'static str) -> Arg {
        Arg { name, shape: ArgShape::Row, values: Values::Normal(1.0) }
    }
    /// The same argument with other values.
    pub const fn of(self, values: Values) -> Arg {
        Arg { values, ..self }
    }
    /// Its dtype where floats have this one.
    pub fn dtype(&self, floats: DType) -> DType {
        match self.values {
            Values::Mask | Values::Byte => DType::U8,
            Values::Column | Values::Place => DType::U32,
            Values::Turns => DType::I64,
            Values::Normal(_) | Values::Range(..) => floats,
        }
    }
    /// What it depends on.
    pub fn extent(&self) -> Extent {
        match self.shape {
            ArgShape::Full | ArgShape::Table(_) => Extent::ELEM,
            ArgShape::Col => Extent::COL,
            ArgShape::Row => Extent::ROW,
        }
    }
    /// Is it a float?
    pub fn is_float(&self) -> bool {
        matches!(self.values, Values::Normal(_) | Values::Range(..))
    }
}

/// Where a kernel's gradient comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// Derived from the formula.
    Derived,
    /// Written by hand.
    Custom,
    /// There is none, and why.
    None(&'static str),
}

/// The kernel in plain candle ops: inputs in the order of `args`, uniforms in the order of `uniforms`.
pub type Fallback = fn(&[Tensor], &[Scalar]) -> candle_core::Result<Vec<Tensor>>;

/// A kernel of the catalog.
pub struct Entry {
    /// Name of the kernel and of its file.
    pub name: &'static str,
    /// What it computes, as mathematics, in one line.
    pub summary: &'static str,
    /// The formula it is compiled from.
    pub formula: &'static str,
    /// The kernels of ZMLX that it covers, as `module.function`.
    pub zmlx: &'static [&'static str],
    /// Arguments, in the order of the function.
    pub args: &'static [Arg],
    /// Launch arguments and the values that tests use.
    pub uniforms: &'static [(&'static str, Scalar)],
    /// The same in plain candle ops.
    pub fallback: Fallback,
    /// Its gradient.
    pub gradient: Gradient,
    /// Elements read and written, in units of `[.., C]` elements: what a fused kernel must move at least.
    pub moves: f64,
    /// The built operation.
    pub cell: OnceLock<Op>,
}

impl Entry {
    /// The formula, its names in the order of the arguments.
    pub fn parsed(&self) -> Result<Formula> {
        with_names(self.args.iter().map(|a| a.name).chain(self.uniforms.iter().map(|u| u.0)), self.formula)
    }

    /// The formula, its launch arguments and tables declared.
    pub fn declared(&self) -> Result<Formula> {
        let mut formula = self.parsed()?;
        for name in &mut formula.names {
            name.by = self.args.iter().find(|a| a.name == name.name).and_then(|a| match a.shape {
                ArgShape::Table(by) => Some(by.into()),
                _ => None,
            });
            name.uniform = self.uniforms.iter().find(|u| u.0 == name.name).map(|u| u.1);
        }
        Ok(formula)
    }

    /// The operation, built at its first use.
    pub fn op(&self) -> Result<&Op> {
        Op::once(&self.cell, || self.built(self.parsed()?))
    }

    /// The operation of a formula with these names.
    pub(crate) fn built(&self, formula: Formula) -> Result<Op> {
        let mut op = rowwise(formula)?.name(self.name);
        for (name, value) in self.uniforms {
            op = op.uniform(name, *value);
        }
        for arg in self.args.iter().filter(|a| a.shape == ArgShape::Row) {
            op = op.row(arg.name);
        }
        for arg in self.args {
            if let ArgShape::Table(by) = arg.shape {
                op = op.rows_by(arg.name, by);
            }
        }
        if let Gradient::None(_) = self.gradient {
            op = op.no_grad();
        }
        op.build()
    }

    /// Runs the kernel: fused where this build has a backend for the device, else in plain candle ops (and counted
    /// as a fallback).
    pub fn run(&self, inputs: &[&Tensor], uniforms: &[Scalar]) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        let op = self.op()?;
        if inputs.iter().all(|t| bridge::runs_on(t.device())) {
            return if self.uniforms.is_empty() {
                op.call_all(inputs)
            } else {
                self.with(op, uniforms).call_all(inputs)
            };
        }
        stats::count_fallback();
        let inputs: Vec<Tensor> = inputs.iter().map(|t| (*t).clone()).collect();
        Ok((self.fallback)(&inputs, uniforms)?)
    }

    /// Formulas broadcast whatever can be, but weights and values of a row that make x larger are a mistake.
    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        let given = || inputs.iter().zip(self.args);
        let Some(rank) = given().filter(|(_, a)| a.shape == ArgShape::Full).map(|(t, _)| t.rank()).max() else {
            return Ok(());
        };
        for (t, a) in given() {
            let (most, expected) = match a.shape {
                ArgShape::Col => {
                    let apart = t.dims().split_last().is_some_and(|(_, rest)| rest.iter().any(|d| *d != 1));
                    (if apart { 0 } else { rank }, "[C], one value a column")
                }
                // rows of a table may be found by more than x has
                ArgShape::Row if a.values != Values::Place => (rank.saturating_sub(1), "x without its last dimension"),
                _ => continue,
            };
            if t.rank() > most {
                return Err(Error::shape(self.name, a.name, expected, t.dims()));
            }
        }
        Ok(())
    }

    /// Have all arguments the shape of the first, as those of an update of parameters have?
    pub(crate) fn alike(&self, inputs: &[&Tensor]) -> Result<()> {
        match inputs.iter().zip(self.args).find(|(t, _)| t.dims() != inputs[0].dims()) {
            Some((t, a)) => {
                let expected = format!("{:?}, that of {}", inputs[0].dims(), self.args[0].name);
                Err(Error::shape(self.name, a.name, expected, t.dims()))
            }
            None => Ok(()),
        }
    }

    /// The operation with these launch arguments, in the order of `uniforms`.
    pub(crate) fn with(&self, op: &Op, uniforms: &[Scalar]) -> Op {
        op.with_all(self.uniforms.iter().zip(uniforms).map(|((name, _), v)| (*name, *v)))
    }

    /// Runs a kernel of one result.
    pub fn run1(&self, inputs: &[&Tensor], uniforms: &[Scalar]) -> Result<Tensor> {
        let mut all = self.run(inputs, uniforms)?;
        Ok(all.swap_remove(0))
    }

    /// Bytes a fused forward moves at least, for this many elements of `[.., C]`.
    pub fn floor_bytes(&self, elems: usize, dtype: DType) -> f64 {
        self.moves * elems as f64 * dtype.size_bytes() as f64
    }
}

/// A formula whose inputs come in this order; it need not read them all.
pub fn with_names<'n>(names: impl IntoIterator<Item = &'n str>, text: &str) -> Result<Formula> {
    let mut formula = Formula::default();
    for name in names {
        formula.name(name);
    }
    formula.outs = formula.parse_into(text, &[])?;
    Ok(formula)
}

/// A float launch argument, for fallbacks.
pub fn float(s: Scalar) -> f64 {
    match s {
        Scalar::Float(v) => v,
        Scalar::Int(v) => v as f64,
    }
}
