//! GELU, tanh form: y = ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1606.08415.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `gelu`.
pub static ENTRY: Entry = Entry {
    name: "gelu",
    summary: "0.5x(1 + tanh(0.79788456(x + 0.044715x³)))",
    formula: "gelu(x)",
    zmlx: &["activations.gelu_tanh", "activations.gelu_tanh_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let inner = ((&t[0] + (t[0].powf(3.0)? * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
        Ok(vec![(((inner.tanh()? + 1.0)? * &t[0])? * 0.5)?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// GELU in its tanh form, elementwise.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
