//! Bias and GELU (tanh form) in one pass: y = gelu(x + b)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | b    | [C]     | a float          |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1606.08415.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `bias_gelu`.
pub static ENTRY: Entry = Entry {
    name: "bias_gelu",
    summary: "gelu(x + b)",
    formula: "gelu(x + b)",
    zmlx: &["fused.bias_gelu_tanh", "linear.fused_linear_bias_gelu"],
    args: &[Arg::full("x"), Arg::col("b")],
    uniforms: &[],
    fallback: |t, _| {
        let x = (super::add_bias::ENTRY.fallback)(t, &[])?;
        (super::gelu::ENTRY.fallback)(&x, &[])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// gelu(x + b), the bias `b` along the last dimension, gelu in its tanh form.
pub fn bias_gelu(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, b], &[])
}

/// gelu(x·wᵀ + b), the tanh form: candle's matrix product, then this kernel. `x` is `[.., K]`, `w` `[N, K]`, `b` `[N]`.
pub fn linear_bias_gelu(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    bias_gelu(&super::bias_silu::linear(x, w)?, b)
}
