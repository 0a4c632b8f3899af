//! `moe_mlp`: the choice of experts in one pass, by the model's own rule; and experts in affine codes of 4 or 8 bits, gate and up
//! with SwiGLU in one pass, down and the weighted sum in another.

use super::{Fit, Pattern, put};
use crate::{
    Result,
    blocks::{Activation, Affine, Block, Experts, Gate, Matrix, Route, Router, Rule, Score},
};
use candle_core::{D, DType, Tensor};
use std::sync::Arc;
use zmlx::{
    catalog::top_k_gating::{Gating, Scoring},
    portable::{moe_down_combine::moe_down_combine, moe_gate_up_swiglu},
};

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "moe_mlp",
    about: "the choice of experts by the model's own rule, and experts in affine codes",
    slower: None,
    swap: |block, place| match block {
        Block::Router(router) => match unfit(router, place.dtype) {
            None => put(&mut router.kernel, ENTRY.name, Arc::new(route)),
            Some(why) => Fit::Not(why.into()),
        },
        Block::Experts(experts) => match coded(experts) {
            Ok(_) if place.dtype == DType::F64 => Fit::Not("the kernel sums in f32".into()),
            Ok(_) => put(&mut experts.kernel, ENTRY.name, Arc::new(run)),
            Err(why) => Fit::Not(why),
        },
        _ => Fit::OtherKind,
    },
};

/// Most experts of a token that the kernel chooses.
const MOST: usize = 64;

/// What the kernel cannot do of a router's rule.
fn unfit(router: &Router, dtype: DType) -> Option<&'static str> {
    let Rule { top_k, score, groups, .. } = router.rule;
    let count = router.gate.matrix.rows();
    let groups = groups.filter(|(all, best)| best < all);
    match () {
        () if top_k > MOST => Some("more than 64 experts a token"),
        () if score != Score::Sigmoid && (router.correction.is_some() || groups.is_some()) => {
            Some("corrected or grouped choice of softmaxes")
        }
        () if dtype == DType::F64 && (router.correction.is_some() || groups.is_some()) => {
            Some("the kernel's weights of a corrected or grouped choice are f32")
        }
        () if groups.is_some_and(|(all, _)| count < 2 * all) => Some("groups of one expert"),
        () => None,
    }
}

fn route(router: &Router, x: &Tensor) -> Result<Route> {
    let logits = router.gate.forward(x)?;
    let logits = if logits.dtype() == DType::F64 { logits } else { logits.to_dtype(DType::F32)? };
    let Rule { top_k, score, norm, groups, scaling } = router.rule;
    let scoring = if score == Score::Sigmoid { Scoring::Sigmoid } else { Scoring::Softmax };
    // a sum that something is added to is divided by afterwards
    let by_sum = score == Score::SoftmaxOfChosen || norm == Some(0.0);
    let more = norm.filter(|_| !by_sum);
    let mut gating = Gating::new(top_k).scoring(scoring).renormalise(by_sum);
    if more.is_none() {
        gating = gating.scale(scaling);
    }
    if let Some(correction) = &router.correction {
        gating = gating.bias(correction);
    }
    if let Some((all, best)) = groups {
        gating = gating.groups(all, best);
    }
    let (mut weights, experts) = gating.route(&logits)?;
    if let Some(eps) = more {
        weights = weights.broadcast_div(&(weights.sum_keepdim(D::Minus1)? + eps)?)?;
        weights = if scaling == 1.0 { weights } else { (weights * scaling)? };
    }
    Ok(Route { experts, weights })
}

/// The codes of gate, up and down, or why the kernels cannot do with them.
fn coded(experts: &Experts) -> std::result::Result<[&Affine; 3], String> {
    let Experts { gate_proj, up_proj, down_proj, gate, .. } = experts;
    if *gate != Gate::Plain(Activation::Silu) {
        return Err(format!("the gate of its experts is {gate:?}"));
    }
    if ![gate_proj, up_proj, down_proj].into_iter().all(|l| l.bias.is_none()) {
        return Err("its experts have biases".into());
    }
    let (Matrix::Affine(a), Matrix::Affine(b), Matrix::Affine(c)) =
        (&gate_proj.matrix, &up_proj.matrix, &down_proj.matrix)
    else {
        return Err(format!("its experts are in {}, the kernels' are affine codes", gate_proj.matrix.format()));
    };
    let same = a.bits == b.bits && a.scales.dims() == b.scales.dims() && a.scales.dtype() == b.scales.dtype();
    match same && [a, c].into_iter().all(|m| m.bits == 4 || m.bits == 8) {
        true => Ok([a, b, c]),
        false => Err("codes of other than 4 and 8 bits, or of gate and up in different ones".into()),
    }
}

fn run(experts: &Experts, x: &Tensor, route: &Route) -> Result<Tensor> {
    let Ok([gate, up, down]) = coded(experts) else { return experts.plain(x, route) };
    let h = moe_gate_up_swiglu::moe_gate_up_swiglu(x, codes(gate), codes(up), &route.experts, gate.bits)?;
    Ok(moe_down_combine(&h, codes(down), &route.experts, &route.weights, down.bits)?)
}

fn codes(m: &Affine) -> moe_gate_up_swiglu::Experts<'_> {
    moe_gate_up_swiglu::Experts { words: &m.words, scales: &m.scales, biases: &m.biases }
}
