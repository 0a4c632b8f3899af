//! Checkpoints on disk give the logits of the same tensors in memory.

use crate::tiny::{Tensors, Tiny, of_type};
use candle_core::{
    DType, Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};
use std::{fs, path::PathBuf};
use zmlx_lm::{Checkpoint, Load, Model, Result, models};

/// A folder that is there as long as this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("zmlx-lm-parity-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn logits(model: &Model, tiny: &Tiny) -> Result<Vec<Vec<f32>>> {
    let prompt = Tensor::new(&tiny.prompt[..], &Device::Cpu)?.unsqueeze(0)?;
    Ok(model.forward_once(&prompt)?.squeeze(0)?.to_vec2()?)
}

fn in_memory(tiny: &Tiny) -> Result<Vec<Vec<f32>>> {
    logits(&models::load(&tiny.config, Tensors(tiny.tensors()?), DType::F32, &Load::default())?, tiny)
}

#[test]
fn folders_give_the_logits_of_their_tensors() -> Result<()> {
    for model_type in models::MODEL_TYPES {
        let names = of_type(model_type.name);
        let told = |n: &&String| n.ends_with(".base") || n.contains(".mlx") || n.ends_with(".mxfp4");
        for name in names.iter().filter(told) {
            let (tiny, scratch) = (Tiny::named(name)?, Scratch::new(name));
            let json = serde_json::to_string(tiny.config.json()).expect("an object of JSON");
            fs::write(scratch.0.join("config.json"), json).expect("written");
            candle_core::safetensors::save(&tiny.tensors()?, scratch.0.join("model.safetensors"))?;
            let model = Checkpoint::open(&scratch.0)?.model(&Load::default())?;
            assert_eq!(logits(&model, &tiny)?, in_memory(&tiny)?, "{name}");
        }
    }
    Ok(())
}

/// A file of these tensors, with names and metadata as llama.cpp has them, in numbers of f32.
fn write_gguf(tiny: &Tiny, architecture: &str, file: &PathBuf) -> Result<()> {
    const NAMES: &[(&str, &str)] = &[
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("mlp.gate.", "ffn_gate_inp."),
    ];
    let renamed = |name: &str| NAMES.iter().fold(name.to_string(), |n, (from, to)| n.replace(from, to));
    let (mut packed, tensors) = (vec![], tiny.tensors()?);
    for (name, tensor) in &tensors {
        let Some((layer, expert)) = name.split_once(".mlp.experts.") else {
            packed.push((renamed(name), QTensor::quantize(tensor, GgmlDType::F32)?));
            continue;
        };
        let Some(part) = expert.strip_prefix("0.") else { continue };
        let each = |e: usize| tensors.get(&format!("{layer}.mlp.experts.{e}.{part}"));
        let all = Tensor::stack(&(0..).map_while(each).collect::<Vec<_>>(), 0)?;
        let part = part.replace("_proj.weight", "_exps.weight");
        packed.push((format!("{}.ffn_{part}", renamed(layer)), QTensor::quantize(&all, GgmlDType::F32)?));
    }
    const FIELDS: &[(&str, &str)] = &[
        ("hidden_size", "embedding_length"),
        ("intermediate_size", "feed_forward_length"),
        ("num_hidden_layers", "block_count"),
        ("num_attention_heads", "attention.head_count"),
        ("num_key_value_heads", "attention.head_count_kv"),
        ("head_dim", "attention.key_length"),
        ("max_position_embeddings", "context_length"),
        ("num_experts", "expert_count"),
        ("num_experts_per_tok", "expert_used_count"),
        ("moe_intermediate_size", "expert_feed_forward_length"),
    ];
    let mut metadata = vec![
        ("general.architecture".to_string(), Value::String(architecture.into())),
        (format!("{architecture}.attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
        (format!("{architecture}.rope.freq_base"), Value::F32(1e4)),
    ];
    for (field, key) in FIELDS {
        if let Some(n) = tiny.config.get(field).and_then(|v| v.as_u64()) {
            metadata.push((format!("{architecture}.{key}"), Value::U32(n as u32)));
        }
    }
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let packed: Vec<(&str, &QTensor)> = packed.iter().map(|(n, t)| (n.as_str(), t)).collect();
    Ok(gguf_file::write(&mut fs::File::create(file).expect("created"), &metadata, &packed)?)
}

#[test]
fn gguf_files_give_the_logits_of_their_tensors() -> Result<()> {
    let scratch = Scratch::new("gguf");
    for (name, architecture) in [
        ("qwen2.base", "qwen2"),
        ("qwen3.base", "qwen3"),
        ("qwen3.tied", "qwen3"),
        ("qwen3_moe.base", "qwen3moe"),
        ("qwen3_moe.k8_of_16", "qwen3moe"),
        ("olmoe.base", "olmoe"),
    ] {
        let (tiny, file) = (Tiny::named(name)?, scratch.0.join(format!("{name}.gguf")));
        write_gguf(&tiny, architecture, &file)?;
        let model = Checkpoint::open(&file)?.model(&Load::default())?;
        let (got, expected) = (logits(&model, &tiny)?, in_memory(&tiny)?);
        let far = got.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-6, "{name}: {far}");
    }
    Ok(())
}
