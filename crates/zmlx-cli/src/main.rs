//! The `zmlx` command line: one file a verb.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod allocator;
mod bench;
mod choice;
mod device;
mod language;
mod machine;
mod meant;
mod named;
mod npy;
mod out;
mod report;
mod table;
mod verb;

use clap::{CommandFactory, Parser, Subcommand};

/// One line of mathematics in, a fused kernel and its fused gradient out.
#[derive(Parser)]
#[command(name = "zmlx", version, after_help = FIRST)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to try first.
const FIRST: &str = "\
Try first:
  zmlx show 'x * tanh(log(1 + exp(x)))' --grad x      what the compiler makes of a formula, and of its gradient
  zmlx show 'softmax(x)' --target cuda                its text for a GPU (or metal)
  zmlx kernels                                        the catalog
  zmlx verify --filter softmax                        values and gradients against the f64 oracle and plain candle
  zmlx bench --filter swiglu                          candle's plain ops beside zmlx, same output checked first
  zmlx eval 'exp(x - max(x)) / sum(exp(x - max(x)))' --in x=x.npy --out y.npy
  zmlx generate --model FOLDER|FILE.gguf --prompt 'What is the capital of France?'";

#[derive(Subcommand)]
enum Verb {
    Eval(verb::eval::Args),
    Show(verb::show::Args),
    Kernels(verb::kernels::Args),
    Verify(verb::verify::Args),
    Bench(verb::bench::Args),
    Tune(verb::tune::Args),
    Generate(verb::generate::Args),
    Chat(verb::chat::Args),
    Inspect(verb::inspect::Args),
    Convert(verb::convert::Args),
    Doctor(verb::doctor::Args),
}

/// How a verb ends: true is success; false a check that failed, already reported.
type Outcome = Result<bool, Box<dyn std::error::Error>>;

fn main() -> std::process::ExitCode {
    let outcome = match Cli::parse().verb {
        Some(Verb::Eval(args)) => verb::eval::run(&args),
        Some(Verb::Show(args)) => verb::show::run(&args),
        Some(Verb::Kernels(args)) => verb::kernels::run(&args),
        Some(Verb::Verify(args)) => verb::verify::run(&args),
        Some(Verb::Bench(args)) => verb::bench::run(&args),
        Some(Verb::Tune(args)) => verb::tune::run(&args),
        Some(Verb::Generate(args)) => verb::generate::run(&args),
        Some(Verb::Chat(args)) => verb::chat::run(&args),
        Some(Verb::Inspect(args)) => verb::inspect::run(&args),
        Some(Verb::Convert(args)) => verb::convert::run(&args),
        Some(Verb::Doctor(args)) => verb::doctor::run(&args),
        None => {
            out::whole(Cli::command().render_help());
            Ok(true)
        }
    };
    match outcome {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            out::note(format_args!("error: {error}\n"));
            std::process::ExitCode::from(2)
        }
    }
}
