//! Random Programs: the executor against the oracle, threads against one thread, gradients against differences.

mod case;
mod gradients;
mod sweep;
mod threads;

/// Programs a sweep runs; `examples/random_programs.rs` runs any number.
const PROGRAMS: u64 = 10_000;

fn sweep_agrees(wild: bool, most_skipped: f64) {
    let (counts, failures) = sweep::sweep(0..PROGRAMS, wild);
    println!("{counts:?}, {:.2} % skipped", 100.0 * counts.skipped_share());
    assert!(failures.is_empty(), "{} failures, the first:\n{}", failures.len(), failures[0]);
    assert!(counts.skipped_share() < most_skipped, "{counts:?}");
    assert!(counts.chained * 50 > counts.programs, "too few run as one loop: {counts:?}");
}

#[test]
fn ordinary_values_stay_within_the_bound_of_the_oracle() {
    sweep_agrees(false, 0.05);
}

#[test]
fn wild_values_stay_within_the_bound_of_the_oracle() {
    sweep_agrees(true, 0.25);
}
