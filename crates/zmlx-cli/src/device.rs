//! `--device`: which one a verb runs on.

use candle_core::Device;

/// The names of `--device`.
pub const NAMES: [&str; 3] = ["cpu", "cuda", "metal"];

/// The device of this name; without one, the best that is there. CUDA and Metal are there in builds with the feature of that
/// name.
pub fn open(name: Option<&str>) -> Result<Device, Box<dyn std::error::Error>> {
    let device = match name {
        Some("cuda") => Device::new_cuda(0).map_err(|e| format!("--device cuda: {e}"))?,
        Some("metal") => Device::new_metal(0).map_err(|e| format!("--device metal: {e}"))?,
        None => Device::new_cuda(0).or_else(|_| Device::new_metal(0)).unwrap_or(Device::Cpu),
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
