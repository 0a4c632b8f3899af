//! `lfm2_moe`: LFM2-MoE: short convolutions between a few layers of attention, and mixtures chosen with a bias.
//!
//! Fields and weights as in transformers' `modeling_lfm2_moe.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::{FeedForward, Layer, Mixer, Mlp, Rule, Score, ShortConv, rotary_of},
    decoder::{Decoder, Fields, MoeForm, PROJECTIONS},
};
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "lfm2_moe", gguf: &[], build };

#[derive(Deserialize)]
struct Lfm2Moe {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    norm_eps: f64,
    moe_intermediate_size: usize,
    num_experts: usize,
    num_experts_per_tok: usize,
    num_dense_layers: usize,
    #[serde(default = "yes")]
    norm_topk_prob: bool,
    #[serde(default = "yes")]
    use_expert_bias: bool,
    #[serde(default = "one")]
    routed_scaling_factor: f64,
    #[serde(rename = "conv_L_cache")]
    conv_l_cache: usize,
    #[serde(default)]
    conv_bias: bool,
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

/// What gate, up and down are called; MLX gives those of dense layers their usual names.
const NAMES: [&str; 3] = ["w1", "w3", "w2"];

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Lfm2Moe = config.fields()?;
    // in its older configurations tie_embedding
    let tied = config.get("tie_embedding").or(config.get("tie_word_embeddings")).and_then(|v| v.as_bool());
    let base = Fields {
        hidden_size: fields.hidden_size,
        intermediate_size: fields.intermediate_size,
        num_hidden_layers: fields.num_hidden_layers,
        num_attention_heads: fields.num_attention_heads,
        num_key_value_heads: fields.num_key_value_heads,
        head_dim: None,
        vocab_size: fields.vocab_size,
        rms_norm_eps: fields.norm_eps,
        max_position_embeddings: fields.max_position_embeddings,
        hidden_act: "silu".into(),
        tie_word_embeddings: tied.unwrap_or(true),
        attention_bias: false,
        mlp_bias: false,
    };
    config.within("conv_L_cache", fields.conv_l_cache, 1..=64)?;
    let decoder = Decoder::new(config, &base)?;
    let rotary = rotary_of(config, base.heads(config)?.dim)?;
    let types = decoder.layer_types(&["full_attention", "conv"])?;
    let types = types.ok_or_else(|| config.wrong("layer_types", "full_attention or conv of each layer", "none"))?;
    let form = MoeForm {
        count: fields.num_experts,
        columns: fields.moe_intermediate_size,
        rule: Rule {
            top_k: fields.num_experts_per_tok,
            score: Score::Sigmoid,
            norm: fields.norm_topk_prob.then_some(1e-6),
            groups: None,
            scaling: fields.routed_scaling_factor,
        },
        correction: fields.use_expert_bias.then_some("expert_bias"),
        names: NAMES,
    };
    decoder.model_with(w, "embedding_norm", vec![rotary], |i, w| {
        let mixer = match types[i] {
            "conv" => Mixer::ShortConv(conv(&fields, &w.pp("conv"))?),
            _ => {
                let a = w.pp("self_attn");
                let mut attention = decoder.attention_with(&a, [false; 2], "out_proj")?;
                attention.qk_norm = decoder.head_norms(&a, ["q_layernorm", "k_layernorm"])?;
                Mixer::Attention(attention)
            }
        };
        let f = w.pp("feed_forward");
        let feed_forward: FeedForward = match i < fields.num_dense_layers {
            true => dense(&decoder, &f)?.into(),
            false => decoder.moe(&f, &form)?.into(),
        };
        Ok(Layer {
            mixer_norm: decoder.norm(w, "operator_norm")?,
            mixer,
            after_mixer: None,
            feed_forward_norm: decoder.norm(w, "ffn_norm")?,
            feed_forward,
            after_feed_forward: None,
        })
    })
}

fn dense(decoder: &Decoder<'_>, w: &Weights) -> Result<Mlp> {
    let names = if w.contains("gate_proj.weight") { PROJECTIONS } else { NAMES };
    let sizes = [decoder.fields.hidden_size, decoder.fields.intermediate_size];
    Mlp::named(w, names, sizes, false, decoder.activation)
}

fn conv(fields: &Lfm2Moe, w: &Weights) -> Result<ShortConv> {
    let (d, width) = (fields.hidden_size, fields.conv_l_cache);
    let taps = w.pp("conv");
    // of torch `[d, 1, width]`, of MLX `[d, width, 1]`
    let mlx = taps.shape_of("weight").is_some_and(|s| s == [d, width, 1]);
    let weight = taps.tensor("weight", if mlx { (d, width, 1) } else { (d, 1, width) })?;
    let weight = w.made((width, d), || Ok(weight.reshape((d, width))?.t()?.contiguous()?))?;
    Ok(ShortConv {
        name: w.prefix().into(),
        in_proj: w.linear("in_proj", 3 * d, d, fields.conv_bias)?,
        weight,
        bias: fields.conv_bias.then(|| taps.tensor("bias", d)).transpose()?,
        out_proj: w.linear("out_proj", d, d, fields.conv_bias)?,
    })
}
