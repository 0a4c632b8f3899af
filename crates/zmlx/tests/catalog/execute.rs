//! Every entry, forward and backward, in both dialects: the heuristic's schedule and those of every other strategy that
//! takes the Program, against the oracle within its bound.

use crate::{
    case::{Case, Counts},
    launch::{check, compile, table},
    programs,
    sample::{SHAPES, sample},
    standin::{Dialect, Order, compiler},
};
use candle_core::{
    DType::{BF16, F32},
    Tensor,
};
use zmlx::{
    catalog::{ENTRIES, adamw_step, lion_step, sgd_step},
    entry::Entry,
};
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

    /// Adds a Program in these shapes under the heuristic, and in two of them (of several) under the other strategies.
    fn add_all(&mut self, entry: &Entry, p: &Program, shapes: &[usize], r: &mut Random) {
        // what `Elementwise` can do the heuristic gives it
        const OTHERS: [Strategy; 3] = [Strategy::Resident, Strategy::Looped, Strategy::Tiled];
        for k in shapes {
            let shape = SHAPES[*k];
            let (rows, cols) = (shape.0.iter().product::<usize>() as u64, shape.1 as u64);
            let picked = Config::pick(p, rows, cols, shape.0.len(), 2 * rows * cols, Device::default());
            let taken = self.add(|p| sample(entry, p, shape, r), p, picked);
            assert!(taken, "{p}the heuristic's choice is none: {picked:?}");
            if shapes.len() == 1 || (*k != 0 && *k != 2) {
                continue;
            }
            for strategy in OTHERS.into_iter().filter(|s| *s != picked.strategy) {
                self.add(|p| sample(entry, p, shape, r), p, forced(strategy, picked, shape.1));
            }
        }
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
    let mut jobs = Jobs::default();
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let (forward, backward) = programs(entry, dtype);
        for (p, what) in [(Some(forward), ""), (backward, "_vjp")] {
            let Some(mut p) = p else { continue };
            p.name = format!("{}{what}_{dtype}", entry.name);
            jobs.add_all(entry, &p, if dtype == DType::F16 { &[2] } else { &[0, 1, 2, 3, 4] }, r);
        }
    }
    jobs
}

fn zeros(dtype: candle_core::DType) -> Tensor {
    Tensor::zeros((2, 3), dtype, &candle_core::Device::Cpu).expect("small")
}

/// The jobs of an optimizer's step: parameters and gradients of 16 bits, state of f32.
fn jobs_of_wide_state(entry: &Entry, r: &mut Random) -> Jobs {
    let mut jobs = Jobs::default();
    let inputs: Vec<Tensor> = (0..entry.args.len()).map(|k| zeros(if k < 2 { BF16 } else { F32 })).collect();
    let mut formula = entry.parsed().expect("parses");
    formula.outs.iter_mut().skip(1).for_each(|out| out.dtype = Some(DType::F32));
    let op = entry.uniforms.iter().fold(zmlx::rowwise(formula).expect("a formula"), |op, (n, v)| op.uniform(n, *v));
    let mut p = (*op.program(&inputs.iter().collect::<Vec<_>>()).expect("a program")).clone();
    assert!(p.outputs.iter().skip(1).all(|o| o.dtype == DType::F32) && p.outputs[0].dtype == DType::BF16);
    p.name = format!("{}_wide", entry.name);
    jobs.add_all(entry, &p, &[0, 1, 2, 3, 4], r);
    jobs
}

/// Runs entries in a dialect, one unit each, with more launches of each than `least` on average.
fn run(dialect: Dialect, entries: &[&Entry], least: usize, jobs: impl Fn(&Entry, &mut Random) -> Jobs) {
    if compiler(dialect).is_none() {
        return println!("not run: no clang");
    }
    let mut r = Random::new(3);
    let (mut counts, mut launches, mut failures, mut kernels) = (Counts::default(), 0, vec![], 0);
    let mut strategies = vec![];
    for entry in entries {
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
    assert!(launches > least * entries.len() && strategies.len() == 4, "{launches} launches, {strategies:?}");
    assert!(counts.refused == 0 && counts.skipped * 20 < counts.elements, "{counts:?}");
}

#[test]
fn every_entry_and_its_gradient_match_the_oracle_in_cuda_text() {
    run(Dialect::Cuda, ENTRIES, 20, jobs);
}

#[test]
fn every_entry_and_its_gradient_match_the_oracle_in_metal_text() {
    run(Dialect::Metal, ENTRIES, 20, jobs);
}

#[test]
fn steps_of_16_bit_parameters_with_state_in_f32_match_the_oracle() {
    for dialect in [Dialect::Cuda, Dialect::Metal] {
        run(dialect, &[&adamw_step::ENTRY, &sgd_step::ENTRY, &lion_step::ENTRY], 10, jobs_of_wide_state);
    }
}
