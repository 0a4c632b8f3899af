//! Which experts a token goes to, and what weights their results get.

use super::{Linear, Swap};
use crate::{Config, Result};
use candle_core::{D, DType, Tensor};

/// A kernel for tokens `[T, d]` ↦ experts and weights.
pub type RouteKernel = dyn Fn(&Router, &Tensor) -> Result<Route> + Send + Sync;

/// How logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Of all experts.
    Softmax,
    /// Of the chosen experts alone.
    SoftmaxOfChosen,
    /// Each by itself.
    Sigmoid,
}

/// The rule of a model type, with the numbers of its configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// `num_experts_per_tok`
    pub top_k: usize,
    /// How logits become scores.
    pub score: Score,
    /// `norm_topk_prob`: weights are divided by their sum and this.
    pub norm: Option<f64>,
    /// `n_group`, `topk_group`: only experts of the best groups are chosen, by the sum of their best two.
    pub groups: Option<(usize, usize)>,
    /// `routed_scaling_factor`
    pub scaling: f64,
}

impl Rule {
    /// By the softmax of all logits: `norm` says whether the weights are divided by their sum.
    pub fn softmax(top_k: usize, norm: bool) -> Rule {
        Rule { top_k, score: Score::Softmax, norm: norm.then_some(0.0), groups: None, scaling: 1.0 }
    }

    /// Holds it to what can be chosen among so many experts.
    ///
    /// # Errors
    /// More than there are, groups that do not divide them, or too few of them.
    pub fn fits(&self, config: &Config, experts: usize) -> Result<()> {
        config.within("num_experts_per_tok", self.top_k, 1..=experts)?;
        let Some((groups, best)) = self.groups else { return Ok(()) };
        config.multiple(("number of experts", experts), ("n_group", groups))?;
        config.within("topk_group", best, self.top_k.div_ceil(experts / groups)..=groups)
    }
}

/// Chooses experts.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its name in the checkpoint.
    pub name: String,
    /// `[E, d]`
    pub gate: Linear,
    /// Added to scores for the choice alone, `[E]` in f32.
    pub correction: Option<Tensor>,
    /// The rule.
    pub rule: Rule,
    /// Part of `moe_mlp`.
    pub kernel: Swap<RouteKernel>,
}

/// Where tokens go.
#[derive(Clone, Debug)]
pub struct Route {
    /// `[T, k]` of u32, no expert twice in a row.
    pub experts: Tensor,
    /// `[T, k]` in f32; in f64 for tokens of f64.
    pub weights: Tensor,
}

impl Router {
    /// Of tokens `[T, d]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn forward(&self, x: &Tensor) -> Result<Route> {
        match self.kernel.get() {
            Some(kernel) => kernel(self, x),
            None => self.plain(x),
        }
    }

    /// The path in candle's own operations.
    ///
    /// # Errors
    /// As [`Router::forward`].
    pub fn plain(&self, x: &Tensor) -> Result<Route> {
        let logits = self.gate.forward(x)?;
        let logits = if logits.dtype() == DType::F64 { logits } else { logits.to_dtype(DType::F32)? };
        let rule = &self.rule;
        let scores = match rule.score {
            Score::Softmax => candle_nn::ops::softmax(&logits, D::Minus1)?,
            Score::SoftmaxOfChosen => logits,
            Score::Sigmoid => candle_nn::ops::sigmoid(&logits)?,
        };
        let mut choice = scores.detach();
        if let Some(correction) = &self.correction {
            choice = choice.broadcast_add(&correction.to_dtype(choice.dtype())?)?;
        }
        // candle cannot sort NaN; it stays in the scores, where the sampler reports it
        let never = Tensor::new(f32::NEG_INFINITY, choice.device())?.to_dtype(choice.dtype())?;
        choice = choice.eq(&choice)?.where_cond(&choice, &never.broadcast_as(choice.shape())?)?;
        if let Some((groups, best)) = rule.groups.filter(|(groups, best)| best < groups) {
            choice = in_best_groups(&choice, groups, best)?;
        }
        let experts = top(&choice, rule.top_k)?;
        let mut weights = scores.gather(&experts, D::Minus1)?;
        if rule.score == Score::SoftmaxOfChosen {
            weights = candle_nn::ops::softmax(&weights, D::Minus1)?;
        }
        if let Some(eps) = rule.norm {
            weights = weights.broadcast_div(&(weights.sum_keepdim(D::Minus1)? + eps)?)?;
        }
        if rule.scaling != 1.0 {
            weights = (weights * rule.scaling)?;
        }
        Ok(Route { experts, weights })
    }
}

/// The columns of the k largest numbers of each row, the largest first.
fn top(x: &Tensor, k: usize) -> Result<Tensor> {
    Ok(x.contiguous()?.arg_sort_last_dim(false)?.narrow(D::Minus1, 0, k)?.contiguous()?)
}

/// Scores of experts outside of the best groups become −∞, as DeepSeek has it.
fn in_best_groups(choice: &Tensor, groups: usize, best: usize) -> Result<Tensor> {
    let (rows, count) = choice.dims2()?;
    let by_group = choice.reshape((rows, groups, count / groups))?;
    let two = top(&by_group, 2.min(count / groups))?;
    let sums = by_group.contiguous()?.gather(&two, D::Minus1)?.sum(D::Minus1)?;
    let chosen = top(&sums, best)?;
    let ones = chosen.ones_like()?.to_dtype(choice.dtype())?;
    let among = sums.zeros_like()?.scatter_add(&chosen, &ones, D::Minus1)?.unsqueeze(2)?;
    let among = among.broadcast_as(by_group.shape())?.ne(0f64)?;
    let never =
        Tensor::new(f32::NEG_INFINITY, choice.device())?.to_dtype(choice.dtype())?.broadcast_as(by_group.shape())?;
    Ok(among.where_cond(&by_group, &never)?.reshape((rows, count))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_that_are_nan_choose_experts_and_keep_their_weights() -> Result<()> {
        let weight = Tensor::ones((40, 2), DType::F32, &candle_core::Device::Cpu)?;
        let gate = Linear { name: String::new(), matrix: super::super::Matrix::Dense(weight), bias: None };
        for groups in [None, Some((4, 2))] {
            let rule = Rule { top_k: 3, score: Score::Sigmoid, norm: None, groups, scaling: 1.0 };
            let router =
                Router { name: String::new(), gate: gate.clone(), correction: None, rule, kernel: Swap::default() };
            let route = router.plain(&Tensor::new(&[[f32::NAN, 1.0], [1.0, 1.0]], &candle_core::Device::Cpu)?)?;
            let weights = route.weights.to_vec2::<f32>()?;
            assert!(weights[0].iter().all(|w| w.is_nan()) && weights[1].iter().all(|w| w.is_finite()));
        }
        Ok(())
    }
}
