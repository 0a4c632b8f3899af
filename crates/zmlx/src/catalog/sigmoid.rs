//! Logistic sigmoid: y = 1 / (1 + e⁻ˣ)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition, arranged so that neither side overflows.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `sigmoid`.
pub static ENTRY: Entry = Entry {
    name: "sigmoid",
    summary: "1 / (1 + exp(-x))",
    formula: "sigmoid(x)",
    zmlx: &["activations.sigmoid", "activations.sigmoid_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![(t[0].neg()?.exp()? + 1.0)?.recip()?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// The logistic function, elementwise.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
