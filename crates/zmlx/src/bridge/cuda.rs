//! Programs on candle's CUDA devices: on its context, its stream and memory from its pool.

use super::{
    Guards,
    device::{Call, Results},
    raw::RawCall,
};
use crate::{
    Error, Result, stats,
    tune::{BUDGET, Tune, Tuning},
};
use candle_core::{
    CudaDevice, CudaStorage, Storage, Tensor,
    backend::BackendStorage,
    cuda_backend::{
        CudaStorageSlice,
        cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop, result::memset_d8_async},
    },
};
use smallvec::SmallVec;
use std::{
    ffi::c_void,
    sync::{LazyLock, Mutex, PoisonError},
};
use zmlx_ir::DType;
use zmlx_runtime::{
    backend::cuda::driver::{Context, Function, Kernel, Launch, Source, View, launch, load},
    cache::Cache,
    list::List,
};

/// What a Program was compiled to on each device, by the device's number.
#[derive(Default)]
pub struct Kernels(List<(usize, Kernel)>);

/// What is known of the devices.
static CONTEXTS: LazyLock<List<(usize, Context)>> = LazyLock::new(List::default);

fn context(stream: &CudaStream) -> Result<&'static Context> {
    let number = stream.context().ordinal();
    Ok(&CONTEXTS.get_or_try_add(|(n, _)| *n == number, || Ok::<_, Error>((number, Context::new(stream.context())?)))?.1)
}

macro_rules! slices {
    ($($v:ident($t:ty)),*) => {
        /// Address of the memory, and what orders this use of it after others.
        fn address<'a>(slice: &'a CudaStorageSlice, stream: &'a CudaStream) -> Option<(u64, SyncOnDrop<'a>)> {
            match slice {
                $(CudaStorageSlice::$v(s) => Some(s.device_ptr(stream)),)*
                _ => None,
            }
        }

        /// Memory for so many elements, and its address.
        fn allocate(dtype: DType, n: usize, device: &CudaDevice, stream: &CudaStream) -> Result<(CudaStorageSlice, u64)> {
            Ok(match if dtype == DType::Bool { DType::U8 } else { dtype } {
                $(DType::$v => {
                    // SAFETY: every element is written by the launch it is allocated for.
                    let mut memory: CudaSlice<$t> = unsafe { device.alloc(n.max(1))? };
                    let address = memory.device_ptr_mut(stream).0;
                    (CudaStorageSlice::$v(memory), address)
                })*
                DType::Bool => unreachable!("invariant: truth values are stored as u8"),
            })
        }
    };
}
slices!(U8(u8), U32(u32), I16(i16), I32(i32), I64(i64), BF16(half::bf16), F16(half::f16), F32(f32), F64(f64));

/// Fills memory that was just allocated with ones: NaN in every float type.
#[cold]
fn poison(address: u64, bytes: usize, stream: &CudaStream) -> Result<()> {
    let filled = stream.context().bind_to_thread().and_then(|()| {
        // SAFETY: the memory is ours alone, so long, and of types for which all bits are values.
        unsafe { memset_d8_async(address, 0xff, bytes, stream.cu_stream()) }
    });
    Ok(filled.map_err(candle_core::Error::wrap)?)
}

/// See `super::keep_freed_memory`.
pub fn keep_freed_memory(device: &CudaDevice) -> Result<()> {
    Ok(context(&device.cuda_stream())?.keep_freed_memory()?)
}

/// See `super::matrix_units`.
pub fn matrix_units(device: &CudaDevice) -> Option<usize> {
    let facts = context(&device.cuda_stream()).ok()?.facts();
    (facts.capability >= (8, 0)).then_some(facts.shared_per_block as usize)
}

/// See `super::check`.
pub fn out_of_range(device: &CudaDevice) -> Result<Vec<String>> {
    Ok(context(&device.cuda_stream())?.out_of_range()?)
}

/// A kernel written by hand, compiled.
pub fn load_raw(op: &str, entry: &str, text: &str, device: &CudaDevice) -> Result<Function> {
    let source = Source { op, text, options: &["--minimal"] };
    Ok(load(context(&device.cuda_stream())?, &source, &[entry], Cache::shared())?.remove(0))
}

/// Runs a kernel written by hand.
pub fn run_raw(call: &RawCall<'_>, function: &Function, tensors: &[&Tensor], device: &CudaDevice) -> Result<Results> {
    let stream = device.cuda_stream();
    let guards = Guards::lock(tensors);
    let mut addresses: SmallVec<[u64; 12]> = SmallVec::new();
    let mut uses: SmallVec<[SyncOnDrop<'_>; 8]> = SmallVec::new();
    for (k, t) in tensors.iter().enumerate() {
        let Storage::Cuda(storage) = guards.storage(k) else {
            return Err(Error::internal("a tensor of a CUDA device lies elsewhere"));
        };
        let Some((start, guard)) = address(&storage.slice, &stream) else {
            return Err(Error::internal("a tensor of a type that has no name"));
        };
        uses.push(guard);
        addresses.push(start + (t.layout().start_offset() * t.dtype().size_in_bytes()) as u64);
    }
    let mut results: SmallVec<[CudaStorageSlice; 4]> = SmallVec::new();
    for (shape, tensor) in call.shapes.iter().zip(call.raw.outputs) {
        let (memory, address) = allocate(tensor.dtype, shape.elem_count(), device, &stream)?;
        if super::poisons() && shape.elem_count() > 0 {
            poison(address, shape.elem_count() * tensor.dtype.size_bytes(), &stream)?;
        }
        results.push(memory);
        addresses.push(address);
    }
    let mut params: SmallVec<[*mut c_void; 13]> = addresses.iter_mut().map(|a| std::ptr::from_mut(a).cast()).collect();
    params.push(call.args.as_ptr().cast_mut().cast());
    // SAFETY: the parameters are those of the generated signature, and the arguments are only read; the tensors are locked and
    // live until it is queued. What the body does with them is its author's promise.
    unsafe { launch(function, call.blocks, call.threads, call.raw.shared as u32, stream.cu_stream(), &mut params)? };
    drop(uses);
    let store = |slice| Storage::Cuda(CudaStorage { slice, device: device.clone() });
    Ok(results.into_iter().map(store).collect())
}

/// Measures, if this call is to.
///
/// # Safety
/// As `Kernel::run`.
unsafe fn tune(tuning: &Tuning, kernel: &Kernel, launch: &Launch<'_>) -> Result<()> {
    /// What is measured beside something else is measured wrong.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if tuning.tune() != Tune::Auto || (matches!(tuning, Tuning::Told(_) | Tuning::Default) && kernel.is_tuned(launch)) {
        return Ok(());
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match tuning {
        Tuning::Now(budget, reports) => {
            // SAFETY: the caller's promise.
            let report = unsafe { kernel.tune(launch, *budget)? };
            reports.lock().unwrap_or_else(PoisonError::into_inner).extend(report);
        }
        // another thread may have tuned it meanwhile
        _ if kernel.is_tuned(launch) => {}
        // SAFETY: the caller's promise.
        _ => drop(unsafe { kernel.tune(launch, BUDGET)? }),
    }
    Ok(())
}

impl Kernels {
    fn on(&self, call: &Call<'_>, stream: &CudaStream) -> Result<&Kernel> {
        let number = stream.context().ordinal();
        let make = || {
            stats::count_compile();
            Ok::<_, Error>((number, Kernel::new(call.program, context(stream)?)))
        };
        Ok(&self.0.get_or_try_add(|(n, _)| *n == number, make)?.1)
    }

    /// Queues it on the device's stream.
    pub fn run(&self, call: &Call<'_>, tensors: &[&Tensor], device: &CudaDevice) -> Result<Results> {
        let stream = device.cuda_stream();
        let kernel = self.on(call, &stream)?;
        let guards = Guards::lock(tensors);
        let mut views: SmallVec<[View<'_>; 8]> = SmallVec::new();
        let mut uses: SmallVec<[SyncOnDrop<'_>; 8]> = SmallVec::new();
        for (k, (place, input)) in call.places.iter().zip(&call.program.inputs).enumerate() {
            let Storage::Cuda(storage) = guards.storage(k) else {
                return Err(Error::internal("a tensor of a CUDA device lies elsewhere"));
            };
            let Some((start, guard)) = address(&storage.slice, &stream) else {
                let (what, got) = (format!("{}: dtype", input.name), storage.dtype().as_str());
                return Err(Error::argument(call.op, what, "an integer or float type", got));
            };
            uses.push(guard);
            views.push(View {
                address: start + (place.offset * input.dtype.size_bytes()) as u64,
                row_strides: &place.row_strides,
                col_stride: place.col_stride,
                table: place.table,
            });
        }
        let rows = call.row_dims.iter().product();
        let mut results: SmallVec<[CudaStorageSlice; 4]> = SmallVec::new();
        let mut outputs: SmallVec<[u64; 4]> = SmallVec::new();
        let mut empty = true;
        for o in call.program.stored() {
            let n = o.len(rows, call.cols);
            empty &= n == 0;
            let (memory, address) = allocate(o.dtype, n, device, &stream)?;
            if super::poisons() {
                poison(address, n * o.dtype.size_bytes(), &stream)?;
            }
            results.push(memory);
            outputs.push(address);
        }
        // freed in the order of the stream: after the launch that uses it
        let mut scratch: SmallVec<[CudaSlice<u8>; 4]> = SmallVec::new();
        let mut more = |bytes: u64| {
            // SAFETY: it is written before it is read.
            let memory = unsafe { device.alloc::<u8>(bytes as usize) };
            let refused = |e: &dyn std::fmt::Display| zmlx_runtime::Error::Device {
                op: call.op.into(),
                what: "scratch memory".into(),
                expected: format!("{bytes} bytes"),
                got: e.to_string(),
            };
            let mut memory = memory.map_err(|e| refused(&e))?;
            let address = memory.device_ptr_mut(&stream).0;
            if super::poisons() {
                poison(address, bytes as usize, &stream).map_err(|e| refused(&e))?;
            }
            scratch.push(memory);
            Ok(address)
        };
        if !empty {
            let launch = Launch {
                row_dims: call.row_dims,
                cols: call.cols,
                inputs: &views,
                uniforms: call.uniforms,
                outputs: &outputs,
                stream: stream.cu_stream(),
                tuned: call.tuning.tune() != Tune::Off,
            };
            // SAFETY: as below; tuning waits for what it queues.
            unsafe { tune(call.tuning, kernel, &launch)? };
            // SAFETY: the tensors are locked and live until the launch is queued, and what is freed later is freed in the
            // order of the stream; candle's layouts lie inside their memory; outputs are as large as their extents.
            unsafe { kernel.run(&launch, &mut more)? };
        }
        drop(uses);
        let store = |slice| Storage::Cuda(CudaStorage { slice, device: device.clone() });
        Ok(results.into_iter().map(store).collect())
    }
}
