//! Counters of this process: what was compiled, found, launched, copied.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

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

/// One of each field of `Stats`, in their order.
type Counters = [AtomicU64; 5];

/// A thread writes its own counters alone, so that counting takes no locked instruction.
struct All {
    threads: Vec<Arc<Counters>>,
    /// What threads that have ended counted, less what `reset` took off.
    rest: [u64; 5],
}

static ALL: Mutex<All> = Mutex::new(All { threads: vec![], rest: [0; 5] });

thread_local! {
    static OWN: Arc<Counters> = {
        let own = Arc::new(Counters::default());
        lock().threads.push(own.clone());
        own
    };
}

fn lock() -> MutexGuard<'static, All> {
    // what is behind it is whole at any time
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl All {
    fn sums(&mut self) -> [u64; 5] {
        let ended = self.threads.extract_if(.., |t| Arc::strong_count(t) == 1);
        for counters in ended {
            for (sum, c) in self.rest.iter_mut().zip(&*counters) {
                *sum = sum.wrapping_add(c.load(Relaxed));
            }
        }
        let mut sums = self.rest;
        for (k, sum) in sums.iter_mut().enumerate() {
            for counters in &self.threads {
                *sum = sum.wrapping_add(counters[k].load(Relaxed));
            }
        }
        sums
    }
}

/// The counters now.
pub fn stats() -> Stats {
    let [compiles, cache_hits, launches, fallbacks, bytes] = lock().sums();
    Stats { compiles, cache_hits, launches, fallbacks, bytes }
}

/// Sets all counters to 0.
pub fn reset() {
    let mut all = lock();
    let sums = all.sums();
    for (rest, sum) in all.rest.iter_mut().zip(sums) {
        *rest = rest.wrapping_sub(sum);
    }
}

#[inline]
fn count(counts: &[(usize, u64)]) {
    // a thread that is ending counts no more
    let _ = OWN.try_with(|own| {
        for (k, n) in counts {
            own[*k].store(own[*k].load(Relaxed).wrapping_add(*n), Relaxed);
        }
    });
}

pub(crate) fn count_compile() {
    count(&[(0, 1)]);
}
pub(crate) fn count_hit() {
    count(&[(1, 1)]);
}
pub(crate) fn count_launch(bytes: usize) {
    count(&[(2, 1), (4, bytes as u64)]);
}
pub(crate) fn count_fallback() {
    count(&[(3, 1)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_threads_counted_stays_when_they_end() {
        let before = stats().fallbacks;
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| (0..10).for_each(|_| count_fallback()));
            }
        });
        count_fallback();
        assert_eq!(stats().fallbacks, before + 31);
    }
}
