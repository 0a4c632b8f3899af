//! `glm4_moe_lite`: GLM-4.7-Flash, which has the form of DeepSeek-V3.
//!
//! Fields and weights as in transformers' `modeling_glm4_moe_lite.py`.

use super::{
    ModelType,
    deepseek_v3::{self, DeepseekV3},
};
use crate::{Config, Model, Result, Weights};

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "glm4_moe_lite", gguf: &[], build };

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: DeepseekV3 = config.fields()?;
    let layers = fields.base.num_hidden_layers;
    let first = config.get("first_k_dense_replace").and_then(|v| v.as_u64()).unwrap_or(1) as usize;
    let sparse: Vec<bool> = match config.get("mlp_layer_types").and_then(|v| v.as_array()) {
        Some(types) => types.iter().map(|t| t == "sparse").collect(),
        None => (0..layers).map(|i| i >= first).collect(),
    };
    if sparse.len() != layers {
        return Err(config.wrong("mlp_layer_types", layers, sparse.len()));
    }
    deepseek_v3::model(config, &fields, w, |i| sparse[i])
}
