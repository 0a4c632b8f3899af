//! Functions of one f32 as straight-line code. Polynomials are minimax fits on the reduced interval, the coefficients
//! rounded one after another. Comparisons are written so that NaN falls through.

pub use super::f32_lanes::{cos_lanes, div_by_one, pow_lanes, rem_lanes, sin_lanes, tan_lanes};

use super::super::simd::Fma;
use std::f32::consts::{FRAC_2_PI, LN_2, LOG2_E};

/// 1.5·2²³: a number added to it is rounded to an integer, which stands in the low bits of the sum.
const MAGIC: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has 16 bits, so that its product with an exponent is exact without fma too.
const LN_2_HI: f32 = 0.693_145_75;
const LN_2_LO: f32 = 1.428_606_8e-6;
/// What `LOG2_E` lacks.
const LOG2_E_LOW: f32 = 1.925_963e-8;
/// Steps that keep intermediate results of huge and tiny exponents within range.
const TWO_64: f32 = 18_446_744_073_709_551_616.0;

/// 2^n for the integer n that an addition to `MAGIC + 127` left in `t`, −126 ≤ n ≤ 127.
#[inline(always)]
fn exponent(t: f32) -> f32 {
    f32::from_bits(t.to_bits() << 23)
}

/// p·2^n for p near 1 and the integer n that an addition to `MAGIC` left in `t`, −126 < n ≤ 127.
#[inline(always)]
fn scale(p: f32, t: f32) -> f32 {
    f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23))
}

/// The same for −190 < n ≤ 127; `low` must hold for n < −125, and must not for n > −60. 0 where `none` holds, which must be
/// where that is so for any p: a product that comes to nothing takes a hundred times as long as one by zero.
#[inline(always)]
fn scale_low(p: f32, t: f32, low: bool, none: bool) -> f32 {
    let y = scale(p, t);
    let unit = if none { 0.0 } else { 1.0 / TWO_64 };
    if low { f32::from_bits(y.to_bits().wrapping_add(64 << 23)) * unit } else { y }
}

/// x − n·ln 2.
#[inline(always)]
fn minus_n_ln2<F: Fma>(x: f32, n: f32) -> f32 {
    F::f32(n, -LN_2_LO, F::f32(n, -LN_2_HI, x))
}

/// e^r for |r| ≤ ln 2 / 2.
#[inline(always)]
fn exp_reduced<F: Fma>(r: f32) -> f32 {
    let p = F::f32(r, 0.001_381_874_2, 0.008_368_721);
    let p = F::f32(p, r, 0.041_668_292);
    let p = F::f32(p, r, 0.166_665_21);
    let p = F::f32(p, r, 0.499_999_94);
    let p = F::f32(p, r, 1.0);
    F::f32(p, r, 1.0)
}

/// e^x
#[inline(always)]
pub fn exp<F: Fma>(x: f32) -> f32 {
    let c = if x < -104.0 { -104.0 } else { x };
    let t = F::f32(c, LOG2_E, MAGIC);
    let p = exp_reduced::<F>(minus_n_ln2::<F>(c, t - MAGIC));
    let y = scale_low(p, t, c < -87.0, x < -104.0);
    // the sum makes infinity of what is too large, and keeps NaN
    if x < 88.722_84 { y } else { x + f32::INFINITY }
}

/// 2^x
#[inline(always)]
pub fn exp2<F: Fma>(x: f32) -> f32 {
    let c = if x < -151.0 { -151.0 } else { x };
    let t = c + MAGIC;
    let y = scale_low(exp2_reduced::<F>(c - (t - MAGIC)), t, c < -125.0, x < -151.0);
    if x < 128.0 { y } else { x + f32::INFINITY }
}

/// 2^r for |r| ≤ 1/2.
#[inline(always)]
fn exp2_reduced<F: Fma>(r: f32) -> f32 {
    let p = F::f32(r, 0.000_153_274_97, 0.001_339_124_2);
    let p = F::f32(p, r, 0.009_618_505);
    let p = F::f32(p, r, 0.055_503_592);
    let p = F::f32(p, r, 0.240_226_48);
    let p = F::f32(p, r, LN_2);
    F::f32(p, r, 1.0)
}

/// e^x − 1
#[inline(always)]
pub fn expm1<F: Fma>(x: f32) -> f32 {
    const M: f32 = MAGIC + 126.0;
    let c = if x < -17.5 { -17.5 } else { x };
    let c = if c > 88.8 { 88.8 } else { c };
    let t = F::f32(c, LOG2_E, M);
    let r = minus_n_ln2::<F>(c, t - M);
    let q = F::f32(r, 0.001_387_055_5, 0.008_366_453);
    let q = F::f32(q, r, 0.041_667_44);
    let q = F::f32(q, r, 0.166_665_45);
    let q = F::f32(q, r, 0.499_999_97);
    let e = F::f32(q, r * r, r);
    // halved, as 2^128 is not a number; and e itself keeps the last digits of tiny x
    let half = exponent(t);
    (if t == M { e } else { 2.0 * F::f32(half, e, half - 0.5) }).copysign(x)
}

/// ln(1 + f) for −1/3 ≤ f ≤ 1/3.
#[inline(always)]
fn log1p_reduced<F: Fma>(f: f32) -> f32 {
    let q = F::f32(f, 0.139_969_04, -0.153_888_64);
    let q = F::f32(q, f, 0.140_038_12);
    let q = F::f32(q, f, -0.164_157_33);
    let q = F::f32(q, f, 0.200_104_64);
    let q = F::f32(q, f, -0.250_078_56);
    let q = F::f32(q, f, 0.333_332_18);
    let q = F::f32(q, f, -0.499_999_34);
    F::f32(q, f * f, f)
}

/// Exponent k and m − 1 of x = 2^k·m, 2/3 ≤ m < 4/3, for positive finite x; k of zero is −∞.
#[inline(always)]
fn split<F: Fma>(x: f32) -> (f32, f32) {
    let tiny = x < f32::MIN_POSITIVE;
    let bits = if tiny { x * 8_388_608.0 } else { x }.to_bits();
    let bias = if tiny { -23.0 } else { 0.0 };
    let bias = if x == 0.0 { f32::NEG_INFINITY } else { bias };
    let k = bits.wrapping_sub(0x3f2a_aaab) & 0xff80_0000;
    (F::f32(k as i32 as f32, 1.0 / 8_388_608.0, bias), f32::from_bits(bits.wrapping_sub(k)) - 1.0)
}

/// Puts the logarithms of negative numbers, ∞ and NaN right.
#[inline(always)]
fn log_special(x: f32, y: f32) -> f32 {
    let y = if x < f32::INFINITY { y } else { x };
    if x < 0.0 { f32::NAN } else { y }
}

/// ln x
#[inline(always)]
pub fn log<F: Fma>(x: f32) -> f32 {
    let (k, f) = split::<F>(x);
    log_special(x, F::f32(k, LN_2, log1p_reduced::<F>(f)))
}

/// log₂ x
#[inline(always)]
pub fn log2<F: Fma>(x: f32) -> f32 {
    let (k, f) = split::<F>(x);
    let q = F::f32(f, 0.202_329_81, -0.221_962_69);
    let q = F::f32(q, f, 0.201_924_56);
    let q = F::f32(q, f, -0.236_843_94);
    let q = F::f32(q, f, 0.288_699_48);
    let q = F::f32(q, f, -0.360_785_7);
    let q = F::f32(q, f, 0.480_896_4);
    let q = F::f32(q, f, -0.721_346_6);
    log_special(x, k + F::f32(f, LOG2_E, f * f * q))
}

/// ln(1 + x)
#[inline(always)]
pub fn log1p<F: Fma>(x: f32) -> f32 {
    // k is that of 1 + x, and (1 + x)·2^−k − 1 is computed as x·2^−k + (2^−k − 1), which keeps all digits of x
    let k = (1.0 + x).to_bits().wrapping_sub(0x3f2a_aaab) & 0xff80_0000;
    let quad = f32::from_bits(0x4080_0000u32.wrapping_sub(k));
    let f = f32::from_bits(x.to_bits().wrapping_sub(k)) + F::f32(quad, 0.25, -1.0);
    let y = F::f32(k as i32 as f32, LN_2 / 8_388_608.0, log1p_reduced::<F>(f));
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x > -1.0 { y } else { if x == -1.0 { f32::NEG_INFINITY } else { f32::NAN } };
    y.copysign(x)
}

/// Largest |x| that [`sin`], [`cos`] and [`tan`] are made for.
pub(super) const TRIG_LIMIT: f32 = 1_048_576.0;

/// r = x − n·π/2 with |r| not much above π/4, and n in the low bits.
#[inline(always)]
fn quadrant<F: Fma>(x: f32) -> (f32, u32) {
    if F::FUSED {
        let t = F::f32(x, FRAC_2_PI, MAGIC);
        let n = t - MAGIC;
        let r = F::f32(n, 4.371_139e-8, F::f32(n, -1.570_796_4, x));
        return (F::f32(n, 1.715_124_5e-15, r), t.to_bits());
    }
    // in f64, where the first 33 bits of π/2 times n are exact
    const WIDE_MAGIC: f64 = 6_755_399_441_055_744.0;
    let x = f64::from(x);
    let t = x * std::f64::consts::FRAC_2_PI + WIDE_MAGIC;
    let n = t - WIDE_MAGIC;
    let r = x - n * 1.570_796_326_734_125_6 - n * 6.077_100_506_506_192e-11;
    (r as f32, t.to_bits() as u32)
}

/// sin(r + n·π/2)
#[inline(always)]
fn sin_reduced<F: Fma>(r: f32, n: u32) -> f32 {
    // sin r = r + r·s·p(s), cos r = 1 + s·p(s): one polynomial with coefficients to choose
    let s = r * r;
    let odd = n & 1 != 0;
    let pick = |sin: f32, cos: f32| if odd { cos } else { sin };
    let p = F::f32(s, pick(2.798_331e-6, 2.439_221_9e-5), pick(-0.000_198_501_69, -0.001_388_695_1));
    let p = F::f32(p, s, pick(0.008_333_374, 0.041_666_638));
    let p = F::f32(p, s, pick(-0.166_666_67, -0.5));
    let m = pick(r, 1.0);
    let y = F::f32(p, s * m, m);
    f32::from_bits(y.to_bits() ^ (n << 30 & 0x8000_0000))
}

/// sin x for |x| ≤ 2²⁰; [`sin_lanes`] takes any.
#[inline(always)]
pub fn sin<F: Fma>(x: f32) -> f32 {
    let (r, n) = quadrant::<F>(x);
    let y = sin_reduced::<F>(r, n);
    // −0 stays −0
    if x == 0.0 { x } else { y }
}

/// cos x for |x| ≤ 2²⁰; [`cos_lanes`] takes any.
#[inline(always)]
pub fn cos<F: Fma>(x: f32) -> f32 {
    let (r, n) = quadrant::<F>(x);
    sin_reduced::<F>(r, n.wrapping_add(1))
}

/// tan x for |x| ≤ 2²⁰; [`tan_lanes`] takes any.
#[inline(always)]
pub fn tan<F: Fma>(x: f32) -> f32 {
    let (r, n) = quadrant::<F>(x);
    let s = r * r;
    let p = F::f32(s * r, -0.095_868_86, r);
    let q = F::f32(F::f32(s, 0.009_740_571_5, -0.429_203_15), s, 1.0);
    let (p, q) = if n & 1 == 0 { (p, q) } else { (q, p) };
    let y = f32::from_bits((p / q).to_bits() ^ (n << 31));
    if x == 0.0 { x } else { y }
}

/// tanh x
#[inline(always)]
pub fn tanh<F: Fma>(x: f32) -> f32 {
    // E / (E + 2) with E = e^2x − 1 = 2^n·e + (2^n − 1), e = e^2r − 1
    const M: f32 = MAGIC + 127.0;
    let c = if x < -9.1 { -9.1 } else { x };
    let c = if c > 9.1 { 9.1 } else { c };
    let t = F::f32(c, 2.0 * LOG2_E, M);
    let n = t - M;
    let r = F::f32(n, -0.5 * LN_2_LO, F::f32(n, -0.5 * LN_2_HI, c));
    let q = F::f32(r, 0.088_771_55, 0.267_726_5);
    let q = F::f32(q, r, 0.666_679);
    let q = F::f32(q, r, 1.333_323_6);
    let q = F::f32(q, r, 1.999_999_9);
    let e = F::f32(q, r * r, r + r);
    let s = exponent(t);
    let e = F::f32(s, e, s - 1.0);
    (e / (e + 2.0)).copysign(x)
}

/// 1 / (1 + e^−x)
#[inline(always)]
pub fn sigmoid<F: Fma>(x: f32) -> f32 {
    // e^−x = p·2^n; numerator and denominator carry a factor 2^−64, so that 2^150 does not overflow and the
    // division itself underflows gradually
    const M: f32 = MAGIC + (127.0 - 64.0);
    let c = if x < -104.0 { -104.0 } else { x };
    let c = if c > 30.0 { 30.0 } else { c };
    let t = F::f32(c, -LOG2_E, M);
    let n = t - M;
    let r = F::f32(n, LN_2_LO, F::f32(n, LN_2_HI, c));
    // of e^−r; one degree less than `exp` needs
    let p = F::f32(r, -0.008_290_212, 0.041_899_376);
    let p = F::f32(p, r, -0.166_676_46);
    let p = F::f32(p, r, 0.499_991_4);
    let p = F::f32(p, r, -0.999_999_7);
    let p = F::f32(p, r, 1.0);
    (1.0 / TWO_64) / F::f32(p, exponent(t), 1.0 / TWO_64)
}

/// x / (1 + e^−x)
#[inline(always)]
pub fn silu<F: Fma>(x: f32) -> f32 {
    x * sigmoid::<F>(x)
}

/// ln(1 + e^x)
#[inline(always)]
pub fn softplus<F: Fma>(x: f32) -> f32 {
    // max(x, 0) + ln(1 + e) with e = e^−|x|; 2^64·e is normal, the product with 2^−64 underflows gradually
    let c = -x.abs();
    let c = if c < -104.0 { -104.0 } else { c };
    const M: f32 = MAGIC + 64.0;
    let t = F::f32(c, LOG2_E, M);
    let p = exp_reduced::<F>(minus_n_ln2::<F>(c, t - M));
    let e = scale(p, t) * (1.0 / TWO_64);
    // ln(1 + e) = e + e²·P/Q; the division runs beside the multiplications, and replaces four of them
    let p = F::f32(F::f32(e, -0.002_424_495_3, -0.280_908_8), e, -0.499_997_6);
    let q = F::f32(F::f32(e, 0.324_399_53, 1.228_390_5), e, 1.0);
    (if x < 0.0 { 0.0 } else { x }) + (e + e * e * p / q)
}

/// erf x
#[inline(always)]
pub fn erf<F: Fma>(x: f32) -> f32 {
    let a = x.abs();
    let a = if a > 3.95 { 3.95 } else { a };
    // 1 − erf a = (1 + h)^−8 with a polynomial h (after Hastings), fitted so that the relative error of erf is even;
    // (1 + h)^8 − 1 is had by squaring
    let h = F::f32(a, 4.669_451_8e-6, -3.267_44e-6);
    let h = F::f32(h, a, 3.165_030_3e-5);
    let h = F::f32(h, a, 0.000_262_870_13);
    let h = F::f32(h, a, 0.001_328_141_3);
    let h = F::f32(h, a, 0.003_374_018_7);
    let h = F::f32(h, a, 0.024_542_198);
    let h = F::f32(h, a, 0.089_524_41);
    let h = F::f32(h, a, 0.141_047_4) * a;
    let h = F::f32(h, h, h + h);
    let h = F::f32(h, h, h + h);
    let h = F::f32(h, h, h + h);
    (h / (h + 1.0)).copysign(x)
}

/// a^b, with the special cases of C.
#[inline(always)]
pub fn pow<F: Fma>(a: f32, b: f32) -> f32 {
    if !F::FUSED {
        return a.powf(b); // the digits below need exact products
    }
    // log₂|a| = h + l, where l is the rounding error of h
    let x = a.abs();
    let (k, f) = split::<F>(x);
    let k = if x < f32::INFINITY { k } else { x };
    let (p, p_low) = (f * LOG2_E, F::f32(f, LOG2_E_LOW, F::f32(f, LOG2_E, -(f * LOG2_E))));
    // log₂(1 + f) = f·log₂e + f²·c
    let q = F::f32(f, 0.173_168, -0.185_340_32);
    let q = F::f32(q, f, 0.155_169_26);
    let q = F::f32(q, f, -0.175_942_94);
    let q = F::f32(q, f, 0.206_367_63);
    let q = F::f32(q, f, -0.240_635_74);
    let q = F::f32(q, f, 0.288_533_3);
    let q = F::f32(q, f, -0.360_671_16);
    let q = F::f32(q, f, 0.480_898_38);
    let c = F::f32(q, f, -0.5 * LOG2_E);
    let c_low = F::f32(q, f, -0.5 * LOG2_E - c) - 0.5 * LOG2_E_LOW;
    let s = f * f;
    let s_low = F::f32(f, f, -s);
    let g = s * c;
    let g_low = F::f32(s, c_low, F::f32(s_low, c, F::f32(s, c, -g)));
    let h = k + p;
    let h_low = p - (h - k);
    let (h, l) = (h + g, h_low + (g - (h + g - h)) + (p_low + g_low));
    // 1 to any power and anything to the power 0 are 1, NaN included
    let one = (x == 1.0) | (b == 0.0);
    let t = if one { 0.0 } else { b * h };
    let t_low = if one { 0.0 } else { F::f32(b, l, F::f32(b, h, -t)) };
    let m = t + MAGIC;
    let y = exp2_reduced::<F>(t - (m - MAGIC) + t_low);
    // the powers of two are applied in two steps at either end of the range
    let low = t < -120.0;
    let bits = y.to_bits().wrapping_add(m.to_bits() << 23);
    let bits = bits.wrapping_add(if low { 64 << 23 } else { 0xff80_0000 });
    let y = f32::from_bits(bits) * if low { 1.0 / TWO_64 } else { 2.0 };
    let y = if t < 128.4 { y } else { t + f32::INFINITY };
    let y = if t < -151.0 { 0.0 } else { y };
    let whole = b.floor() == b;
    let odd = whole & ((0.5 * b).floor() != 0.5 * b);
    let y = f32::from_bits(y.to_bits() | if odd { a.to_bits() & 0x8000_0000 } else { 0 });
    if (a < 0.0) & !whole & (x < f32::INFINITY) { f32::NAN } else { y }
}

/// Remainder of a / b with the sign of a for |a / b| < 2²³; the second value says whether it is so.
/// [`rem_lanes`] takes any.
#[inline(always)]
pub fn rem<F: Fma>(a: f32, b: f32) -> (f32, bool) {
    let q = (a / b).trunc();
    let r = if F::FUSED { F::f32(-q, b, a) } else { (f64::from(a) - f64::from(q) * f64::from(b)) as f32 };
    // the quotient may have been rounded up to an integer: then r has the other sign and is one b short
    let other_sign = (r.to_bits() ^ a.to_bits()) >> 31 != 0;
    let r = if other_sign & (r != 0.0) { r + b.abs().copysign(a) } else { r };
    let r = if a.abs() < b.abs() { a } else { r };
    (r.copysign(a), q.abs() < 8_388_608.0)
}

/// −1, 0 or 1; 0 and NaN stay.
#[inline(always)]
pub fn sign(x: f32) -> f32 {
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
pub fn floor(x: f32) -> f32 {
    x.floor()
}

/// Smallest integer not below x.
#[inline(always)]
pub fn ceil(x: f32) -> f32 {
    x.ceil()
}

/// Nearest integer, halves away from zero.
#[inline(always)]
pub fn round(x: f32) -> f32 {
    x.round()
}
