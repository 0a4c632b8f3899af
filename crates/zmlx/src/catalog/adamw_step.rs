//! One AdamW step in one pass over parameters and state
//!
//! | name | shape | dtype            | note                    |
//! |------|-------|------------------|-------------------------|
//! | p    | any   | f16 bf16 f32 f64 | parameters              |
//! | g    | as p  | a float          | gradient                |
//! | m, v | as p  | a float          | first and second moment |
//! | out  | as p  | as p, m, v       | new p, m, v             |
//! Of 16-bit parameters the state may be f32, and stays so.
//! Cost: 7·N elements moved.
//! Source: arXiv:1711.05101, algorithm 2; steps count from 1.

use crate::{
    Result,
    entry::{Arg, Entry, Gradient, Values, float},
    optim::Step,
};
use candle_core::Tensor;
use candle_nn::ParamsAdamW;
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `adamw_step`.
pub static ENTRY: Entry = Entry {
    name: "adamw_step",
    summary: "p - lr * (m' / (sqrt(v') + eps) + wd * p)",
    // one division an element: what does not depend on the element is folded into `keep`, `rate` and `root`
    formula: "let m = beta1 * m0 + rest1 * g; \
              let v = beta2 * v0 + rest2 * g * g; \
              out param = keep * p - rate * m / (root * sqrt(v) + eps); \
              out m1 = m; out v1 = v",
    zmlx: &["optimizers.adamw_step"],
    args: &[Arg::full("p"), Arg::full("g"), Arg::full("m0"), Arg::full("v0").of(Values::Range(0.0, 1.0))],
    // combined on the host, in f64: some are small, or close to 1
    uniforms: &[
        ("beta1", Scalar::Float(0.9)),
        ("rest1", Scalar::Float(1.0 - 0.9)),
        ("beta2", Scalar::Float(0.999)),
        ("rest2", Scalar::Float(1.0 - 0.999)),
        ("eps", Scalar::Float(1e-8)),
        // 1 - lr * wd
        ("keep", Scalar::Float(1.0 - 1e-3 * 0.01)),
        // lr / bias1
        ("rate", Scalar::Float(1e-3 / (1.0 - 0.9 * 0.9 * 0.9))),
        // 1 / sqrt(bias2), here of the third step
        ("root", Scalar::Float(18.266_551_097_567_3)),
    ],
    fallback: |t, u| {
        let [beta1, rest1, beta2, rest2, eps, keep, rate, root] = [0, 1, 2, 3, 4, 5, 6, 7].map(|k| float(u[k]));
        let (p, g) = (&t[0], &t[1]);
        let m = ((&t[2] * beta1)? + (g * rest1)?)?;
        let v = ((&t[3] * beta2)? + (g.sqr()? * rest2)?)?;
        let update = (&m / ((v.sqrt()? * root)? + eps)?)?;
        Ok(vec![((p * keep)? - (update * rate)?)?, m, v])
    },
    gradient: Gradient::None("an update is not differentiated"),
    moves: 7.0,
    cell: OnceLock::new(),
};

/// The kernel, for parameters and moments of any dtypes.
pub(crate) static STEP: Step = Step::new(&ENTRY);

/// Its launch arguments at step `step`.
pub(crate) fn uniforms(opts: &ParamsAdamW, step: u32) -> [Scalar; 8] {
    let bias = |beta: f64| 1.0 - beta.powf(f64::from(step));
    let (b1, b2) = (opts.beta1, opts.beta2);
    let (keep, rate, root) = (1.0 - opts.lr * opts.weight_decay, opts.lr / bias(b1), bias(b2).sqrt().recip());
    [b1, 1.0 - b1, b2, 1.0 - b2, opts.eps, keep, rate, root].map(Scalar::from)
}

/// New parameters and moments after step `step` (the first is 1).
pub fn adamw_step(
    p: &Tensor,
    g: &Tensor,
    m: &Tensor,
    v: &Tensor,
    opts: &ParamsAdamW,
    step: u32,
) -> Result<[Tensor; 3]> {
    if step == 0 {
        return Err(crate::Error::argument(ENTRY.name, "step", "1 or more: the first is 1", step));
    }
    let all = STEP.call(&[p, g, m, v], &uniforms(opts, step))?;
    all.try_into().map_err(|_| crate::Error::internal("adamw_step has three results"))
}
