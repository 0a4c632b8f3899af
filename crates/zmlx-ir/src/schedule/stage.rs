//! One stage of a row: what it computes, the reductions and scans that end it, and the chunks between.

use super::{
    Config, Strategy,
    chunk::{Chunk, Work, chunk, chunk_at, compute, input_arrays, load},
    emit::*,
    hold::held,
    lower::{Lower, is_along},
    reduce::Acc,
    rows::Rows,
    scan,
    walk::walk,
};
use crate::{
    Extent,
    kernel::{Expr, Stmt},
    program::Id,
};

impl Rows<'_> {
    pub(super) fn stage(&mut self, stage: u32) {
        self.s.row_values(stage);
        self.store_rows(stage);
        self.sum_row_values(stage);
        let mut work = self.work(stage);
        let lanes = self.s.cfg.vector * self.s.cfg.chunks;
        let scans: Vec<Id> = std::mem::take(&mut work.held_scans);
        work.scans = scans.into_iter().filter_map(|id| self.s.running(id, lanes)).collect();
        // what is found beside a sum is not found twice
        let beside: Vec<Id> = work.reductions.iter().filter_map(|id| self.s.online(*id)).map(|o| o.beside).collect();
        let begins = work.reductions.iter().copied().filter(|id| !beside.contains(id) && self.s.begins(*id));
        let begins: Vec<Id> = begins.collect();
        let accs: Vec<Acc> = begins.into_iter().map(|id| self.s.accumulator(id)).collect();
        for id in std::mem::take(&mut work.to_keep) {
            let var = self.s.e.array(&format!("v_{}_held", id.0), held(self.s.p, id, self.s.cfg.vector), lanes);
            work.kept.push((id, var));
        }
        if !work.roots.is_empty() {
            self.chunks(&work, &accs);
        }
        // not before: the stage that makes them reads what they are made of
        for (id, var) in &work.kept {
            self.s.held[id.index()] = Some(*var);
        }
        if !accs.is_empty() {
            self.barriers += self.s.across(&accs, self.s.cfg.row_threads);
        }
        if !accs.is_empty() && self.s.cfg.cluster > 1 {
            self.s.among_blocks(&accs);
            // the others may end, or go on to the next row, as soon as this block has read what it wants
            if self.last_reduction() == Some(stage) {
                self.s.e.push(Stmt::Arrive);
            }
        }
        for acc in &accs {
            for (id, result) in self.s.results(acc) {
                self.s.known[id.index()] = Some(result);
            }
        }
        let lane = self.lane.clone();
        for r in &work.scans {
            self.s.scan(r, self.s.cfg.chunks, &lane);
            self.s.held[r.id.index()] = Some(r.made);
            self.barriers += 2;
        }
    }

    /// The last stage that ends with reductions along the row.
    pub(super) fn last_reduction(&self) -> Option<u32> {
        let s = &self.s;
        let along = s.p.ids().filter(|i| s.early(*i) && is_along(s.p.node(*i).kind));
        along.map(|i| s.args_stage(i)).max()
    }

    fn work(&self, stage: u32) -> Work {
        let s = &self.s;
        let mut work = Work::default();
        for id in s.p.ids().filter(|i| s.early(*i)) {
            let node = s.p.node(id);
            if is_along(node.kind) && s.args_stage(id) == stage {
                if scan::of(node.kind).is_none() {
                    work.reductions.push(id);
                    work.roots.extend(s.terms(id));
                } else if s.resident() {
                    work.held_scans.push(id);
                    work.roots.extend(&node.args);
                }
            }
            if s.keep[id.index()] && s.stage[id.index()] == stage && s.held[id.index()].is_none() {
                work.to_keep.push(id);
                work.roots.push(id);
            }
        }
        for (slot, o) in s.p.outputs.iter().enumerate() {
            if o.extent == Extent::ELEM && s.stage[o.node.index()] == stage {
                work.outputs.push((slot, o.node));
                work.roots.push(o.node);
            }
        }
        let sums = self.sums.cols.iter().map(|c| c.0).chain(self.sums.all.iter().map(|a| a.id));
        for id in sums {
            let arg = s.p.node(id).args[0];
            if s.stage[arg.index()] == stage && s.p.node(arg).extent.has_cols() {
                work.sums.push((id, arg));
                work.roots.push(arg);
            }
        }
        work
    }

    /// Outputs of one value a row, by the first thread of the row.
    fn store_rows(&mut self, stage: u32) {
        let s = &mut self.s;
        let inputs = s.p.inputs.len();
        let of_stage = |o: &crate::program::Output| o.extent == Extent::ROW && s.stage[o.node.index()] == stage;
        let stores: Vec<(usize, Id)> =
            s.p.outputs.iter().enumerate().filter(|(_, o)| of_stage(o)).map(|(k, o)| (k, o.node)).collect();
        if stores.is_empty() {
            return;
        }
        let first = if s.cfg.row_threads == 1 { truth(true) } else { equal(self.lane.clone(), int(0)) };
        let condition = and(first, s.row_lives.clone());
        s.when(condition, |s| {
            let columns = s.p.columns();
            for (k, id) in stores {
                let first = mul(s.row.clone(), s.e.at(columns[k].width as u32));
                let at = add(first, s.e.at(columns[k].column as u32));
                let value = s.stored(k, s.known_value(id));
                s.e.push(Stmt::Store(s.tensors[inputs + k].buffer, at, value));
            }
        });
    }

    /// Sums over the rows of values of a row: the first thread of a row takes them.
    fn sum_row_values(&mut self, stage: u32) {
        for acc in self.sums.all.clone() {
            let arg = self.s.p.node(acc.id).args[0];
            if self.s.p.node(arg).extent.has_cols() || self.s.stage[arg.index()] != stage {
                continue;
            }
            let first = if self.s.cfg.row_threads == 1 { truth(true) } else { equal(self.lane.clone(), int(0)) };
            let mine = and(first, self.s.row_lives.clone());
            let value = self.s.known_value(arg);
            let zero = self.s.e.at(0);
            self.s.accumulate(&acc, &[value], &mine, &zero, None);
        }
    }

    /// The thread's chunks of the row.
    fn chunks(&mut self, work: &Work, accs: &[Acc]) {
        let Config { strategy, vector, chunks, .. } = self.s.cfg;
        let holders = self.s.cfg.holders();
        let sums = &self.sums;
        if strategy == Strategy::Looped {
            let count = self.s.e.index_field("chunks", crate::kernel::Role::Chunks(vector));
            let needed = self.s.needed(&work.roots);
            let scans = self.s.p.ids().filter(|i| needed[i.index()] && scan::of(self.s.p.node(*i).kind).is_some());
            let scans: Vec<Id> = scans.collect();
            if !scans.is_empty() {
                let barriers = walk(&mut self.s, work, accs, sums, &scans, count, &self.lane);
                self.barriers += barriers;
                return;
            }
            let (from, step) = (self.s.e.widen(self.lane.clone()), self.s.e.at(holders * chunks));
            self.s.counted("chunk", from, count, step, |s, first| {
                let at = |s: &Lower<'_>, c: Expr| add(first.clone(), s.e.widen(mul(c, int(i64::from(holders)))));
                if chunks == 1 {
                    return chunk(s, work, accs, sums, first.clone(), int(0));
                }
                // all loads are under way before the first one is waited for; past the end nothing is inside
                let arrays = input_arrays(s, work, chunks);
                let lane = |c: &Expr| mul(c.clone(), int(i64::from(vector)));
                s.unrolled("c", chunks, |s, c| {
                    let (col, full) = chunk_at(s, at(s, c.clone()));
                    load(s, &arrays, &lane(&c), &col, &full);
                });
                s.unrolled("c", chunks, |s, c| {
                    let (col, full) = chunk_at(s, at(s, c.clone()));
                    compute(s, work, accs, sums, Chunk { col, full, lane: lane(&c), held: int(0) }, &arrays);
                });
            });
        } else {
            let first = sums.chunk.clone();
            self.s.unrolled("c", chunks, |s, c| {
                let at = add(first, s.e.widen(mul(c.clone(), int(i64::from(holders)))));
                chunk(s, work, accs, sums, at, mul(c, int(i64::from(vector))));
            });
        }
    }
}
