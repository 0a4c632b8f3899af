#![doc = include_str!("../../../README.md")]

mod bridge;
mod build;
mod call;
mod error;
mod float_ext;
mod fused;
mod gating;
mod geometry;
mod gradient;
mod grouped;
mod host;
mod inputs;
mod op;
mod parts;
mod raw;
mod reduce;
mod specialise;
mod tables;
mod tiles;

#[doc(hidden)]
#[path = "jit.rs"]
#[allow(missing_docs)]
pub mod __jit;
pub mod bench;
pub mod catalog;
pub mod entry;
pub mod harness;
pub mod nn;
pub mod ops;
pub mod optim;
#[doc(hidden)]
pub mod order;
pub mod portable;
pub mod profile;
pub mod registry;
pub mod rotary;
pub mod stats;
pub mod testing;
pub mod tune;

pub use bridge::{check, keep_freed_memory};
pub use build::{IntoFormula, Prelude, elementwise, elementwise_fn, prelude, rowwise, rowwise_fn};
pub use error::{Error, Result};
pub use float_ext::FloatExt;
pub use inputs::{AsTensor, Inputs};
pub use op::Op;
pub use raw::{Grid, RawKernel};
#[doc(hidden)]
pub use raw::{RawLaunch, Runner, launches_run_by};
pub use reduce::{MapReduce, Reduce, map_reduce, reduce};
pub use tune::Tune;
pub use zmlx_ir::{DType, Expr, Scalar};
pub use zmlx_macros::jit;

/// The candle that this was built against.
pub const CANDLE_VERSION: &str = "0.11.1";
/// The environment variable that sets the threads of the CPU backend (candle's own: its threads run our kernels).
pub const THREADS_VARIABLE: &str = "CANDLE_NUM_THREADS";

/// What most programs need: `use zmlx::prelude::*;`
pub mod prelude {
    pub use crate::build::prelude;
    pub use crate::{Expr, FloatExt, Op, elementwise, elementwise_fn, map_reduce, reduce, rowwise, rowwise_fn};
    pub use candle_core::{Device, Tensor, Var};
}

/// The pages of docs/, compiled and run.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/QUICKSTART.md")]
    mod quickstart {}
    #[doc = include_str!("../../../docs/COOKBOOK.md")]
    mod cookbook {}
}
