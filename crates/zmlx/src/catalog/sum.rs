//! Sum along the last dimension
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [..]    | as x             |      |
//! Cost: N elements moved.
//! Source: on CPU floats are summed in f64, eight at a time in f32.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `sum`.
pub static ENTRY: Entry = Entry {
    name: "sum",
    summary: "sum(x)",
    formula: "sum(x)",
    zmlx: &["reductions.sum_lastdim"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].sum(D::Minus1)?]),
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// Sum along the last dimension.
pub fn sum(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
