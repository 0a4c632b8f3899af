//! What to compute: a formula or a closure in, a verified [`Program`] and its derived gradient
//! out. No tensors, no devices, no I/O, no unsafe.
//!
//! ```text
//! text ── parse ──┐
//! closure ─ trace ┼─▶ Formula ── bind ──▶ Program ── vjp ──▶ Program
//! #[jit] ─────────┘   untyped             typed: dtypes, extents
//! ```
#![forbid(unsafe_code)]

mod dtype;
pub mod erf;
pub mod expr;
pub mod grad;
pub mod kernel;
pub mod op;
pub mod program;
pub mod schedule;

pub use dtype::DType;
pub use expr::{Expr, Formula, FormulaError, Scalar, Signature};
pub use op::Op;
pub use program::{Extent, Program};
