//! A device of the caller, and the facts that kernels are chosen by.

use super::{check, driver_present, failed, flags::Flags};
use crate::Error;
use cudarc::driver::{
    CudaContext,
    sys::{self, CUdevice_attribute as Attribute},
};
use std::{fmt, sync::Arc};

/// A device that the caller's tensor library works on. Nothing is created: it is the caller's context.
#[derive(Clone, Debug)]
pub struct Context {
    cuda: Arc<CudaContext>,
    facts: Facts,
    pub(super) flags: Arc<Flags>,
}

/// What is true of a device for as long as the process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name, as NVIDIA gives it.
    pub name: String,
    /// Compute capability: (9, 0) is sm_90.
    pub capability: (u32, u32),
    /// How many multiprocessors it has.
    pub multiprocessors: u32,
    /// The most threads that are resident on one of them.
    pub threads_per_multiprocessor: u32,
    /// The most threads of a block; a function may allow fewer.
    pub threads_per_block: u32,
    /// The most shared memory of a block, static and dynamic, in bytes.
    pub shared_per_block: u32,
    /// Size of the L2 cache in bytes.
    pub l2_bytes: u64,
    /// The most blocks along each axis of a grid.
    pub grid: [u32; 3],
    /// The CUDA version that the driver supports: (13, 0).
    pub driver: (u32, u32),
}

impl Facts {
    /// The most blocks of a cluster that every device allows which has clusters; 1 on those that have none.
    pub fn cluster(&self) -> u32 {
        if self.capability >= (9, 0) { 8 } else { 1 }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((major, minor), (cuda, point)) = (self.capability, self.driver);
        let (name, processors, l2) = (&self.name, self.multiprocessors, self.l2_bytes >> 20);
        write!(
            f,
            "{name}, sm_{major}{minor}, {processors} multiprocessors, {l2} MiB L2, driver for CUDA {cuda}.{point}"
        )
    }
}

impl Context {
    /// The device of this context.
    pub fn new(cuda: &Arc<CudaContext>) -> Result<Context, Error> {
        Ok(Context { facts: facts_of(cuda)?, cuda: cuda.clone(), flags: Arc::default() })
    }

    /// What is true of it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Lets the device's memory pool keep what is freed. Otherwise it gives all of it back whenever somebody waits for the
    /// device, and the next allocations map it again: more than most kernels take.
    pub fn keep_freed_memory(&self) -> Result<(), Error> {
        let (mut pool, mut most) = (std::ptr::null_mut(), u64::MAX);
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the device is that of a live context, and the places are ours.
        unsafe {
            check(
                "cuda",
                "cuDeviceGetDefaultMemPool",
                sys::cuDeviceGetDefaultMemPool(&mut pool, self.cuda.cu_device()),
            )?;
            let value = std::ptr::from_mut(&mut most).cast();
            check("cuda", "cuMemPoolSetAttribute", sys::cuMemPoolSetAttribute(pool, attribute, value))
        }
    }

    /// The caller's context.
    pub fn cuda(&self) -> &Arc<CudaContext> {
        &self.cuda
    }
}

/// How many devices there are. A machine without a driver is an error that says so.
pub fn count() -> Result<usize, Error> {
    driver_present()?;
    let count = CudaContext::device_count().map_err(|e| failed("cuda", "cuDeviceGetCount", e))?;
    Ok(count.max(0) as usize)
}

/// The primary context of a device, for programs that have no tensor library to give them one. Every tensor library uses
/// the primary context, so this is theirs too and no second one.
pub fn open(ordinal: usize) -> Result<Context, Error> {
    let there = count()?;
    if ordinal >= there {
        let expected = format!("the number of one of {there}");
        return Err(Error::Device { op: "cuda".into(), what: "device".into(), expected, got: ordinal.to_string() });
    }
    Context::new(&CudaContext::new(ordinal).map_err(|e| failed("cuda", "cuDevicePrimaryCtxRetain", e))?)
}

/// What is true of each device of this machine, in the order of their numbers.
pub fn facts() -> Result<Vec<Facts>, Error> {
    (0..count()?).map(|ordinal| Ok(open(ordinal)?.facts)).collect()
}

fn facts_of(cuda: &CudaContext) -> Result<Facts, Error> {
    let get = |attribute: Attribute| -> Result<u32, Error> {
        let value = cuda.attribute(attribute).map_err(|e| failed("cuda", &format!("{attribute:?}"), e))?;
        Ok(value.max(0) as u32)
    };
    let mut driver = 0;
    // SAFETY: the place is ours.
    check("cuda", "cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut driver) })?;
    Ok(Facts {
        name: cuda.name().map_err(|e| failed("cuda", "cuDeviceGetName", e))?,
        capability: (
            get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        threads_per_multiprocessor: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?,
        threads_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        shared_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        l2_bytes: get(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into(),
        grid: [
            get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?,
            get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y)?,
            get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)?,
        ],
        // 13010 is 13.1
        driver: (driver as u32 / 1000, driver as u32 % 1000 / 10),
    })
}
