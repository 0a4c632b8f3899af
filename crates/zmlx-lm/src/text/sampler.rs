//! Which token comes next, from the logits of the last.

use crate::{Error, Result};

/// How a token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the largest.
    pub temperature: f64,
    /// Only this many of the largest; 0: all.
    pub top_k: usize,
    /// Only the most likely that together have this probability; 1: all.
    pub top_p: f64,
    /// Only those with at least this part of the largest probability; 0: all.
    pub min_p: f64,
    /// Logits of the last tokens are divided by it if above 0, else multiplied; 1 changes nothing.
    pub repetition_penalty: f64,
    /// How many of the last tokens that is for.
    pub repetition_window: usize,
    /// The same seed makes the same choices.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

/// Chooses tokens.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
}

impl Sampler {
    /// One that chooses like this.
    ///
    /// # Errors
    /// A number outside of its range.
    pub fn new(sampling: &Sampling) -> Result<Sampler> {
        let Sampling { temperature, top_p, min_p, repetition_penalty, .. } = *sampling;
        let held = [
            ("temperature", temperature, temperature >= 0.0 && temperature.is_finite(), "0 or more"),
            ("top_p", top_p, 0.0 < top_p && top_p <= 1.0, "above 0, at most 1"),
            ("min_p", min_p, (0.0..=1.0).contains(&min_p), "0 to 1"),
            ("repetition_penalty", repetition_penalty, repetition_penalty > 0.0, "above 0"),
        ];
        match held.into_iter().find(|(_, _, fits, _)| !fits) {
            Some((what, got, _, expected)) => Err(Error::argument("sampler", what, expected, got)),
            None => Ok(Sampler { sampling: sampling.clone(), state: sampling.seed }),
        }
    }

    /// The next token, by logits of the whole vocabulary and the tokens so far.
    ///
    /// # Errors
    /// Logits that are no numbers.
    pub fn next(&mut self, mut logits: Vec<f32>, so_far: &[u32]) -> Result<u32> {
        let s = &self.sampling;
        if s.repetition_penalty != 1.0 {
            let mut last = so_far[so_far.len().saturating_sub(s.repetition_window)..].to_vec();
            last.sort_unstable();
            last.dedup();
            for token in last {
                let by = s.repetition_penalty as f32;
                let Some(x) = logits.get_mut(token as usize) else { continue };
                *x = if *x > 0.0 { *x / by } else { *x * by };
            }
        }
        if let Some(at) = logits.iter().position(|x| x.is_nan()) {
            return Err(Error::argument("sampler", format!("logit {at}"), "a number", "NaN"));
        }
        let first = |best: (usize, f32), (i, x): (usize, &f32)| if *x > best.1 { (i, *x) } else { best };
        let (largest, most) = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), first);
        if s.temperature == 0.0 {
            return Ok(largest as u32);
        }
        let weight = |x: f32| (f64::from(x - most) / s.temperature).exp();
        let mut left: Vec<(u32, f64)> = logits.iter().enumerate().map(|(i, x)| (i as u32, weight(*x))).collect();
        // the largest weight is 1
        left.retain(|(_, w)| *w >= s.min_p && *w > 0.0);
        left.sort_by(|a, b| b.1.total_cmp(&a.1));
        if s.top_k > 0 {
            left.truncate(s.top_k);
        }
        let all: f64 = left.iter().map(|(_, w)| w).sum();
        let mut so_far = 0.0;
        let enough = left.iter().position(|(_, w)| {
            so_far += w;
            so_far >= s.top_p * all
        });
        left.truncate(enough.map_or(left.len(), |at| at + 1));
        let all: f64 = left.iter().map(|(_, w)| w).sum();
        let mut at = self.uniform() * all;
        let chosen = left.iter().find(|(_, w)| {
            at -= w;
            at < 0.0
        });
        Ok(chosen.or(left.last()).map_or(largest as u32, |(token, _)| *token))
    }

    /// A number in [0, 1) (SplitMix64).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(sampling: Sampling, so_far: &[u32]) -> Vec<usize> {
        let logits = vec![0.0, 2.0, 1.0, -1.0];
        let mut counts = vec![0; 4];
        let mut sampler = Sampler::new(&sampling).expect("it fits");
        for _ in 0..10_000 {
            counts[sampler.next(logits.clone(), so_far).expect("a token") as usize] += 1;
        }
        counts
    }

    #[test]
    fn tokens_come_as_often_as_their_probability_says() {
        let weights = [0f64, 2.0, 1.0, -1.0].map(f64::exp);
        let all: f64 = weights.iter().sum();
        let warm = Sampling { temperature: 1.0, ..Sampling::default() };
        for (n, w) in chosen(warm.clone(), &[]).into_iter().zip(weights) {
            assert!((n as f64 / 10_000.0 - w / all).abs() < 0.02);
        }
        assert_eq!(chosen(Sampling::default(), &[]), [0, 10_000, 0, 0]);
        assert_eq!(chosen(Sampling { top_k: 1, ..warm.clone() }, &[]), [0, 10_000, 0, 0]);
        let two = [Sampling { top_k: 2, ..warm.clone() }, Sampling { top_p: 0.7, ..warm.clone() }];
        for sampling in two.into_iter().chain([Sampling { min_p: 0.3, ..warm.clone() }]) {
            let counts = chosen(sampling, &[]);
            assert!(counts[0] == 0 && counts[3] == 0 && counts[2] > 2000 && counts[1] > counts[2]);
        }
    }

    #[test]
    fn what_was_said_is_less_likely_with_a_penalty() {
        let sampling = Sampling { repetition_penalty: 4.0, ..Sampling::default() };
        assert_eq!(chosen(sampling.clone(), &[1]), [0, 0, 10_000, 0]);
        let short = Sampling { repetition_window: 1, ..sampling };
        assert_eq!(chosen(short, &[1, 0]), [0, 10_000, 0, 0]);
    }

    #[test]
    fn numbers_outside_of_their_range_are_refused() {
        let told = |s: Sampling| Sampler::new(&s).map_or_else(|e| e.to_string(), |_| "a sampler".into());
        let of = Sampling::default;
        assert_eq!(told(Sampling { temperature: -1.0, ..of() }), "sampler: temperature, expected 0 or more, got -1");
        assert_eq!(told(Sampling { top_p: 0.0, ..of() }), "sampler: top_p, expected above 0, at most 1, got 0");
        assert_eq!(told(Sampling { min_p: f64::NAN, ..of() }), "sampler: min_p, expected 0 to 1, got NaN");
        let nan = Sampler::new(&of()).and_then(|mut s| s.next(vec![0.0, f32::NAN], &[]));
        assert_eq!(nan.unwrap_err().to_string(), "sampler: logit 1, expected a number, got NaN");
    }
}
