//! Functions of one f64: what activations need as straight-line code, the rest by the standard library.

use super::super::{lanes::Src, simd::Fma};
use std::f64::consts::LOG2_E;

/// 1.5·2⁵²: a number added to it is rounded to an integer, which stands in the low bits of the sum.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; the first has 33 bits, so that its product with an exponent is exact without fma too.
const LN_2_HI: f64 = 6.931_471_803_691_238e-1;
const LN_2_LO: f64 = 1.908_214_929_270_587_7e-10;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;
const TWO_128: f64 = TWO_64 * TWO_64;

/// 2^n for the integer n that an addition to `MAGIC + 1023` left in `t`, −1022 ≤ n ≤ 1023.
#[inline(always)]
fn exponent(t: f64) -> f64 {
    f64::from_bits(t.to_bits() << 52)
}

/// x − n·ln 2.
#[inline(always)]
fn minus_n_ln2<F: Fma>(x: f64, n: f64) -> f64 {
    F::f64(n, -LN_2_LO, F::f64(n, -LN_2_HI, x))
}

/// e^r − 1 for |r| ≤ ln 2 / 2.
#[inline(always)]
fn expm1_reduced<F: Fma>(r: f64) -> f64 {
    let q = F::f64(r, 2.510_531_342_307_852_4e-8, 2.762_020_262_631_59e-7);
    let q = F::f64(q, r, 2.755_725_516_812_306_6e-6);
    let q = F::f64(q, r, 2.480_152_105_536_420_5e-5);
    let q = F::f64(q, r, 1.984_126_987_500_397_3e-4);
    let q = F::f64(q, r, 1.388_888_891_736_896_4e-3);
    let q = F::f64(q, r, 8.333_333_333_326_082e-3);
    let q = F::f64(q, r, 4.166_666_666_662_382e-2);
    let q = F::f64(q, r, 0.166_666_666_666_666_7);
    let q = F::f64(q, r, 0.5);
    F::f64(q, r * r, r)
}

/// e^x
#[inline(always)]
pub fn exp<F: Fma>(x: f64) -> f64 {
    let c = if x < -746.0 { -746.0 } else { x };
    let t = F::f64(c, LOG2_E, MAGIC);
    let p = 1.0 + expm1_reduced::<F>(minus_n_ln2::<F>(c, t - MAGIC));
    let bits = p.to_bits().wrapping_add(t.to_bits() << 52);
    // what may be subnormal is scaled in two steps
    let low = f64::from_bits(bits.wrapping_add(64 << 52)) * (1.0 / TWO_64);
    let y = if c < -700.0 { low } else { f64::from_bits(bits) };
    // the sum makes infinity of what is too large, and keeps NaN
    if x < 709.782_712_893_384 { y } else { x + f64::INFINITY }
}

/// ln x for 1/2 < x < ∞, normal: after fdlibm.
#[inline(always)]
fn log_normal<F: Fma>(x: f64) -> f64 {
    // x = 2^k·(1 + f) with 1 + f about √½ to √2; the exponent is made a float by putting it below 2^52
    let bits = x.to_bits().wrapping_sub(0x3fe6_a09e_0000_0000);
    let k = f64::from_bits((bits.wrapping_add(1023 << 52) >> 52) | 0x4330_0000_0000_0000) - 4_503_599_627_371_519.0;
    let f = f64::from_bits(x.to_bits().wrapping_sub(bits & 0xfff0_0000_0000_0000)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let r = F::f64(z, 0.147_981_986_051_165_86, 0.153_138_376_992_093_73);
    let r = F::f64(r, z, 0.181_835_721_616_180_5);
    let r = F::f64(r, z, 0.222_221_984_321_497_84);
    let r = F::f64(r, z, 0.285_714_287_436_623_9);
    let r = F::f64(r, z, 0.399_999_999_994_094_2);
    let r = F::f64(r, z, 0.666_666_666_666_673_5) * z;
    let h = 0.5 * f * f;
    F::f64(k, LN_2_HI, f - (h - F::f64(s, h + r, k * LN_2_LO)))
}

/// ln x
#[inline(always)]
pub fn log<F: Fma>(x: f64) -> f64 {
    let tiny = x < f64::MIN_POSITIVE;
    let y = log_normal::<F>(if tiny { x * TWO_64 } else { x });
    let y = if tiny { y - 44.361_419_555_836_5 } else { y };
    let y = if x < f64::INFINITY { y } else { x };
    let y = if x == 0.0 { f64::NEG_INFINITY } else { y };
    if x < 0.0 { f64::NAN } else { y }
}

/// tanh x
#[inline(always)]
pub fn tanh<F: Fma>(x: f64) -> f64 {
    // E / (E + 2) with E = e^2x − 1 = 2^n·e + (2^n − 1), e = e^r − 1
    const M: f64 = MAGIC + 1023.0;
    let c = if x < -20.0 { -20.0 } else { x };
    let c = if c > 20.0 { 20.0 } else { c };
    let c = c + c;
    let t = F::f64(c, LOG2_E, M);
    let e = expm1_reduced::<F>(minus_n_ln2::<F>(c, t - M));
    let s = exponent(t);
    let e = F::f64(s, e, s - 1.0);
    (e / (e + 2.0)).copysign(x)
}

/// 1 / (1 + e^−x)
#[inline(always)]
pub fn sigmoid<F: Fma>(x: f64) -> f64 {
    // numerator and denominator carry a factor 2^−128, so that 2^1076 does not overflow and the division itself
    // underflows gradually
    const M: f64 = MAGIC + (1023.0 - 128.0);
    let c = if x < -746.0 { -746.0 } else { x };
    let c = if c > 50.0 { -50.0 } else { -c };
    let t = F::f64(c, LOG2_E, M);
    let p = 1.0 + expm1_reduced::<F>(minus_n_ln2::<F>(c, t - M));
    (1.0 / TWO_128) / F::f64(p, exponent(t), 1.0 / TWO_128)
}

/// x / (1 + e^−x)
#[inline(always)]
pub fn silu<F: Fma>(x: f64) -> f64 {
    x * sigmoid::<F>(x)
}

/// ln(1 + e^x)
#[inline(always)]
pub fn softplus<F: Fma>(x: f64) -> f64 {
    // max(x, 0) + ln(1 + e) with e = e^−|x|; the rounding of 1 + e is made good to first order
    let e = exp::<F>(-x.abs());
    let u = 1.0 + e;
    (if x < 0.0 { 0.0 } else { x }) + (log_normal::<F>(u) + (e - (u - 1.0)) / u)
}

/// erf x
#[inline(always)]
pub fn erf<F: Fma>(x: f64) -> f64 {
    zmlx_ir::erf::erf(x)
}

/// 2^x
#[inline(always)]
pub fn exp2<F: Fma>(x: f64) -> f64 {
    x.exp2()
}

/// e^x − 1
#[inline(always)]
pub fn expm1<F: Fma>(x: f64) -> f64 {
    x.exp_m1()
}

/// log₂ x
#[inline(always)]
pub fn log2<F: Fma>(x: f64) -> f64 {
    x.log2()
}

/// ln(1 + x)
#[inline(always)]
pub fn log1p<F: Fma>(x: f64) -> f64 {
    x.ln_1p()
}

/// −1, 0 or 1; 0 and NaN stay.
#[inline(always)]
pub fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}

/// Largest integer not above x.
#[inline(always)]
pub fn floor(x: f64) -> f64 {
    x.floor()
}

/// Smallest integer not below x.
#[inline(always)]
pub fn ceil(x: f64) -> f64 {
    x.ceil()
}

/// Nearest integer, halves away from zero.
#[inline(always)]
pub fn round(x: f64) -> f64 {
    x.round()
}

/// sin of each.
pub fn sin_lanes(out: &mut [f64], x: Src<'_, f64>) {
    fill(out, |i| x.at(i).sin());
}

/// cos of each.
pub fn cos_lanes(out: &mut [f64], x: Src<'_, f64>) {
    fill(out, |i| x.at(i).cos());
}

/// tan of each.
pub fn tan_lanes(out: &mut [f64], x: Src<'_, f64>) {
    fill(out, |i| x.at(i).tan());
}

/// Divides by one number faster than `/`, if it can; it cannot.
pub fn div_by_one(_: &mut [f64], _: Src<'_, f64>, _: Src<'_, f64>) -> bool {
    false
}

/// a^b of each.
pub fn pow_lanes(out: &mut [f64], a: Src<'_, f64>, b: Src<'_, f64>) {
    fill(out, |i| a.at(i).powf(b.at(i)));
}

/// Remainder of a / b of each, with the sign of a, exact.
pub fn rem_lanes(out: &mut [f64], a: Src<'_, f64>, b: Src<'_, f64>) {
    fill(out, |i| a.at(i) % b.at(i));
}

fn fill(out: &mut [f64], f: impl Fn(usize) -> f64) {
    for (i, y) in out.iter_mut().enumerate() {
        *y = f(i);
    }
}
