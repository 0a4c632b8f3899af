//! `swiglu_mlp`: silu(gate) · up of feed-forward blocks in one pass.

use super::{Fit, Pattern, put};
use crate::blocks::{Activation, Block};
use std::sync::Arc;
use zmlx::catalog::swiglu::swiglu;

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "swiglu_mlp",
    about: "silu(gate) · up of feed-forward blocks in one pass",
    slower: None,
    swap: |block, _| match block {
        Block::Mlp(mlp) if mlp.activation == Activation::Silu => {
            put(&mut mlp.kernel, ENTRY.name, Arc::new(|_, gate, up| Ok(swiglu(gate, up)?)))
        }
        Block::Mlp(mlp) => Fit::Not(format!("its activation is {:?}", mlp.activation)),
        _ => Fit::OtherKind,
    },
};
