//! The tuner's device: Configs of a kernel run on a launch of the caller, into memory of their own, timed by events on its
//! stream. Before each run that is timed the L2 cache is filled with something else, so that inputs come from memory
//! whatever their size; that write also gives the host time to queue what is timed, so that the device waits for nobody.

use super::{
    Launch, check, failed,
    kernel::{Kernel, Loaded, place},
};
use crate::{
    Buffer, Error,
    tune::{Agreement, Bucket, Found, Outcome, Report, Trial, Tuned, search},
};
use cudarc::driver::{
    result,
    sys::{self, CUevent, CUstream, CUstreamCaptureStatus},
};
use half::{bf16, f16};
use std::{panic::resume_unwind, thread, time::Duration};
use zmlx_ir::{
    DType,
    program::Stored,
    schedule::{Config, Geometry},
};

impl Kernel {
    /// Is something known of launches of this size: a faster Config, or that there is none?
    pub fn is_tuned(&self, l: &Launch<'_>) -> bool {
        self.known(bucket(l)).is_some()
    }

    /// Searches the fastest Config for launches of this size, for about so long; later launches take it, those of other
    /// processes too. What the launch writes to is left alone. Waits for the stream. None: there is nothing to run, or
    /// the stream is being captured.
    ///
    /// # Errors
    /// Whatever a launch of the heuristic's Config fails with.
    ///
    /// # Safety
    /// As `Kernel::run`.
    pub unsafe fn tune(&self, l: &Launch<'_>, budget: Duration) -> Result<Option<Report>, Error> {
        let (op, rows) = (&self.program.name, l.row_dims.iter().product::<usize>());
        if rows == 0 || l.cols == 0 || is_captured(op, l.stream)? {
            return Ok(None);
        }
        self.context.cuda().bind_to_thread().map_err(|e| failed(op, "cuCtxSetCurrent", e))?;
        let strides = self.strides(l)?;
        let g = self.geometry(l, &strides);
        let candidates = self.chooser.candidates(&g);
        let mut bench = Bench::new(self, l, &g)?;
        let agreement = Agreement::of(&self.program, g.rows(), g.cols as u64);
        let Some(outcome) = search(&mut bench, &candidates, agreement, budget)? else { return Ok(None) };
        let bucket = bucket(l);
        self.learn(bucket, outcome.winner.map(|w| w.config));
        bench.keep(&outcome);
        let kept = Tuned::shared().keep(&self.program, &place(&self.context), bucket, Found::from(&outcome));
        let unsaved = kept.err().map(|e| e.to_string());
        let kernel = self.program.name.clone();
        Ok(Some(Report { kernel, rows: g.rows(), cols: g.cols as u64, bucket, outcome, unsaved }))
    }
}

fn bucket(l: &Launch<'_>) -> Bucket {
    Bucket::of(l.row_dims.iter().fold(1, |n, d| n.saturating_mul(*d as u64)), l.cols as u64)
}

/// Nothing may be waited for then.
fn is_captured(op: &str, stream: CUstream) -> Result<bool, Error> {
    let mut status = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    // SAFETY: the place is ours, and the stream the caller's.
    check(op, "cuStreamIsCapturing", unsafe { sys::cuStreamIsCapturing(stream, &mut status) })?;
    Ok(status != CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
}

/// Memory of the device.
struct Memory {
    address: u64,
    bytes: u64,
}

impl Memory {
    fn new(op: &str, bytes: u64) -> Result<Memory, Error> {
        // SAFETY: it is freed once, when this is dropped.
        let address = unsafe { result::malloc_sync(bytes.max(1) as usize) };
        let address = address.map_err(|e| failed(op, "cuMemAlloc", e))?;
        Ok(Memory { address, bytes })
    }

    /// Fills all of it with a byte.
    fn fill(&self, op: &str, byte: u8, stream: CUstream) -> Result<(), Error> {
        // SAFETY: the memory is ours and of that size.
        unsafe { result::memset_d8_async(self.address, byte, self.bytes as usize, stream) }
            .map_err(|e| failed(op, "cuMemsetD8Async", e))
    }

    /// Its elements, once the stream has run.
    fn read<T: Copy + Default>(&self, op: &str, stream: CUstream) -> Result<Vec<T>, Error> {
        let mut all = vec![T::default(); self.bytes as usize / size_of::<T>()];
        // SAFETY: both sides have that many bytes, of numbers, and are alive until the stream was waited for.
        unsafe { result::memcpy_dtoh_async(&mut all, self.address, stream) }
            .map_err(|e| failed(op, "cuMemcpyDtoHAsync", e))?;
        // SAFETY: the stream is the caller's.
        unsafe { result::stream::synchronize(stream) }.map_err(|e| failed(op, "cuStreamSynchronize", e))?;
        Ok(all)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the memory is ours, and this waits for the device.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

struct Event(CUevent);

impl Event {
    fn new(op: &str) -> Result<Event, Error> {
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Event(event.map_err(|e| failed(op, "cuEventCreate", e))?))
    }

    fn record(&self, op: &str, stream: CUstream) -> Result<(), Error> {
        // SAFETY: the event is alive, and the stream the caller's.
        unsafe { result::event::record(self.0, stream) }.map_err(|e| failed(op, "cuEventRecord", e))
    }

    /// Seconds since another one, when both have passed.
    fn since(&self, op: &str, other: &Event) -> Result<f64, Error> {
        // SAFETY: both events are alive and were recorded on one stream.
        unsafe {
            result::event::synchronize(self.0).map_err(|e| failed(op, "cuEventSynchronize", e))?;
            let ms = result::event::elapsed(other.0, self.0).map_err(|e| failed(op, "cuEventElapsedTime", e))?;
            Ok(f64::from(ms) / 1e3)
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// One launch, run under several Configs.
struct Bench<'a> {
    kernel: &'a Kernel,
    launch: &'a Launch<'a>,
    geometry: &'a Geometry<'a>,
    ready: Vec<Loaded>,
    outputs: Vec<Memory>,
    /// As much as the Config with most needs.
    scratch: Vec<Memory>,
    /// Twice the L2 cache.
    flush: Memory,
    events: [Event; 2],
}

impl<'a> Bench<'a> {
    fn new(kernel: &'a Kernel, launch: &'a Launch<'a>, geometry: &'a Geometry<'a>) -> Result<Bench<'a>, Error> {
        let op = &kernel.program.name[..];
        let (rows, cols) = (geometry.rows() as usize, geometry.cols);
        let bytes = |o: Stored| (o.len(rows, cols) * o.dtype.size_bytes()) as u64;
        let outputs = kernel.program.stored().map(|o| Memory::new(op, bytes(o)));
        Ok(Bench {
            outputs: outputs.collect::<Result<_, _>>()?,
            flush: Memory::new(op, 2 * kernel.context.facts().l2_bytes.max(1 << 20))?,
            events: [Event::new(op)?, Event::new(op)?],
            ready: vec![],
            scratch: vec![],
            kernel,
            launch,
            geometry,
        })
    }

    fn op(&self) -> &str {
        &self.kernel.program.name
    }

    fn queue(&self, config: &Config) -> Result<(), Error> {
        let loaded = self.ready.iter().find(|l| l.config == *config);
        let loaded = loaded.ok_or_else(|| self.kernel.unfit("Configs that are prepared", 1, 0))?;
        let outputs: Vec<u64> = self.outputs.iter().map(|m| m.address).collect();
        let scratch: Vec<u64> = self.scratch.iter().map(|m| m.address).collect();
        // SAFETY: the inputs are the caller's promise; outputs and scratch memory are ours and large enough.
        unsafe { loaded.queue(self.launch, self.geometry, &outputs, &scratch) }
    }

    /// Takes in a Config that is compiled, if it holds the launch.
    fn enter(&mut self, loaded: Loaded) -> Result<(), Error> {
        if let Err((what, most, got)) = loaded.schedule.admits(self.geometry) {
            return Err(self.kernel.unfit(what, most as usize, got as usize));
        }
        for (k, bytes) in loaded.scratch(self.geometry).enumerate() {
            if self.scratch.get(k).is_none_or(|m| m.bytes < bytes) {
                let more = Memory::new(self.op(), bytes)?;
                match self.scratch.get_mut(k) {
                    Some(memory) => *memory = more,
                    None => self.scratch.push(more),
                }
            }
        }
        self.ready.push(loaded);
        Ok(())
    }

    /// The winner is loaded already.
    fn keep(&mut self, outcome: &Outcome) {
        let config = outcome.best().config;
        if let Some(at) = self.ready.iter().position(|l| l.config == config) {
            self.kernel.add(self.ready.swap_remove(at));
        }
    }
}

impl Trial for Bench<'_> {
    fn at_once(&self) -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }

    fn prepare(&mut self, configs: &[Config]) -> Vec<Result<(), Error>> {
        let kernel = self.kernel;
        let loaded: Vec<Result<Loaded, Error>> = thread::scope(|scope| {
            let compiling: Vec<_> = configs.iter().map(|config| scope.spawn(|| kernel.load(*config))).collect();
            let made = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|p| resume_unwind(p));
            compiling.into_iter().map(made).collect()
        });
        loaded.into_iter().map(|made| made.and_then(|loaded| self.enter(loaded))).collect()
    }

    fn time(&mut self, config: &Config) -> Result<f64, Error> {
        let (op, stream) = (self.op(), self.launch.stream);
        self.flush.fill(op, 0, stream)?;
        self.events[0].record(op, stream)?;
        self.queue(config)?;
        self.events[1].record(op, stream)?;
        self.events[1].since(op, &self.events[0])
    }

    fn outputs(&mut self, config: &Config) -> Result<Vec<Buffer>, Error> {
        let (op, stream) = (self.op(), self.launch.stream);
        for memory in self.outputs.iter().chain(&self.scratch) {
            memory.fill(op, 0xff, stream)?;
        }
        self.queue(config)?;
        let of = |(m, o): (&Memory, Stored)| {
            Ok(match o.dtype {
                DType::Bool | DType::U8 => Buffer::U8(m.read(op, stream)?),
                DType::I16 => Buffer::I16(m.read(op, stream)?),
                DType::I32 => Buffer::I32(m.read(op, stream)?),
                DType::U32 => Buffer::U32(m.read(op, stream)?),
                DType::I64 => Buffer::I64(m.read(op, stream)?),
                DType::F16 => Buffer::F16(m.read::<f16>(op, stream)?),
                DType::BF16 => Buffer::BF16(m.read::<bf16>(op, stream)?),
                DType::F32 => Buffer::F32(m.read(op, stream)?),
                DType::F64 => Buffer::F64(m.read(op, stream)?),
            })
        };
        self.outputs.iter().zip(self.kernel.program.stored()).map(of).collect()
    }

    fn forget(&mut self, config: &Config) {
        self.ready.retain(|l| l.config != *config);
    }
}
