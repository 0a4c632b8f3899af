//! `--device`: which one a verb runs on.

use candle_core::Device;

/// The names of `--device`.
pub const NAMES: [&str; 2] = ["cpu", "cuda"];

/// The device of this name; without one, the best that is there.
pub fn open(name: Option<&str>) -> Result<Device, Box<dyn std::error::Error>> {
    match name {
        Some("cuda") if !cfg!(feature = "cuda") => {
            Err("--device cuda, expected a build with --features cuda, got one without".into())
        }
        Some("cuda") => prepared(Device::new_cuda(0)?),
        None if cfg!(feature = "cuda") => prepared(Device::new_cuda(0).unwrap_or(Device::Cpu)),
        _ => Ok(Device::Cpu),
    }
}

/// A verb has the device to itself, and its memory too.
fn prepared(device: Device) -> Result<Device, Box<dyn std::error::Error>> {
    zmlx::keep_freed_memory(&device)?;
    Ok(device)
}

/// Its name.
pub fn name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}
