//! Column of the minimum along the last dimension
//!
//! | name | shape   | dtype            | note      |
//! |------|---------|------------------|-----------|
//! | x    | [.., C] | f16 bf16 f32 f64 |           |
//! | y    | [..]    | u32              | 0 ≤ y < C |
//! Cost: N elements moved.
//! Source: the definition; the first of equals, the first NaN before all.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `argmin`.
pub static ENTRY: Entry = Entry {
    name: "argmin",
    summary: "argmin(x)",
    formula: "argmin(x)",
    zmlx: &[],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].argmin(D::Minus1)?]),
    gradient: Gradient::None("a column is not differentiated"),
    moves: 1.0,
    cell: OnceLock::new(),
};

/// Column of the first smallest element along the last dimension.
pub fn argmin(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
