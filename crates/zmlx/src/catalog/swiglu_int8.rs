//! SwiGLU of two tensors of bytes, each with a scale a row: y = silu(int8(x1)·s1) · int8(x2)·s2
//!
//! | name   | shape       | dtype            | note           |
//! |--------|-------------|------------------|----------------|
//! | x1, x2 | [.., C]     | u8               | signed numbers |
//! | s1, s2 | [..] or one | f16 bf16 f32 f64 |                |
//! | y      | [.., C]     | as s1            |                |
//! Cost: 2·N bytes and N elements moved.
//! Source: arXiv:2002.05202. (ZMLX's fused_swiglu_quant multiplies by the gate once more.) A block is a row.

use super::dequantize_int8::a_row_each;
use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `swiglu_int8`.
pub static ENTRY: Entry = Entry {
    name: "swiglu_int8",
    summary: "silu(int8(x1) * s1) * int8(x2) * s2",
    formula: "let a = float(x1); \
              let b = float(x2); \
              silu((a < 128 ? a : a - 256) * s1) * ((b < 128 ? b : b - 256) * s2)",
    zmlx: &["quant.fused_swiglu_quant"],
    args: &[
        Arg::full("x1").of(Values::Byte),
        Arg { name: "s1", shape: ArgShape::Row, values: Values::Normal(0.1) },
        Arg::full("x2").of(Values::Byte),
        Arg { name: "s2", shape: ArgShape::Row, values: Values::Normal(0.1) },
    ],
    uniforms: &[],
    fallback: |t, _| {
        let gate = (super::dequantize_silu_int8::ENTRY.fallback)(&t[..2], &[])?;
        let up = (super::dequantize_int8::ENTRY.fallback)(&t[2..], &[])?;
        Ok(vec![(&gate[0] * &up[0])?])
    },
    gradient: Gradient::Derived,
    moves: 1.5,
    cell: OnceLock::new(),
};

/// silu(int8(x1)·s1)·int8(x2)·s2, one scale for each row of the last dimension, or one for all.
pub fn swiglu_int8(x1: &Tensor, s1: &Tensor, x2: &Tensor, s2: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x1, &a_row_each(x1, s1)?, x2, &a_row_each(x2, s2)?], &[])
}
