//! Patterns, one file each: the kind of block, the conditions, and the kernel. The list is written by `cargo xtask index` from the
//! folder.

// index: begin
pub mod attention;
pub mod geglu_mlp;
pub mod layer_norm;
pub mod moe_mlp;
pub mod residual_norm;
pub mod rms_norm;
pub mod rope_qk;
pub mod softmax;
pub mod swiglu_mlp;

/// Every pattern, by name.
pub static PATTERNS: &[&Pattern] = &[
    &attention::ENTRY,
    &geglu_mlp::ENTRY,
    &layer_norm::ENTRY,
    &moe_mlp::ENTRY,
    &residual_norm::ENTRY,
    &rms_norm::ENTRY,
    &rope_qk::ENTRY,
    &softmax::ENTRY,
    &swiglu_mlp::ENTRY,
];
// index: end

use crate::blocks::{Block, Swap};
use candle_core::DType;
use std::sync::Arc;

/// What a file here says of its pattern.
pub struct Pattern {
    /// Its name, which its kernels bear too.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Where it was measured slower than the plain path, if anywhere: machine, model, ratio.
    pub slower: Option<&'static str>,
    /// Looks at a block, and puts the kernel in if it fits.
    pub swap: fn(&mut Block<'_>, &Place) -> Fit,
}

/// What is true where a block stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Of activations.
    pub dtype: DType,
    /// Is the model on a GPU?
    pub gpu: bool,
    /// A norm whose input is a sum that is needed too.
    pub behind_sum: bool,
}

/// What came of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The kernel is in its place now.
    Swapped,
    /// It was there.
    Already,
    /// The kernel does not compute what this block does, or there is another.
    Not(String),
    /// The pattern is for other blocks.
    OtherKind,
}

/// Puts a kernel in, unless there is one.
pub fn put<F: ?Sized>(swap: &mut Swap<F>, name: &'static str, kernel: Arc<F>) -> Fit {
    match swap.name() {
        Some(there) if there == name => Fit::Already,
        Some(there) => Fit::Not(format!("the kernel `{there}` is in its place")),
        None => {
            swap.put(name, kernel);
            Fit::Swapped
        }
    }
}

/// Takes a kernel out if it is a pattern's; how many.
pub fn clear<F: ?Sized>(swap: &mut Swap<F>) -> usize {
    match swap.name() {
        Some(name) if PATTERNS.iter().any(|p| p.name == name) => usize::from(swap.clear()),
        _ => 0,
    }
}
