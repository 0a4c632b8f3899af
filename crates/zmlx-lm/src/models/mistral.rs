//! `mistral`: Llama's form, with a window over the keys in some versions.
//!
//! Fields and weights as in transformers' `modeling_mistral.py`.

use super::{ModelType, llama::dense};
use crate::{
    Config, Model, Result, Weights,
    decoder::{Decoder, Fields},
};
use serde_json::Value;

/// What `models/` knows of it. (Its GGUF files say that they are of llama.)
pub static ENTRY: ModelType = ModelType { name: "mistral", gguf: &[], build };

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Fields = config.fields()?;
    let window = match config.json().get("sliding_window") {
        // what transformers takes where nothing is said
        None => Some(4096),
        Some(Value::Null) => None,
        Some(n) => {
            let whole = n.as_u64().ok_or_else(|| config.wrong("sliding_window", "a whole number or null", n))?;
            config.sizes(&[("sliding_window", whole as usize)])?;
            Some(whole as usize)
        }
    };
    dense(&Decoder::new(config, &fields)?, w, [false; 2], |_| window)
}
