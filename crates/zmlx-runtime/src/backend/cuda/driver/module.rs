//! Text → functions on a device. Code comes from the cache on disk where it is there; NVRTC, which takes longer to
//! open than a cached kernel to load, is only looked for where it is not.

use super::{Context, Facts, Source, check, compile, failed, said};
use crate::{
    Error,
    cache::{Cache, Key},
};
use cudarc::driver::{
    CudaContext,
    result::DriverError,
    sys::{self, CUfunction, CUfunction_attribute as Attribute, CUmodule},
};
use std::{ffi::CString, ptr, sync::Arc};

/// A kernel on a device, ready to be launched.
///
/// Its module stays loaded as long as the context lives, also when the last Function is gone: a captured graph may still
/// launch it, and the driver does not count that.
#[derive(Clone, Debug)]
pub struct Function {
    name: Arc<str>,
    raw: CUfunction,
    /// Kept alive: the handle is of this context.
    context: Arc<CudaContext>,
    grid: [u32; 3],
    /// Registers of a thread.
    pub registers: u32,
    /// Memory of a thread that found no place in registers, in bytes.
    pub local_bytes: u32,
    /// Shared memory that the text declares with a size, in bytes.
    pub static_shared: u32,
    /// The most shared memory that a launch may add, in bytes.
    pub dynamic_shared: u32,
    /// The most threads of a block.
    pub max_threads: u32,
}

// SAFETY: the driver's functions may be called from any thread, and a handle is not changed by any of them.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Function {
    /// The entry's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's handle, valid as long as the context is.
    pub fn raw(&self) -> CUfunction {
        self.raw
    }

    /// The context it is loaded in.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The most blocks along each axis of a grid.
    pub(super) fn grid(&self) -> [u32; 3] {
        self.grid
    }

    /// How many blocks of this size, with so many bytes of dynamic shared memory, are resident on a multiprocessor.
    pub fn blocks_per_multiprocessor(&self, block: u32, shared: u32) -> Result<u32, Error> {
        self.context.bind_to_thread().map_err(|e| failed(&self.name, "cuCtxSetCurrent", e))?;
        let (mut blocks, block) = (0, block.min(self.max_threads) as i32);
        // SAFETY: the handle is valid and the place ours.
        let asked =
            unsafe { sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, self.raw, block, shared as usize) };
        check(&self.name, "cuOccupancyMaxActiveBlocksPerMultiprocessor", asked)?;
        Ok(blocks.max(0) as u32)
    }
}

/// The functions of these names, in their order, from code that the cache has or NVRTC makes.
pub fn load(context: &Context, source: &Source<'_>, entries: &[&str], cache: &Cache) -> Result<Vec<Function>, Error> {
    let (major, minor) = context.facts().capability;
    let key = Key::new(source.text, &format!("cuda sm_{major}{minor}"), source.options);
    context.cuda().bind_to_thread().map_err(|e| failed(source.op, "cuCtxSetCurrent", e))?;
    let kept = cache.get(&key).and_then(|code| image(&code).ok());
    let module = match kept {
        Some(module) => module,
        // What the driver does not take is as good as not there.
        None => {
            let code = compile(source, (major, minor))?;
            let module = image(code.bytes()).map_err(|error| not_loaded(source, context.facts(), error))?;
            cache.put(&key, code.bytes());
            module
        }
    };
    entries.iter().map(|entry| function(context, source, module, entry)).collect()
}

/// Loads code into the current context.
fn image(code: &[u8]) -> Result<CUmodule, DriverError> {
    let mut module = ptr::null_mut();
    // SAFETY: the code is what NVRTC made: an ELF image that knows its length, or text that ends with a zero.
    unsafe { sys::cuModuleLoadData(&mut module, code.as_ptr().cast()) }.result().map(|()| module)
}

fn not_loaded(source: &Source<'_>, facts: &Facts, error: DriverError) -> Error {
    let nvrtc = super::version().map_or_else(|_| String::new(), |(major, minor)| format!(" by NVRTC {major}.{minor}"));
    let ((major, minor), driver) = (facts.capability, facts.driver);
    let what = format!("code for sm_{major}{minor}{nvrtc}");
    let expected = format!("the driver, of CUDA {}.{}, to load it", driver.0, driver.1);
    Error::Device { op: source.op.into(), what, expected, got: said(error) }
}

fn function(context: &Context, source: &Source<'_>, module: CUmodule, entry: &str) -> Result<Function, Error> {
    let absent = |got: String| Error::Device {
        op: source.op.into(),
        what: "entry of the text".into(),
        expected: format!("extern \"C\" __global__ void {entry}(…)"),
        got,
    };
    let name = CString::new(entry).map_err(|_| absent("a zero byte in the name".into()))?;
    let mut raw: CUfunction = ptr::null_mut();
    // SAFETY: the module is loaded, the name ends with a zero, and the place is ours.
    let found = unsafe { sys::cuModuleGetFunction(&mut raw, module, name.as_ptr()) };
    found.result().map_err(|error| absent(said(error)))?;
    let get = |attribute: Attribute| -> Result<u32, Error> {
        let mut value = 0;
        // SAFETY: the handle is valid and the place ours.
        check(source.op, "cuFuncGetAttribute", unsafe { sys::cuFuncGetAttribute(&mut value, attribute, raw) })?;
        Ok(value.max(0) as u32)
    };
    let facts = context.facts();
    let static_shared = get(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?;
    // More than 48 KiB must be asked for, once a function.
    let dynamic_shared = facts.shared_per_block.saturating_sub(static_shared);
    let most = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: the handle is valid.
    let asked = unsafe { sys::cuFuncSetAttribute(raw, most, dynamic_shared as i32) };
    check(source.op, "cuFuncSetAttribute", asked)?;
    Ok(Function {
        name: entry.into(),
        raw,
        context: context.cuda().clone(),
        grid: facts.grid,
        registers: get(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
        local_bytes: get(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
        static_shared,
        dynamic_shared,
        max_threads: get(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
    })
}
