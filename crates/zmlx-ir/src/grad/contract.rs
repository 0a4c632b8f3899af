//! The last pass over a gradient: fewer, larger nodes. A gradient has no "as written" order, so a product that is
//! only added becomes a fused multiply-add, and one with a reciprocal a division.

use super::rebuild::{decisive, rebuild};
use crate::{
    Op,
    program::{Extent, Id, Kind, Program},
};

/// The same Program with multiply-adds and divisions contracted; values that decide something stay as they are.
pub(super) fn contract(program: &Program) -> Program {
    let decisive = decisive(program);
    let mut uses = vec![0u32; program.nodes().len()];
    for &a in program.nodes().iter().flat_map(|n| &n.args) {
        uses[a.index()] += 1;
    }
    for o in &program.outputs {
        uses[o.node.index()] += 1;
    }
    // An operand that one op makes for this user only, at the user's own cost.
    let inner = |id: Id, op: Op, extent: Extent| {
        let node = program.node(id);
        node.kind == Kind::Op(op) && uses[id.index()] == 1 && node.extent == extent && !decisive[id.index()]
    };
    rebuild(program, |copy, id, args| {
        let node = program.node(id);
        if !node.dtype.is_float() || decisive[id.index()] {
            return None;
        }
        let extent = node.extent;
        let is_product = |k: usize| inner(node.args[k], Op::Mul, extent);
        match node.kind {
            Kind::Op(Op::Add) => {
                let (k, other) = if is_product(1) {
                    (1, 0)
                } else if is_product(0) {
                    (0, 1)
                } else {
                    return None;
                };
                let (a, b) = factors(copy, args[k])?;
                Some(copy.op(Op::Fma, &[a, b, args[other]]))
            }
            // a·b − c, c − a·b: only where the sign goes to something smaller.
            Kind::Op(Op::Sub) if is_product(0) && program.node(node.args[1]).extent != extent => {
                let (a, b) = factors(copy, args[0])?;
                let c = copy.op(Op::Neg, &[args[1]]);
                Some(copy.op(Op::Fma, &[a, b, c]))
            }
            Kind::Op(Op::Sub) if is_product(1) => {
                let (a, b) = factors(copy, args[1])?;
                let (small, large) = if copy.node(a).extent != extent {
                    (a, b)
                } else if copy.node(b).extent != extent {
                    (b, a)
                } else {
                    return None;
                };
                let small = copy.op(Op::Neg, &[small]);
                Some(copy.op(Op::Fma, &[small, large, args[0]]))
            }
            Kind::Op(Op::Mul) => {
                let k = (0..2).find(|&k| inner(node.args[k], Op::Recip, extent))?;
                match copy.node(args[k]).kind {
                    Kind::Op(Op::Recip) => {
                        let below = copy.node(args[k]).args[0];
                        Some(copy.op(Op::Div, &[args[1 - k], below]))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    })
}

/// The operands of a product in the copy; None where it has become something else there.
fn factors(copy: &Program, id: Id) -> Option<(Id, Id)> {
    let node = copy.node(id);
    (node.kind == Kind::Op(Op::Mul)).then(|| (node.args[0], node.args[1]))
}
