//! The bits of bytes, the lowest first
//!
//! | name | shape     | dtype | note   |
//! |------|-----------|-------|--------|
//! | x    | [.., N]   | u8    |        |
//! | y    | [.., 8·N] | u8    | 0 or 1 |
//! Cost: 9·N bytes moved.
//! Source: NumPy's unpackbits with bitorder little.

use super::dequantize_int4::{bits_at, spread};
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
    fallback: |t, _| Ok(vec![bits_at(&t[0], &t[1], 1, DType::F32)?.to_dtype(DType::U8)?]),
    gradient: Gradient::None("bits are not differentiated"),
    moves: 0.5,
    cell: OnceLock::new(),
};

/// The bits of each byte of `x`, the lowest first, as 0 and 1.
pub fn unpack_bits(x: &Tensor) -> Result<Tensor> {
    let x = if x.rank() == 0 { x.reshape(1)? } else { x.clone() };
    let (x8, shift) = spread(&x, &[0, 1, 2, 3, 4, 5, 6, 7])?;
    Ok(ENTRY.run1(&[&x8, &shift], &[])?.flatten_from(x.rank() - 1)?)
}
