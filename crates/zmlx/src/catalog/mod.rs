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
pub mod cummax;
pub mod cumprod;
pub mod cumsum;
pub mod depth_gate_sigmoid;
pub mod dropout;
pub mod elu;
pub mod exp;
pub mod geglu;
pub mod gelu;
pub mod gelu_erf;
pub mod grpo_advantage_norm;
pub mod layer_norm;
pub mod layer_norm_dropout;
pub mod layer_norm_no_weight;
pub mod layer_norm_residual;
pub mod log;
pub mod log_softmax;
pub mod logsumexp;
pub mod masked_softmax;
pub mod max;
pub mod mean;
pub mod min;
pub mod mish;
pub mod mul;
pub mod recurrent_step;
pub mod relu;
pub mod relu2;
pub mod rms_norm;
pub mod rms_norm_dropout;
pub mod rms_norm_no_weight;
pub mod rms_norm_residual;
pub mod scale_mask_softmax;
pub mod sigmoid;
pub mod silu;
pub mod silu_mul_residual;
pub mod softmax;
pub mod softplus;
pub mod std;
pub mod sum;
pub mod swiglu;
pub mod tanh;
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
    &cummax::ENTRY,
    &cumprod::ENTRY,
    &cumsum::ENTRY,
    &depth_gate_sigmoid::ENTRY,
    &dropout::ENTRY,
    &elu::ENTRY,
    &exp::ENTRY,
    &geglu::ENTRY,
    &gelu::ENTRY,
    &gelu_erf::ENTRY,
    &grpo_advantage_norm::ENTRY,
    &layer_norm::ENTRY,
    &layer_norm_dropout::ENTRY,
    &layer_norm_no_weight::ENTRY,
    &layer_norm_residual::ENTRY,
    &log::ENTRY,
    &log_softmax::ENTRY,
    &logsumexp::ENTRY,
    &masked_softmax::ENTRY,
    &max::ENTRY,
    &mean::ENTRY,
    &min::ENTRY,
    &mish::ENTRY,
    &mul::ENTRY,
    &recurrent_step::ENTRY,
    &relu::ENTRY,
    &relu2::ENTRY,
    &rms_norm::ENTRY,
    &rms_norm_dropout::ENTRY,
    &rms_norm_no_weight::ENTRY,
    &rms_norm_residual::ENTRY,
    &scale_mask_softmax::ENTRY,
    &sigmoid::ENTRY,
    &silu::ENTRY,
    &silu_mul_residual::ENTRY,
    &softmax::ENTRY,
    &softplus::ENTRY,
    &std::ENTRY,
    &sum::ENTRY,
    &swiglu::ENTRY,
    &tanh::ENTRY,
    &var::ENTRY,
];
// index: end

/// The kernel of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().copied().find(|e| e.name == name)
}
