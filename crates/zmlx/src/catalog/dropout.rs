//! Dropout: y = 0 with probability p, else x / (1 − p)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved; the gradient makes the mask again instead of storing it.
//! Source: arXiv:1207.0580; Philox4x32-7 (Salmon et al., SC 2011) keyed by the seed, counted by the position.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, float},
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `dropout`.
pub static ENTRY: Entry = Entry {
    name: "dropout",
    summary: "rand(seed) < p ? 0 : x / (1 - p)",
    formula: "rand(seed) < p ? 0 : x / (1 - p)",
    zmlx: &["transformer.dropout"],
    args: &[Arg::full("x")],
    uniforms: &[("p", Scalar::Float(0.5)), ("seed", Scalar::Int(42))],
    fallback: |t, u| {
        // the same counter-based numbers, made on the host: the mask is a function of the seed and the position
        let (p, seed) = (float(u[0]), float(u[1]) as i64);
        let keep = (0..t[0].elem_count() as u64).map(|i| {
            let r = f64::from(zmlx_ir::program::philox::rand_unit(seed, i));
            if r < p { 0.0 } else { 1.0 / (1.0 - p) }
        });
        let mask = Tensor::from_iter(keep, t[0].device())?.reshape(t[0].shape())?.to_dtype(t[0].dtype())?;
        Ok(vec![(&t[0] * mask)?])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// Dropout with probability `0 ≤ p < 1`; the same seed gives the same mask, and the gradient uses it too.
pub fn dropout(x: &Tensor, p: f64, seed: i64) -> Result<Tensor> {
    check_probability("dropout", p)?;
    ENTRY.run1(&[x], &[p.into(), seed.into()])
}

/// What is dropped with this probability must be scaled by 1 / (1 − p).
pub(super) fn check_probability(op: &str, p: f64) -> Result<()> {
    if (0.0..1.0).contains(&p) {
        return Ok(());
    }
    Err(crate::Error::Argument { op: op.into(), what: "p".into(), expected: "0 ≤ p < 1".into(), got: p.to_string() })
}
