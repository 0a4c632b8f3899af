//! One step of SGD with momentum in one pass over parameters and state
//!
//! | name | shape | dtype            | note       |
//! |------|-------|------------------|------------|
//! | p    | any   | f16 bf16 f32 f64 | parameters |
//! | g    | as p  | a float          | gradient   |
//! | m    | as p  | a float          | velocity   |
//! | out  | as p  | as p, m          | new p, m   |
//! Of 16-bit parameters the state may be f32, and stays so.
//! Cost: 5·N elements moved.
//! Source: PyTorch's SGD: m = momentum·m + (1 − dampening)·(g + wd·p), p = p − lr·m; Nesterov adds the gradient again.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, float},
    optim::Step,
};
use candle_core::Tensor;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `sgd_step`.
pub static ENTRY: Entry = Entry {
    name: "sgd_step",
    summary: "p - lr * m'",
    formula: "let d = g + wd * p; \
              let m = momentum * m0 + rest * d; \
              out param = p - lr * (now * d + later * m); \
              out m1 = m",
    zmlx: &[],
    args: &[Arg::full("p"), Arg::full("g"), Arg::full("m0")],
    uniforms: &[
        ("wd", Scalar::Float(0.01)),
        ("momentum", Scalar::Float(0.9)),
        ("rest", Scalar::Float(1.0)),
        ("lr", Scalar::Float(0.1)),
        ("now", Scalar::Float(0.0)),
        ("later", Scalar::Float(1.0)),
    ],
    fallback: |t, u| {
        let [wd, momentum, rest, lr, now, later] = [0, 1, 2, 3, 4, 5].map(|k| float(u[k]));
        let d = (&t[1] + (&t[0] * wd)?)?;
        let m = ((&t[2] * momentum)? + (&d * rest)?)?;
        let step = ((d * now)? + (&m * later)?)?;
        Ok(vec![(&t[0] - (step * lr)?)?, m])
    },
    gradient: Gradient::None("an update is not differentiated"),
    moves: 5.0,
    cell: OnceLock::new(),
};

/// What an SGD step is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamsSgd {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the velocity.
    pub momentum: f64,
    /// Part of the gradient that does not enter the velocity.
    pub dampening: f64,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Look one step ahead.
    pub nesterov: bool,
}

impl Default for ParamsSgd {
    fn default() -> ParamsSgd {
        ParamsSgd { lr: 1e-3, momentum: 0.9, dampening: 0.0, weight_decay: 0.0, nesterov: false }
    }
}

/// The kernel, for parameters and velocity of any dtypes.
pub(crate) static STEP: Step = Step::new(&ENTRY);

/// Its launch arguments.
pub(crate) fn uniforms(opts: &ParamsSgd) -> [Scalar; 6] {
    let (now, later) = if opts.nesterov { (1.0, opts.momentum) } else { (0.0, 1.0) };
    [opts.weight_decay, opts.momentum, 1.0 - opts.dampening, opts.lr, now, later].map(Scalar::from)
}

/// New parameters and velocity. (PyTorch's first velocity is the undamped gradient: give it as `m` with momentum 1 to start so.)
pub fn sgd_step(p: &Tensor, g: &Tensor, m: &Tensor, opts: &ParamsSgd) -> Result<[Tensor; 2]> {
    let all = STEP.call(&[p, g, m], &uniforms(opts))?;
    all.try_into().map_err(|_| crate::Error::internal("sgd_step has two results"))
}
