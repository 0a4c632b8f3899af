//! `zmlx tune`: which way of running each kernel is fastest on this GPU, measured once and kept for every later process.

use crate::{
    Outcome,
    bench::inputs::Seeded,
    choice::{Choice, choose},
    device, out, table,
    verb::bench::shape,
};
use candle_core::{DType as CandleType, Device, Tensor};
use serde_json::json;
use std::{io::IsTerminal, path::PathBuf, time::Duration};
use zmlx::{
    entry::{Entry, Gradient},
    tune::{self, Measured, Report},
};

/// Measure which way of running the catalog is fastest on this GPU, and keep it
#[derive(clap::Args)]
#[command(after_help = "\
Later calls use what was found, on the same device, driver and version of zmlx, for sizes of the same bucket: rows up to
the next power of two, columns up to the next quarter of one. A way wins if it gave the same outputs and is faster than
the heuristic's by more than the spread of either. The L2 cache is flushed before each run that is timed.")]
pub struct Args {
    /// Only kernels whose name holds this (may be repeated)
    #[arg(long)]
    filter: Vec<String>,
    /// Rows and columns, e.g. 4096x4096 (may be repeated; default: 4096x4096 and 16384x1024)
    #[arg(long, value_parser = shape)]
    shape: Vec<(usize, usize)>,
    /// The dtype of the floats (may be repeated; default: f32 and bf16)
    #[arg(long, value_parser = ["f32", "bf16", "f16", "f64"])]
    dtype: Vec<String>,
    /// Seconds that the search for a kernel may take
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    budget: Duration,
    /// Leave the gradients out
    #[arg(long, conflicts_with = "gradient")]
    forward: bool,
    /// Only the gradients
    #[arg(long)]
    gradient: bool,
    /// Write all that was tuned on this machine to a file, and measure nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = MEASURING)]
    export: Option<PathBuf>,
    /// Leave out of the file the sizes for which the heuristic's choice stays
    #[arg(long, requires = "export")]
    winners: bool,
    /// Take in a file that was exported, and measure nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = MEASURING)]
    import: Option<PathBuf>,
    /// A list, one object a kernel
    #[arg(long)]
    json: bool,
    /// The device to run on (default: the best that is there)
    #[arg(long, value_parser = crate::device::NAMES)]
    device: Option<String>,
}

const MEASURING: [&str; 6] = ["filter", "shape", "dtype", "forward", "gradient", "device"];

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds.ok_or_else(|| format!("expected a number of seconds, got `{text}`"))
}

/// One kernel.
struct Line {
    dtype: &'static str,
    pass: &'static str,
    report: Report,
}

pub fn run(args: &Args) -> Outcome {
    if let Some(path) = &args.import {
        out::line(format_args!("{} buckets imported from {}", tune::import(path)?, path.display()));
    }
    if let Some(path) = &args.export {
        out::line(format_args!("{} buckets exported to {}", tune::export(path, args.winners)?, path.display()));
    }
    if args.import.is_some() || args.export.is_some() {
        return Ok(true);
    }
    let Choice { entries, .. } = choose("tune", &args.filter, false)?;
    if entries.is_empty() {
        let filter = args.filter.join(" --filter ");
        let got = "only some that are written by hand, which run in one way";
        return Err(format!("tune: --filter {filter}, expected kernels made of a formula, got {got}").into());
    }
    let device = device::open(args.device.as_deref())?;
    if matches!(device, Device::Cpu) {
        out::line(if args.json { "[]" } else { "The CPU has nothing to tune: it runs every kernel in one way." });
        return Ok(true);
    }
    let shapes = if args.shape.is_empty() { vec![(4096, 4096), (16384, 1024)] } else { args.shape.clone() };
    let mut dtypes = vec![CandleType::F32, CandleType::BF16];
    if !args.dtype.is_empty() {
        dtypes = args.dtype.iter().map(|d| d.parse()).collect::<Result<_, _>>()?;
    }
    let progress = !args.json && std::io::stderr().is_terminal();
    let mut lines = vec![];
    for &shape in &shapes {
        for &dtype in &dtypes {
            for entry in &entries {
                if progress {
                    out::note(format_args!("\r\x1b[K{} {} {}×{} …", entry.name, dtype.as_str(), shape.0, shape.1));
                }
                lines.extend(tune(entry, shape, dtype, &device, args)?);
            }
        }
    }
    if progress {
        out::note("\r\x1b[K");
    }
    if args.json {
        out::line(serde_json::to_string_pretty(&lines.iter().map(object).collect::<Vec<_>>())?);
    } else {
        print(&lines);
    }
    Ok(lines.iter().all(|l| l.report.outcome.wrong.is_empty()))
}

fn tune(
    entry: &Entry,
    (rows, cols): (usize, usize),
    dtype: CandleType,
    device: &Device,
    args: &Args,
) -> Result<Vec<Line>, Box<dyn std::error::Error>> {
    let seeded = Seeded::of(entry, rows, cols, dtype);
    let inputs: Vec<Tensor> = seeded.iter().map(|s| s.tensor(device)).collect::<candle_core::Result<_>>()?;
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let op = entry.op()?.with_all(entry.uniforms.iter().map(|u| (u.0, u.1)));
    let mut lines = vec![];
    let mut add = |pass, reports: Vec<Report>| {
        lines.extend(reports.into_iter().map(|report| Line { dtype: dtype.as_str(), pass, report }));
    };
    if !args.gradient {
        add("forward", op.tune_now(&inputs[..], args.budget)?);
    }
    if !args.forward && entry.gradient == Gradient::Derived {
        let outputs = op.call_all(&inputs[..])?;
        let cotangents = outputs.iter().map(|o| {
            let float = o.dtype().is_float();
            if float { Tensor::randn(0f32, 1f32, o.shape(), device)?.to_dtype(o.dtype()) } else { Ok(o.clone()) }
        });
        let cotangents: Vec<Tensor> = cotangents.collect::<candle_core::Result<_>>()?;
        let cotangents: Vec<&Tensor> = cotangents.iter().collect();
        add("gradient", op.tune_vjp_now(&inputs[..], &cotangents[..], args.budget)?);
    }
    Ok(lines)
}

fn object(l: &Line) -> serde_json::Value {
    let o = &l.report.outcome;
    let measured =
        |m: &Measured| json!({"config": m.config.to_string(), "us": m.seconds * 1e6, "spread_us": m.spread * 1e6});
    json!({
        "kernel": l.report.kernel, "dtype": l.dtype, "pass": l.pass, "rows": l.report.rows, "cols": l.report.cols,
        "heuristic": measured(&o.heuristic), "winner": o.winner.as_ref().map(measured), "gain": o.gain(),
        "candidates": o.candidates,
        "tried": o.tried.iter().map(|(c, s)| json!([c.to_string(), s * 1e6])).collect::<Vec<_>>(), "failed": o.failed,
        "wrong": o.wrong.iter().map(|(c, why)| format!("{c}: {why}")).collect::<Vec<_>>(),
        "unsaved": l.report.unsaved,
    })
}

fn print(lines: &[Line]) {
    let row = |l: &Line| {
        let (r, o) = (&l.report, &l.report.outcome);
        let winner = o.winner.map_or("the same".into(), |w| w.config.to_string());
        vec![
            r.kernel.clone(),
            l.pass.into(),
            l.dtype.into(),
            format!("{}×{}", r.rows, r.cols),
            o.heuristic.config.to_string(),
            format!("{:.1}", o.heuristic.seconds * 1e6),
            winner,
            format!("{:.1}", o.best().seconds * 1e6),
            format!("{:.2}×", o.gain()),
            format!("{} of {}", o.tried.len(), o.candidates),
        ]
    };
    let header = ["kernel", "pass", "dtype", "size", "heuristic", "µs", "winner", "µs", "gain", "measured"];
    table::print(&header, &lines.iter().map(row).collect::<Vec<_>>());
    for l in lines {
        for (config, why) in &l.report.outcome.wrong {
            out::line(format_args!("{} {} {}: {config} gives other outputs: {why}", l.report.kernel, l.pass, l.dtype));
        }
    }
    out::line(
        "
strategy threads of a block/of a row, elements of a chunk x chunks. µs: median of runs, L2 flushed before each.
Larger sizes are run as rows × columns after axes are merged, so an elementwise kernel has one row.",
    );
    match lines.iter().find_map(|l| l.report.unsaved.as_ref()) {
        Some(why) => out::line(format_args!("Not kept on disk: {why}")),
        None => out::line("Kept on disk: plain calls use it from now on."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use zmlx_runtime::tune::{Tuned, Where};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_budget_is_a_number_of_seconds() {
        let budget = |text: &str| Line::try_parse_from(["tune", "--budget", text]).map(|l| l.args.budget);
        assert_eq!(budget("0.5").ok(), Some(Duration::from_millis(500)));
        assert!(budget("-1").is_err() && budget("soon").is_err() && budget("inf").is_err());
    }

    #[test]
    fn sharing_a_file_and_measuring_are_asked_for_apart() {
        assert!(Line::try_parse_from(["tune", "--import", "a", "--export", "b"]).is_ok());
        assert!(Line::try_parse_from(["tune", "--export", "b", "--filter", "softmax"]).is_err());
        assert!(Line::try_parse_from(["tune", "--forward", "--gradient"]).is_err());
        assert!(Line::try_parse_from(["tune", "--export", "b", "--winners"]).is_ok());
        assert!(Line::try_parse_from(["tune", "--winners"]).is_err());
    }

    /// A line is found by its Program: one that changed since leaves it without use, and has to be tuned again.
    #[test]
    fn every_line_that_ships_is_of_a_kernel_as_it_is_now() -> Result<(), Box<dyn std::error::Error>> {
        let place = Where { device: "NVIDIA H100 80GB HBM3".into(), driver: String::new() };
        let (tuned, mut found) = (Tuned::at(None), 0);
        for entry in zmlx::catalog::ENTRIES {
            for dtype in [CandleType::F32, CandleType::BF16] {
                let inputs = Seeded::of(entry, 4, 64, dtype);
                let inputs: Vec<Tensor> =
                    inputs.iter().map(|s| s.tensor(&Device::Cpu)).collect::<candle_core::Result<_>>()?;
                let inputs: Vec<&Tensor> = inputs.iter().collect();
                let op = entry.op()?.with_all(entry.uniforms.iter().map(|u| (u.0, u.1)));
                found += tuned.known(op.program(&inputs[..])?.as_ref(), &place).len();
                if entry.gradient == Gradient::Derived {
                    for program in op.vjp_program(&inputs[..])? {
                        found += tuned.known(&program, &place).len();
                    }
                }
            }
        }
        assert_eq!(found, tuned.len().1);
        Ok(())
    }
}
