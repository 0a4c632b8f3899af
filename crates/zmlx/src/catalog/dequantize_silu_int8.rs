//! Bytes as signed numbers, times a scale a row, and SiLU: y = silu(int8(x) · scale)
//!
//! | name  | shape       | dtype            | note  |
//! |-------|-------------|------------------|-------|
//! | x     | [.., C]     | u8               | bytes |
//! | scale | [..] or one | f16 bf16 f32 f64 |       |
//! | y     | [.., C]     | as scale         |       |
//! Cost: N bytes and N elements moved.
//! Source: the definition; arXiv:1702.03118.

use super::dequantize_int8::a_row_each;
use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `dequantize_silu_int8`.
pub static ENTRY: Entry = Entry {
    name: "dequantize_silu_int8",
    summary: "silu(int8(x) * scale)",
    formula: "let v = float(x); silu((v < 128 ? v : v - 256) * scale)",
    zmlx: &["quant.dequantize_silu_int8"],
    args: &[Arg::full("x").of(Values::Byte), Arg { name: "scale", shape: ArgShape::Row, values: Values::Normal(1.0) }],
    uniforms: &[],
    fallback: |t, _| {
        let v = (super::dequantize_int8::ENTRY.fallback)(t, &[])?;
        (super::silu::ENTRY.fallback)(&v, &[])
    },
    gradient: Gradient::Derived,
    moves: 1.25,
    cell: OnceLock::new(),
};

/// silu(int8(x)·scale), one scale for each row of the last dimension, or one for all.
pub fn dequantize_silu_int8(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, &a_row_each(x, scale)?], &[])
}
