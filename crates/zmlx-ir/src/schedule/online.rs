//! Sums of exponentials relative to the row's maximum, as in softmax and logsumexp: walking along a row, both are found in
//! one pass. A thread carries the largest exponent so far and the sum relative to it; where a chunk raises the one, the
//! other is scaled.

use crate::{
    Op, Program,
    program::{Id, Kind, Over, ReduceOp},
};

/// A sum over `exp(x - shift)`, where the shift is made of the maximum over x.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Online {
    pub max: Id,
    /// Is the shift 0 where the maximum is not finite? Else it is the maximum.
    pub guarded: bool,
}

/// What a reduction is, if it is such a sum.
pub(super) fn online(p: &Program, id: Id) -> Option<Online> {
    let args = |id: Id, kind: Kind| (p.node(id).kind == kind).then_some(p.node(id).args.as_slice());
    let &[exp] = args(id, Kind::Reduce(ReduceOp::Sum, Over::Cols))? else { return None };
    let &[d] = args(exp, Kind::Op(Op::Exp))? else { return None };
    let &[x, shift] = args(d, Kind::Op(Op::Sub))? else { return None };
    let is_max = |m: Id| args(m, Kind::Reduce(ReduceOp::Max, Over::Cols)) == Some(&[x]);
    if is_max(shift) {
        return Some(Online { max: shift, guarded: false });
    }
    let &[finite, max, zero] = args(shift, Kind::Op(Op::Select))? else { return None };
    let &[abs, infinity] = args(finite, Kind::Op(Op::Lt))? else { return None };
    let is = |id: Id, v: f64| matches!(p.node(id).kind, Kind::Const(bits) if f64::from_bits(bits) == v);
    let guarded = args(abs, Kind::Op(Op::Abs)) == Some(&[max]) && is(infinity, f64::INFINITY) && is(zero, 0.0);
    (guarded && is_max(max)).then_some(Online { max, guarded })
}

/// Does a walk along the rows of a Program, without scans, end with values of the row, after one pass that finds a sum of
/// exponentials?
pub(super) fn is_one_pass(p: &Program) -> bool {
    let live = p.live();
    let mut passes = vec![0; p.nodes().len()];
    let mut found = false;
    for id in p.ids().filter(|i| live[i.index()]) {
        let node = p.node(id);
        let sum = online(p, id);
        found |= sum.is_some();
        let terms = sum.map_or(&node.args, |o| &p.node(o.max).args);
        let before = terms.iter().map(|a| passes[a.index()]).max().unwrap_or(0);
        let along = matches!(node.kind, Kind::Reduce(_, Over::Cols) | Kind::Fold(_));
        if along && before > 0 {
            return false;
        }
        passes[id.index()] = before + u32::from(along);
    }
    found && p.outputs.iter().all(|o| !o.extent.has_cols())
}
