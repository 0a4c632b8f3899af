//! `rms_norm`: norms by the root of the mean square in one pass, with weights as they are or with 1 added (Gemma's).

use super::{Fit, Pattern, put};
use crate::{
    Result,
    blocks::{Block, NormKind},
};
use std::sync::{Arc, OnceLock};
use zmlx::{Op, catalog::rms_norm::rms_norm, rowwise};

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "rms_norm",
    about: "norms by the root of the mean square in one pass",
    slower: None,
    swap: |block, _| {
        let Block::Norm(norm) = block else { return Fit::OtherKind };
        match norm.kind {
            NormKind::Rms => {
                put(&mut norm.kernel, ENTRY.name, Arc::new(|norm, x| Ok(rms_norm(x, &norm.weight, norm.eps)?)))
            }
            NormKind::RmsPlusOne => put(
                &mut norm.kernel,
                ENTRY.name,
                Arc::new(|norm, x| Ok(plus_one()?.with("eps", norm.eps).call(&[x, &norm.weight])?)),
            ),
            NormKind::Layer => Fit::Not("it is a LayerNorm".into()),
        }
    },
};

fn plus_one() -> Result<&'static Op> {
    static OP: OnceLock<Op> = OnceLock::new();
    if let Some(op) = OP.get() {
        return Ok(op);
    }
    let op = rowwise("x * rsqrt(mean(x * x) + eps) * (1 + w)")?.name("rms_norm_plus_one").col("w");
    let op = op.uniform("eps", 1e-6).build()?;
    Ok(OP.get_or_init(|| op))
}
