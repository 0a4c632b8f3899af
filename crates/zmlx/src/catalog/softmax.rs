//! Softmax along the last dimension: y = exp(x − max x) / Σ exp(x − max x)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1805.02867 for the two-pass form. A row of −∞ gives NaN, as in PyTorch.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `softmax`.
pub static ENTRY: Entry = Entry {
    name: "softmax",
    summary: "exp(x - max(x)) / sum(exp(x - max(x)))",
    formula: "let e = exp(x - max(x)); e / sum(e)",
    zmlx: &["softmax.softmax_lastdim", "softmax.softmax_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let e = t[0].broadcast_sub(&t[0].max_keepdim(D::Minus1)?)?.exp()?;
        Ok(vec![e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Softmax along the last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
