//! Standard output and standard error. What nobody reads any more ends the process without a word, as Unix tools end: `print!`
//! would panic, and so it is not used here.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

/// What a shell shows of a tool that a closed pipe ended: 128 and the number of SIGPIPE.
const CUT_SHORT: i32 = 141;

/// Prints a line.
pub fn line(text: impl Display) {
    whole(format_args!("{text}\n"));
}

/// Prints a text that ends its own lines, all of it at once: a run that is cut off keeps what it printed.
pub fn whole(text: impl Display) {
    let text = text.to_string();
    let mut out = io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        if e.kind() != ErrorKind::BrokenPipe {
            note(format_args!("error: standard output, expected to write to it, got {e}\n"));
            std::process::exit(2);
        }
        std::process::exit(CUT_SHORT);
    }
}

/// Tells on standard error, whether or not anybody reads it.
pub fn note(text: impl Display) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.to_string().as_bytes()).and_then(|()| err.flush());
}
