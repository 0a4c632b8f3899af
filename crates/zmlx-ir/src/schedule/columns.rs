//! Sums over the rows. Blocks of the row kernel leave partial sums: of columns a row of scratch memory, of everything one
//! number. Two further kernels add these in a fixed order, and
//! compute what the Program makes of the sums. No atomics: equal launches give equal bits.

use super::{
    Config, Length, Schedule, Scratch, Source, Step,
    emit::*,
    grid::Grid,
    lane::Site,
    lower::{Lower, Part},
    rows::Held,
};
use crate::{
    DType, Extent, Op,
    kernel::{Arith, Expr, Place, Role, SHARED_BYTES, Stmt, VECTOR_BYTES, VarId, WARP},
    program::Id,
};
use std::collections::HashMap;

/// Threads that share the parts of a column.
const GROUPS: u32 = 32;
/// Bytes of shared memory by which threads with the same columns meet.
const MEETING: u32 = 8 * 1024;

/// Partial sums in scratch memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    /// Sums of columns.
    cols: Vec<(Id, u32)>,
    /// Sums of everything.
    all: Vec<(Id, u32)>,
    /// Columns are padded to a multiple of so many.
    pad: u32,
}

impl Sums {
    /// Sums of everything.
    pub fn all(&self) -> &[(Id, u32)] {
        &self.all
    }
}

impl Lower<'_> {
    /// Adds the sums of columns of the threads that hold other rows of the block: `sub` 0 has them all then.
    fn meet(&mut self, cols: &[(Id, VarId)], sub: &Expr) {
        let Config { threads, row_threads, vector, chunks, .. } = self.cfg;
        let mut places: HashMap<DType, u32> = HashMap::new();
        for (id, var) in cols {
            let dtype = self.p.node(*id).dtype;
            let mut lanes = vector;
            while lanes > 1 && lanes * threads * dtype.size_bytes() as u32 > MEETING {
                lanes /= 2;
            }
            let place = *places.entry(dtype).or_insert_with(|| self.e.shared("meeting", dtype, lanes * threads));
            let at = |i: Expr, thread: Expr| add(mul(i, int(i64::from(threads))), thread);
            self.unrolled("c", vector * chunks / lanes, |s, c| {
                let first = mul(c, int(i64::from(lanes)));
                let own = |i: &Expr| Expr::Lane(*var, Box::new(add(first.clone(), i.clone())));
                s.unrolled("i", lanes, |s, i| {
                    s.e.push(Stmt::Set(Place::Shared(place, at(i.clone(), thread())), own(&i)));
                });
                s.e.push(Stmt::Barrier);
                s.when(equal(sub.clone(), int(0)), |s| {
                    s.unrolled("g", threads / row_threads - 1, |s, g| {
                        let other = add(thread(), mul(add(g, int(1)), int(i64::from(row_threads))));
                        s.unrolled("i", lanes, |s, i| {
                            let value = Expr::Shared(place, Box::new(at(i.clone(), other)));
                            let sum = op(Op::Add, [own(&i), value]);
                            s.e.push(Stmt::Set(Place::Lane(*var, add(first.clone(), i)), sum));
                        });
                    });
                });
                s.e.push(Stmt::Barrier);
            });
        }
    }

    /// Writes a block's partial sums to scratch memory.
    pub fn leave(&mut self, held: Held, sub: &Expr, schedule: &mut Schedule) -> Sums {
        let Config { vector, chunks, row_threads, .. } = self.cfg;
        let holders = self.cfg.holders();
        let mut sums = Sums { pad: holders * vector * chunks, ..Sums::default() };
        if !held.cols.is_empty() {
            if self.cfg.threads > row_threads {
                self.meet(&held.cols, sub);
            }
            let pitch = self.e.index_field("pitch", Role::Pitch(sums.pad));
            let start = mul(held.part.clone(), pitch);
            let start = self.e.named("part_start", start);
            let mut stores = vec![];
            for (id, var) in held.cols {
                let dtype = self.p.node(id).dtype;
                let scratch = schedule.add(dtype, Length::Parts(sums.pad));
                let buffer = self.buffer(&format!("parts_{}", id.0), Source::Scratch(scratch), dtype, true);
                stores.push((var, buffer, vector.min(VECTOR_BYTES / dtype.size_bytes() as u32)));
                sums.cols.push((id, scratch));
            }
            let first = held.chunk.clone();
            let mine = if self.cfg.threads > row_threads { equal(sub.clone(), int(0)) } else { truth(true) };
            self.when(mine, |s| {
                s.unrolled("c", chunks, |s, c| {
                    let at = add(first, s.e.widen(mul(c.clone(), int(i64::from(holders)))));
                    let at = add(start, mul(at, s.e.at(vector)));
                    let at = s.e.named("at", at);
                    for (mut var, buffer, lanes) in stores {
                        let mut c = c.clone();
                        if s.cfg.aside {
                            let (aside, dtype) = (var, s.e.kernel.vars[var.0 as usize].dtype);
                            var = s.e.array("chunk", dtype, vector);
                            s.unrolled("i", vector, |s, i| {
                                let at = add(mul(c.clone(), int(i64::from(vector))), i.clone());
                                let value = Expr::Lane(aside, Box::new(at));
                                s.e.push(Stmt::Set(Place::Lane(var, i), value));
                            });
                            c = int(0);
                        }
                        for part in (0..vector).step_by(lanes as usize) {
                            let first = add(mul(c.clone(), int(i64::from(vector))), int(i64::from(part)));
                            let at = add(at.clone(), s.e.at(part));
                            s.e.push(Stmt::StoreVector { var, first, lanes, buffer, at });
                        }
                    }
                });
            });
        }
        if !held.all.is_empty() {
            self.across(&held.all, self.cfg.threads);
            let mut stores = vec![];
            for acc in &held.all {
                let dtype = self.p.node(acc.id).dtype;
                let scratch = schedule.add(dtype, Length::Blocks);
                let buffer = self.buffer(&format!("parts_{}", acc.id.0), Source::Scratch(scratch), dtype, true);
                stores.push((buffer, self.result(acc)));
                sums.all.push((acc.id, scratch));
            }
            self.when(equal(thread(), int(0)), |s| {
                for (buffer, value) in stores {
                    let at = s.e.widen(block());
                    s.e.push(Stmt::Store(buffer, at, value));
                }
            });
        }
        sums
    }
}

impl Schedule {
    /// Scratch memory.
    pub(super) fn add(&mut self, dtype: DType, length: Length) -> u32 {
        self.scratch.push(Scratch { dtype, length });
        self.scratch.len() as u32 - 1
    }
}

fn config(cfg: &Config, threads: u32) -> Config {
    Config { aside: false, threads, row_threads: threads, vector: 1, chunks: 1, cluster: 1, dims: 1, ..*cfg }
}

/// The kernel that finishes sums of everything and stores uniform outputs. What the columns need of it goes to scratch
/// memory: gives that too.
pub(super) fn finish_all(
    part: &Part<'_>,
    cfg: &Config,
    name: &str,
    sums: &Sums,
    schedule: &mut Schedule,
) -> (Step, Vec<(Id, u32)>) {
    let mut s = Lower::new(part, &config(cfg, 256), name);
    let outputs = &part.program.outputs;
    s.bind(&|s, id| s.p.node(id).extent == Extent::UNIFORM, &|o| outputs[o].extent == Extent::UNIFORM);
    s.launch_values();
    let mut accs = vec![];
    let count = s.e.index_field("blocks", Role::Blocks);
    for (id, scratch) in &sums.all {
        let dtype = s.p.node(*id).dtype;
        let buffer = s.buffer(&format!("parts_{}", id.0), Source::Scratch(*scratch), dtype, false);
        let acc = s.accumulator(*id);
        let (from, step) = (s.e.widen(thread()), s.e.at(s.cfg.threads));
        s.counted("part", from, count.clone(), step, |s, at| {
            let value = Expr::Load(buffer, Box::new(at.clone()));
            s.accumulate(&acc, &[value], &truth(true), &at, None);
        });
        accs.push(acc);
    }
    s.across(&accs, s.cfg.threads);
    for acc in &accs {
        let result = s.result(acc);
        s.known[acc.id.index()] = Some(result);
    }
    let mut totals = vec![];
    let mut stores: Vec<(u32, Id, Option<usize>)> = vec![];
    for acc in &accs {
        let dtype = s.p.node(acc.id).dtype;
        let scratch = schedule.add(dtype, Length::One);
        let buffer = s.buffer(&format!("total_{}", acc.id.0), Source::Scratch(scratch), dtype, true);
        totals.push((acc.id, scratch));
        stores.push((buffer, acc.id, None));
    }
    for (k, o) in outputs.iter().enumerate().filter(|(_, o)| o.extent == Extent::UNIFORM) {
        stores.push((s.tensors[s.p.inputs.len() + k].buffer, o.node, Some(k)));
    }
    s.when(equal(thread(), int(0)), |s| {
        let roots: Vec<Id> = stores.iter().map(|s| s.1).collect();
        let zero = s.e.at(0);
        let site = Site { col: zero.clone(), held: int(0) };
        let values = s.lane_values(&roots, &site, &HashMap::new());
        for (buffer, id, output) in stores {
            let value = values[&id].clone();
            let value = output.map_or(value.clone(), |k| s.stored(k, value));
            s.e.push(Stmt::Store(buffer, zero.clone(), value));
        }
    });
    (s.finish(Grid::One), totals)
}

/// The kernel that finishes sums of columns and stores outputs of columns. A block takes as many columns as a warp has
/// lanes; its warps share the parts.
pub(super) fn finish_cols(part: &Part<'_>, cfg: &Config, name: &str, sums: &Sums, totals: &[(Id, u32)]) -> Step {
    let bytes: usize = sums.cols.iter().map(|(id, _)| part.program.node(*id).dtype.size_bytes()).sum();
    let mut groups = if sums.cols.is_empty() { 1 } else { GROUPS };
    while groups > 1 && (groups * WARP) as usize * bytes > SHARED_BYTES {
        groups /= 2;
    }
    let mut s = Lower::new(part, &config(cfg, groups * WARP), name);
    let outputs = &part.program.outputs;
    // only what the columns are made of is read, and nothing below a sum
    let roots: Vec<Id> = outputs.iter().filter(|o| o.extent == Extent::COL).map(|o| o.node).collect();
    for (id, _) in sums.cols.iter().chain(&sums.all) {
        s.known[id.index()] = Some(int(0));
    }
    let reads = s.needed(&roots);
    for (live, read) in s.live.iter_mut().zip(&reads) {
        *live &= *read;
    }
    s.bind(&|_, _| true, &|o| outputs[o].extent == Extent::COL);
    s.launch_values();
    for (id, scratch) in totals {
        let dtype = s.p.node(*id).dtype;
        let buffer = s.buffer(&format!("total_{}", id.0), Source::Scratch(*scratch), dtype, false);
        let value = Expr::Load(buffer, Box::new(s.e.at(0)));
        s.known[id.index()] = Some(s.e.named(&format!("sum_{}", id.0), value));
    }
    let lane = arith(Arith::BitAnd, thread(), int(i64::from(WARP - 1)));
    let lane = s.e.named("lane", lane);
    let group = arith(Arith::Div, thread(), int(i64::from(WARP)));
    let group = s.e.named("group", group);
    let col = add(mul(s.e.widen(block()), s.e.at(WARP)), s.e.widen(lane.clone()));
    let col = s.e.named("col", col);
    let inside = s.inside(col.clone());
    let inside = s.e.named("inside", inside);
    let mut shared = vec![];
    if !sums.cols.is_empty() {
        let pitch = s.e.index_field("pitch", Role::Pitch(sums.pad));
        let parts = s.e.index_field("parts", Role::Parts);
        let mut vars = vec![];
        for (id, scratch) in &sums.cols {
            let dtype = s.p.node(*id).dtype;
            let buffer = s.buffer(&format!("parts_{}", id.0), Source::Scratch(*scratch), dtype, false);
            vars.push((buffer, s.e.scalar(&format!("sum_{}", id.0), constant(dtype, 0.0))));
        }
        let (from, step) = (s.e.widen(group.clone()), s.e.at(groups));
        let (at_col, there) = (col.clone(), inside.clone());
        s.when(there, |s| {
            s.counted("part", from, parts, step, |s, part| {
                for (buffer, var) in &vars {
                    let at = add(mul(part.clone(), pitch.clone()), at_col.clone());
                    let value = Expr::Load(*buffer, Box::new(at));
                    s.e.set(*var, op(Op::Add, [Expr::Var(*var), value]));
                }
            });
        });
        for ((id, _), (_, var)) in sums.cols.iter().zip(&vars) {
            let k = s.e.shared(&format!("sum_{}_of_group", id.0), s.p.node(*id).dtype, groups * WARP);
            s.e.push(Stmt::Set(Place::Shared(k, thread()), Expr::Var(*var)));
            shared.push((*id, *var, k));
        }
        s.e.push(Stmt::Barrier);
    }
    let mine = and(equal(group, int(0)), inside);
    s.when(mine, |s| {
        for (id, var, k) in shared {
            let i = s.e.var("g", DType::I32, 0);
            let at = add(mul(Expr::Var(i), int(i64::from(WARP))), lane.clone());
            let sum = op(Op::Add, [Expr::Var(var), Expr::Shared(k, Box::new(at))]);
            let body = vec![Stmt::Set(Place::Var(var), sum)];
            let to = int(i64::from(groups));
            s.e.push(Stmt::For { var: i, from: int(1), to, step: int(1), unroll: true, body });
            s.known[id.index()] = Some(Expr::Var(var));
        }
        let site = Site { col: col.clone(), held: int(0) };
        let zero = s.e.at(0);
        s.find_row(&zero);
        let values = s.lane_values(&roots, &site, &HashMap::new());
        for (k, o) in outputs.iter().enumerate().filter(|(_, o)| o.extent == Extent::COL) {
            let value = s.stored(k, values[&o.node].clone());
            s.e.push(Stmt::Store(s.tensors[s.p.inputs.len() + k].buffer, col.clone(), value));
        }
    });
    s.finish(Grid::Cols(WARP))
}
