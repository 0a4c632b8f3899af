//! Errors of the functions against f64, and their special values, on the best instruction set of the machine and on
//! the baseline.

use super::super::{
    lanes::Src,
    simd::{Fma, Fused, Loop, Separate, dispatch},
};
use super::{f32 as m, f64 as d};

/// Distance in units in the last place of `want`, which is rounded to f32 only for infinities.
fn ulps(got: f32, want: f64) -> f64 {
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if (want as f32).is_infinite() || want == 0.0 {
        return if got.to_bits() == (want as f32).to_bits() { 0.0 } else { f64::INFINITY };
    }
    let exponent = ((want.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126);
    (f64::from(got) - want).abs() * 2f64.powi(23 - exponent)
}

fn ulps64(got: f64, want: f64) -> f64 {
    if want.is_nan() || want.is_infinite() || want == 0.0 {
        return if got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let exponent = ((want.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-1022);
    ((got - want).abs() * 2f64.powi(-exponent)) * 2f64.powi(52)
}

/// Special values, ends of ranges with their neighbours, and every 997th bit pattern: thousands for each exponent
/// (every 9967th without optimisation).
fn samples() -> Vec<f32> {
    let special = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let tiny = [f32::from_bits(1), f32::MIN_POSITIVE, -f32::MIN_POSITIVE, f32::MAX, f32::MIN];
    let odd_nan = [f32::from_bits(0x7fc0_0001), f32::from_bits(0xffff_ffff)];
    let ends =
        [-104.0, -103.972_08, -87.336_55, 88.722_83, 88.722_84, 127.999_99, 128.0, -125.0, -126.0, -149.0, -150.0]
            .into_iter()
            .chain([0.65, 3.95, 9.1, 17.5, 30.0, 2.0 / 3.0, 4.0 / 3.0])
            .flat_map(|x: f32| (0..9).map(move |i| f32::from_bits(x.to_bits() - 4 + i)));
    let step = if cfg!(debug_assertions) { 9967 } else { 997 };
    let all = (0..u32::MAX / step).map(move |i| f32::from_bits(i * step));
    special.into_iter().chain(tiny).chain(odd_nan).chain(ends).chain(all).collect()
}

/// Checks one function on both ways of multiplying and adding.
macro_rules! check {
    ($name:ident, $limit:expr, $most:expr, |$x:ident| $exact:expr) => {{
        struct Map<'a>(&'a mut [f32], &'a [f32]);
        impl Loop for Map<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                for (y, x) in self.0.iter_mut().zip(self.1) {
                    *y = m::$name::<F>(*x);
                }
            }
        }
        let xs: Vec<f32> = samples().into_iter().filter(|x| x.is_nan() || x.abs() <= $most).collect();
        let mut best = vec![0.0; xs.len()];
        let mut plain = best.clone();
        dispatch(Map(&mut best, &xs));
        Map(&mut plain, &xs).run::<Separate>();
        let mut worst = [(0.0, 0f32); 2];
        for ((x, best), plain) in xs.iter().zip(best).zip(plain) {
            let $x = f64::from(*x);
            let want = $exact;
            for (worst, got) in worst.iter_mut().zip([best, plain]) {
                let e = ulps(got, want);
                if e > worst.0 {
                    *worst = (e, *x);
                }
            }
        }
        assert!(worst[0].0 <= $limit, "{}: {} ulp at {:e}", stringify!($name), worst[0].0, worst[0].1);
        // without fma each step rounds once more
        assert!(
            worst[1].0 <= 2.0 * $limit,
            "{} without fma: {} ulp at {:e}",
            stringify!($name),
            worst[1].0,
            worst[1].1
        );
    }};
}

fn sigmoid(x: f64) -> f64 {
    if x > 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

fn softplus(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

#[test]
fn exponentials_are_exact_to_two_units_and_underflow_gradually() {
    check!(exp, 1.0, f32::INFINITY, |x| x.exp());
    check!(exp2, 1.0, f32::INFINITY, |x| x.exp2());
    check!(expm1, 2.0, f32::INFINITY, |x| x.exp_m1());
}

#[test]
fn logarithms_are_exact_to_two_units_from_the_smallest_number_on() {
    check!(log, 1.5, f32::INFINITY, |x| x.ln());
    check!(log2, 2.0, f32::INFINITY, |x| x.log2());
    check!(log1p, 2.0, f32::INFINITY, |x| x.ln_1p());
}

#[test]
fn activations_have_small_relative_errors_everywhere() {
    check!(tanh, 3.0, f32::INFINITY, |x| x.tanh());
    check!(sigmoid, 3.5, f32::INFINITY, |x| sigmoid(x));
    check!(softplus, 3.0, f32::INFINITY, |x| softplus(x));
    check!(erf, 5.5, f32::INFINITY, |x| zmlx_ir::erf::erf(x));
    check!(silu, 4.0, 87.0, |x| x * sigmoid(x));
}

#[test]
fn trigonometry_is_exact_where_the_fast_path_goes() {
    check!(sin, 2.0, 1_048_576.0, |x| x.sin());
    check!(cos, 2.0, 1_048_576.0, |x| x.cos());
    check!(tan, 4.0, 1_048_576.0, |x| x.tan());
}

#[test]
fn trigonometry_of_huge_arguments_is_right_too() {
    let x = [1.0, 1e30, -3e7, f32::MAX, f32::INFINITY, f32::NAN, 0.5];
    let mut y = [0.0; 7];
    for (lanes, exact) in [
        (m::sin_lanes as fn(&mut [f32], Src<'_, f32>), f64::sin as fn(f64) -> f64),
        (m::cos_lanes, f64::cos),
        (m::tan_lanes, f64::tan),
    ] {
        lanes(&mut y, Src::Lanes(&x));
        for (x, y) in x.iter().zip(y) {
            assert!(ulps(y, exact(f64::from(*x))) <= 4.0, "{x:e} {y}");
        }
        lanes(&mut y, Src::Splat(1e30));
        assert!(y.iter().all(|y| ulps(*y, exact(f64::from(1e30f32))) <= 1.0));
    }
}

#[test]
fn results_stay_within_their_ranges() {
    for x in samples().into_iter().filter(|x| !x.is_nan()) {
        assert!(m::tanh::<Fused>(x).abs() <= 1.0, "tanh {x:e}");
        assert!(m::erf::<Fused>(x).abs() <= 1.0, "erf {x:e}");
        assert!((0.0..=1.0).contains(&m::sigmoid::<Fused>(x)), "sigmoid {x:e}");
        if x.abs() <= 1_048_576.0 {
            assert!(m::sin::<Fused>(x).abs() <= 1.0 && m::cos::<Fused>(x).abs() <= 1.0, "sin, cos {x:e}");
        }
    }
}

/// Numbers whose pairs meet every special case of pow and fmod, and some random ones.
fn operands() -> Vec<f32> {
    let mut v = vec![0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 1e-40, 1e-3, 0.999_999_9, 1.000_000_1, 1e9, 16_777_217.0];
    v.extend([f32::INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), 127.5, 150.0]);
    let mut seed = 1u32;
    for i in 0..200 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let unit = (seed >> 8) as f32 / 16_777_216.0;
        v.push(if i % 2 == 0 { unit * 4.0 } else { ((unit - 0.5) * 170.0).exp2() });
    }
    let negative: Vec<f32> = v.iter().map(|x| -x).collect();
    v.extend(negative);
    v
}

#[test]
fn division_by_one_number_is_division() {
    let (mut dividends, mut divisors) = (operands(), vec![]);
    let mut seed = 7u32;
    for k in 0..3000u32 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        dividends.push(f32::from_bits(seed));
        divisors.push(f32::from_bits(0x3f80_0000 + seed % 0x0c00_0000));
        divisors.extend([-(k as f32) - 1.0, f32::from_bits(0x4000_0000 - k % 8), 16_777_216.0 - k as f32]);
    }
    let mut lanes = vec![0.0; dividends.len()];
    for b in divisors {
        if !m::div_by_one(&mut lanes, Src::Lanes(&dividends), Src::Splat(b)) {
            return; // this machine does not fuse
        }
        for (a, got) in dividends.iter().zip(&lanes) {
            let want = a / b;
            let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            let small = a.abs() < 3.3e-24 && got.to_bits().abs_diff(want.to_bits()) <= 1;
            assert!(same || small, "{a:e} / {b:e} = {got:e}, not {want:e}");
        }
    }
    assert!(!m::div_by_one(&mut lanes, Src::Lanes(&dividends), Src::Splat(0.999)));
    assert!(!m::div_by_one(&mut lanes, Src::Lanes(&dividends), Src::Splat(f32::NAN)));
}

#[test]
fn pow_is_that_of_c() {
    let v = operands();
    let mut lanes = vec![0.0; v.len()];
    for a in &v {
        m::pow_lanes(&mut lanes, Src::Splat(*a), Src::Lanes(&v));
        for (b, got) in v.iter().zip(&lanes) {
            let want = f64::from(*a).powf(f64::from(*b));
            assert!(ulps(*got, want) <= 4.0, "{a:e}^{b:e} = {got:e}, not {want:e}");
            let got = m::pow::<Separate>(*a, *b);
            assert!(ulps(got, want) <= 4.0, "{a:e}^{b:e} = {got:e}, not {want:e}, without fma");
        }
    }
    for b in &v {
        m::pow_lanes(&mut lanes, Src::Lanes(&v), Src::Splat(*b));
        for (a, got) in v.iter().zip(&lanes) {
            let want = f64::from(*a).powf(f64::from(*b));
            assert!(ulps(*got, want) <= 4.0, "{a:e}^{b:e} = {got:e}, not {want:e}");
        }
    }
}

#[test]
fn remainders_are_exact() {
    let v = operands();
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    let mut lanes = vec![0.0; v.len()];
    for a in &v {
        m::rem_lanes(&mut lanes, Src::Splat(*a), Src::Lanes(&v));
        for (b, got) in v.iter().zip(&lanes) {
            assert!(same(*got, a % b), "{a:e} % {b:e} = {got:e}, not {:e}", a % b);
            for (got, exact) in [m::rem::<Fused>(*a, *b), m::rem::<Separate>(*a, *b)] {
                assert!(!exact || same(got, a % b), "{a:e} % {b:e} = {got:e}, not {:e}", a % b);
            }
        }
    }
}

#[test]
fn rounding_and_sign_are_exact() {
    for x in samples() {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(same(m::round(x), x.round()) && same(m::floor(x), x.floor()) && same(m::ceil(x), x.ceil()));
        let sign = if x.is_nan() || x == 0.0 { x } else { x.signum() };
        assert!(same(m::sign(x), sign), "{x:e}");
    }
}

#[test]
fn f64_functions_agree_with_the_standard_library() {
    let special = [0.0, f64::INFINITY, f64::NAN, 5e-324, f64::MIN_POSITIVE, f64::MAX, 745.1, 709.7, 709.8, 1e-300, 1.0];
    let grid = (0..200_000).map(|i| f64::from(i) * 0.004_321);
    let wide = (0..2000).map(|i| (f64::from(i) * 1.06 - 1070.0).exp2());
    for x in special.into_iter().chain(grid).chain(wide).flat_map(|x| [x, -x]) {
        let pairs = [
            ("exp", d::exp::<Fused>(x), x.exp(), 2.0),
            ("log", d::log::<Fused>(x), x.ln(), 2.0),
            ("tanh", d::tanh::<Fused>(x), x.tanh(), 4.0),
            ("sigmoid", d::sigmoid::<Fused>(x), sigmoid(x), 6.0),
            ("softplus", d::softplus::<Fused>(x), softplus(x), 4.0),
            ("exp without fma", d::exp::<Separate>(x), x.exp(), 4.0),
            ("log without fma", d::log::<Separate>(x), x.ln(), 4.0),
            ("tanh without fma", d::tanh::<Separate>(x), x.tanh(), 6.0),
        ];
        for (name, got, want, limit) in pairs {
            assert!(ulps64(got, want) <= limit, "{name}({x:e}) = {got:e}, not {want:e}: {}", ulps64(got, want));
        }
    }
}
