//! Muon: momentum in one pass, its orthogonalization by matrix products, the update and the decay in one more.

use super::{Slot, check, slots};
use crate::{Error, bridge, fused::Fused};
use candle_core::{DType, Result, Tensor, Var, backprop::GradStore};
use candle_nn::Optimizer;

const NAME: &str = "Muon";

/// Muon (Keller Jordan, <https://kellerjordan.github.io/posts/muon>): the momentum of a matrix, made nearly orthogonal by a Newton-Schulz
/// iteration of degree 5. It is for the matrices of hidden layers; of a Var of another rank `new` is an error: embeddings,
/// heads, biases and weights of norms are trained by [`super::AdamW`] beside it. The momentum is f32 (of f64 matrices f64).
/// Runs on devices that this build has a backend for.
#[derive(Debug)]
pub struct Muon {
    slots: Vec<Slot<1>>,
    params: ParamsMuon,
}

/// What Muon steps by; the defaults are those of the published code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamsMuon {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the momentum, which is an average: `m ← momentum·m + (1 − momentum)·g`.
    pub momentum: f64,
    /// Look one step ahead.
    pub nesterov: bool,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Turns of the Newton-Schulz iteration.
    pub steps: usize,
    /// The iteration's matrix products in bf16. On the CPU, where candle has none of bf16, and of f64 they are in the
    /// momentum's dtype.
    pub bf16: bool,
}

impl Default for ParamsMuon {
    fn default() -> ParamsMuon {
        ParamsMuon { lr: 0.02, momentum: 0.95, nesterov: true, weight_decay: 0.0, steps: 5, bf16: true }
    }
}

fn checked(params: &ParamsMuon) -> crate::Result<()> {
    check(NAME, &[("momentum", params.momentum)], &[("lr", params.lr), ("weight_decay", params.weight_decay)])
}

// the momentum stands first: results have its dtype
static MOMENTUM: Fused =
    Fused::new(NAME, "let m = momentum * m0 + rest * g; out m1 = m; out update = now * g + later * m");
static SQUARES: Fused = Fused::new(NAME, "sum(x * x)");
static UNIT: Fused = Fused::new(NAME, "x / (sqrt(squares) + 1e-7)");
// the coefficients of the published code: the slope at 0 is as large as it may be
static QUINTIC: Fused = Fused::new(NAME, "-4.7750 * a + 2.0315 * aa");
static TURN: Fused = Fused::new(NAME, "3.4445 * x + bx");
static UPDATE: Fused = Fused::new(NAME, "keep * p - step * o");

/// A matrix with the same singular vectors, whose singular values lie around 1 (between about 0.7 and 1.2 after 5 turns).
fn orthogonalized(x: &Tensor, steps: usize, dtype: DType) -> crate::Result<Tensor> {
    let tall = x.dim(0)? > x.dim(1)?;
    let x = if tall { x.t()? } else { x.clone() };
    let squares = SQUARES.op(&[])?.call(&x)?.sum_all()?;
    let mut x = UNIT.op(&[])?.call(&[&x, &squares])?.to_dtype(dtype)?;
    for _ in 0..steps {
        let a = x.matmul(&x.t()?)?;
        let b = QUINTIC.op(&[])?.call(&[&a, &a.matmul(&a)?])?;
        x = TURN.op(&[])?.call(&[&x, &b.matmul(&x)?])?;
    }
    Ok(if tall { x.t()? } else { x })
}

impl Muon {
    fn apply(slot: &mut Slot<1>, g: &Tensor, params: &ParamsMuon) -> crate::Result<()> {
        let ParamsMuon { lr, momentum, nesterov, weight_decay, steps, bf16 } = *params;
        let [m] = &slot.state;
        let dtype = match bf16 && m.dtype() == DType::F32 && !m.device().is_cpu() {
            true => DType::BF16,
            false => m.dtype(),
        };
        let (now, later) = if nesterov { (1.0 - momentum, momentum) } else { (0.0, 1.0) };
        let weights = [("momentum", momentum), ("rest", 1.0 - momentum), ("now", now), ("later", later)];
        let [m, update] = <[Tensor; 2]>::try_from(MOMENTUM.op(&weights)?.call_all(&[m, g])?)
            .map_err(|_| Error::internal("momentum has two results"))?;
        let o = orthogonalized(&update, steps, dtype)?;
        let (rows, cols) = update.dims2()?;
        let step = lr * (rows as f64 / cols as f64).max(1.0).sqrt();
        let op = UPDATE.op(&[("keep", 1.0 - lr * weight_decay), ("step", step)])?;
        let mut new = op.run_untracked(&[&slot.var.as_detached_tensor(), &o])?;
        bridge::overwrite(&slot.var, new.swap_remove(0))?;
        slot.state = [m];
        Ok(())
    }
}

impl Optimizer for Muon {
    type Config = ParamsMuon;

    fn new(vars: Vec<Var>, params: ParamsMuon) -> Result<Muon> {
        checked(&params)?;
        let slots: Vec<Slot<1>> = slots(vars)?;
        if let Some(other) = slots.iter().find(|s| s.var.rank() != 2) {
            let expected = "matrices alone, of rank 2 (give the others to AdamW)";
            return Err(Error::shape(NAME, "a Var", expected, other.var.dims()).into());
        }
        Ok(Muon { slots, params })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        checked(&self.params)?;
        for slot in &mut self.slots {
            slot.step(NAME, grads, |slot, g| Muon::apply(slot, g, &self.params))?;
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
