//! A small network learns sin(3x): candle's matmul, Var and backward, with fused kernels for the activations and the loss,
//! Muon for the hidden layer's matrix and AdamW for everything else.
//!
//! `cargo run --release -p zmlx --example train`

use candle_core::DType;
use zmlx::{
    optim::{AdamW, Muon, Optimizer, ParamsAdamW, ParamsMuon},
    prelude::*,
};

const STEPS: u32 = 300;
const HIDDEN: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    // Fixed weights and points, so that every run is the same.
    let spread = |seed: usize, dims: (usize, usize), by: f32| {
        let numbers = (seed..).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * by);
        Var::from_vec(numbers.take(dims.0 * dims.1).collect(), dims, &device)
    };
    let x = Tensor::arange(0f32, 256.0, &device)?.affine(2.0 / 255.0, -1.0)?.unsqueeze(1)?;
    let target = (&x * 3.0)?.sin()?;

    let (w1, b1) = (spread(0, (1, HIDDEN), 3.0)?, spread(7, (1, HIDDEN), 1.0)?);
    let (w2, b2) = (spread(5, (HIDDEN, HIDDEN), 0.3)?, Var::zeros(HIDDEN, DType::F32, &device)?);
    let (w3, b3) = (spread(3, (HIDDEN, 1), 0.3)?, Var::zeros(1, DType::F32, &device)?);
    let mut muon = Muon::from_slice(&[&w2], ParamsMuon { lr: 0.01, ..ParamsMuon::default() })?;
    let params = ParamsAdamW { lr: 0.01, weight_decay: 0.0, ..ParamsAdamW::default() };
    let mut adamw = AdamW::from_slice(&[&w1, &b1, &b2, &w3, &b3], params)?;

    // One pass each, and one for the gradients of all their inputs: bias and activation; bias and squared error.
    let hidden = elementwise("silu(h + b)")?.name("hidden").build()?;
    let error = elementwise("let d = h + b - target; d * d")?.name("error").build()?;

    let mut losses = vec![];
    for step in 1..=STEPS {
        let h = hidden.call(&[&x.matmul(&w1)?, b1.as_tensor()])?;
        let h = hidden.call(&[&h.matmul(&w2)?, b2.as_tensor()])?;
        let loss = error.call(&[&h.matmul(&w3)?, b3.as_tensor(), &target])?.mean_all()?;
        losses.push(loss.to_scalar::<f32>()?);
        if step == 1 || step % 50 == 0 {
            println!("step {step:4}  loss {:.6}", losses[losses.len() - 1]);
        }
        // steps grow shorter towards the end
        let rate = 0.01 * f64::from(STEPS - step + 1) / f64::from(STEPS);
        muon.set_learning_rate(rate);
        adamw.set_learning_rate(rate);
        let grads = loss.backward()?;
        muon.step(&grads)?;
        adamw.step(&grads)?;
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    if last.is_nan() || last > 0.01 * first {
        return Err(format!("loss after {STEPS} steps, expected a hundredth of {first}, got {last}").into());
    }
    println!("{} times smaller", (first / last).round());
    Ok(())
}
