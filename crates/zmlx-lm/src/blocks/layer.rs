//! A layer: something that mixes tokens and something that works on each, both behind a norm and beside a path that skips them.

use super::{
    Attention, Context, Embedding, ExpertLinear, Experts, LayerCache, Linear, Mla, Mlp, Moe, Norm, QkNorm, Queries,
};
use super::{Rope, Router, Sdpa, ShortConv};
use crate::Result;
use candle_core::{DType, Device, Tensor};

/// What mixes tokens.
#[derive(Clone, Debug)]
pub enum Mixer {
    /// Attention.
    Attention(Attention),
    /// Attention over latents.
    Mla(Mla),
    /// A convolution over a few tokens.
    ShortConv(ShortConv),
}

/// What works on each token.
#[derive(Clone, Debug)]
pub enum FeedForward {
    /// One for all.
    Mlp(Box<Mlp>),
    /// A few of many.
    Moe(Box<Moe>),
}

impl From<Attention> for Mixer {
    fn from(attention: Attention) -> Mixer {
        Mixer::Attention(attention)
    }
}

impl From<Mla> for Mixer {
    fn from(mla: Mla) -> Mixer {
        Mixer::Mla(mla)
    }
}

impl From<ShortConv> for Mixer {
    fn from(conv: ShortConv) -> Mixer {
        Mixer::ShortConv(conv)
    }
}

impl From<Mlp> for FeedForward {
    fn from(mlp: Mlp) -> FeedForward {
        FeedForward::Mlp(Box::new(mlp))
    }
}

impl From<Moe> for FeedForward {
    fn from(moe: Moe) -> FeedForward {
        FeedForward::Moe(Box::new(moe))
    }
}

/// h = x + mixer(norm(x)), y = h + feed_forward(norm(h)); where a norm stands behind a part, its result is normed before it is added.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Before the mixer.
    pub mixer_norm: Norm,
    /// Mixes tokens.
    pub mixer: Mixer,
    /// Behind the mixer.
    pub after_mixer: Option<Norm>,
    /// Before the second part.
    pub feed_forward_norm: Norm,
    /// Works on each token.
    pub feed_forward: FeedForward,
    /// Behind the second part.
    pub after_feed_forward: Option<Norm>,
}

/// A block of a model, to look at or to change.
pub enum Block<'a> {
    /// Rows by token.
    Embedding(&'a mut Embedding),
    /// A product with weights.
    Linear(&'a mut Linear),
    /// The same of each expert.
    ExpertLinear(&'a mut ExpertLinear),
    /// A norm.
    Norm(&'a mut Norm),
    /// Rotary embeddings of an attention.
    Rope(&'a mut Rope),
    /// The products of an attention.
    Sdpa(&'a mut Sdpa),
    /// The taps of a short convolution.
    Taps(&'a mut ShortConv),
    /// A gated block.
    Mlp(&'a mut Mlp),
    /// Chooses experts.
    Router(&'a mut Router),
    /// Experts.
    Experts(&'a mut Experts),
}

/// Sees every block of a model, in the order of the data.
pub type Visitor<'v> = dyn FnMut(Block<'_>) + 'v;

impl Block<'_> {
    /// The name in the checkpoint.
    pub fn name(&self) -> &str {
        match self {
            Block::Embedding(b) => &b.name,
            Block::Linear(b) => &b.name,
            Block::ExpertLinear(b) => &b.name,
            Block::Norm(b) => &b.name,
            Block::Rope(b) => &b.name,
            Block::Sdpa(b) => &b.name,
            Block::Taps(b) => &b.name,
            Block::Mlp(b) => &b.name,
            Block::Router(b) => &b.name,
            Block::Experts(b) => &b.name,
        }
    }
}

impl Layer {
    /// Of `[b, t, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(&self, x: &Tensor, cx: &Context, cache: &LayerCache) -> Result<Tensor> {
        let mut mixed = self.mixer.forward(&self.mixer_norm.forward(x)?, cx, cache)?;
        if let Some(norm) = &self.after_mixer {
            mixed = norm.forward(&mixed)?;
        }
        let (normed, h) = self.feed_forward_norm.after(&mixed, x)?;
        let mut y = match &self.feed_forward {
            FeedForward::Mlp(mlp) => mlp.forward(&normed)?,
            FeedForward::Moe(moe) => moe.forward(&normed)?,
        };
        if let Some(norm) = &self.after_feed_forward {
            y = norm.forward(&y)?;
        }
        Ok((h + y)?)
    }

    /// Shows every block.
    pub fn visit(&mut self, f: &mut Visitor<'_>) {
        f(Block::Norm(&mut self.mixer_norm));
        self.mixer.visit(f);
        self.after_mixer.iter_mut().for_each(|n| f(Block::Norm(n)));
        f(Block::Norm(&mut self.feed_forward_norm));
        match &mut self.feed_forward {
            FeedForward::Mlp(mlp) => visit_mlp(mlp, f),
            FeedForward::Moe(moe) => {
                f(Block::Router(&mut moe.router));
                f(Block::Linear(&mut moe.router.gate));
                f(Block::Experts(&mut moe.experts));
                let Experts { gate_proj, up_proj, down_proj, .. } = &mut moe.experts;
                [gate_proj, up_proj, down_proj].into_iter().for_each(|l| f(Block::ExpertLinear(l)));
                if let Some(shared) = &mut moe.shared {
                    visit_mlp(&mut shared.mlp, f);
                    shared.gate.iter_mut().for_each(|l| f(Block::Linear(l)));
                }
            }
        }
        self.after_feed_forward.iter_mut().for_each(|n| f(Block::Norm(n)));
    }
}

fn visit_mlp(mlp: &mut Mlp, f: &mut Visitor<'_>) {
    f(Block::Mlp(mlp));
    let Mlp { gate_proj, up_proj, down_proj, .. } = mlp;
    [gate_proj, up_proj, down_proj].into_iter().for_each(|l| f(Block::Linear(l)));
}

impl Mixer {
    fn forward(&self, x: &Tensor, cx: &Context, cache: &LayerCache) -> Result<Tensor> {
        match self {
            Mixer::Attention(attention) => attention.forward(x, cx, cache),
            Mixer::Mla(mla) => mla.forward(x, cx, cache),
            Mixer::ShortConv(conv) => conv.forward(x, cx, cache),
        }
    }

    /// What it remembers of `batch` texts of `capacity` tokens.
    ///
    /// # Errors
    /// Memory that is not there.
    pub fn cache(&self, batch: usize, capacity: usize, dtype: DType, device: &Device) -> Result<LayerCache> {
        match self {
            Mixer::Attention(a) => {
                LayerCache::keys_values([batch, a.heads.kv, capacity], [a.heads.dim; 2], dtype, device)
            }
            Mixer::Mla(mla) => {
                let row = mla.sizes.rank + mla.sizes.rope;
                Ok(LayerCache::Latents(Tensor::zeros((batch, 1, capacity, row), dtype, device)?))
            }
            Mixer::ShortConv(conv) => {
                let (width, d) = conv.weight.dims2()?;
                Ok(LayerCache::Inputs(Tensor::zeros((batch, 1, width - 1 + capacity, d), dtype, device)?))
            }
        }
    }

    fn visit(&mut self, f: &mut Visitor<'_>) {
        match self {
            Mixer::Attention(a) => {
                for linear in [&mut a.q_proj, &mut a.k_proj, &mut a.v_proj, &mut a.o_proj] {
                    f(Block::Linear(linear));
                }
                if let Some(QkNorm::Head(norms) | QkNorm::All(norms)) = &mut a.qk_norm {
                    norms.iter_mut().for_each(|n| f(Block::Norm(n)));
                }
                a.rope.iter_mut().for_each(|r| f(Block::Rope(r)));
                f(Block::Sdpa(&mut a.sdpa));
            }
            Mixer::Mla(a) => {
                match &mut a.queries {
                    Queries::Direct(q) => f(Block::Linear(q)),
                    Queries::Low(first, norm, second) => {
                        f(Block::Linear(first));
                        f(Block::Norm(norm));
                        f(Block::Linear(second));
                    }
                }
                f(Block::Linear(&mut a.kv_a_proj_with_mqa));
                f(Block::Norm(&mut a.kv_a_layernorm));
                f(Block::ExpertLinear(&mut a.embed_q));
                f(Block::ExpertLinear(&mut a.unembed_out));
                f(Block::Linear(&mut a.o_proj));
                f(Block::Rope(&mut a.rope));
                f(Block::Sdpa(&mut a.sdpa));
            }
            Mixer::ShortConv(conv) => {
                f(Block::Linear(&mut conv.in_proj));
                f(Block::Taps(conv));
                f(Block::Linear(&mut conv.out_proj));
            }
        }
    }
}
