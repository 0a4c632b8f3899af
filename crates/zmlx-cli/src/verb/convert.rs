//! `zmlx convert`: a checkpoint quantised to MLX's affine codes.

use crate::{Outcome, out};
use serde_json::json;
use std::{
    io::IsTerminal,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use zmlx_lm::convert::{Convert, convert};

/// Quantise a checkpoint to a few bits, into a folder that mlx_lm loads as well
#[derive(clap::Args)]
pub struct Args {
    /// A folder of Hugging Face that is not quantised
    #[arg(long)]
    model: PathBuf,
    /// The folder to make; it appears when it is whole
    #[arg(long)]
    out: PathBuf,
    /// Bits of a number
    #[arg(long, default_value = "4", value_parser = ["4", "8"])]
    bits: String,
    /// Columns that share a scale and a bias
    #[arg(long, default_value = "64", value_parser = ["32", "64", "128"])]
    group_size: String,
    /// Replace a checkpoint that is at --out
    #[arg(long)]
    force: bool,
    /// One object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let (terminal, shown) = (std::io::stderr().is_terminal(), AtomicU64::new(0));
    let progress = |written: u64, all: u64| {
        let percent = written * 100 / all.max(1);
        if terminal && shown.swap(percent, Ordering::Relaxed) != percent {
            out::note(format_args!("\rquantising {percent} %{}", if percent == 100 { "\r\x1b[K" } else { "" }));
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (bits, group_size) = (args.bits.parse()?, args.group_size.parse()?);
    let how = Convert { bits, group_size, force: args.force, progress: &progress, ..Convert::default() };
    let done = convert(&args.model, &args.out, &how)?;
    let out = args.out.display();
    let bits_a_number = done.bytes as f64 * 8.0 / done.parameters.max(1) as f64;
    if args.json {
        out::line(json!({
            "out": out.to_string(), "bits": bits, "group_size": group_size, "parameters": done.parameters,
            "quantized": done.quantized, "bytes": done.bytes, "files": done.files, "bits_a_number": bits_a_number,
        }));
        return Ok(true);
    }
    out::line(format_args!(
        "{out}: {} parameters, of which {} in {bits} bits and groups of {group_size}\n{:.2} MiB in {} file{}, {bits_a_number:.3} bits a \
         number",
        done.parameters,
        done.quantized,
        done.bytes as f64 / 2f64.powi(20),
        done.files,
        if done.files == 1 { "" } else { "s" },
    ));
    Ok(true)
}
