//! Checkpoints of random numbers, written as folders and GGUF files.

// each test program uses some of it
#![allow(dead_code)]

use candle_core::{
    DType, Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use zmlx_lm::{
    Config, Load, Model, Result, models,
    weights::{Found, Source, random::Random},
};

/// A folder that is there as long as this.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("zmlx-lm-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Random numbers that are noted: what a model asked for, in f32.
#[derive(Clone, Default)]
pub struct Noted(pub Arc<Mutex<HashMap<String, Tensor>>>);

impl Source for Noted {
    fn find(&self, name: &str, expected: &[usize]) -> Option<Found> {
        Random { seed: 1 }.find(name, expected)
    }
    fn dense(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = Random { seed: 1 }.dense(name, shape, DType::F32, device)?;
        self.0.lock().unwrap_or_else(|e| e.into_inner()).insert(name.into(), tensor.clone());
        Ok(tensor.to_dtype(dtype)?)
    }
    fn names(&self) -> Vec<String> {
        vec![]
    }
}

pub type Tensors = HashMap<String, Tensor>;

/// A model of random numbers, and these.
pub fn random(config: &str) -> Result<(Model, Tensors)> {
    let noted = Noted::default();
    let config = Config::parse("config.json", config)?;
    let model = models::load(&config, noted.clone(), DType::F32, &Load::default())?;
    let tensors = noted.0.lock().unwrap_or_else(|e| e.into_inner()).clone();
    Ok((model, tensors))
}

/// The configuration and the tensors in files of at most `most` tensors each, with an index if there are several.
pub fn write_folder(folder: &Path, config: &str, tensors: &Tensors, most: usize) -> Result<()> {
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("written");
    write("config.json", config.into());
    let mut names: Vec<&String> = tensors.keys().collect();
    names.sort();
    let shards: Vec<&[&String]> = names.chunks(most).collect();
    let mut index = vec![];
    for (i, shard) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => "model.safetensors".to_string(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        let part: HashMap<String, Tensor> = shard.iter().map(|n| ((*n).clone(), tensors[*n].clone())).collect();
        candle_core::safetensors::save(&part, folder.join(&file))?;
        index.extend(shard.iter().map(|n| format!("\"{n}\": \"{file}\"")));
    }
    if shards.len() > 1 {
        write("model.safetensors.index.json", format!("{{\"weight_map\": {{{}}}}}", index.join(", ")));
    }
    Ok(())
}

/// A GGUF file of these, with names, order of rows and blocks as llama.cpp has them.
pub fn write_gguf(file: &Path, config: &serde_json::Value, tensors: &Tensors, kind: GgmlDType) -> Result<()> {
    use gguf_file::Value;
    let heads = config["num_attention_heads"].as_u64().expect("heads") as usize;
    let kv = config["num_key_value_heads"].as_u64().expect("heads") as usize;
    let mut packed = vec![];
    for (name, tensor) in tensors {
        let turned = if name.contains("q_proj") { heads } else { kv };
        let tensor = match name.contains("q_proj") || name.contains("k_proj") {
            true => {
                let (rows, cols) = tensor.dims2()?;
                let halves = tensor.reshape((turned, 2, rows / turned / 2, cols))?;
                halves.transpose(1, 2)?.contiguous()?.reshape((rows, cols))?
            }
            false => tensor.clone(),
        };
        let kind = if tensor.rank() == 1 { GgmlDType::F32 } else { kind };
        packed.push((to_gguf(name), QTensor::quantize(&tensor, kind)?));
    }
    let number = |field: &str| Value::U32(config[field].as_u64().unwrap_or_default() as u32);
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("general.alignment", Value::U32(32)),
        ("llama.embedding_length", number("hidden_size")),
        ("llama.feed_forward_length", number("intermediate_size")),
        ("llama.block_count", number("num_hidden_layers")),
        ("llama.attention.head_count", number("num_attention_heads")),
        ("llama.attention.head_count_kv", number("num_key_value_heads")),
        ("llama.context_length", number("max_position_embeddings")),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(1e4)),
    ];
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (*k, v)).collect();
    let packed: Vec<(&str, &QTensor)> = packed.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let mut out = fs::File::create(file).expect("created");
    Ok(gguf_file::write(&mut out, &metadata, &packed)?)
}

fn to_gguf(name: &str) -> String {
    let names = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    names.iter().fold(name.to_string(), |name, (from, to)| name.replace(from, to))
}

/// The largest difference of any two numbers.
pub fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.max_all()?.to_scalar()?)
}
