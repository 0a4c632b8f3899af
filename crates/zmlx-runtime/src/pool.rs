//! Who runs the parts of a launch: the tensor library brings its own threads, so that two pools do not compete.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Threads that share the tasks of a launch. Which thread runs which task changes no result.
pub trait Pool: Debug + Sync {
    /// Runs `task(0)` … `task(tasks - 1)`, each once, and returns when all are done.
    fn each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// The calling thread alone.
#[derive(Clone, Copy, Debug)]
pub struct Caller;

impl Pool for Caller {
    fn each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// This many threads, started for each launch: for programs without a pool of their own.
#[derive(Clone, Copy, Debug)]
pub struct Spawned(pub usize);

impl Pool for Spawned {
    fn each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= tasks {
                    return;
                }
                task(i);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.0.min(tasks) {
                scope.spawn(work);
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn every_task_runs_once() {
        for pool in [&Caller as &dyn Pool, &Spawned(1), &Spawned(5)] {
            for tasks in [0, 1, 3, 100] {
                let ran = Mutex::new(vec![0; tasks]);
                pool.each(tasks, &|i| ran.lock().unwrap()[i] += 1);
                assert_eq!(ran.into_inner().unwrap(), vec![1; tasks], "{pool:?}");
            }
        }
    }
}
