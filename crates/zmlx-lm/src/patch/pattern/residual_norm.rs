//! `residual_norm`: the addition to the path that skips the mixer, and the norm of the sum, in one pass.

use super::{Fit, Pattern, put};
use crate::{
    Error, Result,
    blocks::{Block, Norm, NormKind},
};
use candle_core::Tensor;
use std::sync::{Arc, OnceLock};
use zmlx::{
    Op,
    catalog::{layer_norm_residual::layer_norm_residual, rms_norm_residual::rms_norm_residual},
    rowwise,
};

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "residual_norm",
    about: "the addition behind the mixer and the norm of the sum in one pass",
    slower: None,
    swap: |block, place| {
        let Block::Norm(norm) = block else { return Fit::OtherKind };
        if !place.behind_sum {
            return Fit::Not("what it norms is no sum of this layer".into());
        }
        if norm.kind == NormKind::Layer && norm.bias.is_none() {
            return Fit::Not("it is a LayerNorm without a bias".into());
        }
        put(&mut norm.residual, ENTRY.name, Arc::new(run))
    },
};

fn run(norm: &Norm, x: &Tensor, r: &Tensor) -> Result<(Tensor, Tensor)> {
    let (w, eps) = (&norm.weight, norm.eps);
    match (norm.kind, &norm.bias) {
        (NormKind::Rms, _) => Ok(rms_norm_residual(x, r, w, eps)?),
        (NormKind::RmsPlusOne, _) => {
            let mut all = plus_one()?.with("eps", eps).call_all(&[x, r, w])?;
            let sum = all.swap_remove(1);
            Ok((all.swap_remove(0), sum))
        }
        (NormKind::Layer, Some(b)) => Ok(layer_norm_residual(x, r, w, b, eps)?),
        (NormKind::Layer, None) => Err(Error::argument("residual_norm", "bias", "one", "none")),
    }
}

fn plus_one() -> Result<&'static Op> {
    static OP: OnceLock<Op> = OnceLock::new();
    if let Some(op) = OP.get() {
        return Ok(op);
    }
    let formula = "let h = x + r; out y = h * rsqrt(mean(h * h) + eps) * (1 + w); out residual = h";
    let op = rowwise(formula)?.name("rms_norm_plus_one_residual").col("w").uniform("eps", 1e-6).build()?;
    Ok(OP.get_or_init(|| op))
}
