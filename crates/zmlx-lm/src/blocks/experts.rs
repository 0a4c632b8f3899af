//! Feed-forward blocks of which a token meets a few: a router, experts, and perhaps one that all tokens meet.

use super::{Activation, Linear, Matrix, Mlp, Route, Router, Swap};
use crate::{Error, Result};
use candle_core::{DType, Module, Tensor};

/// On a GPU up to this many pairs of token and expert get a copy of their weights, without a question to the device.
const FEW: usize = 64;

/// A kernel for tokens `[T, d]` and where they go ↦ `[T, d]`.
pub type ExpertsKernel = dyn Fn(&Experts, &Tensor, &Route) -> Result<Tensor> + Send + Sync;

/// A layer of each expert.
#[derive(Clone, Debug)]
pub struct ExpertLinear {
    /// Its name in the checkpoint.
    pub name: String,
    /// `[E, n, k]`
    pub matrix: Matrix,
    /// `[E, n]`
    pub bias: Option<Tensor>,
}

/// What experts do between their projections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gate {
    /// act(gate) · up
    Plain(Activation),
    /// (up + 1) · g · sigmoid(α · g), with g = min(gate, limit) and up held to ± limit: gpt-oss's.
    Clamped {
        /// Of the sigmoid.
        alpha: f64,
        /// Of both.
        limit: f64,
    },
}

/// down_e(act(gate_e(x)) · up_e(x)) of the experts of each token, weighted and added.
#[derive(Clone, Debug)]
pub struct Experts {
    /// Its name in the checkpoint.
    pub name: String,
    /// `[E, f, d]`
    pub gate_proj: ExpertLinear,
    /// `[E, f, d]`
    pub up_proj: ExpertLinear,
    /// `[E, d, f]`
    pub down_proj: ExpertLinear,
    /// What is between.
    pub gate: Gate,
    /// How many there are.
    pub count: usize,
    /// Part of `moe_mlp`.
    pub kernel: Swap<ExpertsKernel>,
}

/// What all tokens meet beside their experts.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The block.
    pub mlp: Mlp,
    /// Its result is multiplied by sigmoid(gate(x)), `[1, d]`.
    pub gate: Option<Linear>,
}

/// Router, experts and what all tokens meet.
#[derive(Clone, Debug)]
pub struct Moe {
    /// Its name in the checkpoint.
    pub name: String,
    /// Chooses.
    pub router: Router,
    /// Compute.
    pub experts: Experts,
    /// Is added.
    pub shared: Option<Shared>,
}

impl Gate {
    /// Of gate and up, in candle's own operations.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        match *self {
            Gate::Plain(activation) => activation.gated(gate, up),
            Gate::Clamped { alpha, limit } => {
                let gate = gate.minimum(limit)?;
                let up = up.clamp(-limit, limit)?;
                let glu = (&gate * candle_nn::ops::sigmoid(&(&gate * alpha)?)?)?;
                Ok(((up + 1.0)? * glu)?)
            }
        }
    }
}

impl ExpertLinear {
    /// Rows `[R, k]` through one expert.
    fn one(&self, e: usize, x: &Tensor) -> Result<Tensor> {
        let y = match &self.matrix {
            Matrix::Dense(w) => x.matmul(&w.get(e)?.t()?)?,
            Matrix::Affine(w) => {
                let of = |t: &Tensor| t.get(e);
                Matrix::Affine(super::Affine {
                    words: of(&w.words)?,
                    scales: of(&w.scales)?,
                    biases: of(&w.biases)?,
                    bits: w.bits,
                })
                .product(x)?
            }
            Matrix::Blocks(w) => w[e].product.forward(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?,
        };
        match &self.bias {
            Some(b) => Ok(y.broadcast_add(&b.get(e)?)?),
            None => Ok(y),
        }
    }

    /// Row r of `[R, k]` through expert `ids[r]`, each with a copy of its weights.
    fn gathered(&self, x: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let w = match &self.matrix {
            Matrix::Dense(w) => w.index_select(ids, 0)?,
            Matrix::Affine(w) => w.select(ids)?.dequantize_in(x.dtype())?,
            Matrix::Blocks(_) => return Err(Error::argument("experts", "weights", "dense or affine", "blocks")),
        };
        let y = w.matmul(&x.unsqueeze(2)?)?.squeeze(2)?;
        match &self.bias {
            Some(b) => Ok((y + b.index_select(ids, 0)?)?),
            None => Ok(y),
        }
    }
}

impl Experts {
    /// Of tokens `[T, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(&self, x: &Tensor, route: &Route) -> Result<Tensor> {
        match self.kernel.get() {
            Some(kernel) => kernel(self, x, route),
            None => self.plain(x, route),
        }
    }

    /// The path in candle's own operations. It asks the device which experts are met, unless tokens are few.
    ///
    /// # Errors
    /// As [`Experts::forward`].
    pub fn plain(&self, x: &Tensor, route: &Route) -> Result<Tensor> {
        let pairs = route.experts.elem_count();
        let copies = !matches!(self.gate_proj.matrix, Matrix::Blocks(_));
        match !x.device().is_cpu() && pairs <= FEW && copies {
            true => self.by_pair(x, route),
            false => self.by_expert(x, route),
        }
    }

    fn by_pair(&self, x: &Tensor, route: &Route) -> Result<Tensor> {
        let ((tokens, d), (_, k)) = (x.dims2()?, route.experts.dims2()?);
        let ids = route.experts.flatten_all()?;
        let rows = x.unsqueeze(1)?.broadcast_as((tokens, k, d))?.contiguous()?.reshape((tokens * k, d))?;
        let (gate, up) = (self.gate_proj.gathered(&rows, &ids)?, self.up_proj.gathered(&rows, &ids)?);
        let y = self.down_proj.gathered(&self.gate.forward(&gate, &up)?, &ids)?.reshape((tokens, k, d))?;
        Ok(y.broadcast_mul(&route.weights.to_dtype(y.dtype())?.unsqueeze(2)?)?.sum(1)?)
    }

    fn by_expert(&self, x: &Tensor, route: &Route) -> Result<Tensor> {
        let k = route.experts.dim(1)?;
        let mut met: Vec<Vec<u32>> = vec![vec![]; self.count];
        for (pair, e) in route.experts.flatten_all()?.to_vec1::<u32>()?.into_iter().enumerate() {
            let known = met.get_mut(e as usize);
            let pairs =
                known.ok_or_else(|| Error::argument("experts", "expert", format!("below {}", self.count), e))?;
            pairs.push(pair as u32);
        }
        let weights = route.weights.flatten_all()?.to_dtype(x.dtype())?;
        let mut y = x.zeros_like()?;
        for (e, pairs) in met.iter().enumerate().filter(|(_, pairs)| !pairs.is_empty()) {
            let of = |numbers: Vec<u32>| Tensor::new(numbers, x.device());
            let (tokens, pairs) = (of(pairs.iter().map(|p| p / k as u32).collect())?, of(pairs.clone())?);
            let rows = x.index_select(&tokens, 0)?;
            let (gate, up) = (self.gate_proj.one(e, &rows)?, self.up_proj.one(e, &rows)?);
            let part = self.down_proj.one(e, &self.gate.forward(&gate, &up)?)?;
            let part = part.broadcast_mul(&weights.index_select(&pairs, 0)?.unsqueeze(1)?)?;
            y = y.index_add(&tokens, &part, 0)?;
        }
        Ok(y)
    }
}

impl Moe {
    /// Of `[b, t, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let rows = x.reshape((b * t, d))?;
        let mut y = self.experts.forward(&rows, &self.router.forward(&rows)?)?;
        if let Some(shared) = &self.shared {
            let mut part = shared.mlp.forward(&rows)?;
            if let Some(gate) = &shared.gate {
                part = part.broadcast_mul(&candle_nn::ops::sigmoid(&gate.forward(&rows)?)?)?;
            }
            y = (y + part)?;
        }
        Ok(y.reshape((b, t, d))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Affine;
    use candle_core::Device;
    use zmlx::portable::quantize_affine::quantize_affine;

    fn numbers(shape: &[usize], seed: usize) -> Result<Tensor> {
        let n = shape.iter().product();
        let all = (0..n).map(|i| ((i * 31 + seed * 17) % 29) as f32 / 29.0 - 0.5).collect::<Vec<f32>>();
        Ok(Tensor::from_vec(all, shape, &Device::Cpu)?)
    }

    #[test]
    fn experts_by_pair_and_by_expert_give_the_same() -> Result<()> {
        let (count, d, f, tokens, k) = (5, 32, 64, 7, 3);
        let linear = |affine: bool, n: usize, cols: usize, seed: usize| -> Result<ExpertLinear> {
            let w = numbers(&[count, n, cols], seed)?;
            let matrix = match affine {
                false => Matrix::Dense(w),
                true => {
                    let [words, scales, biases] = quantize_affine(&w, 32, 4)?.try_into().expect("three tensors");
                    Matrix::Affine(Affine { words, scales, biases, bits: 4 })
                }
            };
            Ok(ExpertLinear { name: String::new(), matrix, bias: Some(numbers(&[count, n], seed + 1)?) })
        };
        let experts: Vec<u32> = (0..tokens * k).map(|p| ((p / k * 2 + p % k) % count) as u32).collect();
        let route = Route {
            experts: Tensor::from_vec(experts, (tokens, k), &Device::Cpu)?,
            weights: numbers(&[tokens, k], 9)?,
        };
        for (affine, gate) in
            [(false, Gate::Plain(Activation::Silu)), (true, Gate::Clamped { alpha: 1.702, limit: 0.1 })]
        {
            let experts = Experts {
                name: String::new(),
                gate_proj: linear(affine, f, d, 1)?,
                up_proj: linear(affine, f, d, 2)?,
                down_proj: linear(affine, d, f, 3)?,
                gate,
                count,
                kernel: Swap::default(),
            };
            let x = numbers(&[tokens, d], 4)?;
            let off = (experts.by_pair(&x, &route)? - experts.by_expert(&x, &route)?)?.abs()?.max_all()?;
            assert!(off.to_scalar::<f32>()? < 1e-5, "{affine}: {off}");
        }
        Ok(())
    }
}
