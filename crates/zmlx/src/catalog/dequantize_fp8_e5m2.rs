//! FP8 E5M2, times a scale a row
//!
//! | name  | shape       | dtype            | note  |
//! |-------|-------------|------------------|-------|
//! | x     | [.., C]     | u8               | bytes |
//! | scale | [..] or one | f16 bf16 f32 f64 |       |
//! | y     | [.., C]     | as scale         |       |
//! Cost: N bytes and N elements moved.
//! Source: arXiv:2209.05433, table 1: bias 15, subnormal numbers, infinities and NaN as in IEEE 754, largest 57344. Exact before the scale.

use super::{dequantize_fp8_e4m3::looked_up, dequantize_int8::a_row_each};
use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `dequantize_fp8_e5m2`.
pub static ENTRY: Entry = Entry {
    name: "dequantize_fp8_e5m2",
    summary: "e5m2(x) * scale",
    formula: "let e = (x >> 2) & 31; \
              let m = float(x & 3); \
              let one = (e & 1) != 0 ? 2 : 1; \
              let two = (e & 2) != 0 ? 4 : 1; \
              let four = (e & 4) != 0 ? 16 : 1; \
              let eight = (e & 8) != 0 ? 256 : 1; \
              let sixteen = (e & 16) != 0 ? 65536 : 1; \
              let size = e == 0 ? m * 1.52587890625e-5 : (4 + m) * (one * two) * (four * eight) * sixteen * 7.62939453125e-6; \
              let v = e < 31 ? size : (m == 0 ? INFINITY : NAN); \
              (x < 128 ? v : -v) * scale",
    zmlx: &["quant.dequantize_fp8"],
    args: &[Arg::full("x").of(Values::Byte), Arg { name: "scale", shape: ArgShape::Row, values: Values::Normal(1.0) }],
    uniforms: &[],
    fallback: |t, _| looked_up(t, value),
    gradient: Gradient::Derived,
    moves: 1.25,
    cell: OnceLock::new(),
};

/// FP8 E5M2 bytes, one scale for each row of the last dimension, or one for all.
pub fn dequantize_fp8_e5m2(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, &a_row_each(x, scale)?], &[])
}

/// What a byte stands for.
fn value(byte: u8) -> f64 {
    let (e, m) = (i32::from(byte >> 2 & 31), f64::from(byte & 3));
    let size = match (e, byte & 3) {
        (31, 0) => f64::INFINITY,
        (31, _) => f64::NAN,
        (0, _) => m * 2f64.powi(-16),
        _ => (4.0 + m) * 2f64.powi(e - 17),
    };
    if byte < 128 { size } else { -size }
}
