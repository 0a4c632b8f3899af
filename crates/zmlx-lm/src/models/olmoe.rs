//! `olmoe`: OLMoE: norms over all queries and over all keys, weights of experts that do not sum to 1.
//!
//! Fields and weights as in transformers' `modeling_olmoe.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::{QkNorm, Rule, rotary_of},
    decoder::{Decoder, Fields, MoeForm, PROJECTIONS},
};
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "olmoe", gguf: &["olmoe"], build };

#[derive(Deserialize)]
struct Olmoe {
    #[serde(flatten)]
    base: Fields,
    num_experts: usize,
    num_experts_per_tok: usize,
    #[serde(default)]
    norm_topk_prob: bool,
    clip_qkv: Option<f64>,
}

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Olmoe = config.fields()?;
    let base = &fields.base;
    let decoder = Decoder::new(config, base)?;
    let heads = base.heads(config)?;
    let form = MoeForm {
        count: fields.num_experts,
        columns: base.intermediate_size,
        rule: Rule::softmax(fields.num_experts_per_tok, fields.norm_topk_prob),
        correction: None,
        names: PROJECTIONS,
    };
    decoder.model(w, vec![rotary_of(config, heads.dim)?], |_, w| {
        let a = w.pp("self_attn");
        let mut attention = decoder.attention(&a, [base.attention_bias; 2])?;
        let norm = |name: &str, heads_: usize| a.norm(name, heads_ * heads.dim, base.rms_norm_eps, decoder.norm);
        attention.qk_norm = Some(QkNorm::All([norm("q_norm", heads.count)?, norm("k_norm", heads.kv)?]));
        attention.clip = fields.clip_qkv;
        let moe = decoder.moe(&w.pp("mlp"), &form)?;
        decoder.layer(w, attention, moe)
    })
}
