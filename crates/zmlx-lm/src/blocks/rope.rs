//! Rotary position embeddings of queries and keys.

use super::Swap;
use crate::{Config, Result};
use candle_core::{D, Tensor};
use serde_json::Value;
use zmlx::rotary::Rotary;

/// A kernel for x ↦ x turned.
pub type RopeKernel = dyn Fn(&Rope, &Tensor, &RopeTables) -> Result<Tensor> + Send + Sync;

/// Turns the first columns of each head, in pairs, by angles that grow with the position.
#[derive(Clone, Debug)]
pub struct Rope {
    /// The name of its attention.
    pub name: String,
    /// Which of the model's frequencies ([`Model::ropes`](super::Model::ropes)).
    pub index: usize,
    /// Pairs are neighbours, or else a column of the first half with one of the second.
    pub interleaved: bool,
    /// `rope_qk`
    pub kernel: Swap<RopeKernel>,
}

/// Cosines and sines for the tokens of a forward pass.
#[derive(Clone, Debug)]
pub struct RopeTables {
    /// Of all positions, `[capacity, columns / 2]` in f32: cosines, sines.
    pub all: [Tensor; 2],
    /// Of each token, `[b, t]` of u32.
    pub positions: Tensor,
    /// Those of the tokens, `[b, t, columns / 2]` in the dtype of the model: cosines, sines.
    pub rows: [Tensor; 2],
}

impl Rope {
    /// With this attention's name, and the first of the model's frequencies.
    pub fn new(name: &str) -> Rope {
        Rope { name: name.into(), index: 0, interleaved: false, kernel: Swap::default() }
    }

    /// Of queries or keys `[b, h, t, d]`; columns beyond those of the tables stay as they are.
    ///
    /// # Errors
    /// Shapes that do not belong together; what the device says.
    pub fn forward(&self, x: &Tensor, tables: &RopeTables) -> Result<Tensor> {
        match self.kernel.get() {
            Some(kernel) => kernel(self, x, tables),
            None => self.plain(x, tables),
        }
    }

    /// The path in candle's own operations.
    ///
    /// # Errors
    /// As [`Rope::forward`].
    pub fn plain(&self, x: &Tensor, tables: &RopeTables) -> Result<Tensor> {
        let [cos, sin] = &tables.rows;
        let (turned, all) = (2 * cos.dim(D::Minus1)?, x.dim(D::Minus1)?);
        let x = x.contiguous()?;
        if turned < all {
            let first = self.turn(&x.narrow(D::Minus1, 0, turned)?.contiguous()?, cos, sin)?;
            return Ok(Tensor::cat(&[&first, &x.narrow(D::Minus1, turned, all - turned)?], D::Minus1)?);
        }
        self.turn(&x, cos, sin)
    }

    fn turn(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        // candle's fused operations have no gradient
        if !x.track_op() {
            return Ok(match self.interleaved {
                true => candle_nn::rotary_emb::rope_i(x, cos, sin)?,
                false => candle_nn::rotary_emb::rope(x, cos, sin)?,
            });
        }
        let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
        let half = cos.dim(D::Minus1)?;
        let (b, h, t, d) = x.dims4()?;
        let (first, second) = match self.interleaved {
            true => {
                let pairs = x.reshape((b, h, t, half, 2))?;
                (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?)
            }
            false => (x.narrow(3, 0, half)?, x.narrow(3, half, half)?),
        };
        let left = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
        let right = (first.broadcast_mul(&sin)? + second.broadcast_mul(&cos)?)?;
        Ok(match self.interleaved {
            true => Tensor::stack(&[left, right], 4)?.reshape((b, h, t, d))?,
            false => Tensor::cat(&[left, right], 3)?,
        })
    }
}

/// The frequencies that a configuration states for `dim` columns: `rope_theta` with `rope_scaling`, or both as `rope_parameters`.
///
/// # Errors
/// A kind of scaling that is not known, or one whose numbers are missing.
pub fn rotary_of(config: &Config, dim: usize) -> Result<Rotary> {
    let both = config.get("rope_parameters");
    let scaling = config.get("rope_scaling").or(both);
    let theta = both.and_then(|p| p.get("rope_theta")).or(config.get("rope_theta")).map_or(Some(1e4), Value::as_f64);
    let theta = theta.ok_or_else(|| config.wrong("rope_theta", "a number", "something else"))?;
    scaled(config, Rotary::new(dim, theta), scaling)
}

/// The same of the layers of a type, where types have their own: Gemma 3's. `rope_parameters` then has an entry a type; before
/// there were such, `rope_theta` and `rope_scaling` were those of `full_attention`, `rope_local_base_freq` that of the others.
///
/// # Errors
/// As [`rotary_of`].
pub fn rotary_of_layers(config: &Config, dim: usize, layer_type: &str, otherwise: f64) -> Result<Rotary> {
    let own = config.get("rope_parameters").and_then(|p| p.get(layer_type));
    let full = layer_type == "full_attention";
    let old = if full { "rope_theta" } else { "rope_local_base_freq" };
    let theta = own.and_then(|p| p.get("rope_theta")).or(config.get(old)).map_or(Some(otherwise), Value::as_f64);
    let theta = theta.ok_or_else(|| config.wrong(old, "a number", "something else"))?;
    scaled(config, Rotary::new(dim, theta), own.or(config.get("rope_scaling").filter(|_| full)))
}

/// Frequencies stretched as `rope_scaling` says.
fn scaled(config: &Config, plain: Rotary, scaling: Option<&Value>) -> Result<Rotary> {
    let Some(scaling) = scaling else { return Ok(plain) };
    let number = |field: &str, otherwise: Option<f64>| {
        let value = scaling.get(field).filter(|v| !v.is_null());
        let found = value.map_or(otherwise, Value::as_f64);
        found.ok_or_else(|| config.wrong(&format!("rope_scaling.{field}"), "a number", value.unwrap_or(&Value::Null)))
    };
    let original = || -> Result<f64> {
        let whole = config.get("max_position_embeddings").and_then(Value::as_f64);
        number("original_max_position_embeddings", whole)
    };
    let kind = scaling.get("rope_type").or(scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
    match kind {
        "default" => Ok(plain),
        "linear" => Ok(plain.linear(number("factor", None)?)),
        "llama3" => {
            let (low, high) = (number("low_freq_factor", None)?, number("high_freq_factor", None)?);
            Ok(plain.llama3(number("factor", None)?, low, high, original()? as usize))
        }
        "yarn" => {
            let (fast, slow) = (number("beta_fast", Some(32.0))?, number("beta_slow", Some(1.0))?);
            let (factor, original) = (number("factor", None)?, original()? as usize);
            let yarn = match scaling.get("truncate").and_then(Value::as_bool) {
                Some(false) => plain.yarn_untruncated(factor, fast, slow, original),
                _ => plain.yarn(factor, fast, slow, original),
            };
            // DeepSeek's two factors; one is part of the scores' scale
            let grown = |m: f64| if factor > 1.0 { 0.1 * m * factor.ln() + 1.0 } else { 1.0 };
            let (mscale, all) = (number("mscale", Some(0.0))?, number("mscale_all_dim", Some(0.0))?);
            Ok(match number("attention_factor", Some(f64::NAN))? {
                stated if !stated.is_nan() => yarn.with_scale(stated),
                _ if mscale != 0.0 && all != 0.0 => yarn.with_scale(grown(mscale) / grown(all)),
                _ => yarn,
            })
        }
        other => Err(config.wrong("rope_scaling.rope_type", "default, linear, llama3 or yarn", other)),
    }
}
