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
//! Where a cluster of blocks shares a row, each takes as many chunks as it has threads, in turn with the others. They go
//! through the same rows, so they come to the same waits. A block goes on to the next row, or ends, when the others have
//! read what it left for them: it arrives behind its last read and waits behind its stores, which hide the wait.
//!
//! A block with several rows goes on with the last row where there is no other, without storing: all its threads meet at
//! every barrier and shuffle.

use super::{
    Config, Schedule, Step, Strategy, Unsupported,
    chunk::{chunk_at, load},
    columns::Sums,
    emit::*,
    grid::Grid,
    lower::{Lower, Part},
    reduce::Acc,
};
use crate::{
    Extent,
    kernel::{Arith, Expr, Place, Special, Stmt, VarId},
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
        let resident = resident(&s.e.kernel);
        if cfg.strategy == Strategy::Resident {
            s.e.kernel.resident = resident;
        }
        Grid::Parts { rows: per_block, tile, resident, cluster: cfg.cluster }
    } else if cfg.cluster > 1 {
        Grid::Clusters(cfg.cluster)
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
    // what one block of 512 threads makes do with, two of 256 do too
    by_registers.clamp((512 / k.threads).max(1), (1024 / k.threads).max(1))
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

pub(super) struct Rows<'p> {
    pub s: Lower<'p>,
    pub sums: Held,
    /// This thread among those of its row.
    pub lane: Expr,
    /// This row among those of the block.
    sub: Expr,
    /// Barriers in a turn of the loop over the rows.
    pub barriers: u32,
    /// Do blocks stay, each for many rows?
    stays: bool,
}

impl<'p> Rows<'p> {
    fn new(mut s: Lower<'p>, sums: &[Id], stays: bool) -> Self {
        let Config { threads, row_threads, vector, chunks, cluster, .. } = s.cfg;
        s.e.kernel.cluster = cluster;
        let (lane, sub) = if cluster > 1 {
            let lane = add(mul(Expr::Special(Special::Rank), int(i64::from(threads))), thread());
            (s.e.named("lane", lane), int(0))
        } else if threads == row_threads {
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
        let (mut block, mut grid) = match self.s.cfg.cluster {
            0 | 1 => (block(), grid()),
            n => (Expr::Special(Special::Cluster), arith(Arith::Div, grid(), int(i64::from(n)))),
        };
        block = self.s.e.widen(block);
        grid = self.s.e.widen(grid);
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
        if self.stays && !self.s.cfg.aside && self.columns_fit() {
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
        // a row's columns are those of any other, but places of elements that are seldom read fill no registers
        let chunk = self.sums.chunk.clone();
        if self.s.cfg.strategy != Strategy::Looped {
            self.sums.chunk = self.s.e.named("lane", Expr::Fresh(Box::new(chunk.clone())));
        }
        if self.s.cfg.strategy == Strategy::Resident {
            self.hold_inputs();
        }
        let last = self.s.p.ids().filter(|i| self.s.early(*i)).map(|i| self.s.stage[i.index()]).max().unwrap_or(0);
        for stage in 0..=last {
            self.stage(stage);
        }
        if self.s.cfg.cluster > 1 && self.last_reduction().is_some() {
            self.s.e.push(Stmt::Await);
        } else if self.barriers == 1 {
            // the next turn writes what this one reads
            self.s.e.push(Stmt::Barrier);
        }
        self.s.known = known;
        self.sums.chunk = chunk;
    }

    /// Have registers room for the inputs of columns, beside the row's and the sums?
    fn columns_fit(&self) -> bool {
        let Config { threads, vector, chunks, .. } = self.s.cfg;
        let (s, p) = (&self.s, self.s.p);
        let of = |id: Id| match p.node(id).kind {
            Kind::Input(slot) if p.node(id).extent.has_cols() && s.early(id) => {
                s.tensors[slot as usize].held(vector).size_bytes() as u32
            }
            _ => 0,
        };
        let inputs: u32 = p.ids().map(of).sum();
        let sums: u32 = self.sums.cols.iter().map(|c| p.node(c.0).dtype.size_bytes() as u32).sum();
        let held = (inputs + sums) * vector * chunks / 4;
        // what is made of a chunk takes two values of each element: layer_norm's gradient at 4,096 columns has 126 registers
        // of 128 then (f32; bf16 125), none spilled, by ptxas 13 for sm_90
        held + BESIDE + 2 * vector <= (REGISTERS / threads).min(255)
    }

    /// Reads the inputs of columns into registers: all rows of the block read them there.
    fn hold_columns(&mut self) {
        let (Config { vector, chunks, .. }, holders) = (self.s.cfg, self.s.cfg.holders());
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
            let at = add(first, s.e.widen(mul(c.clone(), int(i64::from(holders)))));
            let (col, full) = chunk_at(s, at);
            load(s, &arrays, &mul(c, int(i64::from(vector))), &col, &full);
        });
    }

    /// Reads the row's inputs of elements into registers.
    fn hold_inputs(&mut self) {
        let (Config { vector, chunks, .. }, holders) = (self.s.cfg, self.s.cfg.holders());
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
        let lane = self.sums.chunk.clone();
        self.s.e.open();
        self.s.unrolled("c", chunks, |s, c| {
            let at = add(lane.clone(), s.e.widen(mul(c.clone(), int(i64::from(holders)))));
            let (col, full) = chunk_at(s, at);
            load(s, &arrays, &mul(c, int(i64::from(vector))), &col, &full);
        });
        let chunk_by_chunk = self.s.e.close();
        let slots: Vec<usize> = arrays.iter().map(|a| a.0).collect();
        let Some(whole) = self.s.whole(&slots, &lane) else {
            return chunk_by_chunk.into_iter().for_each(|s| self.s.e.push(s));
        };
        // nearly everywhere: all loads are under way before the first one is waited for
        self.s.e.open();
        self.s.unrolled("c", chunks, |s, c| {
            let at = add(lane, s.e.widen(mul(c.clone(), int(i64::from(holders)))));
            let col = sub(mul(at, s.e.at(vector)), s.row_shift.clone());
            let col = s.e.named("col", col);
            for (slot, _, var) in &arrays {
                s.load_vectors(*slot, *var, &mul(c.clone(), int(i64::from(vector))), &col);
            }
        });
        let at_once = self.s.e.close();
        self.s.e.push(Stmt::If(whole, at_once, chunk_by_chunk));
    }
}

/// Does a Program reduce along its rows?
pub(super) fn reduces_along(p: &crate::Program) -> bool {
    let live = p.live();
    p.ids().any(|i| {
        live[i.index()] && matches!(p.node(i).kind, Kind::Reduce(_, Over::Cols) | Kind::Fold(_) | Kind::Scan(_))
    })
}
