//! Two numbers from 0 to 15 a byte, times a scale a row: y = nibble · scale
//!
//! | name  | shape       | dtype            | note                                    |
//! |-------|-------------|------------------|-----------------------------------------|
//! | x     | [.., C]     | u8               | two values a byte, the low nibble first |
//! | scale | [..] or one | f16 bf16 f32 f64 |                                         |
//! | y     | [.., 2·C]   | as scale         |                                         |
//! Cost: half a byte and an element moved for each of N.
//! Source: the definition; as in ZMLX numbers have no sign. A block is a row: reshape to [blocks, block size / 2].

use super::dequantize_int8::a_row_each;
use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::{D, DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `dequantize_int4`.
pub static ENTRY: Entry = Entry {
    name: "dequantize_int4",
    summary: "((x >> shift) & 15) * scale",
    formula: "float((x >> shift) & 15) * scale",
    zmlx: &["quant.dequantize_int4", "quant.dequantize_blockwise"],
    args: &[
        Arg::full("x").of(Values::Byte),
        Arg::col("shift").of(Values::Byte),
        Arg { name: "scale", shape: ArgShape::Row, values: Values::Normal(1.0) },
    ],
    uniforms: &[],
    fallback: |t, _| {
        let q = bits_at(&t[0], &t[1], 4, t[2].dtype())?;
        Ok(vec![q.broadcast_mul(&t[2].unsqueeze(D::Minus1)?)?])
    },
    gradient: Gradient::Derived,
    moves: 1.125,
    cell: OnceLock::new(),
};

/// The nibbles of `x`, the low one first, times one scale for each row of the last dimension, or one for all.
pub fn dequantize_int4(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    unpacked(&ENTRY, x, scale)
}

/// Runs an entry of two values a byte.
pub(super) fn unpacked(entry: &'static Entry, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        return Err(crate::Error::Argument {
            op: entry.name.into(),
            what: "x".into(),
            expected: "bytes of one dimension or more".into(),
            got: "a scalar".into(),
        });
    }
    let (x2, shift) = spread(x, &[0, 4])?;
    let scale = a_row_each(x, scale)?.unsqueeze(D::Minus1)?.broadcast_as(x.shape())?;
    Ok(entry.run1(&[&x2, &shift, &scale], &[])?.flatten_from(x.rank() - 1)?)
}

/// Bytes once for each of these shifts, along a new last dimension, as a view; and the shifts.
pub(super) fn spread(x: &Tensor, shifts: &[u8]) -> Result<(Tensor, Tensor)> {
    let dims: Vec<usize> = x.dims().iter().copied().chain([shifts.len()]).collect();
    Ok((x.unsqueeze(D::Minus1)?.broadcast_as(dims)?, Tensor::new(shifts, x.device())?))
}

/// The lowest `count` bits of `x >> shift`, in plain ops, for fallbacks. Shift counts are modulo 8.
pub(super) fn bits_at(x: &Tensor, shift: &Tensor, count: i32, dtype: DType) -> candle_core::Result<Tensor> {
    let rest = |v: &Tensor, n: f64| v - ((v / n)?.floor()? * n)?;
    let power = (rest(&shift.to_dtype(dtype)?, 8.0)? * std::f64::consts::LN_2)?.exp()?.round()?;
    rest(&x.to_dtype(dtype)?.broadcast_div(&power)?.floor()?, 2f64.powi(count))
}
