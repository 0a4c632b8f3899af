//! A first kernel: Mish from one line, its value beside plain candle, and its derived gradient.
//!
//! `cargo run --release -p zmlx --example first_kernel`

use zmlx::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mish = elementwise("x * tanh(log(1 + exp(x)))")?.name("mish");
    println!("{mish:?}");

    let x = Var::from_tensor(&Tensor::new(&[-2f32, -1.0, 0.0, 1.0, 2.0, 100.0], &Device::Cpu)?)?;
    let y = mish.call(&x)?;
    let grads = y.sum_all()?.backward()?;
    let dx = grads.get(&x).ok_or("x has a gradient")?;

    // The same in plain candle operations: five passes over memory, and inf · 0 in the gradient at 100.
    let plain = (x.as_tensor() * (x.exp()? + 1.0)?.log()?.tanh()?)?;
    let plain_grads = plain.sum_all()?.backward()?;
    let plain_dx = plain_grads.get(&x).ok_or("x has a gradient")?;

    println!("{:>8} {:>12} {:>12} {:>12} {:>12}", "x", "zmlx", "candle", "zmlx d/dx", "candle d/dx");
    let columns = [x.as_tensor(), &y, &plain, dx, plain_dx];
    let columns = columns.map(|t| t.to_vec1::<f32>()).into_iter().collect::<Result<Vec<_>, _>>()?;
    for (row, x) in columns[0].iter().enumerate() {
        let [y, plain, dx, plain_dx] = [1, 2, 3, 4].map(|c| columns[c][row]);
        println!("{x:8} {y:12.6} {plain:12.6} {dx:12.6} {plain_dx:12.6}");
    }
    println!("log(1 + exp(x)) became softplus(x), which does not overflow.");

    let [y, dx] = [columns[1][5], columns[3][5]];
    if y != 100.0 || dx != 1.0 {
        return Err(format!("mish(100), expected 100 and the slope 1, got {y} and {dx}").into());
    }
    Ok(())
}
