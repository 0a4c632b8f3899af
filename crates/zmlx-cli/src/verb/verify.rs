//! `zmlx verify`: every kernel of the catalog, value and gradient, against the f64 oracle and plain candle.

use crate::{Outcome, device, table};
use serde_json::json;
use std::io::{IsTerminal, Write};
use zmlx::{catalog::ENTRIES, harness};
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
    /// A list, one object a kernel and dtype
    #[arg(long)]
    json: bool,
    /// The device to run on (default: the best that is there)
    #[arg(long, value_parser = crate::device::NAMES)]
    device: Option<String>,
}

pub fn run(args: &Args) -> Outcome {
    let device = device::open(args.device.as_deref())?;
    let mut reports = vec![];
    let progress = !args.json && std::io::stderr().is_terminal();
    for entry in ENTRIES.iter().filter(|e| args.filter.as_ref().is_none_or(|f| e.name.contains(f.as_str()))) {
        if progress {
            eprint!("\r\x1b[K{} …", entry.name);
            std::io::stderr().flush()?;
        }
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            if args.dtype.as_ref().is_none_or(|d| d == dtype.name()) {
                reports.push(harness::verify(entry, dtype, &device)?);
            }
        }
    }
    if progress {
        eprint!("\r\x1b[K");
    }
    if reports.is_empty() {
        return Err(format!(
            "verify: --filter {}, expected part of a kernel's name, got none",
            args.filter.as_deref().unwrap_or("")
        )
        .into());
    }
    let ok = reports.iter().all(harness::Report::ok);
    if args.json {
        let list: Vec<_> = reports
            .iter()
            .map(|r| {
                json!({
                    "name": r.name, "dtype": r.dtype.name(), "device": device::name(&device), "ok": r.ok(), "cases": r.cases,
                    "elements": r.elements, "skipped": r.skipped, "value_error_over_bound": r.value,
                    "gradient_error_over_bound": r.gradient, "failures": r.failures,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(ok);
    }
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|r| {
            vec![
                r.name.into(),
                r.dtype.name().into(),
                r.cases.to_string(),
                r.elements.to_string(),
                format!("{:.2}", r.value),
                r.gradient.map_or("–".into(), |g| format!("{g:.2}")),
                if r.ok() { "ok".into() } else { "FAILED".into() },
            ]
        })
        .collect();
    table::print(&["kernel", "dtype", "cases", "elements", "value", "gradient", ""], &rows);
    for r in reports.iter().filter(|r| !r.ok()) {
        println!("\n{} {}:", r.name, r.dtype);
        r.failures.iter().for_each(|f| println!("  {f}"));
    }
    let failed = reports.iter().filter(|r| !r.ok()).count();
    println!(
        "\nvalue, gradient: largest error as a fraction of the bound that the f64 oracle carries (1 is the limit)."
    );
    println!("on {}: {} passed, {failed} failed", device::name(&device), reports.len() - failed);
    Ok(ok)
}
