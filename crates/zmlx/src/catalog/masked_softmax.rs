//! Softmax over the unmasked columns of the last dimension
//!
//! | name | shape   | dtype            | note    |
//! |------|---------|------------------|---------|
//! | x    | [.., C] | f16 bf16 f32 f64 |         |
//! | mask | [.., C] | u8               | 0 masks |
//! | y    | [.., C] | as x             |         |
//! Cost: 2·N elements and N mask bytes moved.
//! Source: the definition. Masked columns give 0; a row that is masked whole gives zeros.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, Values},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `masked_softmax`.
pub static ENTRY: Entry = Entry {
    name: "masked_softmax",
    summary: "where(mask, exp(x - max), 0) / sum",
    // exact division goes a long way round where the dividend is 0
    formula: "let keep = mask != 0; \
              let y = keep ? x : -INFINITY; \
              let e = exp(y - max(y)); \
              any(keep) ? e * (1 / sum(e)) : 0",
    zmlx: &["attention.masked_softmax"],
    args: &[Arg::full("x"), Arg::full("mask").of(Values::Mask)],
    uniforms: &[],
    fallback: |t, _| {
        let keep = t[1].ne(0u8)?;
        let zeros = t[0].zeros_like()?;
        // −1e30 stands for −∞, which would make NaN of a row that is masked whole
        let low = (zeros.clone() - 1e30)?;
        let m = keep.where_cond(&t[0], &low)?.max_keepdim(D::Minus1)?;
        let d = keep.where_cond(&t[0].broadcast_sub(&m)?, &zeros)?;
        let e = keep.where_cond(&d.exp()?, &zeros)?;
        let s = e.sum_keepdim(D::Minus1)?;
        let safe = s.eq(0.0)?.where_cond(&s.ones_like()?, &s)?;
        Ok(vec![e.broadcast_div(&safe)?])
    },
    gradient: Gradient::Derived,
    moves: 2.25,
    cell: OnceLock::new(),
};

/// Softmax over the columns where `mask` is not 0.
pub fn masked_softmax(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, mask], &[])
}
