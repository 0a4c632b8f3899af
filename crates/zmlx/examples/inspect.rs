//! A look inside: the typed Program of a formula, that of its gradient, the passes that the CPU runs, what a call costs,
//! and what the process compiled and launched.
//!
//! `cargo run --release -p zmlx --example inspect`

use candle_core::DType;
use zmlx::{prelude::*, profile::profile, registry, stats};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stats::reset();
    let device = Device::Cpu;
    let norm = rowwise("x * rsqrt(mean(x * x) + eps) * w")?.name("rms_norm").uniform("eps", 1e-6);
    let x = Tensor::randn(0f32, 1.0, (256, 1024), &device)?;
    let w = Tensor::ones(1024, DType::F32, &device)?;

    let profile = profile(&norm, &[&x, &w], 20)?;
    println!("the Program, one value a line:\n\n{}", profile.program);
    println!("its passes over the rows:\n\n{}", profile.kernel);
    for program in norm.vjp_program(&[&x, &w])? {
        println!("the Program of its gradient:\n\n{}", program.compact());
    }
    let bytes = profile.input_bytes + profile.output_bytes;
    let (fastest, slowest) = profile.range_us;
    println!(
        "a call: {:.0} µs ({fastest:.0} to {slowest:.0}), {:.1} MB in and out, {:.1} GB/s",
        profile.median_us,
        bytes as f64 / 1e6,
        bytes as f64 / profile.median_us / 1e3
    );

    // Another shape, and another value of eps, find what is compiled; another dtype does not.
    let compiled = || stats::stats().compiles;
    let before = compiled();
    norm.call(&[&x.narrow(0, 0, 100)?, &w])?;
    norm.with("eps", 1e-5).call(&[&x, &w])?;
    let same = compiled();
    norm.call(&[&x.to_dtype(DType::BF16)?, &w])?;
    println!("compiled by a new shape and a new eps: {}, by a new dtype: {}", same - before, compiled() - same);
    println!("specialisations of {}: {}", registry::hottest(1)[0].name, norm.specialisations());
    println!("{:?}", stats::stats());
    if (same - before, compiled() - same) != (0, 1) {
        return Err("a new shape compiled again, or a new dtype did not".into());
    }
    Ok(())
}
