//! Strategies `Resident`, `Looped` and `Tiled`: rows given to threads.
//!
//! ```text
//! for each row of this block (several rows side by side, if a row has fewer threads than a block)
//!     where it starts in each tensor
//!     Resident: its inputs, into registers
//!     for each stage
//!         values of the row
//!         for each chunk of this thread: inputs (Looped, Tiled), lanes, outputs
//!         reductions, among the threads of the row
//! partial sums over the rows
//! ```
//!
//! A block with several rows goes on with the last row where there is no other, without storing: all its threads meet at
//! every barrier and shuffle.

use super::{
    Config, Schedule, Step, Strategy, Unsupported,
    columns::Sums,
    emit::*,
    grid::Grid,
    lane::Site,
    lower::{Lower, Part, is_along},
    reduce::Acc,
    scan,
};
use crate::{
    Extent, Op,
    kernel::{Arith, Expr, Place, Stmt, VarId, WARP},
    program::{Id, Kind, Over},
};
use std::collections::HashMap;

/// The kernel of a Program's rows, with the partial sums that it leaves in scratch memory.
pub(super) fn lower(
    part: &Part<'_>,
    cfg: &Config,
    name: &str,
    schedule: &mut Schedule,
) -> Result<(Step, Sums), Unsupported> {
    let mut s = Lower::new(part, cfg, name);
    let outputs = &part.program.outputs;
    let writes = |o: usize| outputs[o].extent.has_rows();
    let rows: Vec<Id> = outputs.iter().filter(|o| o.extent.has_rows()).map(|o| o.node).collect();
    let sums = s.sums();
    let reads = s.needed(&rows.iter().chain(&sums).copied().collect::<Vec<_>>());
    for (live, read) in s.live.iter_mut().zip(&reads) {
        *live &= *read;
    }
    s.bind(&|_, _| true, &writes);
    if cfg.strategy != Strategy::Tiled && sums.is_empty() {
        s.choose_lead();
    }
    s.row_shift = s.e.at(0);
    let is_scan = |s: &Lower<'_>, i: Id| s.live[i.index()] && matches!(s.p.node(i).kind, Kind::Scan(_));
    for id in s.p.ids().filter(|i| is_scan(&s, *i)) {
        if cfg.strategy != Strategy::Resident || cfg.row_threads < WARP {
            return s.unsupported("a scan of a row that no warp holds", id);
        }
        if scan::op_of(&s, id).is_none() {
            return s.unsupported("a recurrence", id);
        }
    }
    if cfg.strategy == Strategy::Resident {
        s.find_kept();
    }
    s.launch_values();
    let mut rows = Rows::new(s, &sums);
    rows.all();
    let Rows { mut s, sums, .. } = rows;
    let sums = s.leave(sums, schedule);
    let tile = if cfg.strategy == Strategy::Tiled { cfg.row_threads * cfg.vector * cfg.chunks } else { 0 };
    let per_block = cfg.threads / cfg.row_threads;
    // tiles share the grid with the rows, sums or not
    let grid = if sums.is_empty() && cfg.strategy != Strategy::Tiled {
        Grid::Rows(per_block)
    } else {
        Grid::Parts { rows: per_block, tile, resident: (1024 / cfg.threads).max(1) * 2 }
    };
    Ok((s.finish(grid), sums))
}

/// Partial sums that a thread of the kernel holds.
pub(super) struct Held {
    /// Sums of columns: one element for each column of the thread.
    pub cols: Vec<(Id, VarId)>,
    /// Sums of everything.
    pub all: Vec<Acc>,
    /// The thread's first chunk, for `cols`.
    pub chunk: Expr,
    /// The row of partial sums that it writes.
    pub part: Expr,
}

struct Rows<'p> {
    s: Lower<'p>,
    sums: Held,
    /// This thread among those of its row.
    lane: Expr,
    /// This row among those of the block.
    sub: Expr,
    /// Barriers in a turn of the loop over the rows.
    barriers: u32,
}

impl<'p> Rows<'p> {
    fn new(mut s: Lower<'p>, sums: &[Id]) -> Self {
        let Config { threads, row_threads, vector, chunks, .. } = s.cfg;
        let (lane, sub) = if threads == row_threads {
            (thread(), int(0))
        } else {
            let lane = arith(Arith::BitAnd, thread(), int(i64::from(row_threads - 1)));
            let sub = arith(Arith::Div, thread(), int(i64::from(row_threads)));
            (s.e.named("lane", lane), s.e.named("sub", sub))
        };
        let mut held = Held { cols: vec![], all: vec![], chunk: int(0), part: int(0) };
        for &id in sums {
            let node = s.p.node(id);
            let down_columns = node.extent.has_cols();
            if down_columns {
                let var = s.e.array(&format!("sum_{}", id.0), node.dtype, vector * chunks);
                s.unrolled("i", vector * chunks, |s, i| {
                    s.e.push(Stmt::Set(Place::Lane(var, i), constant(node.dtype, 0.0)));
                });
                held.cols.push((id, var));
            } else {
                let acc = s.accumulator(id);
                held.all.push(acc);
            }
        }
        Rows { s, sums: held, lane, sub, barriers: 0 }
    }

    fn per_block(&self) -> u32 {
        self.s.cfg.threads / self.s.cfg.row_threads
    }

    /// All rows of the block.
    fn all(&mut self) {
        let Config { strategy, row_threads, vector, chunks, .. } = self.s.cfg;
        let per_block = self.s.e.at(self.per_block());
        let (mut block, mut grid) = (self.s.e.widen(block()), self.s.e.widen(grid()));
        let lane = self.s.e.widen(self.lane.clone());
        self.sums.chunk = lane.clone();
        if strategy == Strategy::Tiled {
            let tile = row_threads * vector * chunks;
            let pitch = self.s.e.index_field("pitch", crate::kernel::Role::Pitch(tile));
            let tiles = self.s.e.named("tiles", arith(Arith::Div, pitch, self.s.e.at(tile)));
            let first = mul(arith(Arith::Rem, block.clone(), tiles.clone()), self.s.e.at(row_threads * chunks));
            self.sums.chunk = self.s.e.named("first_chunk", add(first, lane));
            block = self.s.e.named("part", arith(Arith::Div, block, tiles.clone()));
            grid = self.s.e.named("parts", arith(Arith::Div, grid, tiles));
        }
        let first = mul(block, per_block.clone());
        self.sums.part = add(first.clone(), self.s.e.widen(self.sub.clone()));
        let rows = self.s.rows();
        let var = self.s.e.var("base", self.s.e.index(), 0);
        self.s.e.open();
        self.row(Expr::Var(var));
        let body = self.s.e.close();
        self.s.e.push(Stmt::For { var, from: first, to: rows, step: mul(grid, per_block), unroll: false, body });
    }

    fn row(&mut self, base: Expr) {
        self.s.row = base.clone();
        if self.per_block() > 1 {
            let row = add(base, self.s.e.widen(self.sub.clone()));
            let row = self.s.e.named("row", row);
            let rows = self.s.rows();
            self.s.row_lives = self.s.e.named("lives", lt(row.clone(), rows.clone()));
            let last = sub(rows, self.s.e.at(1));
            self.s.row = self.s.e.named("row", arith(Arith::Min, row, last));
        }
        let row = self.s.row.clone();
        self.s.find_row(&row);
        let known = self.s.known.clone();
        if self.s.cfg.strategy == Strategy::Resident {
            self.hold_inputs();
        }
        let last = self.s.p.ids().filter(|i| self.s.early(*i)).map(|i| self.s.stage[i.index()]).max().unwrap_or(0);
        for stage in 0..=last {
            self.stage(stage);
        }
        if self.barriers == 1 {
            // the next turn writes what this one reads
            self.s.e.push(Stmt::Barrier);
        }
        self.s.known = known;
    }

    /// Reads the row's inputs of elements into registers.
    fn hold_inputs(&mut self) {
        let Config { vector, chunks, row_threads, .. } = self.s.cfg;
        let mut arrays = vec![];
        for id in self.s.p.ids() {
            let node = self.s.p.node(id);
            if let Kind::Input(slot) = node.kind
                && node.extent == Extent::ELEM
                && self.s.early(id)
            {
                let name = format!("{}_held", self.s.p.inputs[slot as usize].name);
                let var = self.s.e.array(&name, node.dtype, vector * chunks);
                self.s.held[id.index()] = Some(var);
                arrays.push((slot as usize, var));
            }
        }
        if arrays.is_empty() {
            return;
        }
        let lane = self.s.e.widen(self.lane.clone());
        self.s.unrolled("c", chunks, |s, c| {
            let at = add(lane, s.e.widen(mul(c.clone(), int(i64::from(row_threads)))));
            let (col, full) = chunk_at(s, at);
            for (t, var) in arrays {
                s.load_chunk(t, var, mul(c.clone(), int(i64::from(vector))), &col, &full);
            }
        });
    }

    fn stage(&mut self, stage: u32) {
        self.s.row_values(stage);
        self.store_rows(stage);
        self.sum_row_values(stage);
        let mut work = self.work(stage);
        let lanes = self.s.cfg.vector * self.s.cfg.chunks;
        for (id, _, var) in &mut work.scans {
            let dtype = self.s.p.node(*id).dtype;
            *var = Some(self.s.e.array(&format!("terms_{}", id.0), dtype, lanes));
        }
        let accs: Vec<Acc> = work.reductions.iter().map(|id| self.s.accumulator(*id)).collect();
        if !work.roots.is_empty() {
            for id in &work.kept {
                let node = self.s.p.node(*id);
                let var = self.s.e.array(&format!("v_{}_held", id.0), node.dtype, lanes);
                self.s.held[id.index()] = Some(var);
            }
            self.chunks(&work, &accs);
        }
        if !accs.is_empty() && self.s.across(&accs, self.s.cfg.row_threads) {
            self.barriers += 1;
        }
        for acc in &accs {
            let result = self.s.result(acc);
            self.s.known[acc.id.index()] = Some(result);
        }
        let lane = self.lane.clone();
        for (id, _, terms) in &work.scans {
            if let Some(terms) = terms {
                let made = self.s.scan(*id, *terms, &lane);
                self.s.held[id.index()] = Some(made);
                self.barriers += 2;
            }
        }
    }

    fn work(&self, stage: u32) -> Work {
        let s = &self.s;
        let mut work = Work::default();
        for id in s.p.ids().filter(|i| s.early(*i)) {
            let node = s.p.node(id);
            if is_along(node.kind) && s.args_stage(id) == stage {
                if let Kind::Scan(_) = node.kind {
                    work.scans.push((id, node.args[0], None));
                } else {
                    work.reductions.push(id);
                }
                work.roots.extend(&node.args);
            }
            if s.keep[id.index()] && s.stage[id.index()] == stage && s.held[id.index()].is_none() {
                work.kept.push(id);
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
            for (k, id) in stores {
                let at = s.row.clone();
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
            self.s.accumulate(&acc, &[value], &mine, &zero);
        }
    }

    /// The thread's chunks of the row.
    fn chunks(&mut self, work: &Work, accs: &[Acc]) {
        let Config { strategy, vector, chunks, row_threads, .. } = self.s.cfg;
        let sums = &self.sums;
        if strategy == Strategy::Looped {
            let count = self.s.e.index_field("chunks", crate::kernel::Role::Chunks(vector));
            let (from, step) = (self.s.e.widen(self.lane.clone()), self.s.e.at(row_threads));
            self.s.counted("chunk", from, count, step, |s, at| chunk(s, work, accs, sums, at, int(0)));
        } else {
            let first = sums.chunk.clone();
            self.s.unrolled("c", chunks, |s, c| {
                let at = add(first, s.e.widen(mul(c.clone(), int(i64::from(row_threads)))));
                chunk(s, work, accs, sums, at, mul(c, int(i64::from(vector))));
            });
        }
    }
}

/// What a stage does to elements.
#[derive(Default)]
pub(super) struct Work {
    /// Values wanted of every element.
    pub roots: Vec<Id>,
    /// Reductions along the row that they feed.
    pub reductions: Vec<Id>,
    /// Scans, with their argument and the array that takes it.
    pub scans: Vec<(Id, Id, Option<VarId>)>,
    /// Values to hold for later stages.
    pub kept: Vec<Id>,
    /// Outputs.
    pub outputs: Vec<(usize, Id)>,
    /// Sums over the rows, with their argument.
    pub sums: Vec<(Id, Id)>,
}

/// First column of a chunk, and whether all of it exists.
pub(super) fn chunk_at(s: &mut Lower<'_>, at: Expr) -> (Expr, Expr) {
    let col = sub(mul(at, s.e.at(s.cfg.vector)), s.row_shift.clone());
    let col = s.e.named("col", col);
    let full = s.full(&col);
    (col, s.e.named("full", full))
}

/// One chunk: inputs, lanes, outputs. `held` is its place in arrays that hold a row.
pub(super) fn chunk(s: &mut Lower<'_>, work: &Work, accs: &[Acc], sums: &Held, at: Expr, held: Expr) {
    let vector = s.cfg.vector;
    let (col, full) = chunk_at(s, at);
    let needed = s.needed(&work.roots);
    let mut inputs = HashMap::new();
    for id in s.p.ids().filter(|i| needed[i.index()]) {
        let node = s.p.node(id);
        if let Kind::Input(slot) = node.kind
            && s.held[id.index()].is_none()
            && node.extent.has_cols()
        {
            let name = format!("{}_chunk", s.p.inputs[slot as usize].name);
            let var = s.e.array(&name, node.dtype, vector);
            s.load_chunk(slot as usize, var, int(0), &col, &full);
            inputs.insert(id, var);
        }
    }
    let outputs: Vec<(usize, Id, VarId)> = work
        .outputs
        .iter()
        .map(|(slot, id)| {
            let name = format!("{}_chunk", s.p.outputs[*slot].name);
            (*slot, *id, s.e.array(&name, s.p.outputs[*slot].dtype.compute(), vector))
        })
        .collect();
    s.unrolled("i", vector, |s, i| {
        let site =
            Site { col: add(col.clone(), s.e.widen(i.clone())), lane: i.clone(), held: add(held.clone(), i.clone()) };
        // what is being made for later stages is not there yet
        let kept: Vec<(Id, Option<VarId>)> = work.kept.iter().map(|k| (*k, s.held[k.index()].take())).collect();
        let values = s.lane_values(&work.roots, &site, &inputs);
        for (id, var) in kept {
            s.held[id.index()] = var;
            if let Some(var) = var {
                s.e.push(Stmt::Set(Place::Lane(var, site.held.clone()), values[&id].clone()));
            }
        }
        for (slot, id, var) in &outputs {
            let value = s.stored(*slot, values[id].clone());
            s.e.push(Stmt::Set(Place::Lane(*var, i.clone()), value));
        }
        if accs.is_empty() && work.sums.is_empty() && work.scans.is_empty() {
            return;
        }
        let inside = s.inside(site.col.clone());
        let inside = s.e.named("inside", inside);
        for acc in accs {
            let args: Vec<Expr> = s.p.node(acc.id).args.iter().map(|a| values[a].clone()).collect();
            s.accumulate(acc, &args, &inside, &site.col);
        }
        for (id, arg, var) in &work.scans {
            if let (Some(var), Some((_, identity))) = (var, scan::op_of(s, *id)) {
                let value = op(Op::Select, [inside.clone(), values[arg].clone(), identity]);
                s.e.push(Stmt::Set(Place::Lane(*var, site.held.clone()), value));
            }
        }
        let inside = and(inside, s.row_lives.clone());
        for (id, arg) in &work.sums {
            let value = values[arg].clone();
            if let Some((_, var)) = sums.cols.iter().find(|c| c.0 == *id) {
                let own = Expr::Lane(*var, Box::new(site.held.clone()));
                let zero = constant(s.p.node(*id).dtype, 0.0);
                let value = op(Op::Select, [inside.clone(), value, zero]);
                s.e.push(Stmt::Set(Place::Lane(*var, site.held.clone()), op(Op::Add, [own, value])));
            } else if let Some(acc) = sums.all.iter().find(|a| a.id == *id) {
                s.accumulate(acc, &[value], &inside, &site.col);
            }
        }
    });
    if outputs.is_empty() {
        return;
    }
    let lives = s.row_lives.clone();
    s.when(lives, |s| {
        for (slot, _, var) in outputs {
            s.store_chunk(s.p.inputs.len() + slot, var, &col, &full);
        }
    });
}

/// Does a Program reduce along its rows?
pub(super) fn reduces_along(p: &crate::Program) -> bool {
    let live = p.live();
    p.ids().any(|i| {
        live[i.index()] && matches!(p.node(i).kind, Kind::Reduce(_, Over::Cols) | Kind::Fold(_) | Kind::Scan(_))
    })
}
