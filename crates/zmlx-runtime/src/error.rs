//! What can go wrong between a verified Program and its result.

use zmlx_ir::DType;

/// An error of the runtime. Messages have the form `op: what, expected X, got Y`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The caller's fault: an index input is out of range.
    #[error("{op}: index {index} in row {row} is out of range, expected 0 ≤ index < {cols}")]
    Index {
        /// The operation.
        op: String,
        /// The offending index.
        index: i64,
        /// Where it stands.
        row: usize,
        /// The number of columns.
        cols: usize,
    },
    /// The target cannot do this.
    #[error("{op}: {what} on {dtype} is not supported on {target}")]
    Unsupported {
        /// The operation.
        op: String,
        /// The part that is not supported.
        what: String,
        /// Its type.
        dtype: DType,
        /// The target.
        target: &'static str,
    },
    /// The caller's fault: views that do not fit the Program.
    #[error("{op}: {what}, expected {expected}, got {got}")]
    Launch {
        /// The operation.
        op: String,
        /// Which argument.
        what: String,
        /// What would fit.
        expected: String,
        /// What came.
        got: String,
    },
}
