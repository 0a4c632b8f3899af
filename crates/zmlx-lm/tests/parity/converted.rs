//! Every model type, quantised and loaded again, says what the numbers say that its codes stand for.

use crate::tiny::{Tensors, Tiny, load, of_type};
use candle_core::{DType, Device, Tensor};
use std::{fs, path::PathBuf};
use zmlx_lm::{
    Checkpoint, Load, Model, Result,
    convert::{Convert, convert},
    models,
};

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn logits(model: &Model, tiny: &Tiny) -> Result<Tensor> {
    let prompt = Tensor::new(&tiny.prompt[..], &model.facts.device)?.unsqueeze(0)?;
    Ok(model.forward_once(&prompt)?.squeeze(0)?.to_device(&Device::Cpu)?)
}

fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.max_all()?.to_scalar()?)
}

#[test]
fn every_model_type_is_converted() -> Result<()> {
    for model_type in models::MODEL_TYPES {
        let names = of_type(model_type.name);
        for name in names.iter().filter(|n| n.ends_with(".base")) {
            let tiny = Tiny::named(name)?;
            let scratch =
                Scratch(std::env::temp_dir().join(format!("zmlx-lm-converted-{}-{name}", std::process::id())));
            let (from, to) = (scratch.0.join("in"), scratch.0.join("out"));
            fs::create_dir_all(&from).expect("created");
            let json = serde_json::to_string(tiny.config.json()).expect("an object of JSON");
            fs::write(from.join("config.json"), json).expect("written");
            candle_core::safetensors::save(&tiny.tensors()?, from.join("model.safetensors"))?;
            let done = convert(&from, &to, &Convert { bits: 8, group_size: 32, ..Convert::default() })?;
            assert!(done.quantized * 2 > done.parameters, "{name}: {done:?}");
            let out = Checkpoint::open(&to)?;
            let codes = logits(&out.model(&load())?, &tiny)?;
            let dense = logits(&out.model(&Load { dequantize: true, ..load() })?, &tiny)?;
            let plain = logits(&models::load(&tiny.config, Tensors(tiny.tensors()?), DType::F32, &load())?, &tiny)?;
            let (same, off) = (difference(&codes, &dense)?, difference(&dense, &plain)?);
            assert!(same < 1e-4, "{name}: {same}");
            let largest: f32 = plain.abs()?.max_all()?.to_scalar()?;
            assert!(off < 0.1 * largest, "{name}: {off} of {largest}");
        }
    }
    Ok(())
}
