//! `zmlx doctor`: what this machine and this build have.

use crate::{Outcome, table};
use serde_json::json;
use zmlx_runtime::backend::cpu::simd;

/// Show devices, versions and settings
#[derive(clap::Args)]
pub struct Args {
    /// One object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = format!("{}, {threads} threads, {}", std::env::consts::ARCH, simd::name());
    let facts = [
        ("zmlx", env!("CARGO_PKG_VERSION").to_string()),
        ("candle", zmlx::CANDLE_VERSION.to_string()),
        ("device cpu", cpu),
        ("device cuda", "not in this build".to_string()),
        ("device metal", "not in this build".to_string()),
        ("kernel cache", "in memory (a CPU plan takes microseconds to make)".to_string()),
        ("threads set by", zmlx::THREADS_VARIABLE.to_string()),
    ];
    if args.json {
        let map: serde_json::Map<_, _> = facts.iter().map(|(k, v)| (k.replace(' ', "_"), json!(v))).collect();
        println!("{}", serde_json::to_string_pretty(&map)?);
    } else {
        let rows: Vec<_> = facts.iter().map(|(k, v)| vec![k.to_string(), v.clone()]).collect();
        table::print(&["what", "found"], &rows);
    }
    Ok(true)
}
