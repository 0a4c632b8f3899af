//! `qwen3`: dense Qwen3, with a norm of each head of queries and keys.
//!
//! Fields and weights as in transformers' `modeling_qwen3.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::rotary_of,
    decoder::{Decoder, Fields},
};

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "qwen3", gguf: &["qwen3"], build };

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Fields = config.fields()?;
    let decoder = Decoder::new(config, &fields)?;
    let (heads, windows) = (fields.heads(config)?, decoder.windows_of_last()?);
    decoder.model(w, vec![rotary_of(config, heads.dim)?], |i, w| {
        let a = w.pp("self_attn");
        let mut attention = decoder.attention(&a, [fields.attention_bias; 2])?;
        attention.qk_norm = decoder.head_norms(&a, ["q_norm", "k_norm"])?;
        attention.sdpa.window = windows[i];
        let mlp = decoder.mlp(&w.pp("mlp"), fields.intermediate_size, false)?;
        decoder.layer(w, attention, mlp)
    })
}
