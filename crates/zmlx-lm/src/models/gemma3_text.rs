//! `gemma3_text`: the language model of Gemma 3: norms around each part whose weights are stored less 1, GELU, and layers that see a
//! window, with rotary embeddings of their own, between layers that see all.
//!
//! Fields and weights as in transformers' `modeling_gemma3.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::{Activation, Layer, NormKind, rotary_of_layers},
    decoder::{Decoder, Fields},
};
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "gemma3_text", gguf: &[], build };

#[derive(Deserialize)]
struct Gemma3 {
    #[serde(flatten)]
    base: Fields,
    #[serde(default = "gelu")]
    hidden_activation: String,
    query_pre_attn_scalar: f64,
    #[serde(default = "six")]
    sliding_window_pattern: usize,
    final_logit_softcapping: Option<f64>,
}

fn gelu() -> String {
    "gelu_pytorch_tanh".into()
}

fn six() -> usize {
    6
}

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let mut fields: Gemma3 = config.fields()?;
    // the head is the embedding unless another is stated
    fields.base.tie_word_embeddings = config.get("tie_word_embeddings").and_then(|v| v.as_bool()).unwrap_or(true);
    let base = &fields.base;
    if config.get("use_bidirectional_attention").is_some_and(|v| *v != false) {
        return Err(config.wrong("use_bidirectional_attention", "false", true));
    }
    // Gemma 2 had it; transformers reads the field here and does nothing with it
    if let Some(cap) = config.get("attn_logit_softcapping") {
        return Err(config.wrong("attn_logit_softcapping", "none", cap));
    }
    let decoder = Decoder {
        activation: Activation::named(config, "hidden_activation", &fields.hidden_activation)?,
        norm: NormKind::RmsPlusOne,
        ..Decoder::new(config, base)?
    };
    let dim = base.heads(config)?.dim;
    let windows = decoder.windows(|i| !(i + 1).is_multiple_of(fields.sliding_window_pattern))?;
    let ropes = vec![
        rotary_of_layers(config, dim, "full_attention", 1e6)?,
        rotary_of_layers(config, dim, "sliding_attention", 1e4)?,
    ];
    let model = decoder.model(w, ropes, |i, w| {
        let a = w.pp("self_attn");
        let mut attention = decoder.attention(&a, [base.attention_bias; 2])?;
        attention.qk_norm = decoder.head_norms(&a, ["q_norm", "k_norm"])?;
        attention.sdpa.window = windows[i];
        attention.sdpa.scale = 1.0 / fields.query_pre_attn_scalar.sqrt();
        if let Some(rope) = &mut attention.rope {
            rope.index = usize::from(windows[i].is_some());
        }
        let mlp = decoder.mlp(&w.pp("mlp"), base.intermediate_size, false)?;
        Ok(Layer {
            mixer_norm: decoder.norm(w, "input_layernorm")?,
            mixer: attention.into(),
            after_mixer: Some(decoder.norm(w, "post_attention_layernorm")?),
            feed_forward_norm: decoder.norm(w, "pre_feedforward_layernorm")?,
            feed_forward: mlp.into(),
            after_feed_forward: Some(decoder.norm(w, "post_feedforward_layernorm")?),
        })
    })?;
    let scale = Some((base.hidden_size as f64).sqrt());
    Ok(Model { embed_scale: scale, softcap: fields.final_logit_softcapping, ..model })
}
