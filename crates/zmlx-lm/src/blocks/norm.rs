//! Norms of rows: by the root of the mean square, or by mean and variance.

use super::Swap;
use crate::Result;
use candle_core::{D, DType, Tensor};

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// x · rsqrt(mean(x²) + eps) · w
    Rms,
    /// x · rsqrt(mean(x²) + eps) · (1 + w), in f32 up to the last rounding: Gemma's
    RmsPlusOne,
    /// (x − mean(x)) · rsqrt(var(x) + eps) · w + b
    Layer,
}

/// A kernel for x ↦ norm(x).
pub type NormKernel = dyn Fn(&Norm, &Tensor) -> Result<Tensor> + Send + Sync;
/// A kernel for (x, r) ↦ (norm(x + r), x + r).
pub type ResidualNormKernel = dyn Fn(&Norm, &Tensor, &Tensor) -> Result<(Tensor, Tensor)> + Send + Sync;

/// A norm over the last dimension, in f32 whatever the dtype of its input, which is that of its result.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Its name in the checkpoint.
    pub name: String,
    /// `[n]`, as in the checkpoint.
    pub weight: Tensor,
    /// `[n]`
    pub bias: Option<Tensor>,
    /// Added to the variance or the mean square.
    pub eps: f64,
    /// Which norm.
    pub kind: NormKind,
    /// `rms_norm`, `layer_norm`
    pub kernel: Swap<NormKernel>,
    /// `residual_norm`
    pub residual: Swap<ResidualNormKernel>,
}

impl Norm {
    /// With its weights.
    ///
    /// # Errors
    /// None as yet.
    pub fn new(name: &str, weight: Tensor, bias: Option<Tensor>, eps: f64, kind: NormKind) -> Result<Norm> {
        Ok(Norm { name: name.into(), weight, bias, eps, kind, kernel: Swap::default(), residual: Swap::default() })
    }

    /// Of `[.., n]`.
    ///
    /// # Errors
    /// What candle says of shapes or of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.kernel.get() {
            Some(kernel) => kernel(self, x),
            None => self.plain(x),
        }
    }

    /// Of x + r, and x + r itself.
    ///
    /// # Errors
    /// As [`Norm::forward`].
    pub fn after(&self, x: &Tensor, r: &Tensor) -> Result<(Tensor, Tensor)> {
        match self.residual.get() {
            Some(kernel) => kernel(self, x, r),
            None => {
                let sum = (x + r)?;
                Ok((self.forward(&sum)?, sum))
            }
        }
    }

    /// The path in candle's own operations.
    ///
    /// # Errors
    /// As [`Norm::forward`].
    pub fn plain(&self, x: &Tensor) -> Result<Tensor> {
        // candle's fused norm has no gradient, wants one dtype, and none of 64 bits
        let fused = x.dtype() != DType::F64
            && !x.track_op()
            && !self.weight.track_op()
            && x.is_contiguous()
            && self.weight.dtype() == x.dtype();
        if self.kind == NormKind::Rms && fused {
            return Ok(candle_nn::ops::rms_norm(x, &self.weight, self.eps as f32)?);
        }
        let inside = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let mut wide = x.to_dtype(inside)?;
        if self.kind == NormKind::Layer {
            wide = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
        }
        let variance = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = wide.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        match self.kind {
            NormKind::Rms => Ok(normed.to_dtype(x.dtype())?.broadcast_mul(&self.weight.to_dtype(x.dtype())?)?),
            NormKind::RmsPlusOne => {
                let weight = (self.weight.to_dtype(inside)? + 1.0)?;
                Ok(normed.broadcast_mul(&weight)?.to_dtype(x.dtype())?)
            }
            NormKind::Layer => {
                let scaled = normed.to_dtype(x.dtype())?.broadcast_mul(&self.weight.to_dtype(x.dtype())?)?;
                match &self.bias {
                    Some(b) => Ok(scaled.broadcast_add(&b.to_dtype(x.dtype())?)?),
                    None => Ok(scaled),
                }
            }
        }
    }
}
