//! The same output first: results and gradients of zmlx beside those of candle's plain ops in f32 (f64 for f64), on copies of
//! the inputs, on the same device; where plain ops cannot make them, a few rows beside the oracle.

use candle_core::{DType as CandleType, Device, Tensor, Var};
use zmlx::{
    entry::Entry,
    harness::{
        difference::{Within, difference},
        sampled,
    },
};
use zmlx_ir::{DType, Scalar};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is computed.
pub struct Case<'a> {
    pub entry: &'a Entry,
    pub dtype: DType,
    pub inputs: &'a [Tensor],
    pub uniforms: &'a [Scalar],
    /// For gradients: one for each result, zero but for the first.
    pub cotangents: Option<&'a [Tensor]>,
}

/// How it was checked, and what is wrong.
pub struct Checked {
    pub how: String,
    pub wrong: Option<String>,
}

/// Longest row that plain ops can do in a device's memory: candle's cumsum multiplies by a matrix of cols × cols.
fn longest(entry: &Entry) -> usize {
    if entry.name == "cumsum" { 16_384 } else { usize::MAX }
}

/// Can plain ops be timed? candle has no dropout of this kind: the mask is made on the host, which says nothing of a GPU.
pub fn plain_is_timed(entry: &Entry, cols: usize, device: &Device) -> bool {
    cols <= longest(entry) && (entry.name != "dropout" || matches!(device, Device::Cpu))
}

impl Case<'_> {
    fn cols(&self) -> usize {
        self.inputs[0].dims().last().map_or(1, |c| *c)
    }

    /// Compares what zmlx gave.
    pub fn check(&self, got: &[Tensor]) -> Result<Checked> {
        if self.cols() > longest(self.entry) {
            return self.some_rows(got);
        }
        // plain ops sort equals in any order
        if got.iter().any(|t| t.dtype().is_float()) && got.iter().any(|t| !t.dtype().is_float()) {
            return self.some_rows(got);
        }
        let device = self.inputs[0].device();
        let (how, want) = match self.plain(device) {
            Ok(want) => ("plain ops on the device".to_string(), want),
            Err(e) if !matches!(device, Device::Cpu) => {
                (format!("plain ops on the CPU, because on the device: {e}"), self.plain(&Device::Cpu)?)
            }
            Err(e) => return Err(e),
        };
        if got.len() != want.len() {
            return Ok(Checked { how, wrong: Some(format!("{} results, expected {}", got.len(), want.len())) });
        }
        for (k, (g, w)) in got.iter().zip(&want).enumerate() {
            let g = g.to_device(w.device())?;
            if let Some(why) = difference(&g, w, Within::rounding(g.dtype()))? {
                return Ok(Checked { how, wrong: Some(format!("result {k}: {why}")) });
            }
        }
        Ok(Checked { how, wrong: None })
    }

    /// The first row and the last beside the oracle.
    fn some_rows(&self, got: &[Tensor]) -> Result<Checked> {
        let rows = self.inputs[0].dims()[0];
        let (inputs, cotangents) = (refs(self.inputs), self.cotangents.map(refs));
        let rows = if rows > 1 { vec![0, rows - 1] } else { vec![0] };
        let wrong = sampled(self.entry, self.dtype, &inputs, cotangents.as_deref(), got, &rows)?;
        Ok(Checked { how: format!("{} rows beside the f64 oracle", rows.len()), wrong })
    }

    /// Plain ops: the results, or the gradients of all float inputs.
    fn plain(&self, device: &Device) -> Result<Vec<Tensor>> {
        let wide = if self.dtype == DType::F64 { CandleType::F64 } else { CandleType::F32 };
        // copies: what a kernel does to its inputs by mistake is seen
        let fresh = |t: &Tensor| -> candle_core::Result<Tensor> {
            let t = t.copy()?.to_device(device)?;
            if t.dtype().is_float() { t.to_dtype(wide) } else { Ok(t) }
        };
        let inputs = self.inputs.iter().map(fresh).collect::<candle_core::Result<Vec<_>>>()?;
        let Some(cotangents) = self.cotangents else {
            return Ok((self.entry.fallback)(&inputs, self.uniforms)?);
        };
        let floats: Vec<bool> = self.entry.args.iter().map(|a| a.is_float()).collect();
        let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>()?;
        let leaf = |(v, float): (&Var, &bool)| if *float { v.as_tensor().clone() } else { v.as_detached_tensor() };
        let leaves: Vec<Tensor> = vars.iter().zip(&floats).map(leaf).collect();
        let first = (self.entry.fallback)(&leaves, self.uniforms)?.swap_remove(0);
        // candle starts with ones, so y · cotangent has the cotangent for its gradient
        let store = (&first * fresh(&cotangents[0])?.to_dtype(first.dtype())?)?.backward()?;
        let wanted = vars.iter().zip(&floats).filter(|(_, float)| **float);
        wanted.map(|(v, _)| Ok(store.get(v).cloned().map_or_else(|| v.zeros_like(), Ok)?)).collect()
    }
}

fn refs(tensors: &[Tensor]) -> Vec<&Tensor> {
    tensors.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmlx::catalog::find;

    #[test]
    fn a_wrong_gradient_is_found() -> Result<()> {
        let entry = find("rms_norm").ok_or("it is in the catalog")?;
        let uniforms: Vec<Scalar> = entry.uniforms.iter().map(|u| u.1).collect();
        let x = Tensor::randn(0f32, 1f32, (5, 64), &Device::Cpu)?.to_dtype(CandleType::BF16)?;
        let w = Tensor::randn(0f32, 1f32, 64, &Device::Cpu)?.to_dtype(CandleType::BF16)?;
        let (inputs, cotangents) = ([x.clone(), w.clone()], [x.copy()?]);
        let case =
            Case { entry, dtype: DType::BF16, inputs: &inputs, uniforms: &uniforms, cotangents: Some(&cotangents) };
        let op = entry.op()?.with_all(entry.uniforms.iter().map(|u| (u.0, u.1)));
        let mut gradients: Vec<Tensor> = op.vjp(&[&x, &w], &[&x])?.into_iter().flatten().collect();
        assert!(case.check(&gradients)?.wrong.is_none());
        gradients[1] = (&gradients[1] * 1.1)?;
        assert!(case.check(&gradients)?.wrong.is_some_and(|why| why.starts_with("result 1")));
        Ok(())
    }
}
