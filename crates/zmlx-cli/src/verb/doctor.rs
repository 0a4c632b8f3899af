//! `zmlx doctor`: what this machine and this build have.

use crate::{Outcome, machine, out, table};
use serde_json::json;
use zmlx_runtime::{cache::Cache, tune::Tuned};

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
    let mut facts = machine::facts();
    let cache = Cache::shared();
    if args.clear_cache {
        let removed = cache.clear().map_err(|e| format!("doctor: --clear-cache, expected to remove files, got {e}"))?;
        facts.push(("kernels removed".into(), removed.to_string()));
    }
    facts.push(("kernels on disk".into(), cache.describe().to_string()));
    facts.push(("tuned".into(), tuned()));
    if args.json {
        let map: serde_json::Map<_, _> = facts.iter().map(|(k, v)| (k.replace(' ', "_"), json!(v))).collect();
        out::line(serde_json::to_string_pretty(&map)?);
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
