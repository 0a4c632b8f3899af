//! Minimum along the last dimension
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [..]    | as x             |      |
//! Cost: N elements moved.
//! Source: the definition; NaN is smaller than all. The first of equals has the gradient.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `min`.
pub static ENTRY: Entry = Entry {
    name: "min",
    summary: "min(x)",
    formula: "min(x)",
    zmlx: &[],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let at = t[0].argmin_keepdim(D::Minus1)?;
        Ok(vec![t[0].gather(&at, D::Minus1)?.squeeze(D::Minus1)?])
    },
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// Minimum along the last dimension.
pub fn min(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
