//! Numbers as FP8 E5M2, with a scale a row: codes = e5m2(x / scale), scale = max|x| / 57344
//!
//! | name  | shape   | dtype            | note                           |
//! |-------|---------|------------------|--------------------------------|
//! | x     | [.., C] | f16 bf16 f32 f64 |                                |
//! | codes | [.., C] | u8               | zeros have no sign             |
//! | scale | [..]    | f32              |                                |
//! Cost: N elements read, N bytes written.
//! Source: arXiv:2209.05433, table 1. To the nearest number, of two the one with an even code; the largest of a row becomes 57344.
//! A block is a row: reshape to [blocks, block size], all of a tensor to [1, N].
//! [`dequantize_fp8_e5m2`](super::dequantize_fp8_e5m2) is the way back.

use super::{quantize_fp8_e4m3::plain, quantize_int8::two};
use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `quantize_fp8_e5m2`.
pub static ENTRY: Entry = Entry {
    name: "quantize_fp8_e5m2",
    summary: "e5m2(x * 57344 / max|x|) and max|x| / 57344",
    formula: "let s = max(abs(x)) / 57344; \
              let u0 = s > 0 ? min(abs(x) / s, 57344) * 16384 : 0; \
              let u1 = u0 >= 65536 ? u0 * 1.52587890625e-05 : u0; \
              let u2 = u1 >= 256 ? u1 * 0.00390625 : u1; \
              let u3 = u2 >= 16 ? u2 * 0.0625 : u2; \
              let u4 = u3 >= 4 ? u3 * 0.25 : u3; \
              let u5 = u4 >= 2 ? u4 * 0.5 : u4; \
              let e = (u0 >= 65536 ? 64 : 0) + (u1 >= 256 ? 32 : 0) + (u2 >= 16 ? 16 : 0) + (u3 >= 4 ? 8 : 0) + (u4 >= 2 ? 4 : 0); \
              let v = u5 * 4; \
              let m = abs(v - trunc(v)) == 0.5 ? 2 * round(v / 2) : round(v); \
              out codes: u8 = u8(e + m + (x < 0 ? 128 : 0)); \
              out scale: f32 = s",
    zmlx: &[],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| plain(&t[0], 57344.0, 2, -16),
    gradient: Gradient::None("codes are steps"),
    moves: 1.25,
    cell: OnceLock::new(),
};

/// FP8 E5M2 bytes and a scale for each row of the last dimension.
pub fn quantize_fp8_e5m2(x: &Tensor) -> Result<(Tensor, Tensor)> {
    two(&ENTRY, &[x])
}
