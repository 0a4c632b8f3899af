//! Optimizers and the head that never holds all logits: on the device as on the CPU; and what lies out of range there.

use crate::{Outcome, expect, index::wave};
use candle_core::{DType, Device, Result, Tensor, Var};
use zmlx::{
    catalog::{
        gather_add::scatter_add, lion_step::ParamsLion, rope_positions::rope_and_cache_update, sgd_step::ParamsSgd,
    },
    nn::{LinearCrossEntropy, linear_cross_entropy},
    optim::{AdamW, Lion, Muon, Optimizer, ParamsAdamW, ParamsMuon, Sgd},
    rotary::Rotary,
};

type Results = std::result::Result<Vec<(String, Tensor)>, Box<dyn std::error::Error>>;

/// A matrix and a vector after five steps down Σ(p − target)².
fn stepped(mut step: impl Optimizer, vars: &[Var; 2], targets: &[Tensor; 2]) -> Result<[Tensor; 2]> {
    for _ in 0..5 {
        let off = |i: usize| (vars[i].as_tensor() - &targets[i])?.sqr()?.sum_all();
        step.backward_step(&(off(0)? + off(1)?)?)?;
    }
    Ok(vars.each_ref().map(|v| v.as_detached_tensor()))
}

fn results(dtype: DType, device: &Device) -> Results {
    let mut all = vec![];
    let make = |k: usize| -> Result<[Tensor; 2]> {
        Ok([wave(&[70, 33], k, device)?.to_dtype(dtype)?, wave(&[1001], k + 1, device)?.to_dtype(dtype)?])
    };
    for name in ["AdamW", "Sgd", "Lion", "Muon"] {
        let [a, b] = make(1)?;
        let vars = [Var::from_tensor(&a)?, Var::from_tensor(&b)?];
        // Muon takes matrices alone
        let of = if name == "Muon" { vars[..1].to_vec() } else { vars.to_vec() };
        let targets = make(3)?;
        let moved = match name {
            "AdamW" => stepped(AdamW::new(of, ParamsAdamW { lr: 0.01, ..Default::default() })?, &vars, &targets),
            "Sgd" => {
                let params = ParamsSgd { lr: 0.01, momentum: 0.9, nesterov: true, ..Default::default() };
                stepped(Sgd::new(of, params)?, &vars, &targets)
            }
            "Lion" => stepped(Lion::new(of, ParamsLion { lr: 0.01, ..Default::default() })?, &vars, &targets),
            _ => {
                // products of matrices in f32, which both devices round alike
                let params = ParamsMuon { bf16: false, ..Default::default() };
                stepped(Muon::new(of, params)?, &vars, &targets)
            }
        }?;
        all.extend(moved.into_iter().map(|t| (format!("{name} {dtype:?}"), t)));
    }
    let hidden = Var::from_tensor(&(wave(&[300, 64], 5, device)?.to_dtype(dtype)?))?;
    let weight = Var::from_tensor(&(wave(&[500, 64], 6, device)?.to_dtype(dtype)?))?;
    let targets = Tensor::from_iter((0..300u32).map(|i| i * 7919 % 500), device)?;
    let options = LinearCrossEntropy { rows: Some(128), ..Default::default() };
    let loss = linear_cross_entropy(&hidden, &weight, &targets, &options)?;
    let gradients = loss.backward()?;
    all.push((format!("linear_cross_entropy {dtype:?}"), loss.reshape(1)?.detach()));
    for v in [&hidden, &weight] {
        all.push(("its gradient".into(), gradients.get(v).ok_or("no gradient")?.clone()));
    }
    Ok(all)
}

/// Compares the device with the CPU.
pub fn check(device: &Device) -> Outcome {
    for (dtype, bound) in [(DType::F32, 1e-4), (DType::BF16, 2e-2)] {
        let (got, want) = (results(dtype, device)?, results(dtype, &Device::Cpu)?);
        for ((name, g), (_, w)) in got.iter().zip(&want) {
            let g = g.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            let w = w.to_dtype(DType::F32)?;
            let off = (&g - &w)?.abs()?.max_all()?.to_scalar::<f32>()?;
            let most = w.abs()?.max_all()?.to_scalar::<f32>()?;
            let what = format!("{name} {:?} is that of the CPU (off by {off:.1e} of {most:.1e})", g.dims());
            expect(&what, off <= bound * most)?;
        }
    }
    let muon = Var::from_tensor(&Tensor::randn(0f32, 1f32, (64, 48), device)?)?;
    let before = muon.as_tensor().copy()?; // a step overwrites the memory of the Var
    let mut step = Muon::new(vec![muon.clone()], ParamsMuon::default())?;
    step.backward_step(&muon.as_tensor().sqr()?.sum_all()?)?;
    let moved = (muon.as_tensor() - before)?.sqr()?.sum_all()?;
    let moved = moved.to_scalar::<f32>()?.sqrt();
    // an orthogonal update of 48 directions and lr 0.02: about 0.02·√48·√(64/48)
    expect(&format!("Muon with products in bf16 moves by {moved:.3}"), (0.1..0.25).contains(&moved))?;
    if device.is_cpu() { Ok(()) } else { out_of_range(device) }
}

/// On a GPU an index out of range writes nothing, or what the documentation says, and is told once.
fn out_of_range(device: &Device) -> Outcome {
    let add = wave(&[4, 6], 1, device)?.to_dtype(DType::F64)?;
    let sums = scatter_add(&Tensor::new(&[0u32, 2, 9, 2], device)?, &add, 3)?;
    let want = scatter_add(
        &Tensor::new(&[0u32, 2, 2], device)?,
        &add.index_select(&Tensor::new(&[0u32, 1, 3], device)?, 0)?,
        3,
    )?;
    let off = (sums - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
    expect(&format!("scatter_add in f64 leaves out a row out of range (off by {off:.1e})"), off < 1e-12)?;

    let rotary = Rotary::new(64, 1e4);
    let (cos, sin) = rotary.tables(0, 64, DType::F32, device)?;
    let caches = [wave(&[1, 40, 3, 64], 11, device)?, wave(&[1, 40, 3, 64], 12, device)?];
    let before = [caches[0].copy()?, caches[1].copy()?];
    let new = [wave(&[1, 6, 64], 13, device)?, wave(&[1, 3, 64], 14, device)?, wave(&[1, 3, 64], 15, device)?];
    let offset = Tensor::new(&[40u32], device)?;
    rope_and_cache_update(new.each_ref(), [&cos, &sin], caches.each_ref(), &offset)?;
    let mut moved = 0f32;
    for (b, c) in before.iter().zip(&caches) {
        moved += (b - c)?.abs()?.sum_all()?.to_scalar::<f32>()?;
    }
    let told = zmlx::check(device).err().map(|e| e.to_string()).unwrap_or_default();
    expect(
        &format!("a position beyond the caches writes nothing, and is told: {told}"),
        moved == 0.0 && !told.is_empty(),
    )
}
