//! `layer_norm`: norms by mean and variance in one pass. (No model type here has one yet.)

use super::{Fit, Pattern, put};
use crate::blocks::{Block, NormKind};
use candle_core::Module;
use std::sync::Arc;
use zmlx::nn::LayerNorm;

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "layer_norm",
    about: "norms by mean and variance in one pass",
    slower: None,
    swap: |block, _| {
        let Block::Norm(norm) = block else { return Fit::OtherKind };
        if norm.kind != NormKind::Layer {
            return Fit::Not("it is an RMSNorm".into());
        }
        put(
            &mut norm.kernel,
            ENTRY.name,
            Arc::new(|norm, x| {
                let kernel = match &norm.bias {
                    Some(bias) => LayerNorm::new(norm.weight.clone(), bias.clone(), norm.eps),
                    None => LayerNorm::new_no_bias(norm.weight.clone(), norm.eps),
                };
                Ok(kernel.forward(x)?)
            }),
        )
    },
};
