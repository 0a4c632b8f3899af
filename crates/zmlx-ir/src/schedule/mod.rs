//! Schedules: a verified Program becomes one or more Kernels.
//!
//! | file        | what                                                                                   |
//! |-------------|----------------------------------------------------------------------------------------|
//! | config      | what is chosen: strategy, threads, vectors; the heuristic that chooses                 |
//! | space       | what else may be chosen: the Configs that a tuner tries; their text                     |
//! | fit         | whether Config, Program and launch go together                                         |
//! | grid        | what a host computes of a size: blocks, parts, lengths of scratch memory               |
//! | launch      | the same for a launch: its argument blocks                                             |
//! | parts       | a Program cut into those that run one after the other                                  |
//! | lower       | what all strategies share: values and where they are kept, from stage to stage         |
//! | hold        | values that registers hold in place of the inputs that they are made of                |
//! | emit        | a Kernel under construction: names, blocks, index arithmetic                           |
//! | tensor      | where the rows of a tensor lie; chunks of it in and out of registers                   |
//! | lane        | the pointwise values of one element                                                    |
//! | elementwise | strategy: any chunk to any thread                                                      |
//! | rows        | strategy: so many threads hold a row, or walk along it                                 |
//! | stage       | one stage of a row: its chunks, then the reductions and scans that end it              |
//! | chunk, walk | one chunk of a row: read, computed, written; the tiles of a row with scans             |
//! | terms       | the elements of a chunk on their way into accumulators                                 |
//! | reduce      | accumulators, combined among the threads of a row                                      |
//! | top         | the largest of a row, in order                                                         |
//! | online      | sums beside the maximum or mean that they are relative to: one pass                     |
//! | scan        | running sums along a row                                                               |
//! | columns     | sums over the rows: partial sums in registers, then a second kernel                    |
//!
//! A row is cut into *chunks* of `vector` elements: what a thread reads and writes at once, 16 bytes of the widest
//! tensor. Chunks lie on 16-byte boundaries of the *leading* tensor (the first output of elements, else the widest
//! input), so a row that starts off a boundary has a chunk that sticks out on either side. Any other tensor moves vectors
//! where its own address of the chunk is aligned and its columns are contiguous, else single elements. That is decided
//! row by row from launch arguments: neither shapes nor strides compile anything anew.

mod chunk;
mod columns;
mod config;
mod elementwise;
mod emit;
mod fit;
mod grid;
mod hold;
mod lane;
mod launch;
mod lower;
mod online;
mod parts;
mod reduce;
mod rows;
mod scan;
mod space;
mod stage;
mod tensor;
mod terms;
mod top;
mod walk;

pub use config::{Chooser, Config, Strategy};
pub use grid::{Device, Grid, Length, Size};
pub use launch::{Geometry, Strides};

use crate::{DType, Program, kernel::Kernel};

/// Most dimensions that the rows of an input are decomposed over.
pub const ROW_DIMS: usize = 5;

/// A Program as kernels that run one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// The kernels, in order.
    pub steps: Vec<Step>,
    /// Memory that lives from step to step.
    pub scratch: Vec<Scratch>,
    /// Most dimensions that the rows of a launch are decomposed over.
    pub dims: u32,
    /// Have its indices 64 bits?
    pub wide: bool,
    /// What registers hold of a row.
    held: Option<fit::Held>,
    /// Most values of elements that lie side by side in a tensor.
    beside: u64,
}

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What runs.
    pub kernel: Kernel,
    /// What each of the kernel's buffers is.
    pub buffers: Vec<Source>,
    /// How many blocks.
    pub grid: Grid,
    /// Does it run on one row, whatever the rows of the launch?
    pub one_row: bool,
    /// Does an element depend on its place in memory alone? Then contiguous tensors are one row.
    pub flat: bool,
    /// The tensor on whose 16-byte boundaries the chunks of a row lie; None: rows start on chunks.
    pub lead: Option<Source>,
}

/// Memory of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An input of the Program: the address of its first element.
    Input(u32),
    /// A tensor of outputs of the Program (`Program::tensors`): contiguous, on a boundary of 16 bytes.
    Output(u32),
    /// One of [`Schedule::scratch`], on a boundary of 16 bytes.
    Scratch(u32),
    /// A word (u32) that a kernel sets to 1 where an index `x[t]` is out of range, and never reads or clears. Only kernels
    /// with such indices have it.
    Flag,
}

/// Memory that lives from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub length: Length,
}

/// Why a Program has no schedule: what is missing, and on which type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {dtype} has no schedule")]
pub struct Unsupported {
    /// What is missing.
    pub what: String,
    /// Its type.
    pub dtype: DType,
}

/// Schedules a verified Program. All kernels verify.
///
/// # Errors
/// A Config that is none, or of another Program; combinations that no strategy covers; a kernel that does not verify, which is a fault of ours.
pub fn schedule(program: &Program, config: &Config) -> Result<Schedule, Unsupported> {
    config.suits(program)?;
    let mut parts = parts::Parts::default();
    parts.whole(program, config)?;
    let (dims, wide, held) = (config.dims, config.wide, config.held(program));
    let beside = config::beside(program);
    let schedule = Schedule { dims, wide, held, beside, ..parts.finish() };
    match schedule.faults().first() {
        None => Ok(schedule),
        Some(fault) => Err(Unsupported {
            what: format!("faulty kernel ({fault})"),
            dtype: program.outputs.first().map_or(DType::F32, |o| o.dtype),
        }),
    }
}

impl Schedule {
    fn faults(&self) -> Vec<String> {
        let of = |s: &Step| s.kernel.verify().err().unwrap_or_default();
        self.steps.iter().flat_map(of).collect()
    }
}
