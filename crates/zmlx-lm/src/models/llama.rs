//! `llama`: Llama 2 and 3, SmolLM2, and what has their form.
//!
//! Fields and weights as in transformers' `modeling_llama.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::{Activation, Attention, Facts, FeedForward, Heads, Layer, Mixer, Mlp, NormKind, Rope, Sdpa, rotary_of},
    config::LAYERS,
};
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "llama", gguf: &["llama"], build };

/// Its fields in `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Llama {
    /// Columns of a token.
    pub hidden_size: usize,
    /// Columns inside the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values; as many as of queries unless given.
    pub num_key_value_heads: Option<usize>,
    /// Columns of a head; `hidden_size / num_attention_heads` unless given.
    pub head_dim: Option<usize>,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Of the norms.
    pub rms_norm_eps: f64,
    /// Tokens of a text.
    pub max_position_embeddings: usize,
    /// Of the MLP.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// The head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Of q, k, v and o.
    #[serde(default)]
    pub attention_bias: bool,
    /// Of the MLP.
    #[serde(default)]
    pub mlp_bias: bool,
}

fn silu() -> String {
    "silu".into()
}

impl Llama {
    /// Holds sizes to what a model may have.
    ///
    /// # Errors
    /// A field that does not fit.
    pub fn sizes(&self, config: &Config) -> Result<()> {
        config.within("num_hidden_layers", self.num_hidden_layers, LAYERS)?;
        config.sizes(&[
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads.unwrap_or(1)),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ])
    }

    /// Numbers of heads, held to what a model may have.
    ///
    /// # Errors
    /// A field that does not fit.
    pub fn heads(&self, config: &Config) -> Result<Heads> {
        self.sizes(config)?;
        let (count, d) = (self.num_attention_heads, self.hidden_size);
        let kv = self.num_key_value_heads.unwrap_or(count);
        config.multiple(("num_attention_heads", count), ("num_key_value_heads", kv))?;
        let dim = match self.head_dim {
            Some(dim) => dim,
            None => {
                config.multiple(("hidden_size", d), ("num_attention_heads", count))?;
                d / count
            }
        };
        config.sizes(&[("head_dim", dim)])?;
        config.multiple(("head_dim", dim), ("a pair", 2))?;
        Ok(Heads { count, kv, dim })
    }
}

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: Llama = config.fields()?;
    let bias = [fields.attention_bias, fields.attention_bias];
    decoder(config, &fields, w, bias, None)
}

/// A model of this form: `bias` says whether q, k and v, and whether o have one; `window` is that of all layers.
///
/// # Errors
/// A field that does not fit; what [`Weights`] says.
pub fn decoder(
    config: &Config,
    fields: &Llama,
    w: &Weights,
    [bias_qkv, bias_o]: [bool; 2],
    window: Option<usize>,
) -> Result<Model> {
    let heads = fields.heads(config)?;
    let (d, eps) = (fields.hidden_size, fields.rms_norm_eps);
    let activation = Activation::named(config, "hidden_act", &fields.hidden_act)?;
    let model = w.pp("model");
    let norm = |w: &Weights, name: &str| w.norm(name, d, eps, NormKind::Rms);
    let layer = |i: usize| -> Result<Layer> {
        let w = model.pp(format!("layers.{i}"));
        let a = w.pp("self_attn");
        let (q, kv) = (heads.count * heads.dim, heads.kv * heads.dim);
        let mut attention = Attention {
            name: a.prefix().into(),
            q_proj: a.linear("q_proj", q, d, bias_qkv)?,
            k_proj: a.linear("k_proj", kv, d, bias_qkv)?,
            v_proj: a.linear("v_proj", kv, d, bias_qkv)?,
            o_proj: a.linear("o_proj", d, q, bias_o)?,
            heads,
            qk_norm: None,
            clip: None,
            rope: Some(Rope::new(a.prefix())),
            sdpa: Sdpa::new(a.prefix(), heads.dim),
        };
        attention.sdpa.window = window;
        let mlp = Mlp::new(&w.pp("mlp"), d, fields.intermediate_size, fields.mlp_bias, activation)?;
        Ok(Layer {
            mixer_norm: norm(&w, "input_layernorm")?,
            mixer: Mixer::Attention(attention),
            after_mixer: None,
            feed_forward_norm: norm(&w, "post_attention_layernorm")?,
            feed_forward: FeedForward::Mlp(mlp),
            after_feed_forward: None,
        })
    };
    // transformers once wrote these beside the weights
    (0..fields.num_hidden_layers).for_each(|i| model.ignore(&format!("layers.{i}.self_attn.rotary_emb.inv_freq")));
    Ok(Model {
        facts: Facts {
            model_type: config.model_type.clone(),
            vocab_size: fields.vocab_size,
            context: fields.max_position_embeddings,
            dtype: w.dtype(),
            device: w.device().clone(),
        },
        embed_tokens: model.embedding("embed_tokens", fields.vocab_size, d)?,
        embed_scale: None,
        layers: (0..fields.num_hidden_layers).map(layer).collect::<Result<_>>()?,
        norm: norm(&model, "norm")?,
        lm_head: head(w, fields.tie_word_embeddings, fields.vocab_size, d)?,
        ropes: vec![rotary_of(config, heads.dim)?],
        softcap: None,
    })
}

/// The head, or none if it is the embedding; a copy of the embedding that a checkpoint carries nevertheless is not missed.
///
/// # Errors
/// As [`Weights::linear`].
pub fn head(w: &Weights, tied: bool, vocab_size: usize, d: usize) -> Result<Option<crate::blocks::Linear>> {
    match tied {
        true => {
            w.ignore("lm_head.");
            Ok(None)
        }
        false => w.linear("lm_head", vocab_size, d, false).map(Some),
    }
}
