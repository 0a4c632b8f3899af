//! Population variance along the last dimension: y = mean((x − mean x)²)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [..]    | as x             |      |
//! Cost: N elements moved.
//! Source: two passes over the row, so that no digits cancel.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `var`.
pub static ENTRY: Entry = Entry {
    name: "var",
    summary: "mean((x - mean(x))^2)",
    formula: "var(x)",
    zmlx: &["reductions.var_lastdim"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let d = t[0].broadcast_sub(&t[0].mean_keepdim(D::Minus1)?)?;
        Ok(vec![d.sqr()?.mean(D::Minus1)?])
    },
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// Population variance along the last dimension.
pub fn var(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
