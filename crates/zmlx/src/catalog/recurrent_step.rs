//! A gated step of a recurrent state: y = h + alpha·silu(RMSNorm(h)·w)·gate
//!
//! | name | shape   | dtype            | note               |
//! |------|---------|------------------|--------------------|
//! | h    | [.., C] | f16 bf16 f32 f64 | state              |
//! | w    | [C]     | a float          | weight of the norm |
//! | gate | [.., C] | as h             |                    |
//! | y    | [.., C] | as h             |                    |
//! Cost: 3·N elements moved.
//! Source: ZMLX's vlsp.fused_recurrent_step, with a gradient.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, float},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `recurrent_step`.
pub static ENTRY: Entry = Entry {
    name: "recurrent_step",
    summary: "h + alpha * silu(h * rsqrt(mean(h * h) + eps) * w) * gate",
    formula: "h + alpha * silu(h * rsqrt(mean(h * h) + eps) * w) * gate",
    zmlx: &["vlsp.fused_recurrent_step"],
    args: &[Arg::full("h"), Arg::col("w"), Arg::full("gate")],
    uniforms: &[("alpha", Scalar::Float(0.1)), ("eps", Scalar::Float(1e-6))],
    fallback: |t, u| {
        let y = (super::rms_norm::ENTRY.fallback)(&t[..2], &u[1..])?;
        let y = (super::swiglu::ENTRY.fallback)(&[y[0].clone(), t[2].clone()], &[])?;
        Ok(vec![(&t[0] + (&y[0] * float(u[0]))?)?])
    },
    gradient: Gradient::Derived,
    moves: 3.0,
    cell: OnceLock::new(),
};

/// h + alpha·silu(RMSNorm(h)·w)·gate, with `eps` in units of h².
pub fn recurrent_step(h: &Tensor, w: &Tensor, gate: &Tensor, alpha: f64, eps: f64) -> Result<Tensor> {
    ENTRY.run1(&[h, w, gate], &[alpha.into(), eps.into()])
}
