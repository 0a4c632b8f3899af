//! SwiGLU: y = silu(gate)·up
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
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `swiglu`.
pub static ENTRY: Entry = Entry {
    name: "swiglu",
    summary: "silu(gate) * up",
    formula: "silu(gate) * up",
    zmlx: &["transformer.swiglu", "transformer.swiglu2", "fused.silu_mul_grad"],
    args: &[Arg::full("gate"), Arg::full("up")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![(&(super::silu::ENTRY.fallback)(&t[..1], &[])?[0] * &t[1])?]),
    gradient: Gradient::Derived,
    moves: 3.0,
    cell: OnceLock::new(),
};

/// silu(gate)·up, elementwise.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[gate, up], &[])
}

/// silu(gate)·up of `x`, whose last dimension holds gate and up side by side.
pub fn swiglu_packed(x: &Tensor) -> Result<Tensor> {
    let (gate, up) = halves("swiglu_packed", "x", x)?;
    swiglu(&gate, &up)
}

/// Both halves of the last dimension, as views.
pub(super) fn halves(op: &str, what: &str, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let last = x.dims().last().copied().unwrap_or(1);
    if last % 2 != 0 {
        return Err(crate::Error::Argument {
            op: op.into(),
            what: what.into(),
            expected: "an even last dimension, the halves side by side".into(),
            got: format!("shape {:?}", x.dims()),
        });
    }
    Ok((x.narrow(D::Minus1, 0, last / 2)?, x.narrow(D::Minus1, last / 2, last / 2)?))
}
