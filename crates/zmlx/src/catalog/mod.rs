//! The catalog: one file a kernel. The lists are written by `cargo xtask index` from the folder.

#![allow(rustdoc::broken_intra_doc_links, reason = "a shape in brackets is not a link")]

// index: begin
pub mod adamw_step;
pub mod add;
pub mod cross_entropy;
pub mod cumsum;
pub mod dropout;
pub mod elu;
pub mod exp;
pub mod geglu;
pub mod gelu;
pub mod gelu_erf;
pub mod layer_norm;
pub mod log_softmax;
pub mod logsumexp;
pub mod masked_softmax;
pub mod mean;
pub mod mish;
pub mod rms_norm;
pub mod rms_norm_residual;
pub mod sigmoid;
pub mod silu;
pub mod softmax;
pub mod softplus;
pub mod sum;
pub mod swiglu;
pub mod var;

use crate::entry::Entry;

/// Every kernel, by name.
pub static ENTRIES: &[&Entry] = &[
    &adamw_step::ENTRY,
    &add::ENTRY,
    &cross_entropy::ENTRY,
    &cumsum::ENTRY,
    &dropout::ENTRY,
    &elu::ENTRY,
    &exp::ENTRY,
    &geglu::ENTRY,
    &gelu::ENTRY,
    &gelu_erf::ENTRY,
    &layer_norm::ENTRY,
    &log_softmax::ENTRY,
    &logsumexp::ENTRY,
    &masked_softmax::ENTRY,
    &mean::ENTRY,
    &mish::ENTRY,
    &rms_norm::ENTRY,
    &rms_norm_residual::ENTRY,
    &sigmoid::ENTRY,
    &silu::ENTRY,
    &softmax::ENTRY,
    &softplus::ENTRY,
    &sum::ENTRY,
    &swiglu::ENTRY,
    &var::ENTRY,
];
// index: end

/// The kernel of this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().copied().find(|e| e.name == name)
}
