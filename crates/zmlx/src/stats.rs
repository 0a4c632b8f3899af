//! Counters of this process: what was compiled, found, launched, copied.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What happened since the start, or since `reset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Programs compiled.
    pub compiles: u64,
    /// Calls that found their Program compiled.
    pub cache_hits: u64,
    /// Kernels launched.
    pub launches: u64,
    /// Catalog calls that took the plain candle ops.
    pub fallbacks: u64,
    /// Bytes of inputs and outputs of those launches.
    pub bytes: u64,
}

static COUNTERS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// The counters now.
pub fn stats() -> Stats {
    let [compiles, cache_hits, launches, fallbacks, bytes] = [0, 1, 2, 3, 4].map(|k| COUNTERS[k].load(Relaxed));
    Stats { compiles, cache_hits, launches, fallbacks, bytes }
}

/// Sets all counters to 0.
pub fn reset() {
    COUNTERS.iter().for_each(|c| c.store(0, Relaxed));
}

pub(crate) fn count_compile() {
    COUNTERS[0].fetch_add(1, Relaxed);
}
pub(crate) fn count_hit() {
    COUNTERS[1].fetch_add(1, Relaxed);
}
pub(crate) fn count_launch(bytes: usize) {
    COUNTERS[2].fetch_add(1, Relaxed);
    COUNTERS[4].fetch_add(bytes as u64, Relaxed);
}
pub(crate) fn count_fallback() {
    COUNTERS[3].fetch_add(1, Relaxed);
}
