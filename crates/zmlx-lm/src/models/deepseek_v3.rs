//! `deepseek_v3`: DeepSeek-V3 and R1: attention over latents, and mixtures whose experts are chosen by groups and biases.
//!
//! Fields and weights as in transformers' `modeling_deepseek_v3.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::{ExpertLinear, FeedForward, Latents, Matrix, Mla, NormKind, Queries, Rope, Rule, Score, Sdpa, rotary_of},
    config::{EXPERTS, SIZES},
    decoder::{Decoder, Fields, MoeForm, PROJECTIONS},
};
use candle_core::Tensor;
use serde::Deserialize;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "deepseek_v3", gguf: &[], build };

/// Its fields in `config.json`, beside those of all.
#[derive(Clone, Debug, Deserialize)]
pub struct DeepseekV3 {
    /// Those of all.
    #[serde(flatten)]
    pub base: Fields,
    /// Columns inside an expert.
    pub moe_intermediate_size: usize,
    /// Experts of a layer.
    pub n_routed_experts: usize,
    /// Of which a token meets so many.
    pub num_experts_per_tok: usize,
    /// Experts that all meet, as one block.
    #[serde(default)]
    pub n_shared_experts: usize,
    /// Of the weights of experts.
    #[serde(default = "one_f64")]
    pub routed_scaling_factor: f64,
    /// Weights are divided by their sum.
    #[serde(default = "yes")]
    pub norm_topk_prob: bool,
    /// Groups of experts.
    #[serde(default = "one")]
    pub n_group: usize,
    /// Of which a token reaches so many.
    #[serde(default = "one")]
    pub topk_group: usize,
    /// Layers before the first mixture.
    #[serde(default)]
    pub first_k_dense_replace: usize,
    /// Columns between the two projections of queries; none: there is one.
    pub q_lora_rank: Option<usize>,
    /// Columns of a latent.
    pub kv_lora_rank: usize,
    /// Columns of a key that come from the latent.
    pub qk_nope_head_dim: usize,
    /// Columns of a key that are turned.
    pub qk_rope_head_dim: usize,
    /// Columns of a value.
    pub v_head_dim: usize,
    /// Pairs that are turned are neighbours.
    #[serde(default = "yes")]
    pub rope_interleave: bool,
}

fn one() -> usize {
    1
}

fn one_f64() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

/// Of the norms inside attention, whatever `rms_norm_eps` says.
const EPS: f64 = 1e-6;

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let fields: DeepseekV3 = config.fields()?;
    model(config, &fields, w, |i| i >= fields.first_k_dense_replace)
}

/// A model of this form; `sparse` says which layers have a mixture.
///
/// # Errors
/// A field that does not fit; what [`Weights`] says.
pub fn model(config: &Config, fields: &DeepseekV3, w: &Weights, sparse: impl Fn(usize) -> bool) -> Result<Model> {
    let base = &fields.base;
    let decoder = Decoder::new(config, base)?;
    let norm = fields.norm_topk_prob.then_some(1e-20);
    let form = MoeForm {
        count: fields.n_routed_experts,
        columns: fields.moe_intermediate_size,
        rule: Rule {
            top_k: fields.num_experts_per_tok,
            score: Score::Sigmoid,
            norm,
            groups: Some((fields.n_group, fields.topk_group)),
            scaling: fields.routed_scaling_factor,
        },
        correction: Some("gate.e_score_correction_bias"),
        names: PROJECTIONS,
    };
    config.multiple(("qk_rope_head_dim", fields.qk_rope_head_dim), ("a pair", 2))?;
    let rotary = rotary_of(config, fields.qk_rope_head_dim)?;
    // layers that guess the token after the next are no part of the model
    w.ignore(&format!("model.layers.{}.", base.num_hidden_layers));
    decoder.model(w, vec![rotary], |i, w| {
        let attention = attention(config, fields, &w.pp("self_attn"))?;
        let mlp = w.pp("mlp");
        let feed_forward: FeedForward = match sparse(i) {
            true => {
                let mut moe = decoder.moe(&mlp, &form)?;
                if fields.n_shared_experts > 0 {
                    config.within("n_shared_experts", fields.n_shared_experts, EXPERTS)?;
                    let columns = fields.n_shared_experts * fields.moe_intermediate_size;
                    moe.shared = decoder.shared(&mlp, "shared_experts", columns, None)?;
                }
                moe.into()
            }
            false => decoder.mlp(&mlp, base.intermediate_size, false)?.into(),
        };
        decoder.layer(w, attention, feed_forward)
    })
}

fn attention(config: &Config, fields: &DeepseekV3, w: &Weights) -> Result<Mla> {
    let DeepseekV3 { base, kv_lora_rank: rank, qk_nope_head_dim: nope, qk_rope_head_dim: rope, .. } = fields;
    let (d, heads, value) = (base.hidden_size, base.num_attention_heads, fields.v_head_dim);
    let sizes = Latents { heads, rank: *rank, nope: *nope, rope: *rope, value };
    config.sizes(&[
        ("kv_lora_rank", *rank),
        ("qk_nope_head_dim", *nope),
        ("qk_rope_head_dim", *rope),
        ("v_head_dim", value),
    ])?;
    let low = |name: &str, n: usize| w.norm(name, n, EPS, NormKind::Rms);
    let columns = heads * (nope + rope);
    let queries = match fields.q_lora_rank {
        None => Queries::Direct(w.linear("q_proj", columns, d, false)?),
        Some(low_rank) => {
            config.within("q_lora_rank", low_rank, SIZES)?;
            Queries::Low(
                w.linear("q_a_proj", low_rank, d, base.attention_bias)?,
                low("q_a_layernorm", low_rank)?,
                w.linear("q_b_proj", columns, low_rank, false)?,
            )
        }
    };
    let [embed_q, unembed_out] = of_latents(w, sizes)?;
    let mut sdpa = Sdpa::new(w.prefix(), nope + rope);
    sdpa.scale *= mscale(config);
    Ok(Mla {
        name: w.prefix().into(),
        sizes,
        queries,
        kv_a_proj_with_mqa: w.linear("kv_a_proj_with_mqa", rank + rope, d, base.attention_bias)?,
        kv_a_layernorm: low("kv_a_layernorm", *rank)?,
        embed_q,
        unembed_out,
        o_proj: w.linear("o_proj", d, heads * value, base.attention_bias)?,
        rope: Rope { interleaved: fields.rope_interleave, ..Rope::new(w.prefix()) },
        sdpa,
    })
}

/// What makes keys and values of latents: `kv_b_proj`, or its two parts by head as MLX keeps them.
fn of_latents(w: &Weights, Latents { heads, rank, nope, value, .. }: Latents) -> Result<[ExpertLinear; 2]> {
    if w.contains("embed_q.weight") {
        let by_head = |name: &str, shape: [usize; 2]| w.experts(name, |_| String::new(), heads, shape);
        return Ok([by_head("embed_q", [rank, nope])?, by_head("unembed_out", [value, rank])?]);
    }
    let both = w.linear("kv_b_proj", heads * (nope + value), rank, false)?.matrix;
    let both =
        w.made((heads, nope + value, rank), || Ok(both.dense(w.dtype())?.reshape((heads, nope + value, rank))?))?;
    let part = |name: &str, t: Tensor| -> Result<ExpertLinear> {
        let matrix = Matrix::Dense(w.made(t.shape(), || Ok(t.contiguous()?))?);
        Ok(ExpertLinear { name: w.name(name), matrix, bias: None })
    };
    Ok([part("embed_q", both.narrow(1, 0, nope)?.t()?)?, part("unembed_out", both.narrow(1, nope, value)?)?])
}

/// Scores are multiplied by the square of YaRN's `mscale_all_dim`.
fn mscale(config: &Config) -> f64 {
    let scaling = config.get("rope_scaling").or(config.get("rope_parameters"));
    let number = |field: &str| scaling.and_then(|s| s.get(field)).and_then(|v| v.as_f64());
    match (number("factor"), number("mscale_all_dim")) {
        (Some(factor), Some(all)) if factor > 1.0 => (0.1 * all * factor.ln() + 1.0).powi(2),
        _ => 1.0,
    }
}
