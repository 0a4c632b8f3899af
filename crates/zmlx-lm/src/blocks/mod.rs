//! What models are made of. A block holds its weights under their names, computes in plain candle, and has a [`Swap`] for each
//! thing that a kernel may do in its place: `patch` puts one in, and taking it out restores the plain path bit for bit.
//!
//! All models are [`Model`]s: an embedding, layers, a norm and a head. A [`Layer`] mixes tokens ([`Mixer`]) and then works on each
//! ([`FeedForward`]); what differs between model types is in the fields of these.
//!
//! No block asks the device for a number: positions and lengths are tensors, keys and values are written into memory that was
//! there before. So what a decoded token launches is the same from token to token, as a captured graph needs.

mod attention;
mod cache;
mod embedding;
mod experts;
mod layer;
mod linear;
mod mla;
mod mlp;
mod model;
mod norm;
mod rope;
mod router;
mod short_conv;
mod swap;

pub use attention::{Attention, Heads, QkNorm, Sdpa, SdpaKernel};
pub use cache::{Cache, Context, LayerCache};
pub use embedding::Embedding;
pub use experts::{ExpertLinear, Experts, ExpertsKernel, Gate, Moe, Shared};
pub use layer::{Block, FeedForward, Layer, Mixer, Visitor};
pub use linear::{Affine, Blocks, Linear, Matrix};
pub use mla::{Latents, Mla, Queries};
pub use mlp::{Activation, GateKernel, Mlp};
pub use model::{Facts, Model};
pub use norm::{Norm, NormKernel, NormKind, ResidualNormKernel};
pub use rope::{Rope, RopeKernel, RopeTables, rotary_of, rotary_of_layers};
pub use router::{Route, RouteKernel, Router, Rule, Score};
pub use short_conv::ShortConv;
pub use swap::Swap;
