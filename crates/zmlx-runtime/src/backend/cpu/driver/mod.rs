//! The CPU driver: who runs which rows on which thread. Workers write disjoint parts of the outputs, which have not been filled.

mod outputs;

use super::{
    Kernel,
    ahead::Ahead,
    bank::{Lane, Place, with_lane},
    chain::STRETCH,
    exec::{Access, Domain, Env, Local, Shared, Window},
    fold,
    lanes::Src,
    plan::Plan,
    scan,
    step::{Pass, Step},
    stream, sums,
};
use crate::{Buffers, Error, Launch, Slice};
use outputs::{Address, allocate, finish};
use smallvec::SmallVec;
use std::{
    cell::RefCell,
    ops::Range,
    sync::{Mutex, PoisonError},
};
use zmlx_ir::{DType, Extent, Scalar};

/// Elements of a group of rows: small enough that what is kept of them stays in the L2 cache.
const GROUP: usize = 16 * 1024;
/// Rows no longer than this share tiles.
const SHORT: usize = 256;
/// Few rows are split into blocks of columns: into this many, of at least and at most so many columns.
const BLOCKS: usize = 16;
const SPLIT: Range<usize> = 16 * 1024..64 * 1024;
/// Fewer rows than this count as few.
const FEW_ROWS: usize = 16;
/// Tasks that hold sums over rows; fixed, so that results do not depend on the number of threads.
const SUM_TASKS: usize = 32;
/// Tasks of groups of rows that no sums are made of: enough for threads to share evenly.
const TASKS: usize = 256;
/// Work (elements × cost) below which waking threads costs more than it saves.
const PARALLEL_WORK: usize = 400_000;
/// Inputs of this many elements come from memory, and what is asked for ahead is there in time. (4096×4096 on a Zen 3: a + b
/// of f32 4.5 → 3.4 ms on one thread; on a Xeon, of several passes: rms_norm of f32 5.5 → 4.7 ms, layer_norm of bf16 5.1 → 4.5.)
const FAR: usize = 1 << 20;
/// A register longer than this is not kept warm between launches.
const WARM_LANES: usize = 1 << 20;

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::new(Local::default());
    static SHARED: RefCell<Shared> = RefCell::new(Shared::default());
}

/// Most kernels have no more outputs than this; more cost an allocation.
const INLINE: usize = 4;
type Few<T> = SmallVec<[T; INLINE]>;

/// Everything about one run that its workers share.
struct Run<'a> {
    kernel: &'a Kernel,
    plan: &'a Plan,
    launch: &'a Launch<'a>,
    addresses: &'a [Address],
    rows: usize,
    cols: usize,
    /// Outputs are stored past the caches.
    streams: bool,
    /// Inputs come from memory: what is asked for before it is needed.
    ahead: Option<Ahead>,
}

/// Sums over rows that one task made.
#[derive(Default)]
struct Sums {
    rows: Vec<Vec<f64>>,
    all: Vec<f64>,
}

impl Sums {
    /// All zero, of so many columns.
    fn new(plan: &Plan, cols: usize) -> Sums {
        let rows = plan.row_sums.iter().map(|_| vec![0.0; cols]).collect();
        Sums { rows, all: vec![0.0; plan.all_sums.len()] }
    }
}

/// Runs a kernel; puts its outputs into a list that has none. (One that is given costs less than one that is moved.)
pub fn run(kernel: &Kernel, launch: &Launch<'_>, outputs: &mut Buffers) -> Result<(), Error> {
    let (rows, cols) = (launch.rows(), launch.cols);
    let mut addresses = Few::new();
    for o in &kernel.outputs {
        let (buffer, address) = allocate(o.dtype, o.len(rows, cols));
        outputs.push(buffer);
        addresses.push(address);
    }
    // as many blocks as threads may want, as long as each is worth waking one
    let longest = (cols / BLOCKS).clamp(SPLIT.start, SPLIT.end);
    let split = rows < FEW_ROWS && cols > longest && kernel.split.is_some();
    let plan = match &kernel.split {
        Some(plan) if split => plan,
        _ => &kernel.plan,
    };
    let bytes: usize = kernel.outputs.iter().map(|o| o.len(rows, cols) * o.dtype.size_bytes()).sum();
    let streams = bytes >= stream::LEAST_BYTES;
    let far = rows.saturating_mul(cols) >= FAR;
    let ahead = far.then(|| Ahead::of(launch));
    let run = Run { kernel, plan, launch, addresses: &addresses, rows, cols, streams, ahead };
    let block = split.then_some(longest);
    run.planned(block)?;
    for (buffer, address) in outputs.iter_mut().zip(&addresses) {
        // SAFETY: the run wrote every element of every output: each row belongs to one group (or block of columns, or
        // stretch) and the epilogue writes outputs without rows.
        unsafe { finish(buffer, address.len()) };
    }
    Ok(())
}

/// Few elements of inputs that lie flat, through a chain that is all there is to run. What a small call costs is what is done
/// here, so nothing of a launch is made or looked at that such a one has no use for. None where kernel or inputs are not so.
pub fn run_few(kernel: &Kernel, inputs: &[Slice<'_>], uniforms: &[Scalar], count: usize) -> Option<Buffers> {
    let chain = kernel.plan.pointwise()?;
    let fits = kernel.views.iter().zip(inputs).all(|((_, dtype, _), i)| *dtype == i.dtype() && i.len() == count);
    let small = count.saturating_mul(kernel.plan.cost as usize + 4) <= PARALLEL_WORK && count <= STRETCH;
    if !small || !fits || inputs.len() != kernel.views.len() || uniforms.len() != kernel.uniforms {
        return None;
    }
    let mut outputs = Buffers::new();
    let mut addresses = Few::new();
    let mut windows: Few<Window<'_>> = Few::new();
    for o in &kernel.outputs {
        let (buffer, address) = allocate(o.dtype, count);
        outputs.push(buffer);
        addresses.push(address);
        // SAFETY: nobody else writes, and the buffer outlives the window.
        windows.push(unsafe { address.window(0..count) });
    }
    LOCAL.with_borrow_mut(|local| {
        let scratch = local.chain.get_or_insert_default();
        chain.run_few(inputs, uniforms, &mut windows, scratch, count);
    });
    for buffer in &mut outputs {
        // SAFETY: a chain that is all there is writes every element of every output.
        unsafe { finish(buffer, count) };
    }
    Some(outputs)
}

impl Run<'_> {
    /// Columns that there is something to do for.
    fn work_cols(&self) -> usize {
        if self.plan.is_of_rows() { self.cols.min(1) } else { self.cols }
    }

    fn is_parallel(&self) -> bool {
        self.rows.saturating_mul(self.work_cols()).saturating_mul(self.plan.cost as usize + 4) > PARALLEL_WORK
    }

    fn planned(&self, block: Option<usize>) -> Result<(), Error> {
        SHARED.with(|shared| match shared.try_borrow_mut() {
            Ok(mut shared) => {
                let result = self.whole(&mut shared, block);
                if self.cols > WARM_LANES {
                    shared.cols.trim(WARM_LANES);
                }
                result
            }
            // A pool may lend a thread that waits for its own launch to another one.
            Err(_) => self.whole(&mut Shared::default(), block),
        })
    }

    fn whole(&self, shared: &mut Shared, block: Option<usize>) -> Result<(), Error> {
        let plan = self.plan;
        shared.scalars.reserve(&plan.scalar, 1);
        shared.cols.reserve(&plan.col, self.cols);
        self.outside(shared, &plan.scalars, Domain::Scalar)?;
        self.outside(shared, &plan.cols, Domain::Cols { first: 0, count: self.cols })?;
        let parallel = self.is_parallel();
        let sums = match block {
            Some(block) => self.split(shared, block, parallel)?,
            None => self.grouped(shared, parallel)?,
        };
        for (k, (dtype, place)) in plan.row_sums.iter().enumerate() {
            let Place::Col(reg) = *place else { continue };
            with_lane!(*dtype, T => {
                let mut lanes = shared.cols.take::<T>(reg);
                add_up(&mut lanes[..self.cols], sums.iter().map(|s| &s.rows[k][..]));
                shared.cols.put(reg, lanes);
            });
        }
        for (k, (dtype, place)) in plan.all_sums.iter().enumerate() {
            let Place::Scalar(reg) = *place else { continue };
            with_lane!(*dtype, T => {
                let mut lanes = shared.scalars.take::<T>(reg);
                add_up(&mut lanes[..1], sums.iter().map(|s| &s.all[k..=k]));
                shared.scalars.put(reg, lanes);
            });
        }
        // Scalars first: columns of the epilogue may read them.
        let (stores, steps): (Vec<&Step>, Vec<&Step>) =
            plan.end_scalars.iter().partition(|s| matches!(s, Step::Store { .. }));
        for step in steps.into_iter().chain(stores) {
            self.outside(shared, std::slice::from_ref(step), Domain::Scalar)?;
        }
        self.outside(shared, &plan.end_cols, Domain::Cols { first: 0, count: self.cols })
    }

    /// Runs prologue or epilogue steps.
    fn outside(&self, shared: &mut Shared, steps: &[Step], d: Domain) -> Result<(), Error> {
        if steps.is_empty() {
            return Ok(());
        }
        // SAFETY: no group is running; outputs without rows are touched by nobody else.
        let window = |a: &Address| unsafe { a.window(0..a.len()) };
        let stores = steps.iter().any(|s| matches!(s, Step::Store { .. }));
        let mut windows: Few<Window<'_>> =
            if stores { self.addresses.iter().map(window).collect() } else { Few::new() };
        LOCAL.with_borrow_mut(|local| {
            self.env(local, Access::Write(shared), &mut windows, &mut [], &mut []).run(steps, d)
        })
    }

    fn env<'e, 'w>(
        &'e self,
        local: &'e mut Local,
        shared: Access<'e>,
        outputs: &'e mut [Window<'w>],
        row_sums: &'e mut [Vec<f64>],
        all_sums: &'e mut [f64],
    ) -> Env<'e, 'w> {
        Env {
            launch: self.launch,
            local,
            shared,
            outputs,
            first_row: 0,
            first_col: 0,
            pitch: self.cols,
            cols: self.cols,
            total_rows: self.rows,
            name: &self.kernel.name,
            row_sums,
            all_sums,
            streams: self.streams,
            read_back: self.plan.read_back,
            ahead: self.ahead.as_ref(),
        }
    }

    /// Rows in groups, each group through all passes.
    fn grouped(&self, shared: &mut Shared, parallel: bool) -> Result<Vec<Sums>, Error> {
        let plan = self.plan;
        let together = match self.cols {
            1..=SHORT if !self.kernel.folds => (plan.lanes / self.cols).min(self.rows),
            _ => 1,
        };
        if together > 1 {
            self.widen_columns(shared, together);
        }
        let group = GROUP.checked_div(self.work_cols()).map_or(plan.lanes, |rows| rows.max(together).min(plan.lanes));
        let groups = self.rows.div_ceil(group);
        let has_sums = !plan.row_sums.is_empty() || !plan.all_sums.is_empty();
        let tasks = groups.min(if has_sums { SUM_TASKS } else { TASKS });
        let shared = &*shared;
        let task = |t: usize| -> Result<Sums, Error> {
            let mut sums = Sums::new(plan, self.cols);
            // A task waits for nothing, so its thread runs no other one meanwhile.
            LOCAL.with_borrow_mut(|local| {
                (t * groups / tasks..(t + 1) * groups / tasks).try_for_each(|g| {
                    let first = g * group;
                    self.group(local, shared, first..(first + group).min(self.rows), together, &mut sums)
                })?;
                if self.cols > WARM_LANES {
                    local.kept.trim(WARM_LANES);
                }
                Ok(sums)
            })
        };
        if parallel && tasks > 1 {
            self.shared_out(tasks, task)
        } else if has_sums {
            (0..tasks).map(task).collect()
        } else {
            (0..tasks).try_for_each(|t| task(t).map(drop)).map(|()| vec![])
        }
    }

    fn group(
        &self,
        local: &mut Local,
        shared: &Shared,
        range: Range<usize>,
        together: usize,
        sums: &mut Sums,
    ) -> Result<(), Error> {
        let plan = self.plan;
        let (rows, cols, tile) = (range.len(), self.cols, plan.lanes);
        local.tile.reserve(&plan.tile, tile);
        local.rows.reserve(&plan.row, rows);
        local.kept.reserve(&plan.kept, rows * cols);
        if together > 1 {
            local.wide_rows.reserve(&plan.row, tile);
        }
        let windows = self.addresses.iter().zip(&self.kernel.outputs).map(|(a, o)| {
            let range = match (o.extent.has_rows(), o.extent.has_cols()) {
                (true, true) => range.start * cols * o.width..range.end * cols * o.width,
                (true, false) => range.start * o.width..range.end * o.width,
                _ => 0..0,
            };
            // SAFETY: groups are disjoint ranges of rows.
            unsafe { a.window(range) }
        });
        let mut windows: Few<Window<'_>> = windows.collect();
        let mut env = self.env(local, Access::Read(shared), &mut windows, &mut sums.rows, &mut sums.all);
        env.first_row = range.start;
        for (k, pass) in plan.passes.iter().enumerate() {
            // later passes find in the caches what the first has read
            env.ahead = self.ahead.as_ref().filter(|_| k == 0);
            env.run(&pass.rows, Domain::Rows { count: rows })?;
            start_accumulators(env.local, &pass.tiles, rows);
            if !pass.folds.is_empty() {
                for row in 0..rows {
                    pass.folds.iter().for_each(|f| fold::start(env.local, f));
                    for col in (0..cols).step_by(tile) {
                        let d = Domain::Tile { row, rows: 1, col, width: tile.min(cols - col) };
                        env.widen(&pass.row_reads, &pass.input_reads, d);
                        env.run(&pass.tiles, d)?;
                        for f in &pass.folds {
                            fold::update(&mut env, f, d)?;
                        }
                    }
                    for f in &pass.folds {
                        fold::finish(&mut env, f, row, cols.min(tile))?;
                    }
                }
            } else if pass.tiles.is_empty() {
                // nothing an element
            } else if together > 1 {
                for row in (0..rows).step_by(together) {
                    let d = Domain::Tile { row, rows: together.min(rows - row), col: 0, width: cols };
                    env.widen(&pass.row_reads, &pass.input_reads, d);
                    env.run(&pass.tiles, d)?;
                }
            } else {
                self.one_by_one(&mut env, pass, 0..rows, 0..cols)?;
            }
            finish_accumulators(env.local, &pass.tiles, rows);
            for s in &pass.scans {
                scan::run(&mut env, s, rows);
            }
        }
        Ok(())
    }

    /// The tiles of a pass over columns of rows, one row after the other.
    fn one_by_one(
        &self,
        env: &mut Env<'_, '_>,
        pass: &Pass,
        rows: Range<usize>,
        cols: Range<usize>,
    ) -> Result<(), Error> {
        let chain = pass.chain.as_ref().filter(|c| c.fits(self.launch));
        if let Some(chain) = chain
            && pass.input_reads.iter().all(|(_, slot)| self.launch.inputs[*slot as usize].lies_flat(cols.len()))
        {
            chain.run(env, rows, cols);
            return Ok(());
        }
        let tile = if chain.is_some() { STRETCH } else { self.plan.lanes };
        for row in rows {
            for col in cols.clone().step_by(tile) {
                let d = Domain::Tile { row, rows: 1, col, width: tile.min(cols.end - col) };
                env.widen(&pass.row_reads, &pass.input_reads, d);
                match chain {
                    Some(chain) => chain.run(env, row..row + 1, col..(col + tile).min(cols.end)),
                    None => env.run(&pass.tiles, d)?,
                }
            }
        }
        Ok(())
    }

    /// Tasks on all threads; what they give, in their order, or the error of the first that failed.
    fn shared_out<T: Send>(
        &self,
        tasks: usize,
        task: impl Fn(usize) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let done: Mutex<Vec<Option<Result<T, Error>>>> = Mutex::new((0..tasks).map(|_| None).collect());
        self.launch.pool.each(tasks, &|t| {
            let result = task(t);
            if self.streams {
                stream::fence();
            }
            done.lock().unwrap_or_else(PoisonError::into_inner)[t] = Some(result);
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.into_iter().flatten().collect()
    }

    /// Columns repeated for tiles of several rows.
    fn widen_columns(&self, shared: &mut Shared, together: usize) {
        shared.wide_cols.reserve(&self.plan.col, self.plan.lanes);
        for (dtype, reg) in self.plan.passes.iter().flat_map(|p| &p.col_reads) {
            with_lane!(*dtype, T => {
                let mut wide = shared.wide_cols.take::<T>(*reg);
                for chunk in wide[..together * self.cols].chunks_exact_mut(self.cols) {
                    chunk.copy_from_slice(&shared.cols.get::<T>(*reg)[..self.cols]);
                }
                shared.wide_cols.put(*reg, wide);
            });
        }
    }

    /// Few long rows: each pass over blocks of columns, then its reductions, then the next pass.
    fn split(&self, shared: &mut Shared, block: usize, parallel: bool) -> Result<Vec<Sums>, Error> {
        let plan = self.plan;
        let shared = &*shared;
        let (rows, cols, tile) = (self.rows, self.cols, plan.lanes);
        let mut main = Local::default();
        main.rows.reserve(&plan.row, rows);
        let mut row_parts = Sums::new(plan, 0);
        let blocks = cols.div_ceil(block);
        let mut total = Sums::new(plan, cols);
        for pass in &plan.passes {
            let windows = self.addresses.iter().zip(&self.kernel.outputs).map(|(a, o)| {
                // SAFETY: no block is running, and blocks do not touch outputs without columns.
                unsafe { a.window(if o.extent == Extent::ROW { 0..rows * o.width } else { 0..0 }) }
            });
            let mut windows: Few<Window<'_>> = windows.collect();
            let mut env =
                self.env(&mut main, Access::Read(shared), &mut windows, &mut row_parts.rows, &mut row_parts.all);
            env.run(&pass.rows, Domain::Rows { count: rows })?;
            if pass.tiles.is_empty() {
                continue;
            }
            start_accumulators(&mut main, &pass.tiles, rows);
            // few rows: a copy is cheaper than sharing
            let row_values = main.rows.clone();
            let item = |i: usize| -> Result<_, Error> {
                let (row, first) = (i / blocks, i % blocks * block);
                let end = (first + block).min(cols);
                LOCAL.with_borrow_mut(|local| {
                    local.tile.reserve(&plan.tile, tile);
                    if !plan.row.is_empty() {
                        local.rows = row_values.clone();
                    }
                    start_accumulators(local, &pass.tiles, rows);
                    let mut sums = Sums::new(plan, end - first);
                    let windows = self.addresses.iter().zip(&self.kernel.outputs).map(|(a, o)| {
                        let range = if o.extent == Extent::ELEM { row * cols + first..row * cols + end } else { 0..0 };
                        // SAFETY: blocks are disjoint ranges of one row.
                        unsafe { a.window(range) }
                    });
                    let mut windows: Few<Window<'_>> = windows.collect();
                    let mut env = self.env(local, Access::Read(shared), &mut windows, &mut sums.rows, &mut sums.all);
                    env.first_col = first;
                    // a window holds part of one row, so rows have no pitch in it
                    env.pitch = 0;
                    self.one_by_one(&mut env, pass, row..row + 1, first..end)?;
                    let accs = std::mem::take(&mut local.accs);
                    Ok((row, first, accs, sums))
                })
            };
            let items = rows * blocks;
            let merge = |main: &mut Local, total: &mut Sums, (row, first, accs, sums): (usize, usize, _, Sums)| {
                for step in &pass.tiles {
                    match step {
                        Step::Reduce { op, acc, .. } => main.accs.merge(*acc as usize, *op, row, &accs, row),
                        Step::Top { acc, .. } => main.accs.list(*acc).merge(row, accs.lists(*acc)),
                        _ => {}
                    }
                }
                for (t, s) in total.rows.iter_mut().zip(&sums.rows) {
                    sums::add_to(&mut t[first..first + s.len()], Src::Lanes(&s[..]));
                }
                for (t, s) in total.all.iter_mut().zip(&sums.all) {
                    *t += s;
                }
            };
            if parallel {
                let done = self.shared_out(items, item)?;
                done.into_iter().for_each(|d| merge(&mut main, &mut total, d));
            } else {
                for i in 0..items {
                    let d = item(i)?;
                    merge(&mut main, &mut total, d);
                }
            }
            finish_accumulators(&mut main, &pass.tiles, rows);
        }
        for (t, s) in total.all.iter_mut().zip(&row_parts.all) {
            *t += s;
        }
        Ok(vec![total])
    }
}

/// Adds the sums of all tasks, in order, and rounds once.
fn add_up<'s, T: Lane + super::exec::OutLane>(out: &mut [T], mut parts: impl Iterator<Item = &'s [f64]>) {
    let mut total = parts.next().map_or_else(|| vec![0.0; out.len()], <[f64]>::to_vec);
    for part in parts {
        sums::add_to(&mut total, Src::Lanes(part));
    }
    for (o, t) in out.iter_mut().zip(total) {
        *o = T::from_f64(t);
    }
}

fn start_accumulators(local: &mut Local, steps: &[Step], rows: usize) {
    for step in steps {
        match step {
            Step::Reduce { op, dtype, acc, .. } => local.accs.start(*acc as usize, *op, *dtype, rows),
            Step::Top { acc, ranks, .. } => local.accs.list(*acc).start(*ranks, rows),
            _ => {}
        }
    }
}

fn finish_accumulators(local: &mut Local, steps: &[Step], rows: usize) {
    for step in steps {
        if let Step::Top { dtype, acc, outs, .. } = step {
            for (op, reg) in outs {
                with_lane!(if op.is_column() { DType::U32 } else { *dtype }, T => {
                    let mut lanes = local.rows.take::<T>(*reg);
                    local.accs.lists(*acc).finish(*op, *dtype, &mut lanes[..rows]);
                    local.rows.put(*reg, lanes);
                });
            }
        }
        let Step::Reduce { op, dtype, acc, out: Place::Row(reg), .. } = *step else { continue };
        let lane = if op.is_column() { DType::U32 } else { dtype };
        with_lane!(lane, T => {
            let mut lanes = local.rows.take::<T>(reg);
            local.accs.finish(acc as usize, op, &mut lanes[..rows]);
            local.rows.put(reg, lanes);
        });
    }
}
