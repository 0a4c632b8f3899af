//! GELU, exact form: y = ½x(1 + erf(x/√2))
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1606.08415.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `gelu_erf`.
pub static ENTRY: Entry = Entry {
    name: "gelu_erf",
    summary: "0.5x(1 + erf(x / √2))",
    formula: "gelu_erf(x)",
    zmlx: &[],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let erf = (&t[0] * std::f64::consts::FRAC_1_SQRT_2)?.erf()?;
        Ok(vec![(((erf + 1.0)? * &t[0])? * 0.5)?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// GELU in its exact form, elementwise.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
