//! The gate of a mixture of experts in groups: DeepSeek-V3's, for groups whose scores are known
//!
//! | name    | shape   | dtype            | note                                                                   |
//! |---------|---------|------------------|------------------------------------------------------------------------|
//! | x       | [.., E] | f16 bf16 f32 f64 | logits of E experts                                                    |
//! | b       | [E]     | any float        | takes part in the choice alone, and has no gradient                    |
//! | g0 …    | [..]    | any float        | scores of groups of equal size; tests have 4, of which 2 are reached   |
//! | weights | [.., k] | f32              | as in `top_k_gating_bias`                                              |
//! | experts | [.., k] | u32              | of the groups that are reached; of equals the lower; tests have k 8    |
//! Cost: N elements moved.
//! Source: arXiv:2412.19437, section 2.1.2.
//!
//! [`Gating`](super::top_k_gating::Gating) launches it, and its variants, after
//! `expert_group_scores`; scores of groups are one tensor [.., groups] there.

use crate::{
    entry::{Arg, Entry, Gradient, float},
    gating::{Rule, Score},
};
use candle_core::{D, Tensor};
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `top_k_gating_groups`.
pub static ENTRY: Entry = Entry {
    name: "top_k_gating_groups",
    summary: "top_k_gating_bias of the columns of the 2 best of 4 groups",
    formula: "let h0 = isnan(g0) ? INFINITY : g0; \
              let h1 = isnan(g1) ? INFINITY : g1; \
              let h2 = isnan(g2) ? INFINITY : g2; \
              let h3 = isnan(g3) ? INFINITY : g3; \
              let groups = (i32(i32(h1 > h0) + i32(h2 > h0) + i32(h3 > h0) < 2) << 0) \
              | (i32(i32(h0 >= h1) + i32(h2 > h1) + i32(h3 > h1) < 2) << 1) \
              | (i32(i32(h0 >= h2) + i32(h1 >= h2) + i32(h3 > h2) < 2) << 2) \
              | (i32(i32(h0 >= h3) + i32(h1 >= h3) + i32(h2 >= h3) < 2) << 3); \
              let s = ((groups >> i32(col / (cols / 4))) & 1) != 0 ? sigmoid(x) + b : -INFINITY; \
              let w0 = sigmoid(x[argtop(s, 0)]); \
              let w1 = sigmoid(x[argtop(s, 1)]); \
              let w2 = sigmoid(x[argtop(s, 2)]); \
              let w3 = sigmoid(x[argtop(s, 3)]); \
              let w4 = sigmoid(x[argtop(s, 4)]); \
              let w5 = sigmoid(x[argtop(s, 5)]); \
              let w6 = sigmoid(x[argtop(s, 6)]); \
              let w7 = sigmoid(x[argtop(s, 7)]); \
              let n = (w0 + w1 + w2 + w3 + w4 + w5 + w6 + w7 + 1e-20) / scale; \
              out weights: f32 = stack(w0 / n, w1 / n, w2 / n, w3 / n, w4 / n, w5 / n, w6 / n, w7 / n); \
              out experts = argtop_k(s, 8)",
    zmlx: &[],
    args: &[Arg::full("x"), Arg::col("b"), Arg::row("g0"), Arg::row("g1"), Arg::row("g2"), Arg::row("g3")],
    uniforms: &[("scale", Scalar::Float(2.5))],
    fallback: |t, u| RULE.plain(&t[0], Some(&t[1]), Some(&Tensor::stack(&t[2..], D::Minus1)?), float(u[0])),
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

const RULE: Rule =
    Rule { k: 8, score: Score::Sigmoid, bias: true, groups: Some((4, 2)), renormalise: true, scaled: true };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_what_a_gate_launches() {
        let names = ["x", "b", "g0", "g1", "g2", "g3", "scale"];
        let launched = crate::entry::with_names(names, &RULE.formula()).ok();
        assert!(launched.is_some() && launched == ENTRY.parsed().ok());
    }
}
