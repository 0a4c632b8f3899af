//! Numbers as signed bytes, with a scale a row: codes = int8(x / scale), scale = max|x| / 127
//!
//! | name  | shape   | dtype            | note                                     |
//! |-------|---------|------------------|------------------------------------------|
//! | x     | [.., C] | f16 bf16 f32 f64 |                                          |
//! | codes | [.., C] | u8               | two's complement, since candle has no i8 |
//! | scale | [..]    | f32              |                                          |
//! Cost: N elements read, N bytes written.
//! Source: symmetric quantisation, to the nearest number, of two the even one. A block is a row: reshape to [blocks, block
//! size], all of a tensor to [1, N]. A row with NaN or infinity has a scale that is neither.
//! [`dequantize_int8`](super::dequantize_int8) is the way back.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `quantize_int8`.
pub static ENTRY: Entry = Entry {
    name: "quantize_int8",
    summary: "int8(x * 127 / max|x|) and max|x| / 127",
    formula: "let s = max(abs(x)) / 127; \
              let v = s > 0 ? x / s : 0; \
              let q = abs(v - trunc(v)) == 0.5 ? 2 * round(v / 2) : round(v); \
              out codes: u8 = u8(i32(q)); \
              out scale: f32 = s",
    zmlx: &[],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let (x, s) = scaled(&t[..1], 127.0, true)?;
        let q = nearest(&x[0])?;
        // two's complement
        let q = (&q + (q.lt(0.0)?.to_dtype(q.dtype())? * 256.0)?)?;
        Ok(vec![q.to_dtype(DType::U8)?, s])
    },
    gradient: Gradient::None("codes are steps"),
    moves: 1.25,
    cell: OnceLock::new(),
};

/// Signed bytes and a scale for each row of the last dimension.
pub fn quantize_int8(x: &Tensor) -> Result<(Tensor, Tensor)> {
    two(&ENTRY, &[x])
}

/// Runs a kernel of codes and scales.
pub(super) fn two(entry: &'static Entry, inputs: &[&Tensor]) -> Result<(Tensor, Tensor)> {
    let mut results = entry.run(inputs, &[])?;
    let scale = results.swap_remove(1);
    Ok((results.swap_remove(0), scale))
}

/// x / s of the parts of a row and s = max / most, of sizes or of the numbers themselves, in plain ops, for fallbacks.
pub(super) fn scaled(parts: &[Tensor], most: f64, sizes: bool) -> candle_core::Result<(Vec<Tensor>, Tensor)> {
    let largest = |t: &Tensor| -> candle_core::Result<Tensor> {
        if t.dim(D::Minus1)? == 0 {
            return t.sum_keepdim(D::Minus1);
        }
        if sizes { t.abs()?.max_keepdim(D::Minus1) } else { t.max_keepdim(D::Minus1) }
    };
    let mut m = largest(&parts[0])?;
    for t in &parts[1..] {
        m = m.maximum(&largest(t)?)?;
    }
    let s = (m / most)?;
    let there = s.gt(0.0)?;
    let by = |t: &Tensor| {
        let x = t.broadcast_div(&s)?;
        there.broadcast_as(x.shape())?.where_cond(&x, &x.zeros_like()?)
    };
    let x = parts.iter().map(by).collect::<candle_core::Result<_>>()?;
    Ok((x, s.squeeze(D::Minus1)?.to_dtype(DType::F32)?))
}

/// The nearest whole number, of two the even one, in plain ops, for fallbacks.
pub(super) fn nearest(x: &Tensor) -> candle_core::Result<Tensor> {
    // candle rounds halves away from zero
    let tie = (x - x.floor()?)?.eq(0.5)?;
    tie.where_cond(&((x / 2.0)?.round()? * 2.0)?, &x.round()?)
}
