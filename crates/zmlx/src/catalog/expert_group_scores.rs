//! How good a group of experts is: the sum of its two largest sigmoids with their biases
//!
//! | name | shape        | dtype            | note                              |
//! |------|--------------|------------------|-----------------------------------|
//! | x    | [.., G, E/G] | f16 bf16 f32 f64 | logits, a group a row             |
//! | b    | [G, E/G]     | any float        | biases of the choice of experts   |
//! | y    | [.., G]      | f32              |                                   |
//! Cost: N elements moved.
//! Source: arXiv:2412.19437, section 2.1.2.
//!
//! [`Gating`](super::top_k_gating::Gating) launches it, and its variants, before the gate.

use crate::{
    entry::{Arg, Entry, Gradient},
    gating::{Score, plain_group_scores},
};
use std::sync::OnceLock;

/// What the catalog knows of `expert_group_scores`.
pub static ENTRY: Entry = Entry {
    name: "expert_group_scores",
    summary: "the two largest of sigmoid(x) + b together",
    formula: "let s = sigmoid(x) + b; out y: f32 = top(s, 0) + top(s, 1)",
    zmlx: &[],
    args: &[Arg::full("x"), Arg::full("b")],
    uniforms: &[],
    fallback: |t, _| {
        let best = t[0].dims().last().map_or(0, |cols| 2.min(*cols));
        let y = plain_group_scores(&t[0], Some(&t[1]), best, Score::Sigmoid)?;
        // a rank that the row has not
        Ok(vec![if best < 2 { (y.zeros_like()? + f64::NEG_INFINITY)? } else { y }])
    },
    gradient: Gradient::None("a choice has none"),
    moves: 1.0,
    cell: OnceLock::new(),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gating::group_formula;
    use zmlx_ir::Formula;

    #[test]
    fn the_entry_is_what_a_gate_launches() {
        let launched = crate::entry::with_names(["x", "b"], &group_formula(Score::Sigmoid, true, 2)).ok();
        assert_eq!(launched, ENTRY.parsed().ok());
        assert!(launched.is_some_and(|f| f != Formula::default()));
    }
}
