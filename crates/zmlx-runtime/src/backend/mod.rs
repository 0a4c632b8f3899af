//! One folder a target. A target has a `dialect.rs` (its text, built everywhere) and a `driver.rs` (the only place
//! with unsafe and cfg); the CPU needs no text.

pub mod cpu;
pub mod cuda;
pub mod metal;
