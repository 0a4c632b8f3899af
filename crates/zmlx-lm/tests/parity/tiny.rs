//! Tiny models whose logits others have told (`tests/oracle/models.py`): their weights, made of names, and what is expected.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::{collections::HashMap, path::PathBuf};
use zmlx::portable::quantize_affine::quantize_affine;
use zmlx_lm::{
    Config, Load, Result,
    weights::{Format, Found, Source},
};

/// Where models run: with the feature `cuda` on the GPU, if there is one.
pub fn device() -> Device {
    Device::cuda_if_available(0).expect("a GPU that answers")
}

/// How models are loaded for this.
pub fn load() -> Load {
    Load { device: device(), ..Load::default() }
}

/// What a file of `tests/data/models` says.
pub struct Tiny {
    pub name: String,
    pub config: Config,
    pub prompt: Vec<u32>,
    /// Logits at the last two places of the prompt.
    pub prefill: Vec<Vec<f32>>,
    /// The best token at each step.
    pub greedy: Vec<u32>,
    /// Its logit, and the logarithm of the sum of the exponentials of all.
    pub greedy_logits: Vec<f32>,
    pub logsumexp: Vec<f32>,
    /// Logits after the last of them.
    pub last: Vec<f32>,
    json: Value,
}

/// The tensors of a checkpoint in memory.
pub struct Tensors(pub HashMap<String, Tensor>);

fn words(json: &Value) -> impl Iterator<Item = &str> {
    json.as_str().unwrap_or_default().split(' ')
}

pub fn numbers<T: std::str::FromStr>(json: &Value) -> Vec<T> {
    words(json).filter_map(|w| w.parse().ok()).collect()
}

pub fn lines(json: &Value) -> impl Iterator<Item = &str> {
    json.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", "models"].iter().collect()
}

/// The names of all files that are of this model type.
pub fn of_type(model_type: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("the folder of the oracle");
    let names = files.filter_map(|f| f.ok()?.file_name().into_string().ok());
    let names = names.filter_map(|n| n.strip_suffix(".json").map(String::from));
    let mut names: Vec<String> = names.filter(|n| n.split('.').next() == Some(model_type)).collect();
    names.sort();
    names
}

impl Tiny {
    pub fn named(name: &str) -> Result<Tiny> {
        let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).expect("a file of the oracle");
        let json: Value = serde_json::from_str(&text).expect("the oracle writes JSON");
        let prefill = json["prefill"].as_array().into_iter().flatten().map(numbers).collect();
        Ok(Tiny {
            name: name.into(),
            config: Config::of(name, json["config"].clone())?,
            prompt: numbers(&json["prompt"]),
            prefill,
            greedy: numbers(&json["greedy"]),
            greedy_logits: numbers(&json["greedy_logits"]),
            logsumexp: numbers(&json["logsumexp"]),
            last: numbers(&json["last"]),
            json,
        })
    }

    /// The tensors of the checkpoint.
    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        let ties = self.json["ties"] == true;
        let mut all = dense(&self.json["tensors"], ties)?;
        for line in lines(&self.json["quantised"]) {
            let mut parts = line.split(' ');
            let (family, sizes) = (parts.next().unwrap_or_default(), sizes(parts.next()));
            let mut number = || parts.next().and_then(|p| p.parse().ok()).expect("bits and group");
            let (bits, group) = (number(), number());
            for name in expanded(family) {
                let layer = name.trim_end_matches("weight");
                let codes = quantize_affine(&weights(&name, &sizes, ties)?, group, bits)?;
                for (part, t) in ["weight", "scales", "biases"].into_iter().zip(codes) {
                    all.insert(format!("{layer}{part}"), t);
                }
            }
        }
        Ok(all)
    }
}

/// The tensors that a list of the oracle names.
pub fn dense(list: &Value, ties: bool) -> Result<HashMap<String, Tensor>> {
    let mut all = HashMap::new();
    for line in lines(list) {
        let mut parts = line.split(' ');
        let (family, sizes) = (parts.next().unwrap_or_default(), sizes(parts.next()));
        for name in expanded(family) {
            all.insert(name.clone(), weights(&name, &sizes, ties)?);
        }
    }
    Ok(all)
}

fn sizes(text: Option<&str>) -> Vec<usize> {
    text.unwrap_or_default().split('x').filter_map(|n| n.parse().ok()).collect()
}

/// The names that `a.{0-2,5}.b` stands for.
fn expanded(family: &str) -> Vec<String> {
    let Some((before, rest)) = family.split_once('{') else { return vec![family.into()] };
    let (ranges, after) = rest.split_once('}').expect("a range that ends");
    let mut names = vec![];
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |n: &str| n.parse::<usize>().expect("a number");
        for i in number(first)..=number(last) {
            names.extend(expanded(&format!("{before}{i}{after}")));
        }
    }
    names
}

/// A number in [-1, 1) of each place, times 0.3, as the oracle makes it; weights of norms are 1 more, routers with ties have rows in
/// pairs. Of MXFP4's blocks and scales a byte.
pub fn weights(name: &str, shape: &[usize], ties: bool) -> Result<Tensor> {
    let key = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let n: usize = shape.iter().product();
    let row = n / shape[0];
    let paired = ties && [".gate.", ".router.", "expert_bias"].iter().any(|part| name.contains(part));
    let at = |i: usize| if paired { i / (2 * row) * (2 * row) + i % row } else { i };
    let of = |i: usize| {
        let z = (at(i) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(key);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 40
    };
    let bytes = |f: fn(u64) -> u64| Tensor::from_vec((0..n).map(|i| f(of(i)) as u8).collect(), shape, &Device::Cpu);
    if name.ends_with("_blocks") {
        return Ok(bytes(|z| z % 256)?);
    }
    if name.ends_with("_scales") {
        return Ok(bytes(|z| 122 + z % 3)?);
    }
    let middle = if name.contains("norm") { 1.0 } else { 0.0 };
    let half = 2f32.powi(23);
    let number = |i: usize| (of(i) as f32 - half) / half * 0.3 + middle;
    Ok(Tensor::from_vec((0..n).map(number).collect::<Vec<f32>>(), shape, &Device::Cpu)?)
}

impl Source for Tensors {
    fn find(&self, name: &str, _expected: &[usize]) -> Option<Found> {
        let t = self.0.get(name)?;
        Some(Found { shape: t.dims().to_vec(), format: Format::Dense(t.dtype()) })
    }

    fn dense(&self, name: &str, _expected: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(self.0[name].to_dtype(dtype)?.to_device(device)?)
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}
