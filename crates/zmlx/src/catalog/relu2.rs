//! Squared ReLU: y = max(x, 0)²
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:2109.08668.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `relu2`.
pub static ENTRY: Entry = Entry {
    name: "relu2",
    summary: "max(x, 0)^2",
    formula: "let r = relu(x); r * r",
    zmlx: &["activations.relu2", "activations.relu2_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].relu()?.sqr()?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// max(x, 0)², elementwise.
pub fn relu2(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
