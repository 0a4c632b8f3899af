//! The Metal driver: what a device is, text → pipelines on it, and their dispatch on an encoder of the caller.
//!
//! Device, encoder and buffers belong to the caller, whose tensor library tracks what each dispatch reads and writes:
//! its encoder runs dispatches concurrently, and places a barrier only between those whose buffers were told to it. So
//! every buffer goes through a [`Binding`], never through Metal itself.
//!
//! Pipelines are kept in memory. Metal keeps compiled code on disk itself, so the cache on disk has none of it.
//! Not yet run on Apple hardware: the code is checked against the types of the target only.

#![cfg(all(feature = "metal", target_os = "macos"))]

pub use candle_metal_kernels;

use crate::{Error, cache::Key};
use candle_metal_kernels::{
    MetalKernelError,
    metal::{Buffer, ComputeCommandEncoder, ComputePipeline, Device, Library},
};
use objc2::available;
use objc2_metal::{
    MTLCompileOptions, MTLComputePipelineState, MTLDevice, MTLGPUFamily, MTLMathFloatingPointFunctions, MTLMathMode,
    MTLSize,
};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// Metal's limits, the same on all devices.
const BUFFERS: usize = 31;
const ARGUMENT_BYTES: usize = 4096;
/// Threadgroup memory is given out in pieces of this many bytes.
const SHARED_PIECE: u32 = 16;

/// A device that the caller's tensor library works on.
#[derive(Clone, Debug)]
pub struct Context {
    device: Device,
    facts: Facts,
}

/// What is true of a device for as long as the process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its architecture, as Apple names it.
    pub name: String,
    /// The most threadgroup memory, static and dynamic, in bytes.
    pub shared_per_group: u32,
    /// The most memory that works without being moved, in bytes.
    pub memory_bytes: u64,
    /// Does its language have the type `bfloat`?
    pub bfloat: bool,
}

/// The text of one or more kernels.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Whose text it is, for errors.
    pub op: &'a str,
    /// Metal Shading Language.
    pub text: &'a str,
}

/// A kernel on a device, ready to be dispatched.
#[derive(Clone, Debug)]
pub struct Function {
    name: Arc<str>,
    pipeline: ComputePipeline,
    /// The most threads of a threadgroup. Metal decides it for each pipeline: more threads give wrong results.
    pub max_threads: u32,
    /// Threads of a simdgroup.
    pub simd_width: u32,
    /// Threadgroup memory that the text declares, in bytes.
    pub static_shared: u32,
    /// The most threadgroup memory that a dispatch may add, in bytes.
    pub dynamic_shared: u32,
}

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

/// Pipelines of all devices, by the device, the text and the entry.
type Pipelines = HashMap<(u64, Key, String), Function>;
static PIPELINES: LazyLock<Mutex<Pipelines>> = LazyLock::new(Mutex::default);

impl Context {
    /// The facts of this device.
    pub fn new(device: &Device) -> Context {
        let raw = device.as_ref();
        let facts = Facts {
            name: device.architecture_name(),
            shared_per_group: raw.maxThreadgroupMemoryLength() as u32,
            memory_bytes: device.recommended_max_working_set_size() as u64,
            // Metal 3.1 came with macOS 14.
            bfloat: available!(macos = 14) && raw.supportsFamily(MTLGPUFamily::Metal3),
        };
        Context { device: device.clone(), facts }
    }

    /// What is true of it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The caller's device.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// The system's default device, or an error that says that there is none.
pub fn open() -> Result<Context, Error> {
    let none = || Error::Device {
        op: "metal".into(),
        what: "device".into(),
        expected: "a GPU that Metal knows".into(),
        got: "none".into(),
    };
    Device::system_default().map(|device| Context::new(&device)).ok_or_else(none)
}

/// The functions of these names, in their order.
pub fn load(context: &Context, source: &Source<'_>, entries: &[&str]) -> Result<Vec<Function>, Error> {
    let device = context.device.registry_id();
    let key = Key::new(source.text, "metal", &[]);
    let kept = |entry: &str| {
        let pipelines = PIPELINES.lock().unwrap_or_else(PoisonError::into_inner);
        pipelines.get(&(device, key, entry.to_string())).cloned()
    };
    // Compiled at the first entry that is not there, and then used for the others.
    let mut library: Option<Library> = None;
    let mut functions = Vec::with_capacity(entries.len());
    for entry in entries {
        let function = match kept(entry) {
            Some(function) => function,
            None => {
                let library = match &library {
                    Some(library) => library,
                    None => library.insert(compile(context, source)?),
                };
                let function = pipeline(context, source, library, entry)?;
                let mut pipelines = PIPELINES.lock().unwrap_or_else(PoisonError::into_inner);
                pipelines.insert((device, key, entry.to_string()), function.clone());
                function
            }
        };
        functions.push(function);
    }
    Ok(functions)
}

/// Compiles with arithmetic as it is written. Metal's own default is fast mathematics, without NaN and infinity.
fn compile(context: &Context, source: &Source<'_>) -> Result<Library, Error> {
    let options = MTLCompileOptions::new();
    if available!(macos = 15) {
        options.setMathMode(MTLMathMode::Safe);
        options.setMathFloatingPointFunctions(MTLMathFloatingPointFunctions::Precise);
    } else {
        #[allow(deprecated)]
        options.setFastMathEnabled(false);
    }
    let compiled = context.device.new_library_with_source(source.text, Some(&options));
    compiled.map_err(|error| Error::refused(source.op, &context.facts.name, source.text, error.to_string()))
}

fn pipeline(context: &Context, source: &Source<'_>, library: &Library, entry: &str) -> Result<Function, Error> {
    let absent = |error: MetalKernelError| Error::Device {
        op: source.op.into(),
        what: "entry of the text".into(),
        expected: format!("kernel void {entry}(…) that becomes a pipeline"),
        got: error.to_string(),
    };
    let function = library.get_function(entry, None).map_err(absent)?;
    let pipeline = context.device.new_compute_pipeline_state_with_function(&function).map_err(absent)?;
    let static_shared = pipeline.as_ref().staticThreadgroupMemoryLength() as u32;
    Ok(Function {
        name: entry.into(),
        max_threads: pipeline.max_total_threads_per_threadgroup() as u32,
        simd_width: pipeline.as_ref().threadExecutionWidth() as u32,
        static_shared,
        dynamic_shared: context.facts.shared_per_group.saturating_sub(static_shared),
        pipeline,
    })
}

impl Function {
    /// The entry's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Threads of a threadgroup for a kernel that would like so many: whole simdgroups, no more than the pipeline takes.
    pub fn threads(&self, wanted: u32) -> u32 {
        let simd = self.simd_width.max(1);
        (wanted.min(self.max_threads) / simd * simd).max(simd.min(self.max_threads))
    }
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
