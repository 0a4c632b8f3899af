//! The catalog held against the public kernels of ZMLX v0.6.0: which of them an entry covers, and which are still missing.

use std::collections::BTreeSet;
use zmlx::{catalog::ENTRIES, portable::PORTABLES};

/// All 92, by module.
const ZMLX: &[(&str, &[&str])] = &[
    (
        "activations",
        &[
            "exp",
            "exp_grad",
            "log",
            "tanh",
            "tanh_grad",
            "sigmoid",
            "sigmoid_grad",
            "relu",
            "relu_grad",
            "silu",
            "silu_grad",
            "gelu_tanh",
            "gelu_tanh_grad",
            "softplus",
            "softplus_grad",
            "mish",
            "mish_grad",
            "elu",
            "elu_grad",
        ],
    ),
    ("fused", &["add", "mul", "silu_mul_grad", "add_bias", "bias_gelu_tanh", "bias_silu"]),
    ("softmax", &["softmax_lastdim", "log_softmax_lastdim", "softmax_grad"]),
    (
        "attention",
        &["logsumexp_lastdim", "masked_softmax", "scale_mask_softmax", "attention_tile_proto", "paged_attention"],
    ),
    ("norms", &["rmsnorm", "rmsnorm_grad", "rms_norm_no_weight", "layernorm", "layer_norm_no_weight"]),
    (
        "transformer",
        &[
            "residual_rmsnorm",
            "swiglu",
            "swiglu2",
            "geglu",
            "geglu2",
            "bias_swiglu",
            "bias_geglu",
            "rmsnorm_residual",
            "fused_add_rmsnorm",
            "fused_add_layernorm",
            "layernorm_residual",
            "dropout",
            "layer_norm_dropout",
            "rms_norm_dropout",
        ],
    ),
    ("loss", &["softmax_cross_entropy", "softmax_cross_entropy_grad"]),
    (
        "reductions",
        &["sum_lastdim", "mean_lastdim", "max_lastdim", "var_lastdim", "std_lastdim", "argmax_lastdim", "topk_lastdim"],
    ),
    ("scan", &["cumsum_lastdim", "cumsum_grad"]),
    (
        "rope",
        &[
            "apply_rope",
            "apply_rope_interleaved",
            "apply_gqa_rope",
            "rope_and_cache_update",
            "paged_rope_and_cache_update",
        ],
    ),
    ("moe", &["top2_gating_softmax", "moe_dispatch", "moe_combine"]),
    (
        "quant",
        &[
            "dequantize_int8",
            "dequantize_silu_int8",
            "dequantize_int4",
            "dequantize_blockwise",
            "dequantize_fp8",
            "dequantize_nf4",
            "fused_swiglu_quant",
        ],
    ),
    ("bits", &["pack_bits", "unpack_bits"]),
    ("image", &["resize_bilinear", "depthwise_conv_3x3"]),
    ("indexing", &["fused_gather_add", "fused_scatter_add"]),
    ("linear", &["fused_linear_bias_silu", "fused_linear_bias_gelu", "fused_linear_rmsnorm"]),
    ("optimizers", &["adamw_step"]),
    ("vlsp", &["fused_recurrent_step", "depth_gate_sigmoid", "grpo_advantage_norm", "silu_mul_residual"]),
];

/// What later versions of ZMLX added and an entry covers.
const LATER: [&str; 2] = ["activations.relu2", "activations.relu2_grad"];

/// What no entry covers yet. A kernel that is added leaves this list.
const MISSING: [&str; 0] = [];

#[test]
fn each_kernel_of_zmlx_is_covered_or_said_to_be_missing() {
    let all: BTreeSet<String> =
        ZMLX.iter().flat_map(|(m, names)| names.iter().map(move |n| format!("{m}.{n}"))).collect();
    assert_eq!(all.len(), 92);
    let covered: BTreeSet<String> = {
        let all = ENTRIES.iter().map(|e| e.zmlx).chain(PORTABLES.iter().map(|e| e.zmlx));
        all.flat_map(|names| names.iter().map(|n| n.to_string())).collect()
    };
    let unknown: Vec<_> = covered.iter().filter(|n| !all.contains(*n) && !LATER.contains(&n.as_str())).collect();
    assert!(unknown.is_empty(), "no kernel of ZMLX is called {unknown:?}");
    let missing: Vec<&String> = all.difference(&covered).collect();
    assert_eq!(missing, MISSING);
}
