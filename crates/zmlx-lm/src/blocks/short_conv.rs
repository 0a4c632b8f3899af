//! A short convolution over the tokens before, between two gates: LFM2's.

use super::{Context, LayerCache, Linear};
use crate::Result;
use candle_core::{D, Tensor};

/// out(c · conv(b · x)), where b, c and x are thirds of what `in_proj` gives, and the convolution is one of each column.
#[derive(Clone, Debug)]
pub struct ShortConv {
    /// Its name in the checkpoint.
    pub name: String,
    /// `[3 · d, d]`
    pub in_proj: Linear,
    /// `[width, d]`; the last row is that of the token itself.
    pub weight: Tensor,
    /// `[d]`
    pub bias: Option<Tensor>,
    /// `[d, d]`
    pub out_proj: Linear,
}

impl ShortConv {
    /// Of `[b, t, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(&self, x: &Tensor, cx: &Context, cache: &LayerCache) -> Result<Tensor> {
        let (_, t, d) = x.dims3()?;
        let width = self.weight.dim(0)?;
        let all = self.in_proj.forward(x)?;
        let third = |i: usize| all.narrow(D::Minus1, i * d, d);
        let inputs = cache.put_inputs((third(0)? * third(2)?)?, width, cx)?;
        let mut y = inputs.narrow(1, 0, t)?.broadcast_mul(&self.weight.get(0)?)?;
        for tap in 1..width {
            y = (y + inputs.narrow(1, tap, t)?.broadcast_mul(&self.weight.get(tap)?)?)?;
        }
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        self.out_proj.forward(&(third(1)? * y)?)
    }
}
