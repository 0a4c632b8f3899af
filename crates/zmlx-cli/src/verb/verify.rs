//! `zmlx verify`: every kernel of the catalog, value and gradient, against the f64 oracle and plain candle. A row is printed
//! as soon as it is known.

use crate::{
    Outcome,
    choice::{Choice, choose},
    device, out,
    report::Report as File,
    table::{self, Live},
};
use candle_core::Device;
use serde_json::{Value, json};
use std::path::PathBuf;
use zmlx::harness::{self, HugeReport, Report, Sizes};
use zmlx_ir::DType;

/// Check the catalog against the f64 oracle and plain candle
#[derive(clap::Args)]
pub struct Args {
    /// Only kernels whose name holds this
    #[arg(long)]
    filter: Option<String>,
    /// Only this dtype
    #[arg(long, value_parser = ["f32", "f16", "bf16", "f64"])]
    dtype: Option<String>,
    /// Small shapes only, e.g. under compute-sanitizer
    #[arg(long)]
    quick: bool,
    /// A few kernels above 2^31 elements, on a GPU, and nothing else (about 22 GB; what lacks memory is skipped)
    #[arg(long, conflicts_with_all = ["filter", "dtype", "quick"])]
    huge: bool,
    /// Kernels checked at a time (default: on a GPU, whose kernels are compiled as they are met, one a core; on the CPU 1)
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// One object a line, for each kernel and dtype
    #[arg(long)]
    json: bool,
    /// Append the machine and the rows to this file, one object a line (on metal: zmlx-report.json unless told otherwise)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The device to run on (default: the best that is there)
    #[arg(long, value_parser = crate::device::NAMES)]
    device: Option<String>,
}

pub fn run(args: &Args) -> Outcome {
    let choice = choose("verify", &args.filter, false)?;
    let device = device::open(args.device.as_deref())?;
    let mut file = File::open("verify", args.report.as_deref(), &device, args.json)?;
    zmlx::testing::poison_outputs(true);
    let outcome = if args.huge { huge(args, &device, &mut file) } else { catalog(args, choice, &device, &mut file) };
    zmlx::testing::poison_outputs(false);
    file.tell();
    outcome
}

fn catalog(args: &Args, choice: Choice, device: &Device, file: &mut File) -> Outcome {
    let Choice { entries, by_hand } = choice;
    let mut jobs = vec![];
    for entry in entries {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            if args.dtype.as_ref().is_none_or(|d| d == dtype.name()) {
                jobs.push((entry, dtype));
            }
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(if matches!(device, Device::Cpu) { 1 } else { cores });
    let sizes = if args.quick { Sizes::Quick } else { Sizes::All };
    let columns =
        [table::kernels(), ("dtype", 5), ("cases", 5), ("elements", 8), ("value", 6), ("gradient", 8), ("", 6)];
    let table = (!args.json).then(|| Live::start(&columns));
    let mut failed = 0;
    let mut broken = None;
    let mut told = 0;
    let mut each = |r: Report| {
        told += 1;
        failed += usize::from(!r.ok());
        if let Some(table) = &table {
            table.row(&cells(&r));
            r.failures.iter().for_each(|f| out::line(format_args!("    {f}")));
        }
        if let Err(e) = file.row(object(&r, device)) {
            broken = Some(e);
        }
    };
    harness::verify_all(&jobs, device, sizes, threads, &mut each);
    for kernel in &by_hand {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            if args.dtype.as_ref().is_some_and(|d| d != dtype.name()) {
                continue;
            }
            let report = harness::verify_portable(kernel, dtype, device)?;
            // a dtype that it does not take has no cases
            if report.cases > 0 {
                each(report);
            }
        }
    }
    if let Some(e) = broken {
        return Err(e);
    }
    if told == 0 {
        let names: Vec<&str> = by_hand.iter().map(|p| p.name).collect();
        let dtype = args.dtype.as_deref().unwrap_or("any");
        return Err(
            format!("verify: --dtype {dtype}, expected one that {} takes, got another", names.join(" or ")).into()
        );
    }
    if !args.json {
        let mut bounds = vec![];
        if !jobs.is_empty() {
            bounds.push("of a kernel made of a formula, what the f64 oracle carries");
        }
        if !by_hand.is_empty() {
            bounds.push("of one written by hand, the roundings that may add up, beside plain candle ops in f64");
        }
        let bounds = bounds.join(";\n");
        out::line(format_args!(
            "\nvalue, gradient: largest error as a fraction of its bound (1 is the limit):\n{bounds}."
        ));
        let poisoned = if device.is_cpu() { "" } else { "; memory of results held NaN before" };
        out::line(format_args!("Every call ran twice and gave the same bits{poisoned}."));
        out::line(format_args!("on {}: {} passed, {failed} failed", device::name(device), told - failed));
    }
    Ok(failed == 0)
}

fn cells(r: &Report) -> Vec<String> {
    vec![
        r.name.into(),
        r.dtype.name().into(),
        r.cases.to_string(),
        r.elements.to_string(),
        format!("{:.2}", r.value),
        r.gradient.map_or("–".into(), |g| format!("{g:.2}")),
        if r.ok() { "ok".into() } else { "FAILED".into() },
    ]
}

fn object(r: &Report, device: &Device) -> Value {
    json!({
        "verb": "verify", "name": r.name, "dtype": r.dtype.name(), "device": device::name(device), "ok": r.ok(),
        "cases": r.cases, "elements": r.elements, "skipped": r.skipped, "value_error_over_bound": r.value,
        "gradient_error_over_bound": r.gradient, "failures": r.failures,
    })
}

/// Above 2³¹ elements.
fn huge(args: &Args, device: &Device, file: &mut File) -> Outcome {
    let table =
        (!args.json).then(|| Live::start(&[table::kernels(), ("dtype", 5), ("pass", 8), ("elements", 11), ("", 7)]));
    let (mut failed, mut skipped, mut broken) = (0, 0, None);
    harness::verify_huge(device, &mut |r: HugeReport| {
        failed += usize::from(!r.failures.is_empty());
        skipped += usize::from(r.skipped.is_some());
        let pass = if r.gradient { "gradient" } else { "value" };
        let outcome = match &r.skipped {
            Some(_) => "skipped",
            None if r.failures.is_empty() => "ok",
            None => "FAILED",
        };
        if let Some(table) = &table {
            table.row(&[r.name, "bf16", pass, &r.elements.to_string(), outcome].map(String::from));
            r.skipped.iter().chain(r.failures.iter().take(8)).for_each(|line| out::line(format_args!("    {line}")));
        }
        let row = json!({
            "verb": "verify", "huge": true, "name": r.name, "dtype": "bf16", "device": device::name(device), "pass": pass,
            "elements": r.elements, "outcome": outcome, "skipped": r.skipped, "failures": r.failures,
        });
        if let Err(e) = file.row(row) {
            broken = Some(e);
        }
    })?;
    if let Some(e) = broken {
        return Err(e);
    }
    if !args.json {
        out::line(
            "\nEach block of rows beside the same block run alone, which was compared with plain candle ops in f32.",
        );
        out::line(format_args!("on {}: {failed} failed, {skipped} skipped", device::name(device)));
    }
    Ok(failed == 0)
}
