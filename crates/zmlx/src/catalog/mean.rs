//! Mean along the last dimension
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [..]    | as x             |      |
//! Cost: N elements moved.
//! Source: the definition.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `mean`.
pub static ENTRY: Entry = Entry {
    name: "mean",
    summary: "mean(x)",
    formula: "mean(x)",
    zmlx: &["reductions.mean_lastdim"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].mean(D::Minus1)?]),
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// Mean along the last dimension.
pub fn mean(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
