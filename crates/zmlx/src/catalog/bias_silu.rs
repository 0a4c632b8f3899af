//! Bias and SiLU in one pass: y = silu(x + b)
//!
//! | name | shape   | dtype            | note |
//! |------|---------|------------------|------|
//! | x    | [.., C] | f16 bf16 f32 f64 |      |
//! | b    | [C]     | a float          |      |
//! | y    | [.., C] | as x             |      |
//! Cost: 2·N elements moved.
//! Source: arXiv:1702.03118.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `bias_silu`.
pub static ENTRY: Entry = Entry {
    name: "bias_silu",
    summary: "silu(x + b)",
    formula: "silu(x + b)",
    zmlx: &["fused.bias_silu", "linear.fused_linear_bias_silu"],
    args: &[Arg::full("x"), Arg::col("b")],
    uniforms: &[],
    fallback: |t, _| {
        let x = (super::add_bias::ENTRY.fallback)(t, &[])?;
        (super::silu::ENTRY.fallback)(&x, &[])
    },
    gradient: Gradient::Derived,
    moves: 2.0,
    cell: OnceLock::new(),
};

/// silu(x + b), the bias `b` along the last dimension.
pub fn bias_silu(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    ENTRY.run1(&[x, b], &[])
}

/// silu(x·wᵀ + b): candle's matrix product, then this kernel. `x` is `[.., K]`, `w` `[N, K]`, `b` `[N]`.
pub fn linear_bias_silu(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    bias_silu(&linear(x, w)?, b)
}

/// x·wᵀ, as candle's linear layers have it: all dimensions of `x` but the last are rows.
pub(super) fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (Some((k, rows)), [n, own]) = (x.dims().split_last(), w.dims()) else {
        return Err(crate::Error::shape("linear", "w", "[N, K], and x [.., K]", w.dims()));
    };
    if k != own {
        return Err(crate::Error::shape("linear", "w", format!("[N, {k}] (the last dim of x)"), w.dims()));
    }
    let y = x.reshape((rows.iter().product::<usize>(), *k))?.matmul(&w.t()?)?;
    Ok(y.reshape([rows, &[*n]].concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn linear_layers_are_those_of_candle_with_all_gradients() -> Result<()> {
        let random = |dims: &[usize]| Tensor::randn(0f32, 1f32, dims, &Device::Cpu).and_then(|t| Var::from_tensor(&t));
        let (x, w, b) = (random(&[2, 3, 4])?, random(&[5, 4])?, random(&[5])?);
        let plain = x.broadcast_matmul(&w.t()?)?;
        let norm = plain.broadcast_div(&(plain.sqr()?.mean_keepdim(2)? + 1e-5)?.sqrt()?)?.broadcast_mul(&b)?;
        let biased = plain.broadcast_add(&b)?;
        let cases = [
            (linear_bias_silu(&x, &w, &b)?, biased.silu()?),
            (crate::catalog::bias_gelu::linear_bias_gelu(&x, &w, &b)?, biased.gelu()?),
            (crate::catalog::rms_norm::linear_rms_norm(&x, &w, &b, 1e-5)?, norm),
        ];
        for (got, want) in cases {
            let off = |a: &Tensor, b: &Tensor| -> Result<f32> { Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?) };
            assert!(off(&got, &want)? < 1e-5);
            let (g, h) = (got.sqr()?.sum_all()?.backward()?, want.sqr()?.sum_all()?.backward()?);
            for v in [&x, &w, &b] {
                assert!(off(g.get(v).expect("a gradient"), h.get(v).expect("a gradient"))? < 1e-3);
            }
        }
        Ok(())
    }
}
