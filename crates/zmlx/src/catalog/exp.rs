//! exp: y = eˣ
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved; ≤ 2 ulp in f32.
//! Source: Cephes-style argument reduction with a minimax polynomial.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `exp`.
pub static ENTRY: Entry = Entry {
    name: "exp",
    summary: "exp(x)",
    formula: "exp(x)",
    zmlx: &["activations.exp", "activations.exp_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].exp()?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// eˣ, elementwise.
pub fn exp(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
