//! Running sums, products, maxima and recurrences along rows. A thread folds the elements of a chunk; a warp scans these by
//! shuffles, a block by its warps' totals in shared memory; what came before is then carried through the elements, and on
//! to the next chunks of the row. The same serves rows that are held in registers and rows that are walked along, tile by
//! tile in the order of the scan.
//!
//! What is carried is one value, the *state*. A stretch of the row acts on it: by an op with one value, or, for the
//! recurrence h = b + s, s = a·h, as s → A·s + B with a pair (A, B). Of stretches only these *actions* meet, always first
//! with second, so recurrences need not commute.
//!
//! The order in which elements are combined depends on the configuration alone.

use super::{emit::*, lower::Lower};
use crate::{
    DType, Op,
    kernel::{Arith, Expr, Place, Shuffle, Stmt, VarId, WARP},
    program::{Id, Kind, Scan, ScanOp},
};

/// A scan being made: its arguments in arrays, its result, and what is carried.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub id: Id,
    scan: Scan,
    dtype: DType,
    /// Arrays of the arguments, one for each.
    pub terms: Vec<VarId>,
    /// The array of the result.
    pub made: VarId,
    state: VarId,
    /// Shared arrays by which warps meet, one for each value of an action.
    shared: Vec<u32>,
}

/// Is it a scan?
pub(super) fn of(kind: Kind) -> Option<Scan> {
    if let Kind::Scan(scan) = kind { Some(scan) } else { None }
}

impl Lower<'_> {
    /// Declares what a scan needs for arrays of so many elements, before the row begins.
    pub fn running(&mut self, id: Id, lanes: u32) -> Option<Running> {
        let p = self.p;
        let node = p.node(id);
        let scan = of(node.kind)?;
        let terms = node.args.iter().enumerate();
        let terms = terms.map(|(k, a)| self.e.array(&format!("terms_{}_{k}", id.0), p.node(*a).dtype, lanes)).collect();
        let made = self.e.array(&format!("scan_{}", id.0), node.dtype, lanes);
        let start = start(scan.op, node.dtype);
        let state = self.e.scalar(&format!("carry_{}", id.0), start.clone());
        let all = self.cfg.threads / WARP;
        let action = if scan.op == ScanOp::Affine { 2 } else { 1 };
        let shared = match self.cfg.row_threads > WARP {
            true => (0..action).map(|_| self.e.shared(&format!("scan_{}_of_warp", id.0), node.dtype, all)).collect(),
            false => vec![],
        };
        Some(Running { id, scan, dtype: node.dtype, terms, made, state, shared })
    }

    /// Writes an element's arguments; one that is not `inside` changes no state.
    pub fn set_terms(&mut self, r: &Running, at: &Expr, values: &[Expr], inside: &Expr) {
        for (k, (var, value)) in r.terms.iter().zip(values).enumerate() {
            // h = 0 + s, s = 1·h
            let nothing = match (r.scan.op, k) {
                (ScanOp::Affine, 0) => constant(r.dtype, 1.0),
                (op, _) => start(op, r.dtype),
            };
            let value = op(Op::Select, [inside.clone(), value.clone(), nothing]);
            self.e.push(Stmt::Set(Place::Lane(*var, at.clone()), value));
        }
    }

    /// Scans the next `chunks` chunks of the row, whose arguments are set. `lane` is the thread among those of its row.
    pub fn scan(&mut self, r: &Running, chunks: u32, lane: &Expr) {
        let vector = self.cfg.vector;
        let reverse = r.scan.reverse;
        let in_order = |n: i64, i: Expr| if reverse { sub(int(n), i) } else { i };
        self.unrolled("c", chunks, |s, c| {
            let chunk = mul(in_order(i64::from(chunks) - 1, c), int(i64::from(vector)));
            let element = |i: Expr| add(chunk.clone(), in_order(i64::from(vector) - 1, i));
            let total: Vec<VarId> = identity(r).into_iter().map(|e| s.e.scalar("total", e)).collect();
            s.unrolled("i", vector, |s, i| {
                let at = element(i);
                let term = |k: usize| Expr::Lane(r.terms[k], Box::new(at.clone()));
                let next = match r.scan.op {
                    ScanOp::Affine => {
                        let h = op(Op::Add, [term(1), Expr::Var(total[1])]);
                        vec![op(Op::Mul, [Expr::Var(total[0]), term(0)]), op(Op::Mul, [term(0), h])]
                    }
                    _ => join(r, &values(&total), &[term(0)]),
                };
                s.assign(&total, next);
            });
            let state = s.before(r, &total, lane);
            s.unrolled("i", vector, |s, i| {
                let at = element(i);
                let term = |k: usize| Expr::Lane(r.terms[k], Box::new(at.clone()));
                let set = |s: &mut Self, value: Expr| s.e.push(Stmt::Set(Place::Lane(r.made, at.clone()), value));
                let own = Expr::Var(state);
                if r.scan.exclusive {
                    set(s, own.clone());
                }
                let next = match r.scan.op {
                    ScanOp::Affine => {
                        let h = s.e.named("h", op(Op::Add, [term(1), own]));
                        if !r.scan.exclusive {
                            set(s, h.clone());
                        }
                        op(Op::Mul, [term(0), h])
                    }
                    _ => act(r, own, &[term(0)]),
                };
                s.e.set(state, next);
                if !r.scan.exclusive && r.scan.op != ScanOp::Affine {
                    set(s, Expr::Var(state));
                }
            });
        });
    }

    /// The state before this thread's chunk, from the actions of all threads; what is carried goes on behind them.
    fn before(&mut self, r: &Running, total: &[VarId], lane: &Expr) -> VarId {
        let reverse = r.scan.reverse;
        let width = self.cfg.row_threads.min(WARP);
        let carry = Expr::Var(r.state);
        if width == 1 {
            let run = self.e.scalar("run", carry.clone());
            let next = act(r, carry, &values(total));
            self.e.set(r.state, next);
            return run;
        }
        let place = arith(Arith::BitAnd, thread(), int(i64::from(width - 1)));
        let place = self.e.named("place", place);
        let by = |n: u32| if reverse { Shuffle::Down(n) } else { Shuffle::Up(n) };
        // is there a lane so many before?
        let has = |n: u32| match reverse {
            true => lt(place.clone(), int(i64::from(width - n))),
            false => arith(Arith::Le, int(i64::from(n)), place.clone()),
        };
        let moved = |s: &mut Self, by: Shuffle, name: &str| -> Vec<Expr> {
            let one = |v: &VarId| s.e.named(name, Expr::Shuffle(by, width, Box::new(Expr::Var(*v))));
            total.iter().map(one).collect()
        };
        let mut distance = 1;
        while distance < width {
            let other = moved(self, by(distance), "other");
            let both = join(r, &other, &values(total));
            let next = both.into_iter().zip(values(total));
            let next = next.map(|(both, own)| op(Op::Select, [has(distance), both, own])).collect();
            self.assign(total, next);
            distance *= 2;
        }
        let above = moved(self, by(1), "above");
        let above = above.into_iter().zip(identity(r)).map(|(a, none)| op(Op::Select, [has(1), a, none]));
        let above: Vec<Expr> = above.map(|a| self.e.named("above", a)).collect();
        let end = if reverse { 0 } else { width - 1 };
        if r.shared.is_empty() {
            let run = self.e.scalar("run", act(r, carry.clone(), &above));
            let whole = moved(self, Shuffle::Lane(end), "whole");
            self.e.set(r.state, act(r, carry, &whole));
            return run;
        }
        let warp = self.e.named("warp", arith(Arith::Div, thread(), int(i64::from(WARP))));
        let stores = equal(place.clone(), int(i64::from(end)));
        self.when(stores, |s| {
            for (k, v) in r.shared.iter().zip(total) {
                s.e.push(Stmt::Set(Place::Shared(*k, warp.clone()), Expr::Var(*v)));
            }
        });
        self.e.push(Stmt::Barrier);
        let warps = self.cfg.row_threads / WARP;
        let mine = arith(Arith::Div, lane.clone(), int(i64::from(WARP)));
        let mine = self.e.named("mine", mine);
        let run = self.e.scalar("run", carry);
        self.unrolled("w", warps, |s, w| {
            let w = if reverse { sub(int(i64::from(warps) - 1), w) } else { w };
            let w = s.e.named("of", w);
            let at = add(sub(warp, mine.clone()), w.clone());
            let one = |k: &u32| s.e.named("value", Expr::Shared(*k, Box::new(at.clone())));
            let value: Vec<Expr> = r.shared.iter().map(one).collect();
            let earlier = if reverse { lt(mine, w) } else { lt(w, mine) };
            let next = act(r, Expr::Var(run), &value);
            s.e.set(run, op(Op::Select, [earlier, next, Expr::Var(run)]));
            s.e.set(r.state, act(r, Expr::Var(r.state), &value));
        });
        let next = act(r, Expr::Var(run), &above);
        self.e.set(run, next);
        self.e.push(Stmt::Barrier);
        run
    }

    /// Assigns all at once: each value is made of the variables as they were.
    fn assign(&mut self, vars: &[VarId], values: Vec<Expr>) {
        let values = match values.len() {
            1 => values,
            _ => values.into_iter().map(|v| self.e.named("next", v)).collect(),
        };
        for (var, value) in vars.iter().zip(values) {
            self.e.set(*var, value);
        }
    }
}

fn values(vars: &[VarId]) -> Vec<Expr> {
    vars.iter().map(|v| Expr::Var(*v)).collect()
}

/// The state before a row.
fn start(scan: ScanOp, dtype: DType) -> Expr {
    let least = if dtype.is_float() { f64::NEG_INFINITY } else { dtype.int_range().0 as f64 };
    match scan {
        ScanOp::Sum | ScanOp::Affine => constant(dtype, 0.0),
        ScanOp::Prod => constant(dtype, 1.0),
        ScanOp::Max => constant(dtype, least),
    }
}

/// The action that changes nothing.
fn identity(r: &Running) -> Vec<Expr> {
    match r.scan.op {
        ScanOp::Affine => vec![constant(r.dtype, 1.0), constant(r.dtype, 0.0)],
        op => vec![start(op, r.dtype)],
    }
}

fn plain(scan: ScanOp) -> Op {
    match scan {
        ScanOp::Sum | ScanOp::Affine => Op::Add,
        ScanOp::Prod => Op::Mul,
        ScanOp::Max => Op::Max,
    }
}

/// The state after an action. A product A of factors may overflow where there is no state yet: 0 stays 0.
fn act(r: &Running, state: Expr, action: &[Expr]) -> Expr {
    match (r.scan.op, action) {
        (ScanOp::Affine, [a, b]) => op(Op::Add, [op(Op::Mulz, [state, a.clone()]), b.clone()]),
        (o, action) => op(plain(o), [state, action[0].clone()]),
    }
}

/// One action, then another.
fn join(r: &Running, first: &[Expr], second: &[Expr]) -> Vec<Expr> {
    match (first, second) {
        ([a, b], second) => vec![op(Op::Mul, [a.clone(), second[0].clone()]), act(r, b.clone(), second)],
        (first, second) => vec![act(r, first[0].clone(), second)],
    }
}
