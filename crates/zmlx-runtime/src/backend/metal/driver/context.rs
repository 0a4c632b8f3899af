//! A device of the caller, and the facts that kernels are chosen by. Not yet run on Apple hardware.

use crate::{
    Error,
    flags::{Names, WORDS},
};
use candle_metal_kernels::metal::{Buffer, Device, MTLResourceOptions, MetalDeviceType};
use objc2::available;
use objc2_metal::{MTLDevice, MTLGPUFamily};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A device that the caller's tensor library works on.
#[derive(Clone, Debug)]
pub struct Context {
    device: Device,
    pub(super) facts: Facts,
    flags: Arc<Mutex<Flags>>,
}

/// The words that kernels set where an index is out of range, and whose they are. They stay as long as the Context.
#[derive(Debug, Default)]
struct Flags {
    /// Shared with the host, once there are any.
    words: Option<Buffer>,
    names: Names,
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
    /// Cores, as its kind usually has them: Metal does not tell.
    pub cores: u32,
    /// Does its language have the type `bfloat`? Kernels that are printed need none: they convert by bits.
    pub bfloat: bool,
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, cores, memory) = (&self.name, self.cores, self.memory_bytes >> 20);
        let bfloat = if self.bfloat { "with" } else { "without" };
        write!(f, "{name}, about {cores} cores, {memory} MiB, {bfloat} bfloat")
    }
}

impl Context {
    /// The facts of this device.
    pub fn new(device: &Device) -> Context {
        let raw = device.as_ref();
        let facts = Facts {
            name: device.architecture_name(),
            shared_per_group: raw.maxThreadgroupMemoryLength() as u32,
            cores: match device.device_type() {
                MetalDeviceType::Phone => 5,
                MetalDeviceType::BasePro | MetalDeviceType::Medium => 10,
                MetalDeviceType::Max => 32,
                MetalDeviceType::Ultra => 64,
            },
            memory_bytes: device.recommended_max_working_set_size() as u64,
            // Metal 3.1 came with macOS 14.
            bfloat: available!(macos = 14) && raw.supportsFamily(MTLGPUFamily::Metal3),
        };
        Context { device: device.clone(), facts, flags: Arc::default() }
    }

    /// What is true of it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The caller's device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The buffer of the words that report indices out of range, and the byte of an operation's word.
    pub(super) fn flag(&self, op: &str) -> Result<(Buffer, usize), Error> {
        let mut flags = self.flags.lock().unwrap_or_else(PoisonError::into_inner);
        let words = match &flags.words {
            Some(words) => words.clone(),
            None => flags.words.insert(self.zeros(op)?).clone(),
        };
        Ok((words, size_of::<u32>() * flags.names.word(op)))
    }

    fn zeros(&self, op: &str) -> Result<Buffer, Error> {
        let zeros = [0u32; WORDS];
        let made = self.device.new_buffer_with_data(
            zeros.as_ptr().cast(),
            size_of_val(&zeros),
            MTLResourceOptions::StorageModeShared,
        );
        made.map_err(|error| Error::Device {
            op: op.into(),
            what: "memory for its reports".into(),
            expected: format!("{} bytes", size_of_val(&zeros)),
            got: error.to_string(),
        })
    }

    /// Tells the operations whose indices `x[t]` were out of range since the last time. The caller has waited for the device
    /// before, and queues nothing meanwhile.
    pub fn out_of_range(&self) -> Vec<String> {
        let flags = self.flags.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(buffer) = &flags.words else { return vec![] };
        let first: *mut u32 = buffer.contents().cast();
        let mut words = [0u32; WORDS];
        // SAFETY: the buffer has so many words, which the host may read and write while no kernel runs.
        unsafe {
            words.as_mut_ptr().copy_from_nonoverlapping(first, WORDS);
            first.write_bytes(0, WORDS);
        }
        flags.names.set(&words)
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

/// What is true of each device of this machine.
pub fn facts() -> Vec<Facts> {
    Device::all().iter().map(|device| Context::new(device).facts).collect()
}
