//! Kernels written by hand: source for each GPU target, and a closure for the CPU.

use crate::{Error, Inputs, Result, stats};
use candle_core::{Device, Tensor};
use std::sync::Arc;

type OnCpu = Arc<dyn Fn(&[Tensor]) -> candle_core::Result<Vec<Tensor>> + Send + Sync>;

/// A kernel of your own. In this build only its CPU closure runs; the sources are kept for the GPU backends.
#[derive(Clone, Default)]
pub struct RawKernel {
    name: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    cuda: Option<String>,
    metal: Option<String>,
    cpu: Option<OnCpu>,
}

impl RawKernel {
    /// A kernel of this name.
    pub fn new(name: &str) -> RawKernel {
        RawKernel { name: name.into(), ..RawKernel::default() }
    }
    /// Names of its inputs, in the order of `call`.
    #[must_use]
    pub fn inputs(mut self, names: &[&str]) -> RawKernel {
        self.inputs = names.iter().map(|s| s.to_string()).collect();
        self
    }
    /// Names of its results, in order.
    #[must_use]
    pub fn outputs(mut self, names: &[&str]) -> RawKernel {
        self.outputs = names.iter().map(|s| s.to_string()).collect();
        self
    }
    /// Its CUDA C++ source.
    #[must_use]
    pub fn cuda(mut self, source: &str) -> RawKernel {
        self.cuda = Some(source.into());
        self
    }
    /// Its Metal source.
    #[must_use]
    pub fn metal(mut self, source: &str) -> RawKernel {
        self.metal = Some(source.into());
        self
    }
    /// What it does on CPU. What candle's tape sees of it is what the closure does.
    #[must_use]
    pub fn cpu(
        mut self,
        f: impl Fn(&[Tensor]) -> candle_core::Result<Vec<Tensor>> + Send + Sync + 'static,
    ) -> RawKernel {
        self.cpu = Some(Arc::new(f));
        self
    }
    /// Its source for a target (`cuda` or `metal`).
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
    /// The number of inputs or results; a device without a backend in this build, or a CPU without a closure.
    pub fn call(&self, inputs: impl Inputs) -> Result<Vec<Tensor>> {
        let count = |what: &str, names: &[String], got: usize| match names.len() == got {
            true => Ok(()),
            false => Err(Error::argument(&self.name, what, format!("{} ({})", names.len(), names.join(" ")), got)),
        };
        let inputs: Vec<Tensor> = inputs.with(|all| all.iter().map(|t| (*t).clone()).collect());
        count("number of inputs", &self.inputs, inputs.len())?;
        if let Some(k) = inputs.iter().position(|t| !matches!(t.device(), Device::Cpu)) {
            let what = format!("{}: device", self.inputs[k]);
            return Err(Error::argument(&self.name, what, "cpu (the backend of this build)", "another device"));
        }
        let f = self.cpu.as_ref().ok_or_else(|| Error::argument(&self.name, "cpu", "a .cpu(…) closure", "none"))?;
        let results = f(&inputs)?;
        count("number of results of the .cpu(…) closure", &self.outputs, results.len())?;
        let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        stats::count_launch(inputs.iter().chain(&results).map(bytes).sum());
        Ok(results)
    }
}
