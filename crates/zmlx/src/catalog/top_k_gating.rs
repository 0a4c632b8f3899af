//! The gate of a mixture of experts: the k largest logits of a token and their softmax
//!
//! | name    | shape   | dtype            | note                                                       |
//! |---------|---------|------------------|------------------------------------------------------------|
//! | x       | [.., E] | f16 bf16 f32 f64 | logits of E experts                                        |
//! | weights | [.., k] | of x             | sum to 1, the largest first                                |
//! | experts | [.., k] | u32              | k ≤ E, at most 64, of equal logits the lower; tests have k 8 |
//! Cost: N elements moved.
//! Source: softmax(x) renormalised over its k largest, which is the softmax of these: what the others add cancels.
//!
//! [`Gating`] has the other rules: sigmoids, a bias of the choice, groups, weights that are not renormalised or are scaled.

pub use crate::gating::{Gating, Scoring};

use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
    gating::{Rule, Score},
};
use candle_core::Tensor;
use std::sync::OnceLock;

/// What the catalog knows of `top_k_gating`.
pub static ENTRY: Entry = Entry {
    name: "top_k_gating",
    summary: "softmax of the 8 largest of a row, and their columns",
    formula: "let e1 = exp(top(x, 1) - top(x, 0)); \
              let e2 = exp(top(x, 2) - top(x, 0)); \
              let e3 = exp(top(x, 3) - top(x, 0)); \
              let e4 = exp(top(x, 4) - top(x, 0)); \
              let e5 = exp(top(x, 5) - top(x, 0)); \
              let e6 = exp(top(x, 6) - top(x, 0)); \
              let e7 = exp(top(x, 7) - top(x, 0)); \
              let s = 1 + e1 + e2 + e3 + e4 + e5 + e6 + e7; \
              out weights = stack(1 / s, e1 / s, e2 / s, e3 / s, e4 / s, e5 / s, e6 / s, e7 / s); \
              out experts = argtop_k(x, 8)",
    zmlx: &["moe.top2_gating_softmax"],
    args: &[Arg::full("x")],
    uniforms: &[],
    fallback: |t, _| RULE.plain(&t[0], None, None, 1.0),
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

const RULE: Rule = Rule { k: 8, score: Score::Softmax, bias: false, groups: None, renormalise: true, scaled: false };

/// The weights of the `k` experts with the largest logits, which sum to 1, and these experts.
pub fn top_k_gating(logits: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    Gating::new(k).route(logits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use zmlx_ir::Formula;

    #[test]
    fn weights_are_those_of_a_renormalised_softmax_for_any_k() -> Result<()> {
        assert_eq!(Formula::parse(&RULE.formula()).ok(), ENTRY.parsed().ok());
        let x = Tensor::randn(0f32, 1f32, (5, 16), &Device::Cpu)?;
        let all = crate::catalog::softmax::softmax(&x)?;
        for k in [1, 2, 8, 16] {
            let (weights, experts) = top_k_gating(&x, k)?;
            let chosen = all.gather(&experts, 1)?;
            let expected = chosen.broadcast_div(&chosen.sum_keepdim(1)?)?;
            let off = (weights - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 1e-6, "k {k}: off by {off}");
        }
        assert!(top_k_gating(&x, 17).is_err());
        Ok(())
    }

    #[test]
    fn an_expert_without_others_has_all_the_weight() -> Result<()> {
        let x = Tensor::new(&[[0f32, f32::INFINITY], [f32::NEG_INFINITY; 2], [1.0, 2.0]], &Device::Cpu)?;
        let (weights, experts) = top_k_gating(&x, 1)?;
        assert_eq!(weights.flatten_all()?.to_vec1::<f32>()?, [1.0; 3]);
        assert_eq!(experts.flatten_all()?.to_vec1::<u32>()?, [1, 0, 1]);
        Ok(())
    }
}
