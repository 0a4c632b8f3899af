//! The launch: one call of the driver, without events, allocations or strings, so that it may also be captured.

use super::{Function, check};
use crate::Error;
use cudarc::driver::sys::{self, CUcontext, CUstream};
use std::{ffi::c_void, ptr};

/// Queues a function on a stream. `params` are addresses of the arguments, in the order of the text's parameters; they are
/// read before this returns. A grid without blocks is nothing to do. Errors of the kernel itself come later, from whoever
/// waits for the stream.
///
/// # Safety
///
/// `params` has an address for each parameter of the text, of a value of its type. What the kernel reads and writes
/// through those values is alive until the stream has run it, and no other stream uses it without an order between them.
/// `stream` is of the function's context.
#[inline]
pub unsafe fn launch(
    function: &Function,
    grid: [u32; 3],
    block: u32,
    shared: u32,
    stream: CUstream,
    params: &mut [*mut c_void],
) -> Result<(), Error> {
    if grid.contains(&0) {
        return Ok(());
    }
    let most = function.grid();
    let fits = grid[0] <= most[0] && grid[1] <= most[1] && grid[2] <= most[2];
    if !fits || block == 0 || block > function.max_threads || shared > function.dynamic_shared {
        return Err(unfit(function, grid, block, shared));
    }
    let name = function.name();
    let context = function.context().cu_ctx();
    let mut current: CUcontext = ptr::null_mut();
    // A thread that has not worked on this device yet has another context, or none, and the default stream is that of
    // the thread's context.
    // SAFETY: the place is ours, and the context alive.
    unsafe {
        check(name, "cuCtxGetCurrent", sys::cuCtxGetCurrent(&mut current))?;
        if current != context {
            check(name, "cuCtxSetCurrent", sys::cuCtxSetCurrent(context))?;
        }
    }
    let [x, y, z] = grid;
    let params = params.as_mut_ptr();
    // SAFETY: the caller promises what the driver cannot check: the parameters and what they point to.
    let queued =
        unsafe { sys::cuLaunchKernel(function.raw(), x, y, z, block, 1, 1, shared, stream, params, ptr::null_mut()) };
    check(name, "cuLaunchKernel", queued)
}

#[cold]
fn unfit(function: &Function, grid: [u32; 3], block: u32, shared: u32) -> Error {
    let most = function.grid();
    let (threads, bytes) = (function.max_threads, function.dynamic_shared);
    Error::Device {
        op: function.name().into(),
        what: "launch".into(),
        expected: format!("at most {most:?} blocks of 1 to {threads} threads with {bytes} bytes of shared memory"),
        got: format!("{grid:?} blocks of {block} threads with {shared} bytes"),
    }
}
