//! Residual addition and RMSNorm in one pass: h = x + r, y = RMSNorm(h)
//!
//! | name     | shape   | dtype            | note                             |
//! |----------|---------|------------------|----------------------------------|
//! | x        | [.., C] | f16 bf16 f32 f64 |                                  |
//! | r        | [.., C] | as x             |                                  |
//! | w        | [C]     | a float          |                                  |
//! | y        | [.., C] | as x             |                                  |
//! | residual | [.., C] | as x             | x + r, rounded at its store only |
//! Cost: 4·N elements moved.
//! Source: arXiv:1910.07467; the sum is normalised before it is rounded.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `rms_norm_residual`.
pub static ENTRY: Entry = Entry {
    name: "rms_norm_residual",
    summary: "h = x + r; h * rsqrt(mean(h * h) + eps) * w",
    formula: "let h = x + r; out y = h * rsqrt(mean(h * h) + eps) * w; out residual = h",
    zmlx: &["transformer.rmsnorm_residual", "transformer.residual_rmsnorm", "transformer.fused_add_rmsnorm"],
    args: &[Arg::full("x"), Arg::full("r"), Arg::col("w")],
    uniforms: &[("eps", Scalar::Float(1e-5))],
    fallback: |t, u| {
        let h = (&t[0] + &t[1])?;
        let y = (super::rms_norm::ENTRY.fallback)(&[h.clone(), t[2].clone()], u)?;
        Ok(vec![y[0].clone(), h])
    },
    gradient: Gradient::Derived,
    moves: 4.0,
    cell: OnceLock::new(),
};

/// RMSNorm(x + r)·w and x + r, both gradients included.
pub fn rms_norm_residual(x: &Tensor, r: &Tensor, w: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let mut all = ENTRY.run(&[x, r, w], &[eps.into()])?;
    let residual = all.swap_remove(1);
    Ok((all.swap_remove(0), residual))
}
