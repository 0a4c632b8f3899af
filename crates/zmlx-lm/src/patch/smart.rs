//! Patterns that prove themselves on this machine, this model and this input: first that the output is right, then that it comes
//! sooner.

use super::{ALL_PATTERNS, Benchmark, Options, PatchReport, patch, unpatch};
use crate::{Error, Model, Result};
use candle_core::{DType, Tensor};
use std::time::Instant;

/// A function of model and sample whose output is checked and timed.
pub type Forward<'f> = dyn Fn(&Model, &Tensor) -> Result<Tensor> + 'f;

/// What is tried, and what is kept.
pub struct SmartOptions<'f> {
    /// Which patterns, one after the other; those that are kept stay for the next.
    pub patterns: Options,
    /// Kept is what is at least so many times as fast as without it.
    pub threshold: f64,
    /// Rounds before the clock runs.
    pub warmup: usize,
    /// Rounds that are timed, with and without in turns.
    pub iters: usize,
    /// Most that an output may be off, as a part of the largest; of the model's dtype unless given ([`bound_of`]).
    pub bound: Option<f64>,
    /// Instead of [`logits_of`].
    pub forward: Option<&'f Forward<'f>>,
}

impl Default for SmartOptions<'_> {
    fn default() -> Self {
        SmartOptions {
            patterns: Options::from(ALL_PATTERNS),
            threshold: 0.995,
            warmup: 3,
            iters: 5,
            bound: None,
            forward: None,
        }
    }
}

/// Most that outputs of this dtype may differ, as a part of the largest. 16 bits round at each of some hundred operations of a
/// model, patched and unpatched at different ones.
pub fn bound_of(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-5,
        DType::F32 => 1e-4,
        DType::F16 => 2e-2,
        _ => 8e-2,
    }
}

/// Logits of tokens `[b, t]`: the first at once, up to the last eighth, and those one by one behind them, as text is made.
///
/// # Errors
/// As [`Model::forward`].
pub fn logits_of(model: &Model, tokens: &Tensor) -> Result<Tensor> {
    let (b, t) = tokens.dims2()?;
    let mut cache = model.new_cache(b, t)?;
    let first = t - (t / 8).max(usize::from(t > 1));
    let mut all = vec![model.forward(&tokens.narrow(1, 0, first)?.contiguous()?, &mut cache)?];
    for at in first..t {
        all.push(model.forward(&tokens.narrow(1, at, 1)?.contiguous()?, &mut cache)?);
    }
    Ok(Tensor::cat(&all, 1)?)
}

/// Tries each pattern on a sample, tokens `[b, t]` of u32 unless there is a `forward` of one's own. A pattern stays if its output is
/// within the bound of the unpatched model's and its time reaches the threshold; else the model never had it. Kernels of patterns
/// that were in place before are taken out first.
///
/// # Errors
/// A pattern that is not known; no rounds; what the forward function says of the unpatched model. The model is as it was then.
pub fn smart_patch(model: &mut Model, sample: &Tensor, options: &SmartOptions<'_>) -> Result<PatchReport> {
    if options.iters == 0 {
        return Err(Error::argument("smart_patch", "iters", "1 or more", 0));
    }
    let patterns = options.patterns.found()?;
    let forward = options.forward.unwrap_or(&logits_of);
    let bound = options.bound.unwrap_or_else(|| bound_of(model.facts.dtype));
    let mut best = model.clone();
    unpatch(&mut best);
    let expected = numbers(&forward(&best, sample)?)?;
    let mut report = PatchReport::new(patterns.iter().map(|p| p.name).collect());
    for pattern in patterns {
        let mut tried = best.clone();
        let only = Options { patterns: vec![pattern.name.into()], exclude: vec![], ..options.patterns.clone() };
        let mut part = patch(&mut tried, only)?;
        report.skipped.append(&mut part.skipped);
        report.absent.append(&mut part.absent);
        if part.swapped.is_empty() {
            continue;
        }
        let mut found = Benchmark {
            pattern: pattern.name,
            blocks: part.swapped.len(),
            error: None,
            bound,
            ratio: None,
            spread: None,
            kept: false,
            why: None,
        };
        match forward(&tried, sample).and_then(|y| numbers(&y)) {
            Err(e) => found.why = Some(format!("it does not run: {e}")),
            Ok(got) => found.error = Some(difference(&got, &expected)),
        }
        // NaN is no small difference
        let right = found.error.is_some_and(|e| e <= bound);
        if right {
            let ratios = ratios(&best, &tried, sample, forward, options)?;
            found.ratio = Some(ratios[1]);
            found.spread = Some([ratios[0], ratios[2]]);
            found.kept = ratios[1] >= options.threshold;
            if !found.kept {
                found.why = Some(format!("slower than the threshold of {}", options.threshold));
            }
        } else if found.why.is_none() {
            found.why = Some("its output is another".into());
        }
        if found.kept {
            best = tried;
            report.swapped.append(&mut part.swapped);
        }
        report.benchmarks.push(found);
    }
    *model = best;
    Ok(report)
}

fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

/// The largest difference by the largest number; infinite if one is NaN or missing where the other is not.
fn difference(got: &[f64], expected: &[f64]) -> f64 {
    if got.len() != expected.len() {
        return f64::INFINITY;
    }
    let mut most = 0f64;
    for (a, b) in got.iter().zip(expected) {
        let off = if a == b || a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() };
        most = if off.is_nan() { f64::INFINITY } else { most.max(off) };
    }
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
    if most == 0.0 { 0.0 } else { most / largest.max(f64::MIN_POSITIVE) }
}

/// The 20th percentile of the ratio of a round, the ratio of the medians, and the 80th percentile.
fn ratios(
    without: &Model,
    with: &Model,
    sample: &Tensor,
    forward: &Forward<'_>,
    options: &SmartOptions<'_>,
) -> Result<[f64; 3]> {
    let time = |model: &Model| -> Result<f64> {
        let start = Instant::now();
        std::hint::black_box(forward(model, sample)?);
        model.facts.device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut times = [vec![], vec![]];
    for round in 0..options.warmup + options.iters {
        // who is first takes turns too
        let pair = match round % 2 {
            0 => [time(without)?, time(with)?],
            _ => {
                let second = time(with)?;
                [time(without)?, second]
            }
        };
        if round >= options.warmup {
            times[0].push(pair[0]);
            times[1].push(pair[1]);
        }
    }
    let mut each: Vec<f64> = times[0].iter().zip(&times[1]).map(|(a, b)| a / b).collect();
    let at = |v: &mut Vec<f64>, q: f64| {
        v.sort_by(f64::total_cmp);
        v[((v.len() - 1) as f64 * q).round() as usize]
    };
    let medians = at(&mut times[0], 0.5) / at(&mut times[1], 0.5);
    Ok([at(&mut each, 0.2), medians, at(&mut each, 0.8)])
}
