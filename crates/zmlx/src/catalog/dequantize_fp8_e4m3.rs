//! FP8 E4M3 (without infinities), times a scale a row
//!
//! | name  | shape       | dtype            | note  |
//! |-------|-------------|------------------|-------|
//! | x     | [.., C]     | u8               | bytes |
//! | scale | [..] or one | f16 bf16 f32 f64 |       |
//! | y     | [.., C]     | as scale         |       |
//! Cost: N bytes and N elements moved.
//! Source: arXiv:2209.05433, table 1: bias 7, subnormal numbers, 0x7F and 0xFF are NaN, largest 448. Exact before the scale.

use super::dequantize_int8::a_row_each;
use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::{D, DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `dequantize_fp8_e4m3`.
pub static ENTRY: Entry = Entry {
    name: "dequantize_fp8_e4m3",
    summary: "e4m3(x) * scale",
    formula: "let e = (x >> 3) & 15; \
              let m = float(x & 7); \
              let one = (e & 1) != 0 ? 2 : 1; \
              let two = (e & 2) != 0 ? 4 : 1; \
              let four = (e & 4) != 0 ? 16 : 1; \
              let eight = (e & 8) != 0 ? 256 : 1; \
              let size = e == 0 ? m * 0.001953125 : (8 + m) * (one * two) * (four * eight) * 0.0009765625; \
              let v = (x & 127) == 127 ? NAN : size; \
              (x < 128 ? v : -v) * scale",
    zmlx: &["quant.dequantize_fp8"],
    args: &[Arg::full("x").of(Values::Byte), Arg { name: "scale", shape: ArgShape::Row, values: Values::Normal(1.0) }],
    uniforms: &[],
    fallback: |t, _| looked_up(t, value),
    gradient: Gradient::Derived,
    moves: 1.25,
    cell: OnceLock::new(),
};

/// FP8 E4M3 bytes, one scale for each row of the last dimension, or one for all.
pub fn dequantize_fp8_e4m3(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, &a_row_each(x, scale)?], &[])
}

/// What a byte stands for.
fn value(byte: u8) -> f64 {
    let (e, m) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let size = match (e, byte & 127) {
        (_, 127) => f64::NAN,
        (0, _) => m * 2f64.powi(-9),
        _ => (8.0 + m) * 2f64.powi(e - 10),
    };
    if byte < 128 { size } else { -size }
}

/// Bytes times a scale a row, for fallbacks: each byte's value is looked up.
pub(super) fn looked_up(t: &[Tensor], value: fn(u8) -> f64) -> candle_core::Result<Vec<Tensor>> {
    let table: Vec<f64> = (0..=255).map(value).collect();
    Ok(vec![look_up(&table, &t[0], t[1].dtype())?.broadcast_mul(&t[1].unsqueeze(D::Minus1)?)?])
}

/// The numbers of a table at these places, for fallbacks.
pub(super) fn look_up(table: &[f64], at: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
    let places = at.flatten_all()?.to_dtype(DType::U32)?;
    Tensor::new(table, at.device())?.to_dtype(dtype)?.index_select(&places, 0)?.reshape(at.shape())
}
