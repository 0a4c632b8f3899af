//! `gpt_oss`: OpenAI's gpt-oss: attention with a sink a head, every other layer over a window; mixtures with biases and a gate of
//! their own, whose experts come in MXFP4 (made dense here), as numbers, or in MLX's form.
//!
//! Fields and weights as in transformers' `modeling_gpt_oss.py`.

use super::ModelType;
use crate::{
    Config, Model, Result, Weights,
    blocks::{ExpertLinear, Experts, Gate, Matrix, Moe, Router, Rule, Score, Swap, rotary_of},
    config::EXPERTS,
    decoder::{Decoder, Fields},
};
use candle_core::{DType, Tensor};
use serde::Deserialize;
use zmlx::catalog::dequantize_mxfp4::dequantize_mxfp4;

/// What `models/` knows of it.
pub static ENTRY: ModelType = ModelType { name: "gpt_oss", gguf: &[], build };

#[derive(Deserialize)]
struct GptOss {
    #[serde(flatten)]
    base: Fields,
    num_local_experts: usize,
    num_experts_per_tok: usize,
    #[serde(default = "alpha")]
    swiglu_alpha: f64,
    #[serde(default = "limit")]
    swiglu_limit: f64,
}

fn alpha() -> f64 {
    1.702
}

fn limit() -> f64 {
    7.0
}

fn build(config: &Config, w: &Weights) -> Result<Model> {
    let mut fields: GptOss = config.fields()?;
    fields.base.attention_bias = config.get("attention_bias").and_then(|v| v.as_bool()).unwrap_or(true);
    let base = &fields.base;
    let decoder = Decoder::new(config, base)?;
    let heads = base.heads(config)?;
    let windows = decoder.windows(|i| i.is_multiple_of(2))?;
    config.within("num_local_experts", fields.num_local_experts, EXPERTS)?;
    decoder.model(w, vec![rotary_of(config, heads.dim)?], |i, w| {
        let a = w.pp("self_attn");
        let mut attention = decoder.attention(&a, [base.attention_bias; 2])?;
        attention.sdpa.window = windows[i];
        attention.sdpa.sinks = Some(a.tensor("sinks", heads.count)?);
        let moe = moe(config, &fields, &w.pp("mlp"))?;
        decoder.layer(w, attention, moe)
    })
}

fn moe(config: &Config, fields: &GptOss, w: &Weights) -> Result<Moe> {
    let (d, f, count) = (fields.base.hidden_size, fields.base.intermediate_size, fields.num_local_experts);
    let rule = Rule {
        top_k: fields.num_experts_per_tok,
        score: Score::SoftmaxOfChosen,
        norm: None,
        groups: None,
        scaling: 1.0,
    };
    rule.fits(config, count)?;
    let experts = w.pp("experts");
    let [gate_proj, up_proj, down_proj] = match experts.contains("gate_proj.weight") || config.quantization.is_some() {
        true => {
            let one = |name: &str, n: usize, k: usize| -> Result<ExpertLinear> {
                let bias = Some(experts.pp(name).tensor("bias", (count, n))?);
                Ok(ExpertLinear { bias, ..experts.experts(name, |_| name.into(), count, [n, k])? })
            };
            [one("gate_proj", f, d)?, one("up_proj", f, d)?, one("down_proj", d, f)?]
        }
        false => of_pairs(&experts, count, [d, f])?,
    };
    Ok(Moe {
        name: w.prefix().into(),
        router: Router {
            name: w.name("router"),
            gate: w.linear("router", count, d, true)?,
            correction: None,
            rule,
            kernel: Swap::default(),
        },
        experts: Experts {
            name: experts.prefix().into(),
            gate_proj,
            up_proj,
            down_proj,
            gate: Gate::Clamped { alpha: fields.swiglu_alpha, limit: fields.swiglu_limit },
            count,
            kernel: Swap::default(),
        },
        shared: None,
    })
}

/// Gate, up and down as they are published: rows of gate and up take turns in one matrix.
fn of_pairs(w: &Weights, count: usize, [d, f]: [usize; 2]) -> Result<[ExpertLinear; 3]> {
    let both = rows(w, "gate_up_proj", count, [2 * f, d])?;
    let bias = w.tensor("gate_up_proj_bias", (count, 2 * f))?;
    let of = |i: usize, name: &str| -> Result<ExpertLinear> {
        let every_other = |t: &Tensor, shape: &[usize]| -> Result<Tensor> {
            Ok(t.reshape([&[count, f, 2], &shape[2..]].concat())?.narrow(2, i, 1)?.squeeze(2)?.contiguous()?)
        };
        let of = |t: &Tensor, shape: &[usize]| w.made(shape, || every_other(t, shape));
        let (matrix, bias) = (Matrix::Dense(of(&both, &[count, f, d])?), Some(of(&bias, &[count, f])?));
        Ok(ExpertLinear { name: w.name(name), matrix, bias })
    };
    let down = ExpertLinear {
        name: w.name("down_proj"),
        matrix: Matrix::Dense(rows(w, "down_proj", count, [d, f])?),
        bias: Some(w.tensor("down_proj_bias", (count, d))?),
    };
    Ok([of(0, "gate_proj")?, of(1, "up_proj")?, down])
}

/// The matrices `[E, n, k]` of all experts, of MXFP4 or of numbers `[E, k, n]`.
fn rows(w: &Weights, name: &str, count: usize, [n, k]: [usize; 2]) -> Result<Tensor> {
    let blocks = format!("{name}_blocks");
    if !w.contains(&blocks) {
        let numbers = w.tensor(name, (count, k, n))?;
        return w.made((count, n, k), || Ok(numbers.transpose(1, 2)?.contiguous()?));
    }
    let blocks = w.tensor_in(&blocks, (count, n, k / 32, 16), DType::U8)?;
    let scales = w.tensor_in(&format!("{name}_scales"), (count, n, k / 32), DType::U8)?;
    w.made((count, n, k), || Ok(dequantize_mxfp4(&blocks.reshape((count, n, k / 2))?, &scales, w.dtype())?))
}
