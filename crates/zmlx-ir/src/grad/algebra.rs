//! Products and sums of cotangents. There is no "as written" order in a gradient, so factors that are one value a
//! row (or a column, or a launch) meet each other first, leave sums over the axes they lack, and terms share their
//! common factors (`terms.rs`): what counts is the number of passes over elements, and that few wait for a sum.

use crate::{
    Op,
    program::{Extent, Id, Kind, Over, Program, ReduceOp},
};

/// How deep products are taken apart; bounds the work on long chains.
pub(super) const DEPTH: u32 = 8;

pub(super) fn extent(p: &Program, id: Id) -> Extent {
    p.node(id).extent
}

pub(super) fn is_op(p: &Program, id: Id, op: Op) -> bool {
    p.node(id).kind == Kind::Op(op)
}

pub(super) fn mul(p: &mut Program, a: Option<Id>, b: Option<Id>) -> Option<Id> {
    match (a, b) {
        (Some(a), Some(b)) => Some(p.op(Op::Mul, &[a, b])),
        (one, other) => one.or(other),
    }
}

/// cotangent × derivative; guarded, a cotangent of 0 gives 0 whatever the derivative.
pub(super) fn times(p: &mut Program, g: Id, d: Id, guarded: bool) -> Id {
    let product = if guarded { Op::Mulz } else { Op::Mul };
    let large = extent(p, g);
    if let Some((base, small)) = split(p, g, guarded) {
        let together = extent(p, small).union(extent(p, d));
        let smaller = together != large && large.contains(together);
        if smaller || find_product(p, small, d) {
            let factor = p.op(Op::Mul, &[small, d]);
            return p.op(product, &[base, factor]);
        }
    }
    p.op(product, &[g, d])
}

/// Takes `g = base · small` apart, `small` lacking an axis that `g` has.
fn split(p: &Program, g: Id, guarded: bool) -> Option<(Id, Id)> {
    let node = p.node(g);
    let small = |id: Id| extent(p, id) != node.extent;
    match (node.kind, node.args.as_slice()) {
        (Kind::Op(Op::Mulz), &[a, b]) if small(b) => Some((a, b)),
        // a constant second factor has made a plain product of a guarded one
        (Kind::Op(Op::Mul), &[a, b]) if small(b) && (!guarded || p.constant_value(b).is_some()) => Some((a, b)),
        (Kind::Op(Op::Mul), &[a, b]) if small(a) && (!guarded || p.constant_value(a).is_some()) => Some((b, a)),
        _ => None,
    }
}

/// Is there a node for a·b already?
pub(super) fn find_product(p: &Program, a: Id, b: Id) -> bool {
    let (a, b) = (a.min(b), a.max(b));
    p.nodes().iter().any(|n| n.kind == Kind::Op(Op::Mul) && n.args == [a, b])
}

/// A sum over some axes; factors that lack them are multiplied in after it, once a row rather than once an element.
/// So the sum need not wait for them either: Σ g·e/s runs beside s = Σ e.
pub(super) fn sum_over(p: &mut Program, id: Id, over: Over) -> Id {
    sum_within(p, id, over, DEPTH)
}

fn sum_within(p: &mut Program, id: Id, over: Over, depth: u32) -> Id {
    if over == Over::Cols
        && let Some(mean) = deviates_from(p, id)
    {
        // of numbers it is 0; of what is none, NaN
        let zero = p.constant(p.node(id).dtype, 0.0);
        return p.op(Op::Mul, &[mean, zero]);
    }
    let (inside, outside, strong) = pull(p, id, over.axes(), DEPTH);
    // Nothing is left inside only if the value lacks the axes: then the constructor repeats it over them.
    let inside = match inside {
        Some(inside) => inside,
        None => return p.reduce(ReduceOp::Sum, over, id),
    };
    // What is left one a row would sum to a scalar, but columns are made of columns.
    let inside = if extent(p, id).has_cols() && over == Over::Rows { p.expand(inside) } else { inside };
    let sum = if inside != id && depth > 0 {
        sum_within(p, inside, over, depth - 1)
    } else if over == Over::Cols && depth > 0 && waits(p, id) {
        let node = p.node(id).clone();
        let parts = [node.args[0], node.args[1]].map(|a| match extent(p, a).has_cols() {
            true => Some(sum_within(p, a, over, depth - 1)),
            false => None,
        });
        match (node.kind, parts) {
            (Kind::Op(op), [Some(a), Some(b)]) => p.op(op, &[a, b]),
            _ => p.reduce(ReduceOp::Sum, over, inside),
        }
    } else {
        p.reduce(ReduceOp::Sum, over, inside)
    };
    match outside {
        Some(outside) => p.op(if strong { Op::Mulz } else { Op::Mul }, &[sum, outside]),
        None => sum,
    }
}

/// The mean over x along a row, if a value is x without it.
fn deviates_from(p: &Program, id: Id) -> Option<Id> {
    match (p.node(id).kind, p.node(id).args.as_slice()) {
        (Kind::Op(Op::Sub), &[x, mean]) => (p.mean_of(mean) == Some(x)).then_some(mean),
        _ => None,
    }
}

/// Is it a sum of terms whose row factors are known later than all the rest? Then Σ (r·a + s·b) = r·Σ a + s·Σ b saves
/// a pass over the row: the sums of the layer norm's gradient run beside its variance.
fn waits(p: &mut Program, id: Id) -> bool {
    if !is_op(p, id, Op::Add) && !is_op(p, id, Op::Sub) {
        return false;
    }
    let mut leaves = vec![];
    terms(p, id, &mut leaves, DEPTH);
    let stages = stages(p);
    leaves.iter().all(|l| stages[l.index()] < stages[id.index()])
}

/// What remains inside the sums of the terms of a sum.
fn terms(p: &mut Program, id: Id, leaves: &mut Vec<Id>, depth: u32) {
    let (inside, ..) = pull(p, id, Extent::COL, DEPTH);
    let inside = inside.unwrap_or(id);
    if depth > 0 && (is_op(p, inside, Op::Add) || is_op(p, inside, Op::Sub)) {
        for a in p.node(inside).args.clone() {
            terms(p, a, leaves, depth - 1);
        }
    } else {
        leaves.push(inside);
    }
}

/// How many sums or scans along a row come before each value.
fn stages(p: &Program) -> Vec<u32> {
    let mut stages: Vec<u32> = Vec::with_capacity(p.nodes().len());
    for node in p.nodes() {
        let before = node.args.iter().map(|a| stages[a.index()]).max().unwrap_or(0);
        let barrier = matches!(node.kind, Kind::Reduce(_, Over::Cols) | Kind::Fold(_) | Kind::Scan(_));
        stages.push(before + u32::from(barrier));
    }
    stages
}

/// Takes a product apart: what depends on `axes`, what does not, and whether the two met in a guarded product.
fn pull(p: &mut Program, id: Id, axes: Extent, depth: u32) -> (Option<Id>, Option<Id>, bool) {
    let lacks = |p: &Program, id: Id| extent(p, id).without(axes) == extent(p, id);
    if lacks(p, id) {
        return (None, Some(id), false);
    }
    let node = p.node(id);
    if depth == 0 || !node.dtype.is_float() {
        return (Some(id), None, false);
    }
    match (node.kind, node.args.as_slice()) {
        (Kind::Op(Op::Neg), &[a]) => {
            let (inside, outside, strong) = pull(p, a, axes, depth - 1);
            match outside {
                Some(o) => (inside, Some(p.op(Op::Neg, &[o])), strong),
                None => {
                    let minus = p.constant(p.node(id).dtype, -1.0);
                    (inside, Some(minus), strong)
                }
            }
        }
        (Kind::Op(Op::Mul), &[a, b]) => {
            let (ia, oa, sa) = pull(p, a, axes, depth - 1);
            let (ib, ob, sb) = pull(p, b, axes, depth - 1);
            if oa.is_none() && ob.is_none() {
                return (Some(id), None, false);
            }
            if sa || sb {
                // A guarded product keeps its order: only an operand that lacks the axes altogether leaves it.
                return match (ia, ib) {
                    (None, _) if !sb => (Some(b), Some(a), false),
                    (_, None) if !sa => (Some(a), Some(b), false),
                    _ => (Some(id), None, false),
                };
            }
            (mul(p, ia, ib), mul(p, oa, ob), false)
        }
        (Kind::Op(Op::Mulz), &[a, b]) if lacks(p, b) => {
            // What leaves the cotangent must be derivatives too: its own zeros stay in front.
            match pull(p, a, axes, depth - 1) {
                (Some(ia), oa, strong) if strong || oa.is_none_or(|o| p.constant_value(o).is_some()) => {
                    (Some(ia), mul(p, oa, Some(b)), true)
                }
                _ => (Some(a), Some(b), true),
            }
        }
        (Kind::Op(Op::Mulz), &[a, b]) => {
            // Of the derivative only; the cotangent keeps its zeros.
            match pull(p, b, axes, depth - 1) {
                (Some(ib), Some(ob), false) => (Some(p.op(Op::Mulz, &[a, ib])), Some(ob), true),
                _ => (Some(id), None, false),
            }
        }
        _ => (Some(id), None, false),
    }
}
