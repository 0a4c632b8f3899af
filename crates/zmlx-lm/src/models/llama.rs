//! `llama`: Llama 2 and 3, SmolLM2, and what has their form.
//!
//! Fields and weights as in transformers' `modeling_llama.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::rotary_of,
    decoder::{Decoder, Fields},
};
use candle_core::DType;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "llama", gguf: &["llama"], build };

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Fields = config.fields()?;
    let decoder = Decoder::new(config, &fields)?;
    dense(&decoder, w, [fields.attention_bias; 2], |_| None)
}

/// A model of this form: `bias` says whether q, k and v, and whether o have one; `window` is that of each layer.
///
/// # Errors
/// A field that does not fit; what [`Weights`] says.
pub fn dense(
    decoder: &Decoder<'_>,
    w: &Weights,
    bias: [bool; 2],
    window: impl Fn(usize) -> Option<usize>,
) -> Result<Model> {
    let fields = decoder.fields;
    let dim = fields.heads(decoder.config)?.dim;
    let mut rotary = rotary_of(decoder.config, dim)?;
    // a GGUF file has Llama 3's stretching as numbers
    if w.contains("rope_freqs.weight") {
        rotary = rotary.divided(&w.tensor_in("rope_freqs.weight", dim / 2, DType::F64)?.to_vec1()?);
    }
    decoder.model(w, vec![rotary], |i, w| {
        let mut attention = decoder.attention(&w.pp("self_attn"), bias)?;
        attention.sdpa.window = window(i);
        let mlp = decoder.mlp(&w.pp("mlp"), fields.intermediate_size, fields.mlp_bias)?;
        decoder.layer(w, attention, mlp)
    })
}
