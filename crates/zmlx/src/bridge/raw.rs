//! Kernels written by hand, on the devices of their tensors: compiled for each, found again, launched.

use super::device::Results;
use crate::{Error, Result};
use candle_core::{Device, Shape, Tensor};
use smallvec::SmallVec;
use zmlx_ir::DType;
use zmlx_runtime::backend::c_like::raw::Raw;
#[cfg(any(feature = "cuda", all(feature = "metal", target_os = "macos")))]
use {crate::stats, zmlx_runtime::list::List};

/// What a text is made for: types and ranks of all tensors, kinds of the numbers (bit k: the k-th is an integer), most threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawKey {
    pub tensors: SmallVec<[(DType, usize); 8]>,
    pub integers: u64,
    pub threads: u32,
}

/// A launch.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "read where there is a backend for a GPU")]
pub struct RawCall<'a> {
    pub raw: &'a Raw<'a>,
    pub key: &'a RawKey,
    /// The bytes of the arguments.
    pub args: &'a [u8],
    pub blocks: [u32; 3],
    pub threads: u32,
    /// Of each output.
    pub shapes: &'a [Shape],
}

/// What the texts were compiled to, by the number of the device.
#[derive(Default)]
pub struct RawKernels {
    #[cfg(feature = "cuda")]
    cuda: List<(usize, RawKey, zmlx_runtime::backend::cuda::driver::Function)>,
    #[cfg(all(feature = "metal", target_os = "macos"))]
    metal: List<(u64, RawKey, zmlx_runtime::backend::metal::driver::Function)>,
}

/// The target of a device that this build has a backend for; the CPU has none.
pub fn target_of(device: &Device) -> Option<&'static str> {
    match device {
        Device::Cuda(_) if super::runs_on(device) => Some("cuda"),
        Device::Metal(_) if super::runs_on(device) => Some("metal"),
        _ => None,
    }
}

impl RawKernels {
    /// Runs it on contiguous tensors of one device, whose target the text is for.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    pub fn run(&self, call: &RawCall<'_>, tensors: &[&Tensor], device: &Device) -> Result<Results> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                use zmlx_runtime::backend::cuda::dialect::CUDA;
                let number = device.cuda_stream().context().ordinal();
                let make = || {
                    stats::count_compile();
                    let text = call.raw.text(&CUDA)?;
                    let function = super::cuda::load_raw(call.raw.name, &call.raw.entry(), &text, device)?;
                    Ok::<_, Error>((number, call.key.clone(), function))
                };
                let (.., function) = self.cuda.get_or_try_add(|(n, key, _)| *n == number && key == call.key, make)?;
                super::cuda::run_raw(call, function, tensors, device)
            }
            #[cfg(all(feature = "metal", target_os = "macos"))]
            Device::Metal(device) => {
                use zmlx_runtime::backend::metal::dialect::METAL;
                let number = device.device().registry_id();
                let make = || {
                    stats::count_compile();
                    let text = call.raw.text(&METAL)?;
                    let function = super::metal::load_raw(call.raw.name, &call.raw.entry(), &text, device)?;
                    Ok::<_, Error>((number, call.key.clone(), function))
                };
                let (.., function) = self.metal.get_or_try_add(|(n, key, _)| *n == number && key == call.key, make)?;
                super::metal::run_raw(call, function, tensors, device)
            }
            _ => Err(Error::internal("a kernel written by hand on a device without a target")),
        }
    }
}
