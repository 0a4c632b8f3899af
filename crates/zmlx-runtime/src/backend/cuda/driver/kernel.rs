//! A Program on a device: the kernels of its schedules, each compiled at the first launch that asks for it.

use super::{Context, Function, Source, launch, load};
use crate::{
    Error,
    backend::{c_like, cuda::dialect::CUDA},
    cache::Cache,
    list::List,
};
use cudarc::driver::sys::CUstream;
use smallvec::SmallVec;
use std::ffi::c_void;
use zmlx_ir::{
    Program, Scalar,
    schedule::{self, Chooser, Config, Device, Geometry, Schedule, Strides, schedule},
};

/// Bytes of the argument block of a kernel: what a driver takes in any case.
const ARGS: usize = 4096;

/// A Program on a device.
#[derive(Debug)]
pub struct Kernel {
    program: Program,
    context: Context,
    chooser: Chooser,
    loaded: List<Loaded>,
}

/// A schedule, compiled.
#[derive(Debug)]
struct Loaded {
    config: Config,
    schedule: Schedule,
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
    /// Address of each output: contiguous memory, on a boundary of 16 bytes.
    pub outputs: &'a [u64],
    /// Where it is queued.
    pub stream: CUstream,
}

impl Kernel {
    /// Of a verified Program. Nothing is compiled yet.
    pub fn new(program: &Program, context: &Context) -> Kernel {
        Kernel {
            program: program.clone(),
            context: context.clone(),
            chooser: Chooser::of(program),
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
        if l.row_dims.len() > schedule::ROW_DIMS {
            return Err(self.unfit("dimensions of the rows", schedule::ROW_DIMS, l.row_dims.len()));
        }
        let counts = [
            ("inputs", self.program.inputs.len(), l.inputs.len()),
            ("uniforms", self.program.uniforms.len(), l.uniforms.len()),
            ("outputs", self.program.outputs.len(), l.outputs.len()),
        ];
        if let Some((what, expected, got)) = counts.into_iter().find(|(_, expected, got)| expected != got) {
            return Err(self.unfit(what, expected, got));
        }
        let strides = l.inputs.iter().zip(&self.program.inputs).map(|(v, i)| Strides {
            rows: v.row_strides,
            col: v.col_stride,
            shift: v.address as usize % 16 / i.dtype.size_bytes(),
        });
        let strides: SmallVec<[Strides<'_>; 8]> = strides.collect();
        let facts = self.context.facts();
        let device =
            Device { processors: facts.multiprocessors, shared: facts.shared_per_block, cluster: facts.cluster() };
        let (row_dims, uniforms) = (l.row_dims, l.uniforms);
        let g = Geometry { row_dims, cols: l.cols, inputs: &strides, uniforms, device };
        let config = self.chooser.pick(g.rows(), l.cols as u64, l.row_dims.len(), g.elements(), device);
        let loaded = match self.loaded.iter().find(|c| c.config == config) {
            Some(loaded) => loaded,
            None => self.loaded.find_or_add(self.load(config)?, |c| c.config == config),
        };
        let schedule = &loaded.schedule;
        let mut memory: SmallVec<[u64; 4]> = SmallVec::new();
        for (k, s) in schedule.scratch.iter().enumerate() {
            memory.push(scratch(schedule.scratch_len(k, &g).max(1) * s.dtype.size_bytes() as u64)?);
        }
        for (step, (function, size)) in schedule.steps.iter().zip(&loaded.functions) {
            let mut args: SmallVec<[u64; 64]> = SmallVec::from_elem(0, size.div_ceil(8));
            schedule.pack(step, &g, &mut bytemuck::cast_slice_mut(&mut args)[..*size]);
            let mut addresses: SmallVec<[u64; 12]> = step
                .buffers
                .iter()
                .map(|source| match *source {
                    schedule::Source::Input(k) => l.inputs[k as usize].address,
                    schedule::Source::Output(k) => l.outputs[k as usize],
                    schedule::Source::Scratch(k) => memory[k as usize],
                    schedule::Source::Flag => loaded.flag,
                })
                .collect();
            let mut params: SmallVec<[*mut c_void; 13]> =
                addresses.iter_mut().map(|a| std::ptr::from_mut(a).cast()).collect();
            if *size > 0 {
                params.push(args.as_mut_ptr().cast());
            }
            let grid = [schedule.blocks(step, &g), 1, 1];
            let shared = step.kernel.aside_bytes() as u32;
            // SAFETY: the parameters are those of the step's text, buffers and then the argument block; the rest is the
            // caller's promise.
            unsafe { launch(function, grid, step.kernel.threads, shared, l.stream, &mut params)? };
        }
        Ok(())
    }

    fn load(&self, config: Config) -> Result<Loaded, Error> {
        let name = &self.program.name;
        let schedule = schedule(&self.program, &config).map_err(|u| Error::Unsupported {
            op: name.clone(),
            what: u.what,
            dtype: u.dtype,
            target: "cuda",
        })?;
        let kernels: Vec<_> = schedule.steps.iter().map(|s| &s.kernel).collect();
        let text = c_like::unit(&kernels, &CUDA)?;
        let entries: Vec<String> = kernels.iter().map(|k| c_like::entry_name(k, &CUDA)).collect();
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let source = Source { op: name, text: &text, options: &["--minimal"] };
        let functions = load(&self.context, &source, &entries, Cache::shared())?;
        let sizes = kernels.iter().map(|k| k.layout().size);
        if let Some(size) = sizes.clone().find(|s| *s > ARGS) {
            return Err(self.unfit("bytes of launch arguments", ARGS, size));
        }
        let functions = functions.into_iter().zip(sizes).collect();
        let flagged = schedule.steps.iter().any(|s| s.buffers.contains(&schedule::Source::Flag));
        let flag = if flagged { self.context.flag(name)? } else { 0 };
        Ok(Loaded { config, schedule, functions, flag })
    }

    fn unfit(&self, what: &str, expected: usize, got: usize) -> Error {
        let (expected, got) = (expected.to_string(), got.to_string());
        Error::Launch { op: self.program.name.clone(), what: format!("number of {what}"), expected, got }
    }
}
