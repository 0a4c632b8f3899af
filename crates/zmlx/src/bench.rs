//! Timing of several ways to compute the same thing, in turns.

use crate::{Error, Result};
use candle_core::Tensor;
use std::time::Instant;

/// One way to compute something.
pub struct Contender<'a> {
    /// Its name in the report.
    pub name: &'a str,
    /// Runs it once.
    pub run: Box<dyn FnMut() -> Result<Tensor> + 'a>,
}

impl<'a> Contender<'a> {
    /// A named way.
    pub fn new(name: &'a str, run: impl FnMut() -> Result<Tensor> + 'a) -> Contender<'a> {
        Contender { name, run: Box::new(run) }
    }
}

/// What came of one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Its name.
    pub name: String,
    /// Median time of a run, in µs.
    pub median_us: f64,
    /// The 20th and the 80th percentile, in µs.
    pub spread_us: (f64, f64),
    /// Bytes given to `compare` by the median time.
    pub gbps: f64,
    /// How many times as fast as the first contender this one is: above 1, this one is faster.
    pub times_as_fast_as_first: f64,
}

/// Times the contenders in turns, `rounds` times each after two warm-ups. `bytes` is what a run must move at least.
///
/// # Errors
/// No contenders; whatever a contender returns.
pub fn compare(contenders: &mut [Contender<'_>], bytes: usize, rounds: usize) -> Result<Vec<Timing>> {
    if contenders.is_empty() {
        return Err(Error::argument("compare", "contenders", "one at least", "none"));
    }
    let mut times = vec![vec![]; contenders.len()];
    for round in 0..rounds.max(1) + 2 {
        for (c, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            std::hint::black_box((c.run)()?);
            if round >= 2 {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    let at = |t: &[f64], q: f64| t[((t.len() - 1) as f64 * q).round() as usize];
    times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
    let first = at(&times[0], 0.5);
    let timings = contenders.iter().zip(&times).map(|(c, t)| {
        let median = at(t, 0.5);
        Timing {
            name: c.name.into(),
            median_us: median,
            spread_us: (at(t, 0.2), at(t, 0.8)),
            gbps: bytes as f64 / median / 1e3,
            times_as_fast_as_first: first / median,
        }
    });
    Ok(timings.collect())
}
