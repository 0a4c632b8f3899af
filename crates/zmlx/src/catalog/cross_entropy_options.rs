//! Cross entropy with ignored classes, label smoothing and z-loss
//!
//! | name | shape   | dtype            | note                 |
//! |------|---------|------------------|----------------------|
//! | x    | [.., C] | f16 bf16 f32 f64 | logits               |
//! | t    | [..]    | an integer       | 0 ≤ t < C, or ignore |
//! | loss | [..]    | f32              | 0 where t is ignored |
//! Cost: N elements moved.
//! Source: arXiv:1512.00567, section 7 (smoothing), arXiv:2204.02311, section 5 (z-loss).

use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values, float},
};
use candle_core::{D, DType, Tensor};
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `cross_entropy_options`.
pub static ENTRY: Entry = Entry {
    name: "cross_entropy_options",
    summary: "lse - (1 - s) * x[t] - s * mean(x) + z * lse * lse, 0 where t is ignored",
    formula: "let out_of_it = t == ignore; \
              let lse = logsumexp(x); \
              let at = x[out_of_it ? 0 : t]; \
              let plain = lse - at + smoothing * (at - mean(x)); \
              out loss: f32 = out_of_it ? 0 : plain + z * lse * lse",
    zmlx: &["loss.softmax_cross_entropy"],
    args: &[Arg::full("x"), Arg { name: "t", shape: ArgShape::Row, values: Values::Column }],
    uniforms: &[("ignore", Scalar::Int(0)), ("smoothing", Scalar::Float(0.1)), ("z", Scalar::Float(1e-2))],
    fallback: |t, u| {
        let (smoothing, z) = (float(u[1]), float(u[2]));
        let m = t[0].max_keepdim(D::Minus1)?;
        let lse = (t[0].broadcast_sub(&m)?.exp()?.sum_keepdim(D::Minus1)?.log()? + m)?;
        // in i64: an unsigned type would take a negative class for 0
        let ignored = t[1].unsqueeze(D::Minus1)?.to_dtype(DType::I64)?.eq(float(u[0]))?;
        let safe = ignored.where_cond(&t[1].unsqueeze(D::Minus1)?.zeros_like()?, &t[1].unsqueeze(D::Minus1)?)?;
        let at = t[0].gather(&safe, D::Minus1)?;
        let smooth = ((&at - t[0].mean_keepdim(D::Minus1)?)? * smoothing)?;
        let loss = (((&lse - &at)? + smooth)? + (lse.sqr()? * z)?)?;
        Ok(vec![ignored.where_cond(&loss.zeros_like()?, &loss)?.squeeze(D::Minus1)?])
    },
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

/// What `cross_entropy_options` takes beside logits and classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// The class of rows that are left out; their loss and gradient are 0.
    pub ignore_index: i64,
    /// Part of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Weight of the squared log-sum-exp.
    pub z_loss: f64,
}

impl Default for CrossEntropy {
    fn default() -> CrossEntropy {
        CrossEntropy { ignore_index: -100, label_smoothing: 0.0, z_loss: 0.0 }
    }
}

/// Cross entropy of each row of `x` and its class `t`. A class that is out of range and not ignored is an error.
pub fn cross_entropy_options(x: &Tensor, t: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let CrossEntropy { ignore_index, label_smoothing, z_loss } = *options;
    ENTRY.run1(&[x, t], &[ignore_index.into(), label_smoothing.into(), z_loss.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn plain_ops_keep_class_0_where_a_negative_one_is_ignored() -> Result<()> {
        let x = Tensor::randn(0f32, 1f32, (3, 4), &Device::Cpu)?;
        let t = Tensor::new(&[0u32, 3, 0], &Device::Cpu)?;
        let fused = cross_entropy_options(&x, &t, &CrossEntropy::default())?;
        let plain = (ENTRY.fallback)(&[x, t], &[Scalar::Int(-100), 0.0.into(), 0.0.into()])?.swap_remove(0);
        assert!((fused - plain)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
        Ok(())
    }
}
