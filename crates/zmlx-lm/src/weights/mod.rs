//! Tensors by name, whatever file they are in. A model asks for each tensor with the shape that its configuration makes; what is
//! missing, of another shape or left over is noted, and told all at once by [`Weights::finish`].
//!
//! Names are those of Hugging Face's `state_dict`; a source that has others translates.

mod codes;
pub mod folder;
pub mod gguf;
mod ledger;
mod map;
pub mod random;
mod renamed;

use crate::{
    Config, Error, Result,
    blocks::{Affine, Embedding, ExpertLinear, Linear, Matrix, Norm, NormKind},
};
use candle_core::{
    DType, Device, Shape, Tensor,
    quantized::{GgmlDType, QStorage, QTensor},
};
use ledger::Ledger;
use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One by one.
    Dense(DType),
    /// In blocks of GGUF.
    Blocks(GgmlDType),
}

/// What a source says of a tensor before it reads it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its sizes, outermost first.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub format: Format,
}

/// Where tensors come from: files, memory, or a generator of random numbers.
pub trait Source: Send + Sync {
    /// The tensor of this name; `expected` is for sources that make what they are asked for.
    fn find(&self, name: &str, expected: &[usize]) -> Option<Found>;
    /// A tensor that is stored one by one, in this dtype.
    ///
    /// # Errors
    /// What the file or the device says.
    fn dense(&self, name: &str, expected: &[usize], dtype: DType, device: &Device) -> Result<Tensor>;
    /// The bytes of a tensor in blocks.
    ///
    /// # Errors
    /// A source without such tensors; what the file says.
    fn blocks(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        Err(Error::argument("weights", name, "a tensor that is stored one by one", "blocks"))
    }
    /// The tensor was read: its part of a file need not stay in memory.
    fn let_go(&self, _name: &str) {}
    /// All names; empty if it makes what it is asked for.
    fn names(&self) -> Vec<String>;
}

/// How weights are read.
#[derive(Clone)]
pub struct Load {
    /// Where they go.
    pub device: Device,
    /// Of activations and of weights that are not quantised; that of the checkpoint unless given.
    pub dtype: Option<DType>,
    /// Quantised weights are kept as they are, or made dense here.
    pub dequantize: bool,
    /// Is told after each tensor how many of how many tensors are read.
    pub progress: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>,
}

impl Default for Load {
    fn default() -> Load {
        Load { device: Device::Cpu, dtype: None, dequantize: false, progress: None }
    }
}

/// Tensors below a prefix.
#[derive(Clone)]
pub struct Weights {
    shared: Arc<Shared>,
    prefix: String,
}

struct Shared {
    source: Box<dyn Source>,
    config: Config,
    dtype: DType,
    load: Load,
    ledger: Mutex<Ledger>,
}

impl Weights {
    /// All tensors of a source, for the model of this configuration.
    pub fn new(source: impl Source + 'static, config: &Config, dtype: DType, load: &Load) -> Weights {
        let names = source.names();
        let shared = Shared {
            source: Box::new(source),
            config: config.clone(),
            dtype,
            load: load.clone(),
            ledger: Mutex::new(Ledger::new(names)),
        };
        Weights { shared: Arc::new(shared), prefix: String::new() }
    }

    /// Those below `name`.
    #[must_use]
    pub fn pp(&self, name: impl std::fmt::Display) -> Weights {
        Weights { shared: self.shared.clone(), prefix: self.name(&name.to_string()) }
    }

    /// The full name of a tensor here.
    pub fn name(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.into(),
            (prefix, "") => prefix.into(),
            (prefix, name) => format!("{prefix}.{name}"),
        }
    }

    /// The prefix: the name of the block that is made of these.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The dtype of activations and of weights that are not quantised.
    pub fn dtype(&self) -> DType {
        self.shared.dtype
    }

    /// Where tensors go.
    pub fn device(&self) -> &Device {
        &self.shared.load.device
    }

    /// Is there a tensor of this name? (A source of random numbers has none that it was not asked for.)
    pub fn contains(&self, name: &str) -> bool {
        self.ledger(|l| l.knows(&self.name(name)))
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape_of(&self, name: &str) -> Option<Vec<usize>> {
        let there = self.contains(name).then(|| self.shared.source.find(&self.name(name), &[]))?;
        there.map(|found| found.shape)
    }

    /// Tensors whose names begin with this are no part of the model and not missed.
    pub fn ignore(&self, start: &str) {
        self.ledger(|l| l.ignore(&self.name(start)));
    }

    /// A tensor of this shape, in the dtype of the model.
    ///
    /// # Errors
    /// What the file or the device says. One that is missing or of another shape is noted, and zeros without memory stand for it.
    pub fn tensor(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.tensor_in(name, shape, self.shared.dtype)
    }

    /// A tensor of this shape, in a dtype of its own.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn tensor_in(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let (name, shape) = (self.name(name), shape.into());
        match self.found(&name, shape.dims()) {
            Some(Format::Dense(_)) => self.dense(&name, shape.dims(), dtype),
            Some(Format::Blocks(kind)) => {
                Ok(self.blocks(&name, shape.dims(), kind)?.dequantize(self.device())?.to_dtype(dtype)?)
            }
            None => self.nothing(shape, dtype),
        }
    }

    /// The weights of a layer, `[n, k]`, and its bias if it has one: dense, in affine codes, or in blocks of GGUF.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn linear(&self, name: &str, n: usize, k: usize, bias: bool) -> Result<Linear> {
        let here = self.pp(name);
        let matrix = here.matrix(&[n, k])?;
        let bias = bias.then(|| here.tensor("bias", n)).transpose()?;
        Ok(Linear { name: here.prefix, matrix, bias })
    }

    /// The rows of a vocabulary, `[v, k]`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn embedding(&self, name: &str, v: usize, k: usize) -> Result<Embedding> {
        let here = self.pp(name);
        let matrix = here.matrix(&[v, k])?;
        Ok(Embedding { name: here.prefix, matrix, dtype: self.dtype() })
    }

    /// A norm over `n` columns.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn norm(&self, name: &str, n: usize, eps: f64, kind: NormKind) -> Result<Norm> {
        let here = self.pp(name);
        let bias = (kind == NormKind::Layer && here.contains("bias")).then(|| here.tensor("bias", n)).transpose()?;
        Norm::new(here.prefix(), here.tensor("weight", n)?, bias, eps, kind)
    }

    /// The matrices `[n, k]` of all experts: stacked under `stacked`, or one by one under `each(e)`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn experts(
        &self,
        stacked: &str,
        each: impl Fn(usize) -> String,
        count: usize,
        [n, k]: [usize; 2],
    ) -> Result<ExpertLinear> {
        let all = self.pp(stacked);
        let (there, missing): (Vec<usize>, Vec<usize>) = (0..count).partition(|e| self.pp(each(*e)).contains("weight"));
        if all.contains("weight") || there.is_empty() {
            return Ok(ExpertLinear { name: all.prefix.clone(), matrix: all.matrix(&[count, n, k])?, bias: None });
        }
        let part = |e: usize| self.pp(each(e)).matrix(&[n, k]);
        let before = self.ledger(|l| l.mistakes());
        missing.iter().chain(&there[..1]).try_for_each(|e| part(*e).map(drop))?;
        if self.ledger(|l| l.mistakes()) > before {
            // what is wrong is told; no memory is asked for, and the other experts are no mistakes
            there.iter().for_each(|e| self.ignore(&format!("{}.", each(*e))));
            let matrix = Matrix::Dense(self.nothing((count, n, k).into(), self.dtype())?);
            return Ok(ExpertLinear { name: all.prefix, matrix, bias: None });
        }
        // an expert at a time into the place of all, so that no second copy is held
        let matrix = Matrix::stack(count, part)?;
        Ok(ExpertLinear { name: all.prefix, matrix, bias: None })
    }

    /// A tensor of this shape that is made of others. If one of them was missing or of another shape, nothing is made.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn made(&self, shape: impl Into<Shape>, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        match self.ledger(|l| l.mistakes()) {
            0 => make(),
            _ => self.nothing(shape.into(), self.dtype()),
        }
    }

    /// The tensor `weight` of this layer, however it is stored.
    fn matrix(&self, shape: &[usize]) -> Result<Matrix> {
        let name = self.name("weight");
        if self.contains("scales") || self.makes_codes(shape) {
            return self.affine(shape);
        }
        match self.found(&name, shape) {
            Some(Format::Blocks(kind)) => {
                let dense = matches!(kind, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16);
                if dense || self.shared.load.dequantize {
                    let blocks = self.blocks(&name, shape, kind)?;
                    return Ok(Matrix::Dense(blocks.dequantize(self.device())?.to_dtype(self.dtype())?));
                }
                let codes = self.read(&name, |s| codes::of_blocks(kind, &s.blocks(&name)?, shape, self.device()))?;
                codes
                    .map_or_else(|| Matrix::blocks(self.blocks(&name, shape, kind)?), |codes| Ok(Matrix::Affine(codes)))
            }
            Some(Format::Dense(_)) => Ok(Matrix::Dense(self.dense(&name, shape, self.dtype())?)),
            None => Ok(Matrix::Dense(self.nothing(shape.into(), self.dtype())?)),
        }
    }

    /// Does the source make what it is asked for, and does the configuration ask for codes of this layer?
    fn makes_codes(&self, shape: &[usize]) -> bool {
        let made = self.ledger(|l| l.is_made());
        let of = self.shared.config.quantization.as_ref().filter(|_| made);
        let packing = of.and_then(|q| q.of_layer(&self.shared.config.origin, &self.prefix).ok().flatten());
        packing.is_some_and(|(group, _)| shape[shape.len() - 1].is_multiple_of(group))
    }

    /// Words, scales and biases in the packing that the configuration states for this layer.
    fn affine(&self, shape: &[usize]) -> Result<Matrix> {
        let Config { quantization, origin, .. } = &self.shared.config;
        let stated = quantization.as_ref().map(|q| q.of_layer(origin, &self.prefix)).transpose()?.flatten();
        let Some((group, bits)) = stated else {
            return Err(Error::argument(
                origin,
                "quantization",
                format!("bits and group_size of {}", self.prefix),
                "none, though it has scales",
            ));
        };
        let k = shape[shape.len() - 1];
        if !k.is_multiple_of(group) {
            let expected = format!("a divisor of the {k} columns of {}", self.prefix);
            return Err(Error::argument(origin, "quantization: group_size", expected, group));
        }
        let with = |last: usize| [&shape[..shape.len() - 1], &[last]].concat();
        let scales = self.tensor("scales", with(k / group))?;
        let biases = self.tensor("biases", with(k / group))?;
        let words = self.tensor_in("weight", with(k / 32 * bits), DType::U32)?;
        let codes = Affine { words, scales, biases, bits };
        match self.shared.load.dequantize {
            true => Ok(Matrix::Dense(codes.dequantize_in(self.dtype())?)),
            false => Ok(Matrix::Affine(codes)),
        }
    }

    /// All mistakes so far: what was missing or of another shape, and what is left over.
    ///
    /// # Errors
    /// If there is one.
    pub fn finish(&self) -> Result<()> {
        self.ledger(|l| l.finish())
    }

    /// The format of a tensor of this shape; notes its absence.
    fn found(&self, name: &str, shape: &[usize]) -> Option<Format> {
        let found = self.shared.source.find(name, shape);
        self.ledger(|l| l.asked(name, shape, found.as_ref()))
    }

    fn dense(&self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        self.read(name, |s| s.dense(name, shape, dtype, self.device()))
    }

    fn blocks(&self, name: &str, shape: &[usize], kind: GgmlDType) -> Result<QTensor> {
        self.read(name, |s| {
            let storage = QStorage::from_data(s.blocks(name)?, self.device(), kind)?;
            Ok(QTensor::new(storage, shape)?)
        })
    }

    fn read<T>(&self, name: &str, f: impl FnOnce(&dyn Source) -> Result<T>) -> Result<T> {
        let tensor = f(&*self.shared.source)?;
        self.shared.source.let_go(name);
        if let Some(tell) = &self.shared.load.progress {
            let (read, all) = self.ledger(|l| l.progress());
            tell(read, all);
        }
        Ok(tensor)
    }

    /// Stands for a tensor that is not there: one zero, seen as often as is needed.
    fn nothing(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        Ok(Tensor::zeros((), dtype, &Device::Cpu)?.broadcast_as(shape)?)
    }

    fn ledger<T>(&self, f: impl FnOnce(&mut Ledger) -> T) -> T {
        f(&mut self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
