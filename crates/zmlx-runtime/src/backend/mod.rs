//! One folder a target. A target has a `dialect.rs` (its text, built everywhere) and a `driver.rs` (the only place
//! with unsafe and cfg); the CPU needs no text. `c_like` prints the text of all of them.

pub mod c_like;
pub mod cpu;
pub mod cuda;
pub mod metal;
