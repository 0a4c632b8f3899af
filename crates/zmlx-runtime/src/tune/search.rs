//! The search. Making a Config ready (a compiler runs) takes far longer than measuring it, so as many are made ready at
//! once as the machine has cores, and each batch is what lies nearest to the best so far: a small budget is spent around what
//! is fast. Those not far from the best are then measured in turns, so that what else the device does hits all of them
//! alike, and the slow ones are let go of early. The heuristic's Config is always among them, and stays unless another is
//! faster by more than the spread of either, with outputs that were compared.

use super::Agreement;
use crate::{Buffer, Error};
use std::time::{Duration, Instant};
use zmlx_ir::schedule::Config;

/// What runs Configs of one Program on one launch.
pub trait Trial {
    /// How many Configs are made ready in about the time of one.
    fn at_once(&self) -> usize;

    /// Makes Configs ready to run: whatever happens once. An answer for each; an error takes it out of the search: it does not
    /// compile, or not fit the device.
    fn prepare(&mut self, configs: &[Config]) -> Vec<Result<(), Error>>;

    /// Seconds that one run of a prepared Config takes.
    ///
    /// # Errors
    /// Whatever takes it out of the search.
    fn time(&mut self, config: &Config) -> Result<f64, Error>;

    /// What a run of a prepared Config leaves in outputs that were full of NaN.
    ///
    /// # Errors
    /// As `time`.
    fn outputs(&mut self, config: &Config) -> Result<Vec<Buffer>, Error>;

    /// A Config that is out of the search: it is not asked for again.
    fn forget(&mut self, config: &Config) {
        let _ = config;
    }
}

/// Times of a Config.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The Config.
    pub config: Config,
    /// Median of its runs, in seconds.
    pub seconds: f64,
    /// From the 20th to the 80th percentile, in seconds.
    pub spread: f64,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The heuristic's choice.
    pub heuristic: Measured,
    /// What is faster; None: the heuristic's choice stays.
    pub winner: Option<Measured>,
    /// How many Configs there were.
    pub candidates: usize,
    /// Those that were measured, in the order of their trial, and the median of their first runs in seconds.
    pub tried: Vec<(Config, f64)>,
    /// Those that did not compile or run.
    pub failed: usize,
    /// Those that were faster with other results, and what differs. A fault of ours, or of a compiler.
    pub wrong: Vec<(Config, String)>,
}

impl Outcome {
    /// The best of both.
    pub fn best(&self) -> &Measured {
        self.winner.as_ref().unwrap_or(&self.heuristic)
    }

    /// How many times as fast as the heuristic's choice it is.
    pub fn gain(&self) -> f64 {
        self.heuristic.seconds / self.best().seconds
    }
}

/// Runs before the first that counts.
const WARM: usize = 1;
/// Runs after which a Config is let go of if it is slower than this many times the best.
const FEW: usize = 3;
const MUCH_SLOWER: f64 = 1.3;
/// So many rounds of those that are left, and every few of them the slower half goes.
const ROUNDS: usize = 24;
const HALVING: usize = 4;
/// Fewer runs say nothing of a spread.
const LEAST: usize = 5;
/// The share of the budget in which Configs are tried for the first time.
const FIRST_SHARE: f64 = 0.75;
/// A smaller part of the time is no gain.
const GAIN: f64 = 0.03;

struct Runner {
    config: Config,
    seconds: Vec<f64>,
}

impl Runner {
    fn at(&self, q: f64) -> f64 {
        let mut s = self.seconds.clone();
        s.sort_by(f64::total_cmp);
        s.get(((s.len().saturating_sub(1)) as f64 * q).round() as usize).copied().unwrap_or(f64::INFINITY)
    }

    fn measured(&self) -> Measured {
        Measured { config: self.config, seconds: self.at(0.5), spread: self.at(0.8) - self.at(0.2) }
    }
}

fn best(field: &[Runner]) -> f64 {
    field.iter().map(|r| r.at(0.5)).fold(f64::INFINITY, f64::min)
}

/// Searches among these Configs, the first of which is the heuristic's. Within the budget as many are tried as it allows;
/// the heuristic's is measured in any case.
///
/// # Errors
/// The heuristic's Config does not run.
pub fn search(
    trial: &mut dyn Trial,
    candidates: &[Config],
    agreement: Agreement,
    budget: Duration,
) -> Result<Option<Outcome>, Error> {
    let start = Instant::now();
    let Some(heuristic) = candidates.first() else { return Ok(None) };
    let mut untried = candidates.to_vec();
    let (mut field, mut tried, mut failed) = (Vec::<Runner>::new(), vec![], 0);
    let mut last_batch = Duration::ZERO;
    // the heuristic's comes first in the first batch, whatever the budget
    while !untried.is_empty() && (field.is_empty() || start.elapsed() + last_batch < budget.mul_f64(FIRST_SHARE)) {
        let began = Instant::now();
        let fastest = field.iter().min_by(|a, b| a.at(0.5).total_cmp(&b.at(0.5))).map_or(*heuristic, |r| r.config);
        untried.sort_by_key(|c| c.distance(&fastest));
        let many = if budget.is_zero() { 1 } else { trial.at_once().clamp(1, untried.len()) };
        let batch: Vec<Config> = untried.drain(..many).collect();
        for (config, ready) in batch.iter().zip(trial.prepare(&batch)) {
            match ready.and_then(|()| enter(trial, config, best(&field))) {
                Ok(runner) => {
                    tried.push((*config, runner.at(0.5)));
                    if runner.at(0.5) > MUCH_SLOWER * best(&field) {
                        trial.forget(config);
                    } else {
                        field.push(runner);
                    }
                }
                Err(error) if config == heuristic => return Err(error),
                Err(_) => {
                    failed += 1;
                    trial.forget(config);
                }
            }
        }
        last_batch = began.elapsed();
    }
    for round in 0..ROUNDS {
        if field.len() == 1 || (start.elapsed() > budget && round + FEW >= LEAST) {
            break;
        }
        if round % HALVING == 0 {
            halve(trial, &mut field);
        }
        // there and back, so that nobody is always measured behind the same
        let order: Vec<usize> =
            if round % 2 == 0 { (0..field.len()).collect() } else { (0..field.len()).rev().collect() };
        let mut out = vec![];
        for k in order {
            let runner = &mut field[k];
            match trial.time(&runner.config) {
                Ok(seconds) => runner.seconds.push(seconds),
                Err(error) if k == 0 => return Err(error),
                Err(_) => out.push(runner.config),
            }
        }
        failed += out.len();
        field.retain(|r| !out.contains(&r.config));
        out.iter().for_each(|c| trial.forget(c));
    }
    let heuristic = field[0].measured();
    let mut rest: Vec<Measured> = field[1..].iter().map(Runner::measured).collect();
    rest.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let mut outcome = Outcome { heuristic, winner: None, candidates: candidates.len(), tried, failed, wrong: vec![] };
    let mut want = None;
    for one in rest {
        let margin = one.spread.max(heuristic.spread).max(GAIN * heuristic.seconds);
        if one.seconds + margin >= heuristic.seconds {
            continue;
        }
        let want = match &mut want {
            Some(want) => want,
            none => none.insert(trial.outputs(&heuristic.config)?),
        };
        match trial.outputs(&one.config) {
            Err(_) => outcome.failed += 1,
            Ok(got) => match agreement.check(want, &got) {
                Err(how) => outcome.wrong.push((one.config, how)),
                Ok(()) => {
                    outcome.winner = Some(one);
                    break;
                }
            },
        }
    }
    Ok(Some(outcome))
}

/// First runs of a Config that is ready: few, and fewer if it is slow.
fn enter(trial: &mut dyn Trial, config: &Config, best: f64) -> Result<Runner, Error> {
    for _ in 0..WARM {
        trial.time(config)?;
    }
    let mut runner = Runner { config: *config, seconds: vec![] };
    while runner.seconds.len() < FEW {
        runner.seconds.push(trial.time(config)?);
        if runner.at(0.0) > 2.0 * MUCH_SLOWER * best {
            break;
        }
    }
    Ok(runner)
}

/// Lets go of the slower half, of four or more, and of those far from the best. The heuristic's, the first, stays.
fn halve(trial: &mut dyn Trial, field: &mut Vec<Runner>) {
    let limit = MUCH_SLOWER * best(field);
    let mut times: Vec<f64> = field[1..].iter().map(|r| r.at(0.5)).collect();
    times.sort_by(f64::total_cmp);
    let keep = times.len().div_ceil(2).max(4);
    let half = times.get(keep - 1).copied().unwrap_or(f64::INFINITY);
    let mut first = true;
    field.retain(|r| {
        let stays = std::mem::take(&mut first) || r.at(0.5) <= half.min(limit);
        if !stays {
            trial.forget(&r.config);
        }
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmlx_ir::schedule::Strategy;

    /// A device that takes as long as it was told, give or take a little.
    #[derive(Default)]
    struct Fake {
        seconds: Vec<f64>,
        noise: f64,
        /// Candidates that do not compile, do not run, run only so often, and give other results.
        broken: Vec<u32>,
        crashes: Vec<u32>,
        wears_out: Vec<u32>,
        wrong: Vec<u32>,
        compile: Duration,
        cores: usize,
        /// What was made ready, batch by batch.
        batches: Vec<Vec<u32>>,
        runs: Vec<u32>,
        state: u64,
    }

    fn config(n: u32) -> Config {
        let strategy = Strategy::Resident;
        Config {
            strategy,
            threads: 32,
            row_threads: 1,
            vector: 1,
            chunks: n + 1,
            aside: false,
            cluster: 1,
            dims: 1,
            wide: false,
        }
    }

    /// As fast as `config(n)`, and far from it.
    fn far(n: u32) -> Config {
        Config { strategy: Strategy::Looped, vector: 16, ..config(n) }
    }

    fn failed() -> Error {
        Error::Device { op: "fake".into(), what: "run".into(), expected: "none".into(), got: "a fault".into() }
    }

    impl Trial for Fake {
        fn at_once(&self) -> usize {
            self.cores
        }
        fn prepare(&mut self, configs: &[Config]) -> Vec<Result<(), Error>> {
            std::thread::sleep(self.compile);
            self.runs.resize(self.seconds.len(), 0);
            let numbers: Vec<u32> = configs.iter().map(|c| c.chunks - 1).collect();
            let made = numbers.iter().map(|n| if self.broken.contains(n) { Err(failed()) } else { Ok(()) }).collect();
            self.batches.push(numbers);
            made
        }
        fn time(&mut self, c: &Config) -> Result<f64, Error> {
            let n = c.chunks - 1;
            self.runs[n as usize] += 1;
            if self.crashes.contains(&n) || (self.wears_out.contains(&n) && self.runs[n as usize] > 6) {
                return Err(failed());
            }
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let noise = ((self.state >> 40) as f64 / f64::from(1 << 24) - 0.5) * self.noise;
            Ok(self.seconds[n as usize] * (1.0 + noise))
        }
        fn outputs(&mut self, c: &Config) -> Result<Vec<Buffer>, Error> {
            let wrong = self.wrong.contains(&(c.chunks - 1));
            Ok(vec![Buffer::F32(vec![if wrong { f32::NAN } else { 1.0 }; 10])])
        }
    }

    fn tuned(fake: &mut Fake) -> Outcome {
        let candidates: Vec<Config> = (0..fake.seconds.len() as u32).map(config).collect();
        search(fake, &candidates, Agreement::Bits, Duration::from_secs(10)).expect("a search").expect("an outcome")
    }

    #[test]
    fn the_fastest_wins_and_slow_ones_are_let_go_of_early() {
        let mut fake = Fake { seconds: vec![10e-6, 30e-6, 9e-6, 5e-6, 12e-6, 11e-6], noise: 0.02, ..Fake::default() };
        let outcome = tuned(&mut fake);
        assert_eq!(outcome.winner.map(|w| w.config), Some(config(3)));
        assert!((outcome.gain() - 2.0).abs() < 0.1, "{outcome:?}");
        assert_eq!((outcome.candidates, outcome.tried.len(), outcome.failed), (6, 6, 0));
        // the heuristic's stays to the end
        assert_eq!(fake.runs[0], fake.runs[3]);
        assert!(fake.runs[1] <= 4 && fake.runs[4] <= 8, "{:?}", fake.runs);
    }

    #[test]
    fn what_is_faster_by_less_than_the_spread_does_not_win() {
        let near = tuned(&mut Fake { seconds: vec![10e-6, 9.5e-6], noise: 0.2, ..Fake::default() });
        assert_eq!(near.winner, None, "{near:?}");
        assert_eq!(near.best(), &near.heuristic);
        let clear = tuned(&mut Fake { seconds: vec![10e-6, 9.5e-6], noise: 0.002, ..Fake::default() });
        assert_eq!(clear.winner.map(|w| w.config), Some(config(1)), "{clear:?}");
        let least = tuned(&mut Fake { seconds: vec![10e-6, 9.75e-6], ..Fake::default() });
        assert_eq!(least.winner, None, "{least:?}");
    }

    #[test]
    fn what_gives_other_results_never_wins() {
        let mut fake = Fake { seconds: vec![10e-6, 1e-6, 5e-6], wrong: vec![1], ..Fake::default() };
        // within 1.3 of the best nobody else is left
        assert_eq!(tuned(&mut fake).winner, None);
        let mut fake = Fake { seconds: vec![10e-6, 4.5e-6, 5e-6], wrong: vec![1], ..Fake::default() };
        let outcome = tuned(&mut fake);
        assert_eq!(outcome.winner.map(|w| w.config), Some(config(2)));
        assert_eq!(outcome.wrong, [(config(1), "output 0[0]: NaN, expected 1e0".to_string())]);
    }

    #[test]
    fn what_fails_is_left_out_and_counted() {
        let mut fake = Fake {
            seconds: vec![10e-6, 1e-6, 1e-6, 4.5e-6, 5e-6],
            broken: vec![1],
            crashes: vec![2],
            wears_out: vec![3],
            ..Fake::default()
        };
        let outcome = tuned(&mut fake);
        assert_eq!(outcome.winner.map(|w| w.config), Some(config(4)));
        assert_eq!((outcome.failed, outcome.tried.len()), (3, 3));
    }

    #[test]
    fn a_heuristic_that_does_not_run_is_an_error() {
        let candidates = [config(0), config(1)];
        for (broken, crashes) in [(vec![0], vec![]), (vec![], vec![0])] {
            let mut fake = Fake { seconds: vec![1e-6; 2], broken, crashes, ..Fake::default() };
            assert_eq!(search(&mut fake, &candidates, Agreement::Bits, Duration::from_secs(1)), Err(failed()));
        }
        assert_eq!(search(&mut Fake::default(), &[], Agreement::Bits, Duration::from_secs(1)), Ok(None));
    }

    #[test]
    fn each_batch_is_what_lies_nearest_to_the_best_so_far() {
        // the farther from the heuristic's choice, the faster: the chunks of a Config double along the way
        let numbers = [0, 1, 3, 7, 15, 31, 63];
        let candidates: Vec<Config> = numbers.iter().flat_map(|n| [config(*n), far(*n)]).collect();
        let mut seconds = vec![20e-6; 64];
        numbers.iter().enumerate().for_each(|(k, n)| seconds[*n as usize] = 10e-6 / (k + 1) as f64);
        let mut fake = Fake { seconds, cores: 2, ..Fake::default() };
        let outcome = search(&mut fake, &candidates, Agreement::Bits, Duration::from_secs(10));
        let outcome = outcome.expect("a search").expect("an outcome");
        assert_eq!(outcome.winner.map(|w| w.config.chunks), Some(64));
        assert_eq!(fake.batches[..3], [[0, 1], [3, 7], [15, 31]]);
        assert_eq!(outcome.tried.len(), candidates.len());
    }

    #[test]
    fn a_search_ends_with_its_budget_and_measures_the_heuristic_all_the_same() {
        let compile = Duration::from_millis(5);
        let mut fake = Fake { seconds: vec![10e-6; 100], compile, ..Fake::default() };
        let candidates: Vec<Config> = (0..100).map(config).collect();
        let start = Instant::now();
        let outcome = search(&mut fake, &candidates, Agreement::Bits, Duration::from_millis(40));
        let outcome = outcome.expect("a search").expect("an outcome");
        assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
        assert!((1..30).contains(&outcome.tried.len()), "{outcome:?}");
        // more at once, more tried
        let mut many = Fake { cores: 8, runs: vec![], ..fake };
        let tried = outcome.tried.len();
        let outcome = search(&mut many, &candidates, Agreement::Bits, Duration::from_millis(40));
        let outcome = outcome.expect("a search").expect("an outcome");
        assert!(outcome.tried.len() > tried && outcome.tried.len().is_multiple_of(8), "{outcome:?}");
        let mut fake = many;
        let none = search(&mut fake, &candidates, Agreement::Bits, Duration::ZERO).expect("a search");
        assert_eq!(none.map(|o| (o.tried.len(), o.winner, o.heuristic.seconds)), Some((1, None, 10e-6)));
    }
}
