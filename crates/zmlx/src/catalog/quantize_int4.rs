//! Numbers from 0 on as two codes from 0 to 15 a byte, with a scale a row: scale = max(x) / 15
//!
//! | name  | shape     | dtype            | note                                       |
//! |-------|-----------|------------------|--------------------------------------------|
//! | x     | [.., 2·C] | f16 bf16 f32 f64 | a and b are its even and its odd columns   |
//! | codes | [.., C]   | u8               | two values a byte, the low nibble first    |
//! | scale | [..]      | f32              |                                            |
//! Cost: N elements read, half a byte written for each.
//! Source: as in ZMLX codes have no sign: numbers below 0 become 0. To the nearest number, of two the even one. A block is a row.
//! [`dequantize_int4`](super::dequantize_int4) is the way back; for weights of either sign see
//! [`quantize_affine`](crate::portable::quantize_affine).

use super::quantize_int8::{nearest, scaled, two};
use crate::{
    Error, Op, Result, bridge,
    entry::{Arg, Entry, Gradient},
    rowwise, stats,
};
use candle_core::{DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `quantize_int4`.
pub static ENTRY: Entry = Entry {
    name: "quantize_int4",
    summary: "nibbles of x * 15 / max(x), and max(x) / 15",
    formula: "let s = max(max(a), max(b)) / 15; \
              let v = s > 0 ? a / s : 0; \
              let w = s > 0 ? b / s : 0; \
              let q = abs(v - trunc(v)) == 0.5 ? 2 * round(v / 2) : round(v); \
              let r = abs(w - trunc(w)) == 0.5 ? 2 * round(w / 2) : round(w); \
              out codes: u8 = u8(q) | (u8(r) << 4); \
              out scale: f32 = s",
    zmlx: &[],
    args: &[Arg::full("a"), Arg::full("b")],
    uniforms: &[],
    fallback: |t, _| {
        let (x, s) = scaled(t, 15.0, false)?;
        let q: Vec<Tensor> = x.iter().map(|x| nearest(x)?.clamp(0.0, 15.0)).collect::<candle_core::Result<_>>()?;
        Ok(vec![nibbles(&q[0], &q[1])?, s])
    },
    gradient: Gradient::None("codes are steps"),
    moves: 2.25,
    cell: OnceLock::new(),
};

/// Codes from 0 to 15 of each row of the last dimension, two a byte, and its scale.
pub fn quantize_int4(x: &Tensor) -> Result<(Tensor, Tensor)> {
    static OP: OnceLock<Op> = OnceLock::new();
    pairs(&ENTRY, &OP, x)
}

/// Two whole numbers a byte, in plain ops, for fallbacks.
pub(super) fn nibbles(low: &Tensor, high: &Tensor) -> candle_core::Result<Tensor> {
    (low + (high * 16.0)?)?.to_dtype(DType::U8)
}

/// Runs a kernel of the even and the odd columns of `x`.
pub(super) fn pairs(entry: &'static Entry, op: &'static OnceLock<Op>, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let cols = x.dims().last().copied().unwrap_or(1);
    if !cols.is_multiple_of(2) {
        return Err(Error::shape(entry.name, "x", "an even number of columns", x.dims()));
    }
    if bridge::runs_on(x.device()) {
        let built = || rowwise(entry.parsed()?)?.name(entry.name).parts("x", &["a", "b"], true).no_grad().build();
        let mut results = Op::once(op, built)?.call_all(x)?;
        let scale = results.swap_remove(1);
        return Ok((results.swap_remove(0), scale));
    }
    stats::count_fallback();
    let (last, twos) = (x.rank() - 1, x.reshape([&x.dims()[..x.rank() - 1], &[cols / 2, 2]].concat())?);
    two(entry, &[&twos.get_on_dim(last + 1, 0)?, &twos.get_on_dim(last + 1, 1)?])
}
