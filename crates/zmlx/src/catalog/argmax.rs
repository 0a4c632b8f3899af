//! Column of the maximum along the last dimension
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

/// What the catalog knows of `argmax`.
pub static ENTRY: Entry = Entry {
    name: "argmax",
    summary: "argmax(x)",
    formula: "argmax(x)",
    zmlx: &["reductions.argmax_lastdim"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].argmax(D::Minus1)?]),
    gradient: Gradient::None("a column is not differentiated"),
    moves: 1.0,
    cell: OnceLock::new(),
};

/// Column of the first largest element along the last dimension.
pub fn argmax(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
