//! Errors of the toolkit, in the form `op: what, expected X, got Y`.

use zmlx_ir::FormulaError;

/// What can go wrong between a formula and a tensor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The formula is wrong; the message underlines the place.
    #[error("{0}")]
    Formula(#[from] FormulaError),
    /// An argument does not fit.
    #[error("{op}: {what}, expected {expected}, got {got}")]
    Argument {
        /// The operation.
        op: String,
        /// Which argument, or which property of it.
        what: String,
        /// What would fit.
        expected: String,
        /// What came.
        got: String,
    },
    /// The shape of an argument does not fit.
    #[error("{op}: {argument} has shape {got:?}, expected {expected}")]
    Shape {
        /// The operation.
        op: String,
        /// Which argument.
        argument: String,
        /// What would fit.
        expected: String,
        /// What came.
        got: Vec<usize>,
    },
    /// There is no gradient, and why.
    #[error("{op}: no gradient, {why}")]
    Gradient {
        /// The operation.
        op: String,
        /// The node and the reason.
        why: String,
    },
    /// From the runtime.
    #[error("{0}")]
    Runtime(#[from] zmlx_runtime::Error),
    /// From candle.
    #[error("{0}")]
    Candle(#[from] candle_core::Error),
    /// Our fault, not the caller's: please report it.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An argument that does not fit.
    pub fn argument(
        op: &str,
        what: impl Into<String>,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Error {
        Error::Argument { op: op.into(), what: what.into(), expected: expected.to_string(), got: got.to_string() }
    }

    /// A shape that does not fit.
    pub fn shape(op: &str, argument: impl Into<String>, expected: impl std::fmt::Display, got: &[usize]) -> Error {
        Error::Shape { op: op.into(), argument: argument.into(), expected: expected.to_string(), got: got.to_vec() }
    }

    /// Our fault.
    pub fn internal(what: &str) -> Error {
        Error::Internal(what.into())
    }
}

/// So that `?` works in functions that return candle's result.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> candle_core::Error {
        match error {
            Error::Candle(e) => e,
            other => candle_core::Error::wrap(other),
        }
    }
}

/// A mistake in a setting of an operation, kept until its first use.
#[derive(Clone, Debug)]
pub(crate) enum Mistake {
    /// In a formula.
    Formula(FormulaError),
    /// What, expected, got.
    Argument(String, String, String),
}

impl Mistake {
    /// The error, now that the operation's name is known.
    pub fn error(&self, op: &str) -> Error {
        match self {
            Mistake::Formula(e) => Error::Formula(e.clone()),
            Mistake::Argument(what, expected, got) => Error::argument(op, what, expected, got),
        }
    }
}
