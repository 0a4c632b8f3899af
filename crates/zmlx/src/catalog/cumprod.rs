//! Inclusive running product along the last dimension
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition; floats are multiplied in f64 on CPU.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, Values},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `cumprod`.
pub static ENTRY: Entry = Entry {
    name: "cumprod",
    summary: "cumprod(x)",
    formula: "cumprod(x)",
    zmlx: &[],
    args: &[Arg::full("x").of(Values::Range(0.5, 1.5))],
    uniforms: &[],
    fallback: |t, _| {
        let (mut at, mut all) = (t[0].narrow(D::Minus1, 0, t[0].dim(D::Minus1)?.min(1))?, vec![]);
        for k in 0..t[0].dim(D::Minus1)? {
            if k > 0 {
                at = (at * t[0].narrow(D::Minus1, k, 1)?)?;
            }
            all.push(at.clone());
        }
        Ok(vec![if all.is_empty() { at } else { Tensor::cat(&all, D::Minus1)? }])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Running product along the last dimension.
pub fn cumprod(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
