//! A chain over rows: each block by block, through all links.

use super::{Arg, BLOCK, Chain, Code, FEW, Link, RARE, Splat, To};
use crate::{
    Slice,
    backend::cpu::{
        ahead::Ahead,
        bank::{Lane, Place, with_lane},
        exec::{Domain, Env, OutLane, Window},
        lanes::{self, Arith, Src, Truth, Wide},
        memory::{self, FromMemory, Halves},
        pair::{blend, norm, pair},
        reduce::Best,
        stream,
        sums::{self, Sums},
    },
};
use half::bf16;
use std::ops::Range;
use zmlx_ir::{DType, Scalar, program::ReduceOp};

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Block([f32; BLOCK]);

impl Default for Block {
    fn default() -> Block {
        Block([0.0; BLOCK])
    }
}

/// What a reduction has so far.
#[derive(Clone, Debug)]
struct State {
    sums: Sums,
    best: Best<f32>,
}

/// Memory of a worker for its chains.
#[derive(Debug, Default)]
pub struct Scratch {
    /// One more than a chain numbers: where the next result goes.
    blocks: Vec<Box<Block>>,
    states: Vec<State>,
    halves: Halves,
}

/// Where values come from and where lanes go: memory of all rows, and what is of one row.
struct Lanes<'m> {
    blocks: &'m mut [Box<Block>],
    memory: [&'m [f32]; FEW],
    kept: [&'m mut [f32]; FEW],
    outputs: [&'m mut [f32]; FEW],
    /// Outputs are stored past the caches.
    streams: bool,
    loads: [Slice<'m>; FEW],
    truths: [&'m [u8]; RARE],
    row: Row,
}

/// What is of one row.
#[derive(Default)]
struct Row {
    splats: [f32; FEW],
    /// Where the columns begin in memory that is read, and in what has the pitch of the group.
    memory: [usize; FEW],
    loads: [usize; FEW],
    truths: [usize; RARE],
    window: usize,
    seeds: [i64; RARE],
    /// Number of the first element.
    first: u64,
    hots: [usize; RARE],
}

/// Where reductions and converting stores go.
struct Sinks<'m, 'w> {
    reduces: &'m [(u16, ReduceOp)],
    states: &'m mut [State],
    row_sums: &'m mut [Vec<f64>],
    /// Where the columns begin in the sums over rows.
    sums_at: usize,
    all_sums: &'m mut [f64],
    stores: [Option<&'m mut Window<'w>>; FEW],
    streams: bool,
    halves: &'m mut Halves,
}

impl Lanes<'_> {
    #[inline(always)]
    fn arg(&self, arg: Arg, at: usize, n: usize) -> Src<'_, f32> {
        match arg {
            Arg::Block(r) => Src::Lanes(&self.blocks[r as usize].0[..n]),
            Arg::Splat(k) => Src::Splat(self.row.splats[k as usize]),
            Arg::Memory(k) => Src::Lanes(&self.memory[k as usize][self.row.memory[k as usize] + at..][..n]),
            Arg::Kept(k) => Src::Lanes(&self.kept[k as usize][self.row.window + at..][..n]),
            Arg::Half(_) => Src::Lanes(&[]),
        }
    }

    /// Memory of 16-bit lanes, if it is that which is read.
    #[inline(always)]
    fn halves(&self, arg: Arg, at: usize, n: usize) -> Option<&[bf16]> {
        match arg {
            Arg::Half(k) => match self.loads[k as usize] {
                Slice::BF16(memory) => Some(&memory[self.row.loads[k as usize] + at..][..n]),
                _ => None,
            },
            _ => None,
        }
    }

    #[inline(always)]
    fn run(&mut self, link: &Link, spare: &mut Box<Block>, at: usize, n: usize) {
        // The destination is taken out, so that everything else can be read.
        let mut memory: &mut [f32] = &mut [];
        let mut streamed = false;
        match link.to {
            To::Kept(k) => memory = std::mem::take(&mut self.kept[k as usize]),
            To::Output(k) => {
                memory = std::mem::take(&mut self.outputs[k as usize]);
                streamed = self.streams;
            }
            _ => {}
        }
        let to = self.row.window + at;
        if memory.is_empty() || streamed {
            self.compute(link, &mut spare.0[..n], at);
        } else {
            self.compute(link, &mut memory[to..to + n], at);
        }
        if streamed {
            stream::copy(&spare.0[..n], &mut memory[to..to + n]);
        }
        match link.to {
            To::Kept(k) => self.kept[k as usize] = memory,
            To::Output(k) => self.outputs[k as usize] = memory,
            To::Block(r) => std::mem::swap(&mut self.blocks[r as usize], spare),
            To::Nothing => {}
        }
    }

    #[inline(always)]
    fn compute(&self, link: &Link, out: &mut [f32], at: usize) {
        let n = out.len();
        let [a, b, _] = link.args;
        match link.code {
            Code::Load(k) => {
                let from = self.row.loads[k as usize] + at;
                f32::read_run(self.loads[k as usize], from..from + n, out);
            }
            Code::Truth(k) => {
                let from = self.row.truths[k as usize] + at;
                lanes::truths(out, &self.truths[k as usize][from..from + n]);
            }
            Code::Rand(k) => lanes::rand(out, self.row.seeds[k as usize], self.row.first + at as u64),
            Code::OneHot(k) => {
                lanes::copy(out, self.arg(b, at, n));
                let hot = self.row.hots[k as usize];
                if (at..at + n).contains(&hot) {
                    out[hot - at] = self.arg(a, at, n).at(hot - at);
                }
            }
            _ => match self.halves(a, at, n) {
                Some(x) => {
                    widening(link, out, x, |arg| self.arg(arg, at, n));
                }
                None => pointwise(link, out, |arg| self.arg(arg, at, n)),
            },
        }
    }
}

/// What 16-bit memory may be the first operand of, too: is the link of that kind?
#[inline(always)]
fn widening<'a, A: Wide>(link: &Link, out: &mut [f32], x: &[A], arg: impl Fn(Arg) -> Src<'a, f32>) -> bool {
    let [_, b, c] = link.args;
    match link.code {
        Code::Pair(first, second) => pair(first, second, out, x, arg(b), arg(c)),
        Code::Blend(d) => blend(out, x, arg(c).lanes(), [arg(b).at(0), arg(Arg::Splat(d)).at(0)]),
        Code::Norm(d, e) => {
            let [d, e] = [d, e].map(|k| arg(Arg::Memory(k)).lanes());
            norm(out, x, [arg(b).at(0), arg(c).at(0)], [d, e]);
        }
        Code::ExpSub => lanes::exp_sub(out, x, arg(b)),
        _ => return false,
    }
    true
}

/// What needs nothing but operands.
#[inline(always)]
fn pointwise<'a>(link: &Link, out: &mut [f32], arg: impl Fn(Arg) -> Src<'a, f32>) {
    let [a, b, c] = link.args;
    if widening(link, out, arg(a).lanes(), &arg) {
        return;
    }
    match link.code {
        Code::Op(op, 1) => f32::unary(op, out, arg(a)),
        Code::Op(op, 2) => f32::binary(op, out, arg(a), arg(b)),
        Code::Op(..) => f32::fma(out, arg(a), arg(b), arg(c)),
        Code::Predicate(op) => lanes::predicate(op, out, arg(a), arg(b)),
        Code::Select => lanes::select(out, arg(a), arg(b), arg(c)),
        Code::Copy => lanes::copy(out, arg(a)),
        Code::Round(dtype) => {
            lanes::copy(out, arg(a));
            lanes::round_to(out, dtype);
        }
        _ => {}
    }
}

impl Sinks<'_, '_> {
    /// Reductions begin.
    fn start(&mut self) {
        for ((_, op), state) in self.reduces.iter().zip(&mut *self.states) {
            match op {
                ReduceOp::Sum => state.sums = Sums::ZERO,
                op => state.best = Best::new(op.identity(DType::F32) as f32),
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, link: &Link, from: &Lanes<'_>, at: usize, n: usize) {
        let (x, halves) = (from.arg(link.args[0], at, n), from.halves(link.args[0], at, n));
        match link.code {
            Code::Reduce(k) => {
                let (state, op) = (&mut self.states[k as usize], self.reduces[k as usize].1);
                match (op, halves) {
                    (ReduceOp::Sum, Some(x)) => state.sums.add_halves(x),
                    (ReduceOp::Sum, None) => state.sums.add(x.lanes()),
                    (_, Some(x)) => state.best.add(x, is_largest(op)),
                    (_, None) => state.best.add(x.lanes(), is_largest(op)),
                }
            }
            Code::SumOfProducts(k) => {
                let sums = &mut self.states[k as usize].sums;
                let (y, y_halves) = (from.arg(link.args[1], at, n).lanes(), from.halves(link.args[1], at, n));
                match (halves, y_halves) {
                    (Some(x), Some(y)) => sums.add_products(x, y),
                    (Some(x), None) => sums.add_products(x, y),
                    (None, Some(y)) => sums.add_products(x.lanes(), y),
                    (None, None) => sums.add_products(x.lanes(), y),
                }
            }
            Code::SumOfSquares(k) => {
                let m = from.arg(link.args[1], at, n).at(0);
                let sums = &mut self.states[k as usize].sums;
                match halves {
                    Some(x) => sums.add_squares(x, m),
                    None => sums.add_squares(x.lanes(), m),
                }
            }
            Code::SumRows(acc) => {
                let start = self.sums_at + at;
                sums::add_to(&mut self.row_sums[acc as usize][start..start + n], x);
            }
            Code::SumAll(acc) => self.all_sums[acc as usize] += sums::total(x, n),
            Code::Store(k) => {
                let to = from.row.window + at;
                let range = to..to + n;
                match &mut self.stores[k as usize] {
                    Some(window) if self.streams => memory::stream(window, range, x, self.halves),
                    Some(window) => memory::store(window, range, x),
                    None => {}
                }
            }
            _ => {}
        }
    }
}

/// Of lanes that are compared: is it the largest that is looked for, or the smallest? Any and all are those of truth values.
fn is_largest(op: ReduceOp) -> bool {
    matches!(op, ReduceOp::Max | ReduceOp::Any)
}

impl State {
    fn value(&self, op: ReduceOp) -> f64 {
        match op {
            ReduceOp::Sum => self.sums.total(),
            op => self.best.finish(is_largest(op)).map_or(f64::NAN, f64::from),
        }
    }
}

impl Scratch {
    /// Room for this chain.
    fn make(&mut self, chain: &Chain) {
        if self.blocks.len() <= chain.blocks {
            self.blocks.resize_with(chain.blocks + 1, Box::default);
        }
        if self.states.len() < chain.reduces.len() {
            let none = State { sums: Sums::ZERO, best: Best::new(0.0) };
            self.states.resize(chain.reduces.len(), none);
        }
    }
}

impl Chain {
    /// Runs a pointwise chain over so many lanes of inputs that lie flat.
    pub fn run_few(
        &self,
        inputs: &[Slice<'_>],
        uniforms: &[Scalar],
        outputs: &mut [Window<'_>],
        scratch: &mut Scratch,
        count: usize,
    ) {
        scratch.make(self);
        let (blocks, spare) = scratch.blocks.split_at_mut(self.blocks);
        for at in (0..count).step_by(BLOCK) {
            let n = BLOCK.min(count - at);
            for link in &self.links {
                let arg = |arg: Arg| match arg {
                    Arg::Block(r) => Src::Lanes(&blocks[r as usize].0[..n]),
                    Arg::Splat(k) => Src::Splat(self.splats[k as usize].given(uniforms)),
                    Arg::Half(_) => Src::Lanes(&[]),
                    Arg::Memory(k) | Arg::Kept(k) => match self.memory[k as usize] {
                        Place::Input(slot) => {
                            Src::Lanes(f32::slice(inputs[slot as usize]).map_or(&[], |l| &l[at..at + n]))
                        }
                        _ => Src::Lanes(&[]),
                    },
                };
                match link.to {
                    To::Output(k) => {
                        if let Window::F32(window) = &mut outputs[self.outputs[k as usize] as usize] {
                            pointwise(link, &mut window[at..at + n], arg);
                        }
                    }
                    To::Block(r) => {
                        pointwise(link, &mut spare[0].0[..n], arg);
                        std::mem::swap(&mut blocks[r as usize], &mut spare[0]);
                    }
                    To::Kept(_) | To::Nothing => {}
                }
            }
        }
    }

    /// Runs it over these columns of some rows. Inputs that do not lie flat have been gathered, which is for one row alone.
    pub fn run(&self, env: &mut Env<'_, '_>, rows: Range<usize>, cols: Range<usize>) {
        // What is written is apart from what is read, but not for the compiler: it is taken out and put back.
        let mut scratch = env.local.chain.take().unwrap_or_default();
        let keeps = !self.kept.is_empty() || self.memory.iter().any(|p| matches!(p, Place::Kept(_)));
        let mut registers = if keeps { std::mem::take(f32::list_mut(&mut env.local.kept)) } else { vec![] };
        let mut accs = std::mem::take(&mut env.local.accs);
        let windows = std::mem::take(&mut env.outputs);
        let (row_sums, all_sums) = (std::mem::take(&mut env.row_sums), std::mem::take(&mut env.all_sums));
        scratch.make(self);
        let (blocks, spare) = scratch.blocks.split_at_mut(self.blocks);
        let mut lanes = Lanes {
            blocks,
            memory: [&[]; FEW],
            kept: Default::default(),
            outputs: Default::default(),
            streams: env.streams,
            loads: [Slice::U8(&[]); FEW],
            truths: [&[]; RARE],
            row: Row::default(),
        };
        let mut sinks = Sinks {
            reduces: &self.reduces,
            states: &mut scratch.states,
            row_sums: &mut *row_sums,
            sums_at: cols.start - env.first_col,
            all_sums: &mut *all_sums,
            stores: Default::default(),
            streams: env.streams,
            halves: &mut scratch.halves,
        };
        self.find(env, cols.len(), &mut lanes);
        for (r, register) in registers.iter_mut().enumerate() {
            if let Some(k) = self.kept.iter().position(|w| *w as usize == r) {
                lanes.kept[k] = register;
            } else if let Some(k) = self.memory.iter().position(|p| *p == Place::Kept(r as u16)) {
                lanes.memory[k] = register;
            }
        }
        for (slot, window) in windows.iter_mut().enumerate() {
            if let Some(k) = self.stores.iter().position(|w| *w as usize == slot) {
                sinks.stores[k] = Some(window);
            } else if let Some(k) = self.outputs.iter().position(|w| *w as usize == slot)
                && let Window::F32(window) = window
            {
                lanes.outputs[k] = window;
            }
        }
        let block = if env.ahead.is_some() { Ahead::block(self.links.len()) } else { BLOCK };
        for row in rows {
            self.enter(env, row, cols.clone(), &mut lanes.row);
            sinks.start();
            for at in (0..cols.len()).step_by(block) {
                let n = block.min(cols.len() - at);
                for (j, link) in self.links.iter().enumerate() {
                    if let Some(ahead) = env.ahead {
                        let share = (self.work[j], self.work[j + 1], self.work[self.links.len()]);
                        ahead.ask(env.first_row + row, cols.start + at, n, share);
                    }
                    match link.to {
                        To::Nothing => sinks.take(link, &lanes, at, n),
                        _ => lanes.run(link, &mut spare[0], at, n),
                    }
                }
            }
            for ((acc, op), state) in self.reduces.iter().zip(&*sinks.states) {
                accs.add_value(*acc as usize, *op, row, state.value(*op));
            }
        }
        (env.outputs, env.row_sums, env.all_sums) = (windows, row_sums, all_sums);
        if keeps {
            *f32::list_mut(&mut env.local.kept) = registers;
        }
        env.local.accs = accs;
        env.local.chain = Some(scratch);
    }

    /// Finds the memory of inputs and columns.
    fn find<'e>(&self, env: &'e Env<'_, '_>, width: usize, lanes: &mut Lanes<'e>) {
        for (memory, place) in lanes.memory.iter_mut().zip(&self.memory) {
            *memory = match *place {
                Place::Input(slot) => env.input_memory::<f32>(slot, width),
                Place::Col(reg) => env.columns::<f32>(reg),
                _ => &[],
            };
        }
        for (load, slot) in lanes.loads.iter_mut().zip(&self.loads) {
            *load = env.launch.inputs[*slot as usize].data;
        }
        for (truths, slot) in lanes.truths.iter_mut().zip(&self.truths) {
            *truths = env.input_memory::<u8>(*slot, width);
        }
    }

    /// Finds what is of one row.
    fn enter(&self, env: &Env<'_, '_>, row: usize, cols: Range<usize>, to: &mut Row) {
        let (col, width) = (cols.start, cols.len());
        let d = Domain::Tile { row, rows: 1, col, width: 1 };
        to.window = env.window_range(d).start;
        to.first = (env.first_row + row) as u64 * env.cols as u64 + col as u64;
        for (value, splat) in to.splats.iter_mut().zip(&self.splats) {
            *value = match *splat {
                Splat::Float(place) => env.src::<f32>(place, d).at(0),
                Splat::Truth(place) => f32::lane(env.src::<u8>(place, d).at(0) != 0),
                given => given.given(env.launch.uniforms),
            };
        }
        for (start, place) in to.memory.iter_mut().zip(&self.memory) {
            *start = match *place {
                Place::Input(slot) => env.input_start(slot, row, col, width),
                Place::Col(_) => col,
                _ => to.window,
            };
        }
        for (start, slot) in to.loads.iter_mut().zip(&self.loads) {
            *start = env.input_start(*slot, row, col, width);
        }
        for (start, slot) in to.truths.iter_mut().zip(&self.truths) {
            *start = env.input_start(*slot, row, col, width);
        }
        for (seed, place) in to.seeds.iter_mut().zip(&self.seeds) {
            *seed = env.src::<i64>(*place, d).at(0);
        }
        for (hot, (dtype, place)) in to.hots.iter_mut().zip(&self.hots) {
            let t = with_lane!(*dtype, T => env.src::<T>(*place, d).at(0).to_i64());
            *hot = usize::try_from(t).ok().and_then(|t| t.checked_sub(col)).unwrap_or(usize::MAX);
        }
    }
}
