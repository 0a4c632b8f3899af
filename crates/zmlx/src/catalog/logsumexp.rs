//! Log-sum-exp along the last dimension: y = log Σ exp(x)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [..]    | as x             |      |
//! Cost: N elements moved.
//! Source: the definition, shifted by the row's maximum; a row of −∞ gives −∞.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `logsumexp`.
pub static ENTRY: Entry = Entry {
    name: "logsumexp",
    summary: "log(sum(exp(x)))",
    formula: "logsumexp(x)",
    zmlx: &["attention.logsumexp_lastdim"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let m = t[0].max_keepdim(D::Minus1)?;
        let s = t[0].broadcast_sub(&m)?.exp()?.sum_keepdim(D::Minus1)?.log()?;
        Ok(vec![(s + m)?.squeeze(D::Minus1)?])
    },
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// log Σ exp(x) along the last dimension.
pub fn logsumexp(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
