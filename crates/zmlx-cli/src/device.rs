//! `--device`: which one a verb runs on.

use candle_core::Device;

/// The names of `--device`.
pub const NAMES: [&str; 2] = ["cpu", "cuda"];

/// The device of this name; without one, the best that is there. CUDA is there in a build with the feature `cuda`.
pub fn open(name: Option<&str>) -> Result<Device, Box<dyn std::error::Error>> {
    let device = match name {
        Some("cuda") => Device::new_cuda(0).map_err(|e| format!("--device cuda: {e}"))?,
        None => Device::new_cuda(0).unwrap_or(Device::Cpu),
        _ => Device::Cpu,
    };
    // a verb has the device to itself, and its memory too
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
