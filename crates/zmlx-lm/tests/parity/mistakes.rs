//! Configurations that make no sense, and checkpoints that lack experts, are told before memory is asked for.

use crate::tiny::{Tensors, Tiny};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::collections::HashMap;
use zmlx_lm::{Config, Load, Result, models};

/// What is said of a tiny model whose configuration and tensors were changed.
fn told(name: &str, fields: Value, change: impl Fn(&mut HashMap<String, Tensor>)) -> Result<String> {
    let tiny = Tiny::named(name)?;
    let mut json = tiny.config.json().clone();
    json.extend(fields.as_object().cloned().unwrap_or_default());
    let config = Config::of("config.json", Value::Object(json))?;
    let mut tensors = tiny.tensors()?;
    change(&mut tensors);
    let model = models::load(&config, Tensors(tensors), DType::F32, &Load::default());
    Ok(model.map_or_else(|e| e.to_string(), |_| "a model".into()))
}

#[test]
fn fields_that_do_not_fit_are_told() -> Result<()> {
    for (name, fields, expected) in [
        ("qwen3_moe.base", json!({"num_experts_per_tok": 0}), "num_experts_per_tok, expected 1 to 8, got 0"),
        ("qwen3_moe.base", json!({"num_experts_per_tok": 9}), "num_experts_per_tok, expected 1 to 8, got 9"),
        ("qwen3_moe.base", json!({"num_experts": 0}), "number of experts, expected 1 to 4096, got 0"),
        (
            "qwen3_moe.base",
            json!({"num_experts": 1u64 << 40}),
            "number of experts, expected 1 to 4096, got 1099511627776",
        ),
        ("qwen3_moe.base", json!({"moe_intermediate_size": 0}), "moe_intermediate_size, expected 1 to 16777216, got 0"),
        (
            "qwen3.base",
            json!({"layer_types": ["full_attention"]}),
            "expected 2 of full_attention, sliding_attention, got 1",
        ),
        ("qwen3.base", json!({"layer_types": ["full_attention", "no"]}), "sliding_attention, got \"no\""),
        ("mistral.base", json!({"model_type": "mixtral"}), "missing field `num_local_experts`"),
        ("gemma3_text.base", json!({"sliding_window": null}), "sliding_window, expected 1 or more, got None"),
        ("gemma3_text.base", json!({"attn_logit_softcapping": 5.0}), "attn_logit_softcapping, expected none, got 5.0"),
        ("deepseek_v3.base", json!({"n_group": 3}), "number of experts, expected a multiple of n_group, 3, got 8"),
        ("deepseek_v3.base", json!({"n_group": 4, "topk_group": 1}), "topk_group, expected 2 to 4, got 1"),
        ("deepseek_v3.base", json!({"n_group": 0}), "number of experts, expected a multiple of n_group, 0, got 8"),
        (
            "deepseek_v3.base",
            json!({"qk_rope_head_dim": 7}),
            "qk_rope_head_dim, expected a multiple of a pair, 2, got 7",
        ),
        ("deepseek_v3.base", json!({"n_shared_experts": u64::MAX >> 1}), "n_shared_experts, expected 1 to 4096"),
        ("glm4_moe_lite.base", json!({"mlp_layer_types": ["dense"]}), "mlp_layer_types, expected 3, got 1"),
        (
            "lfm2_moe.base",
            json!({"layer_types": null}),
            "layer_types, expected full_attention or conv of each layer, got none",
        ),
        ("lfm2_moe.base", json!({"conv_L_cache": 0}), "conv_L_cache, expected 1 to 64, got 0"),
        ("gpt_oss.base", json!({"num_local_experts": 5000}), "num_local_experts, expected 1 to 4096, got 5000"),
    ] {
        let said = told(name, fields, |_| ())?;
        assert!(said.contains(expected), "{name}: {said}");
    }
    Ok(())
}

#[test]
fn sizes_of_another_model_are_told_and_no_memory_is_asked_for() -> Result<()> {
    let large = json!({"hidden_size": 1 << 22, "intermediate_size": 1 << 22, "moe_intermediate_size": 1 << 22,
        "kv_lora_rank": 1 << 22});
    for name in ["mixtral.base", "qwen2_moe.base", "deepseek_v3.base", "lfm2_moe.base", "gpt_oss.base", "gpt_oss.mxfp4"]
    {
        let said = told(name, large.clone(), |_| ())?;
        assert!(said.starts_with("weights: ") && said.contains("shape, expected"), "{name}: {said}");
    }
    Ok(())
}

#[test]
fn experts_that_are_missing_or_too_many_are_listed() -> Result<()> {
    let said = told("qwen3_moe.base", json!({}), |tensors| {
        tensors.remove("model.layers.0.mlp.experts.0.down_proj.weight");
        tensors.remove("model.layers.1.mlp.experts.3.up_proj.weight");
        tensors.remove("model.layers.1.mlp.experts.5.up_proj.weight");
    })?;
    assert_eq!(
        said,
        "weights: 3 mistakes
  model.layers.0.mlp.experts.0.down_proj.weight: missing, expected [32, 24]
  model.layers.1.mlp.experts.3.up_proj.weight: missing, expected [24, 32]
  model.layers.1.mlp.experts.5.up_proj.weight: missing, expected [24, 32]"
    );
    let said = told("mixtral.base", json!({}), |tensors| {
        let extra = Tensor::zeros((48, 32), DType::F32, &Device::Cpu).expect("zeros");
        tensors.insert("model.layers.0.block_sparse_moe.experts.8.w1.weight".into(), extra);
    })?;
    assert_eq!(said, "weights: 1 mistakes\n  model.layers.0.block_sparse_moe.experts.8.w1.weight: not expected");
    Ok(())
}
