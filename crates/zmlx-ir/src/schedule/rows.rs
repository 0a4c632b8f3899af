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
    lane::{Site, select},
    lower::{Lower, Part, is_along},
    reduce::Acc,
    scan::{self, Running},
    terms::Terms,
};
use crate::{
    DType, Extent, Op,
    kernel::{Arith, Expr, Place, Stmt, VarId},
    program::{Id, Kind, Over},
};

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
    if cfg.strategy == Strategy::Resident {
        s.find_kept();
    }
    s.launch_values();
    // tiles share the grid with the rows, sums or not
    let stays = cfg.strategy == Strategy::Tiled || !sums.is_empty();
    let mut rows = Rows::new(s, &sums, stays && cfg.strategy != Strategy::Looped);
    rows.all();
    let Rows { mut s, sums, sub, .. } = rows;
    let sums = s.leave(sums, &sub, schedule);
    let tile = if cfg.strategy == Strategy::Tiled { cfg.row_threads * cfg.vector * cfg.chunks } else { 0 };
    let per_block = cfg.threads / cfg.row_threads;
    let grid = if stays {
        Grid::Parts { rows: per_block, tile, resident: resident(&s.e.kernel) }
    } else {
        Grid::Rows(per_block)
    };
    Ok((s.finish(grid), sums))
}

/// Registers of a thread beside its arrays.
const BESIDE: u32 = 40;
/// Registers of a processor.
const REGISTERS: u32 = 65536;

/// Blocks that stay: as many as registers let run side by side, but no more than about 1,024 threads, since each block
/// leaves a row of partial sums that another kernel reads.
fn resident(k: &crate::kernel::Kernel) -> u32 {
    let words = |v: &crate::kernel::Var| (v.lanes * v.dtype.size_bytes() as u32).div_ceil(4);
    let held: u32 = k.vars.iter().filter(|v| !v.aside).map(words).sum();
    if k.aside_bytes() > 0 {
        return 1;
    }
    let by_registers = REGISTERS / (k.threads * (held + BESIDE)).max(1);
    by_registers.min(1024 / k.threads).max(1)
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
    /// Do blocks stay, each for many rows?
    stays: bool,
}

impl<'p> Rows<'p> {
    fn new(mut s: Lower<'p>, sums: &[Id], stays: bool) -> Self {
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
                let name = format!("sum_{}", id.0);
                let lanes = vector * chunks;
                let aside = s.cfg.aside;
                let var =
                    if aside { s.e.array_aside(&name, node.dtype, lanes) } else { s.e.array(&name, node.dtype, lanes) };
                s.unrolled("i", vector * chunks, |s, i| {
                    s.e.push(Stmt::Set(Place::Lane(var, i), constant(node.dtype, 0.0)));
                });
                held.cols.push((id, var));
            } else {
                let acc = s.accumulator(id);
                held.all.push(acc);
            }
        }
        Rows { s, sums: held, lane, sub, barriers: 0, stays }
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
        self.sums.part = block.clone();
        if self.stays && !self.s.cfg.aside {
            self.hold_columns();
        }
        let first = mul(block, per_block.clone());
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

    /// Reads the inputs of columns into registers: all rows of the block read them there.
    fn hold_columns(&mut self) {
        let Config { vector, chunks, row_threads, .. } = self.s.cfg;
        let s = &self.s;
        let inputs = s.p.ids().filter_map(|id| match s.p.node(id).kind {
            Kind::Input(slot) if s.p.node(id).extent == Extent::COL && s.early(id) => Some((id, slot as usize)),
            _ => None,
        });
        let inputs: Vec<(Id, usize)> = inputs.collect();
        if inputs.is_empty() {
            return;
        }
        let mut arrays = vec![];
        for (id, slot) in inputs {
            let name = format!("{}_held", self.s.p.inputs[slot].name);
            let dtype = self.s.tensors[slot].held(vector);
            let var = self.s.e.array(&name, dtype, vector * chunks);
            self.s.held[id.index()] = Some(var);
            arrays.push((slot, id, var));
        }
        self.s.find_columns();
        let first = self.sums.chunk.clone();
        self.s.unrolled("c", chunks, |s, c| {
            let at = add(first, s.e.widen(mul(c.clone(), int(i64::from(row_threads)))));
            let (col, full) = chunk_at(s, at);
            load(s, &arrays, &mul(c, int(i64::from(vector))), &col, &full);
        });
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
                let dtype = self.s.tensors[slot as usize].held(vector);
                let var = self.s.e.array(&name, dtype, vector * chunks);
                self.s.held[id.index()] = Some(var);
                arrays.push((slot as usize, id, var));
            }
        }
        if arrays.is_empty() {
            return;
        }
        let lane = self.s.e.widen(self.lane.clone());
        let slots: Vec<usize> = arrays.iter().map(|a| a.0).collect();
        let one_by_one = |s: &mut Lower<'p>| {
            s.unrolled("c", chunks, |s, c| {
                let at = add(lane.clone(), s.e.widen(mul(c.clone(), int(i64::from(row_threads)))));
                let (col, full) = chunk_at(s, at);
                load(s, &arrays, &mul(c, int(i64::from(vector))), &col, &full);
            });
        };
        let Some(whole) = self.s.whole(&slots, &lane) else { return one_by_one(&mut self.s) };
        let whole = self.s.e.named("whole", whole);
        self.s.e.open();
        self.s.unrolled("c", chunks, |s, c| {
            let at = add(lane.clone(), s.e.widen(mul(c.clone(), int(i64::from(row_threads)))));
            let col = sub(mul(at, s.e.at(vector)), s.row_shift.clone());
            let col = s.e.named("col", col);
            for (slot, _, var) in &arrays {
                s.load_vectors(*slot, *var, &mul(c.clone(), int(i64::from(vector))), &col);
            }
        });
        let fast = self.s.e.close();
        self.s.e.open();
        one_by_one(&mut self.s);
        let slow = self.s.e.close();
        self.s.e.push(Stmt::If(whole, fast, slow));
    }

    fn stage(&mut self, stage: u32) {
        self.s.row_values(stage);
        self.store_rows(stage);
        self.sum_row_values(stage);
        let mut work = self.work(stage);
        let lanes = self.s.cfg.vector * self.s.cfg.chunks;
        let scans: Vec<Id> = std::mem::take(&mut work.held_scans);
        work.scans = scans.into_iter().filter_map(|id| self.s.running(id, lanes)).collect();
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
        for r in &work.scans {
            self.s.scan(r, self.s.cfg.chunks, &lane);
            self.s.held[r.id.index()] = Some(r.made);
            self.barriers += 2;
        }
    }

    fn work(&self, stage: u32) -> Work {
        let s = &self.s;
        let mut work = Work::default();
        for id in s.p.ids().filter(|i| s.early(*i)) {
            let node = s.p.node(id);
            if is_along(node.kind) && s.args_stage(id) == stage {
                if scan::of(node.kind).is_none() {
                    work.reductions.push(id);
                    work.roots.extend(&node.args);
                } else if s.resident() {
                    work.held_scans.push(id);
                    work.roots.extend(&node.args);
                }
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
            let needed = self.s.needed(&work.roots);
            let scans = self.s.p.ids().filter(|i| needed[i.index()] && scan::of(self.s.p.node(*i).kind).is_some());
            let scans: Vec<Id> = scans.collect();
            if !scans.is_empty() {
                let barriers = walk(&mut self.s, work, accs, sums, &scans, count, &self.lane);
                self.barriers += barriers;
                return;
            }
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
    /// Scans of the row that is held: not yet begun.
    pub held_scans: Vec<Id>,
    /// Scans of the row that is held: what takes their arguments.
    pub scans: Vec<Running>,
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

/// Where a chunk is.
pub(super) struct Chunk {
    /// Its first column.
    pub col: Expr,
    /// Do all of its columns exist?
    pub full: Expr,
    /// Its place in the arrays that it was loaded into.
    pub lane: Expr,
    /// Its place in arrays that hold a row.
    pub held: Expr,
}

/// Arrays for so many chunks of each input that is read, by slot.
pub(super) fn input_arrays(s: &mut Lower<'_>, work: &Work, chunks: u32) -> Vec<(usize, Id, VarId)> {
    let needed = s.needed(&work.roots);
    let mut arrays = vec![];
    let p = s.p;
    for id in p.ids().filter(|i| needed[i.index()]) {
        let node = p.node(id);
        if let Kind::Input(slot) = node.kind
            && node.extent.has_cols()
            && s.held[id.index()].is_none()
        {
            let slot = slot as usize;
            let name = format!("{}_chunk", s.p.inputs[slot].name);
            let dtype = if chunks > 1 { s.tensors[slot].held(s.cfg.vector) } else { node.dtype };
            arrays.push((slot, id, s.e.array(&name, dtype, s.cfg.vector * chunks)));
        }
    }
    arrays
}

/// Reads a chunk of each of these inputs into elements `first ..` of its array.
pub(super) fn load(s: &mut Lower<'_>, arrays: &[(usize, Id, VarId)], first: &Expr, col: &Expr, full: &Expr) {
    for (slot, _, var) in arrays {
        s.load_chunk(*slot, *var, first.clone(), col, full);
    }
}

/// One chunk: inputs, lanes, outputs. `held` is its place in arrays that hold a row.
pub(super) fn chunk(s: &mut Lower<'_>, work: &Work, accs: &[Acc], sums: &Held, at: Expr, held: Expr) {
    let (col, full) = chunk_at(s, at);
    let arrays = input_arrays(s, work, 1);
    load(s, &arrays, &int(0), &col, &full);
    compute(s, work, accs, sums, Chunk { col, full, lane: int(0), held }, &arrays);
}

/// Random numbers of a chunk, four at a time, unless they are there.
fn random(s: &mut Lower<'_>, work: &Work, col: &Expr, arrays: &mut Vec<(usize, Id, VarId)>) {
    let needed = s.needed(&work.roots);
    if !s.cfg.vector.is_multiple_of(4) {
        return;
    }
    let p = s.p;
    for id in p.ids().filter(|i| needed[i.index()] && p.node(*i).kind == Kind::Rand) {
        if s.held[id.index()].is_some() || arrays.iter().any(|a| a.1 == id) {
            continue;
        }
        let Some(seed) = s.known[s.p.node(id).args[0].index()].clone() else { continue };
        let var = s.e.array(&format!("rand_{}", id.0), DType::F32, s.cfg.vector);
        for first in (0..s.cfg.vector).step_by(4) {
            let index = s.rand_index(add(col.clone(), s.e.at(first)));
            s.e.push(Stmt::Rand4 { var, first: int(i64::from(first)), seed: seed.clone(), index });
        }
        arrays.push((usize::MAX, id, var));
    }
}

/// Tiles of the row in the order of its scans, all threads at once. Gives the barriers of a turn.
fn walk(s: &mut Lower<'_>, work: &Work, accs: &[Acc], sums: &Held, scans: &[Id], count: Expr, lane: &Expr) -> u32 {
    let (vector, row_threads) = (s.cfg.vector, s.e.at(s.cfg.row_threads));
    let scans: Vec<Running> = scans.iter().filter_map(|id| s.running(*id, vector)).collect();
    let reverse = scans.iter().any(|r| scan::of(s.p.node(r.id).kind).is_some_and(|scan| scan.reverse));
    let at_lane = s.e.widen(lane.clone());
    let mut last = s.e.at(0);
    if reverse {
        // the tile that holds the last chunk
        let before = sub(count.clone(), s.e.at(1));
        let tiles = arith(Arith::Div, before, row_threads.clone());
        last = s.e.named("last_tile", mul(tiles, row_threads.clone()));
    }
    let from = s.e.at(0);
    s.counted("tile", from, count, row_threads, |s, tile| {
        let tile = if reverse { sub(last, tile) } else { tile };
        let (col, full) = chunk_at(s, add(tile, at_lane));
        let mut arrays = input_arrays(s, work, 1);
        load(s, &arrays, &int(0), &col, &full);
        random(s, work, &col, &mut arrays);
        for r in &scans {
            s.unrolled("i", vector, |s, i| {
                let site = Site { col: add(col.clone(), s.e.widen(i.clone())), held: i.clone() };
                let given = arrays.iter().map(|(_, id, var)| (*id, Expr::Lane(*var, Box::new(i.clone())))).collect();
                let args = s.p.node(r.id).args.clone();
                let values = s.lane_values(&args, &site, &given);
                let inside = s.inside(site.col.clone());
                let inside = s.e.named("inside", inside);
                let values: Vec<Expr> = args.iter().map(|a| values[a].clone()).collect();
                s.set_terms(r, &i, &values, &inside);
            });
            s.scan(r, 1, lane);
            arrays.push((usize::MAX, r.id, r.made));
        }
        compute(s, work, accs, sums, Chunk { col, full, lane: int(0), held: int(0) }, &arrays);
    });
    2 * scans.len() as u32
}

/// What becomes of a chunk that was loaded.
pub(super) fn compute(
    s: &mut Lower<'_>,
    work: &Work,
    accs: &[Acc],
    sums: &Held,
    chunk: Chunk,
    arrays: &[(usize, Id, VarId)],
) {
    let vector = s.cfg.vector;
    let Chunk { col, full, lane, held } = chunk;
    let zero = int(0);
    let mut arrays = arrays.to_vec();
    random(s, work, &col, &mut arrays);
    let outputs: Vec<(usize, Id, VarId)> = work
        .outputs
        .iter()
        .map(|(slot, id)| {
            let name = format!("{}_chunk", s.p.outputs[*slot].name);
            (*slot, *id, s.e.array(&name, s.p.outputs[*slot].dtype.compute(), vector))
        })
        .collect();
    let terms = Terms::new(s, accs, work, sums);
    s.unrolled("i", vector, |s, i| {
        let site = Site { col: add(col.clone(), s.e.widen(i.clone())), held: add(held.clone(), i.clone()) };
        let element = |var: VarId, first: &Expr| Expr::Lane(var, Box::new(add(first.clone(), i.clone())));
        let given = arrays.iter().map(|(_, id, var)| {
            // what is made of a chunk lies in an array of its own
            let first = if matches!(s.p.node(*id).kind, Kind::Input(_)) { &lane } else { &zero };
            (*id, element(*var, first))
        });
        let given = given.collect();
        // what is being made for later stages is not there yet
        let kept: Vec<(Id, Option<VarId>)> = work.kept.iter().map(|k| (*k, s.held[k.index()].take())).collect();
        let values = s.lane_values(&work.roots, &site, &given);
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
        terms.set(s, &i, &values);
        if !work.scans.is_empty() {
            let inside = s.inside(site.col.clone());
            let inside = s.e.named("inside", inside);
            for r in &work.scans {
                let args: Vec<Expr> = s.p.node(r.id).args.iter().map(|a| values[a].clone()).collect();
                s.set_terms(r, &site.held, &args, &inside);
            }
        }
        for (id, arg) in &work.sums {
            // what columns that do not exist add up to is read by nobody
            if let Some((_, var)) = sums.cols.iter().find(|c| c.0 == *id) {
                let own = Expr::Lane(*var, Box::new(site.held.clone()));
                let zero = constant(s.p.node(*id).dtype, 0.0);
                let value = select(s.row_lives.clone(), values[arg].clone(), zero);
                s.e.push(Stmt::Set(Place::Lane(*var, site.held.clone()), op(Op::Add, [own, value])));
            }
        }
    });
    terms.accumulate(s, &col, &full);
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
