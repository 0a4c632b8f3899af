//! Softmax of scaled scores over the unmasked columns: y = softmax(scale · x)
//!
//! | name | shape   | dtype            | note    |
//! |------|---------|------------------|---------|
//! | x    | [.., C] | f16 bf16 f32 f64 | scores  |
//! | mask | [.., C] | u8               | 0 masks |
//! | y    | [.., C] | as x             |         |
//! Cost: 2·N elements and N mask bytes moved.
//! Source: the definition. Masked columns give 0; a row that is masked whole gives zeros. A new scale never compiles.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, Values, float},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `scale_mask_softmax`.
pub static ENTRY: Entry = Entry {
    name: "scale_mask_softmax",
    summary: "where(mask, exp(scale * (x - max)), 0) / sum",
    formula: "let keep = mask != 0; \
              let s = scale * x; \
              let m = max(keep ? s : -INFINITY); \
              let e = keep ? exp(s - m) : 0; \
              any(keep) ? e / sum(e) : 0",
    zmlx: &["attention.scale_mask_softmax"],
    args: &[Arg::full("x"), Arg::full("mask").of(Values::Mask)],
    uniforms: &[("scale", Scalar::Float(0.125))],
    fallback: |t, u| {
        let x = (&t[0] * float(u[0]))?;
        (super::masked_softmax::ENTRY.fallback)(&[x, t[1].clone()], &[])
    },
    gradient: Gradient::Derived,
    moves: 2.25,
    cell: OnceLock::new(),
};

/// Softmax of `scale · x` over the columns where `mask` is not 0.
pub fn scale_mask_softmax(x: &Tensor, mask: &Tensor, scale: f64) -> Result<Tensor> {
    ENTRY.run1(&[x, mask], &[scale.into()])
}
