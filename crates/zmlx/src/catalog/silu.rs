//! SiLU (swish): y = x·σ(x)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1702.03118.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `silu`.
pub static ENTRY: Entry = Entry {
    name: "silu",
    summary: "x * sigmoid(x)",
    formula: "silu(x)",
    zmlx: &["activations.silu", "activations.silu_grad"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![(&t[0] * (t[0].neg()?.exp()? + 1.0)?.recip()?)?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// x·σ(x), elementwise.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
