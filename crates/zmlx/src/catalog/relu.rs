//! ReLU: y = max(x, 0)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition; the gradient at 0 is 0, NaN stays NaN.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `relu`.
pub static ENTRY: Entry = Entry {
    name: "relu",
    summary: "max(x, 0)",
    formula: "relu(x)",
    zmlx: &["activations.relu", "activations.relu_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].relu()?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// max(x, 0), elementwise.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
