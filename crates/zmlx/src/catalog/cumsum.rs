//! Inclusive running sum along the last dimension
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition; floats are summed in f64 on CPU.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `cumsum`.
pub static ENTRY: Entry = Entry {
    name: "cumsum",
    summary: "cumsum(x)",
    formula: "cumsum(x)",
    zmlx: &["scan.cumsum_lastdim", "scan.cumsum_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].cumsum(D::Minus1)?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Running sum along the last dimension.
pub fn cumsum(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
