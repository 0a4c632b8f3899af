//! LayerNorm and dropout in one pass
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | w    | [C]     | a float          |      |
//! | b    | [C]     | a float          |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved; the gradient makes the mask again instead of storing it.
//! Source: arXiv:1607.06450, arXiv:1207.0580; the mask is that of `dropout` with the same seed.

use super::dropout::check_probability;
use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `layer_norm_dropout`.
pub static ENTRY: Entry = Entry {
    name: "layer_norm_dropout",
    summary: "dropout((x - mean(x)) * rsqrt(var(x) + eps) * w + b)",
    formula: "let d = x - mean(x); \
              let y = d * rsqrt(mean(d * d) + eps) * w + b; \
              rand(seed) < p ? 0 : y / (1 - p)",
    zmlx: &["transformer.layer_norm_dropout"],
    args: &[Arg::full("x"), Arg::col("w"), Arg::col("b")],
    uniforms: &[("eps", Scalar::Float(1e-5)), ("p", Scalar::Float(0.5)), ("seed", Scalar::Int(42))],
    fallback: |t, u| {
        let y = (super::layer_norm::ENTRY.fallback)(t, &u[..1])?;
        (super::dropout::ENTRY.fallback)(&y, &u[1..])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Dropout with probability `0 ≤ p < 1` of the LayerNorm of `x` with weight `w` and bias `b`.
pub fn layer_norm_dropout(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64, p: f64, seed: i64) -> Result<Tensor> {
    check_probability("layer_norm_dropout", p)?;
    ENTRY.run1(&[x, w, b], &[eps.into(), p.into(), seed.into()])
}
