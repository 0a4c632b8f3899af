//! Metal: kernels in the Metal shading language, compiled on the machine that runs them. The driver is there with the
//! feature `metal` on macOS.

pub mod dialect;
pub mod driver;
pub mod matrix;
pub mod raw;
