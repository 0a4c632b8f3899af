//! Tiny models of every type say what transformers and mlx_lm say of them (`tests/oracle/models.py`): logits of a prompt, of tokens
//! behind it, and the tokens themselves.

use crate::tiny::{Tensors, Tiny, device, load, of_type};
use candle_core::{DType, Tensor};
use zmlx_lm::{Model, Result, models};

/// Largest difference of a logit.
const LOGIT: f32 = 1e-4;

fn model_of(tiny: &Tiny) -> Result<Model> {
    models::load(&tiny.config, Tensors(tiny.tensors()?), DType::F32, &load())
}

fn rows(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(logits.squeeze(0)?.to_vec2()?)
}

fn same(name: &str, what: &str, got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len(), "{name}, {what}");
    let far = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < LOGIT, "{name}, {what}: a logit is off by {far}");
    far
}

fn best(row: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).fold(0, better) as u32
}

/// Prefill, cached decode and the whole text at once; gives the largest difference.
fn check(tiny: &Tiny, model: &Model) -> Result<f32> {
    let name = tiny.name.as_str();
    let of = |tokens: &[u32]| Tensor::new(tokens, &device())?.unsqueeze(0);
    let all = tiny.prompt.len() + tiny.greedy.len();
    let mut cache = model.new_cache(1, all)?;
    let prefill = rows(&model.forward(&of(&tiny.prompt)?, &mut cache)?)?;
    let mut far = 0f32;
    for (row, expected) in prefill[tiny.prompt.len() - 2..].iter().zip(&tiny.prefill) {
        far = far.max(same(name, "prefill", row, expected));
    }
    let mut row = prefill[tiny.prompt.len() - 1].clone();
    for (i, token) in tiny.greedy.iter().enumerate() {
        let sum = row.iter().map(|l| l.exp()).sum::<f32>().ln();
        let told = [row[*token as usize], sum];
        far = far.max(same(name, "decode", &told, &[tiny.greedy_logits[i], tiny.logsumexp[i]]));
        assert_eq!(best(&row), *token, "{name}: token {i}");
        row = rows(&model.forward(&of(&[*token])?, &mut cache)?)?.remove(0);
    }
    far = far.max(same(name, "last", &row, &tiny.last));
    let text = [&tiny.prompt[..], &tiny.greedy].concat();
    let whole = rows(&model.forward_once(&of(&text)?)?)?;
    Ok(far.max(same(name, "whole text", &whole[all - 1], &tiny.last)))
}

fn check_type(model_type: &str, at_least: usize) -> Result<()> {
    let names = of_type(model_type);
    assert!(names.len() >= at_least, "{names:?}");
    for name in names {
        let tiny = Tiny::named(&name)?;
        let far = check(&tiny, &model_of(&tiny)?)?;
        println!("{name}: {far:.1e}");
    }
    Ok(())
}

#[test]
fn llama_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("llama", 9)
}

#[test]
fn mistral_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("mistral", 3)
}

#[test]
fn qwen2_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("qwen2", 3)
}

#[test]
fn qwen3_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("qwen3", 5)
}

#[test]
fn gemma3_text_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("gemma3_text", 5)
}

#[test]
fn mixtral_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("mixtral", 7)
}

#[test]
fn olmoe_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("olmoe", 7)
}

#[test]
fn qwen2_moe_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("qwen2_moe", 7)
}

#[test]
fn qwen3_moe_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("qwen3_moe", 14)
}

#[test]
fn deepseek_v3_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("deepseek_v3", 9)
}

#[test]
fn glm4_moe_lite_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("glm4_moe_lite", 5)
}

#[test]
fn lfm2_moe_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("lfm2_moe", 5)
}

#[test]
fn gpt_oss_says_what_transformers_and_mlx_lm_say() -> Result<()> {
    check_type("gpt_oss", 7)
}
