//! `softmax`: the softmax of attention's scores in one pass, with its gradient. The products stay candle's.

use super::{Fit, Pattern, put};
use crate::blocks::Block;
use std::sync::Arc;

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "softmax",
    about: "the softmax of attention's scores in one pass",
    slower: None,
    swap: |block, _| match block {
        Block::Sdpa(sdpa) => put(
            &mut sdpa.kernel,
            ENTRY.name,
            Arc::new(|sdpa, [q, k, v], cx| {
                sdpa.with_softmax(q, k, v, cx, |scores| Ok(zmlx::catalog::softmax::softmax(scores)?))
            }),
        ),
        _ => Fit::OtherKind,
    },
};
