//! Numbers as MXFP4: codes e2m1, two a byte, and for each block of 32 columns a scale of e8m0
//!
//! | name   | shape         | dtype            | note                                                             |
//! |--------|---------------|------------------|------------------------------------------------------------------|
//! | x      | [.., 32·C]    | f16 bf16 f32 f64 | a row of the kernel is a block; a and b its even and odd columns |
//! | codes  | [.., 16·C]    | u8               | two values a byte, the low nibble first                          |
//! | scales | [.., C]       | u8               | 2^(scale − 127); 255 is NaN                                      |
//! Cost: N elements read, 17 bytes written for 32 of them.
//! Source: OCP Microscaling Formats 1.0, section 6.3: scale = 2^(floor(log2(max|x|)) − 2), elements to the nearest, of two the one with
//! an even code, and above 6 to 6. A block with NaN or infinity has the scale NaN. [`dequantize_mxfp4`](super::dequantize_mxfp4)
//! is the way back.

use super::{
    quantize_int4::{nibbles, pairs},
    quantize_int8::nearest,
};
use crate::{
    Error, Op, Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `quantize_mxfp4`.
pub static ENTRY: Entry = Entry {
    name: "quantize_mxfp4",
    summary: "nibbles of e2m1(x / 2^e) and e + 127, e = floor(log2(max|x|)) - 2",
    formula: "let m = max(max(abs(a)), max(abs(b))); \
              let u0 = m < 1 ? m * 1.7014118346046923e+38 : m; \
              let u1 = u0 >= 1.8446744073709552e+19 ? u0 * 5.421010862427522e-20 : u0; \
              let u2 = u1 >= 4294967296.0 ? u1 * 2.3283064365386963e-10 : u1; \
              let u3 = u2 >= 65536.0 ? u2 * 1.52587890625e-05 : u2; \
              let u4 = u3 >= 256.0 ? u3 * 0.00390625 : u3; \
              let u5 = u4 >= 16.0 ? u4 * 0.0625 : u4; \
              let u6 = u5 >= 4.0 ? u5 * 0.25 : u5; \
              let u7 = u6 >= 2.0 ? u6 * 0.5 : u6; \
              let e = (m < 1 ? 0 : 127) + (u0 >= 1.8446744073709552e+19 ? 64 : 0) + (u1 >= 4294967296.0 ? 32 : 0) + (u2 >= 65536.0 ? 16 : 0) + (u3 >= 256.0 ? 8 : 0) \
              + (u4 >= 16.0 ? 4 : 0) + (u5 >= 4.0 ? 2 : 0) + (u6 >= 2.0 ? 1 : 0); \
              let s = m < INFINITY ? max(e - 2, 0) : 255; \
              let t = i32(254 - s); \
              let p0 = float((t & 1) + 1) * ((t & 2) != 0 ? 4 : 1) * ((t & 4) != 0 ? 16 : 1) * ((t & 8) != 0 ? 256 : 1); \
              let p1 = p0 * ((t & 16) != 0 ? 65536 : 1) * ((t & 32) != 0 ? 4294967296 : 1) * ((t & 64) != 0 ? 1.8446744073709552e+19 : 1); \
              let p = p1 * ((t & 128) != 0 ? 2 : 5.877471754111438e-39); \
              let a0 = min(abs(a) * p, 6); \
              let a1 = a0 >= 4 ? a0 * 0.5 : (a0 >= 2 ? a0 : a0 * 2); \
              let a2 = a1 - floor(a1) == 0.5 ? 2 * round(a1 / 2) : round(a1); \
              let q = a2 + (a0 >= 4 ? 4 : (a0 >= 2 ? 2 : 0)) + (a < 0 ? 8 : 0); \
              let b0 = min(abs(b) * p, 6); \
              let b1 = b0 >= 4 ? b0 * 0.5 : (b0 >= 2 ? b0 : b0 * 2); \
              let b2 = b1 - floor(b1) == 0.5 ? 2 * round(b1 / 2) : round(b1); \
              let r = b2 + (b0 >= 4 ? 4 : (b0 >= 2 ? 2 : 0)) + (b < 0 ? 8 : 0); \
              out codes: u8 = u8(q) | (u8(r) << 4); \
              out scales: u8 = u8(s)",
    zmlx: &[],
    args: &[Arg::full("a"), Arg::full("b")],
    uniforms: &[],
    fallback: |t, _| plain(&t[0], &t[1]),
    gradient: Gradient::None("codes are steps"),
    moves: 2.25,
    cell: OnceLock::new(),
};

/// Columns of a block.
pub(super) const BLOCK: usize = 32;

/// Codes of `x` and the scales of its blocks.
///
/// # Errors
/// Columns that are not in blocks of 32.
pub fn quantize_mxfp4(x: &Tensor) -> Result<(Tensor, Tensor)> {
    static OP: OnceLock<Op> = OnceLock::new();
    let cols = x.dims().last().copied().unwrap_or(1);
    if !cols.is_multiple_of(BLOCK) {
        return Err(Error::shape(ENTRY.name, "x", "columns in blocks of 32", x.dims()));
    }
    let rows = &x.dims()[..x.rank() - 1];
    let blocks = x.reshape([rows, &[cols / BLOCK, BLOCK]].concat())?;
    let (codes, scales) = pairs(&ENTRY, &OP, &blocks)?;
    Ok((codes.reshape([rows, &[cols / 2]].concat())?, scales))
}

/// In plain ops: exponents by counting the powers of two that are not larger.
fn plain(a: &Tensor, b: &Tensor) -> candle_core::Result<Vec<Tensor>> {
    if a.dim(D::Minus1)? == 0 {
        let rows = &a.dims()[..a.rank() - 1];
        return Ok(vec![a.to_dtype(DType::U8)?, Tensor::zeros(rows, DType::U8, a.device())?]);
    }
    let m = a.abs()?.max_keepdim(D::Minus1)?.maximum(&b.abs()?.max_keepdim(D::Minus1)?)?;
    let mut e = m.zeros_like()?;
    for k in -124..=127 {
        e = (e + m.ge(2f64.powi(k))?.to_dtype(m.dtype())?)?;
    }
    let power = ((&e - 127.0)? * std::f64::consts::LN_2)?.exp()?;
    let code = |x: &Tensor| -> candle_core::Result<Tensor> {
        let size = x.broadcast_div(&power)?.abs()?.minimum(6.0)?;
        let at_least = |n: f64| size.ge(n)?.to_dtype(size.dtype());
        let (two, four) = (at_least(2.0)?, at_least(4.0)?);
        // steps of a half, of one from 2 on, of two from 4 on
        let step = (((&two * 0.5)? + &four)? + 0.5)?;
        let sign = (x.lt(0.0)?.to_dtype(size.dtype())? * 8.0)?;
        ((nearest(&(size / step)?)? + ((two + four)? * 2.0)?)? + sign)?.clamp(0.0, 15.0)
    };
    Ok(vec![nibbles(&code(a)?, &code(b)?)?, e.squeeze(D::Minus1)?.to_dtype(DType::U8)?])
}
