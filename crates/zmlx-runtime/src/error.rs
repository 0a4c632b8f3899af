//! What can go wrong between a verified Program and its result.

use std::fmt;
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
    /// A compiler of a target does not take the text of a kernel. Unless the text is a user's, the fault is ours.
    #[error("{op}: text for {target}, expected it to compile, got {}\n{log}", Place(*line, text))]
    Compile {
        /// The operation.
        op: String,
        /// What it was compiled for.
        target: String,
        /// The first line that is at fault, from 1, if the compiler says so.
        line: Option<usize>,
        /// That line.
        text: String,
        /// Everything that the compiler said.
        log: String,
    },
    /// A device, its driver or its compiler is not there or does not do what was asked.
    #[error("{op}: {what}, expected {expected}, got {got}")]
    Device {
        /// The operation, or the backend if it serves none.
        op: String,
        /// What was asked.
        what: String,
        /// What would be right.
        expected: String,
        /// What came.
        got: String,
    },
}

impl Error {
    /// What a compiler says of a text that it does not take: `kernel(12): error: …` is NVRTC's way to tell the line, and
    /// `program_source:12:9: error: …` Metal's.
    pub fn refused(op: &str, target: &str, text: &str, log: String) -> Error {
        let line = log.lines().find_map(line_of);
        let at_fault = line.and_then(|n| text.lines().nth(n.checked_sub(1)?)).unwrap_or_default();
        Error::Compile { op: op.into(), target: target.into(), line, text: at_fault.into(), log }
    }
}

/// The line of the text that a line of a log speaks of as wrong.
fn line_of(log: &str) -> Option<usize> {
    let (place, _) = log.split_once(" catastrophic error:").or_else(|| log.split_once(" error:"))?;
    let digits = match place.split_once("program_source:") {
        Some((_, place)) => place.split(':').next()?,
        None => place.rsplit_once('(')?.1.strip_suffix("):")?,
    };
    digits.parse().ok()
}

/// Where in a text, for people.
struct Place<'a>(Option<usize>, &'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => write!(f, "an error"),
            Some(line) => write!(f, "an error in line {line}:\n{line:5} | {}", self.1.trim_end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_compiler_shows_the_line_and_the_log() {
        let error = Error::Compile {
            op: "mish".into(),
            target: "sm_90".into(),
            line: Some(12),
            text: "  y = x +;\n".into(),
            log: "kernel(12): error: expected an expression".into(),
        };
        let text = "mish: text for sm_90, expected it to compile, got an error in line 12:\n   \
                    12 |   y = x +;\nkernel(12): error: expected an expression";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn the_line_of_an_error_is_found_in_the_log_of_each_compiler() {
        let line = |log: &str| match Error::refused("mish", "sm_90", "one\ntwo\nthree", log.into()) {
            Error::Compile { line, text, .. } => (line, text),
            other => panic!("{other}"),
        };
        let log = "kernel(1): warning #177-D: f(x) was declared\nkernel(2): error: identifier \"y\" is undefined\n";
        assert_eq!(line(log), (Some(2), "two".into()));
        assert_eq!(line("kernel(9): catastrophic error: too long"), (Some(9), String::new()));
        assert_eq!(line("kernel(0): error: "), (Some(0), String::new()));
        assert_eq!(line("nvrtc: error: invalid value for --gpu-architecture (-arch)"), (None, String::new()));
        let log = "program_source:1:3: warning: unused\nError: program_source:3:5: error: use of undeclared 'y'";
        assert_eq!(line(log), (Some(3), "three".into()));
        assert_eq!(line(""), (None, String::new()));
    }
}
