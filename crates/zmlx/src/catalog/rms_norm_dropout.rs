//! RMSNorm and dropout in one pass
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | w    | [C]     | a float          |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved; the gradient makes the mask again instead of storing it.
//! Source: arXiv:1910.07467, arXiv:1207.0580; the mask is that of `dropout` with the same seed.

use super::dropout::check_probability;
use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `rms_norm_dropout`.
pub static ENTRY: Entry = Entry {
    name: "rms_norm_dropout",
    summary: "dropout(x * rsqrt(mean(x * x) + eps) * w)",
    formula: "let y = x * rsqrt(mean(x * x) + eps) * w; rand(seed) < p ? 0 : y / (1 - p)",
    zmlx: &["transformer.rms_norm_dropout"],
    args: &[Arg::full("x"), Arg::col("w")],
    uniforms: &[("eps", Scalar::Float(1e-5)), ("p", Scalar::Float(0.5)), ("seed", Scalar::Int(42))],
    fallback: |t, u| {
        let y = (super::rms_norm::ENTRY.fallback)(t, &u[..1])?;
        (super::dropout::ENTRY.fallback)(&y, &u[1..])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Dropout with probability `0 ≤ p < 1` of the RMSNorm of `x` with weight `w`.
pub fn rms_norm_dropout(x: &Tensor, w: &Tensor, eps: f64, p: f64, seed: i64) -> Result<Tensor> {
    check_probability("rms_norm_dropout", p)?;
    ENTRY.run1(&[x, w], &[eps.into(), p.into(), seed.into()])
}
