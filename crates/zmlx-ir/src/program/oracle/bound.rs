//! Numbers with a bound on their error, and how the bound of a result follows from those of its operands.

use crate::{
    DType,
    op::{Op, Slope, Value},
    program::ReduceOp,
};

/// A value and the bound on its error. Integers whose bound is not 0 are not known: what follows from them by integer
/// arithmetic has no bound, as a float or as a result they have theirs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Num {
    pub v: f64,
    pub e: f64,
    /// The exact integer, where it is one.
    pub i: i64,
}

pub(super) const UNKNOWN: f64 = f64::INFINITY;

pub(super) fn float(v: f64, e: f64) -> Num {
    Num { v, e: if e.is_nan() { UNKNOWN } else { e }, i: 0 }
}

pub(super) fn int(i: i64, sure: bool) -> Num {
    Num { v: i as f64, e: if sure { 0.0 } else { UNKNOWN }, i }
}

/// x·e, 0 where e is 0 even if x is infinite.
pub(super) fn scaled(x: f64, e: f64) -> f64 {
    if e == 0.0 { 0.0 } else { x.abs() * e }
}

/// What a term adds to the size of a sum: infinities and NaN decide it in any order.
pub(super) fn size_of(x: f64) -> f64 {
    if x.is_finite() { x.abs() } else { 0.0 }
}

/// A running sum with what its roundings lost, so that it is no worse than any order an executor sums in.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        let (large, small) = if self.sum.abs() >= x.abs() { (self.sum, x) } else { (x, self.sum) };
        let lost = (large - sum) + small;
        self.sum = sum;
        // infinities lose nothing that is a number
        if lost.is_finite() {
            self.lost += lost;
        }
    }

    pub fn value(self) -> f64 {
        self.sum + self.lost
    }
}

/// The largest number that rounds to a finite one.
pub(super) fn largest(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::MAX,
        DType::F16 => 65504.0,
        DType::BF16 => 3.38e38,
        _ => f64::from(f32::MAX),
    }
}

/// What a rounding loses at most below the normal numbers.
pub(super) fn tiny(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::from_bits(1),
        DType::F16 => 2f64.powi(-25),
        DType::BF16 => 2f64.powi(-134),
        _ => 2f64.powi(-148),
    }
}

/// Position of the first largest (smallest); NaN wins.
pub(super) fn arg(op: ReduceOp, from: DType, v: &[Num]) -> Num {
    let better = |a: f64, b: f64| if op == ReduceOp::ArgMax { a > b } else { a < b };
    let mut best = 0;
    for (i, x) in v.iter().enumerate().skip(1) {
        let wins = if from.is_float() {
            !v[best].v.is_nan() && (x.v.is_nan() || better(x.v, v[best].v))
        } else if op == ReduceOp::ArgMax {
            x.i > v[best].i
        } else {
            x.i < v[best].i
        };
        if wins {
            best = i;
        }
    }
    let sure = !v.iter().enumerate().any(|(i, x)| i != best && are_close(x, &v[best]));
    int(best as i64, sure)
}

/// The value of this rank, and its position. It lies between the values of this rank of all lower and of all upper ends.
pub(super) fn top(rank: u8, from: DType, v: &[Num]) -> Option<(Num, Num)> {
    let before = |a: &usize, b: &usize| {
        let (x, y) = (&v[*a], &v[*b]);
        let by_size = if from.is_float() {
            y.v.is_nan().cmp(&x.v.is_nan()).then(y.v.partial_cmp(&x.v).unwrap_or(std::cmp::Ordering::Equal))
        } else {
            y.i.cmp(&x.i)
        };
        by_size.then(a.cmp(b))
    };
    let mut order: Vec<usize> = (0..v.len()).collect();
    order.sort_by(before);
    let at = *order.get(usize::from(rank))?;
    let nan = v.iter().any(|x| x.v.is_nan());
    let end = |sign: f64| {
        let mut ends: Vec<f64> = v.iter().map(|x| x.v + sign * x.e).collect();
        ends.sort_by(|a, b| b.total_cmp(a));
        (ends[usize::from(rank)] - v[at].v).abs()
    };
    let e = match v.iter().map(|x| x.e).fold(0.0, f64::max) {
        most if most == 0.0 || nan || !v[at].v.is_finite() => most,
        _ => end(1.0).max(end(-1.0)),
    };
    let sure = !v.iter().enumerate().any(|(i, x)| i != at && are_close(x, &v[at]));
    Some((if from.is_float() { float(v[at].v, e) } else { int(v[at].i, e == 0.0) }, int(at as i64, sure)))
}

/// May errors have turned their order?
fn are_close(a: &Num, b: &Num) -> bool {
    let (gap, error) = ((a.v - b.v).abs(), a.e + b.e);
    error > 0.0 && (gap <= error || gap.is_nan() || error.is_nan())
}

pub(super) fn predicate(op: Op, a: &[Num]) -> Num {
    let value = |x: f64, y: f64| match op.row().value {
        Value::Unary(f) => f(x),
        Value::Binary(f) => f(x, y),
        Value::Ternary(_) => 0.0,
    };
    let b = a.get(1).copied().unwrap_or(float(0.0, 0.0));
    let y = value(a[0].v, b.v);
    let nan = |x: Num| x.v.is_nan() && x.e == 0.0;
    let known = a[0].e + b.e == 0.0 || nan(a[0]) || nan(b) || (a[0].v - b.v).abs() > a[0].e + b.e;
    let known = if op == Op::IsNan { a[0].e.is_finite() } else { known };
    int(y as i64, known)
}

/// Error of f(a ± e).
pub(super) fn unary(op: Op, slope: Slope, f: fn(f64) -> f64, a: Num) -> f64 {
    if a.e == 0.0 {
        return 0.0;
    }
    if let Slope::Lipschitz(l) = slope {
        return l * a.e;
    }
    if !a.e.is_finite() || (op == Op::Recip && a.v.abs() <= a.e) || (op == Op::Tan && a.e > 0.1) {
        return UNKNOWN;
    }
    let (y, lo, hi) = (f(a.v), f(a.v - a.e), f(a.v + a.e));
    // rising everywhere but at its poles
    if op == Op::Tan && lo > hi {
        return UNKNOWN;
    }
    match (y.is_nan(), lo.is_nan(), hi.is_nan()) {
        (true, true, true) => 0.0,
        (false, false, false) if y == lo && y == hi => 0.0,
        (false, false, false) => (y - lo).abs().max((y - hi).abs()),
        _ => UNKNOWN,
    }
}

pub(super) fn binary(op: Op, f: fn(f64, f64) -> f64, a: Num, b: Num) -> f64 {
    if a.e == 0.0 && b.e == 0.0 {
        return 0.0;
    }
    match op {
        Op::Add | Op::Sub => a.e + b.e,
        Op::Mul => scaled(a.v, b.e) + scaled(b.v, a.e) + scaled(a.e, b.e),
        Op::Mulz if a.v == 0.0 && a.e == 0.0 => 0.0,
        Op::Mulz => scaled(a.v, b.e) + scaled(b.v, a.e) + scaled(a.e, b.e),
        Op::Div if b.v.abs() <= b.e => UNKNOWN,
        Op::Div => (a.e + scaled(a.v / b.v, b.e)) / (b.v.abs() - b.e),
        Op::Min | Op::Max => a.e.max(b.e),
        Op::Rem if b.v.abs() <= b.e => UNKNOWN,
        Op::Rem => {
            let q = |x: f64, y: f64| (x / y).trunc();
            let middle = q(a.v, b.v);
            let corners = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)];
            let same = corners.iter().all(|(i, j)| q(a.v + i * a.e, b.v + j * b.e) == middle);
            if same && middle.is_finite() { a.e + scaled(middle, b.e) } else { UNKNOWN }
        }
        // at a base that may be negative, whole exponents alone have a value, and the sign is that of their parity
        Op::Pow if a.v <= a.e && b.e != 0.0 => UNKNOWN,
        Op::Pow if a.v.abs() <= a.e && b.v < 0.0 => UNKNOWN,
        _ if !(a.e + b.e).is_finite() => UNKNOWN,
        _ => {
            let y = f(a.v, b.v);
            let corners = [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)];
            let differences = corners.map(|(i, j)| (f(a.v + i * a.e, b.v + j * b.e) - y).abs());
            // a pole or a change of domain inside the interval makes a difference that is not a number
            if differences.iter().any(|d| d.is_nan()) { UNKNOWN } else { differences.into_iter().fold(0.0, f64::max) }
        }
    }
}
