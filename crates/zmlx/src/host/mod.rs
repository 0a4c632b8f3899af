//! The CPU side of kernels written by hand: loops over plain slices, parts of the results in parallel on candle's threads.

pub mod affine;
pub mod attention;
pub mod experts;
pub mod grouped;
pub mod products;

use crate::bridge::CandlePool;
use std::sync::{Mutex, PoisonError};
use zmlx_runtime::Pool;

/// Runs `body(n, part)` on the parts of this length, in parallel; the last may be shorter.
pub fn in_parts<T: Send>(out: &mut [T], len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let parts: Vec<Mutex<&mut [T]>> = out.chunks_mut(len.max(1)).map(Mutex::new).collect();
    CandlePool.each(parts.len(), &|n| body(n, &mut parts[n].lock().unwrap_or_else(PoisonError::into_inner)));
}
