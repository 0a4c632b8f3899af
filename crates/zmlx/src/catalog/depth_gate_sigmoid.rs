//! A gate that chooses a depth: y = k_max·σ(x)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: ZMLX's vlsp.depth_gate_sigmoid; rounding is left to the caller.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, float},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `depth_gate_sigmoid`.
pub static ENTRY: Entry = Entry {
    name: "depth_gate_sigmoid",
    summary: "k_max * sigmoid(x)",
    formula: "k_max * sigmoid(x)",
    zmlx: &["vlsp.depth_gate_sigmoid"],
    args: &[Arg::full("x")],
    uniforms: &[("k_max", Scalar::Float(8.0))],
    fallback: |t, u| Ok(vec![(&(super::sigmoid::ENTRY.fallback)(t, &[])?[0] * float(u[0]))?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// k_max·σ(x), elementwise.
pub fn depth_gate_sigmoid(x: &Tensor, k_max: f64) -> Result<Tensor> {
    ENTRY.run1(&[x], &[k_max.into()])
}
