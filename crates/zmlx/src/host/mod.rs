//! The CPU side of kernels written by hand: loops over plain slices, parts of the results in parallel on candle's threads.

pub mod affine;
pub mod attention;

use crate::bridge::CandlePool;
use half::{bf16, f16};
use std::sync::{Mutex, PoisonError};
use zmlx_runtime::{Pool, Slice};

/// Runs `body(n, part)` on the parts of this length, in parallel; the last may be shorter.
pub fn in_parts<T: Send>(out: &mut [T], len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let parts: Vec<Mutex<&mut [T]>> = out.chunks_mut(len.max(1)).map(Mutex::new).collect();
    CandlePool.each(parts.len(), &|n| body(n, &mut parts[n].lock().unwrap_or_else(PoisonError::into_inner)));
}

/// Floats of any type from this place on, as f32.
pub fn widen(from: &Slice<'_>, start: usize, out: &mut [f32]) {
    let range = start..start + out.len();
    match from {
        Slice::F32(v) => out.copy_from_slice(&v[range]),
        Slice::F16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, v): (_, &f16)| *o = v.to_f32()),
        Slice::BF16(v) => out.iter_mut().zip(&v[range]).for_each(|(o, v): (_, &bf16)| *o = v.to_f32()),
        Slice::F64(v) => out.iter_mut().zip(&v[range]).for_each(|(o, v)| *o = *v as f32),
        _ => out.fill(f32::NAN),
    }
}
