//! The number of threads changes no bit of a result.

use super::case::{Case, bits};
use zmlx_ir::program::random::{Options, Random, program};
use zmlx_runtime::{
    Pool,
    backend::cpu,
    pool::{Caller, Spawned},
};

/// Many columns, few rows, and the reverse: each is divided among threads in its own way.
const SHAPES: [(usize, usize); 4] = [(64, 5000), (3, 200_000), (20_000, 3), (1, 300_001)];
const PROGRAMS: u64 = 40;

#[test]
fn every_pool_gives_the_same_bits() {
    for (k, shape) in SHAPES.into_iter().enumerate() {
        for seed in 0..PROGRAMS {
            let seed = seed + 1_000_000 * (k as u64 + 1);
            let mut r = Random::new(seed);
            let p = program(seed, &Options { wild: seed.is_multiple_of(4), ..Options::default() });
            let case = Case::draw(p, shape, seed.is_multiple_of(4), &mut r);
            let kernel = cpu::compile(&case.program).unwrap_or_else(|e| panic!("{}", case.report(&e.to_string())));
            let run = |pool: &dyn Pool| case.run(&kernel, pool).map(|out| out.iter().map(bits).collect::<Vec<_>>());
            let alone = run(&Caller);
            for pool in [&Spawned(2) as &dyn Pool, &Spawned(5)] {
                // the row that an index error names may differ
                match (&alone, run(pool)) {
                    (Ok(a), Ok(b)) => assert!(*a == b, "{}", case.report(&format!("differs on {pool:?}"))),
                    (a, b) => assert_eq!(a.is_err(), b.is_err(), "{}", case.report("fails on some threads only")),
                }
            }
        }
    }
}
