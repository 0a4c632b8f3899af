//! Mish: y = x·tanh(softplus(x))
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1908.08681.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `mish`.
pub static ENTRY: Entry = Entry {
    name: "mish",
    summary: "x * tanh(log(1 + exp(x)))",
    formula: "x * tanh(softplus(x))",
    zmlx: &["activations.mish", "activations.mish_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        // log(1 + e^x) as max(x, 0) + log(1 + e^-|x|), which does not overflow
        let soft = (t[0].relu()? + (t[0].abs()?.neg()?.exp()? + 1.0)?.log()?)?;
        Ok(vec![(&t[0] * soft.tanh()?)?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Mish, elementwise.
pub fn mish(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
