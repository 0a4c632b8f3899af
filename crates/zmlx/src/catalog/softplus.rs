//! Softplus: y = log(1 + eˣ)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition, as max(x, 0) + log1p(exp(−|x|)): softplus(89) = 89.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `softplus`.
pub static ENTRY: Entry = Entry {
    name: "softplus",
    summary: "log(1 + exp(x))",
    formula: "softplus(x)",
    zmlx: &["activations.softplus", "activations.softplus_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let tail = (t[0].abs()?.neg()?.exp()? + 1.0)?.log()?;
        Ok(vec![(t[0].relu()? + tail)?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// log(1 + eˣ), elementwise, without overflow.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
