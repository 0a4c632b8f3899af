//! The form that most model types have, in parts: attention, feed-forward block, layer, model. A model type takes them as they are
//! or changes what it has of its own.

use crate::{
    Config, Model, Result, Weights,
    blocks::{
        Activation, Attention, Experts, Facts, FeedForward, Gate, Heads, Layer, Linear, Mixer, Mlp, Moe, Norm,
        NormKind, QkNorm, Rope, Router, Rule, Sdpa, Shared, Swap,
    },
    config::{EXPERTS, LAYERS},
};
use candle_core::DType;
use serde::Deserialize;
use zmlx::rotary::Rotary;

/// The fields in `config.json` that most model types have.
#[derive(Clone, Debug, Deserialize)]
pub struct Fields {
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
    /// Of q, k, v and o. (Some model types have biases whatever it says.)
    #[serde(default)]
    pub attention_bias: bool,
    /// Of the MLP.
    #[serde(default)]
    pub mlp_bias: bool,
}

fn silu() -> String {
    "silu".into()
}

impl Fields {
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

/// The fields that model types share, and how their parts are made of them.
pub struct Decoder<'a> {
    /// All fields.
    pub config: &'a Config,
    /// Those that are shared.
    pub fields: &'a Fields,
    /// Of the feed-forward blocks.
    pub activation: Activation,
    /// Of all norms.
    pub norm: NormKind,
}

/// A mixture of experts.
pub struct MoeForm<'a> {
    /// Experts.
    pub count: usize,
    /// Columns inside of each.
    pub columns: usize,
    /// Which are chosen.
    pub rule: Rule,
    /// What is added to scores for the choice, below the prefix of the mixture.
    pub correction: Option<&'a str>,
    /// What the projections gate, up and down of an expert are called.
    pub names: [&'a str; 3],
}

/// `gate_proj`, `up_proj`, `down_proj`
pub const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

impl<'a> Decoder<'a> {
    /// Of shared fields, held to what a model may have.
    ///
    /// # Errors
    /// A field that does not fit.
    pub fn new(config: &'a Config, fields: &'a Fields) -> Result<Decoder<'a>> {
        fields.sizes(config)?;
        let activation = Activation::named(config, "hidden_act", &fields.hidden_act)?;
        Ok(Decoder { config, fields, activation, norm: NormKind::Rms })
    }

    /// A norm of rows of the hidden state.
    ///
    /// # Errors
    /// What [`Weights`] says.
    pub fn norm(&self, w: &Weights, name: &str) -> Result<Norm> {
        w.norm(name, self.fields.hidden_size, self.fields.rms_norm_eps, self.norm)
    }

    /// Attention with weights `q_proj`, `k_proj`, `v_proj` and `o_proj`; `bias` says whether the first three, and whether the last
    /// have one.
    ///
    /// # Errors
    /// A field that does not fit; what [`Weights`] says.
    pub fn attention(&self, w: &Weights, bias: [bool; 2]) -> Result<Attention> {
        self.attention_with(w, bias, "o_proj")
    }

    /// The same where the last projection has another name.
    ///
    /// # Errors
    /// As [`Decoder::attention`].
    pub fn attention_with(&self, w: &Weights, [of_qkv, of_o]: [bool; 2], o_proj: &str) -> Result<Attention> {
        let (heads, d) = (self.fields.heads(self.config)?, self.fields.hidden_size);
        let (q, kv) = (heads.count * heads.dim, heads.kv * heads.dim);
        Ok(Attention {
            name: w.prefix().into(),
            q_proj: w.linear("q_proj", q, d, of_qkv)?,
            k_proj: w.linear("k_proj", kv, d, of_qkv)?,
            v_proj: w.linear("v_proj", kv, d, of_qkv)?,
            o_proj: w.linear(o_proj, d, q, of_o)?,
            heads,
            qk_norm: None,
            clip: None,
            rope: Some(Rope::new(w.prefix())),
            sdpa: Sdpa::new(w.prefix(), heads.dim),
        })
    }

    /// Norms of each head of queries and keys.
    ///
    /// # Errors
    /// As [`Decoder::attention`].
    pub fn head_norms(&self, w: &Weights, [q, k]: [&str; 2]) -> Result<Option<QkNorm>> {
        let Heads { dim, .. } = self.fields.heads(self.config)?;
        let norm = |name: &str| w.norm(name, dim, self.fields.rms_norm_eps, self.norm);
        Ok(Some(QkNorm::Head([norm(q)?, norm(k)?])))
    }

    /// A feed-forward block of `columns`.
    ///
    /// # Errors
    /// What [`Weights`] says.
    pub fn mlp(&self, w: &Weights, columns: usize, bias: bool) -> Result<Mlp> {
        Mlp::new(w, self.fields.hidden_size, columns, bias, self.activation)
    }

    /// A mixture of experts with weights `gate` and `experts`, or `switch_mlp` where they are stacked.
    ///
    /// # Errors
    /// A field that does not fit; what [`Weights`] says.
    pub fn moe(&self, w: &Weights, form: &MoeForm<'_>) -> Result<Moe> {
        let (d, f, count) = (self.fields.hidden_size, form.columns, form.count);
        self.config.within("number of experts", count, EXPERTS)?;
        self.config.sizes(&[("moe_intermediate_size", f)])?;
        form.rule.fits(self.config, count)?;
        let experts = |i: usize, shape: [usize; 2]| {
            let stacked = format!("switch_mlp.{}", PROJECTIONS[i]);
            w.experts(&stacked, |e| format!("experts.{e}.{}", form.names[i]), count, shape)
        };
        Ok(Moe {
            name: w.prefix().into(),
            router: Router {
                name: w.name("gate"),
                gate: w.linear("gate", count, d, false)?,
                correction: form.correction.map(|name| w.tensor_in(name, count, DType::F32)).transpose()?,
                rule: form.rule,
                kernel: Swap::default(),
            },
            experts: Experts {
                name: w.name("experts"),
                gate_proj: experts(0, [f, d])?,
                up_proj: experts(1, [f, d])?,
                down_proj: experts(2, [d, f])?,
                gate: Gate::Plain(self.activation),
                count,
                kernel: Swap::default(),
            },
            shared: None,
        })
    }

    /// What all tokens meet, with its own gate if it has one.
    ///
    /// # Errors
    /// What [`Weights`] says.
    pub fn shared(&self, w: &Weights, name: &str, columns: usize, gate: Option<&str>) -> Result<Option<Shared>> {
        self.config.sizes(&[("columns of the shared expert", columns)])?;
        let gate = gate.map(|gate| w.linear(gate, 1, self.fields.hidden_size, false)).transpose()?;
        Ok(Some(Shared { mlp: self.mlp(&w.pp(name), columns, false)?, gate }))
    }

    /// A layer with norms `input_layernorm` and `post_attention_layernorm`.
    ///
    /// # Errors
    /// What [`Weights`] says.
    pub fn layer(&self, w: &Weights, mixer: impl Into<Mixer>, feed_forward: impl Into<FeedForward>) -> Result<Layer> {
        Ok(Layer {
            mixer_norm: self.norm(w, "input_layernorm")?,
            mixer: mixer.into(),
            after_mixer: None,
            feed_forward_norm: self.norm(w, "post_attention_layernorm")?,
            feed_forward: feed_forward.into(),
            after_feed_forward: None,
        })
    }

    /// The model of these layers, under `model`; each is made of its number and the tensors below its name.
    ///
    /// # Errors
    /// What [`Weights`] says.
    pub fn model(
        &self,
        w: &Weights,
        ropes: Vec<Rotary>,
        layer: impl Fn(usize, &Weights) -> Result<Layer>,
    ) -> Result<Model> {
        self.model_with(w, "norm", ropes, layer)
    }

    /// The same where the last norm has another name.
    ///
    /// # Errors
    /// As [`Decoder::model`].
    pub fn model_with(
        &self,
        w: &Weights,
        norm: &str,
        ropes: Vec<Rotary>,
        layer: impl Fn(usize, &Weights) -> Result<Layer>,
    ) -> Result<Model> {
        let (fields, model) = (self.fields, w.pp("model"));
        let (vocab_size, d) = (fields.vocab_size, fields.hidden_size);
        let layer = |i: usize| {
            let name = format!("layers.{i}");
            // transformers once wrote these beside the weights
            model.ignore(&format!("{name}.self_attn.rotary_emb.inv_freq"));
            layer(i, &model.pp(name))
        };
        Ok(Model {
            facts: Facts {
                model_type: self.config.model_type.clone(),
                vocab_size,
                context: fields.max_position_embeddings,
                dtype: w.dtype(),
                device: w.device().clone(),
            },
            embed_tokens: model.embedding("embed_tokens", vocab_size, d)?,
            embed_scale: None,
            layers: (0..fields.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: self.norm(&model, norm)?,
            lm_head: head(w, fields.tie_word_embeddings, vocab_size, d)?,
            ropes,
            softcap: None,
        })
    }

    /// The window of each layer: `sliding_window` where `layer_types` says `sliding_attention`, or, without such a list, where
    /// `otherwise` says so.
    ///
    /// # Errors
    /// A list of another length or with other words; a window that is no number.
    pub fn windows(&self, otherwise: impl Fn(usize) -> bool) -> Result<Vec<Option<usize>>> {
        let layers = self.fields.num_hidden_layers;
        let slides: Vec<bool> = match self.layer_types(&["full_attention", "sliding_attention"])? {
            Some(types) => types.into_iter().map(|t| t == "sliding_attention").collect(),
            None => (0..layers).map(otherwise).collect(),
        };
        if !slides.contains(&true) {
            return Ok(vec![None; layers]);
        }
        let stated = self.config.get("sliding_window");
        let window = stated.and_then(|v| v.as_u64()).filter(|w| *w > 0);
        let window = window.ok_or_else(|| self.config.wrong("sliding_window", "1 or more", format!("{stated:?}")))?;
        Ok(slides.into_iter().map(|s| s.then_some(window as usize)).collect())
    }

    /// As Qwen2 and 3 have it: where `use_sliding_window` is true, layers from `max_window_layers` on see a window.
    ///
    /// # Errors
    /// As [`Decoder::windows`].
    pub fn windows_of_last(&self) -> Result<Vec<Option<usize>>> {
        let slides = self.config.get("use_sliding_window").and_then(|v| v.as_bool()) == Some(true);
        let first = self.config.get("max_window_layers").and_then(|v| v.as_u64()).unwrap_or(28) as usize;
        self.windows(|i| slides && i >= first)
    }

    /// What `layer_types` says of each layer, if it is there.
    ///
    /// # Errors
    /// A list of another length or with other words.
    pub fn layer_types(&self, known: &[&'static str]) -> Result<Option<Vec<&'static str>>> {
        let Some(list) = self.config.get("layer_types") else { return Ok(None) };
        let wrong = |got: &dyn std::fmt::Display| {
            let expected = format!("{} of {}", self.fields.num_hidden_layers, known.join(", "));
            self.config.wrong("layer_types", expected, got)
        };
        let list = list.as_array().ok_or_else(|| wrong(list))?;
        if list.len() != self.fields.num_hidden_layers {
            return Err(wrong(&list.len()));
        }
        let word =
            |v: &serde_json::Value| known.iter().copied().find(|k| v.as_str() == Some(k)).ok_or_else(|| wrong(v));
        list.iter().map(word).collect::<Result<_>>().map(Some)
    }
}

/// The head, or none if it is the embedding; a copy of the embedding that a checkpoint carries nevertheless is not missed.
fn head(w: &Weights, tied: bool, vocab_size: usize, d: usize) -> Result<Option<Linear>> {
    match tied {
        true => {
            w.ignore("lm_head.");
            Ok(None)
        }
        false => w.linear("lm_head", vocab_size, d, false).map(Some),
    }
}
