//! AdamW: both moments, the update and the decay in one pass.

use super::{ParamsAdamW, Slot, check, slots};
use crate::catalog::adamw_step::{STEP, uniforms};
use candle_core::{Result, Var, backprop::GradStore};
use candle_nn::Optimizer;

/// AdamW (arXiv:1711.05101, algorithm 2), in place of candle's: the same parameters, constructors and, within rounding, values.
/// Moments of 16-bit parameters are f32.
#[derive(Debug)]
pub struct AdamW {
    slots: Vec<Slot<2>>,
    params: ParamsAdamW,
}

fn checked(params: &ParamsAdamW) -> crate::Result<()> {
    let ParamsAdamW { lr, beta1, beta2, eps, weight_decay } = *params;
    let at_least_0 = [("lr", lr), ("eps", eps), ("weight_decay", weight_decay)];
    check("AdamW", &[("beta1", beta1), ("beta2", beta2)], &at_least_0)
}

impl AdamW {
    /// With this learning rate, and candle's other parameters.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub fn new_lr(vars: Vec<Var>, learning_rate: f64) -> Result<AdamW> {
        AdamW::new(vars, ParamsAdamW { lr: learning_rate, ..ParamsAdamW::default() })
    }

    /// What it steps by.
    pub fn params(&self) -> &ParamsAdamW {
        &self.params
    }

    /// Steps by these from now on; the next step tells what is wrong with them.
    pub fn set_params(&mut self, params: ParamsAdamW) {
        self.params = params;
    }
}

impl Optimizer for AdamW {
    type Config = ParamsAdamW;

    fn new(vars: Vec<Var>, params: ParamsAdamW) -> Result<AdamW> {
        checked(&params)?;
        Ok(AdamW { slots: slots(vars)?, params })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        checked(&self.params)?;
        for slot in &mut self.slots {
            slot.step("AdamW", grads, |slot, g| STEP.apply(slot, g, &uniforms(&self.params, slot.steps)))?;
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
