//! GPU text, executed on the CPU: compiles CUDA C++ or MSL with the headers in `standin/` of this crate and runs an entry
//! as a child process. See the README there for what the machine checks.
//!
//! Tests take this in by `#[path = "../standin/mod.rs"] mod standin;`.
#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

mod compile;
mod job;
mod signature;
mod translate;

pub use compile::{Dialect, Unit, compiler};
pub use job::{Bytes, Order};
