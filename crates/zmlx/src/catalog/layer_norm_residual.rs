//! Residual addition and LayerNorm in one pass: h = x + r, y = LayerNorm(h)
//!
//! | name     | shape   | dtype            | note                             |
//! |----------|---------|------------------|----------------------------------|
//! | x        | [.., C] | f16 bf16 f32 f64 |                                  |
//! | r        | [.., C] | as x             |                                  |
//! | w        | [C]     | a float          |                                  |
//! | b        | [C]     | a float          |                                  |
//! | y        | [.., C] | as x             |                                  |
//! | residual | [.., C] | as x             | x + r, rounded at its store only |
//! Cost: 4·N elements moved.
//! Source: arXiv:1607.06450; the sum is normalised before it is rounded.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `layer_norm_residual`.
pub static ENTRY: Entry = Entry {
    name: "layer_norm_residual",
    summary: "h = x + r; (h - mean(h)) * rsqrt(var(h) + eps) * w + b",
    formula: "let h = x + r; \
              let d = h - mean(h); \
              out y = d * rsqrt(mean(d * d) + eps) * w + b; \
              out residual = h",
    zmlx: &["transformer.layernorm_residual", "transformer.fused_add_layernorm"],
    args: &[Arg::full("x"), Arg::full("r"), Arg::col("w"), Arg::col("b")],
    uniforms: &[("eps", Scalar::Float(1e-5))],
    fallback: |t, u| {
        let h = (&t[0] + &t[1])?;
        let y = (super::layer_norm::ENTRY.fallback)(&[h.clone(), t[2].clone(), t[3].clone()], u)?;
        Ok(vec![y[0].clone(), h])
    },
    gradient: Gradient::Derived,
    moves: 4.0,
    cell: OnceLock::new(),
};

/// LayerNorm(x + r)·w + b and x + r, both gradients included.
pub fn layer_norm_residual(x: &Tensor, r: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let mut all = ENTRY.run(&[x, r, w, b], &[eps.into()])?;
    let residual = all.swap_remove(1);
    Ok((all.swap_remove(0), residual))
}
