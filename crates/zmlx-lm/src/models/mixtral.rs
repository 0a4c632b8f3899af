//! `mixtral`: Mistral whose feed-forward blocks are mixtures of experts.
//!
//! Fields and weights as in transformers' `modeling_mixtral.py`; the weights have the names of its checkpoints.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::{Rule, rotary_of},
    decoder::{Decoder, Fields, MoeForm},
};
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "mixtral", gguf: &[], build };

#[derive(Deserialize)]
struct Mixtral {
    #[serde(flatten)]
    base: Fields,
    num_local_experts: usize,
    num_experts_per_tok: usize,
    sliding_window: Option<usize>,
}

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Mixtral = config.fields()?;
    let base = &fields.base;
    let decoder = Decoder::new(config, base)?;
    let dim = base.heads(config)?.dim;
    let windows = decoder.windows(|_| fields.sliding_window.is_some())?;
    let form = MoeForm {
        count: fields.num_local_experts,
        columns: base.intermediate_size,
        rule: Rule::softmax(fields.num_experts_per_tok, true),
        correction: None,
        names: ["w1", "w3", "w2"],
    };
    decoder.model(w, vec![rotary_of(config, dim)?], |i, w| {
        let mut attention = decoder.attention(&w.pp("self_attn"), [false; 2])?;
        attention.sdpa.window = windows[i];
        let moe = decoder.moe(&w.pp("block_sparse_moe"), &form)?;
        decoder.layer(w, attention, moe)
    })
}
