//! What a call costs beside its arithmetic: `cargo bench --package zmlx`. `zmlx bench` times whole kernels beside peers.

use candle_core::{Device, Result, Tensor, Var};
use criterion::{BatchSize, Criterion};
use std::hint::black_box;
use zmlx::elementwise;

const MISH: &str = "x * tanh(log(1 + exp(x)))";

/// Stops the benchmark with the error.
fn must<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{e}"))
}

/// 16 elements: the launch, not the loop. The bar is twice candle's affine.
fn small(c: &mut Criterion) {
    let mut group = c.benchmark_group("16 elements");
    let x = must(Tensor::randn(0f32, 1.0, 16, &Device::Cpu));
    let op = elementwise("x * 2 + 1").unwrap_or_else(|e| panic!("{e}"));
    group.bench_function("affine, candle", |b| b.iter(|| black_box(must(x.affine(2.0, 1.0)))));
    group.bench_function("affine, zmlx", |b| b.iter(|| black_box(must(op.call(&x).map_err(Into::into)))));
    let v = must(Var::from_tensor(&x));
    group.bench_function("affine tracked, candle", |b| b.iter(|| black_box(must(v.affine(2.0, 1.0)))));
    group.bench_function("affine tracked, zmlx", |b| {
        b.iter(|| black_box(must(op.call(v.as_tensor()).map_err(Into::into))));
    });
    group.finish();
}

/// From text to a result: parsed, bound, planned, run. The bar is 100 µs.
fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    let x = must(Tensor::randn(0f32, 1.0, 16, &Device::Cpu));
    let mut number = 0;
    group.bench_function("mish, a new formula and its first call", |b| {
        let text = || {
            number += 1;
            format!("{MISH} + {number}")
        };
        let run = |text: String| elementwise(&text).and_then(|op| op.call(&x)).unwrap_or_else(|e| panic!("{e}"));
        b.iter_batched(text, run, BatchSize::SmallInput);
    });
    group.bench_function("mish, the same formula again", |b| {
        b.iter(|| elementwise(MISH).and_then(|op| op.call(&x)).unwrap_or_else(|e| panic!("{e}")));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    small(&mut criterion);
    build(&mut criterion);
    criterion.final_summary();
}
