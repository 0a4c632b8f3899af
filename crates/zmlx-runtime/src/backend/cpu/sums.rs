//! Sums of lanes in f64, in an order that depends on nothing but their number.

use super::{
    lanes::{Arith, Convert, Src},
    simd::{Fma, Loop, dispatch},
};

/// Adds lanes to as many f64 sums.
pub fn add_to<T: Arith + Convert<f64>>(sums: &mut [f64], x: Src<'_, T>) {
    struct M<'a, T>(&'a mut [f64], Src<'a, T>);
    impl<T: Arith + Convert<f64>> Loop for M<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<F: Fma>(self) {
            match self.1 {
                Src::Lanes(x) => {
                    for (s, x) in self.0.iter_mut().zip(x) {
                        *s += x.convert();
                    }
                }
                Src::Splat(x) => {
                    for s in self.0 {
                        *s += x.convert();
                    }
                }
            }
        }
    }
    dispatch(M(sums, x))
}

/// A sum of lanes in f64, in an order that depends on nothing but their number. The sums lie in memory: LLVM makes
/// vectors of what it finds there side by side, and single numbers of what it finds in variables.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Sums([f64; Sums::WAYS]);

impl Sums {
    /// So many that an addition never waits for the one before it.
    const WAYS: usize = 64;
    /// Of no lanes.
    pub const ZERO: Sums = Sums([0.0; Sums::WAYS]);

    /// Adds `value(chunk, 0)` to `value(chunk, WAYS - 1)` of all chunks. The sums are in parts, each small enough to be
    /// written out, so that the compiler makes vectors of them that stay in registers.
    #[inline(always)]
    fn add_chunks<C: Copy>(&mut self, chunks: impl Iterator<Item = C>, value: impl Fn(C, usize) -> f64) {
        const PART: usize = Sums::WAYS / 4;
        #[inline(always)]
        fn add(part: &mut [f64; PART], value: impl Fn(usize) -> f64) {
            let values: [f64; PART] = std::array::from_fn(value);
            for (s, v) in part.iter_mut().zip(values) {
                *s += v;
            }
        }
        let mut parts: [[f64; PART]; 4] = std::array::from_fn(|p| std::array::from_fn(|i| self.0[p * PART + i]));
        let [a, b, c, d] = &mut parts;
        for chunk in chunks {
            add(a, |i| value(chunk, i));
            add(b, |i| value(chunk, PART + i));
            add(c, |i| value(chunk, 2 * PART + i));
            add(d, |i| value(chunk, 3 * PART + i));
        }
        for (s, part) in self.0.as_chunks_mut().0.iter_mut().zip(parts) {
            *s = part;
        }
    }

    /// Adds lanes.
    pub fn add<T: Arith + Convert<f64>>(&mut self, x: &[T]) {
        struct M<'a, T>(&'a mut Sums, &'a [T]);
        impl<T: Arith + Convert<f64>> Loop for M<'_, T> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(sums, x) = self;
                let (chunks, rest) = x.as_chunks::<{ Sums::WAYS }>();
                sums.add_chunks(chunks.iter(), |x, i| x[i].convert());
                for (s, x) in sums.0.iter_mut().zip(rest) {
                    *s += x.convert();
                }
            }
        }
        dispatch(M(self, x))
    }

    /// Adds products, each rounded.
    pub fn add_products(&mut self, a: &[f32], b: &[f32]) {
        struct M<'a>(&'a mut Sums, &'a [f32], &'a [f32]);
        impl Loop for M<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(sums, a, b) = self;
                let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<{ Sums::WAYS }>(), b.as_chunks::<{ Sums::WAYS }>());
                sums.add_chunks(a.iter().zip(b), |(a, b), i| f64::from(a[i] * b[i]));
                for ((s, a), b) in sums.0.iter_mut().zip(a_rest).zip(b_rest) {
                    *s += f64::from(a * b);
                }
            }
        }
        dispatch(M(self, a, b))
    }

    /// Adds the squares of lanes less `m`, each rounded: what a variance is made of, without the differences in memory.
    pub fn add_squares(&mut self, x: &[f32], m: f32) {
        struct M<'a>(&'a mut Sums, &'a [f32], f32);
        impl Loop for M<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(sums, x, m) = self;
                let square = |x: f32| f64::from((x - m) * (x - m));
                let (chunks, rest) = x.as_chunks::<{ Sums::WAYS }>();
                sums.add_chunks(chunks.iter(), |x, i| square(x[i]));
                for (s, x) in sums.0.iter_mut().zip(rest) {
                    *s += square(*x);
                }
            }
        }
        dispatch(M(self, x, m))
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        let mut sums = self.0;
        let mut n = Sums::WAYS / 2;
        while n > 0 {
            for i in 0..n {
                sums[i] += sums[i + n];
            }
            n /= 2;
        }
        sums[0]
    }
}

/// Sum of lanes.
pub fn total<T: Arith + Convert<f64>>(x: Src<'_, T>, lanes: usize) -> f64 {
    let x = match x {
        Src::Lanes(x) => &x[..lanes],
        Src::Splat(v) => return v.convert() * lanes as f64,
    };
    let mut sums = Sums::ZERO;
    sums.add(x);
    sums.total()
}
