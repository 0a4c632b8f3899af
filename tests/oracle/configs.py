"""Tiny configurations of each model_type, with the field names of the config.json-s on the hub: what differs from its type's first.

A name is the model_type and what the configuration is about. `ties` is not a field: it makes routers score pairs of experts equally.
"""

DENSE = dict(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    hidden_act="silu", max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False,
)
MLA = dict(
    DENSE, num_hidden_layers=3, num_key_value_heads=4, moe_intermediate_size=24, n_routed_experts=8, num_experts_per_tok=3,
    n_shared_experts=1, routed_scaling_factor=1.8, norm_topk_prob=True, scoring_func="sigmoid", topk_method="noaux_tc",
    n_group=1, topk_group=1, first_k_dense_replace=1, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=12,
    qk_rope_head_dim=8, v_head_dim=12, attention_bias=False,
)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = dict(type="yarn", factor=4.0, beta_fast=32, beta_slow=1, original_max_position_embeddings=16)

# model_type: (class, fields of the first, {name: fields that differ})
TYPES = {
    "llama": ("LlamaForCausalLM", dict(DENSE, attention_bias=False, mlp_bias=False), {
        "llama3_rope": dict(rope_scaling=LLAMA3, rope_theta=500000.0),
        "rope_parameters": dict(rope_theta=None, rope_parameters=dict(LLAMA3, rope_theta=500000.0)),
        "linear_rope": dict(rope_scaling=dict(type="linear", factor=2.0)),
        "tied": dict(tie_word_embeddings=True, num_key_value_heads=1),
        "biases": dict(attention_bias=True, mlp_bias=True),
        "head_dim": dict(head_dim=16, num_key_value_heads=4),
    }),
    "mistral": ("MistralForCausalLM", dict(DENSE, sliding_window=None, head_dim=8), {
        "sliding_window": dict(sliding_window=5),
        "head_dim": dict(head_dim=12),
    }),
    "qwen2": ("Qwen2ForCausalLM", dict(DENSE, use_sliding_window=False, sliding_window=32, max_window_layers=2), {
        "tied": dict(tie_word_embeddings=True),
        "sliding_window": dict(use_sliding_window=True, sliding_window=5, max_window_layers=1),
    }),
    "qwen3": ("Qwen3ForCausalLM", dict(DENSE, head_dim=16, attention_bias=False, use_sliding_window=False), {
        "tied": dict(tie_word_embeddings=True),
        "biases": dict(attention_bias=True, rope_scaling=dict(YARN)),
        "sliding_window": dict(use_sliding_window=True, sliding_window=5, max_window_layers=1),
    }),
    "gemma3_text": ("Gemma3ForCausalLM", dict(
        DENSE, num_hidden_layers=3, head_dim=16, hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24,
        sliding_window=5, sliding_window_pattern=3, rope_theta=1000000.0, rope_local_base_freq=10000.0,
        tie_word_embeddings=True, rms_norm_eps=1e-6,
    ), {
        "linear_rope": dict(rope_scaling=dict(rope_type="linear", factor=8.0), sliding_window_pattern=2),
        "biases": dict(attention_bias=True, num_key_value_heads=1, sliding_window=64),
        "softcap": dict(final_logit_softcapping=3.0),
    }),
    "mixtral": ("MixtralForCausalLM", dict(DENSE, num_local_experts=8, num_experts_per_tok=2, sliding_window=None), {
        "k1": dict(num_experts_per_tok=1),
        "k3": dict(num_experts_per_tok=3),
        "k8": dict(num_experts_per_tok=8),
        "sliding_window": dict(sliding_window=5),
        "ties": dict(num_experts_per_tok=3, ties=True),
    }),
    "olmoe": ("OlmoeForCausalLM", dict(
        DENSE, num_experts=8, num_experts_per_tok=4, norm_topk_prob=False, clip_qkv=None, attention_bias=False,
    ), {
        "k1": dict(num_experts_per_tok=1),
        "normed": dict(norm_topk_prob=True, num_experts_per_tok=5, num_key_value_heads=4),
        "k8": dict(num_experts_per_tok=8),
        "clip": dict(clip_qkv=0.5, num_experts_per_tok=2),
        "ties": dict(num_experts_per_tok=3, ties=True),
    }),
    "qwen2_moe": ("Qwen2MoeForCausalLM", dict(
        DENSE, num_experts=8, num_experts_per_tok=4, moe_intermediate_size=24, shared_expert_intermediate_size=40,
        norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[], use_sliding_window=False, sliding_window=32,
        max_window_layers=2,
    ), {
        "k1": dict(num_experts_per_tok=1),
        "normed": dict(norm_topk_prob=True, num_experts_per_tok=3),
        "k8": dict(num_experts_per_tok=8),
        "sparse_step": dict(num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[1]),
        "ties": dict(num_experts_per_tok=5, ties=True),
    }),
    "qwen3_moe": ("Qwen3MoeForCausalLM", dict(
        DENSE, head_dim=16, num_experts=8, num_experts_per_tok=4, moe_intermediate_size=24, norm_topk_prob=True,
        decoder_sparse_step=1, mlp_only_layers=[], attention_bias=False, use_sliding_window=False,
    ), {
        **{f"k{k}": dict(num_experts_per_tok=k) for k in (1, 2, 3, 5, 6, 7)},
        "k8_of_16": dict(num_experts=16, num_experts_per_tok=8),
        "k1_not_normed": dict(num_experts_per_tok=1, norm_topk_prob=False),
        "k2_not_normed": dict(num_experts_per_tok=2, norm_topk_prob=False),
        "k8_not_normed": dict(num_experts_per_tok=8, norm_topk_prob=False),
        "dense_layers": dict(num_hidden_layers=3, mlp_only_layers=[1], attention_bias=True, tie_word_embeddings=True),
        "ties": dict(num_experts_per_tok=3, ties=True),
    }),
    "deepseek_v3": ("DeepseekV3ForCausalLM", MLA, {
        "groups": dict(n_group=4, topk_group=2, num_experts_per_tok=4, routed_scaling_factor=2.5),
        "k1_not_normed": dict(num_experts_per_tok=1, norm_topk_prob=False),
        "k8": dict(num_experts_per_tok=8, n_shared_experts=2, first_k_dense_replace=2),
        "q_proj": dict(q_lora_rank=None, attention_bias=True, first_k_dense_replace=0),
        "yarn": dict(rope_scaling=dict(YARN, mscale=1.0, mscale_all_dim=1.0)),
        "yarn_mscale": dict(rope_scaling=dict(YARN, mscale=0.7, mscale_all_dim=1.0), v_head_dim=8),
        "ties": dict(num_experts_per_tok=5, ties=True),
    }),
    "glm4_moe_lite": ("Glm4MoeLiteForCausalLM", MLA, {
        "k4_not_normed": dict(num_experts_per_tok=4, norm_topk_prob=False),
        "groups": dict(n_group=2, topk_group=1, num_experts_per_tok=2),
        "biases": dict(attention_bias=True, n_shared_experts=2),
    }),
    "lfm2_moe": ("Lfm2MoeForCausalLM", dict(
        {k: v for k, v in DENSE.items() if k not in ("hidden_act", "rms_norm_eps")}, norm_eps=1e-5, num_hidden_layers=4,
        layer_types=["conv", "full_attention", "conv", "full_attention"], num_dense_layers=1, moe_intermediate_size=24,
        num_experts=8, num_experts_per_tok=4, norm_topk_prob=True, use_expert_bias=True, routed_scaling_factor=1.0,
        conv_L_cache=3, conv_bias=False, tie_word_embeddings=True,
    ), {
        "k1_not_normed": dict(num_experts_per_tok=1, norm_topk_prob=False, routed_scaling_factor=1.5),
        "no_bias": dict(use_expert_bias=False, num_experts_per_tok=3, num_dense_layers=0, layer_types=["full_attention"] + 3 * ["conv"]),
        "conv_bias": dict(conv_bias=True, conv_L_cache=4, num_dense_layers=2),
    }),
    "gpt_oss": ("GptOssForCausalLM", dict(
        DENSE, head_dim=16, num_local_experts=8, num_experts_per_tok=4, sliding_window=5, attention_bias=True,
        swiglu_limit=7.0, rope_theta=150000.0, layer_types=["sliding_attention", "full_attention"],
        rope_scaling=dict(rope_type="yarn", factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                          original_max_position_embeddings=16),
        max_position_embeddings=512,
    ), {
        "k1": dict(num_experts_per_tok=1),
        "limit": dict(num_experts_per_tok=3, swiglu_limit=0.5),
        "k8": dict(num_experts_per_tok=8, num_hidden_layers=3,
                   layer_types=["full_attention", "sliding_attention", "sliding_attention"]),
        "ties": dict(num_experts_per_tok=3, ties=True),
        "mxfp4": dict(intermediate_size=64, quantization_config=dict(
            quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"])),
    }),
}


# Folders as mlx_lm quantises them: {name: (type, fields that differ, bits, group, {module: bits of its own, 0 for none})}
WIDE = dict(hidden_size=64, intermediate_size=64, head_dim=16)
WIDE_MLA = dict(WIDE, moe_intermediate_size=32, q_lora_rank=32, kv_lora_rank=32, qk_nope_head_dim=32, v_head_dim=32)
QUANTISED = {
    "llama.mlx2": ("llama", WIDE, 2, 32, {}),
    "llama.mlx4": ("llama", WIDE, 4, 64, {"model.embed_tokens": 6, "model.layers.1.mlp.down_proj": 8}),
    "qwen3.mlx5": ("qwen3", dict(WIDE, tie_word_embeddings=True), 5, 32, {"model.layers.0.self_attn.q_proj": 0}),
    "gemma3_text.mlx3": ("gemma3_text", WIDE, 3, 32, {}),
    "mixtral.mlx4": ("mixtral", WIDE, 4, 32, {}),
    "olmoe.mlx6": ("olmoe", WIDE, 6, 32, {}),
    "qwen2_moe.mlx4": ("qwen2_moe", dict(WIDE, moe_intermediate_size=32, shared_expert_intermediate_size=64), 4, 32, {}),
    "qwen3_moe.mlx4": ("qwen3_moe", dict(WIDE, moe_intermediate_size=32), 4, 32, {"model.layers.0.mlp.switch_mlp.up_proj": 8}),
    "deepseek_v3.mlx8": ("deepseek_v3", WIDE_MLA, 8, 32, {}),
    "glm4_moe_lite.mlx4": ("glm4_moe_lite", WIDE_MLA, 4, 32, {}),
    "lfm2_moe.mlx4": ("lfm2_moe", dict(hidden_size=64, intermediate_size=64, moe_intermediate_size=32), 4, 32, {}),
    "gpt_oss.mlx4": ("gpt_oss", WIDE, 4, 32, {}),
}


def quantised_configs():
    """Name, config.json without `quantization`, bits, group and modules that have bits of their own, of each MLX folder."""
    for name, (kind, change, bits, group, own) in QUANTISED.items():
        architecture, base, _ = TYPES[kind]
        yield name, {"model_type": kind, "architectures": [architecture], **base, **change}, bits, group, own


def all_configs():
    """Name, config.json and whether routers have ties, of each configuration."""
    for kind, (architecture, base, variants) in TYPES.items():
        for name, change in [("base", {}), *variants.items()]:
            config = {"model_type": kind, "architectures": [architecture], **base, **change}
            config = {k: v for k, v in config.items() if not (k == "rope_theta" and v is None)}
            yield f"{kind}.{name}", config, config.pop("ties", False)
