//! Lion: momentum, the sign of the update and the decay in one pass.

use super::{ParamsLion, Slot, check, slots};
use crate::catalog::lion_step::{STEP, uniforms};
use candle_core::{Result, Var, backprop::GradStore};
use candle_nn::Optimizer;

/// Lion (arXiv:2302.06675, algorithm 2). The momentum of 16-bit parameters is f32.
#[derive(Debug)]
pub struct Lion {
    slots: Vec<Slot<1>>,
    params: ParamsLion,
}

fn checked(params: &ParamsLion) -> crate::Result<()> {
    let ParamsLion { lr, beta1, beta2, weight_decay } = *params;
    check("Lion", &[("beta1", beta1), ("beta2", beta2)], &[("lr", lr), ("weight_decay", weight_decay)])
}

impl Optimizer for Lion {
    type Config = ParamsLion;

    fn new(vars: Vec<Var>, params: ParamsLion) -> Result<Lion> {
        checked(&params)?;
        Ok(Lion { slots: slots(vars)?, params })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        checked(&self.params)?;
        for slot in &mut self.slots {
            slot.step("Lion", grads, |slot, g| STEP.apply(slot, g, &uniforms(&self.params)))?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.params.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.params.lr = lr;
    }
}
