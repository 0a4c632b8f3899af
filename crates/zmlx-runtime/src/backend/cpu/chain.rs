//! The tiles of a pass as one loop. Where all steps of a pass work on f32 lanes, a stretch of a row goes through all of
//! them block by block inside one SIMD dispatch: a step costs a few nanoseconds instead of thirty, and what lies between
//! two steps never leaves L1. What a step computes is the same as in `exec`, which runs all other passes.

use super::{
    bank::{Lane, Place, with_lane},
    exec::{Domain, Env, OutLane, Window},
    lanes::{self, Arith, Src, Sums, Truth},
    memory::{self, FromMemory, Halves},
    pair::{Cheap, pair},
    plan::{Step, step_reads},
    reduce::Best,
    stream,
};
use crate::{Launch, Slice};
use zmlx_ir::{
    DType, Op, Scalar,
    program::{ReduceOp, philox},
};

/// Lanes of a block: a handful of them fits in L1 beside what is read and written.
const BLOCK: usize = 1024;
/// Lanes of a stretch: what a chain runs over before the next row or stretch begins.
pub const STRETCH: usize = 16 * 1024;

/// Where a step reads: a block, one value for all lanes, memory that lies flat, a kept register that this chain writes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arg {
    Block(u8),
    Splat(u8),
    Memory(u8),
    Kept(u8),
}

/// Where a step writes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Block(u8),
    Kept(u8),
    Output(u8),
    Nothing,
}

/// What a step does. Truth values are lanes of 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Code {
    /// An op of so many operands.
    Op(Op, u8),
    /// Two ops: the second one's operands are the value of the first and the third argument.
    Pair(Cheap, Cheap),
    Predicate(Op),
    Select,
    Copy,
    /// To 16-bit precision.
    Round(DType),
    /// Memory of another type.
    Load(u8),
    /// Truth values of memory.
    Truth(u8),
    Rand(u8),
    /// Lane `k` from the first operand, the others from the second.
    OneHot(u8),
    Reduce(u8),
    /// A sum of products.
    SumOfProducts(u8),
    SumRows(u16),
    SumAll(u16),
    /// To memory of another type.
    Store(u8),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Link {
    code: Code,
    to: To,
    args: [Arg; 3],
}

impl Link {
    /// What it reads.
    fn reads(&self) -> &[Arg] {
        let count = match self.code {
            Code::Load(_) | Code::Truth(_) | Code::Rand(_) => 0,
            Code::Op(_, operands) => operands as usize,
            Code::Predicate(_) | Code::OneHot(_) | Code::SumOfProducts(_) => 2,
            Code::Pair(..) | Code::Select => 3,
            _ => 1,
        };
        &self.args[..count]
    }
}

/// The steps of a pass in the form that runs fastest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    links: Vec<Link>,
    blocks: usize,
    splats: Vec<Splat>,
    memory: Vec<Place>,
    kept: Vec<u16>,
    outputs: Vec<u16>,
    loads: Vec<u16>,
    truths: Vec<u16>,
    seeds: Vec<Place>,
    hots: Vec<(DType, Place)>,
    reduces: Vec<(u16, ReduceOp)>,
    stores: Vec<u16>,
}

/// Most splats, most stretches of memory of a kind, and most of what is rare, that a chain has.
const FEW: usize = 8;
const RARE: usize = 2;

/// One value for all lanes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Splat {
    Const(f32),
    Uniform(u16),
    /// Of the row or the launch.
    Float(Place),
    Truth(Place),
}

/// Position of a value in a list, at its end if it is new; None if there are too many.
fn index<T: PartialEq>(list: &mut Vec<T>, value: T, most: usize) -> Option<u8> {
    let at = list.iter().position(|v| *v == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    });
    (at < most).then_some(at as u8)
}

struct Builder<'a> {
    chain: Chain,
    scalars: &'a [Step],
    /// f32 registers come first, then those of truth values.
    tiles: usize,
    outputs: &'a [DType],
    truth_blocks: Vec<(u16, u8)>,
    /// Outputs that later steps read, and the blocks that hold them: what was stored past the caches is far away.
    output_blocks: Vec<(u16, u8)>,
}

impl Chain {
    /// The chain of these steps, if every one of them has its place in one. `scalars`: the steps that make those;
    /// `tiles`: f32 tile registers of the plan; `outputs`: types in memory.
    pub fn of(steps: &[Step], scalars: &[Step], tiles: u16, outputs: &[DType]) -> Option<Chain> {
        let mut b = Builder {
            chain: Chain::default(),
            scalars,
            tiles: tiles as usize,
            outputs,
            truth_blocks: vec![],
            output_blocks: vec![],
        };
        b.chain.blocks = b.tiles;
        for (_, place) in steps.iter().flat_map(step_reads) {
            if let Place::Output(slot) = place
                && !b.output_blocks.iter().any(|(s, _)| *s == slot)
            {
                let block = b.new_block()?;
                b.output_blocks.push((slot, block));
            }
        }
        for step in steps {
            b.link(step)?;
        }
        b.chain.fuse();
        // what is read from memory must not be what is being written
        let c = &b.chain;
        let written = |p: &Place| match *p {
            Place::Kept(r) => c.kept.contains(&r),
            _ => false,
        };
        (!c.memory.iter().any(written) && !c.links.is_empty()).then_some(b.chain)
    }

    /// Makes one link of two where a value goes from the first to the second and nowhere else.
    fn fuse(&mut self) {
        let mut at = 0;
        while at < self.links.len() {
            match self.fused(at) {
                Some((next, link)) => {
                    self.links[next] = link;
                    self.links.remove(at);
                }
                None => at += 1,
            }
        }
    }

    /// The reader of link `at`, and the link that does the work of both.
    fn fused(&self, at: usize) -> Option<(usize, Link)> {
        let Link { code: Code::Op(op, 2), to: To::Block(value), args: [a, b, _] } = self.links[at] else { return None };
        let reads = |l: &Link, block: u8| l.reads().contains(&Arg::Block(block));
        let after = &self.links[at + 1..];
        let next = after.iter().position(|l| reads(l, value))?;
        // overwritten before it is read: it would be another value
        let overwritten = |links: &[Link], block: u8| links.iter().any(|l| l.to == To::Block(block));
        let moves = |arg: Arg| !matches!(arg, Arg::Block(r) if overwritten(&after[..next], r));
        let rest = &after[next + 1..];
        let until = rest.iter().position(|l| l.to == To::Block(value)).map_or(rest.len(), |k| k + 1);
        let read_again = after[next].to != To::Block(value) && rest[..until].iter().any(|l| reads(l, value));
        if overwritten(&after[..next], value) || read_again || !moves(a) || !moves(b) {
            return None;
        }
        let Link { code, to, args } = after[next];
        let lanes = |arg: Arg| !matches!(arg, Arg::Splat(_));
        let link = match code {
            Code::Reduce(k) if self.reduces[k as usize].1 == ReduceOp::Sum && op == Op::Mul && lanes(a) && lanes(b) => {
                Link { code: Code::SumOfProducts(k), to, args: [a, b, b] }
            }
            Code::Op(second, 2) if (args[0] == Arg::Block(value)) != (args[1] == Arg::Block(value)) => {
                let (a, b, a_first) = if lanes(a) { (a, b, true) } else { (b, a, false) };
                let value_first = args[0] == Arg::Block(value);
                let c = if value_first { args[1] } else { args[0] };
                let code = Code::Pair(Cheap::of(op, a_first)?, Cheap::of(second, value_first)?);
                lanes(a).then_some(Link { code, to, args: [a, b, c] })?
            }
            _ => return None,
        };
        Some((at + 1 + next, link))
    }

    /// Does it need nothing but inputs, constants and launch arguments, and give nothing but outputs?
    pub fn stands_alone(&self) -> bool {
        let given = |s: &Splat| matches!(s, Splat::Const(_) | Splat::Uniform(_));
        let inputs = |p: &Place| matches!(p, Place::Input(_));
        let gives =
            |l: &Link| !matches!(l.code, Code::Reduce(_) | Code::SumOfProducts(_) | Code::SumRows(_) | Code::SumAll(_));
        self.splats.iter().all(given)
            && self.memory.iter().all(inputs)
            && self.links.iter().all(gives)
            && self.kept.is_empty()
            && self.seeds.is_empty()
            && self.hots.is_empty()
    }

    /// Can it run on these views? Memory of other types must lie flat; f32 memory that does not is gathered before.
    pub fn fits(&self, launch: &Launch<'_>) -> bool {
        self.loads.iter().all(|s| launch.inputs[*s as usize].col_stride == 1 || launch.cols <= 1)
    }
}

impl Builder<'_> {
    fn link(&mut self, step: &Step) -> Option<()> {
        let float = |d: DType| d.compute() == DType::F32;
        let link = match *step {
            Step::Op { op: Op::Select, dtype, dst, args, .. } if float(dtype) => {
                let c = self.truth(args[0])?;
                let [a, b] = [self.arg(args[1])?, self.arg(args[2])?];
                Link { code: Code::Select, to: self.to(dst)?, args: [c, a, b] }
            }
            Step::Op { op, arity: 0, dtype, dst, args } if float(dtype) => {
                let [a, b] = [self.arg(args[0])?, self.arg(args[1])?];
                Link { code: Code::Predicate(op), to: self.truth_to(dst)?, args: [a, b, b] }
            }
            Step::Op { op, arity, dtype, dst, args } if float(dtype) => {
                let args = [self.arg(args[0])?, self.arg(args[1])?, self.arg(args[2])?];
                Link { code: Code::Op(op, arity), to: self.to(dst)?, args }
            }
            Step::Cast { from, to, dst, src } if float(from) && matches!(to, DType::F16 | DType::BF16) => {
                self.one(Code::Round(to), dst, src)?
            }
            Step::Cast { from, to: DType::F32, dst, src } if float(from) => self.one(Code::Copy, dst, src)?,
            Step::Cast { from: DType::Bool, to, dst, src } if float(to) => {
                let x = self.truth(src)?;
                Link { code: Code::Copy, to: self.to(dst)?, args: [x; 3] }
            }
            Step::Copy { dtype, dst, src } if float(dtype) => self.one(Code::Copy, dst, src)?,
            Step::Load { slot, dtype, dst } if float(dtype) => {
                let k = index(&mut self.chain.loads, slot, FEW)?;
                Link { code: Code::Load(k), to: self.to(dst)?, args: [Arg::Block(0); 3] }
            }
            Step::Rand { dst, seed } => {
                let k = index(&mut self.chain.seeds, seed, RARE)?;
                Link { code: Code::Rand(k), to: self.to(dst)?, args: [Arg::Block(0); 3] }
            }
            Step::OneHot { dtype, dst, t, t_dtype, a, b } if float(dtype) => {
                let k = index(&mut self.chain.hots, (t_dtype, t), RARE)?;
                let [a, b] = [self.arg(a)?, self.arg(b)?];
                Link { code: Code::OneHot(k), to: self.to(dst)?, args: [a, b, b] }
            }
            Step::Reduce { op: op @ (ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min), dtype, src, acc, .. }
                if float(dtype) =>
            {
                let k = index(&mut self.chain.reduces, (acc, op), FEW)?;
                self.last(Code::Reduce(k), src)?
            }
            Step::SumRows { dtype, src, acc } if float(dtype) => self.last(Code::SumRows(acc), src)?,
            Step::SumAll { dtype, src, acc } if float(dtype) => self.last(Code::SumAll(acc), src)?,
            Step::Store { slot, dtype, src } if float(dtype) && float(self.outputs[slot as usize]) => {
                match self.outputs[slot as usize] {
                    DType::F32 => self.one(Code::Copy, Place::Output(slot), src)?,
                    _ => {
                        let k = index(&mut self.chain.stores, slot, FEW)?;
                        self.last(Code::Store(k), src)?
                    }
                }
            }
            _ => return None,
        };
        self.chain.links.push(link);
        if let Some((slot, block)) = self.output_blocks.iter().find(|(_, b)| link.to == To::Block(*b)) {
            let k = index(&mut self.chain.outputs, *slot, FEW)?;
            let x = Arg::Block(*block);
            self.chain.links.push(Link { code: Code::Copy, to: To::Output(k), args: [x; 3] });
        }
        Some(())
    }

    fn one(&mut self, code: Code, dst: Place, src: Place) -> Option<Link> {
        let x = self.arg(src)?;
        Some(Link { code, to: self.to(dst)?, args: [x; 3] })
    }

    /// A step that gives no lanes, of an operand that is lanes.
    fn last(&mut self, code: Code, src: Place) -> Option<Link> {
        let x = self.arg(src)?;
        (!matches!(x, Arg::Splat(_))).then_some(Link { code, to: To::Nothing, args: [x; 3] })
    }

    fn arg(&mut self, place: Place) -> Option<Arg> {
        let c = &mut self.chain;
        Some(match place {
            Place::Tile(r) => Arg::Block(u8::try_from(r).ok()?),
            Place::Row(_) | Place::Scalar(_) => {
                let made = self.scalars.iter().find_map(|s| match *s {
                    Step::Const { dtype: DType::F32, dst, bits } if dst == place => {
                        Some(Splat::Const(f64::from_bits(bits) as f32))
                    }
                    Step::Uniform { slot, dtype: DType::F32, dst } if dst == place => Some(Splat::Uniform(slot)),
                    _ => None,
                });
                Arg::Splat(index(&mut c.splats, made.unwrap_or(Splat::Float(place)), FEW)?)
            }
            Place::Kept(r) if c.kept.contains(&r) => Arg::Kept(index(&mut c.kept, r, FEW)?),
            Place::Output(s) => Arg::Block(self.output_blocks.iter().find(|b| b.0 == s)?.1),
            Place::Input(_) | Place::Col(_) | Place::Kept(_) => Arg::Memory(index(&mut c.memory, place, FEW)?),
        })
    }

    fn to(&mut self, place: Place) -> Option<To> {
        Some(match place {
            Place::Tile(r) => To::Block(u8::try_from(r).ok()?),
            Place::Kept(r) => To::Kept(index(&mut self.chain.kept, r, FEW)?),
            Place::Output(s) => match self.output_blocks.iter().find(|b| b.0 == s) {
                Some((_, block)) => To::Block(*block),
                None => To::Output(index(&mut self.chain.outputs, s, FEW)?),
            },
            _ => return None,
        })
    }

    /// Truth values of a place.
    fn truth(&mut self, place: Place) -> Option<Arg> {
        match place {
            Place::Tile(r) => Some(Arg::Block(self.truth_blocks.iter().find(|t| t.0 == r)?.1)),
            Place::Row(_) | Place::Scalar(_) => {
                Some(Arg::Splat(index(&mut self.chain.splats, Splat::Truth(place), FEW)?))
            }
            Place::Input(slot) => {
                let k = index(&mut self.chain.truths, slot, RARE)?;
                let to = self.new_block()?;
                self.chain.links.push(Link { code: Code::Truth(k), to: To::Block(to), args: [Arg::Block(0); 3] });
                Some(Arg::Block(to))
            }
            _ => None,
        }
    }

    fn truth_to(&mut self, place: Place) -> Option<To> {
        let Place::Tile(r) = place else { return None };
        let block = match self.truth_blocks.iter().find(|t| t.0 == r) {
            Some((_, block)) => *block,
            None => {
                let block = self.new_block()?;
                self.truth_blocks.push((r, block));
                block
            }
        };
        Some(To::Block(block))
    }

    fn new_block(&mut self) -> Option<u8> {
        self.chain.blocks += 1;
        u8::try_from(self.chain.blocks - 1).ok()
    }
}

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
        let [a, b, c] = link.args;
        match link.code {
            Code::Op(op, 1) => f32::unary(op, out, self.arg(a, at, n)),
            Code::Op(op, 2) => f32::binary(op, out, self.arg(a, at, n), self.arg(b, at, n)),
            Code::Op(..) => f32::fma(out, self.arg(a, at, n), self.arg(b, at, n), self.arg(c, at, n)),
            Code::Pair(first, second) => {
                let a = self.arg(a, at, n).lanes();
                pair(first, second, out, a, self.arg(b, at, n), self.arg(c, at, n));
            }
            Code::Predicate(op) => {
                lanes::predicate(op, out, self.arg(a, at, n), self.arg(b, at, n));
            }
            Code::Select => {
                lanes::select(out, self.arg(a, at, n), self.arg(b, at, n), self.arg(c, at, n));
            }
            Code::Copy => lanes::copy(out, self.arg(a, at, n)),
            Code::Round(dtype) => {
                lanes::copy(out, self.arg(a, at, n));
                lanes::round_to(out, dtype);
            }
            Code::Load(k) => f32::read_run(self.loads[k as usize], at..at + n, out),
            Code::Truth(k) => {
                for (y, x) in out.iter_mut().zip(&self.truths[k as usize][at..at + n]) {
                    *y = f32::lane(*x != 0);
                }
            }
            Code::Rand(k) => lanes::rand(out, self.seeds[k as usize], self.first + at as u64, philox::philox),
            Code::OneHot(k) => {
                lanes::copy(out, self.arg(b, at, n));
                let hot = self.hots[k as usize];
                if (at..at + n).contains(&hot) {
                    out[hot - at] = self.arg(a, at, n).at(hot - at);
                }
            }
            Code::Reduce(_) | Code::SumOfProducts(_) | Code::SumRows(_) | Code::SumAll(_) | Code::Store(_) => {}
        }
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
            Code::SumRows(acc) => {
                let start = self.sums_at + at;
                lanes::add_to(&mut self.row_sums[acc as usize][start..start + n], x);
            }
            Code::SumAll(acc) => self.all_sums[acc as usize] += lanes::total(x, n),
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
    /// Runs it over lanes of one row.
    #[inline(never)]
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
        for at in (0..width).step_by(BLOCK) {
            let n = BLOCK.min(width - at);
            for link in &self.links {
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
                ReduceOp::Max => f64::from(state.best.finish(true)),
                ReduceOp::Min => f64::from(state.best.finish(false)),
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
                Splat::Const(value) => value,
                Splat::Uniform(slot) => match env.launch.uniforms[slot as usize] {
                    Scalar::Float(v) => v as f32,
                    Scalar::Int(v) => v as f32,
                },
                Splat::Float(place) => env.src::<f32>(place, d).at(0),
                Splat::Truth(place) => f32::lane(env.src::<u8>(place, d).at(0) != 0),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn op(op: Op, dst: u16, args: [Place; 2]) -> Step {
        Step::Op { op, arity: 2, dtype: DType::F32, dst: Place::Tile(dst), args: [args[0], args[1], args[0]] }
    }

    fn codes(steps: &[Step]) -> Vec<Code> {
        let chain = Chain::of(steps, &[], 8, &[DType::F32]).expect("f32 steps make a chain");
        chain.links.iter().map(|l| l.code).collect()
    }

    fn store(reg: u16) -> Step {
        Step::Store { slot: 0, dtype: DType::F32, src: Place::Tile(reg) }
    }

    const X: Place = Place::Input(0);
    const W: Place = Place::Input(1);
    const T: fn(u16) -> Place = Place::Tile;

    #[test]
    fn a_value_that_is_read_once_goes_straight_into_its_reader() {
        let steps = [op(Op::Sub, 0, [Place::Row(0), X]), op(Op::Mul, 1, [T(0), W]), store(1)];
        assert_eq!(codes(&steps), [Code::Pair(Cheap::SubFrom, Cheap::Mul), Code::Copy]);
        let steps = [op(Op::Mul, 0, [X, W]), op(Op::Sub, 1, [W, T(0)]), store(1)];
        assert_eq!(codes(&steps), [Code::Pair(Cheap::Mul, Cheap::SubFrom), Code::Copy]);
    }

    #[test]
    fn a_square_is_summed_as_it_is_made() {
        let sum = Step::Reduce { op: ReduceOp::Sum, dtype: DType::F32, src: T(0), acc: 0, out: Place::Row(0) };
        assert_eq!(codes(&[op(Op::Mul, 0, [X, X]), sum.clone()]), [Code::SumOfProducts(0)]);
        // the square is stored, too
        assert_eq!(
            codes(&[op(Op::Mul, 0, [X, X]), sum, store(0)]),
            [Code::Op(Op::Mul, 2), Code::Reduce(0), Code::Copy]
        );
    }

    #[test]
    fn what_is_read_twice_or_changes_in_between_stays_apart() {
        let twice = [op(Op::Add, 0, [X, W]), op(Op::Mul, 1, [T(0), T(0)]), store(1)];
        assert_eq!(codes(&twice)[..2], [Code::Op(Op::Add, 2), Code::Op(Op::Mul, 2)]);
        let again = [op(Op::Add, 0, [X, W]), op(Op::Mul, 1, [T(0), X]), op(Op::Div, 2, [T(1), T(0)]), store(2)];
        assert_eq!(codes(&again)[..2], [Code::Op(Op::Add, 2), Code::Op(Op::Mul, 2)]);
        // t0 is another value when the reader of t1 runs
        let changes = [
            op(Op::Div, 0, [X, W]),
            op(Op::Add, 1, [T(0), W]),
            op(Op::Div, 0, [W, X]),
            op(Op::Mul, 2, [T(1), T(0)]),
            store(2),
        ];
        assert_eq!(codes(&changes)[1], Code::Op(Op::Add, 2));
        // a block may be written again after its last reader
        let reused = [op(Op::Add, 0, [X, W]), op(Op::Mul, 0, [T(0), X]), op(Op::Div, 1, [T(0), X]), store(1)];
        assert_eq!(codes(&reused)[0], Code::Pair(Cheap::Add, Cheap::Mul));
    }

    #[test]
    fn other_types_and_too_many_of_anything_make_no_chain() {
        let double = Step::Op { op: Op::Add, arity: 2, dtype: DType::F64, dst: T(0), args: [X, W, X] };
        assert_eq!(Chain::of(&[double], &[], 1, &[DType::F32]), None);
        let many: Vec<Step> = (0..FEW as u16 + 1).map(|k| op(Op::Add, 0, [Place::Input(k), X])).collect();
        assert_eq!(Chain::of(&many, &[], 1, &[DType::F32]), None);
    }
}
