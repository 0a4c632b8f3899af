//! What this machine and this build are, for `doctor` and for the head of a report.

use zmlx_runtime::backend::{self, Found, cpu::simd};

/// Facts, each with its name.
pub fn facts() -> Vec<(String, String)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = format!("{}, {threads} threads, {}", processor(), simd::name());
    let mut facts = vec![
        ("zmlx".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("candle".into(), zmlx::CANDLE_VERSION.into()),
        ("system".into(), format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("threads set by".into(), zmlx::THREADS_VARIABLE.into()),
        ("device cpu".into(), cpu),
    ];
    facts.extend(gpu("cuda", "feature cuda", backend::find_cuda()));
    facts.extend(gpu("metal", "feature metal, on macOS", backend::find_metal()));
    let metal = "printed, and executed on the CPU; not yet run on Apple hardware";
    facts.push(("kernels metal".into(), metal.into()));
    facts
}

/// The processor's name, where the system tells it; else its kind.
fn processor() -> String {
    let told = if cfg!(target_os = "macos") {
        let asked = std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output();
        asked.ok().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string())
    } else {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with("model name"));
        line.and_then(|l| l.split_once(':')).map(|(_, name)| name.trim().to_string())
    };
    told.filter(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.into())
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
