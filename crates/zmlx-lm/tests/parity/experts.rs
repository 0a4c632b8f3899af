//! Exactly `num_experts_per_tok` experts run for a token, whatever the rule by which they are chosen.

use candle_core::{DType, Device, Tensor};
use std::sync::{Arc, Mutex};
use zmlx_lm::{
    Config, Load, Model, Result,
    blocks::{Activation, Block, ExpertLinear, Experts, Gate, Linear, Matrix, Router, Rule, Score, Swap},
    models, patch,
    patch::pattern::{Fit, Place, moe_mlp},
    weights::random::Random,
};

/// Rows of pseudo-random numbers, in steps so coarse that many are equal.
fn coarse(seed: u64, rows: usize, cols: usize) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 9) as f32 / 4.0 - 1.0
    };
    Ok(Tensor::from_vec((0..rows * cols).map(|_| next()).collect::<Vec<f32>>(), (rows, cols), &Device::Cpu)?)
}

/// Experts of which number e adds 1 to column e, and does nothing else.
fn telling(count: usize) -> Result<Experts> {
    let linear = |bias: Tensor| -> Result<ExpertLinear> {
        let matrix = Matrix::Dense(Tensor::zeros((count, count, count), DType::F32, &Device::Cpu)?);
        Ok(ExpertLinear { name: String::new(), matrix, bias: Some(bias) })
    };
    let nothing = Tensor::zeros((count, count), DType::F32, &Device::Cpu)?;
    Ok(Experts {
        name: String::new(),
        gate_proj: linear(nothing.clone())?,
        up_proj: linear(nothing)?,
        down_proj: linear(Tensor::eye(count, DType::F32, &Device::Cpu)?)?,
        gate: Gate::Plain(Activation::Silu),
        count,
        kernel: Swap::default(),
    })
}

#[test]
fn the_experts_that_add_to_a_token_are_as_many_as_the_rule_says() -> Result<()> {
    let (mut seed, mut patched) = (0, 0);
    for count in [1, 2, 3, 8, 12, 16] {
        let experts = telling(count)?;
        for top_k in 1..=count.min(8) {
            for score in [Score::Softmax, Score::SoftmaxOfChosen, Score::Sigmoid] {
                for (norm, groups, corrected) in [
                    (None, None, false),
                    (Some(0.0), None, false),
                    (Some(1e-20), Some((2, 1)), true),
                    (None, Some((4, 2)), true),
                    (Some(1e-6), None, true),
                ] {
                    let rule = Rule { top_k, score, norm, groups, scaling: 1.5 };
                    let config = Config::parse("config.json", r#"{"model_type": "llama"}"#)?;
                    if rule.fits(&config, count).is_err() {
                        continue;
                    }
                    seed += 1;
                    let correction = coarse(seed + 1000, 1, count)?.squeeze(0)?;
                    let mut router = Router {
                        name: String::new(),
                        gate: Linear {
                            name: String::new(),
                            matrix: Matrix::Dense(coarse(seed, count, 5)?),
                            bias: None,
                        },
                        correction: corrected.then_some(correction),
                        rule,
                        kernel: Swap::default(),
                    };
                    let route = router.forward(&coarse(seed + 2000, 7, 5)?)?;
                    let mut block = Block::Router(&mut router);
                    let place = Place { dtype: DType::F32, gpu: false, behind_sum: false };
                    if (moe_mlp::ENTRY.swap)(&mut block, &place) == Fit::Swapped {
                        patched += 1;
                        let by_kernel = router.forward(&coarse(seed + 2000, 7, 5)?)?;
                        let (a, b) = (by_kernel.experts.to_vec2::<u32>()?, route.experts.to_vec2::<u32>()?);
                        assert_eq!(a, b, "{count} experts, {rule:?}");
                        let off = (by_kernel.weights - &route.weights)?.abs()?.max_all()?.to_scalar::<f32>()?;
                        assert!(off < 1e-5, "{count} experts, {rule:?}: {off}");
                    }
                    let x = Tensor::zeros((7, count), DType::F32, &Device::Cpu)?;
                    let met = experts.forward(&x, &route)?.ne(0f32)?.to_dtype(DType::F32)?.sum(1)?.to_vec1::<f32>()?;
                    assert_eq!(met, vec![top_k as f32; 7], "{count} experts, {rule:?}");
                }
            }
        }
    }
    assert!(seed > 300 && patched > 200, "{seed} cases, {patched} by the kernel");
    Ok(())
}

/// The number of experts of every token of every layer, as the models route them.
fn routed(mut model: Model) -> Result<Vec<usize>> {
    let counts = Arc::new(Mutex::new(vec![]));
    model.visit(&mut |block| {
        let Block::Experts(experts) = block else { return };
        let counts = counts.clone();
        experts.kernel.put(
            "count",
            Arc::new(move |experts, x, route| {
                let rows = route.experts.to_vec2::<u32>()?;
                let distinct = |mut row: Vec<u32>| {
                    row.sort_unstable();
                    row.dedup();
                    row.len()
                };
                counts.lock().unwrap_or_else(|e| e.into_inner()).extend(rows.into_iter().map(distinct));
                experts.plain(x, route)
            }),
        );
    });
    let tokens = Tensor::new(&[[3u32, 1, 4, 1, 5], [9, 2, 6, 5, 3]], &Device::Cpu)?;
    model.forward_once(&tokens)?;
    Ok(counts.lock().unwrap_or_else(|e| e.into_inner()).clone())
}

#[test]
fn every_model_routes_each_token_to_num_experts_per_tok_experts() -> Result<()> {
    let form = r#""hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "num_experts": 8, "num_local_experts": 8,
        "n_routed_experts": 8, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "norm_eps": 1e-5,
        "num_dense_layers": 0, "conv_L_cache": 3, "norm_topk_prob": true, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 0, "sliding_window": 4"#;
    for model_type in
        ["mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v3", "glm4_moe_lite", "lfm2_moe", "gpt_oss"]
    {
        let types = match model_type {
            "lfm2_moe" => r#", "layer_types": ["conv", "full_attention"]"#,
            _ => "",
        };
        for k in 1..=8 {
            let json = format!(r#"{{"model_type": "{model_type}", {form}{types}, "num_experts_per_tok": {k}}}"#);
            let config = Config::parse(model_type, &json)?;
            let model = models::load(&config, Random { seed: 1 }, DType::F32, &Load::default())?;
            let mut patched = model.clone();
            patch(&mut patched, ["moe_mlp"])?;
            assert_eq!(routed(model)?, vec![k; 20], "{model_type}, k = {k}");
            assert_eq!(routed(patched)?, vec![k; 20], "{model_type} patched, k = {k}");
        }
    }
    Ok(())
}
