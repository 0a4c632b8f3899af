//! Bytes as signed numbers, times a scale a row: y = int8(x) · scale
//!
//! | name  | shape       | dtype            | note  |
//! |-------|-------------|------------------|-------|
//! | x     | [.., C]     | u8               | bytes |
//! | scale | [..] or one | f16 bf16 f32 f64 |       |
//! | y     | [.., C]     | as scale         |       |
//! Cost: N bytes and N elements moved.
//! Source: the definition, two's complement in u8, since candle has no i8. A block is a row: reshape to [blocks, block size].

use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `dequantize_int8`.
pub static ENTRY: Entry = Entry {
    name: "dequantize_int8",
    summary: "int8(x) * scale",
    formula: "let v = float(x); (v < 128 ? v : v - 256) * scale",
    zmlx: &["quant.dequantize_int8", "quant.dequantize_blockwise"],
    args: &[Arg::full("x").of(Values::Byte), Arg { name: "scale", shape: ArgShape::Row, values: Values::Normal(1.0) }],
    uniforms: &[],
    fallback: |t, _| {
        let scale = t[1].unsqueeze(D::Minus1)?;
        let v = t[0].to_dtype(scale.dtype())?;
        let v = (&v - (v.ge(128.0)?.to_dtype(scale.dtype())? * 256.0)?)?;
        Ok(vec![v.broadcast_mul(&scale)?])
    },
    gradient: Gradient::Derived,
    moves: 1.25,
    cell: OnceLock::new(),
};

/// int8(x)·scale, one scale for each row of the last dimension, or one for all.
pub fn dequantize_int8(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, &a_row_each(x, scale)?], &[])
}

/// A scale for each row of `x`: as given, or one for all, as a view.
pub(super) fn a_row_each(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let rows = &x.dims()[..x.rank().saturating_sub(1)];
    if scale.elem_count() == 1 {
        return Ok(scale.reshape(vec![1; rows.len()])?.broadcast_as(rows)?);
    }
    Ok(scale.clone())
}
