//! Scans over whole kept rows: one lane after the other, floats in f64.

use super::{
    bank::{Lane, Place, with_lane},
    exec::{Env, OutLane},
    lanes::{Arith, Convert},
    plan::ScanStep,
};
use zmlx_ir::program::{Scan, ScanOp};

/// Runs a scan over the kept rows of a group.
pub fn run(env: &mut Env<'_, '_>, s: &ScanStep, rows: usize) {
    let cols = env.cols;
    let Place::Kept(dst) = s.dst else { return };
    with_lane!(s.dtype, T => {
        let mut out = env.local.kept.take::<T>(dst);
        for row in 0..rows {
            let range = row * cols..(row + 1) * cols;
            let arg = |k: usize| match s.args[k] {
                Place::Kept(reg) => &env.local.kept.get::<T>(reg)[range.clone()],
                _ => &[][..],
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
