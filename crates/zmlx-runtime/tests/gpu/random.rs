//! Random Programs under every strategy, with strided, broadcast and misaligned inputs.

use crate::{
    case::{Case, Counts, small_shape},
    launch::{check, compile},
    standin::{Dialect, Order, compiler},
};
use zmlx_ir::{
    Program,
    program::random::{Options, Random, program},
    schedule::{Config, Device, Schedule, Strategy, schedule},
};
use zmlx_runtime::backend::c_like;

struct Job {
    seed: u64,
    case: Case,
    schedule: Schedule,
}

/// A configuration that holds the case, of a strategy drawn at random.
fn config(dialect: Dialect, p: &Program, case: &Case, r: &mut Random) -> Config {
    let (rows, cols) = (case.rows() as u64, case.cols as u64);
    let picked = Config::pick(
        p,
        rows,
        // rows that start off a boundary take a chunk more, as an odd number of columns does
        cols | 1,
        case.row_dims.len(),
        rows * cols * 4,
        Device { processors: 3, ..Device::default() },
    );
    let vector = picked.vector;
    let chunks = (cols + u64::from(vector) - 1).div_ceil(u64::from(vector)) as u32;
    let row_threads = r.pick(&[1, 4, 32, 64, 128]);
    let drawn = Config {
        strategy: r.pick(&[Strategy::Resident, Strategy::Resident, Strategy::Looped, Strategy::Tiled]),
        threads: 128,
        row_threads,
        chunks: chunks.div_ceil(row_threads).max(1),
        wide: r.chance(1, 4),
        ..picked
    };
    if picked.strategy == Strategy::Elementwise && r.chance(1, 2) {
        return Config { threads: 64, chunks: r.pick(&[1, 2, 4]), ..picked };
    }
    let config = if r.chance(1, 3) || drawn.chunks > 8 { picked } else { drawn };
    if dialect == Dialect::Cuda && matches!(config.strategy, Strategy::Resident | Strategy::Looped) && r.chance(1, 3) {
        // some blocks have no column, or a part of a chunk
        let (cluster, threads) = (r.pick(&[2, 4, 8]), r.pick(&[32, 64]));
        let chunks = chunks.div_ceil(cluster * threads).max(1);
        return Config { cluster, threads, row_threads: threads, chunks, ..config };
    }
    config
}

/// Programs that do not run: without a schedule, or of a type that the target lacks.
#[derive(Clone, Copy, Debug, Default)]
struct Refused {
    schedule: usize,
    target: usize,
}

/// Programs of these seeds, in one unit.
fn sweep(dialect: Dialect, seeds: std::ops::Range<u64>, wild: bool) -> (Counts, Refused, Vec<String>) {
    let (mut jobs, mut unsupported, mut failures) = (vec![], Refused::default(), vec![]);
    for seed in seeds {
        let mut r = Random::new(!seed);
        let mut p = program(seed, &Options { wild, ..Options::default() });
        p.name = format!("random_{seed}");
        let shape = small_shape(&mut r);
        let case = Case::draw(p, shape, wild, &mut r);
        let cfg = config(dialect, &case.program, &case, &mut r);
        let made = schedule(&case.program, &cfg);
        if let Err(e) = &made
            && e.what.contains("faulty")
        {
            failures.push(format!("seed {seed}: {}{cfg:?}\n{e}", case.program));
        }
        let lacks =
            |s: &Schedule| s.steps.iter().any(|s| c_like::print(&s.kernel, crate::launch::table(dialect)).is_err());
        match made {
            Ok(schedule) if !lacks(&schedule) => jobs.push(Job { seed, case, schedule }),
            Ok(_) => unsupported.target += 1,
            Err(_) => unsupported.schedule += 1,
        }
    }
    let unit = compile(dialect, &jobs.iter().map(|j| &j.schedule).collect::<Vec<_>>());
    let unit = unit.unwrap_or_else(|e| panic!("{e}"));
    let mut counts = Counts::default();
    for Job { seed, case, schedule } in &jobs {
        match check(&unit, schedule, case, &Order::ALL) {
            Ok(c) => counts.add(c),
            Err(e) => failures.push(format!("seed {seed}: {e}")),
        }
    }
    (counts, unsupported, failures)
}

/// Sweeps in units of 50 Programs.
fn sweeps(dialect: Dialect, seeds: std::ops::Range<u64>, wild: bool) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    let (mut counts, mut unsupported, mut failures) = (Counts::default(), Refused::default(), vec![]);
    for first in seeds.clone().step_by(50) {
        let (c, u, f) = sweep(dialect, first..seeds.end.min(first + 50), wild);
        counts.add(c);
        unsupported.schedule += u.schedule;
        unsupported.target += u.target;
        failures.extend(f);
    }
    println!("{counts:?}, {unsupported:?}");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures[..failures.len().min(3)].join("\n"));
    let all = (seeds.end - seeds.start) as usize;
    assert!(counts.programs * 2 > all && unsupported.schedule * 3 < all, "{counts:?}, {unsupported:?}");
}

#[test]
fn random_programs_match_the_oracle_in_cuda_text() {
    sweeps(Dialect::Cuda, 0..150, false);
}

#[test]
fn random_programs_match_the_oracle_in_metal_text() {
    sweeps(Dialect::Metal, 200..350, false);
}

#[test]
fn random_programs_of_wild_numbers_match_the_oracle_in_cuda_text() {
    sweeps(Dialect::Cuda, 1000..1050, true);
}

#[test]
fn random_programs_of_wild_numbers_match_the_oracle_in_metal_text() {
    sweeps(Dialect::Metal, 1050..1100, true);
}
