//! Rotary position embedding of halves, its angles made in the kernel: position · frequency, in turns
//!
//! | name  | shape   | dtype            | note                                                                       |
//! |-------|---------|------------------|----------------------------------------------------------------------------|
//! | a     | [.., C] | f16 bf16 f32 f64 | the first half of a row of x                                               |
//! | b     | [.., C] | as a             | its second half                                                            |
//! | at    | [..]    | any integer      | the position of each row; broadcasts as candle's tensors do                |
//! | turns | [C]     | i64              | frequencies in turns a position, of 2⁻⁶⁴ each: [`crate::rotary::Rotary::turns`] |
//! | y     | [.., 2·C] | as a           | u and v side by side                                                       |
//! Cost: x read and y written, and a position a row.
//! Source: arXiv:2104.09864, as `rope`.
//!
//! at · turns wraps, and what is left is the angle without its whole turns to 2⁻⁶⁴ of one times the position: exact to f32 at
//! any position, where f32(at) · frequency is off by 10⁻² radians at 10⁵.

use super::rope::rotated;
use crate::{
    Op, Result, bridge,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
    order::integers,
    rotary::Rotary,
    rowwise, stats,
};
use candle_core::{D, DType, Tensor};
use std::{f64::consts::TAU, sync::OnceLock};

/// What the catalog knows of `rope_turns`.
pub static ENTRY: Entry = Entry {
    name: "rope_turns",
    summary: "rope of angles at * turns, which wrap",
    // 2π / 2⁶⁴
    formula: "let t = float(at * turns) * 3.406121580086254e-19; \
              let c = cos(t); \
              let s = sin(t); \
              stack(a * c - b * s, a * s + b * c)",
    zmlx: &[],
    args: &[
        Arg::full("a"),
        Arg::full("b"),
        Arg { name: "at", shape: ArgShape::Row, values: Values::Byte },
        Arg::col("turns").of(Values::Turns),
    ],
    uniforms: &[],
    fallback: |t, _| {
        let turns = (t[3].to_dtype(DType::F64)? / 2f64.powi(64))?;
        let angle = t[2].to_dtype(DType::F64)?.unsqueeze(D::Minus1)?.broadcast_mul(&turns)?;
        let angle = ((&angle - angle.floor()?)? * TAU)?.to_dtype(t[0].dtype())?;
        Ok(vec![Tensor::cat(&rotated(&t[0], &t[1], &angle.cos()?, &angle.sin()?)?, D::Minus1)?])
    },
    gradient: Gradient::Derived,
    moves: 4.0,
    cell: OnceLock::new(),
};

static OP: OnceLock<Op> = OnceLock::new();

fn op() -> Result<&'static Op> {
    Op::once(&OP, || rowwise(ENTRY.parsed()?)?.name(ENTRY.name).row("at").parts("x", &["a", "b"], false).build())
}

/// Rotates each row of `x` as [`super::rope::rope`] does, by the angles of its position in `at`, which broadcasts with
/// `[.., S]` (`x` of `[.., S, D]`). Angles alone: a scale other than 1 is an error, and takes tables.
pub fn rope_turns(x: &Tensor, at: &Tensor, rotary: &Rotary) -> Result<Tensor> {
    let all = x.dims().last().copied().unwrap_or(0);
    let (pairs, scale) = (rotary.frequencies().len(), rotary.scale());
    if all != 2 * pairs || scale != 1.0 {
        let expected = format!("{} pairs and scale 1, for rows of {all}", all / 2);
        return Err(crate::Error::argument(ENTRY.name, "rotary", expected, format!("{pairs} and {scale}")));
    }
    integers(ENTRY.name, "at", at)?;
    let turns = rotary.turns(x.device())?;
    if bridge::runs_on(x.device()) {
        return op()?.call(&[x, at, &turns]);
    }
    stats::count_fallback();
    let (a, b) = (x.narrow(D::Minus1, 0, pairs)?, x.narrow(D::Minus1, pairs, pairs)?);
    Ok((ENTRY.fallback)(&[a, b, at.clone(), turns], &[])?.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn angles_of_far_positions_are_those_of_f64() -> Result<()> {
        let rotary = Rotary::new(128, 1e4);
        let x = Tensor::randn(0f32, 1f32, (2, 3, 128), &Device::Cpu)?;
        for first in [0, 131_072, 10_000_000] {
            let at = Tensor::new(&[first as u32, first as u32 + 1, first as u32 + 2], &Device::Cpu)?;
            let (cos, sin) = rotary.tables(first, 3, DType::F32, &Device::Cpu)?;
            let expected = super::super::rope::rope(&x, &cos, &sin)?;
            let off = (rope_turns(&x, &at, &rotary)? - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 4e-6, "from {first}: off by {off}");
        }
        let at = Tensor::new(&[0f32, 1.0, 2.0], &Device::Cpu)?;
        let error = rope_turns(&x, &at, &rotary).expect_err("no integers").to_string();
        assert_eq!(error, "rope_turns: at: dtype, expected an integer, got f32");
        Ok(())
    }
}
