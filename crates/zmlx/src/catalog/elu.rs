//! ELU: y = x where x > 0, else α(eˣ − 1)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1511.07289, with expm1: elu(−1e-8) keeps its digits.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, float},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `elu`.
pub static ENTRY: Entry = Entry {
    name: "elu",
    summary: "x > 0 ? x : alpha * (exp(x) - 1)",
    formula: "x > 0 ? x : alpha * expm1(x)",
    zmlx: &["activations.elu", "activations.elu_grad"],
    args: &[Arg::full("x")],
    uniforms: &[("alpha", Scalar::Float(1.0))],
    fallback: |t, u| Ok(vec![t[0].elu(float(u[0]))?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// ELU, elementwise.
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    ENTRY.run1(&[x], &[alpha.into()])
}
