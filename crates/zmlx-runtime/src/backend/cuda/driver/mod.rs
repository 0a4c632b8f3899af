//! The CUDA driver: what a device is, text → code → functions on it, and their launch on a stream of the caller.
//!
//! | file    | what                                                   |
//! |---------|--------------------------------------------------------|
//! | nvrtc   | text → code, no device needed                          |
//! | context | a device of the caller, and the facts that kernels are chosen by |
//! | flags   | where kernels report indices out of range              |
//! | module  | code → functions, through the cache on disk            |
//! | launch  | a function, a grid, parameters                         |
//! | kernel  | a Program: its schedules, compiled and launched        |
//! | tune    | Configs of a kernel timed against each other           |
//!
//! Context, stream and memory belong to the caller, whose tensor library made them with the same `cudarc`. Libraries are
//! looked for before the first call into them, because `cudarc` panics where there is none.

#![cfg(feature = "cuda")]

mod context;
mod flags;
mod kernel;
mod launch;
mod module;
mod nvrtc;
mod tune;

pub use context::{Context, Facts, count, facts, open};
pub use cudarc;
pub use kernel::{Kernel, Launch, View};
pub use launch::launch;
pub use module::{Function, load};
pub use nvrtc::{Code, Source, compile, version};

use crate::Error;
use cudarc::driver::{result::DriverError, sys::CUresult};
use std::sync::OnceLock;

/// Is a library there? With linking at build time there is nothing to ask, and `cudarc` lacks the question: the program
/// would not have started. The name of the inner scope, where it exists, hides ours.
macro_rules! present {
    ($sys:path) => {{
        #[allow(dead_code)]
        unsafe fn is_culib_present() -> bool {
            true
        }
        fn ask() -> bool {
            #[allow(unused_imports)]
            use $sys::*;
            // SAFETY: it opens a library of NVIDIA's and closes it.
            unsafe { is_culib_present() }
        }
        static PRESENT: OnceLock<bool> = OnceLock::new();
        *PRESENT.get_or_init(ask)
    }};
}

/// The driver, or an error that says that there is none.
fn driver_present() -> Result<(), Error> {
    if present!(cudarc::driver::sys) {
        return Ok(());
    }
    Err(missing("driver", "an NVIDIA driver (libcuda)"))
}

/// NVRTC, or an error that says that there is none.
fn nvrtc_present() -> Result<(), Error> {
    if present!(cudarc::nvrtc::sys) {
        return Ok(());
    }
    Err(missing("compiler", "NVRTC (libnvrtc, of a CUDA toolkit or the Python package nvidia-cuda-nvrtc)"))
}

fn missing(what: &str, expected: &str) -> Error {
    let got = "none where the system looks for libraries (LD_LIBRARY_PATH)".into();
    Error::Device { op: "cuda".into(), what: what.into(), expected: expected.into(), got }
}

/// The answer of the driver to a call, as an error of ours.
fn check(op: &str, call: &str, result: CUresult) -> Result<(), Error> {
    if result == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(failed(op, call, DriverError(result))) }
}

#[cold]
fn failed(op: &str, call: &str, error: DriverError) -> Error {
    Error::Device { op: op.into(), what: call.into(), expected: "success".into(), got: said(error) }
}

/// What the driver says of an error.
fn said(error: DriverError) -> String {
    let text = |found: Result<&std::ffi::CStr, DriverError>| found.ok().map(|t| t.to_string_lossy().into_owned());
    let name = text(error.error_name()).unwrap_or_else(|| format!("error {}", error.0 as u32));
    text(error.error_string()).map_or_else(|| name.clone(), |what| format!("{name} ({what})"))
}

#[cfg(test)]
mod tests;
