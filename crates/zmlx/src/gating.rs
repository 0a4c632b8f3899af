//! Which experts a token goes to, and with which weights: the rules of the models that there are, each one formula of a row.
//!
//! Groups of experts are the exception: how good a group is takes a launch of its own, whose rows are the groups, and scores
//! that are a softmax over all experts are made before it.

use crate::{Error, Op, Result, bridge, catalog, entry::with_names, rowwise, stats};
use candle_core::{D, DType, Tensor};
use zmlx_runtime::list::List;

/// How a logit becomes the score of an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// The softmax of the token's logits.
    Softmax,
    /// The sigmoid of each logit.
    Sigmoid,
}

/// Experts in groups of equal size, of which a token reaches the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Groups {
    count: usize,
    chosen: usize,
    /// A group is as good as the sum of so many of its largest scores.
    best: usize,
}

/// The gate of a mixture of experts. What models call for:
///
/// | model                     | gate                                                                                     |
/// |---------------------------|------------------------------------------------------------------------------------------|
/// | Mixtral, gpt-oss          | `Gating::new(k)`: the softmax of the chosen logits                                       |
/// | Qwen3-MoE                 | the same, `.renormalise(norm_topk_prob)`                                                 |
/// | Qwen2-MoE, OLMoE          | `Gating::new(k).renormalise(norm_topk_prob)`, which is false there                       |
/// | DeepSeek-V2               | `….renormalise(false).groups_by_largest(n_group, topk_group).scale(routed_scaling_factor)` |
/// | DeepSeek-V3, GLM-4.5, 4.7 | `Gating::new(k).scoring(Scoring::Sigmoid).bias(&b).groups(n_group, topk_group).renormalise(norm_topk_prob).scale(routed_scaling_factor)` |
/// | LFM2-MoE                  | the same without groups; there the sum has 10⁻⁶ added                                    |
/// | ERNIE 4.5                 | `Gating::new(k).bias(&b)`                                                                |
///
/// Of equal scores the lower index is chosen; there are always exactly k experts, the best first.
#[derive(Clone, Debug)]
pub struct Gating {
    k: usize,
    scoring: Scoring,
    bias: Option<Tensor>,
    groups: Option<Groups>,
    renormalise: bool,
    scale: f64,
}

const NAME: &str = "top_k_gating";
/// Most experts of a token, and most groups.
const MOST: usize = zmlx_ir::program::RANKS as usize;
const MOST_GROUPS: usize = 16;

impl Gating {
    /// `k` experts a token, by softmax, with weights that sum to 1.
    pub fn new(k: usize) -> Gating {
        Gating { k, scoring: Scoring::Softmax, bias: None, groups: None, renormalise: true, scale: 1.0 }
    }
    /// How a logit becomes a score.
    #[must_use]
    pub fn scoring(self, scoring: Scoring) -> Gating {
        Gating { scoring, ..self }
    }
    /// Is added to the scores for the choice of experts, and takes no part in their weights. It has no gradient.
    #[must_use]
    pub fn bias(self, bias: &Tensor) -> Gating {
        Gating { bias: Some(bias.detach()), ..self }
    }
    /// Experts only of the `chosen` best of `count` groups; a group is as good as its two largest scores together. (An expert of
    /// another group is never chosen, as in DeepSeek's own code; in transformers it is where the chosen groups have fewer
    /// than k positive scores.)
    #[must_use]
    pub fn groups(self, count: usize, chosen: usize) -> Gating {
        Gating { groups: Some(Groups { count, chosen, best: 2 }), ..self }
    }
    /// The same, where a group is as good as its largest score.
    #[must_use]
    pub fn groups_by_largest(self, count: usize, chosen: usize) -> Gating {
        Gating { groups: Some(Groups { count, chosen, best: 1 }), ..self }
    }
    /// Are the weights divided by their sum? They are, unless this says otherwise.
    #[must_use]
    pub fn renormalise(self, renormalise: bool) -> Gating {
        Gating { renormalise, ..self }
    }
    /// A factor of all weights.
    #[must_use]
    pub fn scale(self, scale: f64) -> Gating {
        Gating { scale, ..self }
    }

    /// Weights and experts [.., k] of `logits` [.., E]: one launch, with groups one more (by softmax two). Weights have the dtype
    /// of the logits; with a bias or groups they are f32.
    ///
    /// # Errors
    /// No such k, groups that do not divide the experts or have fewer than k, a bias that is not `[E]`.
    pub fn route(&self, logits: &Tensor) -> Result<(Tensor, Tensor)> {
        let experts = logits.dims().last().copied().unwrap_or(0);
        let most = experts.min(MOST);
        if self.k == 0 || self.k > most {
            return Err(Error::argument(NAME, "k", format!("1 to {most}, for {experts} experts"), self.k));
        }
        if let Some(b) = self.bias.as_ref().filter(|b| b.dims() != [experts] || !b.dtype().is_float()) {
            return Err(Error::shape(NAME, "bias", format!("[{experts}] of floats, one an expert"), b.dims()));
        }
        // all groups are no groups
        let groups = self.groups.filter(|g| g.count != g.chosen || g.count == 0);
        if let Some(g) = groups {
            self.check(g, experts)?;
        }
        let score = match (self.scoring, groups) {
            (Scoring::Sigmoid, _) => Score::Sigmoid,
            (Scoring::Softmax, None) => Score::Softmax,
            (Scoring::Softmax, Some(_)) => Score::Given,
        };
        let x = if score == Score::Given { &softmax(logits)? } else { logits };
        let scores = groups.map(|g| group_scores(x, self.bias.as_ref(), g, score)).transpose()?;
        let rule = Rule {
            k: self.k,
            score,
            bias: self.bias.is_some(),
            groups: groups.map(|g| (g.count, g.chosen)),
            renormalise: self.renormalise,
            scaled: self.scale != 1.0,
        };
        let mut results = if bridge::runs_on(x.device()) {
            let inputs: Vec<&Tensor> = std::iter::once(x).chain(&self.bias).chain(&scores).collect();
            match rule.op()? {
                op if rule.scaled => op.with("scale", self.scale).call_all(&inputs[..])?,
                op => op.call_all(&inputs[..])?,
            }
        } else {
            stats::count_fallback();
            rule.plain(x, self.bias.as_ref(), scores.as_ref(), self.scale)?
        };
        let chosen = results.swap_remove(1);
        Ok((results.swap_remove(0), chosen))
    }

    fn check(&self, g: Groups, experts: usize) -> Result<()> {
        let Groups { count, chosen, best } = g;
        if !(1..=MOST_GROUPS).contains(&count) || !experts.is_multiple_of(count) || experts / count < best {
            let expected =
                format!("1 to {MOST_GROUPS}, of equal size and {best} experts at least, for {experts} experts");
            return Err(Error::argument(NAME, "groups", expected, count));
        }
        let least = self.k.div_ceil(experts / count);
        if !(least..=count).contains(&chosen) {
            let expected = format!("{least} to {count}, for {} experts of {} a group", self.k, experts / count);
            return Err(Error::argument(NAME, "chosen groups", expected, chosen));
        }
        Ok(())
    }
}

/// How scores are made of x in a formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    Softmax,
    Sigmoid,
    /// x is the scores.
    Given,
}

impl Score {
    /// The score of a value of the row. A softmax is relative to `m` and divided by `z`.
    fn of(self, value: &str) -> String {
        match self {
            Score::Softmax => format!("exp({value} - m) / z"),
            Score::Sigmoid => format!("sigmoid({value})"),
            Score::Given => value.into(),
        }
    }
    fn plain(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Score::Softmax => {
                let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
                e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
            }
            Score::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
            Score::Given => Ok(x.clone()),
        }
    }
}

/// What a formula of a gate depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub k: usize,
    pub score: Score,
    pub bias: bool,
    /// How many there are, and how many of them a token reaches.
    pub groups: Option<(usize, usize)>,
    pub renormalise: bool,
    pub scaled: bool,
}

fn joined(count: usize, by: &str, term: impl Fn(usize) -> String) -> String {
    (0..count).map(term).collect::<Vec<_>>().join(by)
}

impl Rule {
    /// The formula of x, the bias b, scores of groups g0, g1 … and scale.
    pub fn formula(&self) -> String {
        let Rule { k, score, .. } = *self;
        // the largest scores are those of the largest logits, unless something else has a say
        let by_column = self.bias || self.groups.is_some();
        if !by_column && self.renormalise && score == Score::Softmax {
            return self.softmax_of_chosen();
        }
        let (mut lets, dtype) = (String::new(), if by_column { ": f32" } else { "" });
        if score == Score::Softmax {
            let top = if by_column { "max(x)" } else { "top(x, 0)" };
            lets = format!("let m = {top}; let z = sum(exp(x - m)); ");
        }
        let (value, experts): (fn(usize) -> String, _) = if by_column {
            let bias = if self.bias { " + b" } else { "" };
            let own = format!("{}{bias}", score.of("x"));
            let reached = match self.groups {
                None => own,
                Some((count, chosen)) => {
                    lets += &reached(count, chosen);
                    format!("((groups >> i32(col / (cols / {count}))) & 1) != 0 ? {own} : -INFINITY")
                }
            };
            lets += &format!("let s = {reached}; ");
            (|j| format!("x[argtop(s, {j})]"), format!("argtop_k(s, {k})"))
        } else {
            (|j| format!("top(x, {j})"), format!("argtop_k(x, {k})"))
        };
        lets += &joined(k, "", |j| format!("let w{j} = {}; ", score.of(&value(j))));
        let by = match (self.renormalise, self.scaled) {
            (true, scaled) => {
                let scale = if scaled { " / scale" } else { "" };
                lets += &format!("let n = ({} + 1e-20){scale}; ", joined(k, " + ", |j| format!("w{j}")));
                " / n"
            }
            (false, true) => " * scale",
            (false, false) => "",
        };
        let weights = joined(k, ", ", |j| format!("w{j}{by}"));
        format!("{lets}out weights{dtype} = stack({weights}); out experts = {experts}")
    }

    /// What the others add to a softmax cancels.
    fn softmax_of_chosen(&self) -> String {
        let k = self.k;
        let lets: String = (1..k).map(|j| format!("let e{j} = exp(top(x, {j}) - top(x, 0)); ")).collect();
        let sum: String = (1..k).map(|j| format!(" + e{j}")).collect();
        let weights: String = (1..k).map(|j| format!(", e{j} / s")).collect();
        let scale = if self.scaled { " / scale" } else { "" };
        let s = match k {
            // an expert without others has all the weight, whatever its logit but NaN
            1 => format!("let t = top(x, 0); let s = (isnan(t) ? t : 1){scale}; "),
            _ if self.scaled => format!("let s = (1{sum}){scale}; "),
            _ => format!("let s = 1{sum}; "),
        };
        format!("{lets}{s}out weights = stack(1 / s{weights}); out experts = argtop_k(x, {k})")
    }

    /// The operation, built at its first use. Inputs: x, the bias, the scores of groups [.., groups].
    fn op(&self) -> Result<&'static Op> {
        static OPS: List<(Rule, Op)> = List::new();
        Ok(&OPS.get_or_try_add(|(rule, _)| rule == self, || Ok::<_, Error>((*self, self.built()?)))?.1)
    }

    fn built(&self) -> Result<Op> {
        let groups: Vec<String> = (0..self.groups.map_or(0, |g| g.0)).map(|i| format!("g{i}")).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let names = ["x"].into_iter().chain(self.bias.then_some("b")).chain(groups.iter().copied());
        let names = names.chain(self.scaled.then_some("scale"));
        let mut op = rowwise(with_names(names, &self.formula())?)?.name(NAME);
        if self.scaled {
            op = op.uniform("scale", 1.0);
        }
        for g in &groups {
            op = op.row(g);
        }
        if !groups.is_empty() {
            op = op.parts("groups", &groups, false);
        }
        op.build()
    }

    /// The same in plain candle ops.
    pub fn plain(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        groups: Option<&Tensor>,
        scale: f64,
    ) -> candle_core::Result<Vec<Tensor>> {
        let (score, by_column) = (self.score.plain(x)?, bias.is_some() || groups.is_some());
        let mut choice = if by_column { score.clone() } else { x.clone() };
        if let Some(b) = bias {
            choice = choice.broadcast_add(&b.to_dtype(choice.dtype())?)?;
        }
        if let (Some(g), Some((count, chosen))) = (groups, self.groups) {
            choice = of_reached(&choice, g, count, chosen)?;
        }
        let order = choice.detach().contiguous()?.arg_sort_last_dim(false)?;
        let experts = order.narrow(D::Minus1, 0, self.k)?.contiguous()?;
        let mut weights = if by_column || !self.renormalise || self.score != Score::Softmax {
            score.contiguous()?.gather(&experts, D::Minus1)?
        } else {
            Score::Softmax.plain(&x.contiguous()?.gather(&experts, D::Minus1)?)?
        };
        if self.renormalise {
            weights = weights.broadcast_div(&(weights.sum_keepdim(D::Minus1)? + 1e-20)?)?;
        }
        let weights = if by_column && weights.dtype() != DType::F64 { weights.to_dtype(DType::F32)? } else { weights };
        Ok(vec![(weights * scale)?, experts])
    }
}

/// Bit i says that the token reaches group i: fewer than `chosen` are better, of equals the first.
fn reached(count: usize, chosen: usize) -> String {
    // NaN is better than all, as it is of experts
    let key: String = (0..count).map(|i| format!("let h{i} = isnan(g{i}) ? INFINITY : g{i}; ")).collect();
    let better = |i: usize| {
        let than = |j: usize| if j < i { format!("i32(h{j} >= h{i})") } else { format!("i32(h{j} > h{i})") };
        (0..count).filter(|j| *j != i).map(than).collect::<Vec<_>>().join(" + ")
    };
    let bits = joined(count, " | ", |i| format!("(i32({} < {chosen}) << {i})", better(i)));
    format!("{key}let groups = {bits}; ")
}

/// What is not of a group that is reached becomes −∞.
fn of_reached(choice: &Tensor, scores: &Tensor, count: usize, chosen: usize) -> candle_core::Result<Tensor> {
    let cols = choice.dim(D::Minus1)?;
    let order = scores.contiguous()?.arg_sort_last_dim(false)?.narrow(D::Minus1, 0, chosen)?.to_dtype(DType::F64)?;
    // columns behind the last group are of none
    let group = |c: usize| c.checked_div(cols / count).unwrap_or(0);
    let of_column: Vec<f64> = (0..cols).map(|c| group(c) as f64).collect();
    let of_column = Tensor::new(&of_column[..], choice.device())?;
    let mut member = choice.zeros_like()?.to_dtype(DType::U8)?;
    for c in 0..chosen {
        let this = order.narrow(D::Minus1, c, 1)?.broadcast_eq(&of_column.expand(choice.shape())?)?;
        member = (member + this)?;
    }
    let nothing = Tensor::new(f64::NEG_INFINITY, choice.device())?.to_dtype(choice.dtype())?.expand(choice.shape())?;
    member.where_cond(choice, &nothing)
}

/// The softmax of a row, in f32.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let wide = if x.dtype() == DType::F64 { x.clone() } else { x.to_dtype(DType::F32)? };
    catalog::softmax::softmax(&wide)
}

/// How good each group is, [.., groups].
fn group_scores(x: &Tensor, bias: Option<&Tensor>, g: Groups, score: Score) -> Result<Tensor> {
    type Key = (Score, bool, usize);
    static OPS: List<(Key, Op)> = List::new();
    let last = x.rank() - 1;
    let each = x.dims()[last] / g.count;
    // the choice has no gradient
    let x = x.detach().reshape([&x.dims()[..last], &[g.count, each]].concat())?;
    let bias = bias.map(|b| b.reshape((g.count, each))).transpose()?;
    if !bridge::runs_on(x.device()) {
        stats::count_fallback();
        return Ok(plain_group_scores(&x, bias.as_ref(), g.best, score)?);
    }
    let key = (score, bias.is_some(), g.best);
    let make = || {
        let names = ["x"].into_iter().chain(bias.is_some().then_some("b"));
        let formula = with_names(names, &group_formula(score, bias.is_some(), g.best))?;
        Ok::<_, Error>((key, rowwise(formula)?.name(catalog::expert_group_scores::ENTRY.name).no_grad().build()?))
    };
    let (_, op) = OPS.get_or_try_add(|(k, _)| *k == key, make)?;
    let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&bias).collect();
    op.call(&inputs[..])
}

/// The formula of a row, which is a group.
pub(crate) fn group_formula(score: Score, bias: bool, best: usize) -> String {
    let bias = if bias { " + b" } else { "" };
    let sum = joined(best, " + ", |j| format!("top(s, {j})"));
    format!("let s = {}{bias}; out y: f32 = {sum}", score.of("x"))
}

/// The same in plain candle ops.
pub(crate) fn plain_group_scores(
    x: &Tensor,
    bias: Option<&Tensor>,
    best: usize,
    score: Score,
) -> candle_core::Result<Tensor> {
    let mut s = score.plain(x)?;
    if let Some(b) = bias {
        s = s.broadcast_add(&b.to_dtype(s.dtype())?)?;
    }
    let order = s.contiguous()?.arg_sort_last_dim(false)?.narrow(D::Minus1, 0, best)?.contiguous()?;
    s.contiguous()?.gather(&order, D::Minus1)?.sum(D::Minus1)
}
