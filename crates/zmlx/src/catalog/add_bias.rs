//! Addition of a bias: y = x + b
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | b    | [C]     | a float          |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `add_bias`.
pub static ENTRY: Entry = Entry {
    name: "add_bias",
    summary: "x + b",
    formula: "x + b",
    zmlx: &["fused.add_bias"],
    args: &[Arg::full("x"), Arg::col("b")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].broadcast_add(&t[1])?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// x + b, the bias `b` along the last dimension.
pub fn add_bias(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, b], &[])
}
