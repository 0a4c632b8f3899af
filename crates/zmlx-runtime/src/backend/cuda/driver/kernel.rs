//! A Program on a device: the kernels of its schedules, each compiled at the first launch that asks for it. Which schedule
//! a launch takes the heuristic says, unless a tuner found another one for its bucket.

use super::{Context, Function, Source, launch, load};
use crate::{
    Error,
    backend::{c_like, cuda::dialect::CUDA},
    cache::Cache,
    list::List,
    tune::{Bucket, Tuned, Where},
};
use cudarc::driver::sys::CUstream;
use smallvec::SmallVec;
use std::ffi::c_void;
use zmlx_ir::{
    Program, Scalar,
    program::Table,
    schedule::{self, Chooser, Config, Device, Geometry, Schedule, Strides, schedule},
};

/// Bytes of the argument block of a kernel: what a driver takes in any case.
const ARGS: usize = 4096;

/// A Program on a device.
#[derive(Debug)]
pub struct Kernel {
    pub(super) program: Program,
    pub(super) context: Context,
    pub(super) chooser: Chooser,
    /// What a tuner found for buckets; of two for one bucket the later counts. None: the heuristic's choice.
    tuned: List<(Bucket, Option<Config>)>,
    loaded: List<Loaded>,
}

/// A schedule, compiled.
#[derive(Debug)]
pub(super) struct Loaded {
    pub config: Config,
    pub schedule: Schedule,
    /// One for each step, with the size of its argument block.
    functions: Vec<(Function, usize)>,
    /// Address of the word that reports indices out of range; of kernels without any, 0.
    flag: u64,
}

/// An input of a launch; as `crate::View`, on the device.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Address of the first element.
    pub address: u64,
    /// One stride for each of `Launch::row_dims`, in elements; 0 repeats.
    pub row_strides: &'a [usize],
    /// Stride of the column, in elements.
    pub col_stride: usize,
    /// Of a table.
    pub table: Option<Table>,
}

/// Everything that changes from launch to launch.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Sizes that the rows are decomposed over, outermost first.
    pub row_dims: &'a [usize],
    /// Number of columns.
    pub cols: usize,
    /// One view for each of `Program::inputs`.
    pub inputs: &'a [View<'a>],
    /// One value for each of `Program::uniforms`.
    pub uniforms: &'a [Scalar],
    /// Address of each of `Program::stored`: contiguous memory, on a boundary of 16 bytes.
    pub outputs: &'a [u64],
    /// Where it is queued.
    pub stream: CUstream,
    /// May it run as a tuner found best for its size? Otherwise it runs as the heuristic chooses.
    pub tuned: bool,
}

/// The strides of all inputs of a launch.
pub(super) type All<'a> = SmallVec<[Strides<'a>; 8]>;

impl Kernel {
    /// Of a verified Program. Nothing is compiled yet; what is known of it from tuning is looked up.
    pub fn new(program: &Program, context: &Context) -> Kernel {
        let tuned = List::default();
        for (bucket, found) in Tuned::shared().known(program, &place(context)) {
            tuned.find_or_add((bucket, found.config), |_| false);
        }
        Kernel {
            program: program.clone(),
            context: context.clone(),
            chooser: Chooser::of(program),
            tuned,
            loaded: List::default(),
        }
    }

    /// Queues a launch. `scratch` gives memory of so many bytes, on a boundary of 16, which is in use until the stream has
    /// run what is queued.
    ///
    /// # Safety
    /// The views lie in live memory of the device, with the dtypes and extents of the Program; the outputs are as large as
    /// their extents; nobody else uses either before the stream has run.
    pub unsafe fn run(&self, l: &Launch<'_>, scratch: &mut dyn FnMut(u64) -> Result<u64, Error>) -> Result<(), Error> {
        let strides = self.strides(l)?;
        let g = self.geometry(l, &strides);
        let heuristic = self.chooser.choose(&g);
        let tuned = if l.tuned { self.tuned(&g, heuristic) } else { None };
        let loaded = match tuned.and_then(|config| self.find_tuned(config, &g)) {
            Some(loaded) => loaded,
            None => self.find(heuristic)?,
        };
        if let Err((what, most, got)) = loaded.schedule.admits(&g) {
            return Err(self.unfit(what, most as usize, got as usize));
        }
        let mut memory: SmallVec<[u64; 4]> = SmallVec::new();
        for bytes in loaded.scratch(&g) {
            memory.push(scratch(bytes)?);
        }
        // SAFETY: the caller's promise.
        unsafe { loaded.queue(l, &g, l.outputs, &memory) }
    }

    /// The strides of a launch that fits the Program.
    pub(super) fn strides<'a>(&self, l: &Launch<'a>) -> Result<All<'a>, Error> {
        let counts = [
            ("inputs", self.program.inputs.len(), l.inputs.len()),
            ("uniforms", self.program.uniforms.len(), l.uniforms.len()),
            ("outputs", self.program.stored().count(), l.outputs.len()),
        ];
        if let Some((what, expected, got)) = counts.into_iter().find(|(_, expected, got)| expected != got) {
            return Err(self.unfit(what, expected, got));
        }
        let strides = l.inputs.iter().zip(&self.program.inputs).map(|(v, i)| Strides {
            rows: v.row_strides,
            col: v.col_stride,
            shift: v.address as usize % 16 / i.dtype.size_bytes(),
            table: v.table,
        });
        Ok(strides.collect())
    }

    pub(super) fn geometry<'s>(&self, l: &Launch<'s>, strides: &'s [Strides<'s>]) -> Geometry<'s> {
        let facts = self.context.facts();
        let device =
            Device { processors: facts.multiprocessors, shared: facts.shared_per_block, cluster: facts.cluster() };
        Geometry { row_dims: l.row_dims, cols: l.cols, inputs: strides, uniforms: l.uniforms, device }
    }

    /// What a tuner found for launches of this size. Where nothing was tuned, this is all that tuning costs a launch.
    fn tuned(&self, g: &Geometry<'_>, heuristic: Config) -> Option<Config> {
        self.tuned.iter().next()?;
        let config = self.known(Bucket::of(g.rows(), g.cols as u64))??;
        Some(config.for_launch_of(heuristic))
    }

    /// What is known for a bucket, if anything is.
    pub(super) fn known(&self, bucket: Bucket) -> Option<Option<Config>> {
        self.tuned.iter().filter(|t| t.0 == bucket).last().map(|t| t.1)
    }

    /// From now on this is known for the bucket.
    pub(super) fn learn(&self, bucket: Bucket, config: Option<Config>) {
        self.tuned.find_or_add((bucket, config), |_| false);
    }

    /// A tuned choice, compiled; None: it does not hold this launch, or is none here, which is then known.
    fn find_tuned(&self, config: Config, g: &Geometry<'_>) -> Option<&Loaded> {
        match self.find(config) {
            Ok(loaded) => loaded.schedule.admits(g).is_ok().then_some(loaded),
            Err(_) => {
                self.learn(Bucket::of(g.rows(), g.cols as u64), None);
                None
            }
        }
    }

    fn find(&self, config: Config) -> Result<&Loaded, Error> {
        self.loaded.get_or_try_add(|c| c.config == config, || self.load(config))
    }

    pub(super) fn add(&self, loaded: Loaded) -> &Loaded {
        let config = loaded.config;
        self.loaded.find_or_add(loaded, |c| c.config == config)
    }

    pub(super) fn load(&self, config: Config) -> Result<Loaded, Error> {
        let name = &self.program.name;
        let schedule = schedule(&self.program, &config).map_err(|u| Error::Unsupported {
            op: name.clone(),
            what: u.what,
            dtype: u.dtype,
            target: "cuda",
        })?;
        let kernels: Vec<_> = schedule.steps.iter().map(|s| &s.kernel).collect();
        let text = c_like::unit(&kernels, &CUDA)?;
        let entries: Vec<String> = kernels.iter().map(|k| c_like::entry_name(k)).collect();
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let source = Source { op: name, text: &text, options: &["--minimal"] };
        let functions = load(&self.context, &source, &entries, Cache::shared())?;
        let sizes = kernels.iter().map(|k| k.layout().size);
        if let Some(size) = sizes.clone().find(|s| *s > ARGS) {
            return Err(self.unfit("bytes of launch arguments", ARGS, size));
        }
        // registers may leave room for fewer threads than a text asks for
        for (f, k) in functions.iter().zip(&kernels) {
            let (threads, shared) = (k.threads as usize, k.aside_bytes());
            if threads > f.max_threads as usize {
                return Err(self.unfit("threads of a block", f.max_threads as usize, threads));
            }
            if shared > f.dynamic_shared as usize {
                return Err(self.unfit("bytes of shared memory", f.dynamic_shared as usize, shared));
            }
        }
        let functions = functions.into_iter().zip(sizes).collect();
        let flagged = schedule.steps.iter().any(|s| s.buffers.contains(&schedule::Source::Flag));
        let flag = if flagged { self.context.flag(name)? } else { 0 };
        Ok(Loaded { config, schedule, functions, flag })
    }

    pub(super) fn unfit(&self, what: &str, expected: usize, got: usize) -> Error {
        let (expected, got) = (expected.to_string(), got.to_string());
        Error::Launch { op: self.program.name.clone(), what: format!("number of {what}"), expected, got }
    }
}

impl Loaded {
    /// Bytes of each scratch memory.
    pub fn scratch(&self, g: &Geometry<'_>) -> impl Iterator<Item = u64> {
        let bytes =
            |(k, s): (usize, &schedule::Scratch)| self.schedule.scratch_len(k, g).max(1) * s.dtype.size_bytes() as u64;
        self.schedule.scratch.iter().enumerate().map(bytes)
    }

    /// Queues all steps.
    ///
    /// # Safety
    /// As `Kernel::run`, for these outputs and scratch memories.
    pub unsafe fn queue(
        &self,
        l: &Launch<'_>,
        g: &Geometry<'_>,
        outputs: &[u64],
        scratch: &[u64],
    ) -> Result<(), Error> {
        let schedule = &self.schedule;
        for (step, (function, size)) in schedule.steps.iter().zip(&self.functions) {
            let mut args: SmallVec<[u64; 64]> = SmallVec::from_elem(0, size.div_ceil(8));
            schedule.pack(step, g, &mut bytemuck::cast_slice_mut(&mut args)[..*size]);
            let mut addresses: SmallVec<[u64; 12]> = step
                .buffers
                .iter()
                .map(|source| match *source {
                    schedule::Source::Input(k) => l.inputs[k as usize].address,
                    schedule::Source::Output(k) => outputs[k as usize],
                    schedule::Source::Scratch(k) => scratch[k as usize],
                    schedule::Source::Flag => self.flag,
                })
                .collect();
            let mut params: SmallVec<[*mut c_void; 13]> =
                addresses.iter_mut().map(|a| std::ptr::from_mut(a).cast()).collect();
            if *size > 0 {
                params.push(args.as_mut_ptr().cast());
            }
            let grid = [schedule.blocks(step, g), 1, 1];
            let shared = step.kernel.aside_bytes() as u32;
            // SAFETY: the parameters are those of the step's text, buffers and then the argument block; the rest is the
            // caller's promise.
            unsafe { launch(function, grid, step.kernel.threads, shared, l.stream, &mut params)? };
        }
        Ok(())
    }
}

/// A device as a tuner knows it.
pub(super) fn place(context: &Context) -> Where {
    let facts = context.facts();
    Where { device: facts.name.clone(), driver: format!("{}.{}", facts.driver.0, facts.driver.1) }
}
