//! The most memory that the loss of a head takes, alone in its process: no more than its chunks, where all logits are 256 MiB.

use candle_core::{DType, Device, Result, Tensor, Var};
use zmlx::nn::{LinearCrossEntropy, linear_cross_entropy};

/// The most KiB that this process ever had in memory (Linux).
fn most() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn logits_are_never_held_whole() -> Result<()> {
    let (n, d, v) = (4096, 32, 16384);
    let h = Var::randn(0f32, 1.0, (n, d), &Device::Cpu)?;
    let w = Var::randn(0f32, 0.1, (v, d), &Device::Cpu)?;
    let t = (Tensor::arange(0u32, n as u32, &Device::Cpu)? * 3.0)?.to_dtype(DType::U32)?;
    let Some(before) = most() else {
        println!("not run: there is no /proc/self/status here");
        return Ok(());
    };
    let store = linear_cross_entropy(&h, &w, &t, &LinearCrossEntropy::default())?.backward()?;
    assert!(store.get(&h).is_some() && store.get(&w).is_some());
    let took = most().map_or(0, |after| after - before);
    println!("{took} KiB, where all logits are {} KiB", n * v * 4 / 1024);
    // chunks of 128 rows: 8 MiB of logits, as much of their gradient, 2 MiB a gradient of the weight, and the products' threads
    assert!(took < 64 * 1024, "{took} KiB");
    Ok(())
}
