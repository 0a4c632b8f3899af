//! RMSNorm: y = x / sqrt(mean(x²) + eps) · w
//!
//! | name | shape   | dtype            | note                  |
//! |------|---------|------------------|-----------------------|
//! | x    | [.., C] | f16 bf16 f32 f64 |                       |
//! | w    | [C]     | a float          |                       |
//! | y    | [.., C] | as x             | sums in f32 or better |
//! Cost: 2·N elements moved.
//! Source: arXiv:1910.07467, equation 4. eps is inside the root, in units of x².

use crate::{
    Error, Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `rms_norm`.
pub static ENTRY: Entry = Entry {
    name: "rms_norm",
    summary: "x * rsqrt(mean(x * x) + eps) * w",
    formula: "x * rsqrt(mean(x * x) + eps) * w",
    zmlx: &["norms.rmsnorm", "norms.rmsnorm_grad", "linear.fused_linear_rmsnorm"],
    args: &[Arg::full("x"), Arg::col("w")],
    uniforms: &[("eps", Scalar::Float(1e-5))],
    fallback: |t, u| {
        let y = (super::rms_norm_no_weight::ENTRY.fallback)(&t[..1], u)?;
        Ok(vec![y[0].broadcast_mul(&t[1])?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// RMSNorm over the last dimension, with weight `w` and `eps` in units of x².
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    ENTRY.run1(&[x, w], &[eps.into()])
}

/// RMSNorm of x·wᵀ with weight `gamma`: candle's matrix product, then this kernel. `x` is `[.., K]`, `w` `[N, K]`.
pub fn linear_rms_norm(x: &Tensor, w: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    if w.dims().first().is_some_and(|n| gamma.dims() != [*n]) {
        return Err(Error::shape(
            "linear_rms_norm",
            "gamma",
            format!("[{}] of w {:?}", w.dims()[0], w.dims()),
            gamma.dims(),
        ));
    }
    rms_norm(&super::bias_silu::linear(x, w)?, gamma, eps)
}
