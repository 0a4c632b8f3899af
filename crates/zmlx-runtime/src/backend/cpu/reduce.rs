//! Accumulators of reductions along rows. Floats are multiplied in f64 (one rounding, at the end) and summed as `sums` says,
//! in an order that depends on the shape alone; integers wrap in i64.

use super::{
    bank::Lane,
    lanes::{Arith, Convert, Src, Wide},
    simd::{Fma, Loop, dispatch},
    sums,
    top::Lists,
};
use half::bf16;
use zmlx_ir::{DType, program::ReduceOp};

const RANKS: &str = "invariant: ranks are found by lists";

/// One reduction: a value and, for argmax and argmin, a column, for each row.
#[derive(Clone, Debug, Default)]
struct Acc {
    floats: Vec<f64>,
    ints: Vec<i64>,
    at: Vec<u32>,
    /// What ranks are found by, in place of these.
    lists: Lists,
}

/// The accumulators of a pass.
#[derive(Clone, Debug, Default)]
pub struct Accumulators {
    accs: Vec<Acc>,
}

impl Accumulators {
    /// The lists of accumulator `acc`, to be filled.
    pub fn list(&mut self, acc: u16) -> &mut Lists {
        let acc = usize::from(acc);
        if self.accs.len() <= acc {
            self.accs.resize_with(acc + 1, Acc::default);
        }
        &mut self.accs[acc].lists
    }

    /// The lists of accumulator `acc`.
    pub fn lists(&self, acc: u16) -> &Lists {
        &self.accs[usize::from(acc)].lists
    }

    /// Starts accumulator `acc` over `rows` rows.
    pub fn start(&mut self, acc: usize, op: ReduceOp, dtype: DType, rows: usize) {
        if self.accs.len() <= acc {
            self.accs.resize_with(acc + 1, Acc::default);
        }
        let a = &mut self.accs[acc];
        let identity = match op {
            ReduceOp::ArgMax => ReduceOp::Max.identity(dtype),
            ReduceOp::ArgMin => ReduceOp::Min.identity(dtype),
            op => op.identity(dtype),
        };
        a.floats.clear();
        a.ints.clear();
        a.at.clear();
        if dtype.is_float() {
            a.floats.resize(rows, identity);
        } else {
            a.ints.resize(rows, identity as i64);
        }
        if op.is_column() {
            a.at.resize(rows, u32::MAX);
        }
    }

    /// Adds the lanes of `rows` rows from `row`, columns `col..col + width`.
    #[allow(clippy::too_many_arguments)]
    pub fn add<T: Reduce>(
        &mut self,
        acc: usize,
        op: ReduceOp,
        row: usize,
        rows: usize,
        col: usize,
        width: usize,
        x: Src<'_, T>,
    ) {
        let a = &mut self.accs[acc];
        for r in 0..rows {
            T::add(a, op, row + r, col, x.part(r * width, width), width);
        }
    }

    /// Adds what a reduction of float lanes of a row has given: a sum, the largest or smallest, whether any or all hold.
    pub fn add_value(&mut self, acc: usize, op: ReduceOp, row: usize, value: f64) {
        let a = &mut self.accs[acc];
        if let ReduceOp::Any | ReduceOp::All = op {
            let old = a.ints[row];
            return merge_int(a, op, row, old, value as i64, None);
        }
        let old = a.floats[row];
        merge_float(a, op, row, old, value, None);
    }

    /// Merges accumulator `acc` of another worker, whose columns come after these, for `row`.
    pub fn merge(&mut self, acc: usize, op: ReduceOp, row: usize, other: &Accumulators, other_row: usize) {
        let (a, b) = (&mut self.accs[acc], &other.accs[acc]);
        if !b.floats.is_empty() {
            let (x, y) = (a.floats[row], b.floats[other_row]);
            let at = b.at.get(other_row).copied();
            merge_float(a, op, row, x, y, at);
        } else {
            let (x, y) = (a.ints[row], b.ints[other_row]);
            let at = b.at.get(other_row).copied();
            merge_int(a, op, row, x, y, at);
        }
    }

    /// Writes the results into the lanes of a row register.
    pub fn finish<T: Lane + FromAcc>(&self, acc: usize, op: ReduceOp, out: &mut [T]) {
        let a = &self.accs[acc];
        for (r, out) in out.iter_mut().enumerate() {
            *out = if op.is_column() {
                T::from_int(if a.at[r] == u32::MAX { 0 } else { i64::from(a.at[r]) })
            } else if a.floats.is_empty() {
                T::from_int(a.ints[r])
            } else {
                T::from_float(a.floats[r])
            };
        }
    }
}

/// A row register's lane from an accumulator.
pub trait FromAcc {
    fn from_float(v: f64) -> Self;
    fn from_int(v: i64) -> Self;
}
macro_rules! from_acc {
    ($($t:ty),*) => {$(
        impl FromAcc for $t {
            fn from_float(v: f64) -> $t {
                v as $t
            }
            fn from_int(v: i64) -> $t {
                v as $t
            }
        }
    )*};
}
from_acc!(f32, f64, i64, i32, i16, u32, u8);

fn merge_float(a: &mut Acc, op: ReduceOp, row: usize, x: f64, y: f64, at: Option<u32>) {
    let takes = |better: bool| !x.is_nan() && (better || y.is_nan());
    match op {
        ReduceOp::Sum => a.floats[row] = x + y,
        ReduceOp::Prod => a.floats[row] = x * y,
        ReduceOp::Max if takes(y > x) => a.floats[row] = y,
        ReduceOp::Min if takes(y < x) => a.floats[row] = y,
        ReduceOp::ArgMax | ReduceOp::ArgMin => {
            let better = if op == ReduceOp::ArgMax { y > x } else { y < x };
            // the first column wins against the identity even where it equals it
            if let Some(at) = at.filter(|at| *at != u32::MAX)
                && (a.at[row] == u32::MAX || takes(better))
            {
                a.floats[row] = y;
                a.at[row] = at;
            }
        }
        _ => {}
    }
}

fn merge_int(a: &mut Acc, op: ReduceOp, row: usize, x: i64, y: i64, at: Option<u32>) {
    a.ints[row] = match op {
        ReduceOp::Sum => x.wrapping_add(y),
        ReduceOp::Prod => x.wrapping_mul(y),
        ReduceOp::Max => x.max(y),
        ReduceOp::Min => x.min(y),
        ReduceOp::Any => i64::from(x != 0 || y != 0),
        ReduceOp::All => i64::from(x != 0 && y != 0),
        ReduceOp::ArgMax | ReduceOp::ArgMin => {
            let better = if op == ReduceOp::ArgMax { y > x } else { y < x };
            match at.filter(|at| *at != u32::MAX) {
                Some(at) if a.at[row] == u32::MAX || better => {
                    a.at[row] = at;
                    y
                }
                _ => x,
            }
        }
        ReduceOp::Top(_) | ReduceOp::ArgTop(_) => unreachable!("{RANKS}"),
    };
}

/// A lane type that reduces.
pub trait Reduce: Arith + Convert<f64> + Convert<i64> {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn add(a: &mut Acc, op: ReduceOp, row: usize, col: usize, x: Src<'_, Self>, width: usize);
}

/// Largest (or smallest) of lanes, NaN if any is: several ways at once, so that it runs at the speed of loads, and with
/// NaN looked for beside the comparison, which leaves one instruction for each.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Best<T> {
    best: [T; WAYS],
    /// Not 0 where a lane was NaN.
    nan: [u32; HALF],
}
const WAYS: usize = 64;
const HALF: usize = WAYS / 2;

impl<T: Arith> Best<T> {
    /// Of no lanes: the identity.
    pub fn new(start: T) -> Best<T> {
        Best { best: [start; WAYS], nan: [0; HALF] }
    }

    /// Takes lanes in.
    pub fn add<A: As<T>>(&mut self, x: &[A], max: bool) {
        struct M<'a, T, A>(&'a mut Best<T>, &'a [A], bool);
        impl<T: Arith, A: As<T>> Loop for M<'_, T, A> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(best, x, max) = self;
                // so that each loop knows which
                if max { take_in::<T, A, true>(best, x) } else { take_in::<T, A, false>(best, x) }
            }
        }
        dispatch(M(self, x, max))
    }

    /// The best of all; None if one was NaN.
    pub fn finish(&self, max: bool) -> Option<T> {
        struct M<'a, T>(&'a Best<T>, bool);
        impl<T: Arith> Loop for M<'_, T> {
            type Output = Option<T>;
            #[inline(always)]
            fn run<F: Fma>(self) -> Option<T> {
                let M(all, max) = self;
                let mut best = all.best;
                let mut n = WAYS / 2;
                while n > 0 {
                    let (low, high) = best.split_at_mut(n);
                    for (b, x) in low.iter_mut().zip(high) {
                        *b = better(*b, *x, max);
                    }
                    n /= 2;
                }
                let nan = all.nan.iter().fold(0, |any, nan| any | nan);
                (nan == 0).then_some(best[0])
            }
        }
        dispatch(M(self, max))
    }
}

/// Memory that is compared as T.
pub trait As<T>: Copy {
    /// As that.
    fn value(self) -> T;
}
impl<T: Arith> As<T> for T {
    #[inline(always)]
    fn value(self) -> T {
        self
    }
}
impl As<f32> for bf16 {
    #[inline(always)]
    fn value(self) -> f32 {
        self.wide()
    }
}

#[inline(always)]
fn take_in<T: Arith, A: As<T>, const MAX: bool>(all: &mut Best<T>, x: &[A]) {
    const PART: usize = WAYS / 4;
    // parts small enough to be written out, so that the compiler keeps vectors of them in registers
    #[inline(always)]
    fn take<T: Arith, A: As<T>, const MAX: bool>(part: &mut [T; PART], x: &[A]) {
        for (b, x) in part.iter_mut().zip(x) {
            *b = better(*b, x.value(), MAX);
        }
    }
    #[inline(always)]
    fn look<T: Arith, A: As<T>>(nan: &mut [u32; PART], x: &[A], y: &[A]) {
        for (n, (x, y)) in nan.iter_mut().zip(x.iter().zip(y)) {
            *n |= if x.value().is_nan() | y.value().is_nan() { u32::MAX } else { 0 };
        }
    }
    let mut best: [[T; PART]; 4] = std::array::from_fn(|p| std::array::from_fn(|i| all.best[p * PART + i]));
    let mut nan: [[u32; PART]; 2] = std::array::from_fn(|p| std::array::from_fn(|i| all.nan[p * PART + i]));
    let ([a, b, c, d], [low, high]) = (&mut best, &mut nan);
    let (chunks, rest) = x.as_chunks::<WAYS>();
    for x in chunks {
        take::<T, A, MAX>(a, &x[..PART]);
        take::<T, A, MAX>(b, &x[PART..2 * PART]);
        take::<T, A, MAX>(c, &x[2 * PART..3 * PART]);
        take::<T, A, MAX>(d, &x[3 * PART..]);
        look::<T, A>(low, &x[..PART], &x[PART..2 * PART]);
        look::<T, A>(high, &x[2 * PART..3 * PART], &x[3 * PART..]);
    }
    for (all, part) in all.best.as_chunks_mut().0.iter_mut().zip(best) {
        *all = part;
    }
    for (all, part) in all.nan.as_chunks_mut().0.iter_mut().zip(nan) {
        *all = part;
    }
    for (b, x) in all.best.iter_mut().zip(rest) {
        *b = better(*b, x.value(), MAX);
        all.nan[0] |= u32::from(x.value().is_nan());
    }
}

/// The larger (or smaller), the first where they are equal or one is NaN.
#[inline(always)]
fn better<T: Arith>(a: T, b: T, max: bool) -> T {
    if if max { b > a } else { b < a } { b } else { a }
}

fn extreme<T: Arith>(x: &[T], start: T, max: bool) -> Option<T> {
    let mut best = Best::new(start);
    best.add(x, max);
    best.finish(max)
}

fn product<T: Arith + Convert<f64>>(x: &[T]) -> f64 {
    let mut acc = [1f64; 8];
    for (i, v) in x.iter().enumerate() {
        acc[i % 8] *= (*v).convert();
    }
    acc.iter().product()
}

macro_rules! reduce_float {
    ($t:ident) => {
        impl Reduce for $t {
            #[allow(private_interfaces)]
            fn add(a: &mut Acc, op: ReduceOp, row: usize, col: usize, x: Src<'_, $t>, width: usize) {
                let lanes = match x {
                    Src::Lanes(l) => l,
                    Src::Splat(_) => return add_splat(a, op, row, col, x, width),
                };
                let old = a.floats[row];
                match op {
                    ReduceOp::Sum => a.floats[row] = old + sums::total(x, width),
                    ReduceOp::Prod => a.floats[row] = old * product(lanes),
                    ReduceOp::Max | ReduceOp::Min => {
                        let start = if op == ReduceOp::Max { $t::NEG_INFINITY } else { $t::INFINITY };
                        let v = extreme(lanes, start, op == ReduceOp::Max).unwrap_or($t::NAN);
                        merge_float(a, op, row, old, v as f64, None);
                    }
                    ReduceOp::ArgMax | ReduceOp::ArgMin => {
                        let start = if op == ReduceOp::ArgMax { $t::NEG_INFINITY } else { $t::INFINITY };
                        let v = extreme(lanes, start, op == ReduceOp::ArgMax).unwrap_or($t::NAN);
                        let found = lanes.iter().position(|x| if v.is_nan() { x.is_nan() } else { *x == v });
                        if let Some(i) = found {
                            merge_float(a, op, row, old, v as f64, Some((col + i) as u32));
                        }
                    }
                    ReduceOp::Any | ReduceOp::All => unreachable!("invariant: any and all reduce truth values"),
                    ReduceOp::Top(_) | ReduceOp::ArgTop(_) => unreachable!("{RANKS}"),
                }
            }
        }
    };
}
reduce_float!(f32);
reduce_float!(f64);

/// Lanes that are all the same: only reductions of expanded values, so speed does not matter.
fn add_splat<T: Reduce>(a: &mut Acc, op: ReduceOp, row: usize, col: usize, x: Src<'_, T>, width: usize) {
    T::add(a, op, row, col, Src::Lanes(&vec![x.at(0); width]), width);
}

macro_rules! reduce_int {
    ($($t:ident),*) => {$(
        impl Reduce for $t {
            #[allow(private_interfaces)]
            fn add(a: &mut Acc, op: ReduceOp, row: usize, col: usize, x: Src<'_, $t>, width: usize) {
                let lanes = match x {
                    Src::Lanes(l) => l,
                    Src::Splat(_) => return add_splat(a, op, row, col, x, width),
                };
                let ints = lanes.iter().map(|v| *v as i64);
                let old = a.ints[row];
                match op {
                    ReduceOp::Sum => a.ints[row] = ints.fold(old, |s, v| s.wrapping_add(v)),
                    ReduceOp::Prod => a.ints[row] = ints.fold(old, |s, v| s.wrapping_mul(v)),
                    ReduceOp::Max => a.ints[row] = ints.fold(old, i64::max),
                    ReduceOp::Min => a.ints[row] = ints.fold(old, i64::min),
                    ReduceOp::Any => a.ints[row] = i64::from(old != 0 || lanes.iter().any(|v| *v != 0)),
                    ReduceOp::All => a.ints[row] = i64::from(old != 0 && lanes.iter().all(|v| *v != 0)),
                    ReduceOp::ArgMax | ReduceOp::ArgMin => {
                        for (i, v) in ints.enumerate() {
                            merge_int(a, op, row, a.ints[row], v, Some((col + i) as u32));
                        }
                    }
                    ReduceOp::Top(_) | ReduceOp::ArgTop(_) => unreachable!("{RANKS}"),
                }
            }
        }
    )*};
}
reduce_int!(i64, i32, i16, u32, u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_halves_is_that_of_floats_and_a_nan_wins() {
        for len in [1, 64, 65, 200] {
            let mut x: Vec<bf16> = (0..len).map(|i| bf16::from_f32((i as f32 * 0.9).cos())).collect();
            for max in [true, false] {
                let start = if max { f32::NEG_INFINITY } else { f32::INFINITY };
                let found = |x: &[bf16]| {
                    let mut best = Best::new(start);
                    best.add(x, max);
                    best.finish(max)
                };
                let floats = x.iter().map(|x| x.to_f32());
                assert_eq!(found(&x), if max { floats.reduce(f32::max) } else { floats.reduce(f32::min) });
                let last = x[len - 1];
                x[len - 1] = bf16::NAN;
                assert_eq!(found(&x), None);
                x[len - 1] = last;
            }
        }
    }
}
