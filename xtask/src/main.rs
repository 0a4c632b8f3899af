//! Repository chores that must run even while the crates do not build, so this one depends on none of them.
//!
//! ```text
//! cargo xtask index           writes the registries (`mod` lists) from what lies in their folders
//! cargo xtask index --check   fails if one is stale
//! cargo xtask tidy            prints every fault against the project's invariants as `path:line: message`
//! ```

mod budget;
mod index;
mod source;
mod tidy;
mod tree;

use std::{path::Path, process::ExitCode};
use tree::{Fault, Tree};

const USAGE: &str = "usage: cargo xtask index [--check] | tidy";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    // The sources stand one folder above this crate, wherever the command is run.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let outcome = match words[..] {
        ["index"] => Tree::read(root).and_then(|tree| index::write(root, &tree)),
        ["index", "--check"] => Tree::read(root).map(|tree| index::check(&tree)),
        ["tidy"] => Tree::read(root).map(|tree| {
            println!("{}", tidy::sizes(&tree));
            tidy::check(&tree)
        }),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(faults) => report(words[0], &faults),
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(verb: &str, faults: &[Fault]) -> ExitCode {
    for fault in faults {
        println!("{fault}");
    }
    match faults.len() {
        0 => {
            println!("{verb}: no faults");
            ExitCode::SUCCESS
        }
        n => {
            println!("{verb}: {n} fault{}", if n == 1 { "" } else { "s" });
            ExitCode::FAILURE
        }
    }
}
