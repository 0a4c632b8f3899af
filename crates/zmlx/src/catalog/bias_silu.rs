//! Bias and SiLU in one pass: y = silu(x + b)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | b    | [C]     | a float          |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1702.03118.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `bias_silu`.
pub static ENTRY: Entry = Entry {
    name: "bias_silu",
    summary: "silu(x + b)",
    formula: "silu(x + b)",
    zmlx: &["fused.bias_silu"],
    args: &[Arg::full("x"), Arg::col("b")],
    uniforms: &[],
    fallback: |t, _| {
        let x = (super::add_bias::ENTRY.fallback)(t, &[])?;
        (super::silu::ENTRY.fallback)(&x, &[])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// silu(x + b), the bias `b` along the last dimension.
pub fn bias_silu(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, b], &[])
}
