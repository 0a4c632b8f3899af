//! `qwen2`: Llama's form with biases of queries, keys and values, and a window over the keys of later layers where it is switched on.
//!
//! Fields and weights as in transformers' `modeling_qwen2.py`.

use super::{ModelType, llama::dense};
use crate::{
    Config, Model, Result, Weights,
    decoder::{Decoder, Fields},
};

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "qwen2", gguf: &["qwen2"], build };

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Fields = config.fields()?;
    let decoder = Decoder::new(config, &fields)?;
    let windows = decoder.windows_of_last()?;
    dense(&decoder, w, [true, false], |i| windows[i])
}
