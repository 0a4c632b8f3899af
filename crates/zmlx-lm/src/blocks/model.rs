//! A whole model: tokens to logits.

use super::{Block, Cache, Embedding, Layer, LayerCache, Linear, Norm, Visitor};
use crate::Result;
use candle_core::{DType, Device, Tensor};
use zmlx::rotary::Rotary;

/// What is true of a model as a whole.
#[derive(Clone, Debug)]
pub struct Facts {
    /// As in `config.json`.
    pub model_type: String,
    /// Logits of a token.
    pub vocab_size: usize,
    /// Most tokens of a text that it was made for.
    pub context: usize,
    /// Of activations.
    pub dtype: DType,
    /// Where it is.
    pub device: Device,
}

/// An embedding, layers, a norm and a head. Every model type is one of these.
#[derive(Clone, Debug)]
pub struct Model {
    /// What is true of it as a whole.
    pub facts: Facts,
    /// Rows by token.
    pub embed_tokens: Embedding,
    /// Rows are multiplied by this, rounded to their dtype: Gemma's √d.
    pub embed_scale: Option<f64>,
    /// From the first to the last.
    pub layers: Vec<Layer>,
    /// Before the head.
    pub norm: Norm,
    /// None: the rows of the embedding.
    pub lm_head: Option<Linear>,
    /// Frequencies of rotary embeddings; a [`Rope`](super::Rope) says which are its own.
    pub ropes: Vec<Rotary>,
    /// c · tanh(logits / c) in place of the logits.
    pub softcap: Option<f64>,
}

impl Model {
    /// The state of `batch` texts of `capacity` tokens at most: keys, values and tables for all of them.
    ///
    /// # Errors
    /// Memory that is not there.
    pub fn new_cache(&self, batch: usize, capacity: usize) -> Result<Cache> {
        let Facts { dtype, device, .. } = &self.facts;
        let layers = self.layers.iter().map(|l| l.mixer.cache(batch, capacity, *dtype, device));
        Cache::new(batch, capacity, true, &self.ropes, layers.collect::<Result<_>>()?, *dtype, device)
    }

    /// Logits `[b, t, vocab_size]` of tokens `[b, t]` of u32, behind those that the cache has.
    ///
    /// # Errors
    /// More tokens than the cache has room for, a token outside of the vocabulary; what the device says.
    pub fn forward(&self, tokens: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        self.head(&self.hidden(tokens, cache)?)
    }

    /// Logits of whole texts `[b, t]`, remembering nothing: gradients reach every weight that is tracked.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_once(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, capacity) = tokens.dims2()?;
        let Facts { dtype, device, .. } = &self.facts;
        let layers = vec![LayerCache::Nothing; self.layers.len()];
        let mut cache = Cache::new(batch, capacity, false, &self.ropes, layers, *dtype, device)?;
        self.forward(tokens, &mut cache)
    }

    /// What the head gets, `[b, t, d]`: of a long prompt only the last row needs logits.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn hidden(&self, tokens: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let (b, t) = tokens.dims2()?;
        let cx = cache.context(b, t)?;
        let mut x = self.embed_tokens.forward(tokens)?;
        if let Some(scale) = self.embed_scale {
            x = (x * scale)?;
        }
        for (layer, cache) in self.layers.iter().zip(&cache.layers) {
            x = layer.forward(&x, &cx, cache)?;
        }
        cache.advance(t)?;
        self.norm.forward(&x)
    }

    /// Logits `[.., vocab_size]` of `[.., d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn head(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = match &self.lm_head {
            Some(head) => head.forward(hidden)?,
            None => self.embed_tokens.head(hidden)?,
        };
        match self.softcap {
            Some(cap) => Ok(((logits / cap)?.tanh()? * cap)?),
            None => Ok(logits),
        }
    }

    /// Shows every block, in the order of the data.
    pub fn visit(&mut self, f: &mut Visitor<'_>) {
        f(Block::Embedding(&mut self.embed_tokens));
        self.layers.iter_mut().for_each(|l| l.visit(f));
        f(Block::Norm(&mut self.norm));
        self.lm_head.iter_mut().for_each(|h| f(Block::Linear(h)));
    }
}
