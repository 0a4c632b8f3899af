//! Scans over whole rows, kept or in memory: one lane after the other, floats in f64.

use super::{
    ahead::DISTANCE,
    bank::{Lane, Place, with_lane},
    exec::{Domain, Env, OutLane},
    lanes::{Arith, Convert},
    running::SumsWide,
    simd::{Fma, Loop, dispatch},
    step::ScanStep,
    stream,
};
use zmlx_ir::program::{Scan, ScanOp};

/// Runs a scan over the rows of a group.
pub fn run(env: &mut Env<'_, '_>, s: &ScanStep, rows: usize) {
    let cols = env.cols;
    let Place::Kept(dst) = s.dst else { return };
    with_lane!(s.dtype, T => {
        let mut out = env.local.kept.take::<T>(dst);
        for row in 0..rows {
            let range = row * cols..(row + 1) * cols;
            let d = Domain::Tile { row, rows: 1, col: 0, width: cols };
            env.widen(&[], &s.inputs, d);
            let arg = |k: usize| match s.args[k] {
                Place::Kept(reg) => &env.local.kept.get::<T>(reg)[range.clone()],
                place => env.src::<T>(place, d).lanes(),
            };
            let b = if s.args.len() > 1 { arg(1) } else { &[] };
            T::scan(s.scan, arg(0), b, &mut out[range.clone()]);
        }
        env.local.kept.put(dst, out);
    });
}

/// A lane type that scans.
trait Scannable: Lane {
    fn scan(scan: Scan, a: &[Self], b: &[Self], out: &mut [Self]);
}

/// Lanes whose sums are made together: one vector of f64.
const WIDTH: usize = 4;

/// Sums up to each position, two vectors at a time: in each, two additions of the vector to itself, moved by one and two
/// lanes; then the first one's total is added to the second, and the sum so far to both. Only that last addition waits for
/// the one before.
struct Sums<'a, T, const REVERSE: bool, const EXCLUSIVE: bool>(&'a [T], &'a mut [T]);

impl<T, const REVERSE: bool, const EXCLUSIVE: bool> Loop for Sums<'_, T, REVERSE, EXCLUSIVE>
where
    T: Arith + Convert<f64>,
    f64: Convert<T>,
{
    type Output = ();
    #[inline(always)]
    fn run<F: Fma>(self) {
        const BOTH: usize = 2 * WIDTH;
        let Sums(a, out) = self;
        let n = out.len();
        let mut before = 0f64;
        for first in (0..n / BOTH * BOTH).step_by(BOTH) {
            let at = if REVERSE { n - first - BOTH } else { first };
            let (Some(a), Some(out)) = (a[at..].first_chunk::<BOTH>(), out[at..].first_chunk_mut::<BOTH>()) else {
                return;
            };
            let here = a.as_ptr().cast::<u8>();
            stream::prefetch(if REVERSE { here.wrapping_sub(DISTANCE) } else { here.wrapping_add(DISTANCE) });
            let x: [f64; BOTH] = std::array::from_fn(|i| a[i].convert());
            let [a, b, c, d, e, f, g, h] = x;
            let (low, high) = if REVERSE { ([h, g, f, e], [d, c, b, a]) } else { ([a, b, c, d], [e, f, g, h]) };
            let (low, high) = (within(low), within(high));
            let high = plus(high, [low[WIDTH - 1]; WIDTH]);
            let total = high[WIDTH - 1];
            let ([a, b, c, d], [e, f, g, h]) = (plus(low, [before; WIDTH]), plus(high, [before; WIDTH]));
            let sums = if EXCLUSIVE { [before, a, b, c, d, e, f, g] } else { [a, b, c, d, e, f, g, h] };
            for (i, out) in out.iter_mut().enumerate() {
                *out = sums[if REVERSE { BOTH - 1 - i } else { i }].convert();
            }
            // the same as h; to take it out of its vector would take longer than to add it once more
            before += total;
        }
        for i in n / BOTH * BOTH..n {
            let i = if REVERSE { n - 1 - i } else { i };
            let sum = before + a[i].convert();
            out[i] = if EXCLUSIVE { before } else { sum }.convert();
            before = sum;
        }
    }
}

/// Sums up to each lane of one vector.
#[inline(always)]
fn within(x: [f64; WIDTH]) -> [f64; WIDTH] {
    let [a, b, c, _] = x;
    let x = plus(x, [0.0, a, b, c]);
    let [a, b, ..] = x;
    plus(x, [0.0, 0.0, a, b])
}

#[inline(always)]
fn plus(a: [f64; WIDTH], b: [f64; WIDTH]) -> [f64; WIDTH] {
    std::array::from_fn(|i| a[i] + b[i])
}

/// The sums of a row of floats; those of integers are cheap enough one after the other.
trait Summed: Lane {
    fn sums(_: &[Self], _: &mut [Self], _reverse: bool, _exclusive: bool) -> bool {
        false
    }
}
macro_rules! summed {
    ($($t:ident),*) => {$(
        impl Summed for $t {
            fn sums(a: &[$t], out: &mut [$t], reverse: bool, exclusive: bool) -> bool {
                match (reverse, exclusive) {
                    (false, false) if <$t>::sums_wide(a, out) => {}
                    (false, false) => dispatch(Sums::<$t, false, false>(a, out)),
                    (false, true) => dispatch(Sums::<$t, false, true>(a, out)),
                    (true, false) => dispatch(Sums::<$t, true, false>(a, out)),
                    (true, true) => dispatch(Sums::<$t, true, true>(a, out)),
                }
                true
            }
        }
    )*};
}
summed!(f32, f64);

impl Summed for i64 {}
impl Summed for i32 {}
impl Summed for i16 {}
impl Summed for u32 {}
impl Summed for u8 {}

/// Visits positions first to last, or last to first.
fn positions(n: usize, reverse: bool) -> impl Iterator<Item = usize> {
    (0..n).map(move |i| if reverse { n - 1 - i } else { i })
}

macro_rules! scannable {
    ($acc:ty, $zero:expr, $one:expr, $least:expr, $add:ident, $mul:ident; $($t:ident),*) => {$(
        impl Scannable for $t {
            fn scan(scan: Scan, a: &[$t], b: &[$t], out: &mut [$t]) {
                let n = out.len();
                match scan.op {
                    ScanOp::Affine => {
                        // h = b + a·h, both a and h of the position before
                        let (mut h, mut coefficient): ($acc, $acc) = ($zero, $zero);
                        for i in positions(n, scan.reverse) {
                            let before = $mul(coefficient, h);
                            h = $add(b[i] as $acc, before);
                            out[i] = (if scan.exclusive { before } else { h }) as $t;
                            coefficient = a[i] as $acc;
                        }
                    }
                    ScanOp::Sum if Summed::sums(a, out, scan.reverse, scan.exclusive) => {}
                    op => {
                        let mut acc: $acc = match op {
                            ScanOp::Sum => $zero,
                            ScanOp::Prod => $one,
                            _ => $least(<$t as LeastLane>::LEAST),
                        };
                        for i in positions(n, scan.reverse) {
                            let before = acc;
                            let v = a[i] as $acc;
                            acc = match op {
                                ScanOp::Sum => $add(acc, v),
                                ScanOp::Prod => $mul(acc, v),
                                #[allow(clippy::eq_op)]
                                _ => if acc >= v || acc != acc { acc } else { v },
                            };
                            out[i] = (if scan.exclusive { before } else { acc }) as $t;
                        }
                    }
                }
            }
        }
    )*};
}

trait LeastLane {
    const LEAST: Self;
}
macro_rules! least {
    ($($t:ident: $v:expr),*) => {$(
        impl LeastLane for $t {
            const LEAST: $t = $v;
        }
    )*};
}
least!(f32: f32::NEG_INFINITY, f64: f64::NEG_INFINITY, i64: i64::MIN, i32: i32::MIN, i16: i16::MIN, u32: 0, u8: 0);

fn fadd(a: f64, b: f64) -> f64 {
    a + b
}
fn fmul(a: f64, b: f64) -> f64 {
    a * b
}
fn iadd(a: i64, b: i64) -> i64 {
    a.wrapping_add(b)
}
fn imul(a: i64, b: i64) -> i64 {
    a.wrapping_mul(b)
}
scannable!(f64, 0.0, 1.0, f64::from, fadd, fmul; f32, f64);
scannable!(i64, 0, 1, i64::from, iadd, imul; i64, i32, i16, u32, u8);

// Bounds that `with_lane!` needs of every lane type.
const _: fn() = || {
    fn all<T: OutLane + Arith + Convert<f64> + Scannable>() {}
    all::<f32>();
    all::<u8>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_in_vectors_are_those_of_one_after_the_other() {
        for n in [0, 1, 7, 8, 9, 64, 1000] {
            let whole: Vec<i64> = (0..n as i64).map(|i| i * i % 1009 - 300).collect();
            let a: Vec<f32> = whole.iter().map(|v| *v as f32).collect();
            for (reverse, exclusive) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut got = vec![0f32; n];
                assert!(f32::sums(&a, &mut got, reverse, exclusive));
                let mut acc = 0;
                for i in positions(n, reverse) {
                    let before = acc;
                    acc += whole[i];
                    let want = if exclusive { before } else { acc };
                    assert_eq!(got[i], want as f32, "{n} lanes, reverse {reverse}, exclusive {exclusive}, lane {i}");
                }
            }
        }
    }
}
