//! Optimizers for candle: [`candle_nn::Optimizer`] over the steps of the catalog.
//!
//! | | update | state a parameter | source |
//! |---|---|---|---|
//! | [`AdamW`] | `p ← (1 − lr·wd)·p − lr·m̂ / (√v̂ + eps)` | 2 | arXiv:1711.05101 |
//! | [`Sgd`] | `p ← p − lr·(momentum, Nesterov …)` | 1, or 0 without momentum | PyTorch's SGD |
//! | [`Lion`] | `p ← (1 − lr·wd)·p − lr·sign(…)` | 1 | arXiv:2302.06675 |
//! | [`Muon`] | `p ← (1 − lr·wd)·p − lr·√max(1, r/c)·orthogonalized momentum`, of matrices | 1 | Keller Jordan, 2024 |
//!
//! A step is one pass over a parameter, its gradient and its state (of Muon, the matrix products beside). The result's memory
//! takes the place of the Var's, so nothing is copied, and no more than one parameter's results are held at a time. Parameters are
//! f16, bf16, f32 or f64; the state is f32, of f64 parameters f64. Gradients may have any layout and float dtype. A Var without a
//! gradient is left alone, its state too, and each Var's steps are counted on their own, as in PyTorch (candle's AdamW counts all
//! steps for all, which differs for a Var that had no gradient in some of them). Vars of integers are left out.

mod adamw;
mod lion;
mod muon;
mod sgd;
mod step;

pub use crate::catalog::{lion_step::ParamsLion, sgd_step::ParamsSgd};
pub use adamw::AdamW;
pub use candle_nn::{Optimizer, ParamsAdamW};
pub use lion::Lion;
pub use muon::{Muon, ParamsMuon};
pub use sgd::Sgd;
pub(crate) use step::Step;

use crate::{Error, Result};
use candle_core::{DType, Tensor, Var, backprop::GradStore};

/// A parameter with the state that an optimizer keeps for it.
#[derive(Debug)]
struct Slot<const N: usize> {
    var: Var,
    state: [Tensor; N],
    steps: u32,
}

/// The Vars of floats, with states of zeros.
fn slots<const N: usize>(vars: Vec<Var>) -> Result<Vec<Slot<N>>> {
    let slot = |var: Var| {
        let dtype = if var.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let mut state = vec![];
        for _ in 0..N {
            state.push(Tensor::zeros(var.shape(), dtype, var.device())?);
        }
        let state = state.try_into().map_err(|_| Error::internal("a state for each place"))?;
        Ok(Slot { var, state, steps: 0 })
    };
    vars.into_iter().filter(|var| var.dtype().is_float()).map(slot).collect()
}

impl<const N: usize> Slot<N> {
    /// One step more by `update`, if there is a gradient of its Var; one that fails is not counted.
    fn step(
        &mut self,
        op: &str,
        grads: &GradStore,
        update: impl FnOnce(&mut Self, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let Some(g) = grads.get(&self.var) else { return Ok(()) };
        if g.shape() != self.var.shape() {
            return Err(Error::shape(op, "a gradient", format!("{:?}, that of its Var", self.var.dims()), g.dims()));
        }
        self.steps += 1;
        let done = update(self, &g.detach());
        if done.is_err() {
            self.steps -= 1;
        }
        done
    }
}

/// Numbers of which each lies at 0 or above (`below`: and below 1).
fn check(op: &str, below: &[(&str, f64)], at_least_0: &[(&str, f64)]) -> Result<()> {
    if let Some((name, v)) = below.iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
        return Err(Error::argument(op, *name, format!("0 ≤ {name} < 1"), v));
    }
    match at_least_0.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
        Some((name, v)) => Err(Error::argument(op, *name, "a finite number of at least 0", v)),
        None => Ok(()),
    }
}
