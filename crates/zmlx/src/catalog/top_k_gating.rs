//! The gate of a mixture of experts: the k largest logits of a token and their softmax
//!
//! | name    | shape   | dtype            | note                                                       |
//! |---------|---------|------------------|------------------------------------------------------------|
//! | x       | [.., E] | f16 bf16 f32 f64 | logits of E experts                                        |
//! | weights | [.., k] | of x             | sum to 1, the largest first                                |
//! | experts | [.., k] | u32              | k ≤ E, at most 64, of equal logits the lower; tests have k 8 |
//! Cost: N elements moved.
//! Source: softmax(x) renormalised over its k largest, which is the softmax of these: what the others add cancels.

use super::top_k::{self, MOST, Ranked};
use crate::{
    Result,
    entry::{Arg, Entry, Gradient},
};
use candle_core::{D, Tensor};
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
    fallback: |t, _| plain(&t[0], 8),
    gradient: Gradient::Derived,
    moves: 1.0,
    cell: OnceLock::new(),
};

fn plain(x: &Tensor, k: usize) -> candle_core::Result<Vec<Tensor>> {
    let mut found = top_k::plain(x, k)?;
    let e = found[0].broadcast_sub(&found[0].max_keepdim(D::Minus1)?)?.exp()?;
    found[0] = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
    Ok(found)
}

/// The formula of any k.
fn formula(k: usize) -> String {
    let lets: String = (1..k).map(|j| format!("let e{j} = exp(top(x, {j}) - top(x, 0)); ")).collect();
    let sum: String = (1..k).map(|j| format!(" + e{j}")).collect();
    let weights: String = (1..k).map(|j| format!(", e{j} / s")).collect();
    // beside no other the weight is that of the row's type
    let s = if k == 1 { "let s = exp(top(x, 0) - top(x, 0)); ".into() } else { format!("let s = 1{sum}; ") };
    format!("{lets}{s}out weights = stack(1 / s{weights}); out experts = argtop_k(x, {k})")
}

static RANKED: Ranked = Ranked {
    name: ENTRY.name,
    rows: |experts| format!("{experts} experts"),
    formula,
    plain,
    ops: [const { OnceLock::new() }; MOST],
};

/// The weights of the `k` experts with the largest logits, which sum to 1, and these experts.
pub fn top_k_gating(logits: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    RANKED.call(logits, k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use zmlx_ir::Formula;

    #[test]
    fn weights_are_those_of_a_renormalised_softmax_for_any_k() -> Result<()> {
        assert_eq!(Formula::parse(&formula(8)).ok(), ENTRY.parsed().ok());
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
}
