//! SGD: momentum, Nesterov's and the decay in one pass; without momentum there is no state.

use super::{ParamsSgd, Slot, Step, check, slots};
use crate::{
    Error,
    catalog::sgd_step::{STEP, uniforms},
    entry::{Arg, Entry, Gradient, float},
};
use candle_core::{Result, Var, backprop::GradStore};
use candle_nn::Optimizer;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// SGD as PyTorch's: with momentum, dampening (not of the first velocity), Nesterov's momentum, and decay that is added to
/// the gradient. The velocity of 16-bit parameters is f32.
#[derive(Debug)]
pub struct Sgd {
    slots: Slots,
    params: ParamsSgd,
}

#[derive(Debug)]
enum Slots {
    Plain(Vec<Slot<0>>),
    Momentum(Vec<Slot<1>>),
}

/// The step without momentum; the catalog's kernel has all others.
static PLAIN: Step = Step::new(&PLAIN_ENTRY);
static PLAIN_ENTRY: Entry = Entry {
    name: "sgd_step",
    summary: "p - lr * (g + wd * p)",
    formula: "out param = keep * p - lr * g",
    zmlx: &[],
    args: &[Arg::full("p"), Arg::full("g")],
    uniforms: &[("keep", Scalar::Float(1.0)), ("lr", Scalar::Float(0.1))],
    fallback: |t, u| Ok(vec![((&t[0] * float(u[0]))? - (&t[1] * float(u[1]))?)?]),
    gradient: Gradient::None("an update is not differentiated"),
    moves: 3.0,
    cell: OnceLock::new(),
};

fn checked(params: &ParamsSgd) -> crate::Result<()> {
    let ParamsSgd { lr, momentum, dampening, weight_decay, nesterov } = *params;
    check("Sgd", &[("momentum", momentum)], &[("lr", lr), ("weight_decay", weight_decay)])?;
    if !(0.0..=1.0).contains(&dampening) {
        return Err(Error::argument("Sgd", "dampening", "0 ≤ dampening ≤ 1", dampening));
    }
    if nesterov && (momentum == 0.0 || dampening != 0.0) {
        let got = format!("momentum {momentum}, dampening {dampening}");
        return Err(Error::argument("Sgd", "nesterov", "momentum, and no dampening", got));
    }
    Ok(())
}

impl Optimizer for Sgd {
    type Config = ParamsSgd;

    fn new(vars: Vec<Var>, params: ParamsSgd) -> Result<Sgd> {
        checked(&params)?;
        let slots = match params.momentum == 0.0 {
            true => Slots::Plain(slots(vars)?),
            false => Slots::Momentum(slots(vars)?),
        };
        Ok(Sgd { slots, params })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        checked(&self.params)?;
        let params = self.params;
        match &mut self.slots {
            Slots::Plain(slots) => {
                let u = [1.0 - params.lr * params.weight_decay, params.lr].map(Scalar::from);
                for slot in slots {
                    slot.step("Sgd", grads, |slot, g| PLAIN.apply(slot, g, &u))?;
                }
            }
            Slots::Momentum(slots) => {
                for slot in slots {
                    slot.step("Sgd", grads, |slot, g| {
                        // the first velocity is the gradient itself
                        let dampening = if slot.steps == 1 { 0.0 } else { params.dampening };
                        STEP.apply(slot, g, &uniforms(&ParamsSgd { dampening, ..params }))
                    })?;
                }
            }
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
