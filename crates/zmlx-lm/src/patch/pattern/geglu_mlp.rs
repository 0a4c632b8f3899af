//! `geglu_mlp`: gelu(gate) · up of feed-forward blocks in one pass, gelu in the form that the model has: by tanh, or by erf.

use super::{Fit, Pattern, put};
use crate::{
    Result,
    blocks::{Activation, Block},
};
use std::sync::{Arc, OnceLock};
use zmlx::{Op, catalog::geglu::geglu, elementwise};

/// What `patch` knows of it.
pub static ENTRY: Pattern = Pattern {
    name: "geglu_mlp",
    about: "gelu(gate) · up of feed-forward blocks in one pass, by tanh or by erf as the model has it",
    slower: None,
    swap: |block, _| {
        let Block::Mlp(mlp) = block else { return Fit::OtherKind };
        match mlp.activation {
            Activation::GeluTanh => put(&mut mlp.kernel, ENTRY.name, Arc::new(|_, gate, up| Ok(geglu(gate, up)?))),
            Activation::GeluErf => {
                put(&mut mlp.kernel, ENTRY.name, Arc::new(|_, gate, up| Ok(by_erf()?.call(&[gate, up])?)))
            }
            other => Fit::Not(format!("its activation is {other:?}")),
        }
    },
};

fn by_erf() -> Result<&'static Op> {
    static OP: OnceLock<Op> = OnceLock::new();
    if let Some(op) = OP.get() {
        return Ok(op);
    }
    let op = elementwise("gelu_erf(gate) * up")?.name("geglu_erf").build()?;
    Ok(OP.get_or_init(|| op))
}
