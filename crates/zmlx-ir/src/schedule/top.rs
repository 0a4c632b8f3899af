//! The largest of a row in order, values and columns together: all ranks of a value are one accumulator.
//!
//! A thread keeps its best so many in a sorted list and puts each element where it belongs: elements come by rising
//! columns, so one that equals another goes behind it, and no columns are compared. Then the heads of the lists of a warp
//! compete, rank by rank; whose head wins takes it off. What warps found they leave in shared memory as sorted lists, one a
//! lane, whose heads compete in the same way. So a rank is log(threads) shuffles, and the row is looked at once.
//!
//! Floats compete as integers (`Expr::Order`), so that NaN and zeros need no care.

use super::{
    emit::*,
    lower::Lower,
    reduce::{Acc, Join, NONE, equal_op},
};
use crate::{
    DType, Op,
    kernel::{Arith, Expr, Place, Shuffle, Stmt, VarId, WARP, ordered},
    program::{Id, Kind, Over, ReduceOp},
};

/// Elements a thread beyond which one is first compared with the last of its list: most are smaller.
const FEW: u32 = 16;

/// The ranks that are wanted of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ranks {
    /// How many.
    count: u32,
    /// Elements of a thread's list.
    list: u32,
    /// Where the ranks are once they are found: keys and columns.
    found: [VarId; 2],
}

impl Lower<'_> {
    /// The rank of a reduction that has one.
    fn rank(&self, id: Id) -> Option<ReduceOp> {
        match self.p.node(id).kind {
            Kind::Reduce(op, Over::Cols) if op.rank().is_some() => Some(op),
            _ => None,
        }
    }

    /// The reductions to a rank of the same value.
    fn siblings(&self, id: Id) -> Vec<(Id, ReduceOp)> {
        let arg = self.p.node(id).args[0];
        let of = |i: Id| self.rank(i).filter(|_| self.early(i) && self.p.node(i).args[0] == arg).map(|op| (i, op));
        self.p.ids().filter_map(of).collect()
    }

    /// Does an accumulator begin with it: is it no rank, or the first one of its value?
    pub fn begins(&self, id: Id) -> bool {
        self.rank(id).is_none() || self.siblings(id).first().is_some_and(|s| s.0 == id)
    }

    /// How many ranks are wanted of the value that it is a rank of.
    pub fn ranks(&self, id: Id) -> Option<u32> {
        self.rank(id)?;
        let ranks = self.siblings(id).into_iter().filter_map(|s| s.1.rank());
        ranks.max().map(|rank| u32::from(rank) + 1)
    }

    /// Declares the accumulator.
    pub fn top(&mut self, id: Id, count: u32) -> Acc {
        let dtype = self.p.node(self.p.node(id).args[0]).dtype;
        let list = if self.resident() { count.min(self.cfg.vector * self.cfg.chunks) } else { count };
        let key = if dtype.is_float() { ordered(dtype) } else { DType::I64 };
        let array =
            |s: &mut Self, name: &str, dtype: DType, len: u32| s.e.array(&format!("{name}_{}", id.0), dtype, len);
        let found = [array(self, "found", key, count), array(self, "found_col", DType::U32, count)];
        let vars = vec![array(self, "best", key, list), array(self, "best_col", DType::U32, list)];
        let (keys, cols) = (vars[0], vars[1]);
        self.unrolled("j", list, |s, j| s.put([keys, cols], j, [least(key), none()]));
        let identity = least(key);
        Acc { id, join: Join::Top(Ranks { count, list, found }), dtype, vars, identity, base: None }
    }

    /// Takes an element in.
    pub fn insert(&mut self, acc: &Acc, ranks: Ranks, value: &Expr, inside: &Expr, col: &Expr, place: Option<&Expr>) {
        let lists = [acc.vars[0], acc.vars[1]];
        let last = ranks.list - 1;
        let key = match acc.dtype.is_float() {
            true => Expr::Order(Box::new(value.clone())),
            false => op(Op::Cast(DType::I64), [value.clone()]),
        };
        let col = op(Op::Cast(DType::U32), [col.clone()]);
        let (key, col) = (self.e.named("key", key), self.e.named("key_col", col));
        // of integers, the least is a value too
        let integers = !acc.dtype.is_float();
        let beats = |at: Expr| {
            let larger = op(Op::Gt, [key.clone(), lane(lists[0], at.clone())]);
            if integers { op(Op::Or, [larger, equal_op(lane(lists[1], at), none())]) } else { larger }
        };
        let few = self.resident() && self.cfg.vector * self.cfg.chunks <= FEW;
        let wanted = if few { inside.clone() } else { and(inside.clone(), beats(int(i64::from(last)))) };
        self.when(wanted, |s| {
            // from the end: what is behind its place moves on by one
            s.unrolled_from_end("j", last, |s, at| {
                let before = sub(at.clone(), int(1));
                let there = place.map_or(truth(true), |place| arith(Arith::Le, at.clone(), place.clone()));
                s.when(and(there, beats(at.clone())), |s| {
                    let passes = s.e.named("passes", beats(before.clone()));
                    let of = |list: VarId, own: &Expr| {
                        op(Op::Select, [passes.clone(), lane(list, before.clone()), own.clone()])
                    };
                    let both = [of(lists[0], &key), of(lists[1], &col)];
                    s.put(lists, at, both);
                });
            });
            s.when(beats(int(0)), |s| s.put(lists, int(0), [key.clone(), col.clone()]));
        });
    }

    /// Finds the ranks among `group` threads. Gives the number of barriers that it took.
    pub fn rank_across(&mut self, acc: &Acc, group: u32) -> u32 {
        let Join::Top(ranks) = acc.join else { return 0 };
        let lists = [acc.vars[0], acc.vars[1]];
        let key = self.e.kernel.vars[lists[0].0 as usize].dtype;
        let width = group.min(WARP);
        self.unrolled("r", ranks.count, |s, r| {
            let head = lists.map(|list| lane(list, int(0)));
            let won = s.compete(head.clone(), width);
            s.put(ranks.found, r.clone(), won.clone());
            s.when(equal_op(won[1].clone(), head[1].clone()), |s| {
                // what is left of the list is looked at no more often than there are ranks left
                s.unrolled_from_end("j", ranks.list - 1, |s, from_end| {
                    let j = sub(int(i64::from(ranks.list) - 1), from_end);
                    let left = sub(int(i64::from(ranks.count) - 1), r);
                    let next = add(j.clone(), int(1));
                    let move_up = lists.map(|list| lane(list, next.clone()));
                    s.when(lt(j.clone(), left), |s| s.put(lists, j, move_up));
                });
                s.put(lists, int(i64::from(ranks.list) - 1), [least(key), none()]);
            });
        });
        if group <= WARP {
            return 0;
        }
        self.rank_warps(ranks, key, group);
        1
    }

    /// Finds the ranks among those that each warp found.
    fn rank_warps(&mut self, ranks: Ranks, key: DType, group: u32) {
        let (warps, all) = (group / WARP, self.cfg.threads / WARP);
        let count = i64::from(ranks.count);
        let shared = ranks.found.map(|var| {
            let var = self.e.kernel.vars[var.0 as usize].clone();
            self.e.shared(&format!("{}_of_warp", var.name), var.dtype, all * ranks.count)
        });
        let warp = self.e.named("warp", arith(Arith::Div, thread(), int(i64::from(WARP))));
        let lane_of_warp = arith(Arith::BitAnd, thread(), int(i64::from(WARP - 1)));
        self.when(equal(lane_of_warp, int(0)), |s| {
            s.unrolled("r", ranks.count, |s, r| {
                for (k, var) in shared.iter().zip(ranks.found) {
                    let at = add(mul(warp.clone(), int(count)), r.clone());
                    s.e.push(Stmt::Set(Place::Shared(*k, at), lane(var, r.clone())));
                }
            });
        });
        self.e.push(Stmt::Barrier);
        // the list of this lane: of one of the warps that share the row
        let first = arith(Arith::Div, thread(), int(i64::from(group)));
        let own = add(mul(first, int(i64::from(warps))), arith(Arith::BitAnd, thread(), int(i64::from(warps - 1))));
        let own = self.e.named("list", mul(own, int(count)));
        let next = self.e.scalar("next", int(0));
        let at = |next: Expr| add(own.clone(), next);
        let head = shared.map(|k| {
            let value = Expr::Shared(k, Box::new(at(int(0))));
            self.e.scalar("head", value)
        });
        self.unrolled("r", ranks.count, |s, r| {
            let won = s.compete(head.map(Expr::Var), warps);
            s.put(ranks.found, r, won.clone());
            s.when(equal_op(won[1].clone(), Expr::Var(head[1])), |s| {
                s.e.set(next, add(Expr::Var(next), int(1)));
                let more = s.e.named("more", lt(Expr::Var(next), int(count)));
                for ((var, k), nothing) in head.into_iter().zip(shared).zip([least(key), none()]) {
                    let value = Expr::Shared(k, Box::new(at(Expr::Var(next))));
                    s.e.set(var, pick(more.clone(), value, nothing));
                }
            });
        });
    }

    /// The best of the heads of `width` lanes, with its column.
    fn compete(&mut self, head: [Expr; 2], width: u32) -> [Expr; 2] {
        let [key, col] = head.map(|e| self.e.scalar("won", e));
        let mut distance = width / 2;
        while distance > 0 {
            let [other, other_col] = [key, col].map(|v| {
                let value = Expr::Shuffle(Shuffle::Xor(distance), width, Box::new(Expr::Var(v)));
                Expr::Var(self.e.scalar("other", value))
            });
            let larger = op(Op::Gt, [other.clone(), Expr::Var(key)]);
            let same = equal_op(other.clone(), Expr::Var(key));
            let sooner = op(Op::Lt, [other_col.clone(), Expr::Var(col)]);
            let better = op(Op::Or, [larger, op(Op::And, [same, sooner])]);
            let better = self.e.named("better", better);
            self.e.set(key, op(Op::Select, [better.clone(), other, Expr::Var(key)]));
            self.e.set(col, op(Op::Select, [better, other_col, Expr::Var(col)]));
            distance /= 2;
        }
        [key, col].map(Expr::Var)
    }

    /// The values and columns of the ranks that are asked for.
    pub fn ranked(&mut self, acc: &Acc, ranks: Ranks) -> Vec<(Id, Expr)> {
        let of = |(id, reduction): (Id, ReduceOp)| {
            let at = int(i64::from(reduction.rank().unwrap_or(0)));
            let [key, col] = ranks.found.map(|list| lane(list, at.clone()));
            let nobody = equal_op(col.clone(), none());
            let value = match reduction {
                ReduceOp::ArgTop(_) => op(Op::Select, [nobody, Expr::Int(DType::U32, 0), col]),
                _ => {
                    let value = match acc.dtype.is_float() {
                        true => Expr::Unorder(Box::new(key)),
                        false => op(Op::Cast(acc.dtype), [key]),
                    };
                    op(Op::Select, [nobody, constant_of(acc.dtype, reduction), value])
                }
            };
            (id, value)
        };
        let found: Vec<(Id, Expr)> = self.siblings(acc.id).into_iter().map(of).collect();
        found.into_iter().map(|(id, value)| (id, self.name(id, value))).collect()
    }

    /// Sets an element of the lists of keys and of columns.
    fn put(&mut self, lists: [VarId; 2], at: Expr, values: [Expr; 2]) {
        for (list, value) in lists.into_iter().zip(values) {
            self.e.push(Stmt::Set(Place::Lane(list, at.clone()), value));
        }
    }

    /// An unrolled loop over n, n − 1 … 1.
    fn unrolled_from_end(&mut self, name: &str, n: u32, f: impl FnOnce(&mut Self, Expr)) {
        if n > 0 {
            self.unrolled(name, n, |s, j| f(s, sub(int(i64::from(n)), j)));
        }
    }
}

fn lane(list: VarId, at: Expr) -> Expr {
    Expr::Lane(list, Box::new(at))
}

/// No column: of an element that is not there.
fn none() -> Expr {
    Expr::Int(DType::U32, NONE)
}

/// The key of an element that is not there.
fn least(key: DType) -> Expr {
    Expr::Int(key, key.int_range().0)
}

fn constant_of(dtype: DType, reduction: ReduceOp) -> Expr {
    let (least, _) = dtype.int_range();
    if dtype.is_float() { constant(dtype, reduction.identity(dtype)) } else { Expr::Int(dtype, least) }
}
