//! Numbers as NF4, two codes a byte, with a scale a row: the nearest of 16 values to x / scale, scale = max|x|
//!
//! | name  | shape     | dtype            | note                                     |
//! |-------|-----------|------------------|------------------------------------------|
//! | x     | [.., 2·C] | f16 bf16 f32 f64 | a and b are its even and its odd columns |
//! | codes | [.., C]   | u8               | two values a byte, the low nibble first  |
//! | scale | [..]      | f32              |                                          |
//! Cost: N elements read, half a byte written for each.
//! Source: arXiv:2305.14314, and bitsandbytes' thresholds: halfway between two values the lower is taken. (bitsandbytes packs the
//! high nibble first.) A block is a row: reshape to [blocks, block size]. [`dequantize_nf4`](super::dequantize_nf4) is the way back.

use super::{
    dequantize_nf4::TABLE,
    quantize_int4::{nibbles, pairs},
    quantize_int8::scaled,
};
use crate::{
    Op, Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `quantize_nf4`.
pub static ENTRY: Entry = Entry {
    name: "quantize_nf4",
    summary: "nibbles of the nearest NF4 value to x / max|x|, and max|x|",
    formula: "let m = max(max(abs(a)), max(abs(b))); \
              let v = m > 0 ? a / m : 0; \
              let w = m > 0 ? b / m : 0; \
              let q = i32(v > -0.8480963706970215) + i32(v > -0.6106328964233398) + i32(v > -0.4599952697753906) \
              + i32(v > -0.33967941999435425) + i32(v > -0.23460739850997925) + i32(v > -0.13791173696517944) \
              + i32(v > -0.045525018125772476) + i32(v > 0.03979014977812767) + i32(v > 0.120255246758461) \
              + i32(v > 0.2035212516784668) + i32(v > 0.2920137643814087) + i32(v > 0.3893125355243683) \
              + i32(v > 0.5016634464263916) + i32(v > 0.6427869200706482) + i32(v > 0.8614784479141235); \
              let r = i32(w > -0.8480963706970215) + i32(w > -0.6106328964233398) + i32(w > -0.4599952697753906) \
              + i32(w > -0.33967941999435425) + i32(w > -0.23460739850997925) + i32(w > -0.13791173696517944) \
              + i32(w > -0.045525018125772476) + i32(w > 0.03979014977812767) + i32(w > 0.120255246758461) \
              + i32(w > 0.2035212516784668) + i32(w > 0.2920137643814087) + i32(w > 0.3893125355243683) \
              + i32(w > 0.5016634464263916) + i32(w > 0.6427869200706482) + i32(w > 0.8614784479141235); \
              out codes: u8 = u8(q | (r << 4)); \
              out scale: f32 = m",
    zmlx: &[],
    args: &[Arg::full("a"), Arg::full("b")],
    uniforms: &[],
    fallback: |t, _| {
        let (x, s) = scaled(t, 1.0, true)?;
        let code = |x: &Tensor| -> candle_core::Result<Tensor> {
            let mut q = x.zeros_like()?;
            for k in 1..16 {
                let halfway = (TABLE[k - 1] + TABLE[k]) / 2.0;
                q = (q + x.gt(f64::from(halfway as f32))?.to_dtype(x.dtype())?)?;
            }
            Ok(q)
        };
        Ok(vec![nibbles(&code(&x[0])?, &code(&x[1])?)?, s])
    },
    gradient: Gradient::None("codes are steps"),
    moves: 2.25,
    cell: OnceLock::new(),
};

/// NF4 codes of each row of the last dimension, two a byte, and its scale.
pub fn quantize_nf4(x: &Tensor) -> Result<(Tensor, Tensor)> {
    static OP: OnceLock<Op> = OnceLock::new();
    pairs(&ENTRY, &OP, x)
}
