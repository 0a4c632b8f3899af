//! Programs on the devices of tensors: compiled for each that runs them, launched over the tensors' memory.

use super::{CandlePool, Guards, slice, storage};
use crate::{Error, Result, geometry::Place, stats, tune::Tuning};
use candle_core::{Device, Storage, Tensor};
use smallvec::SmallVec;
use std::sync::OnceLock;
use zmlx_ir::{Program, Scalar};
use zmlx_runtime::{Launch, Slice, View, backend::cpu};

/// Results of a launch: for few of them nothing is allocated but their memory.
pub type Results = SmallVec<[Storage; 4]>;

/// What a Program was compiled to.
#[derive(Default)]
pub struct Kernels {
    cpu: OnceLock<cpu::Kernel>,
    #[cfg(feature = "cuda")]
    cuda: super::cuda::Kernels,
    #[cfg(all(feature = "metal", target_os = "macos"))]
    metal: super::metal::Kernels,
}

/// Everything about a launch but the tensors.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The operation, for errors.
    pub op: &'a str,
    pub program: &'a Program,
    /// Sizes that the rows run over.
    pub row_dims: &'a [usize],
    pub cols: usize,
    /// How each tensor lies over rows × cols.
    pub places: &'a [Place],
    pub uniforms: &'a [Scalar],
    /// The CPU has nothing to tune.
    #[allow(dead_code, reason = "read where there is a GPU")]
    pub tuning: &'a Tuning,
}

impl Call<'_> {
    pub fn input(&self, k: usize) -> &str {
        &self.program.inputs[k].name
    }
}

/// Has this build a backend for the device?
pub fn runs_on(device: &Device) -> bool {
    match device {
        Device::Cpu => true,
        Device::Cuda(_) => cfg!(feature = "cuda"),
        Device::Metal(_) => cfg!(all(feature = "metal", target_os = "macos")),
    }
}

/// The most memory, in bytes, that a block shares on a device with matrix units for 16-bit floats. The CPU has what a test gives it.
pub fn matrix_units(device: &Device) -> Option<usize> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::cuda::matrix_units(device),
        Device::Metal(_) => Some(32 << 10),
        _ => Some(usize::MAX),
    }
}

/// Lets a device keep the memory that its tensors free, for the tensors that come: on CUDA it is otherwise given back whenever
/// somebody waits for the device, and mapped anew afterwards. The CPU's allocator is the program's choice.
///
/// # Errors
/// What the driver says.
pub fn keep_freed_memory(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::cuda::keep_freed_memory(device),
        _ => Ok(()),
    }
}

/// Waits for a device, and tells whether an index `x[t]` was out of range there since the last time: a kernel does not stop for
/// it, but gives NaN (of integers 0), and sets a flag that this reads and clears. On the CPU the call itself is the error.
///
/// # Errors
/// The operations with such an index; what the driver says.
pub fn check(device: &Device) -> Result<()> {
    let names: Vec<String> = match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::cuda::out_of_range(device)?,
        #[cfg(all(feature = "metal", target_os = "macos"))]
        Device::Metal(device) => super::metal::out_of_range(device)?,
        _ => vec![],
    };
    match names.is_empty() {
        true => Ok(()),
        false => {
            let got = "one out of range, whose value was NaN or 0";
            Err(Error::argument(&names.join(", "), "an index x[t]", "0 ≤ index < columns", got))
        }
    }
}

/// Checks that all tensors are on one device that this build has a backend for.
fn device<'t>(call: &Call<'_>, tensors: &[&'t Tensor]) -> Result<&'t Device> {
    let Some(first) = tensors.first() else { return Ok(&Device::Cpu) };
    let device = first.device();
    let name = |d: &Device| format!("{:?}", d.location());
    if !runs_on(device) {
        let expected = "one that this build has a backend for";
        return Err(Error::argument(call.op, format!("{}: device", call.input(0)), expected, name(device)));
    }
    match tensors.iter().position(|t| !t.device().same_device(device)) {
        None => Ok(device),
        Some(k) => {
            let expected = format!("{} (that of {})", name(device), call.input(0));
            Err(Error::argument(call.op, format!("{}: device", call.input(k)), expected, name(tensors[k].device())))
        }
    }
}

impl Kernels {
    /// The kernel of the CPU.
    fn on_cpu(&self, program: &Program) -> Result<&cpu::Kernel> {
        match self.cpu.get() {
            Some(kernel) => Ok(kernel),
            None => {
                stats::count_compile();
                let kernel = cpu::compile(program)?;
                Ok(self.cpu.get_or_init(|| kernel))
            }
        }
    }

    /// Runs it on tensors that lie flat and have this many elements each, if it is pointwise.
    pub fn run_flat(&self, call: &Call<'_>, tensors: &[&Tensor]) -> Result<Results> {
        let device = device(call, tensors)?;
        if !matches!(device, Device::Cpu) {
            let place = |t: &&Tensor| Place::flat(t.layout().start_offset());
            let places: SmallVec<[Place; 4]> = tensors.iter().map(place).collect();
            return self.run_on(device, &Call { places: &places, ..*call }, tensors);
        }
        let kernel = self.on_cpu(call.program)?;
        let guards = Guards::lock(tensors);
        let mut parts: SmallVec<[Slice<'_>; 4]> = SmallVec::new();
        for (k, t) in tensors.iter().enumerate() {
            let start = t.layout().start_offset();
            parts.push(slice(call.op, call.input(k), guards.storage(k))?.part(start..start + call.cols));
        }
        let buffers = match kernel.run_few(&parts, call.uniforms, call.cols) {
            Some(buffers) => buffers,
            None => {
                let views = parts.iter().map(|data| View {
                    data: *data,
                    offset: 0,
                    row_strides: &[],
                    col_stride: 1,
                    table: None,
                });
                let views: SmallVec<[View<'_>; 4]> = views.collect();
                let (cols, uniforms, pool) = (call.cols, call.uniforms, &CandlePool);
                kernel.run(&Launch { row_dims: &[], cols, inputs: &views, uniforms, pool })?
            }
        };
        Ok(buffers.into_iter().map(|b| Storage::Cpu(storage(b))).collect())
    }

    /// Runs it.
    pub fn run(&self, call: &Call<'_>, tensors: &[&Tensor]) -> Result<Results> {
        self.run_on(device(call, tensors)?, call, tensors)
    }

    /// Runs it on the device that all tensors are on.
    fn run_on(&self, device: &Device, call: &Call<'_>, tensors: &[&Tensor]) -> Result<Results> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => self.cuda.run(call, tensors, device),
            #[cfg(all(feature = "metal", target_os = "macos"))]
            Device::Metal(device) => self.metal.run(call, tensors, device),
            _ => self.run_on_cpu(call, tensors),
        }
    }

    fn run_on_cpu(&self, call: &Call<'_>, tensors: &[&Tensor]) -> Result<Results> {
        let kernel = self.on_cpu(call.program)?;
        let guards = Guards::lock(tensors);
        let mut views: SmallVec<[View<'_>; 8]> = SmallVec::new();
        for (k, place) in call.places.iter().enumerate() {
            views.push(View {
                data: slice(call.op, call.input(k), guards.storage(k))?,
                offset: place.offset,
                row_strides: &place.row_strides,
                col_stride: place.col_stride,
                table: place.table,
            });
        }
        let (row_dims, cols, uniforms) = (call.row_dims, call.cols, call.uniforms);
        let buffers = kernel.run(&Launch { row_dims, cols, inputs: &views, uniforms, pool: &CandlePool })?;
        Ok(buffers.into_iter().map(|b| Storage::Cpu(storage(b))).collect())
    }
}
