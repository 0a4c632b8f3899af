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
use candle_core::{D, Tensor};
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
        // shift counts are modulo 8
        let (dtype, shift) = (t[2].dtype(), t[1].to_dtype(t[2].dtype())?);
        let shift = (&shift - ((&shift / 8.0)?.floor()? * 8.0)?)?;
        let power = (shift * std::f64::consts::LN_2)?.exp()?.round()?;
        let q = t[0].to_dtype(dtype)?.broadcast_div(&power)?.floor()?;
        let q = (&q - ((&q / 16.0)?.floor()? * 16.0)?)?;
        let v = q;
        Ok(vec![v.broadcast_mul(&t[2].unsqueeze(D::Minus1)?)?])
    },
    gradient: Gradient::Derived,
    moves: 1.125,
    cell: OnceLock::new(),
};

/// The nibbles of `x`, the low one first, times one scale for each row of the last dimension, or one for all.
pub fn dequantize_int4(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    unpacked(&ENTRY, x, scale)
}

/// Runs an entry of two values a byte: `x` is read twice, with shifts 0 and 4.
pub(super) fn unpacked(entry: &'static Entry, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let dims = x.dims();
    let Some((cols, rows)) = dims.split_last() else {
        return Err(crate::Error::Argument {
            op: entry.name.into(),
            what: "x".into(),
            expected: "bytes of one dimension or more".into(),
            got: "a scalar".into(),
        });
    };
    let pairs: Vec<usize> = rows.iter().copied().chain([*cols, 2]).collect();
    let x2 = x.unsqueeze(D::Minus1)?.broadcast_as(&pairs[..])?;
    let shift = Tensor::new(&[0u8, 4], x.device())?;
    let scale = a_row_each(x, scale)?.unsqueeze(D::Minus1)?.broadcast_as(&pairs[..pairs.len() - 1])?;
    let y = entry.run1(&[&x2, &shift, &scale], &[])?;
    Ok(y.reshape(rows.iter().copied().chain([2 * cols]).collect::<Vec<_>>())?)
}
