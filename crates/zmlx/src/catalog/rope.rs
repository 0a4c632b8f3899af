//! Rotary position embedding of halves: u = a·cos − b·sin, v = a·sin + b·cos
//!
//! | name | shape             | dtype            | note                                                     |
//! |------|-------------------|------------------|----------------------------------------------------------|
//! | a    | [.., C]           | f16 bf16 f32 f64 | the first half of a row of x: a view, nothing is copied  |
//! | b    | [.., C]           | as a             | its second half                                          |
//! | cos  | [S, C] or as a    | any float        | broadcasts as candle's tensors do                        |
//! | sin  | as cos            | as cos           |                                                          |
//! | y    | [.., 2·C]         | as a             | u and v side by side                                     |
//! Cost: x read and y written, and the tables.
//! Source: arXiv:2104.09864, halves as in GPT-NeoX and Llama. The gradient is the rotation back, made in one launch as well.
//!
//! [`rope`] takes x itself; of a table of fewer than C columns the first `2·columns` of a row are rotated, the rest is copied
//! in the same launch if its length is a multiple of the columns. For x of `[B, S, H, D]` (ZMLX's `apply_gqa_rope`) give
//! tables of `[S, 1, C]`. Tables come from [`super::rope_tables`].

use crate::{
    Error, Op, Result, bridge,
    entry::{Arg, Entry, Gradient, with_names},
    rowwise, stats,
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `rope`.
pub static ENTRY: Entry = Entry {
    name: "rope",
    summary: "a * cos - b * sin and a * sin + b * cos, side by side",
    formula: "stack(a * cos - b * sin, a * sin + b * cos)",
    zmlx: &["rope.apply_rope", "rope.apply_gqa_rope"],
    args: &[Arg::full("a"), Arg::full("b"), Arg::full("cos"), Arg::full("sin")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![Tensor::cat(&rotated(&t[0], &t[1], &t[2], &t[3])?, D::Minus1)?]),
    gradient: Gradient::Derived,
    moves: 6.0,
    cell: OnceLock::new(),
};

/// In plain candle ops.
pub(super) fn rotated(a: &Tensor, b: &Tensor, cos: &Tensor, sin: &Tensor) -> candle_core::Result<[Tensor; 2]> {
    let u = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let v = (a.broadcast_mul(sin)? + b.broadcast_mul(cos)?)?;
    Ok([u, v])
}

/// Parts of a row that an operation takes.
const MOST: usize = 16;

/// An operation for each number of parts, built at its first use.
static OPS: [OnceLock<Op>; MOST + 1] = [const { OnceLock::new() }; MOST + 1];

/// Of a row in so many parts: the first two are rotated, the others copied.
fn op(parts: usize) -> Result<&'static Op> {
    Op::once(&OPS[parts], || {
        let rest: Vec<String> = (2..parts).map(|k| format!("p{k}")).collect();
        let copied: String = rest.iter().map(|p| format!(", {p}")).collect();
        let names: Vec<&str> = ["a", "b"].into_iter().chain(rest.iter().map(String::as_str)).collect();
        let text = format!("stack(a * cos - b * sin, a * sin + b * cos{copied})");
        let formula = with_names(names.iter().copied().chain(["cos", "sin"]), &text)?;
        rowwise(formula)?.name(ENTRY.name).parts("x", &names, false).build()
    })
}

/// Rotates the first columns of each row of `x`, twice as many as the tables have, by the angles of the tables, which
/// broadcast with `[.., S, C]` (`x` of `[.., S, D]`).
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let cols = half(ENTRY.name, x, cos, sin)?;
    let all = x.dim(D::Minus1)?;
    if bridge::runs_on(x.device()) && all.is_multiple_of(cols) && all / cols <= MOST {
        return op(all / cols)?.call(&[x, cos, sin]);
    }
    // a rest of another length goes by on its own
    let (first, rest) = (x.narrow(D::Minus1, 0, 2 * cols)?, x.narrow(D::Minus1, 2 * cols, all - 2 * cols)?);
    let rotated = match bridge::runs_on(x.device()) {
        true => op(2)?.call(&[&first, cos, sin])?,
        false => {
            stats::count_fallback();
            let (a, b) = (first.narrow(D::Minus1, 0, cols)?, first.narrow(D::Minus1, cols, cols)?);
            Tensor::cat(&self::rotated(&a, &b, cos, sin)?, D::Minus1)?
        }
    };
    Ok(Tensor::cat(&[rotated, rest], D::Minus1)?)
}

/// Columns of the tables, which are alike and no more than half of those of `x`.
pub(super) fn half(op: &str, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<usize> {
    let (all, cols) = (x.dims().last().copied().unwrap_or(0), cos.dims().last().copied().unwrap_or(0));
    if sin.dims() != cos.dims() {
        return Err(Error::shape(op, "sin", format!("{:?}, that of cos", cos.dims()), sin.dims()));
    }
    if cols == 0 || 2 * cols > all {
        let expected = format!("1 to {} columns, for rows of {all}", all / 2);
        return Err(Error::shape(op, "cos", expected, cos.dims()));
    }
    Ok(cols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn tables(positions: usize, cols: usize) -> Result<[Tensor; 2]> {
        let angle = Tensor::randn(0f32, 2f32, (positions, cols), &Device::Cpu)?;
        Ok([angle.cos()?, angle.sin()?])
    }

    #[test]
    fn halves_turn_and_the_rest_of_a_row_stays() -> Result<()> {
        let [cos, sin] = tables(3, 4)?;
        // 2 parts, 3 parts, and a rest of another length
        for cols in [8, 12, 11] {
            let x = Tensor::randn(0f32, 1f32, (2, 5, 3, cols), &Device::Cpu)?;
            let y = rope(&x, &cos, &sin)?;
            let (a, b) = (x.narrow(3, 0, 4)?, x.narrow(3, 4, 4)?);
            let [u, v] = rotated(&a, &b, &cos, &sin)?;
            let expected = Tensor::cat(&[u, v, x.narrow(3, 8, cols - 8)?], 3)?;
            assert!((y - expected)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6, "{cols} columns");
        }
        Ok(())
    }

    #[test]
    fn the_gradient_is_the_rotation_back_in_one_piece() -> Result<()> {
        let [cos, sin] = tables(3, 4)?;
        for cols in [8, 16] {
            let x = Var::from_tensor(&Tensor::randn(0f32, 1f32, (2, 3, cols), &Device::Cpu)?)?;
            let weights = Tensor::randn(0f32, 1f32, (2, 3, cols), &Device::Cpu)?;
            let g = (rope(&x, &cos, &sin)? * &weights)?.sum_all()?.backward()?;
            let g = g.get(&x).expect("a gradient").clone();
            let back = rope(&weights, &cos, &sin.neg()?)?;
            assert!((g - back)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
            let made = op(cols / 4)?.vjp_of(&[x.as_tensor(), &cos, &sin], &weights, &["x"])?;
            assert_eq!(made[0].dims(), [2, 3, cols]);
            let programs = op(cols / 4)?.vjp_program(&[x.as_tensor(), &cos, &sin])?;
            assert!(programs[0].stored().any(|o| o.width == cols / 4 && o.stacked), "{}", programs[0]);
        }
        Ok(())
    }

    #[test]
    fn tables_that_do_not_fit_are_errors() -> Result<()> {
        let x = Tensor::zeros((2, 8), candle_core::DType::F32, &Device::Cpu)?;
        let [cos, sin] = tables(2, 5)?;
        let error = rope(&x, &cos, &sin).expect_err("5 columns").to_string();
        assert_eq!(error, "rope: cos has shape [2, 5], expected 1 to 4 columns, for rows of 8");
        Ok(())
    }
}
