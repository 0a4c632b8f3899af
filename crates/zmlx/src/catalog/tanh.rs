//! Hyperbolic tangent: y = tanh x
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `tanh`.
pub static ENTRY: Entry = Entry {
    name: "tanh",
    summary: "tanh(x)",
    formula: "tanh(x)",
    zmlx: &["activations.tanh", "activations.tanh_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].tanh()?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Hyperbolic tangent, elementwise.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
