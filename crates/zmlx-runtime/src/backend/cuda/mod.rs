//! CUDA: kernels as C++ without headers, compiled on the machine that runs them. The driver is there with the feature
//! `cuda`.

pub mod dialect;
pub mod driver;
pub mod matrix;
pub mod raw;
