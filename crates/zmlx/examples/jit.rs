//! A Rust function that is an operation on tensors too: `#[jit]` keeps it callable, and traces it into a kernel.
//!
//! `cargo run --release -p zmlx --example jit`

use zmlx::prelude::*;

/// A bump around 0, with an early return, a variable that both branches change, and a loop.
#[zmlx::jit]
fn bump(x: f32, width: f32) -> f32 {
    let t = x.abs() / width;
    if t >= 1.0 {
        return 0.0;
    }
    let mut value = 1.0 - t;
    if t < 0.5 {
        value += (0.5 - t) * 0.25;
    } else {
        value *= 0.9;
    }
    for _ in 0..2 {
        value = value * value * (3.0 - 2.0 * value);
    }
    value
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let op = bump::op()?;
    println!("what was traced (both sides of an if are computed, a select takes one):\n{}\n", op.formula());

    let xs = [-2f32, -0.9, -0.5, -0.25, 0.0, 0.125, 0.75, 1.5];
    let x = Var::from_tensor(&Tensor::new(&xs, &Device::Cpu)?)?;
    let width = Tensor::new(1.25f32, &Device::Cpu)?;
    let y = op.call(&[x.as_tensor(), &width])?;
    let grads = y.sum_all()?.backward()?;
    let slopes = grads.get(&x).ok_or("x has a gradient")?.to_vec1::<f32>()?;

    println!("{:>8} {:>12} {:>12} {:>12} {:>12}", "x", "function", "operation", "difference", "gradient");
    for ((x, y), slope) in xs.iter().zip(y.to_vec1::<f32>()?).zip(slopes) {
        let plain = bump(*x, 1.25);
        // by central differences of the plain function
        let h = 1e-3;
        let difference = (bump(x + h, 1.25) - bump(x - h, 1.25)) / (2.0 * h);
        println!("{x:8} {plain:12.7} {y:12.7} {difference:12.4} {slope:12.4}");
        if (plain - y).abs() > 1e-6 {
            return Err(format!("bump({x}), expected {plain}, got {y}").into());
        }
        // at 0 the function has a corner
        if *x != 0.0 && (difference - slope).abs() > 2e-3 {
            return Err(format!("slope at {x}, expected {difference}, got {slope}").into());
        }
    }
    Ok(())
}
