//! What this machine and this build are, for `doctor` and for the head of a report.

use zmlx_runtime::backend::{self, cpu::simd};

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
    facts.extend(cuda());
    facts.push(("device metal".into(), metal()));
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

/// Apple's device, as candle finds it.
fn metal() -> String {
    match candle_core::Device::new_metal(0) {
        Ok(_) => "there (not yet run on Apple hardware by us: `verify` and `bench` write a report to send)".into(),
        Err(candle_core::Error::NotCompiledWithMetalSupport) => {
            "not in this build (feature metal); `show --target metal` prints its text".into()
        }
        Err(e) => format!("none: {e}"),
    }
}
