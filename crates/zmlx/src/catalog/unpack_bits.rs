//! The bits of bytes, the lowest first
//!
//! | name | shape     | dtype | note   |
//! |------|-----------|-------|--------|
//! | x    | [.., N]   | u8    |        |
//! | y    | [.., 8·N] | u8    | 0 or 1 |
//! Cost: 9·N bytes moved.
//! Source: NumPy's unpackbits with bitorder little.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, Values},
};
use candle_core::{DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `unpack_bits`.
pub static ENTRY: Entry = Entry {
    name: "unpack_bits",
    summary: "(x >> shift) & 1",
    formula: "out y: u8 = (x >> shift) & 1",
    zmlx: &["bits.unpack_bits"],
    args: &[Arg::full("x").of(Values::Byte), Arg::col("shift").of(Values::Byte)],
    uniforms: &[],
    fallback: |t, _| {
        // shift counts are modulo 8
        let shift = t[1].to_dtype(DType::F32)?;
        let shift = (&shift - ((&shift / 8.0)?.floor()? * 8.0)?)?;
        let power = (shift * std::f64::consts::LN_2)?.exp()?.round()?;
        let q = t[0].to_dtype(DType::F32)?.broadcast_div(&power)?.floor()?;
        Ok(vec![(&q - ((&q / 2.0)?.floor()? * 2.0)?)?.to_dtype(DType::U8)?])
    },
    gradient: Gradient::None("bits are not differentiated"),
    moves: 0.5,
    cell: OnceLock::new(),
};

/// The bits of each byte of `x`, the lowest first, as 0 and 1.
pub fn unpack_bits(x: &Tensor) -> Result<Tensor> {
    let dims: Vec<usize> = if x.rank() == 0 { vec![1] } else { x.dims().to_vec() };
    let eights: Vec<usize> = dims.iter().copied().chain([8]).collect();
    let x8 = x.reshape(&dims[..])?.unsqueeze(dims.len())?.broadcast_as(&eights[..])?;
    let shift = Tensor::new(&[0u8, 1, 2, 3, 4, 5, 6, 7], x.device())?;
    let y = ENTRY.run1(&[&x8, &shift], &[])?;
    let (rows, last) = (&dims[..dims.len() - 1], dims[dims.len() - 1]);
    Ok(y.reshape(rows.iter().copied().chain([8 * last]).collect::<Vec<_>>())?)
}
