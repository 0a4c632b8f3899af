//! Formulas of rows: softmax, layer norm with a weight and a bias, several results from one pass, another axis.
//!
//! `cargo run --release -p zmlx --example row_kernels`

use candle_core::{D, DType};
use zmlx::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    let x = Tensor::randn(0f32, 1.0, (4, 6), &device)?;

    // max(x) of one argument reduces the row.
    let softmax = rowwise("let e = exp(x - max(x)); e / sum(e)")?.name("softmax");
    let p = softmax.call(&x)?;
    println!("softmax, each row sums to 1:\n{p}");
    near("sums of softmax", &p.sum(D::Minus1)?, &Tensor::ones(4, DType::F32, &device)?)?;

    // w and b have one value a column, which their shape tells; eps is a launch argument.
    let layer_norm = rowwise("let d = x - mean(x); d * rsqrt(mean(d * d) + eps) * w + b")?;
    let layer_norm = layer_norm.name("layer_norm").uniform("eps", 1e-5);
    let (w, b) = (Tensor::full(2f32, 6, &device)?, Tensor::full(1f32, 6, &device)?);
    let y = layer_norm.call(&[&x, &w, &b])?;
    println!("layer norm with weight 2 and bias 1, so that each row has the mean 1:\n{y}");
    near("means of layer norm", &y.mean(D::Minus1)?, &Tensor::ones(4, DType::F32, &device)?)?;

    // Several results: elements, values of a row, and a column number.
    let several =
        rowwise("let m = mean(x); out centred = x - m; out mean = m; out spread: f64 = std(x); out top = argmax(x)")?;
    let all = several.call_all(&x)?;
    for (name, t) in several.outputs().iter().zip(&all) {
        println!("{name:8} {:?} {:?}", t.dims(), t.dtype());
    }
    near("mean", &all[1], &x.mean(D::Minus1)?)?;
    if all[3].to_vec1::<u32>()? != x.argmax(D::Minus1)?.to_vec1::<u32>()? {
        return Err("argmax differs from candle's".into());
    }

    // The same formula along another axis: no copy of x is made first.
    let q = rowwise("softmax(x)")?.axis(0).call(&x)?;
    near("softmax along axis 0", &q.sum(0)?, &Tensor::ones(6, DType::F32, &device)?)?;

    // A mistake in the arguments says what would fit.
    match layer_norm.call(&[&x, &Tensor::ones(5, DType::F32, &device)?, &b]) {
        Ok(_) => Err("a weight of 5 must not fit 6 columns".into()),
        Err(error) => {
            println!("error, as it should be: {error}");
            Ok(())
        }
    }
}

/// Fails where the tensors differ by more than rounding.
fn near(what: &str, got: &Tensor, want: &Tensor) -> Result<(), Box<dyn std::error::Error>> {
    let most = (got - want)?.abs()?.max_all()?.to_scalar::<f32>()?;
    if most < 1e-5 { Ok(()) } else { Err(format!("{what}: differs by {most}").into()) }
}
