//! Attention over the tokens so far: projections, norms of heads, rotary embeddings, and the products of queries with keys.

use super::{Context, LayerCache, Linear, Norm, Rope, Swap};
use crate::Result;
use candle_core::{D, DType, Tensor};

/// A kernel for queries `[b, h, t, d]`, keys `[b, kv, keys, d]` and values `[b, kv, keys, dv]` ↦ `[b, h, t, dv]`.
pub type SdpaKernel = dyn Fn(&Sdpa, [&Tensor; 3], &Context) -> Result<Tensor> + Send + Sync;

/// softmax(scale · q · kᵀ + mask) · v
#[derive(Clone, Debug)]
pub struct Sdpa {
    /// The name of its attention.
    pub name: String,
    /// Of the scores.
    pub scale: f64,
    /// The most keys that a query sees, its own among them.
    pub window: Option<usize>,
    /// A score a head that takes part in the softmax and has no value, `[h]`.
    pub sinks: Option<Tensor>,
    /// c · tanh(scores / c) in place of the scores.
    pub softcap: Option<f64>,
    /// `attention`
    pub kernel: Swap<SdpaKernel>,
}

/// Numbers of heads and their columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Of queries.
    pub count: usize,
    /// Of keys and values; it divides those of queries.
    pub kv: usize,
    /// Columns of each.
    pub dim: usize,
}

/// Which columns the norms of queries and keys go over.
#[derive(Clone, Debug)]
pub enum QkNorm {
    /// Those of a head, `[dim]`: Qwen3's.
    Head([Norm; 2]),
    /// All of them, `[heads · dim]`: OLMoE's.
    All([Norm; 2]),
}

/// Multi-head attention with groups of heads that share keys and values.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Its name in the checkpoint.
    pub name: String,
    /// `[count · dim, d]`
    pub q_proj: Linear,
    /// `[kv · dim, d]`
    pub k_proj: Linear,
    /// `[kv · dim, d]`
    pub v_proj: Linear,
    /// `[d, count · dim]`
    pub o_proj: Linear,
    /// Numbers of heads and their columns.
    pub heads: Heads,
    /// Of queries and keys, before they are turned.
    pub qk_norm: Option<QkNorm>,
    /// Queries, keys and values are held to ± this, before they are turned.
    pub clip: Option<f64>,
    /// None: positions are not told.
    pub rope: Option<Rope>,
    /// What is done with queries, keys and values.
    pub sdpa: Sdpa,
}

impl Sdpa {
    /// Over heads of `dim` columns, with nothing special.
    pub fn new(name: &str, dim: usize) -> Sdpa {
        Sdpa {
            name: name.into(),
            scale: 1.0 / (dim as f64).sqrt(),
            window: None,
            sinks: None,
            softcap: None,
            kernel: Swap::default(),
        }
    }

    /// Of q `[b, h, t, d]`, k `[b, kv, keys, d]`, v `[b, kv, keys, dv]`: `[b, h, t, dv]`.
    ///
    /// # Errors
    /// Shapes that do not belong together; what the device says.
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor, cx: &Context) -> Result<Tensor> {
        match self.kernel.get() {
            Some(kernel) => kernel(self, [q, k, v], cx),
            None => self.plain(q, k, v, cx),
        }
    }

    /// The path in candle's own operations.
    ///
    /// # Errors
    /// As [`Sdpa::forward`].
    pub fn plain(&self, q: &Tensor, k: &Tensor, v: &Tensor, cx: &Context) -> Result<Tensor> {
        self.with_softmax(q, k, v, cx, |scores| {
            // candle's fused softmax has no gradient
            Ok(match scores.track_op() {
                true => candle_nn::ops::softmax(scores, D::Minus1)?,
                false => candle_nn::ops::softmax_last_dim(scores)?,
            })
        })
    }

    /// The same with another softmax over the last dimension, of f32 or f64.
    ///
    /// # Errors
    /// As [`Sdpa::forward`].
    pub fn with_softmax(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        cx: &Context,
        softmax: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (b, h, t, d) = q.dims4()?;
        let (_, kv, keys, dv) = v.dims4()?;
        let group = h / kv;
        // heads that share keys are rows of one product
        let q = (q.contiguous()?.reshape((b, kv, group * t, d))? * self.scale)?;
        let mut scores = q.matmul(&k.t()?)?.reshape((b, kv, group, t, keys))?;
        if let Some(cap) = self.softcap {
            scores = ((scores / cap)?.tanh()? * cap)?;
        }
        if let Some(mask) = cx.mask(self.window)? {
            scores = scores.broadcast_add(&mask.reshape((b, 1, 1, t, keys))?)?;
        }
        if let Some(sinks) = &self.sinks {
            let sinks = sinks.to_dtype(scores.dtype())?.reshape((1, kv, group, 1, 1))?;
            scores = Tensor::cat(&[&scores, &sinks.broadcast_as((b, kv, group, t, 1))?.contiguous()?], D::Minus1)?;
        }
        let dtype = scores.dtype();
        let wide = if dtype == DType::F64 { scores } else { scores.to_dtype(DType::F32)? };
        let weights = softmax(&wide)?.to_dtype(dtype)?.narrow(D::Minus1, 0, keys)?.contiguous()?;
        Ok(weights.reshape((b, kv, group * t, keys))?.matmul(v)?.reshape((b, h, t, dv))?)
    }
}

impl Attention {
    /// Of `[b, t, d]`.
    ///
    /// # Errors
    /// As [`Sdpa::forward`].
    pub fn forward(&self, x: &Tensor, cx: &Context, cache: &LayerCache) -> Result<Tensor> {
        let (b, t, _) = x.dims3()?;
        let Heads { count, kv, dim } = self.heads;
        let (mut q, mut k) = (self.q_proj.forward(x)?, self.k_proj.forward(x)?);
        if let Some(QkNorm::All([of_q, of_k])) = &self.qk_norm {
            (q, k) = (of_q.forward(&q)?, of_k.forward(&k)?);
        }
        let mut v = self.v_proj.forward(x)?;
        if let Some(most) = self.clip {
            (q, k, v) = (q.clamp(-most, most)?, k.clamp(-most, most)?, v.clamp(-most, most)?);
        }
        (q, k) = (q.reshape((b, t, count, dim))?, k.reshape((b, t, kv, dim))?);
        if let Some(QkNorm::Head([of_q, of_k])) = &self.qk_norm {
            (q, k) = (of_q.forward(&q)?, of_k.forward(&k)?);
        }
        let (mut q, mut k) = (q.transpose(1, 2)?, k.transpose(1, 2)?);
        if let Some(rope) = &self.rope {
            let tables = &cx.tables[rope.index];
            (q, k) = (rope.forward(&q, tables)?, rope.forward(&k, tables)?);
        }
        let v = v.reshape((b, t, kv, dim))?.transpose(1, 2)?;
        let (k, v) = cache.put(k, v, cx)?;
        let y = self.sdpa.forward(&q, &k, &v, cx)?;
        self.o_proj.forward(&y.transpose(1, 2)?.contiguous()?.reshape((b, t, count * dim))?)
    }
}
