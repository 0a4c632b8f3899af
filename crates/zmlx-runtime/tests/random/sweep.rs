//! Sweeps of random Programs against the oracle, over some threads.

use super::case::{Case, Counts, small_shape};
use std::panic::{AssertUnwindSafe, catch_unwind};
use zmlx_ir::program::random::{Options, Random, program};

/// Seeds `seeds`, each a Program and a launch. In order of seeds: the first failures.
pub fn sweep(seeds: std::ops::Range<u64>, wild: bool) -> (Counts, Vec<String>) {
    const THREADS: u64 = 4;
    let part = |first: u64| {
        let (mut counts, mut failures) = (Counts::default(), vec![]);
        for seed in (seeds.start + first..seeds.end).step_by(THREADS as usize) {
            let mut r = Random::new(!seed);
            let p = program(seed, &Options { wild, ..Options::default() });
            let shape = small_shape(&mut r);
            let case = Case::draw(p, shape, wild, &mut r);
            match catch_unwind(AssertUnwindSafe(|| case.check())) {
                Ok(Ok(c)) => counts.add(c),
                Ok(Err(text)) => failures.push((seed, text)),
                Err(_) => failures.push((seed, case.report("panics, expected a result"))),
            }
        }
        (counts, failures)
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let part = &part;
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || part(t))).collect();
        threads.into_iter().map(|t| t.join().expect("a sweep reports, it does not panic")).collect()
    });
    let mut counts = Counts::default();
    let mut failures = vec![];
    for (c, f) in parts {
        counts.add(c);
        failures.extend(f);
    }
    failures.sort();
    (counts, failures.into_iter().map(|(_, text)| text).collect())
}
