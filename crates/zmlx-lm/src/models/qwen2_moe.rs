//! `qwen2_moe`: Qwen1.5-MoE and Qwen2-MoE: mixtures with an expert that all tokens meet, behind a gate of its own.
//!
//! Fields and weights as in transformers' `modeling_qwen2_moe.py`.

use super::{ModelType, qwen3_moe::Sparse};
use crate::{
    Config, Model, Result, Weights,
    blocks::{FeedForward, rotary_of},
    decoder::Decoder,
};
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "qwen2_moe", gguf: &[], build };

/// Its fields in `config.json`, beside those that Qwen3 kept.
#[derive(Clone, Debug, Deserialize)]
pub struct Qwen2Moe {
    /// Those that Qwen3 kept.
    #[serde(flatten)]
    pub base: Sparse,
    /// Columns inside the expert that all meet.
    pub shared_expert_intermediate_size: usize,
    /// Biases of q, k and v.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Some layers see a window alone.
    #[serde(default)]
    pub use_sliding_window: bool,
    /// Layers below this, every other one.
    #[serde(default = "layers_of_transformers")]
    pub max_window_layers: usize,
}

fn layers_of_transformers() -> usize {
    28
}

fn yes() -> bool {
    true
}

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Qwen2Moe = config.fields()?;
    let (sparse, base) = (&fields.base, &fields.base.base);
    let decoder = Decoder::new(config, base)?;
    let dim = base.heads(config)?.dim;
    let windows =
        decoder.windows(|i| fields.use_sliding_window && i.is_multiple_of(2) && i < fields.max_window_layers)?;
    decoder.model(w, vec![rotary_of(config, dim)?], |i, w| {
        let mut attention = decoder.attention(&w.pp("self_attn"), [fields.qkv_bias, false])?;
        attention.sdpa.window = windows[i];
        let mlp = w.pp("mlp");
        let feed_forward: FeedForward = match sparse.is_sparse(i) {
            true => {
                let mut moe = decoder.moe(&mlp, &sparse.form())?;
                let columns = fields.shared_expert_intermediate_size;
                moe.shared = decoder.shared(&mlp, "shared_expert", columns, Some("shared_expert_gate"))?;
                moe.into()
            }
            false => decoder.mlp(&mlp, base.intermediate_size, false)?.into(),
        };
        decoder.layer(w, attention, feed_forward)
    })
}
