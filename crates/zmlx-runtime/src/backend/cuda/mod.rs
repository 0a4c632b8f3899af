//! CUDA: kernels as text, compiled on the machine that runs them. The driver is there with the feature `cuda`.

pub mod driver;
