//! A gradient of your own: `grad_of` replaces the derived gradient of one input, and the check that it is right.
//!
//! `cargo run --release -p zmlx --example custom_gradient`

use zmlx::{prelude::*, testing::assert_gradient_matches};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shapes: &[&[usize]] = &[&[5], &[3, 7], &[64, 33]];

    // y stands for the result and g for its cotangent, so that the gradient of tanh needs no second tanh.
    let written = elementwise("tanh(x)")?.name("my_tanh").grad_of("x", "g * (1 - y * y)");
    assert_gradient_matches(|t| written.call(&t[0]), |t| Ok(t[0].tanh()?), shapes)?;
    println!("g * (1 - y * y) is the gradient of tanh on {shapes:?}");

    // The check finds a mistake, and says how large it is.
    let wrong = elementwise("tanh(x)")?.name("wrong").grad_of("x", "g * (1 - y)");
    match assert_gradient_matches(|t| wrong.call(&t[0]), |t| Ok(t[0].tanh()?), shapes) {
        Ok(()) => return Err("a wrong gradient passed the check".into()),
        Err(error) => println!("g * (1 - y) is not:\n  {error}"),
    }

    // A gradient that is not the derivative, on purpose: rounding lets it through (the straight-through estimator),
    // and the scale keeps the gradient that is derived.
    let quantise = elementwise("round(x / scale) * scale")?.name("quantise").grad_of("x", "g");
    let x = Var::from_tensor(&Tensor::new(&[-0.7f32, 0.2, 0.4, 1.3], &Device::Cpu)?)?;
    let scale = Var::from_tensor(&Tensor::new(0.5f32, &Device::Cpu)?)?;
    let y = quantise.call(&[&x, &scale])?;
    let grads = y.sum_all()?.backward()?;
    let dx = grads.get(&x).ok_or("x has a gradient")?.to_vec1::<f32>()?;
    let dscale = grads.get(&scale).ok_or("scale has a gradient")?.to_scalar::<f32>()?;
    println!("quantised {:?}, d/dx {dx:?}, d/dscale {dscale}", y.to_vec1::<f32>()?);
    if dx != [1.0; 4] || dscale != 3.0 {
        return Err(format!("expected d/dx of ones and d/dscale 3, got {dx:?} and {dscale}").into());
    }

    // A mistake in the formula is reported where the operation is built.
    match elementwise("tanh(x)")?.name("typo").grad_of("x", "g * (1 - z)").build() {
        Ok(_) => Err("z is unknown there".into()),
        Err(error) => {
            println!("error, as it should be:\n{error}");
            Ok(())
        }
    }
}
