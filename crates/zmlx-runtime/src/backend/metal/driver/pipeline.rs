//! Text → pipelines on a device, kept in memory. Metal keeps compiled code on disk itself, so the cache on disk has none of
//! it. Not yet run on Apple hardware.

use super::Context;
use crate::{Error, cache::Key};
use candle_metal_kernels::{
    MetalKernelError,
    metal::{ComputePipeline, Library},
};
use objc2::available;
use objc2_metal::{MTLCompileOptions, MTLComputePipelineState, MTLMathFloatingPointFunctions, MTLMathMode};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

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
    pub(super) pipeline: ComputePipeline,
    /// The most threads of a threadgroup. Metal decides it for each pipeline: more threads give wrong results.
    pub max_threads: u32,
    /// Threads of a simdgroup.
    pub simd_width: u32,
    /// Threadgroup memory that the text declares, in bytes.
    pub static_shared: u32,
    /// The most threadgroup memory that a dispatch may add, in bytes.
    pub dynamic_shared: u32,
}

/// Pipelines of all devices, by the device, the text and the entry.
type Pipelines = HashMap<(u64, Key, String), Function>;
static PIPELINES: LazyLock<Mutex<Pipelines>> = LazyLock::new(Mutex::default);

/// The functions of these names, in their order.
pub fn load(context: &Context, source: &Source<'_>, entries: &[&str]) -> Result<Vec<Function>, Error> {
    let device = context.device().registry_id();
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
    let compiled = context.device().new_library_with_source(source.text, Some(&options));
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
    let pipeline = context.device().new_compute_pipeline_state_with_function(&function).map_err(absent)?;
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
