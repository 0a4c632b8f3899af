//! Layers that normalise the last dimension: one pass each way, and the gradients of weight and bias in the same launch.

use crate::{bridge, catalog, fused::Fused, ops, stats};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

pub use candle_nn::LayerNormConfig;

/// LayerNorm over the last dimension, with a weight and perhaps a bias; without removal of the mean it is RMSNorm.
#[derive(Clone, Debug)]
pub struct LayerNorm(candle_nn::LayerNorm);

impl LayerNorm {
    /// With weight and bias of `[C]`.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> LayerNorm {
        LayerNorm(candle_nn::LayerNorm::new(weight, bias, eps))
    }

    /// With a weight alone.
    pub fn new_no_bias(weight: Tensor, eps: f64) -> LayerNorm {
        LayerNorm(candle_nn::LayerNorm::new_no_bias(weight, eps))
    }

    /// RMSNorm: the mean is not removed.
    pub fn rms_norm(weight: Tensor, eps: f64) -> LayerNorm {
        LayerNorm(candle_nn::LayerNorm::rms_norm(weight, eps))
    }

    /// Its weight.
    pub fn weight(&self) -> &Tensor {
        self.0.weight()
    }

    /// Its bias, if it has one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.0.bias()
    }

    /// Added to the variance.
    pub fn eps(&self) -> f64 {
        self.0.eps()
    }

    /// Is the mean removed?
    pub fn remove_mean(&self) -> bool {
        self.0.remove_mean()
    }
}

impl From<candle_nn::LayerNorm> for LayerNorm {
    fn from(layer: candle_nn::LayerNorm) -> LayerNorm {
        LayerNorm(layer)
    }
}

/// The two forms that the catalog has not.
static NO_BIAS: Fused = Fused::new("layer_norm", "let d = x - mean(x); d * rsqrt(mean(d * d) + eps) * w");
static RMS_BIAS: Fused = Fused::new("rms_norm", "x * rsqrt(mean(x * x) + eps) * w + b");

impl Module for LayerNorm {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (w, eps) = (self.weight(), self.eps());
        ops::check_cols("LayerNorm", xs, "weight", w)?;
        if let Some(b) = self.bias() {
            ops::check_cols("LayerNorm", xs, "bias", b)?;
        }
        let y = match (self.remove_mean(), self.bias()) {
            (true, Some(b)) => catalog::layer_norm::layer_norm(xs, w, b, eps)?,
            (false, None) => catalog::rms_norm::rms_norm(xs, w, eps)?,
            _ if !bridge::runs_on(xs.device()) => {
                // neither form is a fused kernel of candle's
                stats::count_fallback();
                return self.0.forward(xs);
            }
            (true, None) => NO_BIAS.op(&[("eps", eps)])?.call(&[xs, w])?,
            (false, Some(b)) => RMS_BIAS.op(&[("eps", eps)])?.call(&[xs, w, b])?,
        };
        Ok(y)
    }
}

/// RMSNorm over the last dimension, with a weight.
#[derive(Clone, Debug)]
pub struct RmsNorm(LayerNorm);

impl RmsNorm {
    /// With a weight of `[C]`.
    pub fn new(weight: Tensor, eps: f64) -> RmsNorm {
        RmsNorm(LayerNorm::rms_norm(weight, eps))
    }

    /// The layer beneath.
    pub fn into_inner(self) -> LayerNorm {
        self.0
    }

    /// Its weight.
    pub fn weight(&self) -> &Tensor {
        self.0.weight()
    }

    /// Added to the mean of squares.
    pub fn eps(&self) -> f64 {
        self.0.eps()
    }

    /// The same as `forward`, whose gradient arrives.
    ///
    /// # Errors
    /// As `forward`.
    pub fn forward_diff(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.forward(xs)
    }
}

impl From<candle_nn::RmsNorm> for RmsNorm {
    fn from(layer: candle_nn::RmsNorm) -> RmsNorm {
        RmsNorm(layer.into_inner().into())
    }
}

impl Module for RmsNorm {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.forward(xs)
    }
}

/// A LayerNorm of `size` elements, its tensors named as candle's are.
///
/// # Errors
/// What `vb` says.
pub fn layer_norm<C: Into<LayerNormConfig>>(size: usize, config: C, vb: VarBuilder) -> Result<LayerNorm> {
    candle_nn::layer_norm(size, config, vb).map(Into::into)
}

/// A LayerNorm of `size` elements without a bias.
///
/// # Errors
/// What `vb` says.
pub fn layer_norm_no_bias(size: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    candle_nn::layer_norm_no_bias(size, eps, vb).map(Into::into)
}

/// An RMSNorm of `size` elements.
///
/// # Errors
/// What `vb` says.
pub fn rms_norm(size: usize, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    candle_nn::rms_norm(size, eps, vb).map(Into::into)
}
