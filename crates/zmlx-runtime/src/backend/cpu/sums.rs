//! Sums of lanes in f64, in an order that depends on nothing but their number.

use super::{
    lanes::{Arith, Convert, Src, Wide},
    simd::{Fma, Loop, dispatch},
};
use half::bf16;

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
    const PART: usize = Sums::WAYS / 4;
    /// Of no lanes.
    pub const ZERO: Sums = Sums([0.0; Sums::WAYS]);

    /// The sums in parts, each small enough to be written out, so that the compiler makes vectors of them that stay in registers.
    #[inline(always)]
    fn parts(&self) -> [[f64; Sums::PART]; 4] {
        std::array::from_fn(|p| std::array::from_fn(|i| self.0[p * Sums::PART + i]))
    }

    #[inline(always)]
    fn put(&mut self, parts: [[f64; Sums::PART]; 4]) {
        for (s, part) in self.0.as_chunks_mut().0.iter_mut().zip(parts) {
            *s = part;
        }
    }

    /// Adds `value(chunk, 0)` to `value(chunk, WAYS - 1)` of all chunks.
    #[inline(always)]
    fn add_chunks<C: Copy>(&mut self, chunks: impl Iterator<Item = C>, value: impl Fn(C, usize) -> f64) {
        const PART: usize = Sums::PART;
        #[inline(always)]
        fn add(part: &mut [f64; PART], value: impl Fn(usize) -> f64) {
            let values: [f64; PART] = std::array::from_fn(value);
            for (s, v) in part.iter_mut().zip(values) {
                *s += v;
            }
        }
        let mut parts = self.parts();
        let [a, b, c, d] = &mut parts;
        for chunk in chunks {
            add(a, |i| value(chunk, i));
            add(b, |i| value(chunk, PART + i));
            add(c, |i| value(chunk, 2 * PART + i));
            add(d, |i| value(chunk, 3 * PART + i));
        }
        self.put(parts);
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

    /// Adds lanes of memory, of which neighbours are added in f32 first: half the work, and exact but for lanes that are
    /// more than 2¹⁶ times apart. (It is halves of them that are added, as two large ones would come to infinity.)
    pub fn add_halves(&mut self, x: &[bf16]) {
        // both of a pair lie in one word
        #[inline(always)]
        fn add<F: Fma>(sums: &mut [f64], pairs: &[[bf16; 2]]) {
            for (s, [a, b]) in sums.iter_mut().zip(pairs) {
                let word = u32::from(a.to_bits()) | u32::from(b.to_bits()) << 16;
                let half = F::f32(f32::from_bits(word << 16), 0.5, 0.5 * f32::from_bits(word & 0xffff_0000));
                *s = F::f64(f64::from(half), 2.0, *s);
            }
        }
        struct M<'a>(&'a mut Sums, &'a [bf16]);
        impl Loop for M<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                const PART: usize = Sums::PART;
                let M(sums, x) = self;
                let (pairs, rest) = x.as_chunks::<2>();
                let (chunks, few) = pairs.as_chunks::<{ Sums::WAYS }>();
                let mut parts = sums.parts();
                let [a, b, c, d] = &mut parts;
                for x in chunks {
                    add::<F>(a, &x[..PART]);
                    add::<F>(b, &x[PART..2 * PART]);
                    add::<F>(c, &x[2 * PART..3 * PART]);
                    add::<F>(d, &x[3 * PART..]);
                }
                sums.put(parts);
                add::<F>(&mut sums.0, few);
                for x in rest {
                    sums.0[few.len() % Sums::WAYS] += f64::from(x.wide());
                }
            }
        }
        dispatch(M(self, x))
    }

    /// Adds products, each rounded.
    pub fn add_products<A: Wide, B: Wide>(&mut self, a: &[A], b: &[B]) {
        struct M<'a, A, B>(&'a mut Sums, &'a [A], &'a [B]);
        impl<A: Wide, B: Wide> Loop for M<'_, A, B> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(sums, a, b) = self;
                let product = |a: A, b: B| f64::from(a.wide() * b.wide());
                let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<{ Sums::WAYS }>(), b.as_chunks::<{ Sums::WAYS }>());
                sums.add_chunks(a.iter().zip(b), |(a, b), i| product(a[i], b[i]));
                for ((s, a), b) in sums.0.iter_mut().zip(a_rest).zip(b_rest) {
                    *s += product(*a, *b);
                }
            }
        }
        dispatch(M(self, a, b))
    }

    /// Adds the squares of lanes less `m`, each rounded: what a variance is made of, without the differences in memory.
    pub fn add_squares<A: Wide>(&mut self, x: &[A], m: f32) {
        struct M<'a, A>(&'a mut Sums, &'a [A], f32);
        impl<A: Wide> Loop for M<'_, A> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(sums, x, m) = self;
                let square = |x: A| f64::from((x.wide() - m) * (x.wide() - m));
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
        struct M<'a>(&'a Sums);
        impl Loop for M<'_> {
            type Output = f64;
            #[inline(always)]
            fn run<F: Fma>(self) -> f64 {
                let mut sums = self.0.0;
                let mut n = Sums::WAYS / 2;
                while n > 0 {
                    let (low, high) = sums.split_at_mut(n);
                    for (s, x) in low.iter_mut().zip(high) {
                        *s += *x;
                    }
                    n /= 2;
                }
                sums[0]
            }
        }
        dispatch(M(self))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_in_pairs_have_the_sum_of_all() {
        for len in [0, 1, 2, 63, 64, 127, 128, 129, 1000, 1025] {
            let x: Vec<bf16> = (0..len).map(|i| bf16::from_f32((i as f32 * 0.7).sin() * 100.0)).collect();
            let exact: f64 = x.iter().map(|x| x.to_f64()).sum();
            let mut sums = Sums::ZERO;
            sums.add_halves(&x);
            // no two are 2¹⁶ times apart that matter
            assert!((sums.total() - exact).abs() < 1e-3, "{len}: {} for {exact}", sums.total());
            let most =
                if len % 2 == 0 { [bf16::MAX, bf16::MAX, bf16::MIN, bf16::MIN] } else { [bf16::from_bits(1); 4] };
            let edge: Vec<bf16> = most.into_iter().cycle().take(len).collect();
            let mut sums = Sums::ZERO;
            sums.add_halves(&edge);
            assert_eq!(sums.total(), edge.iter().map(|x| x.to_f64()).sum::<f64>(), "{len} at the edges");
            let mut squares = Sums::ZERO;
            squares.add_products(&x, &x);
            let exact: f64 = x.iter().map(|x| x.to_f64().powi(2)).sum();
            assert_eq!(squares.total(), exact, "products of {len} halves are exact");
        }
    }
}
