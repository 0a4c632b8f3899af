//! What calls cost the host: the first of a process, those of small tensors, a forward and its `backward()`.

use super::Outcome;
use candle_core::{DType, Device, Tensor, Var};
use std::time::{Duration, Instant};
use zmlx::{catalog::rms_norm::rms_norm, elementwise};

/// The first calls of this process: from the compiler, or from the disk if another process left them there.
pub fn first(device: &Device) -> Outcome {
    let x = Tensor::randn(0f32, 1.0, (64, 1024), device)?;
    let w = Tensor::ones(1024, DType::F32, device)?;
    device.synchronize()?;
    let before = zmlx::stats::stats().compiles;
    let start = Instant::now();
    rms_norm(&x, &w, 1e-5)?;
    device.synchronize()?;
    let (took, compiled) = (start.elapsed(), zmlx::stats::stats().compiles - before);
    println!("first call of the process, rms_norm of f32: {:.1} ms ({compiled} kernel)", took.as_secs_f64() * 1e3);
    let v = Var::from_tensor(&x)?;
    // candle's own kernels, which the device's driver compiles when they are first loaded, are not what is measured
    (v.as_tensor() * 2.0)?.backward()?;
    let y = rms_norm(v.as_tensor(), &w, 1e-5)?;
    device.synchronize()?;
    let start = Instant::now();
    y.backward()?;
    device.synchronize()?;
    println!("first backward() of the process: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// The median time of a run, of so many between two waits for the device: until the host has queued it, and in all.
fn time<T, E: std::error::Error + 'static>(
    device: &Device,
    runs: u32,
    run: impl Fn() -> Result<T, E>,
) -> Result<(Duration, Duration), Box<dyn std::error::Error>> {
    let (mut host, mut whole) = (vec![], vec![]);
    for _ in 0..40 {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..runs {
            run()?;
        }
        host.push(start.elapsed() / runs);
        device.synchronize()?;
        whole.push(start.elapsed() / runs);
    }
    host.sort();
    whole.sort();
    Ok((host[20], whole[20]))
}

/// Small calls through candle, results allocated and freed; and a step of training.
pub fn calls(device: &Device) -> Outcome {
    let small = || Tensor::randn(0f32, 1.0, (16, 64), device);
    let (x, y, z) = (small()?, small()?, small()?);
    let micros = |d: Duration| d.as_secs_f64() * 1e6;
    let (own, _) = time(device, 100, || x.affine(2.0, 1.0))?;
    println!("host time of candle's own affine: {:.2} µs", micros(own));
    for (formula, inputs) in [("x * 2 + 1", vec![&x]), ("x * y", vec![&x, &y]), ("x * y + z", vec![&x, &y, &z])] {
        let op = elementwise(formula)?;
        let (host, _) = time(device, 100, || op.call(&inputs[..]))?;
        println!("host time of `{formula}` through candle, result allocated: {:.2} µs", micros(host));
    }
    let row = zmlx::rowwise("softmax(x)")?;
    let (host, _) = time(device, 100, || row.call(&x))?;
    println!("host time of `softmax(x)` through candle, result allocated: {:.2} µs", micros(host));

    let x = Var::from_tensor(&Tensor::randn(0f32, 1.0, (16384, 1024), device)?.to_dtype(DType::BF16)?)?;
    let w = Var::from_tensor(&Tensor::ones(1024, DType::BF16, device)?)?;
    let step = || rms_norm(x.as_tensor(), w.as_tensor(), 1e-5);
    let (host, whole) = time(device, 20, || step().and_then(|y| Ok(y.backward()?)))?;
    println!(
        "rms_norm 16384×1024 bf16, forward and backward(): {:.1} µs, of the host {:.1} µs",
        micros(whole),
        micros(host)
    );
    let (host, whole) = time(device, 20, step)?;
    println!("    its forward alone, tracked: {:.1} µs, of the host {:.1} µs", micros(whole), micros(host));
    Ok(())
}
