//! Losses with the signatures of `candle_nn::loss`.

use crate::{Error, catalog};
use candle_core::{Result, Tensor};

/// Mean cross entropy of logits `[N, C]` and classes `[N]` of integers, in the dtype of the logits; logsumexp and class in one pass, and
/// the gradient in one more. For ignored classes, label smoothing and losses a row there is [`catalog::cross_entropy_options`].
///
/// # Errors
/// Shapes that do not belong together; on the CPU a class that is out of range.
pub fn cross_entropy(inp: &Tensor, target: &Tensor) -> Result<Tensor> {
    if inp.rank() != 2 {
        return Err(Error::shape("cross_entropy", "inp", "[N, C]", inp.dims()).into());
    }
    if target.dims() != &inp.dims()[..1] {
        return Err(Error::shape("cross_entropy", "target", format!("[{}]", inp.dims()[0]), target.dims()).into());
    }
    let losses = catalog::cross_entropy::cross_entropy(inp, target)?;
    losses.sum_all()?.affine(1.0 / inp.dims()[0] as f64, 0.0)?.to_dtype(inp.dtype())
}
