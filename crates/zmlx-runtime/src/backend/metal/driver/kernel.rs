//! A Program on a device: the kernels of its schedules, each compiled at the first launch that asks for it. Not yet run on
//! Apple hardware.

use super::{Binding, Context, Function, Source, encode, load};
use crate::{
    Error,
    backend::{c_like, metal::dialect::METAL},
    list::List,
};
use candle_metal_kernels::metal::{Buffer, ComputeCommandEncoder};
use smallvec::SmallVec;
use zmlx_ir::{
    Program, Scalar,
    kernel::WARP,
    program::Table,
    schedule::{self, Chooser, Config, Device, Geometry, Schedule, Strategy, Strides, schedule},
};

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
    /// What was chosen; the schedule may have fewer threads.
    config: Config,
    schedule: Schedule,
    /// One for each step, with the size of its argument block.
    functions: Vec<(Function, usize)>,
    /// Where indices out of range are reported, if there are any.
    flag: Option<(Buffer, usize)>,
}

/// An input of a launch; as `crate::View`, in a buffer.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its memory.
    pub buffer: &'a Buffer,
    /// Byte of the first element.
    pub offset: usize,
    /// One stride for each of `Launch::row_dims`, in elements; 0 repeats.
    pub row_strides: &'a [usize],
    /// Stride of the column, in elements.
    pub col_stride: usize,
    /// Of a table.
    pub table: Option<Table>,
}

/// Everything that changes from launch to launch, but for the outputs.
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
}

/// A launch whose kernels are compiled. Its memory is allocated before the encoder is taken.
#[derive(Debug)]
pub struct Plan<'a> {
    loaded: &'a Loaded,
    launch: Launch<'a>,
    strides: SmallVec<[Strides<'a>; 8]>,
    device: Device,
}

impl Kernel {
    /// Of a verified Program. Nothing is compiled yet.
    pub fn new(program: &Program, context: &Context) -> Kernel {
        let (program, context) = (program.clone(), context.clone());
        Kernel { chooser: Chooser::of(&program), program, context, loaded: List::default() }
    }

    /// Chooses the kernels of a launch, and compiles them if they are new.
    pub fn plan<'a>(&'a self, launch: &Launch<'a>) -> Result<Plan<'a>, Error> {
        let l = *launch;
        if l.row_dims.len() > schedule::ROW_DIMS {
            return Err(self.unfit("number of dimensions of the rows", schedule::ROW_DIMS, l.row_dims.len()));
        }
        let counts = [
            ("number of inputs", self.program.inputs.len(), l.inputs.len()),
            ("number of uniforms", self.program.uniforms.len(), l.uniforms.len()),
        ];
        if let Some((what, expected, got)) = counts.into_iter().find(|(_, expected, got)| expected != got) {
            return Err(self.unfit(what, expected, got));
        }
        // Buffers start on boundaries of more than 16 bytes.
        let strides = l.inputs.iter().zip(&self.program.inputs).map(|(v, i)| Strides {
            rows: v.row_strides,
            col: v.col_stride,
            shift: v.offset % 16 / i.dtype.size_bytes(),
            table: v.table,
        });
        let strides: SmallVec<[Strides<'a>; 8]> = strides.collect();
        // Arrays of threads lie in registers: the text has no threadgroup memory that a launch sizes.
        let device = Device { processors: self.context.facts().cores, shared: 0, cluster: 1 };
        let (row_dims, uniforms) = (l.row_dims, l.uniforms);
        let g = Geometry { row_dims, cols: l.cols, inputs: &strides, uniforms, device };
        let config = self.chooser.choose(&g);
        let loaded = self.loaded.get_or_try_add(|c| c.config == config, || self.load(config))?;
        Ok(Plan { loaded, launch: l, strides, device })
    }

    /// Compiles a choice, with fewer threads where a pipeline takes no more: Metal decides that for each.
    fn load(&self, config: Config) -> Result<Loaded, Error> {
        let mut narrowed = config;
        loop {
            let loaded = self.compile(narrowed)?;
            let fits = |(step, (f, _)): (&schedule::Step, &(Function, usize))| step.kernel.threads <= f.max_threads;
            if loaded.schedule.steps.iter().zip(&loaded.functions).all(fits) {
                return Ok(Loaded { config, ..loaded });
            }
            narrowed = match narrower(narrowed) {
                Some(narrower) => narrower,
                None => {
                    let most = loaded.functions.iter().map(|(f, _)| f.max_threads).min().unwrap_or(0);
                    return Err(self.unfit("threads of a threadgroup", most as usize, narrowed.threads as usize));
                }
            };
        }
    }

    fn compile(&self, config: Config) -> Result<Loaded, Error> {
        let name = &self.program.name;
        let schedule = schedule(&self.program, &config).map_err(|u| Error::Unsupported {
            op: name.clone(),
            what: u.what,
            dtype: u.dtype,
            target: METAL.target,
        })?;
        let kernels: Vec<_> = schedule.steps.iter().map(|s| &s.kernel).collect();
        let text = c_like::unit(&kernels, &METAL)?;
        let entries: Vec<String> = kernels.iter().map(|k| c_like::entry_name(k)).collect();
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let functions = load(&self.context, &Source { op: name, text: &text }, &entries)?;
        if let Some(f) = functions.iter().find(|f| f.simd_width != WARP) {
            return Err(self.unfit("threads of a simdgroup", WARP as usize, f.simd_width as usize));
        }
        let functions = functions.into_iter().zip(kernels.iter().map(|k| k.layout().size)).collect();
        let flagged = schedule.steps.iter().any(|s| s.buffers.contains(&schedule::Source::Flag));
        let flag = if flagged { Some(self.context.flag(name)?) } else { None };
        Ok(Loaded { config, schedule, functions, flag })
    }

    fn unfit(&self, what: &str, expected: usize, got: usize) -> Error {
        let (expected, got) = (expected.to_string(), got.to_string());
        Error::Launch { op: self.program.name.clone(), what: what.into(), expected, got }
    }
}

/// The same choice for half as many threads.
fn narrower(c: Config) -> Option<Config> {
    let threads = c.threads / 2;
    let row_threads = c.row_threads.min(threads);
    // whoever holds a row holds twice as much of it
    let more = if c.strategy == Strategy::Resident { c.row_threads / row_threads.max(1) } else { 1 };
    (threads >= WARP).then_some(Config { threads, row_threads, chunks: c.chunks * more, ..c })
}

impl Plan<'_> {
    fn geometry(&self) -> Geometry<'_> {
        let Launch { row_dims, cols, uniforms, .. } = self.launch;
        Geometry { row_dims, cols, inputs: &self.strides, uniforms, device: self.device }
    }

    /// Bytes of each piece of memory that lives from kernel to kernel.
    pub fn scratch(&self) -> impl Iterator<Item = usize> {
        let (schedule, g) = (&self.loaded.schedule, self.geometry());
        let of = |k: usize, s: &schedule::Scratch| schedule.scratch_len(k, &g).max(1) as usize * s.dtype.size_bytes();
        let sizes: SmallVec<[usize; 4]> = schedule.scratch.iter().enumerate().map(|(k, s)| of(k, s)).collect();
        sizes.into_iter()
    }

    /// Queues it. `scratch` has a buffer for each size that [`Plan::scratch`] says, `outputs` one for each output.
    ///
    /// # Safety
    /// The views lie in their buffers, with the dtypes and extents of the Program; the outputs are as large as their extents.
    pub unsafe fn encode(
        &self,
        encoder: &ComputeCommandEncoder,
        outputs: &[&Buffer],
        scratch: &[&Buffer],
    ) -> Result<(), Error> {
        let (schedule, g) = (&self.loaded.schedule, self.geometry());
        for (step, (function, size)) in schedule.steps.iter().zip(&self.loaded.functions) {
            let mut args: SmallVec<[u8; 512]> = SmallVec::from_elem(0, *size);
            schedule.pack(step, &g, &mut args);
            let mut bindings: SmallVec<[Binding<'_>; 12]> = SmallVec::new();
            for (source, buffer) in step.buffers.iter().zip(&step.kernel.buffers) {
                let bound = match *source {
                    schedule::Source::Input(k) => {
                        self.launch.inputs.get(k as usize).map(|v| Binding::Input(v.buffer, v.offset))
                    }
                    schedule::Source::Output(k) => outputs.get(k as usize).map(|b| Binding::Output(b, 0)),
                    schedule::Source::Scratch(k) => scratch.get(k as usize).map(|b| match buffer.write {
                        true => Binding::Output(b, 0),
                        false => Binding::Input(b, 0),
                    }),
                    // All write the same, and nobody reads before the device is waited for: told as an input, it orders
                    // nothing.
                    schedule::Source::Flag => self.loaded.flag.as_ref().map(|(b, at)| Binding::Input(b, *at)),
                };
                bindings.push(bound.ok_or_else(|| Error::Launch {
                    op: function.name().into(),
                    what: format!("memory of {}", buffer.name),
                    expected: "a buffer".into(),
                    got: "none".into(),
                })?);
            }
            let groups = [schedule.blocks(step, &g), 1, 1];
            // SAFETY: the bindings are those of the step's text, in order; the rest is the caller's promise.
            unsafe { encode(function, encoder, groups, step.kernel.threads, 0, &bindings, &args)? };
        }
        Ok(())
    }
}
