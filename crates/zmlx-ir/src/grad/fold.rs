//! Custom monoids: checked against their definition, and turned into built-in reductions where they are ones.

use super::rebuild::rebuild;
use crate::{
    Op,
    op::Value,
    program::{Fold, Id, Kind, Over, Program, ReduceOp},
};

/// Why a custom monoid has no gradient.
pub(super) const NO_GRADIENT: &str = "update is not acc ⊕ f(v) with ⊕ among + * max min, so it has no derived \
                                      gradient: override with grad_of or say no_grad";

/// The same Program with each custom monoid of the form `acc ⊕ f(v)`, ⊕ among + * max min, as a built-in reduction
/// of f(v): those differentiate, and run faster. `init` being no identity of + or * leaves the monoid as it is.
pub fn normalise_folds(program: &Program) -> Program {
    rebuild(program, |copy, id, args| {
        let node = program.node(id);
        let Kind::Fold(slot) = node.kind else { return None };
        let fold = &program.folds[slot as usize];
        let op = combines_with(fold)?;
        let value = Update { fold, op, args }.value(copy)?;
        let reduce = reduction(op)?;
        let dtype = copy.node(value).dtype;
        let identity = reduce.identity(dtype);
        let reduced = copy.reduce(reduce, Over::Cols, value);
        if copy.node(reduced).extent != node.extent || dtype != node.dtype {
            return None;
        }
        if fold.init == identity {
            return Some(reduced);
        }
        // A start value that max and min meet once more changes nothing; a sum would count it twice.
        matches!(op, Op::Max | Op::Min).then(|| {
            let init = copy.constant(dtype, fold.init);
            copy.op(op, &[init, reduced])
        })
    })
    .compact()
}

fn reduction(op: Op) -> Option<ReduceOp> {
    match op {
        Op::Add => Some(ReduceOp::Sum),
        Op::Mul => Some(ReduceOp::Prod),
        Op::Max => Some(ReduceOp::Max),
        Op::Min => Some(ReduceOp::Min),
        _ => None,
    }
}

/// The one op of `combine`, if it is `a op b`.
fn combines_with(fold: &Fold) -> Option<Op> {
    let p = &fold.combine;
    let node = p.node(p.outputs.first()?.node);
    let Kind::Op(op) = node.kind else { return None };
    let inputs: Vec<Kind> = node.args.iter().map(|&a| p.node(a).kind).collect();
    let both = inputs == [Kind::Input(0), Kind::Input(1)] || inputs == [Kind::Input(1), Kind::Input(0)];
    (both && reduction(op).is_some()).then_some(op)
}

/// Takes `acc ⊕ f(v)` apart.
struct Update<'a> {
    fold: &'a Fold,
    op: Op,
    args: &'a [Id],
}

impl Update<'_> {
    /// f(v), in the Program that the monoid is part of.
    fn value(&self, p: &mut Program) -> Option<Id> {
        let update = &self.fold.update;
        let mut uses_acc: Vec<bool> = Vec::with_capacity(update.nodes().len());
        let mut values: Vec<Option<Id>> = Vec::with_capacity(update.nodes().len());
        for node in update.nodes() {
            let acc = node.kind == Kind::Input(0) || node.args.iter().any(|a| uses_acc[a.index()]);
            uses_acc.push(acc);
            let args: Option<Vec<Id>> = node.args.iter().map(|a| values[a.index()]).collect();
            values.push(match node.kind {
                _ if acc => None,
                Kind::Input(slot) => self.args.get(slot as usize - 1).copied(),
                Kind::Const(bits) => Some(p.constant(node.dtype, f64::from_bits(bits))),
                Kind::Int(v) => Some(p.int(node.dtype, v)),
                Kind::Index(index) => Some(p.index(index)),
                Kind::Op(op) => args.map(|args| p.op(op, &args)),
                _ => None,
            });
        }
        self.beside_acc(p, update.outputs.first()?.node, &values)
    }

    /// What `id`, a value that uses acc, adds to it: f where it is acc ⊕ f. None where it has another form.
    fn beside_acc(&self, p: &mut Program, id: Id, values: &[Option<Id>]) -> Option<Id> {
        let node = self.fold.update.node(id);
        let value = |k: usize| values[node.args[k].index()];
        let Kind::Op(op) = node.kind else {
            let identity = reduction(self.op)?.identity(node.dtype);
            return (node.kind == Kind::Input(0)).then(|| p.constant(node.dtype, identity));
        };
        match (op, self.op) {
            (op, plus) if op == plus => {
                let (acc, v) = match (value(0), value(1)) {
                    (None, Some(v)) => (node.args[0], v),
                    (Some(v), None) => (node.args[1], v),
                    _ => return None,
                };
                let rest = self.beside_acc(p, acc, values)?;
                Some(self.join(p, op, rest, v))
            }
            (Op::Sub, Op::Add) | (Op::Div, Op::Mul) => {
                let v = value(1)?;
                let rest = self.beside_acc(p, node.args[0], values)?;
                Some(p.op(op, &[rest, v]))
            }
            (Op::Fma, Op::Add) => {
                let (a, b) = (value(0)?, value(1)?);
                let rest = self.beside_acc(p, node.args[2], values)?;
                let v = p.op(Op::Mul, &[a, b]);
                Some(self.join(p, Op::Add, rest, v))
            }
            (Op::Select, _) => {
                let c = value(0)?;
                let a = self.beside_acc(p, node.args[1], values)?;
                let b = self.beside_acc(p, node.args[2], values)?;
                Some(p.op(Op::Select, &[c, a, b]))
            }
            _ => None,
        }
    }

    /// a ⊕ b, without a where that is the identity.
    fn join(&self, p: &mut Program, op: Op, a: Id, b: Id) -> Id {
        let identity = reduction(op).map(|r| r.identity(p.node(a).dtype));
        if p.constant_value(a) == identity { b } else { p.op(op, &[a, b]) }
    }
}

/// Is `init` an identity of `combine`? Tried on some values, in f64.
pub fn check_identity(fold: &Fold) -> Result<(), String> {
    let init = fold.init;
    for v in [-1000.0, -3.5, -1.0, -0.25, 0.0, 0.125, 1.0, 2.0, 7.5, 1000.0] {
        for (a, b) in [(init, v), (v, init)] {
            let got = evaluate(&fold.combine, &[a, b])?;
            if got != v {
                return Err(format!(
                    "init {init} is not an identity of combine: combine({a}, {b}) is {got}, expected {v}"
                ));
            }
        }
    }
    Ok(())
}

/// The output of a pointwise Program on numbers.
fn evaluate(p: &Program, inputs: &[f64]) -> Result<f64, String> {
    let mut values: Vec<f64> = Vec::with_capacity(p.nodes().len());
    for node in p.nodes() {
        let arg = |k: usize| values[node.args[k].index()];
        values.push(match node.kind {
            Kind::Input(slot) => *inputs.get(slot as usize).ok_or("combine takes two values, a and b")?,
            Kind::Const(bits) => f64::from_bits(bits),
            Kind::Int(v) => v as f64,
            Kind::Op(op) => match op.row().value {
                Value::Unary(f) => f(arg(0)),
                Value::Binary(f) => f(arg(0), arg(1)),
                Value::Ternary(f) => f(arg(0), arg(1), arg(2)),
            },
            _ => return Err("combine must be arithmetic on a and b".into()),
        });
    }
    p.outputs.first().map(|o| values[o.node.index()]).ok_or_else(|| "combine has no result".into())
}
