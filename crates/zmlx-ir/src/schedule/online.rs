//! Sums that are relative to another reduction of the same values, found in one pass with it where a row is walked along: sums
//! of exponentials relative to the row's maximum, as in softmax and logsumexp, and sums of squares relative to its mean, as
//! in var and layer_norm.
//!
//! A thread carries the largest exponent so far and the sum relative to it; where a chunk raises the one, the other is
//! scaled. Of squares it carries how many values it met, their sum and the squares relative to their mean; a chunk, whose
//! squares are relative to its own mean, is joined to them as threads are joined (Chan, Golub and LeVeque 1979), so that
//! nothing cancels that does not cancel in two passes.

use crate::{
    Op, Program,
    program::{Id, Kind, Over, ReduceOp},
};

/// A sum that is found beside another reduction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Online {
    /// The other reduction: both take what it takes.
    pub beside: Id,
    pub form: Form,
}

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// `exp(x - shift)`. Is the shift 0 where the maximum over x is not finite? Else it is the maximum.
    Exp { guarded: bool },
    /// `(x - mean)²`, where the mean is the sum over x by the number of columns.
    Squares,
}

/// What a reduction is, if it is such a sum.
pub(super) fn online(p: &Program, id: Id) -> Option<Online> {
    let &[term] = args(p, id, Kind::Reduce(ReduceOp::Sum, Over::Cols))? else { return None };
    exponentials(p, term).or_else(|| squares(p, term))
}

fn args(p: &Program, id: Id, kind: Kind) -> Option<&[Id]> {
    (p.node(id).kind == kind).then_some(p.node(id).args.as_slice())
}

fn exponentials(p: &Program, term: Id) -> Option<Online> {
    let &[d] = args(p, term, Kind::Op(Op::Exp))? else { return None };
    let &[x, shift] = args(p, d, Kind::Op(Op::Sub))? else { return None };
    let is_max = |m: Id| args(p, m, Kind::Reduce(ReduceOp::Max, Over::Cols)) == Some(&[x]);
    if is_max(shift) {
        return Some(Online { beside: shift, form: Form::Exp { guarded: false } });
    }
    let &[finite, max, zero] = args(p, shift, Kind::Op(Op::Select))? else { return None };
    let &[abs, infinity] = args(p, finite, Kind::Op(Op::Lt))? else { return None };
    let is = |id: Id, v: f64| matches!(p.node(id).kind, Kind::Const(bits) if f64::from_bits(bits) == v);
    let guarded = args(p, abs, Kind::Op(Op::Abs)) == Some(&[max]) && is(infinity, f64::INFINITY) && is(zero, 0.0);
    (guarded && is_max(max)).then_some(Online { beside: max, form: Form::Exp { guarded } })
}

fn squares(p: &Program, term: Id) -> Option<Online> {
    let &[d, again] = args(p, term, Kind::Op(Op::Mul))? else { return None };
    let &[x, mean] = args(p, d, Kind::Op(Op::Sub))? else { return None };
    let found = d == again && p.mean_of(mean) == Some(x);
    let sum = |id: &&Id| p.node(**id).kind == Kind::Reduce(ReduceOp::Sum, Over::Cols);
    let beside = *p.node(mean).args.iter().find(sum)?;
    found.then_some(Online { beside, form: Form::Squares })
}

/// Does a walk along the rows of a Program, without scans, end with values of the row, after one pass that finds such a
/// sum?
pub(super) fn is_one_pass(p: &Program) -> bool {
    let live = p.live();
    let mut passes = vec![0; p.nodes().len()];
    let mut found = false;
    for id in p.ids().filter(|i| live[i.index()]) {
        let node = p.node(id);
        let sum = online(p, id);
        found |= sum.is_some();
        let terms = sum.map_or(&node.args, |o| &p.node(o.beside).args);
        let before = terms.iter().map(|a| passes[a.index()]).max().unwrap_or(0);
        let along = matches!(node.kind, Kind::Reduce(_, Over::Cols) | Kind::Fold(_));
        if along && before > 0 {
            return false;
        }
        passes[id.index()] = before + u32::from(along);
    }
    found && p.outputs.iter().all(|o| !o.extent.has_cols())
}
