//! The tiles of a pass as one loop. Where all steps of a pass work on f32 lanes, a stretch of a row goes through all of
//! them block by block: a step costs a few nanoseconds instead of thirty, and what lies between two steps never leaves
//! L1. What a step computes is the same as in `exec`, which runs all other passes.
//!
//! `build` makes it of the steps of a pass, `fuse` makes one link of two, `run` runs it over rows.

mod build;
mod fuse;
mod run;

pub use run::Scratch;

use super::{bank::Place, pair::Cheap};
use crate::Launch;
use zmlx_ir::{DType, Op, Scalar, program::ReduceOp};

/// Lanes of a block: a handful of them fits in L1 beside what is read and written.
pub const BLOCK: usize = 1024;
/// Lanes of a stretch: what is gathered for a chain at once, where inputs do not lie flat.
pub const STRETCH: usize = 16 * 1024;

/// Where a step reads: a block, one value for all lanes, memory that lies flat, a kept register that this chain writes, bf16
/// memory among the loads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arg {
    Block(u8),
    Splat(u8),
    Memory(u8),
    Kept(u8),
    Half(u8),
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
    /// `((a - b) * c) * d + e` with one b and one c for all lanes, d and e in memory: what layer normalisation ends in.
    Norm(u8, u8),
    /// `a * b + c * d` with one b and one d, a splat, for all lanes: a moving average.
    Blend(u8),
    /// e to the difference of two operands.
    ExpSub,
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
    /// A sum of squares of the difference of lanes and one value for all of them.
    SumOfSquares(u8),
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
    /// Rough work on a lane: that of its ops, and one for what is read and written.
    fn work(&self) -> usize {
        let ops = match self.code {
            Code::Op(op, _) | Code::Predicate(op) => op.row().cost,
            Code::ExpSub => Op::Exp.row().cost + 1,
            Code::Pair(_, Cheap::Div) => 1 + Op::Div.row().cost,
            Code::Pair(..) | Code::SumOfProducts(_) | Code::Store(_) => 2,
            Code::Blend(_) | Code::SumOfSquares(_) => 3,
            Code::Norm(..) => 4,
            Code::Rand(_) => 20,
            _ => 1,
        };
        ops as usize + 1
    }

    /// What it reads.
    fn reads(&self) -> &[Arg] {
        let count = match self.code {
            Code::Load(_) | Code::Truth(_) | Code::Rand(_) => 0,
            Code::Op(_, operands) => operands as usize,
            Code::ExpSub | Code::Predicate(_) | Code::OneHot(_) | Code::SumOfProducts(_) | Code::SumOfSquares(_) => 2,
            Code::Pair(..) | Code::Blend(_) | Code::Norm(..) | Code::Select => 3,
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
    /// Work before each link, and that of all.
    work: Vec<usize>,
    /// It is pointwise, from f32 inputs, constants and launch arguments to f32 outputs.
    pub pointwise: bool,
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

impl Splat {
    /// The value, of one that the launch gives.
    fn given(self, uniforms: &[Scalar]) -> f32 {
        match self {
            Splat::Const(value) => value,
            Splat::Uniform(slot) => match uniforms[slot as usize] {
                Scalar::Float(v) => v as f32,
                Scalar::Int(v) => v as f32,
            },
            Splat::Float(_) | Splat::Truth(_) => f32::NAN,
        }
    }
}

impl Chain {
    /// Is it pointwise, from f32 inputs, constants and launch arguments to f32 outputs?
    fn is_pointwise(&self) -> bool {
        let given = |s: &Splat| matches!(s, Splat::Const(_) | Splat::Uniform(_));
        let needs_operands = |l: &Link| {
            let Link { code, to, .. } = l;
            let writes = matches!(to, To::Block(_) | To::Output(_));
            writes && !matches!(code, Code::Load(_) | Code::Truth(_) | Code::Rand(_) | Code::OneHot(_))
        };
        self.splats.iter().all(given)
            && self.memory.iter().all(|p| matches!(p, Place::Input(_)))
            && self.links.iter().all(needs_operands)
    }

    /// Can it run on these views? Memory of other types must lie flat; f32 memory that does not is gathered before.
    pub fn fits(&self, launch: &Launch<'_>) -> bool {
        self.loads.iter().all(|s| launch.inputs[*s as usize].lies_flat(launch.cols))
    }
}
