//! Population standard deviation along the last dimension: y = sqrt(var x + eps)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [..]    | as x             |      |
//! Cost: N elements moved.
//! Source: the definition, the variance in two passes; eps in units of x², 0 for the plain one.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, float},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `std`.
pub static ENTRY: Entry = Entry {
    name: "std",
    summary: "sqrt(var(x) + eps)",
    formula: "sqrt(var(x) + eps)",
    zmlx: &["reductions.std_lastdim"],
    args: &[Arg::full("x")],
    uniforms: &[("eps", Scalar::Float(1e-6))],
    fallback: |t, u| {
        let var = (super::var::ENTRY.fallback)(t, &[])?;
        Ok(vec![(&var[0] + float(u[0]))?.sqrt()?])
    },
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// sqrt(var x + eps) along the last dimension, with `eps` in units of x².
pub fn std(x: &Tensor, eps: f64) -> Result<Tensor> {
    ENTRY.run1(&[x], &[eps.into()])
}
