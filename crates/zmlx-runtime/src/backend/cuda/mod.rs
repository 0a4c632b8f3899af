//! CUDA: the text is C++ for run-time compilation, without headers.

pub mod dialect;
