//! Reductions along a row: each thread accumulates its elements, then the threads of the row combine by a butterfly of
//! shuffles, warps through shared memory, and blocks of a cluster through each other's. All threads of the row end with the
//! result.
//!
//! Sums are in the type of their values, in an order that depends on the configuration alone. Which of +0 and −0 a
//! maximum of both is depends on it too.

use super::{
    emit::*,
    lane::select,
    lower::Lower,
    online::{Form, Online},
    top::Ranks,
};
use crate::{
    DType, Op, Program,
    kernel::{Arith, Expr, Place, Shuffle, Stmt, VarId, WARP},
    program::{Id, Kind, ReduceOp},
};

/// No column: the index of an empty argmax.
pub(super) const NONE: i64 = u32::MAX as i64;

/// How two accumulated values become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Join {
    /// An op of the table.
    Op(Op),
    /// The better value (by this comparison) and its column.
    Arg(Op),
    /// A custom monoid.
    Fold(u32),
    /// The largest so many, in order.
    Top(Ranks),
    /// A sum of exponentials relative to the largest so far, and that.
    Exp { beside: Id, guarded: bool },
    /// A sum of squares relative to the mean so far, the sum of the values, and how many they are.
    Squares { beside: Id },
}

/// An accumulator of a thread.
#[derive(Clone, Debug)]
pub(super) struct Acc {
    pub id: Id,
    pub(super) join: Join,
    pub(super) dtype: DType,
    /// The value; for argmax and argmin the column too, for sums of exponentials the maximum, for squares sum and number; of
    /// ranks the lists of values and columns.
    pub(super) vars: Vec<VarId>,
    pub(super) identity: Expr,
    /// What the exponentials or squares of a chunk are relative to.
    pub(super) base: Option<VarId>,
}

impl Acc {
    /// The reduction that is found beside this one.
    pub fn carries(&self) -> Option<Id> {
        if let Join::Exp { beside, .. } | Join::Squares { beside } = self.join { Some(beside) } else { None }
    }

    /// What that has met until now.
    pub fn carried(&self) -> Expr {
        Expr::Var(self.vars[1])
    }
}

impl Lower<'_> {
    /// Declares the accumulator of a reduction.
    pub fn accumulator(&mut self, id: Id) -> Acc {
        let node = self.p.node(id);
        if let Some(ranks) = self.ranks(id) {
            return self.top(id, ranks);
        }
        let dtype = node.args.first().map_or(node.dtype, |a| self.p.node(*a).dtype);
        let (join, identity, name) = match node.kind {
            Kind::Fold(k) => (Join::Fold(k), constant(node.dtype, self.p.folds[k as usize].init), "fold"),
            Kind::Reduce(op, _) => {
                let (join, identity) = join_of(op, dtype);
                let join = match self.online(id) {
                    Some(Online { beside, form: Form::Exp { guarded } }) => Join::Exp { beside, guarded },
                    Some(Online { beside, form: Form::Squares }) => Join::Squares { beside },
                    None => join,
                };
                (join, identity, op.name())
            }
            _ => (Join::Op(Op::Add), constant(dtype, 0.0), "sum"),
        };
        let dtype = if let Join::Fold(_) = join { node.dtype } else { dtype };
        let mut vars = vec![self.e.scalar(&format!("{name}_{}", id.0), identity.clone())];
        if let Join::Arg(_) = join {
            vars.push(self.e.scalar(&format!("{name}_{}_col", id.0), Expr::Int(DType::U32, NONE)));
        }
        let mut base = None;
        let (zero, lowest) = (constant(dtype, 0.0), constant(dtype, f64::NEG_INFINITY));
        let beside: &[(&str, Expr)] = match join {
            Join::Exp { .. } => &[("max", lowest)],
            Join::Squares { .. } => &[("sum", zero.clone()), ("count", zero.clone())],
            _ => &[],
        };
        for (what, from) in beside {
            vars.push(self.e.scalar(&format!("{name}_{}_{what}", id.0), from.clone()));
            base = base.or_else(|| Some(self.e.scalar(&format!("{name}_{}_base", id.0), zero.clone())));
        }
        Acc { id, join, dtype, vars, identity, base }
    }

    /// Takes an element in. Elements that are not `inside` change nothing. `place` is how many came before at most, if that
    /// is known.
    pub fn accumulate(&mut self, acc: &Acc, values: &[Expr], inside: &Expr, col: &Expr, place: Option<&Expr>) {
        let own = Expr::Var(acc.vars[0]);
        match acc.join {
            Join::Top(ranks) => self.insert(acc, ranks, &values[0], inside, col, place),
            Join::Op(o) => {
                let value = select(inside.clone(), values[0].clone(), acc.identity.clone());
                self.e.set(acc.vars[0], meet(o, acc.dtype, own, value));
            }
            Join::Arg(_) => {
                let value = self.e.named("candidate", values[0].clone());
                let col = op(Op::Cast(DType::U32), [col.clone()]);
                let better = self.beats(acc, value.clone(), own);
                let none = equal_op(Expr::Var(acc.vars[1]), Expr::Int(DType::U32, NONE));
                let better = op(Op::Or, [better, none]);
                let (vars, inside) = (acc.vars.clone(), inside.clone());
                self.when(and(inside, better), |s| {
                    s.e.set(vars[0], value);
                    s.e.set(vars[1], col);
                });
            }
            Join::Fold(k) => {
                let p = self.p;
                let (vars, values) = (acc.vars.clone(), values.to_vec());
                self.when(inside.clone(), |s| {
                    let mut inputs = vec![own];
                    for (i, v) in values.into_iter().enumerate() {
                        inputs.push(s.e.named(&format!("value_{i}"), v));
                    }
                    let next = s.inline(&p.folds[k as usize].update, &inputs);
                    s.e.set(vars[0], next);
                });
            }
            Join::Exp { .. } | Join::Squares { .. } => {
                let Some(base) = acc.base else { return };
                let d = op(Op::Sub, [values[0].clone(), Expr::Var(base)]);
                let term = if let Join::Exp { .. } = acc.join {
                    op(Op::Exp, [d])
                } else {
                    let d = self.e.named("d", d);
                    op(Op::Mul, [d.clone(), d])
                };
                let term = select(inside.clone(), term, acc.identity.clone());
                self.e.set(acc.vars[0], op(Op::Add, [own, term]));
            }
        }
    }

    /// Is `a` better than `b`, as argmax or argmin sees it? NaN is best.
    fn beats(&self, acc: &Acc, a: Expr, b: Expr) -> Expr {
        let Join::Arg(better) = acc.join else { return truth(false) };
        let wins = op(better, [a.clone(), b.clone()]);
        if !acc.dtype.is_float() {
            return wins;
        }
        let nan = op(Op::And, [op(Op::IsNan, [a]), op(Op::Not, [op(Op::IsNan, [b])])]);
        op(Op::Or, [wins, nan])
    }

    /// Combines with another accumulator's values, which come first if `before`.
    fn join(&mut self, acc: &Acc, other: &[Expr], before: Option<Expr>) {
        let own = Expr::Var(acc.vars[0]);
        match acc.join {
            // those of other threads come in by the list
            Join::Top(_) => {}
            Join::Op(o) => self.e.set(acc.vars[0], meet(o, acc.dtype, own, other[0].clone())),
            Join::Arg(_) => {
                let own_col = Expr::Var(acc.vars[1]);
                let better = self.beats(acc, other[0].clone(), own.clone());
                let worse = self.beats(acc, own, other[0].clone());
                let sooner = op(Op::Lt, [other[1].clone(), own_col.clone()]);
                let tie = op(Op::And, [op(Op::Not, [worse]), sooner]);
                let there = op(Op::Ne, [other[1].clone(), Expr::Int(DType::U32, NONE)]);
                let none = equal_op(own_col, Expr::Int(DType::U32, NONE));
                let wins = op(Op::And, [there, op(Op::Or, [op(Op::Or, [better, tie]), none])]);
                let vars = acc.vars.clone();
                self.when(wins, |s| {
                    s.e.set(vars[0], other[0].clone());
                    s.e.set(vars[1], other[1].clone());
                });
            }
            Join::Fold(k) => {
                let p: &Program = &self.p.folds[k as usize].combine;
                let inputs = match before {
                    None => [own, other[0].clone()],
                    Some(before) => {
                        let first = op(Op::Select, [before.clone(), other[0].clone(), own.clone()]);
                        let second = op(Op::Select, [before, own, other[0].clone()]);
                        [self.e.named("first", first), self.e.named("second", second)]
                    }
                };
                let next = self.inline(p, &inputs);
                self.e.set(acc.vars[0], next);
            }
            // the one with the larger maximum stays as it is: both threads of a pair get the same bits
            Join::Exp { .. } => {
                let max = Expr::Var(acc.vars[1]);
                let mine = self.e.named("mine", op(Op::Ge, [max.clone(), other[1].clone()]));
                let high = self.e.named("high", op(Op::Select, [mine.clone(), own.clone(), other[0].clone()]));
                let low = self.e.named("low", op(Op::Select, [mine, other[0].clone(), own]));
                let least = self.e.named("least", meet(Op::Min, acc.dtype, max.clone(), other[1].clone()));
                self.e.set(acc.vars[1], meet(Op::Max, acc.dtype, max.clone(), other[1].clone()));
                let base = finite_or_zero(acc.dtype, max);
                let scale = op(Op::Exp, [op(Op::Sub, [least, base])]);
                self.e.set(acc.vars[0], op(Op::Add, [high, op(Op::Mul, [low, scale])]));
            }
            // the same bits whichever comes first; what met no values changes nothing
            Join::Squares { .. } => {
                let one = constant(acc.dtype, 1.0);
                let at_least_one = |n: Expr| meet(Op::Max, acc.dtype, n, one.clone());
                let [_, sum, count] = [0, 1, 2].map(|k| Expr::Var(acc.vars[k]));
                let all = self.e.named("all", op(Op::Add, [count.clone(), other[2].clone()]));
                let means = [(&sum, &count), (&other[1], &other[2])];
                let means = means.map(|(sum, n)| op(Op::Div, [sum.clone(), at_least_one(n.clone())]));
                let apart = self.e.named("apart", op(Op::Sub, means));
                let weight = op(Op::Div, [op(Op::Mul, [count, other[2].clone()]), at_least_one(all.clone())]);
                let between = op(Op::Mul, [op(Op::Mul, [apart.clone(), weight]), apart]);
                let within = op(Op::Add, [own, other[0].clone()]);
                self.e.set(acc.vars[0], op(Op::Add, [within, between]));
                self.e.set(acc.vars[1], op(Op::Add, [sum, other[1].clone()]));
                self.e.set(acc.vars[2], all);
            }
        }
    }

    /// Begins a chunk of a sum that is found beside another reduction: gives what stood before, all of it.
    pub fn begin(&mut self, acc: &Acc) -> Vec<Expr> {
        let before = acc.vars.iter().map(|v| Expr::Var(self.e.scalar("before", Expr::Var(*v)))).collect();
        if let Join::Squares { .. } = acc.join {
            acc.vars.iter().for_each(|v| self.e.set(*v, constant(acc.dtype, 0.0)));
        }
        before
    }

    /// Looks at a value of the chunk, before any is taken in.
    pub fn look(&mut self, acc: &Acc, value: &Expr, inside: &Expr) {
        let beside = Expr::Var(acc.vars[1]);
        if let Join::Exp { .. } = acc.join {
            let value = select(inside.clone(), value.clone(), constant(acc.dtype, f64::NEG_INFINITY));
            return self.e.set(acc.vars[1], meet(Op::Max, acc.dtype, beside, value));
        }
        for (var, value) in [(acc.vars[1], value.clone()), (acc.vars[2], constant(acc.dtype, 1.0))] {
            let value = select(inside.clone(), value, constant(acc.dtype, 0.0));
            self.e.set(var, op(Op::Add, [Expr::Var(var), value]));
        }
    }

    /// Finds what the terms of the chunk are relative to. A sum of exponentials is made relative to it too: of no element
    /// it is 0 and the maximum before is −∞, and that stays 0, whatever comes.
    pub fn rebase(&mut self, acc: &Acc, before: &[Expr]) {
        let Some(base) = acc.base else { return };
        if let Join::Exp { .. } = acc.join {
            self.e.set(base, finite_or_zero(acc.dtype, Expr::Var(acc.vars[1])));
            let scale = op(Op::Exp, [op(Op::Sub, [before[1].clone(), Expr::Var(base)])]);
            return self.e.set(acc.vars[0], op(Op::Mul, [Expr::Var(acc.vars[0]), scale]));
        }
        let count = meet(Op::Max, acc.dtype, Expr::Var(acc.vars[2]), constant(acc.dtype, 1.0));
        self.e.set(base, op(Op::Div, [Expr::Var(acc.vars[1]), count]));
    }

    /// Ends a chunk: its squares join those before.
    pub fn end(&mut self, acc: &Acc, before: &[Expr]) {
        if let Join::Squares { .. } = acc.join {
            self.join(acc, before, None);
        }
    }

    /// Combines accumulators among `group` threads (a power of two) that follow one another from a multiple of
    /// `group` on. Gives the number of barriers that it took.
    pub fn across(&mut self, accs: &[Acc], group: u32) -> u32 {
        let (tops, others): (Vec<&Acc>, Vec<&Acc>) = accs.iter().partition(|a| matches!(a.join, Join::Top(_)));
        let barriers: u32 = tops.into_iter().map(|acc| self.rank_across(acc, group)).sum();
        let others: Vec<Acc> = others.into_iter().cloned().collect();
        barriers + if others.is_empty() { 0 } else { u32::from(self.values_across(&others, group)) }
    }

    /// The same of accumulators of one value. True if that took a barrier.
    fn values_across(&mut self, accs: &[Acc], group: u32) -> bool {
        let width = group.min(WARP);
        let mut distance = width / 2;
        while distance > 0 {
            for acc in accs {
                let other: Vec<Expr> = acc
                    .vars
                    .iter()
                    .map(|v| {
                        let value = Expr::Shuffle(Shuffle::Xor(distance), width, Box::new(Expr::Var(*v)));
                        if acc.join == Join::Op(Op::Add) { value } else { Expr::Var(self.e.scalar("other", value)) }
                    })
                    .collect();
                let bit = arith(Arith::BitAnd, thread(), int(i64::from(distance)));
                let before = op(Op::Not, [equal(bit, int(0))]);
                self.join(acc, &other, Some(before));
            }
            distance /= 2;
        }
        if group <= WARP {
            return false;
        }
        let (warps, all) = (group / WARP, self.cfg.threads / WARP);
        let warp = self.e.named("warp", arith(Arith::Div, thread(), int(i64::from(WARP))));
        let mut shared = vec![];
        for acc in accs {
            let of: Vec<u32> = acc
                .vars
                .iter()
                .map(|v| {
                    let var = self.e.kernel.vars[v.0 as usize].clone();
                    self.e.shared(&format!("{}_of_warp", var.name), var.dtype, all)
                })
                .collect();
            shared.push(of);
        }
        let lane = arith(Arith::BitAnd, thread(), int(i64::from(WARP - 1)));
        self.when(equal(lane, int(0)), |s| {
            for (acc, of) in accs.iter().zip(&shared) {
                for (v, k) in acc.vars.iter().zip(of) {
                    s.e.push(Stmt::Set(Place::Shared(*k, warp.clone()), Expr::Var(*v)));
                }
            }
        });
        self.e.push(Stmt::Barrier);
        // the first warp of this group of threads
        let base = if warps == all {
            int(0)
        } else {
            let group = arith(Arith::Div, thread(), int(i64::from(group)));
            self.e.named("first_warp", mul(group, int(i64::from(warps))))
        };
        for (acc, of) in accs.iter().zip(&shared) {
            for (v, k) in acc.vars.iter().zip(of) {
                self.e.set(*v, Expr::Shared(*k, Box::new(base.clone())));
            }
        }
        let var = self.e.var("w", DType::I32, 0);
        self.e.open();
        for (acc, of) in accs.iter().zip(&shared) {
            let other = of.iter().map(|k| Expr::Shared(*k, Box::new(add(base.clone(), Expr::Var(var)))));
            let other: Vec<Expr> = other.collect();
            self.join(acc, &other, None);
        }
        let body = self.e.close();
        self.e.push(Stmt::For { var, from: int(1), to: int(i64::from(warps)), step: int(1), unroll: true, body });
        true
    }

    /// Combines accumulators that each block of the cluster has of its slice of the row, in the order of the blocks: all
    /// end with equal bits.
    pub fn among_blocks(&mut self, accs: &[Acc]) {
        let mut slots = vec![];
        for v in accs.iter().flat_map(|a| &a.vars) {
            let var = self.e.kernel.vars[v.0 as usize].clone();
            slots.push((*v, self.e.shared(&format!("{}_of_block", var.name), var.dtype, 1)));
        }
        self.when(equal(thread(), int(0)), |s| {
            for (v, k) in &slots {
                s.e.push(Stmt::Set(Place::Shared(*k, int(0)), Expr::Var(*v)));
            }
        });
        self.e.push(Stmt::Arrive);
        self.e.push(Stmt::Await);
        let remote = |k: u32, rank: Expr| Expr::Remote(k, Box::new((int(0), rank)));
        for (v, k) in &slots {
            self.e.set(*v, remote(*k, int(0)));
        }
        let var = self.e.var("rank", DType::I32, 0);
        self.e.open();
        let mut slots = slots.into_iter();
        for acc in accs {
            let other = slots.by_ref().take(acc.vars.len()).map(|(_, k)| remote(k, Expr::Var(var)));
            let other: Vec<Expr> = other.map(|o| self.e.named("other", o)).collect();
            self.join(acc, &other, None);
        }
        let body = self.e.close();
        let to = int(i64::from(self.cfg.cluster));
        self.e.push(Stmt::For { var, from: int(1), to, step: int(1), unroll: true, body });
    }

    /// The results: of a reduction one, and the maximum that it carries; of ranks each that is asked for.
    pub fn results(&mut self, acc: &Acc) -> Vec<(Id, Expr)> {
        if let Join::Top(ranks) = acc.join {
            return self.ranked(acc, ranks);
        }
        let mut results = vec![(acc.id, self.result(acc))];
        if let Some(beside) = acc.carries() {
            results.push((beside, self.e.named("beside", acc.carried())));
        }
        results
    }

    /// The result of a reduction that has one.
    pub fn result(&mut self, acc: &Acc) -> Expr {
        match acc.join {
            Join::Arg(_) => {
                let col = Expr::Var(acc.vars[1]);
                let none = equal_op(col.clone(), Expr::Int(DType::U32, NONE));
                let value = op(Op::Select, [none, Expr::Int(DType::U32, 0), col]);
                self.e.named("found", value)
            }
            // relative to a maximum that is not finite, some term is NaN, if there is any
            Join::Exp { guarded: false, .. } => {
                let max = Expr::Var(acc.vars[1]);
                let cols = self.cols();
                let none = equal(cols, self.e.at(0));
                let exact = op(Op::Or, [is_finite(acc.dtype, max), none]);
                let value = op(Op::Select, [exact, Expr::Var(acc.vars[0]), constant(acc.dtype, f64::NAN)]);
                self.e.named("sum", value)
            }
            _ => Expr::Var(acc.vars[0]),
        }
    }
}

/// Two accumulated values. Of zeros, maxima and minima of floats may be either.
fn meet(o: Op, dtype: DType, a: Expr, b: Expr) -> Expr {
    match o {
        Op::Max if dtype.is_float() => arith(Arith::Max, a, b),
        Op::Min if dtype.is_float() => arith(Arith::Min, a, b),
        o => op(o, [a, b]),
    }
}

fn is_finite(dtype: DType, x: Expr) -> Expr {
    op(Op::Lt, [op(Op::Abs, [x]), constant(dtype, f64::INFINITY)])
}

/// What exponents are relative to whose maximum is `max`.
fn finite_or_zero(dtype: DType, max: Expr) -> Expr {
    op(Op::Select, [is_finite(dtype, max.clone()), max, constant(dtype, 0.0)])
}

pub(super) fn equal_op(a: Expr, b: Expr) -> Expr {
    op(Op::Eq, [a, b])
}

fn join_of(op: ReduceOp, dtype: DType) -> (Join, Expr) {
    let join = match op {
        ReduceOp::Sum => Join::Op(Op::Add),
        ReduceOp::Prod => Join::Op(Op::Mul),
        // the larger of two truth values is whether one of them holds
        ReduceOp::Max if dtype == DType::Bool => Join::Op(Op::Or),
        ReduceOp::Min if dtype == DType::Bool => Join::Op(Op::And),
        ReduceOp::Max => Join::Op(Op::Max),
        ReduceOp::Min => Join::Op(Op::Min),
        ReduceOp::Any => Join::Op(Op::Or),
        ReduceOp::All => Join::Op(Op::And),
        ReduceOp::ArgMax => Join::Arg(Op::Gt),
        ReduceOp::ArgMin => Join::Arg(Op::Lt),
        // by its own accumulator
        ReduceOp::Top(_) | ReduceOp::ArgTop(_) => Join::Op(Op::Max),
    };
    (join, constant(dtype, op.identity(dtype)))
}
