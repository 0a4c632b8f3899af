//! Random Programs against the oracle: `random_programs COUNT [SEED]` runs that many from that seed on, half of them
//! on wild values, and prints the failures.

#[path = "../tests/random/case.rs"]
#[allow(dead_code)]
mod case;
#[path = "../tests/random/sweep.rs"]
mod sweep;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let (count, seed) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(0));
    let mut failed = false;
    for wild in [false, true] {
        let mut counts = case::Counts::default();
        let end = seed + count / 2;
        for start in (seed..end).step_by(10_000) {
            let (some, failures) = sweep::sweep(start..end.min(start + 10_000), wild);
            counts.add(some);
            failed |= !failures.is_empty();
            failures.iter().for_each(|text| println!("{text}"));
        }
        println!("wild values: {wild}: {counts:?}, {:.2} % skipped", 100.0 * counts.skipped_share());
    }
    std::process::exit(i32::from(failed));
}
