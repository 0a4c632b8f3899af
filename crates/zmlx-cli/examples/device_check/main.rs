//! What `zmlx verify` and `zmlx bench` leave out, on a device: kernels written by hand, indices out of range, the bits of two
//! processes, host time. `cargo run --release -p zmlx-cli --features cuda --example device_check` takes the first GPU that the
//! build knows, else the CPU; it prints what it checked and measured, and fails if something is wrong. Run twice, it prints
//! the same bits, and the first call of the second finds its code on disk. The driver's own checks are the tests of
//! `zmlx-runtime` with the feature `cuda`.

mod bits;
mod host;
mod index;
mod steps;

use candle_core::{D, DType, Device, Tensor};
use zmlx::{Grid, RawKernel, rowwise};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SOFTMAX: &str = "
    shared_array(f32, part, 32);
    const i64 cols = args.x_dims[1];
    device const x_t* row = x + block_index * cols;
    f32 most = -INFINITY;
    for (i64 c = thread_index; c < cols; c += block_threads) most = fmaxf(most, wide(row[c]) * args.scale);
    most = block_max(most, part);
    f32 sum = 0.0f;
    for (i64 c = thread_index; c < cols; c += block_threads) sum += expf(wide(row[c]) * args.scale - most);
    sum = block_sum(sum, part);
    for (i64 c = thread_index; c < cols; c += block_threads)
        y[block_index * cols + c] = narrow<y_t>(expf(wide(row[c]) * args.scale - most) / sum);";

fn expect(what: &str, holds: bool) -> Outcome {
    println!("{} {what}", if holds { "ok    " } else { "FAILED" });
    if holds { Ok(()) } else { Err(what.into()) }
}

fn main() -> Outcome {
    let device = Device::new_cuda(0).or_else(|_| Device::new_metal(0)).unwrap_or(Device::Cpu);
    println!("on {:?}", device.location());
    host::first(&device)?;
    by_hand(&device)?;
    out_of_range(&device)?;
    index::check(&device)?;
    index::times(&device)?;
    steps::check(&device)?;
    bits::print(&device)?;
    host::calls(&device)
}

fn by_hand(device: &Device) -> Outcome {
    let scaled = |scale: f64| {
        move |x: &Tensor| match x.elem_count() {
            0 => Ok(x.clone()), // candle reduces no empty tensor on the CPU
            _ => candle_nn::ops::softmax(&(x.to_dtype(DType::F32)? * scale)?, D::Minus1)?.to_dtype(x.dtype()),
        }
    };
    let kernel = RawKernel::new("softmax")
        .inputs(&["x"])
        .outputs(&["y"])
        .uniform("scale", 0.5)
        .portable(SOFTMAX)
        .grid_of(|inputs| Grid::new(inputs[0].dims()[0], 256))
        .cpu(move |inputs| Ok(vec![scaled(0.5)(&inputs[0])?]));
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for (rows, cols) in [(7, 1), (64, 1000), (3, 70_000), (0, 5)] {
            // not contiguous, and off the start of its memory
            let x = Tensor::randn(0f32, 1.0, (cols, rows + 1), device)?.to_dtype(dtype)?.t()?.narrow(0, 1, rows)?;
            let y = kernel.call(&x)?.remove(0);
            let error = if rows == 0 { 0.0 } else { distance(&y, &scaled(0.5)(&x)?)? };
            let bound = if dtype == DType::F32 { 1e-5 } else { 1e-2 };
            expect(&format!("softmax {dtype:?} {rows} × {cols}: {error:.1e}"), y.dtype() == dtype && error < bound)?;
        }
    }
    let x = Tensor::randn(0f32, 1.0, (9, 33), device)?;
    let before = zmlx::stats::stats().compiles;
    let other = if device.is_cpu() { kernel.clone() } else { kernel.with("scale", 2.0) };
    let y = other.call(&x)?.remove(0);
    let expected = scaled(if device.is_cpu() { 0.5 } else { 2.0 })(&x)?;
    expect("another value compiles nothing", zmlx::stats::stats().compiles == before && distance(&y, &expected)? < 1e-5)
}

/// The largest difference, as a share of the largest value.
fn distance(a: &Tensor, b: &Tensor) -> candle_core::Result<f32> {
    let (a, b) = (a.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?);
    let most = |t: &Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    Ok(most(&(&a - &b)?)? / most(&b)?)
}

fn out_of_range(device: &Device) -> Outcome {
    let pick = rowwise("x[t]")?.row("t").name("pick");
    let x = Tensor::randn(0f32, 1.0, (4, 10), device)?;
    let call = |indices: &[u32; 4]| pick.call(&[&x, &Tensor::new(indices, device)?]);
    call(&[0, 9, 3, 3])?;
    expect("indices in range are no error", zmlx::check(device).is_ok())?;
    match call(&[0, 10, 3, 3]) {
        Err(error) => expect(&format!("on the CPU: {error}"), device.is_cpu()),
        Ok(y) => {
            let nan: Vec<bool> = y.to_vec1::<f32>()?.iter().map(|v| v.is_nan()).collect();
            expect("an index out of range gives NaN in its row", nan == [false, true, false, false])?;
            let told = zmlx::check(device).err().map(|e| e.to_string()).unwrap_or_default();
            expect(&format!("and is told: {told}"), told.starts_with("pick: an index x[t]"))?;
            expect("once", zmlx::check(device).is_ok())
        }
    }
}
