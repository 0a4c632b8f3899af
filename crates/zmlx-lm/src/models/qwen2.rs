//! `qwen2`: Llama's form with biases of queries, keys and values, and a window over the keys of later layers where it is switched on.
//!
//! Fields and weights as in transformers' `modeling_qwen2.py`.

use super::{
    ModelType,
    llama::{Llama, decoder},
};
use crate::{Config, Model, Result, Weights, blocks::Mixer};
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "qwen2", gguf: &["qwen2"], build };

/// Fields that Llama has not.
#[derive(Deserialize)]
struct Windows {
    #[serde(default)]
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    /// Layers from here on have the window.
    #[serde(default = "layers")]
    max_window_layers: usize,
}

fn layers() -> usize {
    28
}

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Llama = config.fields()?;
    let windows: Windows = config.fields()?;
    let mut model = decoder(config, &fields, w, [true, false], None)?;
    if windows.use_sliding_window {
        let window = windows.sliding_window.unwrap_or(4096);
        config.sizes(&[("sliding_window", window)])?;
        for layer in model.layers.iter_mut().skip(windows.max_window_layers) {
            match &mut layer.mixer {
                Mixer::Attention(attention) => attention.sdpa.window = Some(window),
            }
        }
    }
    Ok(model)
}
