//! Stores that go past the caches. A result larger than the cache is not in it when someone reads it, so keeping it
//! there only costs: an ordinary store reads the line from memory before it writes it.

/// Results of a launch of at least this many bytes are streamed: half of a large last-level cache. (rms_norm of
/// 4096×4096 f32 on a Zen 4 of two cores: 7.6 ms with ordinary stores, 5.6 ms streamed.)
pub const LEAST_BYTES: usize = 16 << 20;

/// Copies lanes to memory past the caches, where the machine can. `fence` makes them visible to other threads.
#[cfg(target_arch = "x86_64")]
pub fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    assert_eq!(from.len(), to.len(), "invariant: as many lanes as places");
    if std::is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions.
        unsafe { wide(from, to) }
    } else {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { narrow(from, to) }
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
copy_in!(wide, "avx512f", std::arch::x86_64::__m512i, _mm512_loadu_si512, _mm512_stream_si512);
#[cfg(target_arch = "x86_64")]
copy_in!(narrow, "sse2", std::arch::x86_64::__m128i, _mm_loadu_si128, _mm_stream_si128);

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
            }
        }
    }
}
