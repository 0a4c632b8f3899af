//! One number for the bits of all results and gradients of the catalog: two processes must print the same.

use super::Outcome;
use candle_core::{DType, Device, Tensor};
use std::hash::{DefaultHasher, Hash, Hasher};
use zmlx::{
    catalog::ENTRIES,
    entry::{Arg, ArgShape, Gradient, Values},
};

const ROWS: usize = 333;
const COLS: usize = 4100;

pub fn print(device: &Device) -> Outcome {
    for dtype in [DType::F32, DType::BF16] {
        let mut hasher = DefaultHasher::new();
        for entry in ENTRIES {
            let inputs = entry.args.iter().enumerate().map(|(k, a)| input(a, k, dtype, device));
            let inputs: Vec<Tensor> = inputs.collect::<candle_core::Result<_>>()?;
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let op = entry.op()?.with_all(entry.uniforms.iter().map(|u| (u.0, u.1)));
            let results = op.call_all(&inputs[..])?;
            results.iter().try_for_each(|t| add(&mut hasher, t))?;
            if entry.gradient == Gradient::Derived {
                let cotangents: Vec<&Tensor> = results.iter().collect();
                let gradients = op.vjp(&inputs[..], &cotangents[..])?;
                gradients.iter().flatten().try_for_each(|t| add(&mut hasher, t))?;
            }
        }
        println!("bits of {} kernels and their gradients, {dtype:?}: {:016x}", ENTRIES.len(), hasher.finish());
    }
    Ok(())
}

/// Waves that are the same in every process.
fn input(arg: &Arg, k: usize, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
    let dims = match arg.shape {
        ArgShape::Full | ArgShape::Table(_) => vec![ROWS, COLS],
        ArgShape::Col => vec![COLS],
        ArgShape::Row => vec![ROWS],
    };
    let n = dims.iter().product::<usize>();
    let wave: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37 + k as f32).sin()).collect();
    let wave = Tensor::from_vec(wave, dims, device)?;
    match arg.values {
        Values::Normal(_) => wave.to_dtype(dtype),
        Values::Range(lo, hi) => wave.affine((hi - lo) / 2.0, (hi + lo) / 2.0)?.to_dtype(dtype),
        Values::Mask => wave.ge(-0.4f32),
        Values::Turns => wave.affine(2f64.powi(62), 0.0)?.to_dtype(DType::I64),
        Values::Byte => wave.affine(127.5, 127.5)?.to_dtype(DType::U8),
        Values::Place => wave.affine((ROWS - 1) as f64 / 2.0, (ROWS - 1) as f64 / 2.0)?.to_dtype(DType::U32),
        Values::Column => wave.affine((COLS - 1) as f64 / 2.0, (COLS - 1) as f64 / 2.0)?.to_dtype(DType::U32),
    }
}

fn add(hasher: &mut DefaultHasher, t: &Tensor) -> candle_core::Result<()> {
    // 16 bits fit into f32, so equal numbers are equal bits; one NaN is like another
    let values = t.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let bits = |v: &f32| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() };
    values.iter().for_each(|v| bits(v).hash(hasher));
    Ok(())
}
