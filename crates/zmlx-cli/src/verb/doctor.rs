//! `zmlx doctor`: what this machine and this build have.

use crate::{Outcome, table};
use serde_json::json;
use zmlx_runtime::{
    backend::{self, Found, cpu::simd},
    cache::Cache,
};

/// Show devices, versions, settings and the kernels on disk
#[derive(clap::Args)]
pub struct Args {
    /// Remove all compiled kernels from the disk first
    #[arg(long)]
    clear_cache: bool,
    /// One object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = format!("{}, {threads} threads, {}", std::env::consts::ARCH, simd::name());
    let mut facts = vec![
        ("zmlx".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("candle".into(), zmlx::CANDLE_VERSION.into()),
        ("threads set by".into(), zmlx::THREADS_VARIABLE.into()),
        ("device cpu".into(), cpu),
    ];
    facts.extend(gpu("cuda", "feature cuda", backend::find_cuda()));
    facts.extend(gpu("metal", "feature metal, on macOS", backend::find_metal()));
    let metal = "printed, and executed on the CPU; not yet run on Apple hardware";
    facts.push(("kernels metal".into(), metal.into()));
    let cache = Cache::shared();
    if args.clear_cache {
        let removed = cache.clear().map_err(|e| format!("doctor: --clear-cache, expected to remove files, got {e}"))?;
        facts.push(("kernels removed".into(), removed.to_string()));
    }
    facts.push(("kernels on disk".into(), cache.describe().to_string()));
    if args.json {
        let map: serde_json::Map<_, _> = facts.iter().map(|(k, v)| (k.replace(' ', "_"), json!(v))).collect();
        println!("{}", serde_json::to_string_pretty(&map)?);
    } else {
        let rows: Vec<_> = facts.into_iter().map(|(k, v)| vec![k, v]).collect();
        table::print(&["what", "found"], &rows);
    }
    Ok(true)
}

/// The devices of a target, a row each, and the compiler of their kernels.
fn gpu(target: &str, needs: &str, found: Option<Found>) -> Vec<(String, String)> {
    let device = format!("device {target}");
    let Some(found) = found else { return vec![(device, format!("not in this build ({needs})"))] };
    let none = |e: zmlx_runtime::Error| format!("none: {e}");
    let mut rows = match found.devices {
        Ok(devices) if devices.is_empty() => vec![(device, "none".into())],
        Ok(devices) => devices.into_iter().enumerate().map(|(n, d)| (format!("{device} {n}"), d)).collect(),
        Err(e) => vec![(device, none(e))],
    };
    rows.push((format!("compiler {target}"), found.compiler.unwrap_or_else(none)));
    rows
}
