//! Every entry, forward and backward, in both dialects: the heuristic's schedule and those of every other strategy that
//! takes the Program, against the oracle within its bound.

use crate::{
    case::{Case, Counts},
    launch::{check, compile, table},
    sample::{SHAPES, sample},
    standin::{Dialect, Order, compiler},
};
use zmlx::{catalog::ENTRIES, entry::Entry, harness::programs};
use zmlx_ir::{
    DType, Program,
    program::random::Random,
    schedule::{Config, Device, Schedule, Strategy, schedule},
};

/// Cases of one entry, each with a schedule of its own or of an earlier case.
#[derive(Default)]
struct Jobs {
    schedules: Vec<(Program, Config, Schedule)>,
    cases: Vec<(Case, usize)>,
    strategies: Vec<Strategy>,
}

impl Jobs {
    /// Adds a case under a configuration; false if the strategy does not take its Program.
    fn add(&mut self, case: impl FnOnce(Program) -> Case, p: &Program, cfg: Config) -> bool {
        let at = match self.schedules.iter().position(|(q, c, _)| q == p && *c == cfg) {
            Some(at) => at,
            None => {
                let mut named = p.clone();
                named.name = format!("{}_{}", p.name, self.schedules.len());
                match schedule(&named, &cfg) {
                    Ok(schedule) => self.schedules.push((p.clone(), cfg, schedule)),
                    Err(e) if e.what.contains("faulty") => panic!("{p}{cfg:?}\n{e}"),
                    Err(_) => return false,
                }
                self.schedules.len() - 1
            }
        };
        if !self.strategies.contains(&cfg.strategy) {
            self.strategies.push(cfg.strategy);
        }
        self.cases.push((case(p.clone()), at));
        true
    }
}

/// A configuration of this strategy, near the heuristic's.
fn forced(strategy: Strategy, picked: Config, cols: usize) -> Config {
    let chunks = (cols as u32 + picked.vector - 1).div_ceil(picked.vector);
    let (row_threads, chunks) = match strategy {
        Strategy::Resident => (64, chunks.div_ceil(64)),
        Strategy::Looped => (64, 1),
        Strategy::Tiled | Strategy::Elementwise => (32, 1),
    };
    Config { strategy, threads: 128, row_threads, chunks, ..picked }
}

/// The jobs of an entry: f32 and bf16 in every shape under the heuristic, and in two under the other strategies; f16 once.
fn jobs(entry: &Entry, r: &mut Random) -> Jobs {
    // what `Elementwise` can do the heuristic gives it
    const OTHERS: [Strategy; 3] = [Strategy::Resident, Strategy::Looped, Strategy::Tiled];
    let mut jobs = Jobs::default();
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let (forward, backward) = programs(entry, dtype).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
        for (p, what) in [(Some(forward), ""), (backward, "_vjp")] {
            let Some(mut p) = p else { continue };
            p.name = format!("{}{what}_{dtype}", entry.name);
            for (k, shape) in SHAPES.into_iter().enumerate() {
                if dtype == DType::F16 && k != 2 {
                    continue;
                }
                let (rows, cols) = (shape.0.iter().product::<usize>() as u64, shape.1 as u64);
                let picked = Config::pick(&p, rows, cols, shape.0.len(), 2 * rows * cols, Device::default());
                let taken = jobs.add(|p| sample(entry, p, shape, r), &p, picked);
                assert!(taken, "{p}the heuristic's choice is none: {picked:?}");
                if dtype == DType::F16 || (k != 0 && k != 2) {
                    continue;
                }
                for strategy in OTHERS.into_iter().filter(|s| *s != picked.strategy) {
                    jobs.add(|p| sample(entry, p, shape, r), &p, forced(strategy, picked, shape.1));
                }
            }
        }
    }
    jobs
}

/// Runs all entries in a dialect, one unit each.
fn run(dialect: Dialect) {
    if compiler(dialect).is_none() {
        return println!("not run: no clang");
    }
    let mut r = Random::new(3);
    let (mut counts, mut launches, mut failures, mut kernels) = (Counts::default(), 0, vec![], 0);
    let mut strategies = vec![];
    for entry in ENTRIES {
        let jobs = jobs(entry, &mut r);
        let schedules: Vec<&Schedule> = jobs.schedules.iter().map(|s| &s.2).collect();
        kernels += schedules.iter().map(|s| s.steps.len()).sum::<usize>();
        let unit = match compile(dialect, &schedules) {
            Ok(unit) => unit,
            Err(e) => {
                failures.push(format!("{}: {}", entry.name, e.chars().take(4000).collect::<String>()));
                continue;
            }
        };
        for (k, (case, at)) in jobs.cases.iter().enumerate() {
            launches += schedules[*at].steps.len();
            match check(&unit, schedules[*at], case, &[Order::ALL[k % 3]]) {
                Ok(c) => counts.add(c),
                Err(e) => failures.push(format!("{}: {:?}\n{e}", entry.name, jobs.schedules[*at].1)),
            }
        }
        strategies.extend(jobs.strategies.into_iter().filter(|s| !strategies.contains(s)).collect::<Vec<_>>());
    }
    let target = table(dialect).target;
    println!("{target}: {kernels} kernels, {launches} launches, {counts:?}, {strategies:?}");
    let some: Vec<String> = failures.iter().take(4).map(|f| f.chars().take(4000).collect()).collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), some.join("\n"));
    assert!(launches > 20 * ENTRIES.len() && strategies.len() == 4, "{launches} launches, {strategies:?}");
    assert!(counts.refused == 0 && counts.skipped * 20 < counts.elements, "{counts:?}");
}

#[test]
fn every_entry_and_its_gradient_match_the_oracle_in_cuda_text() {
    run(Dialect::Cuda);
}

#[test]
fn every_entry_and_its_gradient_match_the_oracle_in_metal_text() {
    run(Dialect::Metal);
}
