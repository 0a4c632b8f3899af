//! Cross entropy of a linear layer whose logits are never held whole: rows go through product, loss and gradient in chunks.
//!
//! Source: Liger Kernel (arXiv:2410.10989, section 3.2), whose gradients are computed in the forward pass as well, where the loss is one
//! number: so the logits are multiplied once. Losses a row have a cotangent each, and the backward pass makes their logits again.

use crate::{
    Error, bridge,
    catalog::cross_entropy_options::{CrossEntropy, ENTRY, cross_entropy_options},
    fused::Fused,
    stats,
};
use candle_core::{D, DType, Result, Tensor};

const NAME: &str = "linear_cross_entropy";
/// Rows of a chunk at least, as products of few rows are slow.
const LEAST_ROWS: usize = 128;

/// What becomes of the losses of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum, divided by the number of rows that are not ignored (NaN if there are none, as in PyTorch).
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Themselves.
    None,
}

/// What [`linear_cross_entropy`] takes beside its tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinearCrossEntropy {
    /// Ignored class, label smoothing and z-loss.
    pub loss: CrossEntropy,
    /// Mean, unless given.
    pub reduction: Reduction,
    /// Rows whose logits are held at a time; unless given, half of D and at least 128, so that logits and their gradient take no
    /// more memory than the weight (or two times 128 rows).
    pub rows: Option<usize>,
}

/// Cross entropy of the logits `hidden · weightᵀ` and the classes `targets`, in f32.
///
/// | name | shape | dtype | note |
/// |---|---|---|---|
/// | hidden | `[.., D]` | f16 bf16 f32 f64 | |
/// | weight | `[V, D]` | a float | |
/// | targets | `[..]` | an integer | 0 ≤ t < V, or the ignored class |
/// | loss | `[]`, without a reduction `[..]` | f32 | |
///
/// Beside inputs, result and gradients there are, at a time, logits of `rows` rows and their gradient, `2·rows·V` elements in place of
/// `2·N·V`, and one more gradient of the weight. The weight's gradient is summed over the chunks in f32. Products are in
/// hidden's dtype, on the CPU, where candle has none of bf16, in f32 for 16-bit types (with a copy of the weight in f32). If hidden or
/// weight is tracked, the gradients of those are made along with a mean or sum, and kept until the backward pass. On a device that this
/// build has no backend for, plain candle ops run, which hold all logits.
///
/// # Errors
/// Shapes or dtypes that do not belong together; rows of 0; label smoothing outside 0 to 1; on the CPU a class that is out of range.
pub fn linear_cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    options: &LinearCrossEntropy,
) -> Result<Tensor> {
    check(hidden, weight, targets, options)?;
    if !bridge::runs_on(hidden.device()) {
        return plain(hidden, weight, targets, options);
    }
    let tracked: Vec<&Tensor> = [hidden, weight].into_iter().filter(|t| t.track_op()).collect();
    let job = Job {
        hidden: hidden.detach().reshape(((), hidden.dim(D::Minus1)?))?,
        weight: weight.detach(),
        targets: targets.flatten_all()?,
        wanted: [hidden.track_op(), weight.track_op()],
        options: *options,
    };
    // with a cotangent of 1 a row, and scaled in the backward pass: so they are not too small for f16
    let ones = match options.reduction {
        Reduction::None => None,
        Reduction::Mean | Reduction::Sum => Some(Tensor::ones(job.targets.dims(), DType::F32, hidden.device())?),
    };
    let Made { losses, gradients } = job.run(ones.as_ref().filter(|_| !tracked.is_empty()))?;
    let (loss, scale) = reduced(&losses, targets, options)?;
    if tracked.is_empty() {
        return Ok(loss);
    }
    // the shapes and dtypes of what is tracked
    let like: Vec<Tensor> = tracked.iter().map(|t| t.detach()).collect();
    let backward = move |cotangents: &[Option<Tensor>]| {
        let g = cotangents[0].as_ref().ok_or_else(|| Error::internal("a cotangent is missing"))?;
        let made = match &ones {
            None => job.run(Some(&g.flatten_all()?))?.gradients,
            Some(_) => {
                let scale = (g * &scale)?;
                gradients.iter().map(|made| SCALED.op(&[])?.call(&[made, &scale])).collect::<crate::Result<_>>()?
            }
        };
        let shaped = |(made, t): (&Tensor, &Tensor)| made.reshape(t.shape())?.to_dtype(t.dtype());
        Ok(made.iter().zip(&like).map(shaped).collect::<Result<_>>()?)
    };
    Ok(bridge::record(NAME.into(), vec![bridge::copied(&loss)?], &tracked, Box::new(backward))?.swap_remove(0))
}

static SCALED: Fused = Fused::new(NAME, "x * scale");

fn check(hidden: &Tensor, weight: &Tensor, targets: &Tensor, options: &LinearCrossEntropy) -> crate::Result<()> {
    let Some((d, rows)) = hidden.dims().split_last() else {
        return Err(Error::shape(NAME, "hidden", "[.., D]", hidden.dims()));
    };
    if weight.rank() != 2 || weight.dims()[1] != *d || weight.dims()[0] == 0 {
        return Err(Error::shape(NAME, "weight", format!("[V, {d}] with V above 0"), weight.dims()));
    }
    if targets.dims() != rows {
        return Err(Error::shape(NAME, "targets", format!("{rows:?}, one a row of hidden"), targets.dims()));
    }
    for (name, t, float) in [("hidden", hidden, true), ("weight", weight, true), ("targets", targets, false)] {
        if t.dtype().is_float() != float {
            let expected = if float { "a float" } else { "an integer" };
            return Err(Error::argument(NAME, format!("{name}: dtype"), expected, t.dtype().as_str()));
        }
    }
    let smoothing = options.loss.label_smoothing;
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::argument(NAME, "label_smoothing", "0 ≤ label_smoothing ≤ 1", smoothing));
    }
    match options.rows {
        Some(0) => Err(Error::argument(NAME, "rows", "at least 1", 0)),
        _ => Ok(()),
    }
}

/// The reduced losses, and by how much a row's gradient is scaled in them.
fn reduced(losses: &Tensor, targets: &Tensor, options: &LinearCrossEntropy) -> Result<(Tensor, Tensor)> {
    let one = Tensor::ones((), DType::F32, losses.device())?;
    match options.reduction {
        Reduction::None => Ok((losses.reshape(targets.shape())?, one)),
        Reduction::Sum => Ok((losses.sum_all()?, one)),
        Reduction::Mean => {
            let counted = targets.to_dtype(DType::I64)?.ne(options.loss.ignore_index)?;
            let count = counted.to_dtype(DType::F32)?.sum_all()?;
            // where no row counts the loss is NaN, and the gradient 0
            Ok(((losses.sum_all()? / &count)?, count.maximum(&one)?.recip()?))
        }
    }
}

/// In plain candle ops.
fn plain(hidden: &Tensor, weight: &Tensor, targets: &Tensor, options: &LinearCrossEntropy) -> Result<Tensor> {
    stats::count_fallback();
    let rows = hidden.reshape(((), hidden.dim(D::Minus1)?))?;
    let logits = rows.matmul(&weight.to_dtype(hidden.dtype())?.t()?)?.to_dtype(DType::F32)?;
    let losses = cross_entropy_options(&logits, &targets.flatten_all()?, &options.loss)?;
    Ok(reduced(&losses, targets, options)?.0)
}

/// Losses of the rows, and the gradients that are wanted: in the dtypes of what they belong to, but that of an f16 weight, which could
/// overflow before it is scaled, in f32.
struct Made {
    losses: Tensor,
    gradients: Vec<Tensor>,
}

/// Everything that a pass over the chunks needs.
struct Job {
    /// `[N, D]`
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    /// Gradients of hidden and of weight.
    wanted: [bool; 2],
    options: LinearCrossEntropy,
}

impl Job {
    /// The losses; with a cotangent a row also the gradients.
    fn run(&self, cotangents: Option<&Tensor>) -> Result<Made> {
        let (n, d) = self.hidden.dims2()?;
        let device = self.hidden.device();
        let dtype = match self.hidden.dtype() {
            DType::F16 | DType::BF16 if device.is_cpu() => DType::F32,
            dtype => dtype,
        };
        let weight = self.weight.to_dtype(dtype)?.contiguous()?;
        let chunk = self.options.rows.unwrap_or((d / 2).max(LEAST_ROWS));
        let [of_hidden, of_weight] = self.wanted.map(|wanted| wanted && cotangents.is_some());
        let (mut losses, mut by_hidden, mut by_weight) = (vec![], vec![], None::<Tensor>);
        for start in (0..n).step_by(chunk) {
            let rows = chunk.min(n - start);
            let hidden = self.hidden.narrow(0, start, rows)?.to_dtype(dtype)?;
            let targets = self.targets.narrow(0, start, rows)?;
            let logits = hidden.matmul(&weight.t()?)?;
            losses.push(cross_entropy_options(&logits, &targets, &self.options.loss)?);
            let Some(cotangents) = cotangents else { continue };
            let g = cotangents.narrow(0, start, rows)?;
            let by_logits = gradient(&logits, &targets, &self.options.loss, &g)?;
            drop(logits);
            if of_hidden {
                by_hidden.push(by_logits.matmul(&weight)?.to_dtype(self.hidden.dtype())?);
            }
            if of_weight {
                let part = by_logits.t()?.matmul(&hidden)?;
                by_weight = Some(match by_weight {
                    None if dtype == DType::F64 => part,
                    None => part.to_dtype(DType::F32)?,
                    Some(sum) => (&sum + part.to_dtype(sum.dtype())?)?,
                });
            }
        }
        let whole = |parts: &[Tensor], empty: &[usize], dtype: DType| match parts {
            [] => Tensor::zeros(empty, dtype, device),
            parts => Tensor::cat(parts, 0),
        };
        let mut gradients = vec![];
        if of_hidden {
            gradients.push(whole(&by_hidden, &[n, d], self.hidden.dtype())?);
        }
        if of_weight {
            let sum = by_weight.map_or_else(|| self.weight.zeros_like(), Ok)?;
            let dtype = if self.weight.dtype() == DType::F16 { DType::F32 } else { self.weight.dtype() };
            gradients.push(sum.to_dtype(dtype)?);
        }
        Ok(Made { losses: whole(&losses, &[n], DType::F32)?, gradients })
    }
}

/// The gradient of logits from the cotangents of their losses.
fn gradient(logits: &Tensor, targets: &Tensor, loss: &CrossEntropy, g: &Tensor) -> Result<Tensor> {
    let CrossEntropy { ignore_index, label_smoothing, z_loss } = *loss;
    let op = ENTRY.with(ENTRY.op()?, &[ignore_index.into(), label_smoothing.into(), z_loss.into()]);
    Ok(op.vjp_of(&[logits, targets], g, &["x"])?.swap_remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn plain_ops_give_the_same() -> Result<()> {
        let (h, w) =
            (Tensor::randn(0f32, 1f32, (2, 3, 4), &Device::Cpu)?, Tensor::randn(0f32, 1f32, (5, 4), &Device::Cpu)?);
        let t = Tensor::new(&[[0u32, 4, 1], [2, 1, 0]], &Device::Cpu)?;
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for ignore_index in [-100, 1] {
                let loss = CrossEntropy { ignore_index, label_smoothing: 0.1, z_loss: 0.01 };
                let options = LinearCrossEntropy { loss, reduction, rows: Some(2) };
                let (a, b) = (linear_cross_entropy(&h, &w, &t, &options)?, plain(&h, &w, &t, &options)?);
                assert_eq!(a.dims(), b.dims());
                let off = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
                assert!(off < 1e-5, "{reduction:?} {ignore_index}: off by {off}");
            }
        }
        Ok(())
    }
}
