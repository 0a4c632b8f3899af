//! The Metal driver: what a device is, text → pipelines on it, and their dispatch on an encoder of the caller.
//!
//! | file     | what                                                             |
//! |----------|------------------------------------------------------------------|
//! | context  | a device of the caller, the facts that kernels are chosen by, where kernels report indices out of range |
//! | pipeline | text → pipelines                                                 |
//! | encode   | a pipeline, threadgroups, arguments                              |
//! | kernel   | a Program: its schedules, compiled and dispatched                |
//!
//! Device, encoder and buffers belong to the caller, whose tensor library tracks what each dispatch reads and writes:
//! its encoder runs dispatches concurrently, and places a barrier only between those whose buffers were told to it. So
//! every buffer goes through a [`Binding`], never through Metal itself.
//!
//! Not yet run on Apple hardware: the code is checked against the types of the target only.

#![cfg(all(feature = "metal", target_os = "macos"))]

mod context;
mod encode;
mod kernel;
mod pipeline;

pub use candle_metal_kernels;
pub use context::{Context, Facts, facts, open};
pub use encode::{Binding, encode};
pub use kernel::{Kernel, Launch, Plan, View};
pub use pipeline::{Function, Source, load};
