//! Running sums of f32 in vectors of eight f64, written out for AVX-512. (cumsum of 4096×4096 on a Xeon of two cores:
//! 15.9 → 5.1 ms, of which 5 are the row asked for ahead.)

/// Sums from first to last in vectors of eight, where the machine has them: what LLVM makes of the loop of `scan`
/// takes three times as long.
pub trait SumsWide: Sized {
    /// False where it has not; then nothing is written.
    fn sums_wide(_: &[Self], _: &mut [Self]) -> bool {
        false
    }
}
impl SumsWide for f64 {}
#[cfg(not(target_arch = "x86_64"))]
impl SumsWide for f32 {}
#[cfg(target_arch = "x86_64")]
impl SumsWide for f32 {
    fn sums_wide(a: &[f32], out: &mut [f32]) -> bool {
        let has = std::is_x86_feature_detected!("avx512f");
        if has {
            // SAFETY: the machine has the instructions.
            unsafe { sums_avx512(a, out) }
        }
        has
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sums_avx512(a: &[f32], out: &mut [f32]) {
    use super::{ahead::DISTANCE, stream};
    use std::arch::x86_64::*;
    /// The lanes moved up by `8 - REST`, zeros below.
    #[target_feature(enable = "avx512f")]
    fn moved<const REST: i32>(x: __m512d) -> __m512d {
        _mm512_castsi512_pd(_mm512_alignr_epi64::<REST>(_mm512_castpd_si512(x), _mm512_setzero_si512()))
    }
    let (chunks, rest) = a.as_chunks::<8>();
    let (sums, last) = out.as_chunks_mut::<8>();
    let top = _mm512_set1_epi64(7);
    let mut before = _mm512_setzero_pd();
    for (a, out) in chunks.iter().zip(sums) {
        stream::prefetch(a.as_ptr().wrapping_byte_add(DISTANCE));
        // SAFETY: eight numbers of four bytes; the load asks for no alignment.
        let x = _mm512_cvtps_pd(unsafe { _mm256_loadu_ps(a.as_ptr()) });
        let x = _mm512_add_pd(x, moved::<7>(x));
        let x = _mm512_add_pd(x, moved::<6>(x));
        let x = _mm512_add_pd(x, moved::<4>(x));
        let y = _mm512_cvtpd_ps(_mm512_add_pd(x, before));
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), y) };
        before = _mm512_add_pd(before, _mm512_permutexvar_pd(top, x));
    }
    let mut sum = _mm512_cvtsd_f64(before);
    for (a, out) in rest.iter().zip(last) {
        sum += f64::from(*a);
        *out = sum as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_the_sums_of_one_after_the_other() {
        for n in [0, 1, 7, 8, 9, 64, 1003] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1.25).collect();
            let mut sums = vec![f32::NAN; n];
            if !f32::sums_wide(&x, &mut sums) {
                return;
            }
            let mut sum = 0f64;
            for (x, got) in x.iter().zip(&sums) {
                sum += f64::from(*x);
                assert_eq!(*got, sum as f32, "{n} numbers");
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_with_the_positions_after_it() {
        let mut x = vec![1f32; 40];
        x[20] = f32::INFINITY;
        let mut sums = vec![0f32; 40];
        if f32::sums_wide(&x, &mut sums) {
            assert_eq!(sums[19], 20.0);
            assert!(sums[20..].iter().all(|s| *s == f32::INFINITY), "{sums:?}");
        }
    }
}
