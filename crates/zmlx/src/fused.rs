//! Operations of the library itself that are not in the catalog: one formula, built at its first use.

use crate::{Op, Result, rowwise};
use std::sync::OnceLock;

/// A formula with its name.
pub(crate) struct Fused {
    name: &'static str,
    formula: &'static str,
    cell: OnceLock<Op>,
}

impl Fused {
    pub const fn new(name: &'static str, formula: &'static str) -> Fused {
        Fused { name, formula, cell: OnceLock::new() }
    }

    /// The operation with these launch arguments: all of them, at each call.
    pub fn op(&self, uniforms: &[(&str, f64)]) -> Result<Op> {
        let op = Op::once(&self.cell, || {
            let op = rowwise(self.formula)?.name(self.name);
            uniforms.iter().fold(op, |op, (name, v)| op.uniform(name, *v)).build()
        })?;
        Ok(op.with_all(uniforms.iter().map(|(name, v)| (*name, (*v).into()))))
    }
}
