//! A chain over lanes of one row: block by block, through all links.

use super::{Arg, BLOCK, Chain, Code, FEW, Link, RARE, Splat, To};
use crate::{
    Slice,
    backend::cpu::{
        bank::{Lane, Place, with_lane},
        exec::{Domain, Env, OutLane, Window},
        lanes::{self, Arith, Src, Truth},
        memory::{self, FromMemory, Halves},
        pair::pair,
        reduce::Best,
        stream,
        sums::{self, Sums},
    },
};
use zmlx_ir::{Scalar, program::ReduceOp};

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

/// Where values come from and where lanes go.
struct Lanes<'m> {
    blocks: &'m mut [Box<Block>],
    splats: [f32; FEW],
    memory: [&'m [f32]; FEW],
    kept: [&'m mut [f32]; FEW],
    outputs: [&'m mut [f32]; FEW],
    /// Outputs are stored past the caches.
    streams: bool,
    loads: [Slice<'m>; FEW],
    truths: [&'m [u8]; RARE],
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
    /// Where the stretch begins in the sums over rows.
    sums_at: usize,
    all_sums: &'m mut [f64],
    stores: [Option<&'m mut Window<'w>>; FEW],
    /// Where the stretch begins in the windows of the stores.
    stores_at: usize,
    streams: bool,
    halves: &'m mut Halves,
}

impl Lanes<'_> {
    #[inline(always)]
    fn arg(&self, arg: Arg, at: usize, n: usize) -> Src<'_, f32> {
        match arg {
            Arg::Block(r) => Src::Lanes(&self.blocks[r as usize].0[..n]),
            Arg::Splat(k) => Src::Splat(self.splats[k as usize]),
            Arg::Memory(k) => Src::Lanes(&self.memory[k as usize][at..at + n]),
            Arg::Kept(k) => Src::Lanes(&self.kept[k as usize][at..at + n]),
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
        if memory.is_empty() || streamed {
            self.compute(link, &mut spare.0[..n], at);
        } else {
            self.compute(link, &mut memory[at..at + n], at);
        }
        if streamed {
            stream::copy(&spare.0[..n], &mut memory[at..at + n]);
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
            Code::Load(k) => f32::read_run(self.loads[k as usize], at..at + n, out),
            Code::Truth(k) => {
                for (y, x) in out.iter_mut().zip(&self.truths[k as usize][at..at + n]) {
                    *y = f32::lane(*x != 0);
                }
            }
            Code::Rand(k) => lanes::rand(out, self.seeds[k as usize], self.first + at as u64),
            Code::OneHot(k) => {
                lanes::copy(out, self.arg(b, at, n));
                let hot = self.hots[k as usize];
                if (at..at + n).contains(&hot) {
                    out[hot - at] = self.arg(a, at, n).at(hot - at);
                }
            }
            _ => pointwise(link, out, |arg| self.arg(arg, at, n)),
        }
    }
}

/// What needs nothing but operands.
#[inline(always)]
fn pointwise<'a>(link: &Link, out: &mut [f32], arg: impl Fn(Arg) -> Src<'a, f32>) {
    let [a, b, c] = link.args;
    match link.code {
        Code::Op(op, 1) => f32::unary(op, out, arg(a)),
        Code::Op(op, 2) => f32::binary(op, out, arg(a), arg(b)),
        Code::Op(..) => f32::fma(out, arg(a), arg(b), arg(c)),
        Code::Pair(first, second) => pair(first, second, out, arg(a).lanes(), arg(b), arg(c)),
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
    #[inline(always)]
    fn take(&mut self, link: &Link, from: &Lanes<'_>, at: usize, n: usize) {
        let x = from.arg(link.args[0], at, n);
        match link.code {
            Code::Reduce(k) => {
                let state = &mut self.states[k as usize];
                match self.reduces[k as usize].1 {
                    ReduceOp::Max => state.best.add(x.lanes(), true),
                    ReduceOp::Min => state.best.add(x.lanes(), false),
                    _ => state.sums.add(x.lanes()),
                }
            }
            Code::SumOfProducts(k) => {
                let y = from.arg(link.args[1], at, n);
                self.states[k as usize].sums.add_products(x.lanes(), y.lanes());
            }
            Code::SumOfSquares(k) => {
                let m = from.arg(link.args[1], at, n).at(0);
                self.states[k as usize].sums.add_squares(x.lanes(), m);
            }
            Code::SumRows(acc) => {
                let start = self.sums_at + at;
                sums::add_to(&mut self.row_sums[acc as usize][start..start + n], x);
            }
            Code::SumAll(acc) => self.all_sums[acc as usize] += sums::total(x, n),
            Code::Store(k) => {
                let range = self.stores_at + at..self.stores_at + at + n;
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

impl Scratch {
    fn start(&mut self, chain: &Chain) {
        if self.blocks.len() <= chain.blocks {
            self.blocks.resize_with(chain.blocks + 1, Box::default);
        }
        if self.states.len() < chain.reduces.len() {
            let none = State { sums: Sums::ZERO, best: Best::new(0.0) };
            self.states.resize(chain.reduces.len(), none);
        }
        for ((_, op), state) in chain.reduces.iter().zip(&mut self.states) {
            match op {
                ReduceOp::Max => state.best = Best::new(f32::NEG_INFINITY),
                ReduceOp::Min => state.best = Best::new(f32::INFINITY),
                _ => state.sums = Sums::ZERO,
            }
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
        scratch.start(self);
        let (blocks, spare) = scratch.blocks.split_at_mut(self.blocks);
        for at in (0..count).step_by(BLOCK) {
            let n = BLOCK.min(count - at);
            for link in &self.links {
                let arg = |arg: Arg| match arg {
                    Arg::Block(r) => Src::Lanes(&blocks[r as usize].0[..n]),
                    Arg::Splat(k) => Src::Splat(self.splats[k as usize].given(uniforms)),
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

    /// Runs it over lanes of one row.
    pub fn run(&self, env: &mut Env<'_, '_>, d: Domain) {
        let Domain::Tile { row, col, width, .. } = d else { return };
        // What is written is apart from what is read, but not for the compiler: it is taken out and put back.
        let mut scratch = env.local.chain.take().unwrap_or_default();
        let keeps = !self.kept.is_empty() || self.memory.iter().any(|p| matches!(p, Place::Kept(_)));
        let mut registers = if keeps { std::mem::take(f32::list_mut(&mut env.local.kept)) } else { vec![] };
        let windows = std::mem::take(&mut env.outputs);
        let (row_sums, all_sums) = (std::mem::take(&mut env.row_sums), std::mem::take(&mut env.all_sums));
        scratch.start(self);
        let (blocks, spare) = scratch.blocks.split_at_mut(self.blocks);
        let mut lanes = Lanes {
            blocks,
            splats: [0.0; FEW],
            memory: [&[]; FEW],
            kept: Default::default(),
            outputs: Default::default(),
            streams: env.streams,
            loads: [Slice::U8(&[]); FEW],
            truths: [&[]; RARE],
            seeds: [0; RARE],
            first: (env.first_row + row) as u64 * env.cols as u64 + col as u64,
            hots: [usize::MAX; RARE],
        };
        let range = env.window_range(d);
        let mut sinks = Sinks {
            reduces: &self.reduces,
            states: &mut scratch.states,
            row_sums: &mut *row_sums,
            sums_at: col - env.first_col,
            all_sums: &mut *all_sums,
            stores: Default::default(),
            stores_at: range.start,
            streams: env.streams,
            halves: &mut scratch.halves,
        };
        self.resolve(env, d, &mut lanes);
        let read = |place: Place| self.memory.iter().position(|p| *p == place);
        for (r, register) in registers.iter_mut().enumerate() {
            if let Some(k) = self.kept.iter().position(|w| *w as usize == r) {
                lanes.kept[k] = &mut register[range.clone()];
            } else if let Some(k) = read(Place::Kept(r as u16)) {
                lanes.memory[k] = &register[range.clone()];
            }
        }
        for (slot, window) in windows.iter_mut().enumerate() {
            if let Some(k) = self.stores.iter().position(|w| *w as usize == slot) {
                sinks.stores[k] = Some(window);
            } else if let Some(k) = self.outputs.iter().position(|w| *w as usize == slot)
                && let Window::F32(window) = window
            {
                lanes.outputs[k] = &mut window[range.clone()];
            }
        }
        let block = env.ahead.map_or(BLOCK, |a| a.block(self.links.len()));
        for at in (0..width).step_by(block) {
            let n = block.min(width - at);
            for (j, link) in self.links.iter().enumerate() {
                if let Some(ahead) = env.ahead {
                    ahead.ask(env.first_row + row, col + at, n, (j, self.links.len()));
                }
                match link.to {
                    To::Nothing => sinks.take(link, &lanes, at, n),
                    _ => lanes.run(link, &mut spare[0], at, n),
                }
            }
        }
        (env.outputs, env.row_sums, env.all_sums) = (windows, row_sums, all_sums);
        if keeps {
            *f32::list_mut(&mut env.local.kept) = registers;
        }
        for ((acc, op), state) in self.reduces.iter().zip(&scratch.states) {
            let value = match op {
                ReduceOp::Max => f64::from(state.best.finish(true).unwrap_or(f32::NAN)),
                ReduceOp::Min => f64::from(state.best.finish(false).unwrap_or(f32::NAN)),
                _ => state.sums.total(),
            };
            env.local.accs.add_float(*acc as usize, *op, row, value);
        }
        env.local.chain = Some(scratch);
    }

    /// Finds what is read of inputs, columns, rows and scalars.
    fn resolve<'e>(&self, env: &'e Env<'_, '_>, d: Domain, lanes: &mut Lanes<'e>) {
        for (value, splat) in lanes.splats.iter_mut().zip(&self.splats) {
            *value = match *splat {
                Splat::Float(place) => env.src::<f32>(place, d).at(0),
                Splat::Truth(place) => f32::lane(env.src::<u8>(place, d).at(0) != 0),
                given => given.given(env.launch.uniforms),
            };
        }
        for (memory, place) in lanes.memory.iter_mut().zip(&self.memory) {
            if let Place::Input(_) | Place::Col(_) = place {
                *memory = env.src::<f32>(*place, d).lanes();
            }
        }
        for (load, slot) in lanes.loads.iter_mut().zip(&self.loads) {
            *load = memory::flat(env.launch, *slot as usize, env.first_row, d);
        }
        for (truths, slot) in lanes.truths.iter_mut().zip(&self.truths) {
            *truths = env.src::<u8>(Place::Input(*slot), d).lanes();
        }
        for (seed, place) in lanes.seeds.iter_mut().zip(&self.seeds) {
            *seed = env.src::<i64>(*place, d).at(0);
        }
        for (hot, (dtype, place)) in lanes.hots.iter_mut().zip(&self.hots) {
            let t = with_lane!(*dtype, T => env.src::<T>(*place, d).at(0).to_i64());
            let Domain::Tile { col, .. } = d else { return };
            *hot = usize::try_from(t).ok().and_then(|t| t.checked_sub(col)).unwrap_or(usize::MAX);
        }
    }
}
