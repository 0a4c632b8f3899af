//! The families that ZMLX's patch got wrong, and the mistakes that it made: blocks and models compute what their families do, and
//! with one of the mistakes they would not (`tests/oracle/families.py`).
//!
//! ZMLX took every gated block for a SwiGLU, and every mixture for two experts weighted by the softmax of their logits.

use crate::tiny::{Tensors, Tiny, dense, lines, numbers, weights};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use zmlx_lm::{
    Config, Load, Model, Result, Weights,
    blocks::{Activation, Block, Mlp, Moe, NormKind, Router, Rule, Score},
    decoder::{Decoder, MoeForm, PROJECTIONS},
    models,
};

/// A family's tensors, the rows that its block gets, and what it gives for them.
struct Family {
    weights: Weights,
    x: Tensor,
    y: Tensor,
}

impl Family {
    /// `renamed` are two parts of names, of which the first becomes the second.
    fn named(name: &str, renamed: [&str; 2]) -> Result<Family> {
        let all: Value = serde_json::from_str(include_str!("../data/families.json")).expect("the oracle writes JSON");
        let tensors = dense(&all[name]["tensors"], false)?;
        let tensors = tensors.into_iter().map(|(n, t)| (n.replace(renamed[0], renamed[1]), t)).collect();
        let rows: Vec<Vec<f32>> = lines(&all[name]["y"]).map(|line| numbers(&Value::from(line))).collect();
        let (t, d) = (rows.len(), rows[0].len());
        let config = Config::of(name, serde_json::json!({"model_type": name}))?;
        Ok(Family {
            weights: Weights::new(Tensors(tensors), &config, DType::F32, &Load::default()),
            x: (weights("x", &[1, t, d], false)? * 3.0)?,
            y: Tensor::new(rows, &Device::Cpu)?.unsqueeze(0)?,
        })
    }

    /// How far a block is off.
    fn off(&self, y: &Tensor) -> Result<f32> {
        Ok((y - &self.y)?.abs()?.max_all()?.to_scalar()?)
    }

    /// All tensors were used, the block is right, and with ZMLX's mistake it is not.
    fn check(&self, name: &str, right: &Tensor, wrong: &Tensor) -> Result<()> {
        self.weights.finish()?;
        let (right, wrong) = (self.off(right)?, self.off(wrong)?);
        println!("{name}: {right:.1e}, with ZMLX's mistake {wrong:.2}");
        assert!(right < 2e-5, "{name} is off by {right}");
        assert!(wrong > 1e-2, "{name}: the mistake is not seen, {wrong}");
        Ok(())
    }
}

const TWO: Rule = Rule { top_k: 2, score: Score::SoftmaxOfChosen, norm: None, groups: None, scaling: 1.0 };

fn mlp(name: &str, bias: bool, activation: Activation) -> Result<()> {
    let family = Family::named(name, ["", ""])?;
    let block = Mlp::new(&family.weights, 32, 48, bias, activation)?;
    let wrong = Mlp { activation: Activation::Silu, ..block.clone() };
    family.check(name, &block.forward(&family.x)?, &wrong.forward(&family.x)?)
}

fn moe(
    name: &str,
    renamed: [&str; 2],
    rule: Rule,
    bias: bool,
    shared: Option<(&str, usize, Option<&str>)>,
) -> Result<()> {
    let family = Family::named(name, renamed)?;
    let json = r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 1,
        "num_attention_heads": 4, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}"#;
    let config = Config::parse(name, json)?;
    let fields = config.fields()?;
    let decoder = Decoder::new(&config, &fields)?;
    let columns = family.weights.shape_of("switch_mlp.gate_proj.weight").map_or(0, |s| s[1]);
    let correction = bias.then_some("e_score_correction_bias");
    let form = MoeForm { count: 8, columns, rule, correction, names: PROJECTIONS };
    let mut block = decoder.moe(&family.weights, &form)?;
    if let Some((name, columns, gate)) = shared {
        block.shared = decoder.shared(&family.weights, name, columns, gate)?;
    }
    let router = Router { rule: TWO, correction: None, ..block.router.clone() };
    let wrong = Moe { router, ..block.clone() };
    family.check(name, &block.forward(&family.x)?, &wrong.forward(&family.x)?)
}

fn sigmoid(top_k: usize, scaling: f64) -> Rule {
    Rule { top_k, score: Score::Sigmoid, norm: Some(1e-20), groups: None, scaling }
}

#[test]
fn gemma_gates_by_the_exact_gelu() -> Result<()> {
    mlp("gemma", false, Activation::GeluErf)
}

#[test]
fn gemma2_gates_by_gelu() -> Result<()> {
    mlp("gemma2", false, Activation::GeluTanh)
}

#[test]
fn gemma3n_gates_by_gelu() -> Result<()> {
    mlp("gemma3n", false, Activation::GeluTanh)
}

#[test]
fn recurrent_gemma_gates_by_gelu_and_has_biases() -> Result<()> {
    mlp("recurrent_gemma", true, Activation::GeluTanh)
}

#[test]
fn lille_norms_inside_of_its_block() -> Result<()> {
    let family = Family::named("lille-130m", ["", ""])?;
    let norm = family.weights.norm("norm", 96, 1e-5, NormKind::Rms)?;
    let block = Mlp::new(&family.weights, 96, 256, false, Activation::Silu)?;
    family.check("lille-130m", &block.forward(&norm.forward(&family.x)?)?, &block.forward(&family.x)?)
}

#[test]
fn ernie_chooses_three_by_softmax_beside_shared_experts() -> Result<()> {
    moe("ernie4_5_moe", ["", ""], Rule::softmax(3, true), false, Some(("shared_experts", 48, None)))
}

#[test]
fn minimax_chooses_four_by_sigmoid_and_bias() -> Result<()> {
    moe("minimax", ["", ""], sigmoid(4, 1.0), true, None)
}

#[test]
fn qwen3_next_chooses_five_beside_a_gated_shared_expert() -> Result<()> {
    let shared = Some(("shared_expert", 40, Some("shared_expert_gate")));
    moe("qwen3_next", ["", ""], Rule::softmax(5, true), false, shared)
}

#[test]
fn kimi_linear_chooses_six_by_sigmoid_and_scales() -> Result<()> {
    moe("kimi_linear", ["", ""], sigmoid(6, 2.446), true, Some(("shared_experts", 24, None)))
}

#[test]
fn hunyuan_chooses_three_whose_weights_are_not_divided_by_their_sum() -> Result<()> {
    moe("hunyuan", ["gate.wg", "gate"], Rule::softmax(3, false), false, Some(("shared_mlp", 48, None)))
}

/// The logits of a tiny model's prompt, and how far they are with ZMLX's mistake from those that are expected.
fn mistaken(name: &str, mistake: impl Fn(Block<'_>)) -> Result<()> {
    let tiny = Tiny::named(name)?;
    let mut model: Model = models::load(&tiny.config, Tensors(tiny.tensors()?), DType::F32, &Load::default())?;
    let off = |model: &Model| -> Result<f32> {
        let prompt = Tensor::new(&tiny.prompt[..], &Device::Cpu)?.unsqueeze(0)?;
        let logits = model.forward_once(&prompt)?.squeeze(0)?.get(tiny.prompt.len() - 1)?.to_vec1::<f32>()?;
        Ok(logits.iter().zip(&tiny.prefill[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
    };
    let right = off(&model)?;
    model.visit(&mut |block| mistake(block));
    let wrong = off(&model)?;
    println!("{name}: {right:.1e}, with ZMLX's mistake {wrong:.2}");
    assert!(right < 1e-4 && wrong > 1e-2, "{name}: {right}, {wrong}");
    Ok(())
}

#[test]
fn a_gelu_taken_for_silu_is_seen_in_gemma3_text() -> Result<()> {
    mistaken("gemma3_text.base", |block| {
        if let Block::Mlp(mlp) = block {
            mlp.activation = Activation::Silu;
        }
    })
}

#[test]
fn two_experts_in_place_of_the_models_rule_are_seen() -> Result<()> {
    let models = ["olmoe.base", "qwen2_moe.base", "qwen3_moe.base", "qwen3_moe.k8_of_16", "qwen3_moe.k2_not_normed"];
    for name in models.into_iter().chain(["lfm2_moe.base", "mixtral.k3", "deepseek_v3.base", "gpt_oss.base"]) {
        mistaken(name, |block| {
            if let Block::Router(router) = block {
                (router.rule, router.correction) = (TWO, None);
            }
        })?;
    }
    Ok(())
}
