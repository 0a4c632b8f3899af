//! GeGLU: y = gelu(gate)·up, gelu in its tanh form
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | gate | [.., C] | f16 bf16 f32 f64 |      |
//! | up   | [.., C] | as gate          |      |
//! | y    | [.., C] | as gate          |      |
//! Cost: 3·N elements moved.
//! Source: arXiv:2002.05202.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `geglu`.
pub static ENTRY: Entry = Entry {
    name: "geglu",
    summary: "gelu(gate) * up",
    formula: "gelu(gate) * up",
    zmlx: &["transformer.geglu", "transformer.geglu2"],
    args: &[Arg::full("gate"), Arg::full("up")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![(&(super::gelu::ENTRY.fallback)(&t[..1], &[])?[0] * &t[1])?]),
    gradient: Gradient::Derived,
    moves: 3.0,
    cell: OnceLock::new(),
};

/// gelu(gate)·up, elementwise, gelu in its tanh form.
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[gate, up], &[])
}

/// gelu(gate)·up of `x`, whose last dimension holds gate and up side by side.
pub fn geglu_packed(x: &Tensor) -> Result<Tensor> {
    let (gate, up) = super::swiglu::halves("geglu_packed", "x", x)?;
    geglu(&gate, &up)
}
