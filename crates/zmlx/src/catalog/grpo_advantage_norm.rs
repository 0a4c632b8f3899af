//! Advantages of a group of rewards: y = (r − mean r) / sqrt(var r + eps)
//!
//! | name | shape  | dtype            | note                   |
//! |------|--------|------------------|------------------------|
//! | r    | [P, G] | f16 bf16 f32 f64 | rewards, a group a row |
//! | y    | [P, G] | as r             |                        |
//! Cost: 2·N elements moved.
//! Source: arXiv:2402.03300, section 4.1; eps is inside the root, and the variance is taken of r − mean, so no digits cancel.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `grpo_advantage_norm`.
pub static ENTRY: Entry = Entry {
    name: "grpo_advantage_norm",
    summary: "(r - mean(r)) * rsqrt(var(r) + eps)",
    formula: "let d = r - mean(r); d * rsqrt(mean(d * d) + eps)",
    zmlx: &["vlsp.grpo_advantage_norm"],
    args: &[Arg::full("r")],
    uniforms: &[("eps", Scalar::Float(1e-6))],
    fallback: |t, u| (super::layer_norm_no_weight::ENTRY.fallback)(t, u),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Rewards of each group (the last dimension), shifted to mean 0 and scaled to variance 1.
pub fn grpo_advantage_norm(r: &Tensor, eps: f64) -> Result<Tensor> {
    ENTRY.run1(&[r], &[eps.into()])
}
