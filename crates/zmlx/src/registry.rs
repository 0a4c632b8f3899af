//! Named operations of this process, and how often each was launched.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Launches of one operation.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    launches: AtomicU64,
}

impl Usage {
    pub fn count(&self) {
        self.launches.fetch_add(1, Relaxed);
    }
}

/// A named operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its formula.
    pub formula: String,
    /// How often it was launched.
    pub launches: u64,
}

type Map = BTreeMap<(String, String), Arc<Usage>>;
static NAMED: LazyLock<Mutex<Map>> = LazyLock::new(Mutex::default);

pub(crate) fn register(name: &str, formula: &str) -> Arc<Usage> {
    let mut map = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    map.entry((name.into(), formula.into())).or_default().clone()
}

/// All named operations, by name.
pub fn list() -> Vec<Named> {
    let map = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    map.iter()
        .map(|((name, formula), u)| Named {
            name: name.clone(),
            formula: formula.clone(),
            launches: u.launches.load(Relaxed),
        })
        .collect()
}

/// The `n` that were launched most, the most launched first.
pub fn hottest(n: usize) -> Vec<Named> {
    let mut all = list();
    all.sort_by_key(|o| std::cmp::Reverse(o.launches));
    all.truncate(n);
    all
}
