//! Running maximum along the last dimension
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: the definition; NaN propagates.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `cummax`.
pub static ENTRY: Entry = Entry {
    name: "cummax",
    summary: "cummax(x)",
    formula: "cummax(x)",
    zmlx: &[],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| {
        let (mut at, mut all) = (t[0].narrow(D::Minus1, 0, t[0].dim(D::Minus1)?.min(1))?, vec![]);
        for k in 0..t[0].dim(D::Minus1)? {
            // the gradient of candle's maximum is shared by equals
            let next = t[0].narrow(D::Minus1, k, 1)?;
            at = at.ge(&next)?.where_cond(&at, &next)?;
            all.push(at.clone());
        }
        Ok(vec![if all.is_empty() { at } else { Tensor::cat(&all, D::Minus1)? }])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Running maximum along the last dimension.
pub fn cummax(x: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x], &[])
}
