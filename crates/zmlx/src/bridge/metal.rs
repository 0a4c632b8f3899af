//! Programs on candle's Metal devices: on its encoder, in buffers of its pool, told to its tracking of hazards. Not yet run on
//! Apple hardware: checked against the types of the target only.

use super::{
    Guards, candle_dtype,
    device::{Call, Results},
    raw::RawCall,
};
use crate::{Error, Result, stats};
use candle_core::{MetalDevice, MetalStorage, Storage, Tensor};
use smallvec::SmallVec;
use std::sync::{Arc, LazyLock};
use zmlx_ir::{DType, kernel::WARP};
use zmlx_runtime::{
    backend::metal::driver::{
        Binding, Context, Function, Kernel, Launch, Source, View, candle_metal_kernels::metal::Buffer, encode, load,
    },
    list::List,
};

/// What a Program was compiled to on each device, by the device's number.
#[derive(Default)]
pub struct Kernels(List<(u64, Kernel)>);

/// What is known of the devices.
static CONTEXTS: LazyLock<List<(u64, Context)>> = LazyLock::new(List::default);

fn number(device: &MetalDevice) -> u64 {
    device.device().registry_id()
}

fn context(device: &MetalDevice) -> &'static Context {
    let number = number(device);
    &CONTEXTS.get_or_add(|(n, _)| *n == number, || (number, Context::new(device.device()))).1
}

/// See `super::check`.
pub fn out_of_range(device: &MetalDevice) -> Result<Vec<String>> {
    device.wait_until_completed()?;
    Ok(context(device).out_of_range())
}

/// Memory for so many elements.
fn allocate(dtype: DType, n: usize, device: &MetalDevice) -> Result<Arc<Buffer>> {
    Ok(device.new_buffer_builder().with_size_for(n.max(1), candle_dtype(dtype)).build()?)
}

fn storage<'a>(guards: &'a Guards<'_>, k: usize) -> Result<&'a MetalStorage> {
    match guards.storage(k) {
        Storage::Metal(storage) => Ok(storage),
        _ => Err(Error::internal("a tensor of a Metal device lies elsewhere")),
    }
}

impl Kernels {
    fn on(&self, call: &Call<'_>, device: &MetalDevice) -> &Kernel {
        let number = number(device);
        let make = || {
            stats::count_compile();
            (number, Kernel::new(call.program, context(device)))
        };
        &self.0.get_or_add(|(n, _)| *n == number, make).1
    }

    /// Queues it on the device's encoder.
    pub fn run(&self, call: &Call<'_>, tensors: &[&Tensor], device: &MetalDevice) -> Result<Results> {
        let kernel = self.on(call, device);
        let guards = Guards::lock(tensors);
        let mut views: SmallVec<[View<'_>; 8]> = SmallVec::new();
        for (k, (place, input)) in call.places.iter().zip(&call.program.inputs).enumerate() {
            views.push(View {
                buffer: storage(&guards, k)?.buffer(),
                offset: place.offset * input.dtype.size_bytes(),
                row_strides: &place.row_strides,
                col_stride: place.col_stride,
                table: place.table,
            });
        }
        let rows = call.row_dims.iter().product();
        let mut outputs: SmallVec<[(Arc<Buffer>, usize, DType); 4]> = SmallVec::new();
        for o in call.program.stored() {
            let n = o.len(rows, call.cols);
            outputs.push((allocate(o.dtype, n, device)?, n, o.dtype));
        }
        if outputs.iter().any(|(_, n, _)| *n > 0) {
            let (row_dims, cols, uniforms) = (call.row_dims, call.cols, call.uniforms);
            let plan = kernel.plan(&Launch { row_dims, cols, inputs: &views, uniforms })?;
            // before the encoder: candle's encoder and its copies share a lock
            let scratch = plan.scratch().map(|bytes| allocate(DType::U8, bytes, device));
            let scratch: SmallVec<[Arc<Buffer>; 4]> = scratch.collect::<Result<_>>()?;
            let scratch: SmallVec<[&Buffer; 4]> = scratch.iter().map(|b| &**b).collect();
            let memory: SmallVec<[&Buffer; 4]> = outputs.iter().map(|o| &*o.0).collect();
            let encoder = device.command_encoder()?;
            // SAFETY: candle's layouts lie inside their buffers, which candle's tracking keeps in order, and outputs are as
            // large as their extents.
            unsafe { plan.encode(encoder.as_ref(), &memory, &scratch)? };
        }
        let stored = |(buffer, n, dtype): (Arc<Buffer>, usize, DType)| {
            Storage::Metal(MetalStorage::new(buffer, device.clone(), n, candle_dtype(dtype)))
        };
        Ok(outputs.into_iter().map(stored).collect())
    }
}

/// A kernel written by hand, compiled.
pub fn load_raw(op: &str, entry: &str, text: &str, device: &MetalDevice) -> Result<Function> {
    let function = load(context(device), &Source { op, text }, &[entry])?.remove(0);
    match function.simd_width {
        WARP => Ok(function),
        got => Err(Error::argument(op, "threads of a simdgroup", WARP, got)),
    }
}

/// Runs a kernel written by hand.
pub fn run_raw(call: &RawCall<'_>, function: &Function, tensors: &[&Tensor], device: &MetalDevice) -> Result<Results> {
    let guards = Guards::lock(tensors);
    let mut outputs: SmallVec<[(Arc<Buffer>, usize, candle_core::DType); 4]> = SmallVec::new();
    for (shape, tensor) in call.shapes.iter().zip(call.raw.outputs) {
        let n = shape.elem_count();
        outputs.push((allocate(tensor.dtype, n, device)?, n, candle_dtype(tensor.dtype)));
    }
    let mut bindings: SmallVec<[Binding<'_>; 8]> = SmallVec::new();
    for (k, t) in tensors.iter().enumerate() {
        let offset = t.layout().start_offset() * t.dtype().size_in_bytes();
        bindings.push(Binding::Input(storage(&guards, k)?.buffer(), offset));
    }
    bindings.extend(outputs.iter().map(|(buffer, ..)| Binding::Output(buffer, 0)));
    let encoder = device.command_encoder()?;
    // SAFETY: the bindings are those of the generated signature; what the body does with them is its author's promise.
    unsafe { encode(function, encoder.as_ref(), call.blocks, call.threads, 0, &bindings, call.args)? };
    drop(bindings);
    let stored = |(buffer, n, dtype)| Storage::Metal(MetalStorage::new(buffer, device.clone(), n, dtype));
    Ok(outputs.into_iter().map(stored).collect())
}
