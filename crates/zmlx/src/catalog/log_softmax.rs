//! Log-softmax along the last dimension: y = x − max x − log Σ exp(x − max x)
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
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `log_softmax`.
pub static ENTRY: Entry = Entry {
    name: "log_softmax",
    summary: "x - max(x) - log(sum(exp(x - max(x))))",
    formula: "let d = x - max(x); d - log(sum(exp(d)))",
    zmlx: &["softmax.log_softmax_lastdim"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let d = t[0].broadcast_sub(&t[0].max_keepdim(D::Minus1)?)?;
        Ok(vec![d.broadcast_sub(&d.exp()?.sum_keepdim(D::Minus1)?.log()?)?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Log-softmax along the last dimension.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
