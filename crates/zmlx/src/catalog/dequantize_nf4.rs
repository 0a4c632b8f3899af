//! NF4, two values a byte, times a scale a row
//!
//! | name  | shape       | dtype            | note                                    |
//! |-------|-------------|------------------|-----------------------------------------|
//! | x     | [.., C]     | u8               | two values a byte, the low nibble first |
//! | scale | [..] or one | f16 bf16 f32 f64 |                                         |
//! | y     | [.., 2·C]   | as scale         |                                         |
//! Cost: half a byte and an element moved for each of N.
//! Source: arXiv:2305.14314, appendix E: the 16 values in f32. A block is a row: reshape to [blocks, block size / 2].

use super::{
    dequantize_fp8_e4m3::look_up,
    dequantize_int4::{bits_at, unpacked},
};
use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `dequantize_nf4`.
pub static ENTRY: Entry = Entry {
    name: "dequantize_nf4",
    summary: "nf4((x >> shift) & 15) * scale",
    formula: "let q = (x >> shift) & 15; \
              let q0 = (q < 2 ? (q < 1 ? -1.0 : -0.6961928009986877) : (q < 3 ? -0.5250730514526367 : -0.39491748809814453)); \
              let q1 = (q < 6 ? (q < 5 ? -0.28444138169288635 : -0.18477343022823334) : (q < 7 ? -0.09105003625154495 : 0.0)); \
              let q2 = (q < 10 ? (q < 9 ? 0.07958029955625534 : 0.16093020141124725) : (q < 11 ? 0.24611230194568634 : 0.33791524171829224)); \
              let q3 = (q < 14 ? (q < 13 ? 0.44070982933044434 : 0.5626170039176941) : (q < 15 ? 0.7229568362236023 : 1.0)); \
              (q < 8 ? (q < 4 ? q0 : q1) : (q < 12 ? q2 : q3)) * scale",
    zmlx: &["quant.dequantize_nf4"],
    args: &[
        Arg::full("x").of(Values::Byte),
        Arg::col("shift").of(Values::Byte),
        Arg { name: "scale", shape: ArgShape::Row, values: Values::Normal(1.0) },
    ],
    uniforms: &[],
    fallback: |t, _| {
        let v = look_up(&TABLE, &bits_at(&t[0], &t[1], 4, t[2].dtype())?, t[2].dtype())?;
        Ok(vec![v.broadcast_mul(&t[2].unsqueeze(D::Minus1)?)?])
    },
    gradient: Gradient::Derived,
    moves: 1.125,
    cell: OnceLock::new(),
};

/// NF4 values, the low nibble first, times one scale for each row of the last dimension, or one for all.
pub fn dequantize_nf4(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    unpacked(&ENTRY, x, scale)
}

/// The values, all of them numbers of f32.
pub(super) const TABLE: [f64; 16] = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
];
