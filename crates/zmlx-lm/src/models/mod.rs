//! Model types, one file each: the fields of its configuration, and the blocks that it is made of. The list is written by
//! `cargo xtask index` from the folder.

// index: begin
pub mod deepseek_v3;
pub mod gemma3_text;
pub mod glm4_moe_lite;
pub mod gpt_oss;
pub mod lfm2_moe;
pub mod llama;
pub mod mistral;
pub mod mixtral;
pub mod olmoe;
pub mod qwen2;
pub mod qwen2_moe;
pub mod qwen3;
pub mod qwen3_moe;

/// Every model type, by name.
pub static MODEL_TYPES: &[&ModelType] = &[
    &deepseek_v3::ENTRY,
    &gemma3_text::ENTRY,
    &glm4_moe_lite::ENTRY,
    &gpt_oss::ENTRY,
    &lfm2_moe::ENTRY,
    &llama::ENTRY,
    &mistral::ENTRY,
    &mixtral::ENTRY,
    &olmoe::ENTRY,
    &qwen2::ENTRY,
    &qwen2_moe::ENTRY,
    &qwen3::ENTRY,
    &qwen3_moe::ENTRY,
];
// index: end

use crate::{Config, Error, Load, Model, Result, Weights, weights::Source};
use candle_core::DType;

/// What a file here says of its model type.
pub struct ModelType {
    /// As in `config.json`.
    pub name: &'static str,
    /// The architectures of GGUF that it is the same as.
    pub gguf: &'static [&'static str],
    /// Makes it.
    pub build: fn(&Config, &Weights) -> Result<Model>,
}

/// The model type of this name.
///
/// # Errors
/// One that is not known; those that are, are listed.
pub fn find(config: &Config) -> Result<&'static ModelType> {
    let name = config.model_type.as_str();
    MODEL_TYPES.iter().copied().find(|m| m.name == name).ok_or_else(|| {
        let known: Vec<&str> = MODEL_TYPES.iter().map(|m| m.name).collect();
        config.wrong("model_type", format!("one of {}", known.join(", ")), name)
    })
}

/// The model of a configuration, with the weights of a source.
///
/// # Errors
/// A model type that is not known, fields that do not fit, and every tensor that is missing, left over or of another shape.
pub fn load(config: &Config, source: impl Source + 'static, dtype: DType, load: &Load) -> Result<Model> {
    let model_type = find(config)?;
    if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        return Err(Error::argument("load", "dtype", "f16, bf16, f32 or f64", dtype.as_str()));
    }
    let weights = Weights::new(source, config, dtype, load);
    let model = (model_type.build)(config, &weights)?;
    weights.finish()?;
    Ok(model)
}
