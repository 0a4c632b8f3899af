//! Cross entropy of logits and class indices: loss = logsumexp(x) − x[t]
//!
//! | name | shape   | dtype            | note      |
//! |------|---------|------------------|-----------|
//! | x    | [.., C] | f16 bf16 f32 f64 | logits    |
//! | t    | [..]    | an integer       | 0 ≤ t < C |
//! | loss | [..]    | f32              |           |
//! Cost: N elements moved.
//! Source: the definition, without the softmax in memory.

use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `cross_entropy`.
pub static ENTRY: Entry = Entry {
    name: "cross_entropy",
    summary: "logsumexp(x) - x[t]",
    formula: "out loss: f32 = logsumexp(x) - x[t]",
    zmlx: &["loss.softmax_cross_entropy", "loss.softmax_cross_entropy_grad"],
    args: &[Arg::full("x"), Arg { name: "t", shape: ArgShape::Row, values: Values::Column }],
    uniforms: &[],
    fallback: |t, _| {
        let m = t[0].max_keepdim(D::Minus1)?;
        let s = t[0].broadcast_sub(&m)?.exp()?.sum_keepdim(D::Minus1)?.log()?;
        let at = t[0].gather(&t[1].unsqueeze(D::Minus1)?, D::Minus1)?;
        Ok(vec![((s + m)? - at)?.squeeze(D::Minus1)?])
    },
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// Cross entropy of each row of `x` and its class `t`; a class that is out of range is an error.
pub fn cross_entropy(x: &Tensor, t: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, t], &[])
}
