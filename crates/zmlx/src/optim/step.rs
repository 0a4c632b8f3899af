//! One pass of an optimizer: a kernel of the catalog whose inputs are a parameter, its gradient and its state, and whose
//! results are the new parameter and state.

use super::Slot;
use crate::{Error, Op, Result, bridge, entry::Entry, stats};
use candle_core::{DType, Tensor};
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// The kernel, also for 16-bit parameters whose state is f32.
pub(crate) struct Step {
    entry: &'static Entry,
    wide: OnceLock<Op>,
}

impl Step {
    pub const fn new(entry: &'static Entry) -> Step {
        Step { entry, wide: OnceLock::new() }
    }

    /// The operation for these inputs: results have the parameter's dtype, unless the state is f32.
    fn op(&self, inputs: &[&Tensor], uniforms: &[Scalar]) -> Result<Op> {
        let op = match inputs.get(2) {
            Some(state) if state.dtype() == DType::F32 && state.dtype() != inputs[0].dtype() => {
                Op::once(&self.wide, || {
                    let mut formula = self.entry.parsed()?;
                    formula.outs.iter_mut().skip(1).for_each(|out| out.dtype = Some(zmlx_ir::DType::F32));
                    self.entry.built(formula)
                })?
            }
            _ => self.entry.op()?,
        };
        Ok(self.entry.with(op, uniforms))
    }

    /// The same in plain candle ops, in the dtype of the state.
    fn plain(&self, inputs: &[&Tensor], uniforms: &[Scalar]) -> Result<Vec<Tensor>> {
        stats::count_fallback();
        let dtype = inputs[inputs.len() - 1].dtype();
        let all: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(dtype)).collect::<candle_core::Result<_>>()?;
        let mut all = (self.entry.fallback)(&all, uniforms)?;
        all[0] = all[0].to_dtype(inputs[0].dtype())?;
        Ok(all)
    }

    /// The new parameter and state.
    pub fn call(&self, inputs: &[&Tensor], uniforms: &[Scalar]) -> Result<Vec<Tensor>> {
        self.entry.alike(inputs)?;
        match bridge::runs_on(inputs[0].device()) {
            true => self.op(inputs, uniforms)?.call_all(inputs),
            false => self.plain(inputs, uniforms),
        }
    }

    /// Gives a Var and its state their new values.
    pub(super) fn apply<const N: usize>(&self, slot: &mut Slot<N>, g: &Tensor, uniforms: &[Scalar]) -> Result<()> {
        let p = slot.var.as_detached_tensor();
        let inputs: Vec<&Tensor> = [&p, g].into_iter().chain(&slot.state).collect();
        let mut state = Vec::with_capacity(N);
        if bridge::runs_on(p.device()) {
            let mut results = self.op(&inputs, uniforms)?.run_untracked(&inputs)?.into_iter();
            let new = results.next().ok_or_else(|| Error::internal("a step has results"))?;
            state.extend(results.map(|(storage, shape)| bridge::tensor(storage, shape)));
            bridge::overwrite(&slot.var, new)?;
        } else {
            let mut results = self.plain(&inputs, uniforms)?.into_iter();
            slot.var.set(&results.next().ok_or_else(|| Error::internal("a step has results"))?)?;
            state.extend(results);
        }
        slot.state = state.try_into().map_err(|_| Error::internal("a step gives its state"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::adamw_step::{STEP, uniforms};
    use candle_core::Device;
    use candle_nn::ParamsAdamW;

    #[test]
    fn state_in_f32_stays_so_and_plain_ops_give_the_same() -> Result<()> {
        let random = |dtype| Tensor::randn(0f32, 1f32, (3, 5), &Device::Cpu)?.to_dtype(dtype);
        for dtype in [DType::BF16, DType::F32] {
            let (p, g, m) = (random(dtype)?, random(dtype)?, random(DType::F32)?);
            let v = random(DType::F32)?.sqr()?;
            let u = uniforms(&ParamsAdamW { lr: 0.1, ..ParamsAdamW::default() }, 3);
            let fused = STEP.call(&[&p, &g, &m, &v], &u)?;
            let plain = STEP.plain(&[&p, &g, &m, &v], &u)?;
            for (k, (a, b)) in fused.iter().zip(&plain).enumerate() {
                assert_eq!((a.dtype(), b.dtype()), if k == 0 { (dtype, dtype) } else { (DType::F32, DType::F32) });
                let off = (a.to_dtype(DType::F32)? - b.to_dtype(DType::F32)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(off < if a.dtype() == DType::BF16 { 0.02 } else { 1e-5 }, "{dtype:?} {k}: off by {off}");
            }
        }
        Ok(())
    }
}
