//! Natural logarithm: y = log x
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition; log(0) = −∞, of negative numbers NaN.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `log`.
pub static ENTRY: Entry = Entry {
    name: "log",
    summary: "log(x)",
    formula: "log(x)",
    zmlx: &["activations.log"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| Ok(vec![t[0].log()?]),
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Natural logarithm, elementwise.
pub fn log(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
