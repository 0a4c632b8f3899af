//! `qwen3_moe`: Qwen3 whose feed-forward blocks are mixtures of experts.
//!
//! Fields and weights as in transformers' `modeling_qwen3_moe.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::{FeedForward, Rule, rotary_of},
    decoder::{Decoder, Fields, MoeForm, PROJECTIONS},
};
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "qwen3_moe", gguf: &["qwen3moe"], build };

/// Its fields in `config.json`, beside those of all.
#[derive(Clone, Debug, Deserialize)]
pub struct Sparse {
    /// Those of all.
    #[serde(flatten)]
    pub base: Fields,
    /// Experts of a layer.
    pub num_experts: usize,
    /// Of which a token meets so many.
    pub num_experts_per_tok: usize,
    /// Columns inside an expert.
    pub moe_intermediate_size: usize,
    /// Weights are divided by their sum.
    #[serde(default)]
    pub norm_topk_prob: bool,
    /// Every so many layers there is a mixture.
    #[serde(default = "one")]
    pub decoder_sparse_step: usize,
    /// Layers that have none nevertheless.
    #[serde(default)]
    pub mlp_only_layers: Vec<usize>,
}

fn one() -> usize {
    1
}

impl Sparse {
    /// Has this layer a mixture?
    pub fn is_sparse(&self, layer: usize) -> bool {
        let step = (layer + 1).is_multiple_of(self.decoder_sparse_step);
        step && !self.mlp_only_layers.contains(&layer)
    }

    /// The mixture of a layer.
    pub fn form(&self) -> MoeForm<'static> {
        MoeForm {
            count: self.num_experts,
            columns: self.moe_intermediate_size,
            rule: Rule::softmax(self.num_experts_per_tok, self.norm_topk_prob),
            correction: None,
            names: PROJECTIONS,
        }
    }
}

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Sparse = config.fields()?;
    let base = &fields.base;
    let decoder = Decoder::new(config, base)?;
    let dim = base.heads(config)?.dim;
    let slides = config.get("use_sliding_window").and_then(|v| v.as_bool()) == Some(true);
    let windows = decoder.windows(|_| slides)?;
    decoder.model(w, vec![rotary_of(config, dim)?], |i, w| {
        let a = w.pp("self_attn");
        let mut attention = decoder.attention(&a, [base.attention_bias; 2])?;
        attention.qk_norm = decoder.head_norms(&a, ["q_norm", "k_norm"])?;
        attention.sdpa.window = windows[i];
        let mlp = w.pp("mlp");
        let feed_forward: FeedForward = match fields.is_sparse(i) {
            true => decoder.moe(&mlp, &fields.form())?.into(),
            false => decoder.mlp(&mlp, base.intermediate_size, false)?.into(),
        };
        decoder.layer(w, attention, feed_forward)
    })
}
