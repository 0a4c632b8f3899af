//! Gradients: `vjp` takes a Program to the Program of its gradient, by a reverse walk over the rules of the op
//! table. It recomputes rather than stores: the backward Program reads the forward inputs and the cotangents.
//!
//! - `walk.rs` visits the nodes, users before arguments, and adds up what reaches each of them
//! - `algebra.rs` multiplies and `terms.rs` adds cotangents, in the order that costs the fewest passes over elements
//! - `reduce.rs`, `scan.rs` hold the rules of what is not pointwise
//! - `invariant.rs` proves that a maximum is a mere shift, and so constant to the gradient
//! - `fold.rs` turns custom monoids into built-in reductions
//! - `rebuild.rs`, `contract.rs` copy a Program, with changes that a gradient allows

mod algebra;
mod contract;
mod fold;
mod invariant;
mod rebuild;
mod reduce;
mod scan;
mod terms;
mod walk;

pub use fold::{check_identity, normalise_folds};

use crate::{
    DType, Op,
    program::{Id, Program},
};
use rebuild::describe;

/// Why a Program has no derived gradient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node}: {reason}")]
pub struct GradError {
    /// The value that cannot be differentiated, in the text form of its node, or the name of an input.
    pub node: String,
    /// What is missing, and what helps.
    pub reason: String,
}

impl GradError {
    fn at(program: &Program, id: Id, reason: impl Into<String>) -> GradError {
        GradError { node: describe(program, id), reason: reason.into() }
    }
}

/// The Program of the gradient of `program` with respect to the inputs in slots `wrt`.
///
/// Its inputs are those of `program`, then one cotangent `g_<name>` for each float output, of the dtype and extent
/// of that output; integer and truth outputs have no cotangent. Its uniforms are those of `program`; they get no
/// gradient. Its outputs are `d_<name>` for each slot of `wrt` in that order, of the input's dtype and extent.
pub fn vjp(program: &Program, wrt: &[usize]) -> Result<Program, GradError> {
    vjp_with(program, wrt, &vec![true; program.outputs.len()])
}

/// [`vjp`] where only the outputs with `cotangents[output]` have a cotangent: that of the others is zero, is no
/// input, and costs nothing. What the slice leaves out counts as absent.
pub fn vjp_with(program: &Program, wrt: &[usize], cotangents: &[bool]) -> Result<Program, GradError> {
    for &slot in wrt {
        let input = program.inputs.get(slot).ok_or_else(|| GradError {
            node: format!("input {slot}"),
            reason: format!("{} has only {} inputs", program.name, program.inputs.len()),
        })?;
        if !input.dtype.is_float() {
            let reason = format!("an input of type {} has no gradient", input.dtype);
            return Err(GradError { node: input.name.clone(), reason });
        }
    }
    let gradient = walk::gradient(program, wrt, cotangents)?;
    let gradient = contract::contract(&gradient.compact()).compact();
    debug_assert_eq!(gradient.verify(), Ok(()), "{gradient}");
    Ok(gradient)
}

/// What a gradient rule of the op table builds with.
pub struct Rule<'a> {
    program: &'a mut Program,
    /// Below a select, cotangent × derivative is a strong-zero product, so that the derivative of a branch not
    /// taken (which may be Inf or NaN) never leaks.
    guarded: bool,
}

impl Rule<'_> {
    /// A pointwise op.
    pub fn op(&mut self, op: Op, args: &[Id]) -> Id {
        self.program.op(op, args)
    }

    /// cotangent × derivative: the one product that may need the guard.
    pub fn times(&mut self, g: Id, d: Id) -> Id {
        algebra::times(self.program, g, d, self.guarded)
    }

    /// −x
    pub fn neg(&mut self, x: Id) -> Id {
        self.program.op(Op::Neg, &[x])
    }

    /// x · k
    pub fn scale(&mut self, x: Id, k: f64) -> Id {
        let k = self.like(x, k);
        self.program.op(Op::Mul, &[x, k])
    }

    /// A constant of x's type.
    pub fn like(&mut self, x: Id, value: f64) -> Id {
        let dtype: DType = self.program.node(x).dtype;
        self.program.constant(dtype, value)
    }

    /// Is it a constant?
    pub fn is_constant(&self, x: Id) -> bool {
        self.program.constant_value(x).is_some()
    }

    /// Gradient of min and max: all of it to the first operand where `first` holds between them, else to the second.
    pub fn first_wins(&mut self, first: Op, x: &[Id], g: Id) -> Vec<Option<Id>> {
        let wins = self.program.op(first, &[x[0], x[1]]);
        let zero = self.like(g, 0.0);
        let a = self.program.op(Op::Select, &[wins, g, zero]);
        let b = self.program.op(Op::Select, &[wins, zero, g]);
        vec![Some(a), Some(b)]
    }
}
