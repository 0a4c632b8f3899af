//! The catalog: one file a kernel. The lists are written by `cargo xtask index` from the folder.

#![allow(rustdoc::broken_intra_doc_links, reason = "a shape in brackets is not a link")]

// index: begin
pub mod adamw_step;
pub mod add;
pub mod add_bias;
pub mod argmax;
pub mod argmin;
pub mod bias_geglu;
pub mod bias_gelu;
pub mod bias_silu;
pub mod bias_swiglu;
pub mod cross_entropy;
pub mod cross_entropy_options;
pub mod cummax;
pub mod cumprod;
pub mod cumsum;
pub mod depth_gate_sigmoid;
pub mod depthwise_conv_3x3;
pub mod dequantize_fp8_e4m3;
pub mod dequantize_fp8_e5m2;
pub mod dequantize_int4;
pub mod dequantize_int8;
pub mod dequantize_mxfp4;
pub mod dequantize_nf4;
pub mod dequantize_silu_int8;
pub mod dropout;
pub mod elu;
pub mod exp;
pub mod expert_group_scores;
pub mod gather_add;
pub mod geglu;
pub mod gelu;
pub mod gelu_erf;
pub mod grpo_advantage_norm;
pub mod layer_norm;
pub mod layer_norm_dropout;
pub mod layer_norm_no_weight;
pub mod layer_norm_residual;
pub mod lion_step;
pub mod log;
pub mod log_softmax;
pub mod logsumexp;
pub mod masked_softmax;
pub mod max;
pub mod mean;
pub mod min;
pub mod mish;
pub mod moe_combine;
pub mod moe_dispatch;
pub mod mul;
pub mod pack_bits;
pub mod quantize_fp8_e4m3;
pub mod quantize_fp8_e5m2;
pub mod quantize_int4;
pub mod quantize_int8;
pub mod quantize_mxfp4;
pub mod quantize_nf4;
pub mod recurrent_step;
pub mod relu;
pub mod relu2;
pub mod resize_bilinear;
pub mod rms_norm;
pub mod rms_norm_dropout;
pub mod rms_norm_no_weight;
pub mod rms_norm_residual;
pub mod rope;
pub mod rope_interleaved;
pub mod rope_positions;
pub mod rope_turns;
pub mod scale_mask_softmax;
pub mod sgd_step;
pub mod sigmoid;
pub mod silu;
pub mod silu_mul_residual;
pub mod softmax;
pub mod softplus;
pub mod std;
pub mod sum;
pub mod swiglu;
pub mod swiglu_int8;
pub mod tanh;
pub mod top_k;
pub mod top_k_gating;
pub mod top_k_gating_bias;
pub mod top_k_gating_groups;
pub mod unpack_bits;
pub mod var;

use crate::entry::Entry;

/// Every kernel, by name.
pub static ENTRIES: &[&Entry] = &[
    &adamw_step::ENTRY,
    &add::ENTRY,
    &add_bias::ENTRY,
    &argmax::ENTRY,
    &argmin::ENTRY,
    &bias_geglu::ENTRY,
    &bias_gelu::ENTRY,
    &bias_silu::ENTRY,
    &bias_swiglu::ENTRY,
    &cross_entropy::ENTRY,
    &cross_entropy_options::ENTRY,
    &cummax::ENTRY,
    &cumprod::ENTRY,
    &cumsum::ENTRY,
    &depth_gate_sigmoid::ENTRY,
    &depthwise_conv_3x3::ENTRY,
    &dequantize_fp8_e4m3::ENTRY,
    &dequantize_fp8_e5m2::ENTRY,
    &dequantize_int4::ENTRY,
    &dequantize_int8::ENTRY,
    &dequantize_mxfp4::ENTRY,
    &dequantize_nf4::ENTRY,
    &dequantize_silu_int8::ENTRY,
    &dropout::ENTRY,
    &elu::ENTRY,
    &exp::ENTRY,
    &expert_group_scores::ENTRY,
    &gather_add::ENTRY,
    &geglu::ENTRY,
    &gelu::ENTRY,
    &gelu_erf::ENTRY,
    &grpo_advantage_norm::ENTRY,
    &layer_norm::ENTRY,
    &layer_norm_dropout::ENTRY,
    &layer_norm_no_weight::ENTRY,
    &layer_norm_residual::ENTRY,
    &lion_step::ENTRY,
    &log::ENTRY,
    &log_softmax::ENTRY,
    &logsumexp::ENTRY,
    &masked_softmax::ENTRY,
    &max::ENTRY,
    &mean::ENTRY,
    &min::ENTRY,
    &mish::ENTRY,
    &moe_combine::ENTRY,
    &moe_dispatch::ENTRY,
    &mul::ENTRY,
    &pack_bits::ENTRY,
    &quantize_fp8_e4m3::ENTRY,
    &quantize_fp8_e5m2::ENTRY,
    &quantize_int4::ENTRY,
    &quantize_int8::ENTRY,
    &quantize_mxfp4::ENTRY,
    &quantize_nf4::ENTRY,
    &recurrent_step::ENTRY,
    &relu::ENTRY,
    &relu2::ENTRY,
    &resize_bilinear::ENTRY,
    &rms_norm::ENTRY,
    &rms_norm_dropout::ENTRY,
    &rms_norm_no_weight::ENTRY,
    &rms_norm_residual::ENTRY,
    &rope::ENTRY,
    &rope_interleaved::ENTRY,
    &rope_positions::ENTRY,
    &rope_turns::ENTRY,
    &scale_mask_softmax::ENTRY,
    &sgd_step::ENTRY,
    &sigmoid::ENTRY,
    &silu::ENTRY,
    &silu_mul_residual::ENTRY,
    &softmax::ENTRY,
    &softplus::ENTRY,
    &std::ENTRY,
    &sum::ENTRY,
    &swiglu::ENTRY,
    &swiglu_int8::ENTRY,
    &tanh::ENTRY,
    &top_k::ENTRY,
    &top_k_gating::ENTRY,
    &top_k_gating_bias::ENTRY,
    &top_k_gating_groups::ENTRY,
    &unpack_bits::ENTRY,
    &var::ENTRY,
];
// index: end

/// The kernel of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().copied().find(|e| e.name == name)
}
