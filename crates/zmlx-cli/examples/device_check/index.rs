//! The catalog's functions of rows found by an index, and of inputs in parts: on the device as on the CPU, and their times.

use crate::{Outcome, expect};
use candle_core::{DType, Device, Result, Tensor, Var};
use std::time::Instant;
use zmlx::{
    catalog::{
        depthwise_conv_3x3::depthwise_conv_3x3,
        gather_add::{gather_add, scatter_add},
        moe_combine::{moe_combine, moe_combine_rows},
        moe_dispatch::moe_dispatch,
        resize_bilinear::resize_bilinear,
        rope::rope,
        rope_interleaved::rope_interleaved,
        rope_positions::{rope_and_cache_update, rope_positions},
        rope_turns::rope_turns,
    },
    rotary::Rotary,
};

/// Floats of a wave, the same everywhere.
pub fn wave(dims: &[usize], k: usize, device: &Device) -> Result<Tensor> {
    let n = dims.iter().product::<usize>();
    let all: Vec<f32> = (0..n).map(|i| ((i * 7 + k) as f32 * 0.37).sin()).collect();
    Tensor::from_vec(all, dims, &Device::Cpu)?.to_device(device)
}

/// Integers below `n`, u32.
fn below(n: usize, dims: &[usize], device: &Device) -> Result<Tensor> {
    let count = dims.iter().product::<usize>();
    let all: Vec<u32> = (0..count).map(|i| (i * 7919 + i * i % 31) as u32 % n as u32).collect();
    Tensor::from_vec(all, dims, &Device::Cpu)?.to_device(device)
}

/// What all of them give, gradients by the tape among it.
fn results(device: &Device) -> std::result::Result<Vec<(&'static str, Tensor)>, Box<dyn std::error::Error>> {
    let mut all = vec![];
    let rotary = Rotary::new(64, 1e4);
    let (cos, sin) = rotary.tables(0, 40, DType::F32, device)?;
    let x = Var::from_tensor(&wave(&[2, 3, 40, 96], 1, device)?)?;
    let pairs = Var::from_tensor(&wave(&[2, 3, 40, 64], 2, device)?)?;
    let at = below(40, &[40], device)?;
    let mut both = |name: &'static str, y: Tensor, of: &[&Var]| -> Outcome {
        let g = y.sqr()?.sum_all()?.backward()?;
        all.push((name, y.detach()));
        for v in of {
            all.push((name, g.get(v).ok_or("no gradient")?.clone()));
        }
        Ok(())
    };
    both("rope", rope(&x, &cos, &sin)?, &[&x])?;
    both("rope_interleaved", rope_interleaved(&pairs, &cos, &sin)?, &[&pairs])?;
    both("rope_turns", rope_turns(&pairs, &at, &rotary)?, &[&pairs])?;
    let table = Var::from_tensor(&cos)?;
    both("rope_positions", rope_positions(&pairs, &table, &sin, &at)?, &[&pairs, &table])?;
    let src = Var::from_tensor(&wave(&[700, 33], 3, device)?)?;
    let (idx, other) = (below(700, &[5000], device)?, wave(&[5000, 33], 4, device)?);
    both("gather_add", gather_add(&src, &idx, &other)?, &[&src])?;
    let (tokens, experts) = (Var::from_tensor(&wave(&[900, 40], 5, device)?)?, below(128, &[900, 8], device)?);
    let w = Var::from_tensor(&wave(&[900, 8], 6, device)?)?;
    let d = moe_dispatch(&tokens, &experts, 128)?;
    let back = moe_combine_rows(&d.rows, &d.positions, &w)?;
    both("moe_dispatch and moe_combine_rows", back, &[&tokens, &w])?;
    let y = Var::from_tensor(&wave(&[300, 8, 65], 7, device)?)?;
    let w = Var::from_tensor(&wave(&[300, 8], 8, device)?)?;
    both("moe_combine", moe_combine(&y, &w)?, &[&y, &w])?;
    let image = Var::from_tensor(&wave(&[2, 9, 7, 20], 9, device)?)?;
    let kernel = Var::from_tensor(&wave(&[3, 3, 20], 10, device)?)?;
    both("resize_bilinear", resize_bilinear(&image, (13, 5))?, &[&image])?;
    both("depthwise_conv_3x3", depthwise_conv_3x3(&image, &kernel)?, &[&image, &kernel])?;
    all.push(("depthwise_conv_3x3 in one launch", depthwise_conv_3x3(&image.detach(), &kernel.detach())?));
    for (name, t) in [("tokens", &d.tokens), ("offsets", &d.offsets), ("positions", &d.positions)] {
        all.push((name, t.to_dtype(DType::F32)?));
    }
    all.push(("scatter_add", scatter_add(&idx, &other, 700)?));
    let caches = [wave(&[2, 40, 3, 64], 11, device)?, wave(&[2, 40, 3, 64], 12, device)?];
    let new = [wave(&[2, 6, 64], 13, device)?, wave(&[2, 3, 64], 14, device)?, wave(&[2, 3, 64], 15, device)?];
    let offset = Tensor::new(&[3u32, 39], device)?;
    let q = rope_and_cache_update(new.each_ref(), [&cos, &sin], caches.each_ref(), &offset)?;
    all.push(("rope_and_cache_update", q));
    all.extend(caches.into_iter().map(|c| ("caches", c)));
    Ok(all)
}

/// Compares the device with the CPU.
pub fn check(device: &Device) -> Outcome {
    let (got, want) = (results(device)?, results(&Device::Cpu)?);
    for ((name, g), (_, w)) in got.iter().zip(&want) {
        let off = (g.to_device(&Device::Cpu)? - w)?.abs()?.max_all()?.to_scalar::<f32>()?;
        let most = w.abs()?.max_all()?.to_scalar::<f32>()?;
        expect(
            &format!("{name} {:?} is that of the CPU (off by {off:.1e} of {most:.1e})", g.dims()),
            off <= 1e-5 * most,
        )?;
    }
    Ok(())
}

/// Microseconds of a call, of many.
fn time(name: &str, bytes: usize, device: &Device, mut f: impl FnMut() -> zmlx::Result<Tensor>) -> Outcome {
    for _ in 0..3 {
        f()?;
    }
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..10 {
            f()?;
        }
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64() / 10.0);
    }
    println!("{name}: {:.1} us, {:.0} GB/s of the least bytes", best * 1e6, bytes as f64 / best * 1e-9);
    Ok(())
}

/// Times on a GPU, bf16.
pub fn times(device: &Device) -> Outcome {
    if device.is_cpu() {
        return Ok(());
    }
    zmlx::keep_freed_memory(device)?;
    let bf16 = |dims: &[usize]| Tensor::randn(0f32, 1f32, dims, device)?.to_dtype(DType::BF16);
    let rotary = Rotary::new(128, 1e4);
    let (cos, sin) = rotary.tables(0, 4096, DType::F32, device)?;
    let x = bf16(&[4, 32, 4096, 128])?;
    let moved = 4 * x.elem_count();
    let at = Tensor::arange(0u32, 4096, device)?;
    time("rope 4x32x4096x128", moved, device, || rope(&x, &cos, &sin))?;
    time("rope_interleaved 4x32x4096x128", moved, device, || rope_interleaved(&x, &cos, &sin))?;
    time("rope_positions 4x32x4096x128", moved, device, || rope_positions(&x, &cos, &sin, &at))?;
    time("rope_turns 4x32x4096x128", moved, device, || rope_turns(&x, &at, &rotary))?;
    let (tokens, k, cols) = (16384, 8, 2048);
    let (y, w) = (bf16(&[tokens, k, cols])?, bf16(&[tokens, k])?);
    time("moe_combine 16384x8x2048", 2 * (k + 1) * tokens * cols, device, || moe_combine(&y, &w))?;
    let experts = (Tensor::rand(0f32, 1f32, (tokens, k), device)? * 128.0)?.to_dtype(DType::U32)?;
    let x = bf16(&[tokens, cols])?;
    let d = moe_dispatch(&x, &experts, 128)?;
    let rows = y.reshape((tokens * k, cols))?;
    let moved = 2 * (k + 1) * tokens * cols;
    time("moe_combine_rows 16384x8x2048", moved, device, || moe_combine_rows(&rows, &d.positions, &w))?;
    time("moe_dispatch 16384x8 of 128, 2048 columns", moved, device, || Ok(moe_dispatch(&x, &experts, 128)?.rows))?;
    let index = d.tokens.clone();
    time("scatter_add 131072x2048 into 16384", moved, device, || scatter_add(&index, &rows, tokens))?;
    time("gather_add 131072x2048", 6 * k * tokens * cols, device, || gather_add(&x, &index, &rows))
}
