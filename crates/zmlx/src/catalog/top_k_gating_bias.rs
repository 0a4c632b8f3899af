//! The gate of a mixture of experts by sigmoid, with a bias of the choice: DeepSeek-V3's, without its groups
//!
//! | name    | shape   | dtype            | note                                                               |
//! |---------|---------|------------------|--------------------------------------------------------------------|
//! | x       | [.., E] | f16 bf16 f32 f64 | logits of E experts                                                |
//! | b       | [E]     | any float        | takes part in the choice alone, and has no gradient                |
//! | weights | [.., k] | f32              | sigmoids of the chosen, divided by their sum, times `scale`        |
//! | experts | [.., k] | u32              | those of the largest sigmoid(x) + b, of equals the lower; tests have k 8 |
//! Cost: N elements moved.
//! Source: arXiv:2408.15664, and arXiv:2412.19437.
//!
//! [`Gating`](super::top_k_gating::Gating) launches it, and its variants.

use crate::{
    entry::{Arg, Entry, Gradient, float},
    gating::{Rule, Score},
};
use std::sync::OnceLock;
use zmlx_ir::Scalar;

/// What the catalog knows of `top_k_gating_bias`.
pub static ENTRY: Entry = Entry {
    name: "top_k_gating_bias",
    summary: "sigmoids, renormalised and scaled, of the 8 largest sigmoid(x) + b of a row, and their columns",
    formula: "let s = sigmoid(x) + b; \
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
    args: &[Arg::full("x"), Arg::col("b")],
    uniforms: &[("scale", Scalar::Float(2.5))],
    fallback: |t, u| RULE.plain(&t[0], Some(&t[1]), None, float(u[0])),
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

const RULE: Rule = Rule { k: 8, score: Score::Sigmoid, bias: true, groups: None, renormalise: true, scaled: true };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_what_a_gate_launches() {
        let launched = crate::entry::with_names(["x", "b", "scale"], &RULE.formula()).ok();
        assert!(launched.is_some() && launched == ENTRY.parsed().ok());
    }
}
