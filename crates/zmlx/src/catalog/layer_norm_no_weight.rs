//! LayerNorm without weight and bias: y = (x − mean x) / sqrt(var x + eps)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1607.06450. The variance is taken of x − mean, so no digits cancel.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, float},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `layer_norm_no_weight`.
pub static ENTRY: Entry = Entry {
    name: "layer_norm_no_weight",
    summary: "(x - mean(x)) * rsqrt(var(x) + eps)",
    formula: "let d = x - mean(x); d * rsqrt(mean(d * d) + eps)",
    zmlx: &["norms.layer_norm_no_weight"],
    args: &[Arg::full("x")],
    uniforms: &[("eps", Scalar::Float(1e-5))],
    fallback: |t, u| {
        let d = t[0].broadcast_sub(&t[0].mean_keepdim(D::Minus1)?)?;
        let r = ((d.sqr()?.mean_keepdim(D::Minus1)? + float(u[0]))?.sqrt()?).recip()?;
        Ok(vec![d.broadcast_mul(&r)?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// LayerNorm over the last dimension, with `eps` in units of x².
pub fn layer_norm_no_weight(x: &Tensor, eps: f64) -> Result<Tensor> {
    ENTRY.run1(&[x], &[eps.into()])
}
