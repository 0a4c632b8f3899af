//! One folder a target. A target has a `dialect.rs` (its text, built everywhere) and a `driver.rs` (the only place
//! with unsafe and cfg); the CPU needs no text. `c_like` prints the text of all of them.

pub mod c_like;
pub mod cpu;
pub mod cuda;
pub mod metal;

use crate::Error;

/// What this machine has for a target, in words for people.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its devices, one line each, or why there are none.
    pub devices: Result<Vec<String>, Error>,
    /// The compiler of its text, or why there is none.
    pub compiler: Result<String, Error>,
}

/// NVIDIA's devices and run-time compiler. None: this build has no driver for them (feature `cuda`). Asking takes a
/// context on each device.
pub fn find_cuda() -> Option<Found> {
    #[cfg(feature = "cuda")]
    let found = Some(Found {
        devices: cuda::driver::facts().map(|all| all.iter().map(ToString::to_string).collect()),
        compiler: cuda::driver::version().map(|(major, minor)| format!("NVRTC {major}.{minor}")),
    });
    #[cfg(not(feature = "cuda"))]
    let found = None;
    found
}

/// Apple's devices, whose compiler is part of the system. None: this build has no driver for them (feature `metal`, on macOS).
pub fn find_metal() -> Option<Found> {
    #[cfg(all(feature = "metal", target_os = "macos"))]
    let found = Some(Found {
        devices: Ok(metal::driver::facts().iter().map(ToString::to_string).collect()),
        compiler: Ok("that of the system".into()),
    });
    #[cfg(not(all(feature = "metal", target_os = "macos")))]
    let found = None;
    found
}
