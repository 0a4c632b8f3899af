//! What a plan is made of: steps, and the passes that they run in.

use super::{bank::Place, chain::Chain};
use zmlx_ir::{
    DType, Op,
    program::{Column, Index, ReduceOp, Scan},
};

/// One operation over the lanes of a tile, a group of rows, the columns, or a scalar.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A pointwise op on operands of type `dtype`; unused operands repeat the first. `arity` is 0 for predicates,
    /// whose result is a truth value.
    Op { op: Op, arity: u8, dtype: DType, dst: Place, args: [Place; 3] },
    /// A conversion.
    Cast { from: DType, to: DType, dst: Place, src: Place },
    /// Reads an input, converting it to its compute type.
    Load { slot: u16, dtype: DType, dst: Place },
    /// A copy, repeated over the lanes of the destination.
    Copy { dtype: DType, dst: Place, src: Place },
    /// A constant.
    Const { dtype: DType, dst: Place, bits: u64 },
    /// A launch argument.
    Uniform { slot: u16, dtype: DType, dst: Place },
    /// A position or size.
    Index { index: Index, dst: Place },
    /// `x[t]`.
    Pick { slot: u16, dtype: DType, dst: Place, t: Place },
    /// Random numbers in [0, 1).
    Rand { dst: Place, seed: Place },
    /// Adds the lanes to a reduction along the row; `out` is filled when the row is done.
    Reduce { op: ReduceOp, dtype: DType, src: Place, acc: u16, out: Place },
    /// Puts the lanes into the lists of the largest of the row; row registers are filled when it is done.
    Top { dtype: DType, src: Place, acc: u16, ranks: usize, outs: Vec<(ReduceOp, u16)> },
    /// `dst` = (col == t) ? a : b, of which all but one lane are b.
    OneHot { dtype: DType, dst: Place, t: Place, t_dtype: DType, a: Place, b: Place },
    /// Adds the lanes to a sum over the rows.
    SumRows { dtype: DType, src: Place, acc: u16 },
    /// Adds the lanes to a sum over everything.
    SumAll { dtype: DType, src: Place, acc: u16 },
    /// Writes an output.
    Store { slot: u16, dtype: DType, src: Place },
    /// Writes to an output that others lie beside in its tensor, of values of rows or of elements.
    StoreBeside { slot: u16, dtype: DType, src: Place, side: Column },
}

/// A scan over whole rows, kept or in memory, between two passes.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanStep {
    pub scan: Scan,
    pub dtype: DType,
    pub args: Vec<Place>,
    /// Inputs among them.
    pub inputs: Vec<(DType, u16)>,
    pub dst: Place,
}

/// A custom monoid: its update runs as steps of the pass; this says where its accumulators are.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldStep {
    pub dtype: DType,
    pub init: f64,
    /// Tile register of the lane accumulators.
    pub acc: u16,
    /// Update: steps of the tile domain that read `acc` and end in `result`.
    pub update: Vec<Step>,
    pub result: Place,
    /// Combine: steps of the tile domain on two tile registers.
    pub combine: Vec<Step>,
    pub operands: [Place; 2],
    pub combined: Place,
    /// The row register that gets the value.
    pub out: Place,
}

/// One pass over the rows of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// One lane a row, before the tiles.
    pub rows: Vec<Step>,
    /// One lane an element.
    pub tiles: Vec<Step>,
    /// Custom monoids, after the steps of each tile.
    pub folds: Vec<FoldStep>,
    /// Whole rows, after the tiles.
    pub scans: Vec<ScanStep>,
    /// Row registers, column registers and inputs that the tiles read.
    pub row_reads: Vec<(DType, u16)>,
    pub col_reads: Vec<(DType, u16)>,
    pub input_reads: Vec<(DType, u16)>,
    /// The tile steps as one loop, where they can be that.
    pub chain: Option<Chain>,
}

impl Step {
    /// Writes to an output that lies so.
    pub fn store(side: Column, dtype: DType, src: Place) -> Step {
        let slot = side.tensor as u16;
        match side.width {
            1 => Step::Store { slot, dtype, src },
            _ => Step::StoreBeside { slot, dtype, src, side },
        }
    }
}

/// Types whose lanes share registers.
pub fn lane_key(dtype: DType) -> DType {
    if dtype == DType::Bool { DType::U8 } else { dtype }
}

/// What a step reads, with its type.
pub fn step_reads(step: &Step) -> Vec<(DType, Place)> {
    match step {
        Step::Op { op: Op::Select, dtype, args, .. } => {
            vec![(DType::U8, args[0]), (lane_key(*dtype), args[1]), (lane_key(*dtype), args[2])]
        }
        Step::Op { op, dtype, args, .. } => args[..op.arity()].iter().map(|a| (lane_key(*dtype), *a)).collect(),
        Step::Cast { from, src, .. } => vec![(lane_key(*from), *src)],
        Step::Copy { dtype, src, .. }
        | Step::Store { dtype, src, .. }
        | Step::StoreBeside { dtype, src, .. }
        | Step::Top { dtype, src, .. }
        | Step::Reduce { dtype, src, .. }
        | Step::SumRows { dtype, src, .. }
        | Step::SumAll { dtype, src, .. } => vec![(lane_key(*dtype), *src)],
        Step::OneHot { dtype, t, t_dtype, a, b, .. } => {
            vec![(lane_key(*dtype), *a), (lane_key(*dtype), *b), (lane_key(*t_dtype), *t)]
        }
        Step::Pick { t, .. } => vec![(DType::I64, *t)],
        Step::Rand { seed, .. } => vec![(DType::I64, *seed)],
        Step::Load { .. } | Step::Const { .. } | Step::Uniform { .. } | Step::Index { .. } => vec![],
    }
}
