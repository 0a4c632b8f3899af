//! Eight truth values a byte, the first in the lowest bit
//!
//! | name | shape             | dtype | note     |
//! |------|-------------------|-------|----------|
//! | x    | any, 8·N elements | u8    | 0 or not |
//! | y    | [N]               | u8    |          |
//! Cost: 9·N bytes moved.
//! Source: NumPy's packbits with bitorder little.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, Values},
};
use candle_core::{DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `pack_bits`.
pub static ENTRY: Entry = Entry {
    name: "pack_bits",
    summary: "b0 | b1 << 1 | ... | b7 << 7",
    formula: "let one = (b0 != 0 ? 1 : 0) + (b1 != 0 ? 2 : 0) + (b2 != 0 ? 4 : 0) + (b3 != 0 ? 8 : 0); \
              let two = (b4 != 0 ? 16 : 0) + (b5 != 0 ? 32 : 0) + (b6 != 0 ? 64 : 0) + (b7 != 0 ? 128 : 0); \
              out y: u8 = one + two",
    zmlx: &["bits.pack_bits"],
    args: &[
        Arg::full("b0").of(Values::Mask),
        Arg::full("b1").of(Values::Mask),
        Arg::full("b2").of(Values::Mask),
        Arg::full("b3").of(Values::Mask),
        Arg::full("b4").of(Values::Mask),
        Arg::full("b5").of(Values::Mask),
        Arg::full("b6").of(Values::Mask),
        Arg::full("b7").of(Values::Mask),
    ],
    uniforms: &[],
    fallback: |t, _| {
        let mut sum = t[0].zeros_like()?.to_dtype(DType::F32)?;
        for (k, bit) in t.iter().enumerate() {
            sum = (sum + (bit.ne(0u8)?.to_dtype(DType::F32)? * f64::from(1u32 << k))?)?;
        }
        Ok(vec![sum.to_dtype(DType::U8)?])
    },
    gradient: Gradient::None("bits are not differentiated"),
    moves: 2.25,
    cell: OnceLock::new(),
};

/// The truth values of `x`, eight a byte, the first in the lowest bit.
pub fn pack_bits(x: &Tensor) -> Result<Tensor> {
    let count = x.elem_count();
    if !count.is_multiple_of(8) {
        return Err(crate::Error::Argument {
            op: "pack_bits".into(),
            what: "x".into(),
            expected: "a multiple of eight elements".into(),
            got: format!("{count} of shape {:?}", x.dims()),
        });
    }
    let eights = x.reshape((count / 8, 8))?;
    let bits: Vec<Tensor> = (0..8).map(|k| eights.get_on_dim(1, k)).collect::<candle_core::Result<_>>()?;
    let y = ENTRY.run1(&bits.iter().collect::<Vec<_>>(), &[])?;
    Ok(y)
}
