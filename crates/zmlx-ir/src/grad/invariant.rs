//! A proof that a maximum is a mere shift. In `exp(x − m) / sum(exp(x − m))` any m gives the same value, so the
//! gradient need not pass through m = max(x); in `exp(x − m)` alone it must.
//!
//! The walk treats m as a variable of its own and carries for each value how it depends on it. A condition or a
//! rounding has no derivative, so what it decides counts as not depending on m.

use crate::{
    Op,
    program::{Extent, Id, Index, Kind, Over, Program, ReduceOp, ScanOp},
};
use std::f64::consts::{LN_2, LOG2_E};

/// The factor of m: `k`, times or divided by the value of a node that is the same along a row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    k: f64,
    by: Option<(Op, Id)>,
}

/// How a value depends on m.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    /// Not at all.
    Independent,
    /// v + r·m
    Additive(Rate),
    /// v · exp(r·m)
    Multiplicative(Rate),
    /// In some other way.
    Unknown,
}

use Class::{Additive, Independent, Multiplicative, Unknown};

impl Rate {
    const ONE: Rate = Rate { k: 1.0, by: None };
    const ZERO: Rate = Rate { k: 0.0, by: None };

    fn scaled(self, k: f64) -> Rate {
        Rate { k: self.k * k, ..self }
    }

    fn plus(self, other: Rate) -> Option<Rate> {
        let sum = self.k + other.k;
        if self.k == 0.0 || other.k == 0.0 {
            return Some(if self.k == 0.0 { other } else { self });
        }
        // log2(exp2(x)) and the like come back to their rate within rounding
        let k = if sum.abs() <= 1e-14 * self.k.abs() { 0.0 } else { sum };
        (self.by == other.by).then_some(Rate { k, ..self })
    }

    fn times(self, op: Op, id: Id) -> Option<Rate> {
        match self.by {
            None => Some(Rate { by: Some((op, id)), ..self }),
            Some((before, same)) if same == id && before != op => Some(Rate { by: None, ..self }),
            _ => None,
        }
    }
}

impl Class {
    /// Rate of a value that is v + r·m, if it is.
    fn additive(self) -> Option<Rate> {
        match self {
            Independent => Some(Rate::ZERO),
            Additive(r) => Some(r),
            _ => None,
        }
    }

    /// Rate of a value that is v·exp(r·m), if it is.
    fn multiplicative(self) -> Option<Rate> {
        match self {
            Independent => Some(Rate::ZERO),
            Multiplicative(r) => Some(r),
            _ => None,
        }
    }

    fn from_additive(r: Option<Rate>) -> Class {
        match r {
            Some(r) if r.k == 0.0 => Independent,
            Some(r) => Additive(r),
            None => Unknown,
        }
    }

    fn from_multiplicative(r: Option<Rate>) -> Class {
        match r {
            Some(r) if r.k == 0.0 => Independent,
            Some(r) => Multiplicative(r),
            None => Unknown,
        }
    }
}

/// Does no target depend on the maximum or minimum `m`?
pub(super) fn is_invariant(program: &Program, m: Id, targets: &[Id]) -> bool {
    let mut proof = Proof { p: program, m, class: Vec::with_capacity(program.nodes().len()) };
    for id in program.ids() {
        let class = if id == m { Additive(Rate::ONE) } else { proof.of(id) };
        proof.class.push(class);
    }
    targets.iter().all(|t| proof.class[t.index()] == Independent)
}

struct Proof<'a> {
    p: &'a Program,
    m: Id,
    class: Vec<Class>,
}

impl Proof<'_> {
    fn of(&self, id: Id) -> Class {
        let node = self.p.node(id);
        let class = |k: usize| self.class[node.args[k].index()];
        if !node.dtype.is_float() || (0..node.args.len()).all(|k| class(k) == Independent) {
            return Independent;
        }
        let along_row = |r: Option<Rate>| match r {
            Some(Rate { by: Some((_, id)), .. }) if self.p.node(id).extent.has_cols() => None,
            r => r,
        };
        match node.kind {
            Kind::Op(op) => self.of_op(op, &node.args),
            Kind::Expand => class(0),
            Kind::Reduce(ReduceOp::Sum, Over::Cols) => match class(0) {
                // Σ (v + r·m) = Σ v + cols·r·m
                Additive(r) => match along_row(Some(r)).zip(self.cols()) {
                    Some((r, cols)) => Class::from_additive(r.times(Op::Mul, cols)),
                    None => Unknown,
                },
                c => Class::from_multiplicative(along_row(c.multiplicative())),
            },
            Kind::Reduce(ReduceOp::Max | ReduceOp::Min | ReduceOp::Top(_), Over::Cols) => {
                self.shifted(class(0), along_row)
            }
            Kind::Scan(s) if s.op == ScanOp::Sum => Class::from_multiplicative(along_row(class(0).multiplicative())),
            Kind::Scan(s) if s.op == ScanOp::Max && !s.exclusive => self.shifted(class(0), along_row),
            _ => Unknown,
        }
    }

    /// A maximum of values that all shift, or all scale, alike.
    fn shifted(&self, class: Class, along_row: impl Fn(Option<Rate>) -> Option<Rate>) -> Class {
        match class {
            Additive(r) => Class::from_additive(along_row(Some(r))),
            Multiplicative(r) => Class::from_multiplicative(along_row(Some(r))),
            other => other,
        }
    }

    fn of_op(&self, op: Op, args: &[Id]) -> Class {
        let class = |k: usize| self.class[args[k].index()];
        let constant = |k: usize| self.p.constant_value(args[k]);
        match op {
            Op::Neg => match class(0) {
                Additive(r) => Additive(r.scaled(-1.0)),
                other => other,
            },
            Op::Cast(d) if d.is_float() => class(0),
            Op::Add => self.sum(class(0), class(1), 1.0, args),
            Op::Sub => self.sum(class(0), class(1), -1.0, args),
            Op::Mul | Op::Mulz => self.product(args[0], args[1]),
            Op::Fma => self.sum(self.product(args[0], args[1]), class(2), 1.0, &[args[2], args[2]]),
            Op::Div => match (class(0), class(1)) {
                (Additive(r), Independent) => self.scaled(r, Op::Div, args[1]),
                (a, b) => match (a.multiplicative(), b.multiplicative()) {
                    (Some(a), Some(b)) => Class::from_multiplicative(a.plus(b.scaled(-1.0))),
                    _ => Unknown,
                },
            },
            Op::Exp => Class::from_multiplicative(class(0).additive()),
            Op::Exp2 => Class::from_multiplicative(class(0).additive().map(|r| r.scaled(LN_2))),
            Op::Log => Class::from_additive(class(0).multiplicative()),
            Op::Log2 => Class::from_additive(class(0).multiplicative().map(|r| r.scaled(LOG2_E))),
            Op::Recip => Class::from_multiplicative(class(0).multiplicative().map(|r| r.scaled(-1.0))),
            Op::Sqrt => Class::from_multiplicative(class(0).multiplicative().map(|r| r.scaled(0.5))),
            Op::Rsqrt => Class::from_multiplicative(class(0).multiplicative().map(|r| r.scaled(-0.5))),
            Op::Abs => Class::from_multiplicative(class(0).multiplicative()),
            Op::Pow => match constant(1) {
                Some(k) => Class::from_multiplicative(class(0).multiplicative().map(|r| r.scaled(k))),
                None => Unknown,
            },
            Op::Sign | Op::Floor | Op::Ceil | Op::Round => Independent,
            Op::Max | Op::Min => self.either(args[0], args[1]),
            Op::Select => match self.when_finite(args[0]) {
                // `isfinite(m) ? m : 0`: what a maximum that is not finite is replaced by is a corner of its own.
                Some(finite) => class(if finite { 1 } else { 2 }),
                None => self.either(args[1], args[2]),
            },
            _ => Unknown,
        }
    }

    /// One of two values that depend on m alike; 0 scales with anything.
    fn either(&self, a: Id, b: Id) -> Class {
        let (ca, cb) = (self.class[a.index()], self.class[b.index()]);
        match (ca, cb) {
            (a, b) if a == b => a,
            (Multiplicative(_), Independent) if self.p.constant_value(b) == Some(0.0) => ca,
            (Independent, Multiplicative(_)) if self.p.constant_value(a) == Some(0.0) => cb,
            _ => Unknown,
        }
    }

    fn sum(&self, a: Class, b: Class, sign: f64, args: &[Id]) -> Class {
        if let (Some(a), Some(b)) = (a.additive(), b.additive()) {
            return Class::from_additive(a.plus(b.scaled(sign)));
        }
        match (a, b) {
            (a, b) if a == b => a,
            (Multiplicative(_), Independent) if self.p.constant_value(args[1]) == Some(0.0) => a,
            (Independent, Multiplicative(_)) if self.p.constant_value(args[0]) == Some(0.0) => b,
            _ => Unknown,
        }
    }

    fn product(&self, a: Id, b: Id) -> Class {
        let (ca, cb) = (self.class[a.index()], self.class[b.index()]);
        match (ca, cb) {
            (Additive(r), Independent) => self.scaled(r, Op::Mul, b),
            (Independent, Additive(r)) => self.scaled(r, Op::Mul, a),
            _ => match (ca.multiplicative(), cb.multiplicative()) {
                (Some(a), Some(b)) => Class::from_multiplicative(a.plus(b)),
                _ => Unknown,
            },
        }
    }

    /// (v + r·m) times or divided by a value that does not depend on m.
    fn scaled(&self, r: Rate, op: Op, by: Id) -> Class {
        if let Some(k) = self.p.constant_value(by) {
            return Class::from_additive(Some(r.scaled(if op == Op::Mul { k } else { 1.0 / k })));
        }
        // a product with a reciprocal is a division
        let node = self.p.node(by);
        match (op, node.kind) {
            (Op::Mul, Kind::Op(Op::Recip)) => Class::from_additive(r.times(Op::Div, node.args[0])),
            _ => Class::from_additive(r.times(op, by)),
        }
    }

    /// The number of columns as a float: what a mean divides by.
    fn cols(&self) -> Option<Id> {
        self.p.ids().find(|&id| {
            let node = self.p.node(id);
            matches!(node.kind, Kind::Op(Op::Cast(d)) if d.is_float())
                && self.p.node(node.args[0]).kind == Kind::Index(Index::Cols)
                && node.extent == Extent::UNIFORM
        })
    }

    /// Whether a condition holds for finite m, if it asks only whether m is finite.
    fn when_finite(&self, id: Id) -> Option<bool> {
        let node = self.p.node(id);
        let is_m = |id: Id| {
            let n = self.p.node(id);
            id == self.m || matches!(n.kind, Kind::Op(Op::Abs | Op::Neg)) && n.args[0] == self.m
        };
        let infinite = |id: Id| self.p.constant_value(id).filter(|v| v.is_infinite());
        let Kind::Op(op) = node.kind else { return None };
        match (op, node.args.as_slice()) {
            (Op::IsNan, &[a]) => is_m(a).then_some(false),
            (Op::Not, &[a]) => self.when_finite(a).map(|v| !v),
            (Op::And, &[a, b]) => Some(self.when_finite(a)? && self.when_finite(b)?),
            (Op::Or, &[a, b]) => Some(self.when_finite(a)? || self.when_finite(b)?),
            (Op::Eq | Op::Ne, &[a, b]) if a == b => is_m(a).then_some(op == Op::Eq),
            (Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne, &[a, b]) => {
                let (a, b) = match (infinite(a), infinite(b)) {
                    (None, Some(b)) if is_m(a) => (0.0, b),
                    (Some(a), None) if is_m(b) => (a, 0.0),
                    _ => return None,
                };
                match op.row().value {
                    crate::op::Value::Binary(f) => Some(f(a, b) != 0.0),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}
