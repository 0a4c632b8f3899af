//! Numbers as FP8 E4M3 (without infinities), with a scale a row: codes = e4m3(x / scale), scale = max|x| / 448
//!
//! | name  | shape   | dtype            | note                           |
//! |-------|---------|------------------|--------------------------------|
//! | x     | [.., C] | f16 bf16 f32 f64 |                                |
//! | codes | [.., C] | u8               | zeros have no sign             |
//! | scale | [..]    | f32              |                                |
//! Cost: N elements read, N bytes written.
//! Source: arXiv:2209.05433, table 1. To the nearest number, of two the one with an even code; the largest of a row becomes 448.
//! A block is a row: reshape to [blocks, block size], all of a tensor to [1, N].
//! [`dequantize_fp8_e4m3`](super::dequantize_fp8_e4m3) is the way back.

use super::quantize_int8::{nearest, scaled, two};
use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `quantize_fp8_e4m3`.
pub static ENTRY: Entry = Entry {
    name: "quantize_fp8_e4m3",
    summary: "e4m3(x * 448 / max|x|) and max|x| / 448",
    formula: "let s = max(abs(x)) / 448; \
              let u0 = s > 0 ? min(abs(x) / s, 448) * 64 : 0; \
              let u1 = u0 >= 256 ? u0 * 0.00390625 : u0; \
              let u2 = u1 >= 16 ? u1 * 0.0625 : u1; \
              let u3 = u2 >= 4 ? u2 * 0.25 : u2; \
              let u4 = u3 >= 2 ? u3 * 0.5 : u3; \
              let e = (u0 >= 256 ? 64 : 0) + (u1 >= 16 ? 32 : 0) + (u2 >= 4 ? 16 : 0) + (u3 >= 2 ? 8 : 0); \
              let v = u4 * 8; \
              let m = abs(v - trunc(v)) == 0.5 ? 2 * round(v / 2) : round(v); \
              out codes: u8 = u8(e + m + (x < 0 ? 128 : 0)); \
              out scale: f32 = s",
    zmlx: &[],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| plain(&t[0], 448.0, 3, -9),
    gradient: Gradient::None("codes are steps"),
    moves: 1.25,
    cell: OnceLock::new(),
};

/// FP8 E4M3 bytes and a scale for each row of the last dimension.
pub fn quantize_fp8_e4m3(x: &Tensor) -> Result<(Tensor, Tensor)> {
    two(&ENTRY, &[x])
}

/// Numbers with `mantissa` bits behind the first, of which the smallest is 2^`lowest`, in plain ops.
pub(super) fn plain(x: &Tensor, most: f64, mantissa: i32, lowest: i32) -> candle_core::Result<Vec<Tensor>> {
    let (v, s) = scaled(std::slice::from_ref(x), most, true)?;
    let size = v[0].abs()?.minimum(most)?;
    let (mut step, mut base) = ((size.zeros_like()? + 2f64.powi(lowest))?, size.zeros_like()?);
    // numbers are further apart from each power of two on
    let mut power = lowest + mantissa + 1;
    while 2f64.powi(power) <= most {
        let there = size.ge(2f64.powi(power))?.to_dtype(size.dtype())?;
        step = (&step + (&step * &there)?)?;
        base = (base + (there * 2f64.powi(mantissa))?)?;
        power += 1;
    }
    let sign = (x.lt(0.0)?.to_dtype(size.dtype())? * 128.0)?;
    let codes = ((nearest(&(size / step)?)? + base)? + sign)?;
    Ok(vec![codes.to_dtype(DType::U8)?, s])
}
