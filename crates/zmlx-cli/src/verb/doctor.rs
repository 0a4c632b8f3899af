//! `zmlx doctor`: what this machine and this build have.

use crate::{Outcome, table};
use serde_json::json;
use zmlx_runtime::{
    backend::{self, cpu::simd},
    cache::Cache,
    tune::Tuned,
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
    facts.extend(cuda());
    facts.push(("device metal".into(), "not connected to tensors yet; `show --target metal` prints its text".into()));
    let cache = Cache::shared();
    if args.clear_cache {
        let removed = cache.clear().map_err(|e| format!("doctor: --clear-cache, expected to remove files, got {e}"))?;
        facts.push(("kernels removed".into(), removed.to_string()));
    }
    facts.push(("kernels on disk".into(), cache.describe().to_string()));
    facts.push(("tuned".into(), tuned()));
    if args.json {
        let map: serde_json::Map<_, _> = facts.iter().map(|(k, v)| (k.replace(' ', "_"), json!(v))).collect();
        println!("{}", serde_json::to_string_pretty(&map)?);
    } else {
        let rows: Vec<_> = facts.into_iter().map(|(k, v)| vec![k, v]).collect();
        table::print(&["what", "found"], &rows);
    }
    Ok(true)
}

/// What tuners found.
fn tuned() -> String {
    let tuned = Tuned::shared();
    let (here, shipped) = tuned.len();
    let path = tuned.path().map_or("in memory alone".into(), |p| p.display().to_string());
    format!("{path}: {here} buckets; {shipped} more ship with zmlx")
}

/// NVIDIA's devices, a row each, and the compiler of their kernels.
fn cuda() -> Vec<(String, String)> {
    let Some(found) = backend::find_cuda() else {
        return vec![("device cuda".into(), "not in this build (feature cuda)".into())];
    };
    let none = |e: zmlx_runtime::Error| format!("none: {e}");
    let mut rows = match found.devices {
        Ok(devices) if devices.is_empty() => vec![("device cuda".into(), "none".into())],
        Ok(devices) => devices.into_iter().enumerate().map(|(n, d)| (format!("device cuda {n}"), d)).collect(),
        Err(e) => vec![("device cuda".into(), none(e))],
    };
    rows.push(("compiler cuda".into(), found.compiler.unwrap_or_else(none)));
    rows
}
