//! A small network learns sin(3x): candle's matmul, Var and backward, with fused kernels for the activation, the loss
//! and the optimiser's step.
//!
//! `cargo run --release -p zmlx --example train`

use candle_core::DType;
use zmlx::{
    catalog::adamw_step::{AdamW, adamw_step},
    prelude::*,
};

const STEPS: u32 = 400;
const HIDDEN: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    // Fixed weights and points, so that every run is the same.
    let spread =
        |n: usize, by: f32| -> Vec<f32> { (0..n).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * by).collect() };
    let x = Tensor::arange(0f32, 256.0, &device)?.affine(2.0 / 255.0, -1.0)?.unsqueeze(1)?;
    let target = (&x * 3.0)?.sin()?;

    let weights = [
        Var::from_vec(spread(HIDDEN, 3.0), (1, HIDDEN), &device)?,
        Var::from_vec(spread(HIDDEN + 7, 1.0).split_off(7), HIDDEN, &device)?,
        Var::from_vec(spread(HIDDEN + 3, 0.3).split_off(3), (HIDDEN, 1), &device)?,
        Var::zeros(1, DType::F32, &device)?,
    ];
    let [w1, b1, w2, b2] = &weights;
    let mut moments: Vec<[Tensor; 2]> =
        weights.iter().map(|w| Ok([w.zeros_like()?, w.zeros_like()?])).collect::<candle_core::Result<_>>()?;

    // One pass each, and one for the gradients of all their inputs: bias and activation; bias and squared error.
    let hidden = elementwise("silu(h + b)")?.name("hidden").build()?;
    let error = elementwise("let d = h + b - target; d * d")?.name("error").build()?;
    let options = AdamW { lr: 0.01, weight_decay: 0.0, ..AdamW::default() };

    let mut losses = vec![];
    for step in 1..=STEPS {
        let h = hidden.call(&[&x.matmul(w1)?, b1.as_tensor()])?;
        let loss = error.call(&[&h.matmul(w2)?, b2.as_tensor(), &target])?.mean_all()?;
        losses.push(loss.to_scalar::<f32>()?);
        if step == 1 || step % 50 == 0 {
            println!("step {step:4}  loss {:.6}", losses[losses.len() - 1]);
        }
        let grads = loss.backward()?;
        for (w, [m, v]) in weights.iter().zip(&mut moments) {
            let g = grads.get(w).ok_or("every weight has a gradient")?;
            let [new, m1, v1] = adamw_step(&w.as_detached_tensor(), g, m, v, &options, step)?;
            w.set(&new)?;
            (*m, *v) = (m1, v1);
        }
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    if last.is_nan() || last > 0.01 * first {
        return Err(format!("loss after {STEPS} steps, expected a hundredth of {first}, got {last}").into());
    }
    println!("{} times smaller", (first / last).round());
    Ok(())
}
