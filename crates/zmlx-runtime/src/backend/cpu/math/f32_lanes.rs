//! Functions of f32 over slices: those whose fast loop does not take every argument, and `pow`, whose exponent is mostly
//! one number.

use super::super::{
    lanes::Src,
    simd::{Fma, Loop, dispatch},
};
use super::f32::{TRIG_LIMIT, cos, pow, rem, sin, tan};

macro_rules! trig_lanes {
    ($(#[$doc:meta] $lanes:ident, $fast:ident, $exact:expr;)*) => {$(
        #[$doc]
        pub fn $lanes(out: &mut [f32], x: Src<'_, f32>) {
            struct Fast<'a>(&'a mut [f32], &'a [f32]);
            impl Loop for Fast<'_> {
                type Output = bool;
                #[inline(always)]
                fn run<F: Fma>(self) -> bool {
                    let mut most = 0;
                    for (y, x) in self.0.iter_mut().zip(self.1) {
                        *y = $fast::<F>(*x);
                        most = most.max(x.to_bits() & 0x7fff_ffff);
                    }
                    most <= TRIG_LIMIT.to_bits()
                }
            }
            let exact: fn(f64) -> f64 = $exact;
            match x {
                Src::Lanes(x) => {
                    if !dispatch(Fast(out, x)) {
                        for (y, x) in out.iter_mut().zip(x).filter(|(_, x)| x.abs() > TRIG_LIMIT) {
                            *y = exact(f64::from(*x)) as f32;
                        }
                    }
                }
                Src::Splat(x) => out.fill(exact(f64::from(x)) as f32),
            }
        }
    )*};
}
trig_lanes! {
    /// sin of each.
    sin_lanes, sin, f64::sin;
    /// cos of each.
    cos_lanes, cos, f64::cos;
    /// tan of each.
    tan_lanes, tan, f64::tan;
}

/// A loop over operands that are slices or one value for all.
macro_rules! each {
    ($out:expr, $a:expr, $b:expr, |$y:ident, $x:ident, $z:ident| $body:expr) => {
        match ($a, $b) {
            (Src::Lanes(a), Src::Lanes(b)) => {
                for (($y, &$x), &$z) in $out.iter_mut().zip(a).zip(b) {
                    $body;
                }
            }
            (Src::Lanes(a), Src::Splat($z)) => {
                for ($y, &$x) in $out.iter_mut().zip(a) {
                    $body;
                }
            }
            (Src::Splat($x), Src::Lanes(b)) => {
                for ($y, &$z) in $out.iter_mut().zip(b) {
                    $body;
                }
            }
            (Src::Splat($x), Src::Splat($z)) => {
                for $y in $out.iter_mut() {
                    $body;
                }
            }
        }
    };
}

/// a^b of each. The commonest exponents are spelled out.
pub fn pow_lanes(out: &mut [f32], a: Src<'_, f32>, b: Src<'_, f32>) {
    struct Pow<'a>(&'a mut [f32], Src<'a, f32>, Src<'a, f32>);
    impl Loop for Pow<'_> {
        type Output = ();
        #[inline(always)]
        fn run<F: Fma>(self) {
            let Pow(out, a, b) = self;
            match b {
                Src::Splat(2.0) => each!(out, a, b, |y, x, _z| *y = x * x),
                Src::Splat(3.0) => each!(out, a, b, |y, x, _z| *y = x * x * x),
                Src::Splat(-1.0) => each!(out, a, b, |y, x, _z| *y = 1.0 / x),
                // the sum makes +0 of −0
                Src::Splat(0.5) => each!(out, a, b, |y, x, _z| {
                    *y = if x == f32::NEG_INFINITY { f32::INFINITY } else { (x + 0.0).sqrt() }
                }),
                _ => each!(out, a, b, |y, x, z| *y = pow::<F>(x, z)),
            }
        }
    }
    dispatch(Pow(out, a, b))
}

/// Divides by one number, if that is of ordinary size and multiply-add is fused: a product with the reciprocal, put right
/// by what is left over (Markstein), takes half the time of a division. It is rounded as that, but for dividends below
/// 2⁻⁷⁸, which may be off by one unit.
pub fn div_by_one(out: &mut [f32], a: Src<'_, f32>, b: Src<'_, f32>) -> bool {
    struct Div<'a>(&'a mut [f32], &'a [f32], f32);
    impl Loop for Div<'_> {
        type Output = bool;
        #[inline(always)]
        fn run<F: Fma>(self) -> bool {
            let Div(out, a, b) = self;
            let reciprocal = 1.0 / b;
            for (y, x) in out.iter_mut().zip(a) {
                let near = x * reciprocal;
                let left = F::f32(-near, b, *x);
                let put_right = F::f32(left, reciprocal, near);
                // nothing is left over of an exact one, NaN of an infinite one
                *y = if (left < 0.0) | (left > 0.0) { put_right } else { near };
            }
            F::FUSED
        }
    }
    // within these bounds nothing overflows, and what is left over is exact
    match (a, b) {
        (Src::Lanes(a), Src::Splat(b)) if (1.0..=16_777_216.0).contains(&b.abs()) => dispatch(Div(out, a, b)),
        _ => false,
    }
}

/// Remainder of a / b of each, with the sign of a, exact.
pub fn rem_lanes(out: &mut [f32], a: Src<'_, f32>, b: Src<'_, f32>) {
    struct Fast<'a>(&'a mut [f32], Src<'a, f32>, Src<'a, f32>);
    impl Loop for Fast<'_> {
        type Output = bool;
        #[inline(always)]
        fn run<F: Fma>(self) -> bool {
            let Fast(out, a, b) = self;
            let mut all = true;
            each!(out, a, b, |y, x, z| {
                let (r, exact) = rem::<F>(x, z);
                *y = r;
                all &= exact;
            });
            all
        }
    }
    if !dispatch(Fast(out, a, b)) {
        each!(out, a, b, |y, x, z| *y = x % z);
    }
}
