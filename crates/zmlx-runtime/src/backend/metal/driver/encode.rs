//! The dispatch: a pipeline, threadgroups and arguments, on an encoder of the caller. Not yet run on Apple hardware.

use super::Function;
use crate::Error;
use candle_metal_kernels::metal::{Buffer, ComputeCommandEncoder};
use objc2_metal::MTLSize;

/// Metal's limits, the same on all devices.
const BUFFERS: usize = 31;
const ARGUMENT_BYTES: usize = 4096;
/// Threadgroup memory is given out in pieces of this many bytes.
const SHARED_PIECE: u32 = 16;

/// A buffer of a dispatch, with the byte at which the kernel's data starts.
#[derive(Clone, Copy, Debug)]
pub enum Binding<'a> {
    /// The kernel reads it.
    Input(&'a Buffer, usize),
    /// The kernel writes it.
    Output(&'a Buffer, usize),
    /// The kernel does both.
    InPlace(&'a Buffer, usize),
}

/// Queues a function on an encoder: buffers take the first places of the text's arguments, and `args`, if there are any,
/// the one behind. They are copied before this returns. A grid without threadgroups is nothing to do.
///
/// Outputs must be allocated before the caller takes its encoder, because the tensor library locks both with one lock.
///
/// # Safety
///
/// Bindings and `args` are what the text takes, and the kernel stays inside of them.
pub unsafe fn encode(
    function: &Function,
    encoder: &ComputeCommandEncoder,
    groups: [u32; 3],
    threads: u32,
    shared: u32,
    bindings: &[Binding<'_>],
    args: &[u8],
) -> Result<(), Error> {
    if groups.contains(&0) {
        return Ok(());
    }
    if threads == 0 || threads > function.max_threads || shared > function.dynamic_shared {
        return Err(unfit(function, threads, shared));
    }
    if bindings.len() + usize::from(!args.is_empty()) > BUFFERS || args.len() > ARGUMENT_BYTES {
        return Err(too_many(function, bindings.len(), args.len()));
    }
    encoder.set_compute_pipeline_state(&function.pipeline);
    for (index, binding) in bindings.iter().enumerate() {
        let (Binding::Input(buffer, offset) | Binding::Output(buffer, offset) | Binding::InPlace(buffer, offset)) =
            *binding;
        if !matches!(binding, Binding::Output(..)) {
            encoder.set_input_buffer(index, Some(buffer), offset);
        }
        if !matches!(binding, Binding::Input(..)) {
            encoder.set_output_buffer(index, Some(buffer), offset);
        }
    }
    if !args.is_empty() {
        encoder.set_bytes_directly(bindings.len(), args.len(), args.as_ptr().cast());
    }
    if shared > 0 {
        encoder.set_threadgroup_memory_length(0, shared.next_multiple_of(SHARED_PIECE) as usize);
    }
    let [width, height, depth] = groups.map(|n| n as usize);
    let group = MTLSize { width: threads as usize, height: 1, depth: 1 };
    encoder.dispatch_thread_groups(MTLSize { width, height, depth }, group);
    Ok(())
}

#[cold]
fn unfit(function: &Function, threads: u32, shared: u32) -> Error {
    let (most, bytes) = (function.max_threads, function.dynamic_shared);
    Error::Device {
        op: function.name().into(),
        what: "dispatch".into(),
        expected: format!("threadgroups of 1 to {most} threads with at most {bytes} bytes of memory"),
        got: format!("{threads} threads with {shared} bytes"),
    }
}

#[cold]
fn too_many(function: &Function, buffers: usize, bytes: usize) -> Error {
    Error::Device {
        op: function.name().into(),
        what: "arguments".into(),
        expected: format!("at most {BUFFERS} buffers, that of the numbers among them, and {ARGUMENT_BYTES} bytes"),
        got: format!("{buffers} buffers and {bytes} bytes"),
    }
}
