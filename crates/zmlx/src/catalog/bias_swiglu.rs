//! Bias and SwiGLU in one pass: y = silu(gate + b)·(up + c), where x holds gate and up side by side
//!
//! | name | shape     | dtype            | note                    |
//! |------|-----------|------------------|-------------------------|
//! | x    | [.., 2·C] | f16 bf16 f32 f64 | gate, then up           |
//! | bias | [2·C]     | a float          | of the gate, then of up |
//! | y    | [.., C]   | as x             |                         |
//! Cost: 3·N elements moved.
//! Source: arXiv:2002.05202.

use super::swiglu::halves;
use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `bias_swiglu`.
pub static ENTRY: Entry = Entry {
    name: "bias_swiglu",
    summary: "silu(gate + b) * (up + c)",
    formula: "silu(gate + b) * (up + c)",
    zmlx: &["transformer.bias_swiglu"],
    args: &[Arg::full("gate"), Arg::full("up"), Arg::col("b"), Arg::col("c")],
    uniforms: &[],
    fallback: |t, _| {
        let (gate, up) = (t[0].broadcast_add(&t[2])?, t[1].broadcast_add(&t[3])?);
        (super::swiglu::ENTRY.fallback)(&[gate, up], &[])
    },
    gradient: Gradient::Derived,
    moves: 3.0,
    cell: OnceLock::new(),
};

/// silu(gate + b)·(up + c) of `x`, whose last dimension holds gate and up side by side, and of `bias`, which holds b and c.
pub fn bias_swiglu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let ((gate, up), (b, c)) = (halves("bias_swiglu", "x", x)?, halves("bias_swiglu", "bias", bias)?);
    ENTRY.run1(&[&gate, &up, &b, &c], &[])
}
