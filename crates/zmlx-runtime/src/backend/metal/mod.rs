//! Metal: kernels as text, compiled on the machine that runs them. The driver is there with the feature `metal` on macOS.

pub mod driver;
