//! LayerNorm: y = (x − mean x) / sqrt(var x + eps) · w + b
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | w    | [C]     | a float          |      |
//! | b    | [C]     | a float          |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1607.06450. The variance is taken of x − mean, so no digits cancel.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `layer_norm`.
pub static ENTRY: Entry = Entry {
    name: "layer_norm",
    summary: "(x - mean(x)) * rsqrt(var(x) + eps) * w + b",
    formula: "let d = x - mean(x); d * rsqrt(mean(d * d) + eps) * w + b",
    zmlx: &["norms.layernorm"],
    args: &[Arg::full("x"), Arg::col("w"), Arg::col("b")],
    uniforms: &[("eps", Scalar::Float(1e-5))],
    fallback: |t, u| {
        let y = (super::layer_norm_no_weight::ENTRY.fallback)(&t[..1], u)?;
        Ok(vec![y[0].broadcast_mul(&t[1])?.broadcast_add(&t[2])?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// LayerNorm over the last dimension, with weight `w`, bias `b` and `eps` in units of x².
pub fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    ENTRY.run1(&[x, w, b], &[eps.into()])
}
