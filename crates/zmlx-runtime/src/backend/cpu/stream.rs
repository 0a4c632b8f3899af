//! Stores that go past the caches. A result larger than the cache is not in it when someone reads it, so keeping it
//! there only costs: an ordinary store reads the line from memory before it writes it.

use super::memory::to_bf16;
use half::bf16;

/// Results of a launch of at least this many bytes are streamed: half of a large last-level cache. (rms_norm of
/// 4096×4096 f32 on a Zen 4 of two cores: 7.6 ms with ordinary stores, 5.6 ms streamed.)
pub const LEAST_BYTES: usize = 16 << 20;

/// Copies lanes to memory past the caches, where the machine can. `fence` makes them visible to other threads.
#[cfg(target_arch = "x86_64")]
pub fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    assert_eq!(from.len(), to.len(), "invariant: as many lanes as places");
    if std::is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions.
        unsafe { copy_wide(from, to) }
    } else {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { copy_sse(from, to) }
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! copy_in {
    ($name:ident, $features:literal, $vector:ty, $load:ident, $store:ident) => {
        /// SAFETY: the machine has these instructions, and both slices the same length.
        #[target_feature(enable = $features)]
        unsafe fn $name<T: Copy>(from: &[T], to: &mut [T]) {
            use std::arch::x86_64::{$load, $store};
            const VECTOR: usize = size_of::<$vector>();
            let step = VECTOR / size_of::<T>();
            let head = to.as_ptr().align_offset(VECTOR).min(to.len());
            let body = (to.len() - head) / step;
            to[..head].copy_from_slice(&from[..head]);
            let (source, target) = (from[head..].as_ptr().cast::<$vector>(), to[head..].as_mut_ptr().cast::<$vector>());
            for i in 0..body {
                // SAFETY: vector i lies inside both slices, by `body`; the target is aligned, by `head`.
                unsafe { $store(target.add(i), $load(source.add(i))) };
            }
            let rest = head + body * step;
            to[rest..].copy_from_slice(&from[rest..]);
        }
    };
}
#[cfg(target_arch = "x86_64")]
copy_in!(copy_wide, "avx512f", std::arch::x86_64::__m512i, _mm512_loadu_si512, _mm512_stream_si512);
#[cfg(target_arch = "x86_64")]
copy_in!(copy_sse, "sse2", std::arch::x86_64::__m128i, _mm_loadu_si128, _mm_stream_si128);

/// Rounds lanes to bf16 on their way to memory past the caches.
#[cfg(target_arch = "x86_64")]
pub fn narrow(from: &[f32], to: &mut [bf16]) {
    assert_eq!(from.len(), to.len(), "invariant: as many lanes as places");
    if std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512bw") {
        // SAFETY: the machine has the instructions.
        unsafe { narrow_wide(from, to) }
    } else if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has the instructions.
        unsafe { narrow_avx(from, to) }
    } else {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { narrow_sse(from, to) }
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! narrow_in {
    ($name:ident, $features:literal, $vector:ty, $load:ident, $store:ident) => {
        /// SAFETY: the machine has these instructions, and both slices the same length.
        #[target_feature(enable = $features)]
        unsafe fn $name(from: &[f32], to: &mut [bf16]) {
            use std::arch::x86_64::{$load, $store};
            const LANES: usize = size_of::<$vector>() / 2;
            let head = to.as_ptr().align_offset(size_of::<$vector>()).min(to.len());
            let (body, rest) = from[head..].as_chunks::<LANES>();
            let (first, places) = to.split_at_mut(head);
            let (lines, last) = places.as_chunks_mut::<LANES>();
            for (x, y) in body.iter().zip(lines) {
                let mut line = [0u16; LANES];
                for (y, x) in line.iter_mut().zip(x) {
                    *y = to_bf16(*x).to_bits();
                }
                // SAFETY: both are one vector long; the target is aligned, by `head`.
                unsafe { $store(y.as_mut_ptr().cast(), $load(line.as_ptr().cast())) };
            }
            for (y, x) in first.iter_mut().zip(&from[..head]).chain(last.iter_mut().zip(rest)) {
                *y = to_bf16(*x);
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
narrow_in!(narrow_wide, "avx512f,avx512bw", std::arch::x86_64::__m512i, _mm512_loadu_si512, _mm512_stream_si512);
#[cfg(target_arch = "x86_64")]
narrow_in!(narrow_avx, "avx2", std::arch::x86_64::__m256i, _mm256_loadu_si256, _mm256_stream_si256);
#[cfg(target_arch = "x86_64")]
narrow_in!(narrow_sse, "sse2", std::arch::x86_64::__m128i, _mm_loadu_si128, _mm_stream_si128);

/// Orders streamed stores before what this thread does next.
#[cfg(target_arch = "x86_64")]
pub fn fence() {
    // SAFETY: SSE is part of x86-64, and the instruction touches no memory of ours.
    unsafe { std::arch::x86_64::_mm_sfence() }
}

/// Asks for the cache line at an address, which may be anywhere: to be there when it is read.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint, which touches nothing; SSE is part of x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn prefetch<T>(_: *const T) {}

#[cfg(not(target_arch = "x86_64"))]
pub fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    to.copy_from_slice(from);
}

#[cfg(not(target_arch = "x86_64"))]
pub fn narrow(from: &[f32], to: &mut [bf16]) {
    for (y, x) in to.iter_mut().zip(from) {
        *y = to_bf16(*x);
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub fn fence() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length_is_copied() {
        for start in 0..9 {
            for len in [0, 1, 3, 4, 7, 8, 31, 100] {
                let from: Vec<f32> = (0..len).map(|i| i as f32).collect();
                let mut to = vec![-1f32; start + len + 3];
                copy(&from, &mut to[start..start + len]);
                fence();
                assert_eq!(to[start..start + len], from[..]);
                assert!(to[..start].iter().chain(&to[start + len..]).all(|v| *v == -1.0));
                let bytes: Vec<u16> = (0..len as u16).collect();
                let mut to = vec![9u16; start + len];
                copy(&bytes, &mut to[start..]);
                fence();
                assert_eq!(to[start..], bytes[..]);
                let thirds: Vec<f32> = from.iter().map(|x| x / 3.0).collect();
                let mut to = vec![bf16::NAN; start + len];
                narrow(&thirds, &mut to[start..]);
                fence();
                assert!(to[start..].iter().zip(&thirds).all(|(y, x)| *y == bf16::from_f32(*x)));
            }
        }
    }
}
