//! Errors, in the form `op: what, expected X, got Y`.

use std::{fmt::Display, path::Path};

/// What can go wrong between a checkpoint and its text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument, a field or a file does not fit.
    #[error("{op}: {what}, expected {expected}, got {got}")]
    Argument {
        /// The operation, or the file.
        op: String,
        /// Which argument, field or part.
        what: String,
        /// What would fit.
        expected: String,
        /// What came.
        got: String,
    },
    /// A file cannot be opened, read or written.
    #[error("{path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {why}")]
    Format {
        /// Its path.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The weights are not those of the configuration: every mistake, a line each.
    #[error("{}", list(.0))]
    Weights(Vec<String>),
    /// From the toolkit.
    #[error("{0}")]
    Toolkit(#[from] zmlx::Error),
    /// From candle.
    #[error("{0}")]
    Candle(#[from] candle_core::Error),
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Most mistakes that are printed; the rest are counted.
const MOST: usize = 40;

fn list(mistakes: &[String]) -> String {
    let mut text = format!("weights: {} mistakes", mistakes.len());
    for mistake in mistakes.iter().take(MOST) {
        text += "\n  ";
        text += mistake;
    }
    if mistakes.len() > MOST {
        text += &format!("\n  and {} more", mistakes.len() - MOST);
    }
    text
}

impl Error {
    /// Something that does not fit.
    pub fn argument(op: &str, what: impl Into<String>, expected: impl Display, got: impl Display) -> Error {
        Error::Argument { op: op.into(), what: what.into(), expected: expected.to_string(), got: got.to_string() }
    }

    /// What the system says of a file.
    pub fn file(path: &Path, source: std::io::Error) -> Error {
        Error::File { path: path.display().to_string(), source }
    }

    /// A file that is not what it should be.
    pub fn format(path: &Path, why: impl Display) -> Error {
        Error::Format { path: path.display().to_string(), why: why.to_string() }
    }
}

/// So that `?` works in closures that return candle's result.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> candle_core::Error {
        match error {
            Error::Candle(e) => e,
            other => candle_core::Error::wrap(other),
        }
    }
}
