//! Configurations as they are published make models with as many parameters as are published with them. No memory is asked for.

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use zmlx_lm::{
    Config, Load, Result, models,
    weights::{Found, Source, random::Random},
};

/// Says that every tensor is there, and counts its numbers.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Source for Counted {
    fn find(&self, name: &str, expected: &[usize]) -> Option<Found> {
        Random { seed: 0 }.find(name, expected)
    }
    fn dense(&self, _: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        self.0.fetch_add(shape.iter().product(), Ordering::Relaxed);
        Ok(Tensor::zeros((), dtype, device)?.broadcast_as(shape)?)
    }
    fn names(&self) -> Vec<String> {
        vec![]
    }
}

fn parameters(name: &str, layers: Option<usize>) -> Result<usize> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/published");
    let text = std::fs::read_to_string(format!("{folder}/{name}.json")).expect("a configuration");
    let mut config = Config::parse(name, &text)?;
    if let Some(layers) = layers {
        let mut json = config.json().clone();
        json.insert("num_hidden_layers".into(), json!(layers));
        config = Config::of(name, json.into())?;
    }
    let counted = Counted::default();
    models::load(&config, counted.clone(), DType::BF16, &Load::default())?;
    Ok(counted.0.load(Ordering::Relaxed))
}

#[test]
fn published_configurations_have_the_published_numbers_of_parameters() -> Result<()> {
    // as the hub counts the tensors of their safetensors
    for (name, published) in [
        ("Llama-3.2-1B-Instruct", 1_235_814_400),
        ("Mistral-7B-v0.1", 7_241_732_096),
        ("Qwen2-7B-Instruct", 7_615_616_512),
        ("Qwen3-8B", 8_190_735_360),
        ("Qwen3-32B", 32_762_123_264),
        ("Qwen3-30B-A3B", 30_532_122_624),
        ("Qwen1.5-MoE-A2.7B", 14_315_784_192),
        ("Mixtral-8x7B-v0.1", 46_702_792_704),
        ("OLMoE-1B-7B-0924", 6_919_161_856),
        ("gemma-3-1b-it", 999_885_952),
    ] {
        assert_eq!(parameters(name, None)?, published, "{name}");
    }
    // published rounded
    for (name, billions) in [("GLM-4.7-Flash", 30.0), ("LFM2-8B-A1B", 8.3)] {
        let n = parameters(name, None)? as f64 / 1e9;
        println!("{name}: {n}");
        assert!((n - billions).abs() < 0.1, "{name}: {n}");
    }
    // attention over latents is copied when it is loaded, so a few layers stand for all: 671 billions
    let (four, five) = (parameters("DeepSeek-V3", Some(4))?, parameters("DeepSeek-V3", Some(5))?);
    let n = (four + (61 - 4) * (five - four)) as f64 / 1e9;
    println!("DeepSeek-V3: {n}");
    assert!((n - 671.0).abs() < 0.5, "DeepSeek-V3: {n}");
    Ok(())
}
