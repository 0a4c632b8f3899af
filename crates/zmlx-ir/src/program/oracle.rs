//! The oracle: a reference evaluator in f64 that carries, node by node, a bound on the error that a correct executor
//! may make. Slow and plain on purpose.
//!
//! A bound of infinity means "cannot be known": a comparison within the errors of its sides, a division by an interval
//! with 0 in it, a value that may overflow. Tests skip such elements and count them.

mod bound;

use self::bound::{Num, Sum, UNKNOWN, arg, binary, float, int, largest, predicate, scaled, size_of, tiny, top, unary};
use super::*;
use crate::{
    Scalar,
    op::{Class, Value},
};

/// Values of one input or output: dense, row-major, `extent.len(rows, cols)` of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Floats, each with a bound on its error.
    Float {
        /// The values.
        value: Vec<f64>,
        /// |computed − value| ≤ error.
        error: Vec<f64>,
    },
    /// Integers and truth values, exact.
    Int(Vec<i64>),
}

impl Data {
    /// Floats without error.
    pub fn exact(value: Vec<f64>) -> Data {
        Data::Float { error: vec![0.0; value.len()], value }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Data::Float { value, .. } => value.len(),
            Data::Int(v) => v.len(),
        }
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One value, as a float.
    pub fn get(&self, i: usize) -> f64 {
        match self {
            Data::Float { value, .. } => value[i],
            Data::Int(v) => v[i] as f64,
        }
    }
}

/// What arithmetic the bounds are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f64 all the way, no errors: for finite differences.
    Exact,
    /// Each node rounded to its dtype with the errors of the op table, results rounded once more at the store.
    Bounded,
}

/// An input that no executor accepts.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OracleError {
    /// An index is out of range.
    #[error("index {index} in row {row} is out of range, expected 0 ≤ index < {cols}")]
    Index {
        /// The index.
        index: i64,
        /// Its row.
        row: usize,
        /// The number of columns.
        cols: usize,
    },
    /// The inputs do not fit the Program.
    #[error("{0}")]
    Inputs(String),
}

struct Evaluator<'a> {
    p: &'a Program,
    rows: usize,
    cols: usize,
    exact: bool,
    /// May ops take their second spelling?
    half: bool,
    values: Vec<Vec<Num>>,
}

/// Evaluates a verified Program.
///
/// # Errors
/// Indices out of range; inputs that do not fit.
pub fn evaluate(
    p: &Program,
    rows: usize,
    cols: usize,
    inputs: &[Data],
    uniforms: &[Scalar],
    precision: Precision,
) -> Result<Vec<Data>, OracleError> {
    run(p, rows, cols, inputs, uniforms, (precision == Precision::Exact, p.is_half()))
}

/// What `evaluate` gives for rows of so many columns as memory has it: of outputs side by side, one after the other row by
/// row, or in turn.
pub fn side_by_side(p: &Program, cols: usize, outputs: &[Data]) -> Vec<Data> {
    let mut columns = outputs.iter();
    let of = |group: &[Output]| {
        let columns: Vec<&Data> = columns.by_ref().take(group.len()).collect();
        if let [only] = columns[..] {
            return only.clone();
        }
        // stretches of each that follow one another
        let stretch = if group[0].extent.has_cols() && !group[0].woven { cols.max(1) } else { 1 };
        let starts = (0..columns.first().map_or(0, |c| c.len())).step_by(stretch);
        let places = || {
            let each = |start: usize| columns.iter().flat_map(move |c| (start..start + stretch).map(move |i| (*c, i)));
            starts.clone().flat_map(each)
        };
        let error = |data: &Data, row: usize| match data {
            Data::Float { error, .. } => error[row],
            Data::Int(_) => 0.0,
        };
        let integer = |data: &Data, row: usize| match data {
            Data::Int(v) => v[row],
            Data::Float { .. } => 0,
        };
        match columns.iter().all(|c| matches!(c, Data::Int(_))) {
            true => Data::Int(places().map(|(c, row)| integer(c, row)).collect()),
            false => Data::Float {
                value: places().map(|(c, row)| c.get(row)).collect(),
                error: places().map(|(c, row)| error(c, row)).collect(),
            },
        }
    };
    p.tensors().map(of).collect()
}

fn run(
    p: &Program,
    rows: usize,
    cols: usize,
    inputs: &[Data],
    uniforms: &[Scalar],
    (exact, half): (bool, bool),
) -> Result<Vec<Data>, OracleError> {
    let wrong = |what: String| Err(OracleError::Inputs(what));
    if inputs.len() != p.inputs.len() || uniforms.len() != p.uniforms.len() {
        return wrong(format!("{} inputs, {} uniforms", inputs.len(), uniforms.len()));
    }
    for (data, input) in inputs.iter().zip(&p.inputs) {
        let expected = input.extent.len(rows, cols);
        if data.len() != expected || matches!(data, Data::Float { .. }) != input.dtype.is_float() {
            return wrong(format!("{}: {} values of {}, expected {expected}", input.name, data.len(), input.dtype));
        }
    }
    let mut e = Evaluator { p, rows, cols, exact, half, values: vec![] };
    let live = p.live();
    for id in p.ids() {
        let values = if live[id.index()] { e.node(id, inputs, uniforms)? } else { vec![] };
        e.values.push(values);
    }
    Ok(p.outputs.iter().map(|o| e.store(o)).collect())
}

impl Evaluator<'_> {
    /// The value of an argument at (row, col).
    fn at(&self, id: Id, row: usize, col: usize) -> Num {
        let extent = self.p.node(id).extent;
        let r = if extent.has_rows() { row } else { 0 };
        let (c, width) = if extent.has_cols() { (col, self.cols) } else { (0, 1) };
        self.values[id.index()][r * width + c]
    }

    /// One value for each (row, col) of an extent.
    fn each(&self, extent: Extent, mut f: impl FnMut(usize, usize) -> Num) -> Vec<Num> {
        let rows = if extent.has_rows() { self.rows } else { 1 };
        let cols = if extent.has_cols() { self.cols } else { 1 };
        let mut out = Vec::with_capacity(rows * cols);
        for r in 0..rows {
            for c in 0..cols {
                out.push(f(r, c));
            }
        }
        out
    }

    /// Rounds to the node's dtype, with an error of `ulp` units in the last place on top.
    fn round(&self, dtype: DType, v: f64, e: f64, ulp: f64) -> Num {
        if self.exact || !dtype.is_float() {
            return float(v, if self.exact { 0.0 } else { e });
        }
        if !v.is_finite() {
            return float(v, if e.is_finite() { 0.0 } else { UNKNOWN });
        }
        let (max, tiny) = (largest(dtype), tiny(dtype));
        // the oracle is itself in f64: beside an f64 executor its own rounding counts as much
        let ulp = if dtype == DType::F64 { 2.0 * ulp } else { ulp };
        let e =
            e + if ulp == 0.0 { 0.0 } else { ulp * 2.0 * dtype.unit_roundoff() * (v.abs() + e) + tiny * ulp.max(1.0) };
        float(v, if v.abs() + e > max { UNKNOWN } else { e })
    }

    fn node(&self, id: Id, inputs: &[Data], uniforms: &[Scalar]) -> Result<Vec<Num>, OracleError> {
        let node = self.p.node(id);
        let (dtype, extent) = (node.dtype, node.extent);
        let arg = |k: usize| node.args[k];
        Ok(match node.kind {
            Kind::Input(k) => match &inputs[k as usize] {
                Data::Float { value, error } => value.iter().zip(error).map(|(v, e)| float(*v, *e)).collect(),
                Data::Int(v) => v.iter().map(|v| int(*v, true)).collect(),
            },
            Kind::Uniform(k) => vec![match uniforms[k as usize] {
                Scalar::Float(v) if dtype.is_float() => self.round(dtype, v, 0.0, 0.5),
                Scalar::Int(v) if dtype.is_float() => self.round(dtype, v as f64, 0.0, 0.5),
                Scalar::Int(v) => int(dtype.wrap(v), true),
                Scalar::Float(v) => int(dtype.wrap(v as i64), true),
            }],
            Kind::Const(bits) => vec![float(f64::from_bits(bits), 0.0)],
            Kind::Int(v) => vec![int(v, true)],
            Kind::Index(i) => self.each(extent, |r, c| match i {
                Index::Row => int(r as i64, true),
                Index::Col => int(c as i64, true),
                Index::Rows => int(self.rows as i64, true),
                Index::Cols => int(self.cols as i64, true),
            }),
            Kind::Op(op) => self.each(extent, |r, c| {
                let mut args: Vec<Num> = node.args.iter().map(|a| self.at(*a, r, c)).collect();
                // a value compared with itself is off by the same error on both sides
                if matches!(node.args[..], [a, b] if a == b) && op.row().class == Class::Compare {
                    args.iter_mut().filter(|x| x.e.is_finite()).for_each(|x| x.e = 0.0);
                }
                self.op(
                    op,
                    dtype,
                    self.p.node(node.args[0]).dtype,
                    self.p.node(*node.args.last().unwrap_or(&arg(0))).dtype,
                    &args,
                )
            }),
            Kind::Reduce(op, over) => {
                let from = self.p.node(arg(0)).dtype;
                let all_rows = if over.axes().has_rows() { self.rows } else { 1 };
                let all_cols = if over.axes().has_cols() { self.cols } else { 1 };
                self.each(extent, |r, c| {
                    let mut v = Vec::with_capacity(all_rows * all_cols);
                    for rr in 0..all_rows {
                        for cc in 0..all_cols {
                            let (r, c) = (
                                if all_rows > 1 || over.axes().has_rows() { rr } else { r },
                                if over.axes().has_cols() { cc } else { c },
                            );
                            v.push(self.at(arg(0), r, c));
                        }
                    }
                    self.reduce(op, from, dtype, &v)
                })
            }
            Kind::Fold(k) => self.fold(&self.p.folds[k as usize], &node.args, extent)?,
            Kind::Scan(scan) => self.scan(scan, dtype, &node.args),
            Kind::Pick(k) => {
                let rows = if extent.has_rows() { self.rows } else { 1 };
                let mut out = Vec::with_capacity(rows);
                for row in 0..rows {
                    let t = self.at(arg(0), row, 0);
                    let col = usize::try_from(t.i).ok().filter(|c| *c < self.cols);
                    let Some(col) = col else { return Err(OracleError::Index { index: t.i, row, cols: self.cols }) };
                    // another index, another element
                    let unsure = if t.e == 0.0 { 0.0 } else { UNKNOWN };
                    let input = &self.p.inputs[k as usize];
                    let r = if input.extent.has_rows() { row } else { 0 };
                    let (c, width) = if input.extent.has_cols() { (col, self.cols) } else { (0, 1) };
                    out.push(match &inputs[k as usize] {
                        Data::Float { value, error } => float(value[r * width + c], error[r * width + c] + unsure),
                        Data::Int(v) => int(v[r * width + c], t.e == 0.0),
                    });
                }
                out
            }
            Kind::Rand => self.each(extent, |r, c| {
                let seed = self.at(arg(0), r, c);
                let value = philox::rand_unit(seed.i, (r * self.cols + c) as u64);
                float(f64::from(value), if seed.e == 0.0 { 0.0 } else { 1.0 })
            }),
            Kind::Expand | Kind::Stack | Kind::Weave => self.each(extent, |r, c| self.at(arg(0), r, c)),
        })
    }

    fn op(&self, op: Op, dtype: DType, first: DType, operand: DType, a: &[Num]) -> Num {
        if let Op::Cast(to) = op {
            return self.cast(first, to, a[0]);
        }
        if op == Op::Select {
            return self.select(operand, a);
        }
        if !operand.is_float() {
            let v: Vec<i64> = a.iter().map(|n| n.i).collect();
            let sure = a.iter().all(|n| n.e == 0.0);
            // wrapped in the operands' type; a predicate's 0 or 1 fits any
            return op.int_value(operand, &v).map_or(int(0, false), |y| int(operand.wrap(y), sure));
        }
        let row = op.row();
        if op.is_predicate() {
            return predicate(op, a);
        }
        let (v, e) = match row.value {
            Value::Unary(f) => (f(a[0].v), unary(op, row.slope, f, a[0])),
            Value::Binary(f) => (f(a[0].v, a[1].v), binary(op, f, a[0], a[1])),
            Value::Ternary(f) => {
                let e = scaled(a[0].v, a[1].e) + scaled(a[1].v, a[0].e) + scaled(a[0].e, a[1].e) + a[2].e;
                (f(a[0].v, a[1].v, a[2].v), e)
            }
        };
        let half = row.half.filter(|_| self.half && dtype == DType::F32);
        self.round(dtype, v, e, half.unwrap_or(row.ulp))
    }

    fn select(&self, dtype: DType, a: &[Num]) -> Num {
        let (c, x, y) = (a[0], a[1], a[2]);
        let chosen = if c.i != 0 { x } else { y };
        if c.e == 0.0 {
            return chosen;
        }
        let same =
            if dtype.is_float() { x.v == y.v && x.e == 0.0 && y.e == 0.0 } else { x.i == y.i && x.e + y.e == 0.0 };
        let difference = (x.v - y.v).abs() + x.e + y.e;
        Num {
            e: if same {
                0.0
            } else if dtype.is_float() && difference.is_finite() {
                difference
            } else {
                UNKNOWN
            },
            ..chosen
        }
    }

    fn cast(&self, from: DType, to: DType, a: Num) -> Num {
        if !from.is_float() {
            return match to {
                DType::Bool => int(i64::from(a.i != 0), a.e == 0.0),
                // by way of the compute type: to 16 bits it is rounded twice
                to if to.is_float() => {
                    let twice = if to == to.compute() { 0.0 } else { to.compute().unit_roundoff() * a.v.abs() };
                    self.round(to, a.i as f64, a.e + twice, 0.5)
                }
                to => int(to.wrap(a.i), a.e == 0.0),
            };
        }
        if to == DType::Bool {
            return int(i64::from(a.v != 0.0), a.e == 0.0 || a.v.abs() > a.e);
        }
        if to.is_float() {
            // both ends of the interval, rounded
            if self.exact && to != DType::F16 && to != DType::BF16 {
                return a;
            }
            let e = a.e + to.unit_roundoff() * a.v.abs();
            return self.round(to, a.v, e, if to == DType::F64 { 0.0 } else { 0.5 });
        }
        let (lo, hi) = to.int_range();
        let whole = |v: f64| if v.is_nan() { 0 } else { (v.trunc() as i64).clamp(lo, hi) };
        let y = whole(a.v);
        let end = |v: f64| y.abs_diff(whole(v)) as f64;
        let e = if a.e == 0.0 { 0.0 } else { end(a.v - a.e).max(end(a.v + a.e)) };
        Num { e: if a.e.is_finite() { e } else { UNKNOWN }, ..int(y, true) }
    }

    fn reduce(&self, op: ReduceOp, from: DType, dtype: DType, v: &[Num]) -> Num {
        let n = v.len() as f64;
        let sure = v.iter().all(|x| x.e == 0.0);
        match op {
            ReduceOp::Any => {
                int(i64::from(v.iter().any(|x| x.i != 0)), sure || v.iter().any(|x| x.i != 0 && x.e == 0.0))
            }
            ReduceOp::All => {
                int(i64::from(v.iter().all(|x| x.i != 0)), sure || v.iter().any(|x| x.i == 0 && x.e == 0.0))
            }
            ReduceOp::ArgMax | ReduceOp::ArgMin => arg(op, from, v),
            ReduceOp::Top(rank) => match top(rank, from, v) {
                Some((value, _)) => value,
                None if from.is_float() => float(op.identity(dtype), 0.0),
                None => int(from.int_range().0, true),
            },
            ReduceOp::ArgTop(rank) => top(rank, from, v).map_or(int(0, true), |t| t.1),
            _ if !from.is_float() => {
                let start = match op {
                    ReduceOp::Sum => 0,
                    ReduceOp::Prod => 1,
                    ReduceOp::Max => from.int_range().0,
                    _ => from.int_range().1,
                };
                let y = v.iter().fold(start, |s: i64, x| match op {
                    ReduceOp::Sum => s.wrapping_add(x.i),
                    ReduceOp::Prod => s.wrapping_mul(x.i),
                    ReduceOp::Max => s.max(x.i),
                    _ => s.min(x.i),
                });
                int(dtype.wrap(y), sure)
            }
            ReduceOp::Sum => {
                let (mut s, mut e, mut size) = (Sum::default(), 0.0, 0.0);
                for x in v {
                    s.add(x.v);
                    e += x.e;
                    size += size_of(x.v);
                }
                self.sum(dtype, s.value(), e, size, n)
            }
            ReduceOp::Prod => {
                let start = float(1.0, 0.0);
                let y = v.iter().fold(start, |s, x| {
                    let e = scaled(s.v, x.e) + scaled(x.v, s.e) + scaled(s.e, x.e);
                    float(s.v * x.v, e + if self.exact { 0.0 } else { dtype.unit_roundoff() * (s.v * x.v).abs() })
                });
                if self.exact {
                    return y;
                }
                // in another order a part of the product may overflow, or fall below the normal numbers
                let exponents = v.iter().map(|x| x.v.abs().log2());
                let large: f64 = exponents.filter(|e| *e > 0.0).sum();
                let least: f64 = if dtype == DType::F64 { -1022.0 } else { -126.0 };
                let e = if large > 1.0 - least { UNKNOWN } else { y.e + n * (least + large).exp2() };
                self.round(dtype, y.v, e, 0.5)
            }
            _ => {
                let max = op == ReduceOp::Max;
                let start = float(op.identity(dtype), 0.0);
                v.iter().fold(start, |s, x| {
                    let v = if s.v.is_nan() || x.v.is_nan() {
                        f64::NAN
                    } else if max {
                        s.v.max(x.v)
                    } else {
                        s.v.min(x.v)
                    };
                    float(v, s.e.max(x.e))
                })
            }
        }
    }

    /// A sum of n values of total size `size`: in f64 one after the other, in f32 at worst pairwise, so log n roundings.
    fn sum(&self, dtype: DType, s: f64, e: f64, size: f64, n: f64) -> Num {
        // another order may overflow half way
        if !self.exact && size > largest(dtype) {
            return float(s, UNKNOWN);
        }
        if !s.is_finite() {
            return float(s, if e.is_finite() { 0.0 } else { UNKNOWN });
        }
        let c = 4.0 + if dtype == DType::F64 { n } else { n.max(1.0).log2() };
        self.round(dtype, s, e + c * dtype.unit_roundoff() * size, 0.5)
    }

    fn scan(&self, scan: Scan, dtype: DType, args: &[Id]) -> Vec<Num> {
        let mut out = vec![float(0.0, 0.0); self.rows * self.cols];
        for r in 0..self.rows {
            let order: Vec<usize> =
                if scan.reverse { (0..self.cols).rev().collect() } else { (0..self.cols).collect() };
            let mut acc = match scan.op {
                ScanOp::Sum | ScanOp::Affine => float(0.0, 0.0),
                ScanOp::Prod => Num { v: 1.0, e: 0.0, i: 1 },
                ScanOp::Max if dtype.is_float() => float(f64::NEG_INFINITY, 0.0),
                ScanOp::Max => int(dtype.int_range().0, true),
            };
            let mut size = 0.0;
            let mut coefficient = float(0.0, 0.0);
            for (k, c) in order.into_iter().enumerate() {
                let x = self.at(args[0], r, c);
                let before = acc;
                let n = k as f64 + 1.0;
                acc = match scan.op {
                    ScanOp::Sum if dtype.is_float() => float(acc.v + x.v, acc.e + x.e),
                    ScanOp::Sum => int(dtype.wrap(acc.i.wrapping_add(x.i)), acc.e + x.e == 0.0),
                    ScanOp::Prod if dtype.is_float() => {
                        let e = scaled(acc.v, x.e) + scaled(x.v, acc.e) + scaled(acc.e, x.e);
                        let rounding = dtype.unit_roundoff() * (acc.v * x.v).abs() + tiny(dtype);
                        float(acc.v * x.v, e + if self.exact { 0.0 } else { rounding })
                    }
                    ScanOp::Prod => int(dtype.wrap(acc.i.wrapping_mul(x.i)), acc.e + x.e == 0.0),
                    ScanOp::Max if dtype.is_float() => {
                        let v = if acc.v.is_nan() || x.v.is_nan() { f64::NAN } else { acc.v.max(x.v) };
                        float(v, acc.e.max(x.e))
                    }
                    ScanOp::Max => int(acc.i.max(x.i), acc.e + x.e == 0.0),
                    ScanOp::Affine => {
                        let b = self.at(args[1], r, c);
                        let v = coefficient.v * acc.v;
                        let e =
                            scaled(coefficient.v, acc.e) + scaled(acc.v, coefficient.e) + scaled(acc.e, coefficient.e);
                        let u = if self.exact { 0.0 } else { 2.0 * dtype.unit_roundoff() };
                        let h = float(b.v + v, b.e + e + u * (b.v.abs() + v.abs()));
                        coefficient = x;
                        if scan.exclusive {
                            out[r * self.cols + c] = self.round(dtype, v, e + u * v.abs(), 0.5);
                        }
                        h
                    }
                };
                size += size_of(x.v);
                if scan.exclusive && scan.op == ScanOp::Affine {
                    continue;
                }
                let y = if scan.exclusive { before } else { acc };
                out[r * self.cols + c] = match scan.op {
                    _ if !dtype.is_float() => y,
                    ScanOp::Sum => self.sum(dtype, y.v, y.e, size, n),
                    ScanOp::Max => y,
                    _ => self.round(dtype, y.v, y.e, 0.5),
                };
            }
        }
        out
    }

    /// A custom monoid, one column after the other. An executor may combine in any order, so the bound is widened.
    fn fold(&self, fold: &Fold, args: &[Id], extent: Extent) -> Result<Vec<Num>, OracleError> {
        let dtype = fold.update.inputs[0].dtype;
        let rows = if extent.has_rows() { self.rows } else { 1 };
        let mut acc = Data::exact(vec![fold.init; rows]);
        for c in 0..self.cols {
            let mut inputs = vec![acc];
            for a in args {
                let column: Vec<Num> = (0..rows).map(|r| self.at(*a, r, c)).collect();
                inputs.push(Data::Float {
                    value: column.iter().map(|n| n.v).collect(),
                    error: column.iter().map(|n| n.e).collect(),
                });
            }
            acc = run(&fold.update, rows, 1, &inputs, &[], (self.exact, self.half))?.swap_remove(0);
        }
        let Data::Float { value, error } = acc else { return Err(OracleError::Inputs("a fold of integers".into())) };
        Ok(value.iter().zip(&error).map(|(v, e)| self.round(dtype, *v, 4.0 * e, 8.0)).collect())
    }

    fn store(&self, o: &Output) -> Data {
        let from = self.p.node(o.node).dtype;
        let value = self.each(o.extent, |r, c| {
            let x = self.at(o.node, r, c);
            if from == o.dtype || (from == DType::Bool && o.dtype == DType::U8) {
                x
            } else if from.is_float() && o.dtype.is_float() {
                if self.exact { x } else { self.round(o.dtype, x.v, x.e, 0.5) }
            } else {
                self.cast(from, o.dtype, x)
            }
        });
        if o.dtype.is_float() || value.iter().any(|x| x.e != 0.0) {
            return Data::Float {
                value: value.iter().map(|x| x.v).collect(),
                error: value.iter().map(|x| x.e).collect(),
            };
        }
        Data::Int(value.iter().map(|x| x.i).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_a_row_is_right_and_its_bound_is_small() {
        let mut p = Program::new("softmax");
        let x = p.input("x", DType::F32, Extent::ELEM);
        let m = p.reduce(ReduceOp::Max, Over::Cols, x);
        let d = p.op(Op::Sub, &[x, m]);
        let e = p.op(Op::Exp, &[d]);
        let s = p.reduce(ReduceOp::Sum, Over::Cols, e);
        let y = p.op(Op::Div, &[e, s]);
        p.output("out", y, DType::F32);
        let x = Data::exact(vec![0.0, 1.0, 2.0]);
        let out = evaluate(&p, 1, 3, &[x], &[], Precision::Bounded).expect("fits");
        let Data::Float { value, error } = &out[0] else { panic!("floats") };
        let total: f64 = (0..3).map(|i| f64::from(i).exp()).sum();
        for i in 0..3 {
            assert!((value[i] - (i as f64).exp() / total).abs() < 1e-15);
            assert!(error[i] > 0.0 && error[i] < 4e-6 * value[i]);
        }
    }

    #[test]
    fn what_cannot_be_known_has_an_infinite_bound() {
        let mut p = Program::new("compare");
        let x = p.input("x", DType::F32, Extent::ELEM);
        let e = p.op(Op::Exp, &[x]);
        let one = p.constant(DType::F32, 1.0);
        let c = p.op(Op::Gt, &[e, one]);
        let y = p.cast(c, DType::U8);
        p.output("out", y, DType::U8);
        let out = evaluate(&p, 1, 2, &[Data::exact(vec![0.0, 1.0])], &[], Precision::Bounded).expect("fits");
        let Data::Float { error, .. } = &out[0] else { panic!("one is unknown") };
        assert_eq!(error, &[UNKNOWN, 0.0]);
    }
}
