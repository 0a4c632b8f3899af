//! Rotary position embedding of pairs: u = a·cos − b·sin, v = a·sin + b·cos, in turn
//!
//! | name | shape             | dtype            | note                                                     |
//! |------|-------------------|------------------|----------------------------------------------------------|
//! | a    | [.., C]           | f16 bf16 f32 f64 | the even columns of x: a view                            |
//! | b    | [.., C]           | as a             | its odd columns                                          |
//! | cos  | [S, C] or as a    | any float        | broadcasts as candle's tensors do                        |
//! | sin  | as cos            | as cos           |                                                          |
//! | y    | [.., 2·C]         | as a             | u and v in turn                                          |
//! Cost: x read and y written, and the tables.
//! Source: arXiv:2104.09864, pairs as in GPT-J. The gradient is the rotation back, made in one launch as well.
//!
//! [`rope_interleaved`] takes x itself (a copy of it if it is not contiguous). Of tables of fewer than C columns the first
//! `2·columns` of a row are rotated; the rest is put behind by candle.

use super::rope::{half, rotated};
use crate::{
    Op, Result, bridge,
    entry::{Arg, Entry, Gradient},
    rowwise, stats,
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `rope_interleaved`.
pub static ENTRY: Entry = Entry {
    name: "rope_interleaved",
    summary: "a * cos - b * sin and a * sin + b * cos, in turn",
    formula: "interleave(a * cos - b * sin, a * sin + b * cos)",
    zmlx: &["rope.apply_rope_interleaved"],
    args: &[Arg::full("a"), Arg::full("b"), Arg::full("cos"), Arg::full("sin")],
    uniforms: &[],
    fallback: |t, _| in_turn(&rotated(&t[0], &t[1], &t[2], &t[3])?).map(|y| vec![y]),
    gradient: Gradient::Derived,
    moves: 6.0,
    cell: OnceLock::new(),
};

fn in_turn(parts: &[Tensor; 2]) -> candle_core::Result<Tensor> {
    let pairs = Tensor::stack(parts, D::Minus1)?;
    pairs.flatten(pairs.rank() - 2, pairs.rank() - 1)
}

static OP: OnceLock<Op> = OnceLock::new();

fn op() -> Result<&'static Op> {
    Op::once(&OP, || rowwise(ENTRY.parsed()?)?.name(ENTRY.name).parts("x", &["a", "b"], true).build())
}

/// Rotates pairs of neighbouring columns of `x`, twice as many columns as the tables have, by the angles of the tables, which
/// broadcast with `[.., S, C]`.
pub fn rope_interleaved(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let cols = half(ENTRY.name, x, cos, sin)?;
    let all = x.dim(D::Minus1)?;
    let first = if all == 2 * cols { x.clone() } else { x.narrow(D::Minus1, 0, 2 * cols)? };
    let y = match bridge::runs_on(x.device()) {
        true => op()?.call(&[&first, cos, sin])?,
        false => {
            stats::count_fallback();
            let pairs = first.reshape([&x.dims()[..x.rank() - 1], &[cols, 2]].concat())?;
            let (a, b) = (pairs.get_on_dim(x.rank(), 0)?, pairs.get_on_dim(x.rank(), 1)?);
            in_turn(&rotated(&a, &b, cos, sin)?)?
        }
    };
    if all == 2 * cols {
        Ok(y)
    } else {
        Ok(Tensor::cat(&[&y, &x.narrow(D::Minus1, 2 * cols, all - 2 * cols)?], D::Minus1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn pairs_turn_and_so_do_their_gradients_back() -> Result<()> {
        let angle = Tensor::randn(0f32, 2f32, (3, 4), &Device::Cpu)?;
        let (cos, sin) = (angle.cos()?, angle.sin()?);
        for cols in [8, 11] {
            let x = Var::from_tensor(&Tensor::randn(0f32, 1f32, (2, 3, cols), &Device::Cpu)?)?;
            let y = rope_interleaved(&x, &cos, &sin)?;
            let (rows, turned) = (x.as_tensor().to_vec3::<f32>()?, y.to_vec3::<f32>()?);
            let (c, s) = (cos.to_vec2::<f32>()?, sin.to_vec2::<f32>()?);
            for (h, p, j) in (0..2).flat_map(|h| (0..3).flat_map(move |p| (0..4).map(move |j| (h, p, j)))) {
                let (a, b) = (rows[h][p][2 * j], rows[h][p][2 * j + 1]);
                assert!((turned[h][p][2 * j] - (a * c[p][j] - b * s[p][j])).abs() < 1e-5);
                assert!((turned[h][p][2 * j + 1] - (a * s[p][j] + b * c[p][j])).abs() < 1e-5);
            }
            let weights = Tensor::randn(0f32, 1f32, (2, 3, cols), &Device::Cpu)?;
            let g = (y * &weights)?.sum_all()?.backward()?;
            let back = rope_interleaved(&weights, &cos, &sin.neg()?)?;
            let off = (g.get(&x).expect("a gradient") - back)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 1e-6, "{cols} columns: off by {off}");
        }
        Ok(())
    }
}
