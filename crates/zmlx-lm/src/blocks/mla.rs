//! Attention over latents, as DeepSeek-V2 has it (arXiv:2405.04434, 2.1): of each token a latent and one turned key are
//! remembered, of which each head makes its keys and values.

use super::{Context, ExpertLinear, LayerCache, Linear, Norm, Rope, Sdpa};
use crate::Result;
use candle_core::{D, Tensor};

/// Numbers of heads and of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latents {
    /// Heads.
    pub heads: usize,
    /// Columns of a latent.
    pub rank: usize,
    /// Columns of a key that come from the latent.
    pub nope: usize,
    /// Columns of a key that are turned, the same for all heads.
    pub rope: usize,
    /// Columns of a value.
    pub value: usize,
}

/// Where queries come from.
#[derive(Clone, Debug)]
pub enum Queries {
    /// `q_proj`, `[heads · (nope + rope), d]`
    Direct(Linear),
    /// `q_b_proj(q_a_layernorm(q_a_proj(x)))`
    Low(Linear, Norm, Linear),
}

/// Multi-head latent attention.
#[derive(Clone, Debug)]
pub struct Mla {
    /// Its name in the checkpoint.
    pub name: String,
    /// Numbers of heads and of columns.
    pub sizes: Latents,
    /// Where queries come from.
    pub queries: Queries,
    /// The latent and the turned key of a token, `[rank + rope, d]`.
    pub kv_a_proj_with_mqa: Linear,
    /// Of the latent.
    pub kv_a_layernorm: Norm,
    /// A query's nope columns to the latent's, of each head, `[heads, rank, nope]`: keys are latents times its transpose.
    pub embed_q: ExpertLinear,
    /// Latents to values, of each head, `[heads, value, rank]`.
    pub unembed_out: ExpertLinear,
    /// `[d, heads · value]`
    pub o_proj: Linear,
    /// Of the rope columns.
    pub rope: Rope,
    /// What is done with queries, keys and values.
    pub sdpa: Sdpa,
}

impl Mla {
    /// Of `[b, t, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(&self, x: &Tensor, cx: &Context, cache: &LayerCache) -> Result<Tensor> {
        let (b, t, _) = x.dims3()?;
        let Latents { heads, rank, nope, rope, value } = self.sizes;
        let tables = &cx.tables[self.rope.index];
        let q = match &self.queries {
            Queries::Direct(q) => q.forward(x)?,
            Queries::Low(a, norm, b) => b.forward(&norm.forward(&a.forward(x)?)?)?,
        };
        let q = q.reshape((b, t, heads, nope + rope))?.transpose(1, 2)?;
        let q_nope = q.narrow(D::Minus1, 0, nope)?.contiguous()?;
        let q_rope = self.rope.forward(&q.narrow(D::Minus1, nope, rope)?, tables)?;
        let kv = self.kv_a_proj_with_mqa.forward(x)?;
        let latent = self.kv_a_layernorm.forward(&kv.narrow(D::Minus1, 0, rank)?.contiguous()?)?.unsqueeze(1)?;
        let k_rope = self.rope.forward(&kv.narrow(D::Minus1, rank, rope)?.unsqueeze(1)?, tables)?;
        let remembered = cache.put_latents(Tensor::cat(&[latent, k_rope], D::Minus1)?, cx)?;
        let latents = remembered.narrow(D::Minus1, 0, rank)?;
        let (of_keys, of_values) = (self.embed_q.matrix.dense(x.dtype())?, self.unembed_out.matrix.dense(x.dtype())?);
        let y = if t == 1 {
            // the query goes to the latents, so that nothing is made of those before
            let q = Tensor::cat(&[by_head(&q_nope, &of_keys.t()?)?, q_rope], D::Minus1)?;
            let latents = if x.device().is_cpu() { latents } else { latents.contiguous()? };
            by_head(&self.sdpa.forward(&q, &remembered, &latents, cx)?, &of_values.t()?)?
        } else {
            let (keys, latents) = (latents.dim(2)?, latents.contiguous()?);
            let each = latents.broadcast_as((b, heads, keys, rank))?.contiguous()?;
            let k_rope = remembered.narrow(D::Minus1, rank, rope)?.broadcast_as((b, heads, keys, rope))?;
            let k = Tensor::cat(&[by_head(&each, &of_keys)?, k_rope.contiguous()?], D::Minus1)?;
            let q = Tensor::cat(&[q_nope, q_rope], D::Minus1)?;
            self.sdpa.forward(&q, &k, &by_head(&each, &of_values.t()?)?, cx)?
        };
        self.o_proj.forward(&y.transpose(1, 2)?.contiguous()?.reshape((b, t, heads * value))?)
    }
}

/// `[b, heads, t, k]` times `[heads, k, n]`, head by head.
fn by_head(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (b, heads, t, k) = x.dims4()?;
    let n = w.dim(D::Minus1)?;
    if b == 1 {
        return Ok(x.reshape((heads, t, k))?.matmul(w)?.unsqueeze(0)?);
    }
    let rows = x.transpose(0, 1)?.contiguous()?.reshape((heads, b * t, k))?;
    Ok(rows.matmul(w)?.reshape((heads, b, t, n))?.transpose(0, 1)?.contiguous()?)
}
