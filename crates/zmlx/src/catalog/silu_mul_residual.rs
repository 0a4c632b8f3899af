//! SwiGLU and a residual in one pass: y = silu(gate)·up + r
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | gate | [.., C] | f16 bf16 f32 f64 |      |
//! | up   | [.., C] | as gate          |      |
//! | r    | [.., C] | as gate          |      |
//! | y    | [.., C] | as gate          |      |
//! Cost: 4·N elements moved.
//! Source: arXiv:2002.05202.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `silu_mul_residual`.
pub static ENTRY: Entry = Entry {
    name: "silu_mul_residual",
    summary: "silu(gate) * up + r",
    formula: "silu(gate) * up + r",
    zmlx: &["vlsp.silu_mul_residual"],
    args: &[Arg::full("gate"), Arg::full("up"), Arg::full("r")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![(&(super::swiglu::ENTRY.fallback)(&t[..2], &[])?[0] + &t[2])?]),
    gradient: Gradient::Derived,
    moves: 4.0,
    cell: OnceLock::new(),
};

/// silu(gate)·up + r, elementwise.
pub fn silu_mul_residual(gate: &Tensor, up: &Tensor, r: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[gate, up, r], &[])
}
