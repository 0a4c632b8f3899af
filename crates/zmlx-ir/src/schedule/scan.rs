//! Running sums, products and maxima along rows that are held in registers. A thread folds the elements of a chunk; a warp
//! scans these by shuffles, a block by its warps' totals in shared memory; what came before is then carried through the
//! elements, and on to the next chunks of the row.
//!
//! The order in which elements are combined depends on the configuration alone.

use super::{emit::*, lower::Lower};
use crate::{
    Op,
    kernel::{Arith, Expr, Place, Shuffle, Stmt, VarId, WARP},
    program::{Id, Kind, ScanOp},
};

/// The op that a scan combines by, and its identity. None for recurrences, whose elements are pairs.
pub(super) fn op_of(s: &Lower<'_>, id: Id) -> Option<(Op, Expr)> {
    let node = s.p.node(id);
    let Kind::Scan(scan) = node.kind else { return None };
    let least = if node.dtype.is_float() { f64::NEG_INFINITY } else { node.dtype.int_range().0 as f64 };
    Some(match scan.op {
        ScanOp::Sum => (Op::Add, constant(node.dtype, 0.0)),
        ScanOp::Prod => (Op::Mul, constant(node.dtype, 1.0)),
        ScanOp::Max => (Op::Max, constant(node.dtype, least)),
        ScanOp::Affine => return None,
    })
}

impl Lower<'_> {
    /// Scans the row held in `from`; gives the array that holds the result. `lane` is the thread among those of its row,
    /// a warp or more.
    pub fn scan(&mut self, id: Id, from: VarId, lane: &Expr) -> VarId {
        let node = self.p.node(id);
        let (Kind::Scan(scan), Some((o, identity))) = (node.kind, op_of(self, id)) else { return from };
        let (vector, chunks) = (self.cfg.vector, self.cfg.chunks);
        let to = self.e.array(&format!("scan_{}", id.0), node.dtype, vector * chunks);
        let carry = self.e.scalar(&format!("carry_{}", id.0), identity.clone());
        let warps = self.cfg.row_threads / WARP;
        let shared = (warps > 1).then(|| {
            let all = self.cfg.threads / WARP;
            self.e.shared(&format!("scan_{}_of_warp", id.0), node.dtype, all)
        });
        let last = i64::from(chunks) - 1;
        let in_order = |n: i64, i: Expr| if scan.reverse { sub(int(n), i) } else { i };
        self.unrolled("c", chunks, |s, c| {
            let chunk = mul(in_order(last, c), int(i64::from(vector)));
            let element = |i: Expr| add(chunk.clone(), in_order(i64::from(vector) - 1, i));
            let total = s.e.scalar("total", identity.clone());
            s.unrolled("i", vector, |s, i| {
                let x = Expr::Lane(from, Box::new(element(i)));
                s.e.set(total, op(o, [Expr::Var(total), x]));
            });
            let run = s.before(o, &identity, total, carry, shared, lane, scan.reverse);
            s.unrolled("i", vector, |s, i| {
                let at = element(i);
                let next = op(o, [Expr::Var(run), Expr::Lane(from, Box::new(at.clone()))]);
                let set = |s: &mut Self| s.e.push(Stmt::Set(Place::Lane(to, at), Expr::Var(run)));
                if scan.exclusive {
                    set(s);
                    s.e.set(run, next);
                } else {
                    s.e.set(run, next);
                    set(s);
                }
            });
        });
        to
    }

    /// What comes before this thread's chunk, from the totals of all threads; `carry` goes on behind them.
    #[allow(clippy::too_many_arguments, reason = "the parts of one step of a scan")]
    fn before(
        &mut self,
        o: Op,
        identity: &Expr,
        total: VarId,
        carry: VarId,
        shared: Option<u32>,
        lane: &Expr,
        reverse: bool,
    ) -> VarId {
        let place = arith(Arith::BitAnd, thread(), int(i64::from(WARP - 1)));
        let place = self.e.named("place", place);
        let by = |n: u32| if reverse { Shuffle::Down(n) } else { Shuffle::Up(n) };
        // is there a lane so many before?
        let has = |n: u32| match reverse {
            true => lt(place.clone(), int(i64::from(WARP - n))),
            false => arith(Arith::Le, int(i64::from(n)), place.clone()),
        };
        let mut distance = 1;
        while distance < WARP {
            let other = Expr::Shuffle(by(distance), WARP, Box::new(Expr::Var(total)));
            let other = self.e.named("other", other);
            let sum = op(o, [other, Expr::Var(total)]);
            self.e.set(total, op(Op::Select, [has(distance), sum, Expr::Var(total)]));
            distance *= 2;
        }
        let above = Expr::Shuffle(by(1), WARP, Box::new(Expr::Var(total)));
        let above = self.e.named("above", above);
        let above = op(Op::Select, [has(1), above, identity.clone()]);
        let end = if reverse { 0 } else { WARP - 1 };
        let Some(shared) = shared else {
            let run = self.e.scalar("run", op(o, [Expr::Var(carry), above]));
            let whole = Expr::Shuffle(Shuffle::Lane(end), WARP, Box::new(Expr::Var(total)));
            let whole = self.e.named("whole", whole);
            self.e.set(carry, op(o, [Expr::Var(carry), whole]));
            return run;
        };
        let warp = self.e.named("warp", arith(Arith::Div, thread(), int(i64::from(WARP))));
        let stores = equal(place.clone(), int(i64::from(end)));
        self.when(stores, |s| s.e.push(Stmt::Set(Place::Shared(shared, warp.clone()), Expr::Var(total))));
        self.e.push(Stmt::Barrier);
        let warps = self.cfg.row_threads / WARP;
        let mine = arith(Arith::Div, lane.clone(), int(i64::from(WARP)));
        let mine = self.e.named("mine", mine);
        let run = self.e.scalar("run", Expr::Var(carry));
        self.unrolled("w", warps, |s, w| {
            let w = if reverse { sub(int(i64::from(warps) - 1), w) } else { w };
            let w = s.e.named("of", w);
            let at = add(sub(warp, mine.clone()), w.clone());
            let value = s.e.named("value", Expr::Shared(shared, Box::new(at)));
            let earlier = if reverse { lt(mine, w) } else { lt(w, mine) };
            let sum = op(o, [Expr::Var(run), value.clone()]);
            s.e.set(run, op(Op::Select, [earlier, sum, Expr::Var(run)]));
            s.e.set(carry, op(o, [Expr::Var(carry), value]));
        });
        self.e.set(run, op(o, [Expr::Var(run), above]));
        self.e.push(Stmt::Barrier);
        run
    }
}
