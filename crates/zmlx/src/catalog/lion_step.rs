//! One Lion step in one pass over parameters and state
//!
//! | name | shape | dtype            | note       |
//! |------|-------|------------------|------------|
//! | p    | any   | f16 bf16 f32 f64 | parameters |
//! | g    | as p  | a float          | gradient   |
//! | m    | as p  | a float          | momentum   |
//! | out  | as p  | as p, m          | new p, m   |
//! Of 16-bit parameters the state may be f32, and stays so.
//! Cost: 5·N elements moved.
//! Source: arXiv:2302.06675, algorithm 2.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, float},
    optim::Step,
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `lion_step`.
pub static ENTRY: Entry = Entry {
    name: "lion_step",
    summary: "p - lr * (sign(beta1 * m + (1 - beta1) * g) + wd * p)",
    formula: "let c = beta1 * m0 + rest1 * g; \
              out param = keep * p - lr * sign(c); \
              out m1 = beta2 * m0 + rest2 * g",
    zmlx: &[],
    args: &[Arg::full("p"), Arg::full("g"), Arg::full("m0")],
    uniforms: &[
        ("beta1", Scalar::Float(0.9)),
        ("rest1", Scalar::Float(1.0 - 0.9)),
        ("beta2", Scalar::Float(0.99)),
        ("rest2", Scalar::Float(1.0 - 0.99)),
        ("keep", Scalar::Float(1.0 - 1e-4 * 0.01)),
        ("lr", Scalar::Float(1e-4)),
    ],
    fallback: |t, u| {
        let [beta1, rest1, beta2, rest2, keep, lr] = [0, 1, 2, 3, 4, 5].map(|k| float(u[k]));
        let c = ((&t[2] * beta1)? + (&t[1] * rest1)?)?;
        let m = ((&t[2] * beta2)? + (&t[1] * rest2)?)?;
        Ok(vec![((&t[0] * keep)? - (c.sign()? * lr)?)?, m])
    },
    gradient: Gradient::None("an update is not differentiated"),
    moves: 5.0,
    cell: OnceLock::new(),
};

/// What a Lion step is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamsLion {
    /// Learning rate.
    pub lr: f64,
    /// Weight of the momentum in the step.
    pub beta1: f64,
    /// Decay of the momentum.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for ParamsLion {
    fn default() -> ParamsLion {
        ParamsLion { lr: 1e-4, beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

/// The kernel, for parameters and momentum of any dtypes.
pub(crate) static STEP: Step = Step::new(&ENTRY);

/// Its launch arguments.
pub(crate) fn uniforms(opts: &ParamsLion) -> [Scalar; 6] {
    let (b1, b2) = (opts.beta1, opts.beta2);
    [b1, 1.0 - b1, b2, 1.0 - b2, 1.0 - opts.lr * opts.weight_decay, opts.lr].map(Scalar::from)
}

/// New parameters and momentum.
pub fn lion_step(p: &Tensor, g: &Tensor, m: &Tensor, opts: &ParamsLion) -> Result<[Tensor; 2]> {
    let all = STEP.call(&[p, g, m], &uniforms(opts))?;
    all.try_into().map_err(|_| crate::Error::internal("lion_step has two results"))
}
