//! Gradients of reductions along a row, and of `x[t]`.

use super::{
    GradError, algebra,
    rebuild::describe,
    walk::{Stop, Walk},
};
use crate::{
    Op,
    program::{Extent, Id, Index, Kind, Over, Program, ReduceOp, Scan, ScanOp},
};

/// The contribution of reduction `id` with cotangent `g` to its argument, and whether it picked elements, so that
/// the others got a zero that must stay one.
pub(super) fn reduction(walk: &mut Walk, id: Id, over: Over, g: Id, guarded: bool) -> Result<(Id, bool), Stop> {
    let node = walk.program.node(id);
    let arg = node.args[0];
    let Kind::Reduce(op, _) = node.kind else { unreachable!("invariant: the walk asks for reductions only") };
    if over != Over::Cols && (op != ReduceOp::Sum || walk.has_late_sums()) {
        let reason = "the gradient of a reduction over the rows is not supported here";
        return Err(GradError::at(&walk.program, id, reason).into());
    }
    match op {
        ReduceOp::Sum => Ok((g, false)),
        ReduceOp::Prod => {
            // The product of the others is that of those before times that of those after: right where some are zero.
            if walk.program.node(arg).extent != Extent::ELEM && !walk.has_late_sums() {
                return Err(Stop::NeedsLateSums(describe(&walk.program, id)));
            }
            let p = &mut walk.program;
            let before = p.scan(Scan { op: ScanOp::Prod, reverse: false, exclusive: true }, &[arg]);
            let after = p.scan(Scan { op: ScanOp::Prod, reverse: true, exclusive: true }, &[arg]);
            let others = p.op(Op::Mul, &[before, after]);
            Ok((algebra::times(p, g, others, guarded), false))
        }
        ReduceOp::Max | ReduceOp::Min => {
            let p = &mut walk.program;
            let first = if op == ReduceOp::Max { ReduceOp::ArgMax } else { ReduceOp::ArgMin };
            let at = p.reduce(first, over, arg);
            Ok((at_column(p, at, g), true))
        }
        ReduceOp::Top(rank) => {
            let p = &mut walk.program;
            let at = p.reduce(ReduceOp::ArgTop(rank), over, arg);
            let g = where_ranked(p, rank, g);
            Ok((at_column(p, at, g), true))
        }
        ReduceOp::ArgMax | ReduceOp::ArgMin | ReduceOp::ArgTop(_) | ReduceOp::Any | ReduceOp::All => {
            unreachable!("invariant: a result that is no float is not active")
        }
    }
}

/// `rank < cols ? g : 0`: a rank that the row has not is no element of it.
fn where_ranked(p: &mut Program, rank: u8, g: Id) -> Id {
    if rank == 0 {
        return g;
    }
    let cols = p.index(Index::Cols);
    let rank = p.int(p.node(cols).dtype, i64::from(rank));
    let there = p.op(Op::Lt, &[rank, cols]);
    let zero = p.constant(p.node(g).dtype, 0.0);
    p.op(Op::Select, &[there, g, zero])
}

/// `col == t ? g : 0`
pub(super) fn at_column(p: &mut Program, t: Id, g: Id) -> Id {
    let col = p.index(Index::Col);
    let here = p.op(Op::Eq, &[col, t]);
    let zero = p.constant(p.node(g).dtype, 0.0);
    p.op(Op::Select, &[here, g, zero])
}
