//! Kernels written by hand: the body of a kernel for GPU targets, or one for all of them, and a closure of candle operations.

use crate::{
    Error, Inputs, Result,
    bridge::{self, RawCall, RawKernels, RawKey, target_of},
    error::Mistake,
    stats,
};
use candle_core::{DType, Device, Shape, Tensor};
use smallvec::SmallVec;
use std::{cell::RefCell, rc::Rc, sync::Arc};
use zmlx_ir::Scalar;
use zmlx_runtime::backend::c_like::raw::{Raw, Tensor as Declared};

type OnCpu = Arc<dyn Fn(&[Tensor]) -> candle_core::Result<Vec<Tensor>> + Send + Sync>;
type Results = Arc<dyn Fn(&[Tensor]) -> Vec<(Shape, DType)> + Send + Sync>;
type GridOf = Arc<dyn Fn(&[Tensor]) -> Grid + Send + Sync>;
/// Gradients of the inputs from inputs, results and cotangents of the results.
type Vjp = Arc<dyn Fn(&[Tensor], &[Tensor], &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// Most threads of a block, and of a warp.
const THREADS: u32 = 1024;
const WARP: u32 = 32;

/// A launch that somebody else runs: see [`launches_run_by`].
pub struct RawLaunch<'a> {
    /// What gives the text.
    pub raw: Raw<'a>,
    /// The bytes of its arguments.
    pub args: Vec<u8>,
    /// Blocks along each axis.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Contiguous.
    pub inputs: Vec<Tensor>,
    /// What comes out.
    pub results: Vec<(Shape, zmlx_ir::DType)>,
}

/// Runs a launch.
pub type Runner = Rc<dyn Fn(&RawLaunch<'_>) -> Result<Vec<Tensor>>>;

thread_local! {
    static RUNNER: RefCell<Option<(&'static str, Runner)>> = const { RefCell::new(None) };
}

/// In `body`, on this thread, kernels that have a source for this target (`cuda` or `metal`) run by `runner` instead of on the
/// device of their tensors: tests execute the text of a GPU on the CPU so, as all of a function of several kernels.
pub fn launches_run_by<T>(target: &'static str, runner: Runner, body: impl FnOnce() -> T) -> T {
    let before = RUNNER.replace(Some((target, runner)));
    let out = body();
    RUNNER.set(before);
    out
}

/// How many blocks of how many threads run a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along each axis: `block_index`, `block_index_y`, `block_index_z` of a body.
    pub blocks: [u32; 3],
    /// Threads of a block, a multiple of 32 up to 1024.
    pub threads: u32,
}

impl Grid {
    /// So many blocks along one axis.
    pub fn new(blocks: usize, threads: u32) -> Grid {
        Grid { blocks: [u32::try_from(blocks).unwrap_or(u32::MAX), 1, 1], threads }
    }
}

/// A kernel of your own.
///
/// A source is the *body* of a kernel. Its signature is made of what is declared: for each input `x` a pointer `x` to
/// elements of type `x_t`, the same for each result, and `args` with the number of elements `args.x_len` and the sizes
/// `args.x_dims[0]` … of each, and the uniforms under their names (`args.eps`: f32, of integers i64). Tensors are contiguous;
/// others are copied before. A body has the words of a small prelude, which is the same for all targets: one that uses
/// nothing else is [portable](RawKernel::portable). Where a device has no source, the closure runs.
///
/// A source may read and write past its tensors, and nobody stops it: it is as unsafe as C. Its gradient is what
/// [`vjp`](RawKernel::vjp) says; without that, a tracked input is an error on a GPU.
#[derive(Clone, Default)]
pub struct RawKernel {
    name: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    uniforms: Vec<(String, Scalar)>,
    cuda: Option<String>,
    metal: Option<String>,
    header: String,
    shared: usize,
    cpu: Option<OnCpu>,
    results: Option<Results>,
    grid: Option<GridOf>,
    vjp: Option<Vjp>,
    mistake: Option<Mistake>,
    compiled: Arc<RawKernels>,
}

impl std::fmt::Debug for RawKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawKernel({}: {} → {})", self.name, self.inputs.join(" "), self.outputs.join(" "))
    }
}

impl RawKernel {
    /// A kernel of this name.
    pub fn new(name: &str) -> RawKernel {
        RawKernel { name: name.into(), ..RawKernel::default() }
    }
    /// The same kernel with another text, compiled anew.
    fn change(mut self, set: impl FnOnce(&mut RawKernel)) -> RawKernel {
        set(&mut self);
        self.compiled = Arc::default();
        self
    }
    /// Names of its inputs, in the order of `call`.
    #[must_use]
    pub fn inputs(self, names: &[&str]) -> RawKernel {
        self.change(|k| k.inputs = names.iter().map(|s| s.to_string()).collect())
    }
    /// Names of its results, in order.
    #[must_use]
    pub fn outputs(self, names: &[&str]) -> RawKernel {
        self.change(|k| k.outputs = names.iter().map(|s| s.to_string()).collect())
    }
    /// Declares a number of the launch with its default value. A new value compiles nothing.
    #[must_use]
    pub fn uniform(self, name: &str, value: impl Into<Scalar>) -> RawKernel {
        let value = value.into();
        self.change(|k| k.uniforms.push((name.into(), value)))
    }
    /// The same kernel, sharing what is compiled, with another value of a uniform.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<Scalar>) -> RawKernel {
        let mut kernel = self.clone();
        match (kernel.uniforms.iter_mut().find(|u| u.0 == name), value.into()) {
            (Some((_, Scalar::Float(own))), Scalar::Int(v)) => *own = v as f64,
            (Some((_, own)), value) => *own = value,
            (None, _) => {
                let names: Vec<&str> = self.uniforms.iter().map(|u| &u.0[..]).collect();
                let expected = format!("one of the declared uniforms ({})", names.join(" "));
                kernel.mistake = Some(Mistake::Argument(format!("with {name}"), expected, "another name".into()));
            }
        }
        kernel
    }
    /// Its body in CUDA C++.
    #[must_use]
    pub fn cuda(self, source: &str) -> RawKernel {
        self.change(|k| k.cuda = Some(source.into()))
    }
    /// Its body in the Metal shading language. Not yet run on Apple hardware.
    #[must_use]
    pub fn metal(self, source: &str) -> RawKernel {
        self.change(|k| k.metal = Some(source.into()))
    }
    /// Its body for all targets, in the words of the prelude.
    #[must_use]
    pub fn portable(self, source: &str) -> RawKernel {
        self.cuda(source).metal(source)
    }
    /// Functions that its bodies call: `function f32 square(f32 x) { return x * x; }`.
    #[must_use]
    pub fn header(self, source: &str) -> RawKernel {
        self.change(|k| k.header = source.into())
    }
    /// So many bytes that the threads of a block share, under the name `memory` (u8, aligned to 16 bytes). CUDA gives up to
    /// 227 KiB and at least 48, Metal 32.
    #[must_use]
    pub fn shared_memory(self, bytes: usize) -> RawKernel {
        self.change(|k| k.shared = bytes)
    }
    /// Shape and dtype of each result, from the inputs. Without this every result is like the first input.
    #[must_use]
    pub fn results(mut self, f: impl Fn(&[Tensor]) -> Vec<(Shape, DType)> + Send + Sync + 'static) -> RawKernel {
        self.results = Some(Arc::new(f));
        self
    }
    /// Blocks and threads.
    #[must_use]
    pub fn grid(self, grid: Grid) -> RawKernel {
        self.grid_of(move |_| grid)
    }
    /// Blocks and threads, from the inputs. Threads are part of what is compiled only up to the next power of two.
    #[must_use]
    pub fn grid_of(mut self, f: impl Fn(&[Tensor]) -> Grid + Send + Sync + 'static) -> RawKernel {
        self.grid = Some(Arc::new(f));
        self
    }
    /// What it does on CPU, and on a device without a source. What candle's tape sees of it is what the closure does.
    #[must_use]
    pub fn cpu(
        mut self,
        f: impl Fn(&[Tensor]) -> candle_core::Result<Vec<Tensor>> + Send + Sync + 'static,
    ) -> RawKernel {
        self.cpu = Some(Arc::new(f));
        self
    }
    /// Its gradient, on every device: from inputs, results and the cotangents of the results (None: nothing came back for
    /// it) a gradient for each input, in its shape and dtype, or None for what has none. The closure runs in candle's
    /// backward pass, and may call other kernels.
    #[must_use]
    pub fn vjp(
        mut self,
        f: impl Fn(&[Tensor], &[Tensor], &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    ) -> RawKernel {
        self.vjp = Some(Arc::new(f));
        self
    }
    /// Its body for a target (`cuda` or `metal`).
    pub fn source(&self, target: &str) -> Option<&str> {
        match target {
            "cuda" => self.cuda.as_deref(),
            "metal" => self.metal.as_deref(),
            _ => None,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// The number of inputs or results; neither a source for the device nor a closure; what the target's compiler says.
    pub fn call(&self, inputs: impl Inputs) -> Result<Vec<Tensor>> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.error(&self.name));
        }
        let inputs: Vec<Tensor> = inputs.with(|all| all.iter().map(|t| (*t).clone()).collect());
        self.count("number of inputs", &self.inputs, inputs.len())?;
        let device = inputs.first().map_or(&Device::Cpu, Tensor::device);
        if let Some(k) = inputs.iter().position(|t| !t.device().same_device(device)) {
            let (what, expected) = (format!("{}: device", self.inputs[k]), format!("that of {}", self.inputs[0]));
            return Err(Error::argument(&self.name, what, expected, "another device"));
        }
        let tracked: Vec<usize> =
            (0..inputs.len()).filter(|k| inputs[*k].track_op() && inputs[*k].dtype().is_float()).collect();
        match &self.vjp {
            Some(vjp) if !tracked.is_empty() => self.on_tape(&inputs, tracked, vjp.clone(), device),
            _ => self.run(&inputs, device),
        }
    }

    /// Runs it on tensors without a past, and puts what comes on the tape of the tracked ones.
    fn on_tape(&self, inputs: &[Tensor], tracked: Vec<usize>, vjp: Vjp, device: &Device) -> Result<Vec<Tensor>> {
        let plain: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
        let results = self.run(&plain, device)?;
        let raws = results.iter().map(bridge::copied).collect::<Result<_>>()?;
        let on_tape: Vec<&Tensor> = tracked.iter().map(|k| &inputs[*k]).collect();
        let (name, names) = (self.name.clone(), self.inputs.clone());
        let backward = move |cotangents: &[Option<Tensor>]| {
            let mut gradients = vjp(&plain, &results, cotangents)?;
            if gradients.len() != names.len() {
                let expected = format!("{} ({})", names.len(), names.join(" "));
                return Err(Error::argument(
                    &name,
                    "number of gradients of the .vjp(…) closure",
                    expected,
                    gradients.len(),
                ));
            }
            let none = |k: usize| Error::Gradient { op: name.clone(), why: format!("{} has none", names[k]) };
            tracked.iter().map(|k| gradients[*k].take().ok_or_else(|| none(*k))).collect()
        };
        Ok(bridge::record(self.name.as_str().into(), raws, &on_tape, Box::new(backward))?)
    }

    fn run(&self, inputs: &[Tensor], device: &Device) -> Result<Vec<Tensor>> {
        let runner = RUNNER.with_borrow(Option::clone).map(|(_, runner)| runner);
        let results = match text_target(device).and_then(|target| self.source(target)) {
            Some(body) => self.launch(body, inputs, device, runner.as_ref())?,
            None => self.run_closure(inputs, device)?,
        };
        let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        stats::count_launch(inputs.iter().chain(&results).map(bytes).sum());
        Ok(results)
    }

    fn count(&self, what: &str, names: &[String], got: usize) -> Result<()> {
        match names.len() == got {
            true => Ok(()),
            false => Err(Error::argument(&self.name, what, format!("{} ({})", names.len(), names.join(" ")), got)),
        }
    }

    fn run_closure(&self, inputs: &[Tensor], device: &Device) -> Result<Vec<Tensor>> {
        let f = self.cpu.as_ref().ok_or_else(|| Error::argument(&self.name, "cpu", "a .cpu(…) closure", "none"))?;
        let results = f(inputs)?;
        self.count("number of results of the .cpu(…) closure", &self.outputs, results.len())?;
        if !device.is_cpu() {
            stats::count_fallback();
        }
        Ok(results)
    }

    fn launch(&self, body: &str, inputs: &[Tensor], device: &Device, runner: Option<&Runner>) -> Result<Vec<Tensor>> {
        if let Some(k) = inputs.iter().position(|t| t.track_op() && t.dtype().is_float()) {
            let why =
                format!("a source has none, and {} is tracked: detach it, or leave the source out", self.inputs[k]);
            return Err(Error::Gradient { op: self.name.clone(), why });
        }
        let inputs: Vec<Tensor> = inputs.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?;
        let Some(grid) = &self.grid else {
            return Err(Error::argument(&self.name, "grid", "a .grid(…) or .grid_of(…)", "none"));
        };
        let Grid { blocks, threads } = grid(&inputs);
        if threads == 0 || threads % WARP != 0 || threads > THREADS {
            let expected = format!("a multiple of {WARP} up to {THREADS}");
            return Err(Error::argument(&self.name, "threads of its grid", expected, threads));
        }
        let results: Vec<(Shape, DType)> = match (&self.results, inputs.first()) {
            (Some(f), _) => f(&inputs),
            (None, Some(x)) => self.outputs.iter().map(|_| (x.shape().clone(), x.dtype())).collect(),
            (None, None) => vec![],
        };
        self.count("number of shapes of the .results(…) closure", &self.outputs, results.len())?;
        let of_inputs = self.inputs.iter().zip(&inputs).map(|(name, t)| declare(&self.name, name, t.dtype(), t.rank()));
        let of_outputs =
            self.outputs.iter().zip(&results).map(|(name, (s, dtype))| declare(&self.name, name, *dtype, s.rank()));
        let declared_inputs: SmallVec<[Declared<'_>; 8]> = of_inputs.collect::<Result<_>>()?;
        let declared_outputs: SmallVec<[Declared<'_>; 4]> = of_outputs.collect::<Result<_>>()?;
        let raw = Raw {
            name: &self.name,
            inputs: &declared_inputs,
            outputs: &declared_outputs,
            uniforms: &self.uniforms,
            header: &self.header,
            body,
            threads: threads.next_power_of_two(),
            shared: self.shared,
        };
        let shapes: Vec<Shape> = results.iter().map(|(shape, _)| shape.clone()).collect();
        let dims: SmallVec<[&[usize]; 12]> =
            inputs.iter().map(Tensor::dims).chain(shapes.iter().map(Shape::dims)).collect();
        let mut args = vec![];
        raw.pack(&dims, &mut args);
        if let Some(runner) = runner {
            let dtypes = declared_outputs.iter().map(|t| t.dtype);
            let shapes = results.iter().map(|(s, _)| s.clone()).zip(dtypes).collect();
            return runner(&RawLaunch { raw, args, blocks, threads, inputs: inputs.clone(), results: shapes });
        }
        let is_integer = |(k, u): (usize, &(String, Scalar))| u64::from(matches!(u.1, Scalar::Int(_))) << (k % 64);
        let key = RawKey {
            tensors: declared_inputs.iter().chain(&declared_outputs).map(|t| (t.dtype, t.rank)).collect(),
            integers: self.uniforms.iter().enumerate().map(is_integer).fold(0, |all, bit| all | bit),
            threads: raw.threads,
        };
        let call = RawCall { raw: &raw, key: &key, args: &args, blocks, threads, shapes: &shapes };
        let tensors: SmallVec<[&Tensor; 8]> = inputs.iter().collect();
        let storages = self.compiled.run(&call, &tensors, device)?;
        Ok(storages.into_iter().zip(shapes.clone()).map(|(storage, shape)| bridge::tensor(storage, shape)).collect())
    }
}

/// A tensor as the signature has it.
fn declare<'a>(op: &str, name: &'a str, dtype: DType, rank: usize) -> Result<Declared<'a>> {
    Ok(Declared { name, dtype: bridge::dtype_of(op, name, dtype)?, rank })
}

/// The target as whose text a portable kernel runs on this device; without one it runs as its closure.
pub(crate) fn text_target(device: &Device) -> Option<&'static str> {
    RUNNER.with_borrow(|r| r.as_ref().map(|(target, _)| *target)).or_else(|| target_of(device))
}
