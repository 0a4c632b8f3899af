//! Multiplication: y = a · b
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | a    | [.., C] | f16 bf16 f32 f64 |      |
//! | b    | [.., C] | as a             |      |
//! | y    | [.., C] | as a             |      |
//! Cost: 3·N elements moved.
//! Source: the definition.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `mul`.
pub static ENTRY: Entry = Entry {
    name: "mul",
    summary: "a * b",
    formula: "a * b",
    zmlx: &["fused.mul"],
    args: &[Arg::full("a"), Arg::full("b")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![(&t[0] * &t[1])?]),
    gradient: Gradient::Derived,
    moves: 3.0,
    cell: OnceLock::new(),
};

/// a · b, elementwise, broadcast by candle's rules.
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[a, b], &[])
}
