//! Sums of lanes, in an order that depends on nothing but their number.

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

/// A sum of lanes, in an order that depends on nothing but their number. Of f32, eight lanes at a time are added in f32, as a
/// tree, and such sums in f64: what that loses is at most 3·2⁻²⁴ of the sum of the absolute values, however many they are.
/// (f32 all the way would lose more the longer a row is.) Where a tree comes to infinity, all is added in f64.
///
/// The sums lie in memory: LLVM makes vectors of what it finds there side by side, and single numbers of what it finds in
/// variables.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Sums([f64; Sums::WAYS]);

/// Lanes that are added in f32.
const TREE: usize = 8;
const CHUNK: usize = TREE * Sums::WAYS;

/// Numbers of a chunk, some for each of the sums: numbers `i`, `i + WAYS` … for sum `i`.
trait Terms: Copy {
    /// How many for each.
    const EACH: usize = TREE;
    /// One of them.
    fn at(self, i: usize) -> f32;
    /// The same, exactly.
    fn exact(self, i: usize) -> f64 {
        f64::from(self.at(i))
    }
}

impl Terms for &[f32; CHUNK] {
    #[inline(always)]
    fn at(self, i: usize) -> f32 {
        self[i]
    }
}

/// Both of a pair lie in one word.
impl Terms for &[[bf16; 2]; CHUNK / 2] {
    const EACH: usize = TREE / 2;
    #[inline(always)]
    fn at(self, i: usize) -> f32 {
        let [a, b] = self[i];
        let word = u32::from(a.to_bits()) | u32::from(b.to_bits()) << 16;
        f32::from_bits(word << 16) + f32::from_bits(word & 0xffff_0000)
    }
    #[inline(always)]
    fn exact(self, i: usize) -> f64 {
        let [a, b] = self[i];
        f64::from(a.wide()) + f64::from(b.wide())
    }
}

/// Products, each rounded.
impl<A: Wide, B: Wide> Terms for (&[A; CHUNK], &[B; CHUNK]) {
    #[inline(always)]
    fn at(self, i: usize) -> f32 {
        self.0[i].wide() * self.1[i].wide()
    }
}

/// Squares of differences, each rounded.
impl<A: Wide> Terms for (&[A; CHUNK], f32) {
    #[inline(always)]
    fn at(self, i: usize) -> f32 {
        let d = self.0[i].wide() - self.1;
        d * d
    }
}

/// The terms of sum `i`.
#[inline(always)]
fn tree<K: Terms>(x: K, i: usize) -> f32 {
    let two = |k: usize| x.at(k * Sums::WAYS + i) + x.at((k + 1) * Sums::WAYS + i);
    let four = |k: usize| two(k) + two(k + 2);
    if K::EACH == TREE { four(0) + four(4) } else { four(0) }
}

impl Sums {
    /// So many that an addition never waits for the one before it.
    const WAYS: usize = 32;
    /// Of no lanes.
    pub const ZERO: Sums = Sums([0.0; Sums::WAYS]);

    #[inline(always)]
    fn add_chunks<K: Terms>(&mut self, chunks: impl Iterator<Item = K> + Clone) {
        let mut sums = self.0;
        for x in chunks.clone() {
            // two loops, so that the first has vectors of f32 alone
            let mut trees = [0f32; Sums::WAYS];
            for (i, t) in trees.iter_mut().enumerate() {
                *t = tree(x, i);
            }
            for (s, t) in sums.iter_mut().zip(trees) {
                *s += f64::from(t);
            }
        }
        if sums.iter().fold(true, |finite, s| finite & s.is_finite()) {
            self.0 = sums;
            return;
        }
        for x in chunks {
            for k in 0..K::EACH {
                for (i, s) in self.0.iter_mut().enumerate() {
                    *s += x.exact(k * Sums::WAYS + i);
                }
            }
        }
    }

    /// Adds what is less than a chunk.
    #[inline(always)]
    fn add_rest(&mut self, rest: &[f32]) {
        for part in rest.chunks(Sums::WAYS) {
            for (s, x) in self.0.iter_mut().zip(part) {
                *s += f64::from(*x);
            }
        }
    }

    /// Adds lanes.
    pub fn add(&mut self, x: &[f32]) {
        struct M<'a>(&'a mut Sums, &'a [f32]);
        impl Loop for M<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(sums, x) = self;
                let (chunks, rest) = x.as_chunks();
                sums.add_chunks(chunks.iter());
                sums.add_rest(rest);
            }
        }
        dispatch(M(self, x))
    }

    /// Adds lanes of f64.
    pub fn add_doubles(&mut self, x: &[f64]) {
        struct M<'a>(&'a mut Sums, &'a [f64]);
        impl Loop for M<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(sums, x) = self;
                for part in x.chunks(Sums::WAYS) {
                    for (s, x) in sums.0.iter_mut().zip(part) {
                        *s += *x;
                    }
                }
            }
        }
        dispatch(M(self, x))
    }

    /// Adds lanes of memory.
    pub fn add_halves(&mut self, x: &[bf16]) {
        struct M<'a>(&'a mut Sums, &'a [bf16]);
        impl Loop for M<'_> {
            type Output = ();
            #[inline(always)]
            fn run<F: Fma>(self) {
                let M(sums, x) = self;
                let (pairs, _) = x.as_chunks();
                let (chunks, _) = pairs.as_chunks();
                sums.add_chunks(chunks.iter());
                let rest = &x[chunks.len() * CHUNK..];
                let mut wide = [0.0; CHUNK];
                for (y, x) in wide.iter_mut().zip(rest) {
                    *y = x.wide();
                }
                sums.add_rest(&wide[..rest.len()]);
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
                let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
                sums.add_chunks(a.iter().zip(b));
                let mut products = [0.0; CHUNK];
                for ((y, a), b) in products.iter_mut().zip(a_rest).zip(b_rest) {
                    *y = a.wide() * b.wide();
                }
                sums.add_rest(&products[..a_rest.len()]);
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
                let (chunks, rest) = x.as_chunks();
                sums.add_chunks(chunks.iter().map(|x| (x, m)));
                let mut squares = [0.0; CHUNK];
                for (y, x) in squares.iter_mut().zip(rest) {
                    *y = (x.wide() - m) * (x.wide() - m);
                }
                sums.add_rest(&squares[..rest.len()]);
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

/// Floats that are added up.
pub trait Summed: Arith + Convert<f64> {
    /// Adds lanes.
    fn add(sums: &mut Sums, x: &[Self]);
}
impl Summed for f32 {
    fn add(sums: &mut Sums, x: &[f32]) {
        sums.add(x);
    }
}
impl Summed for f64 {
    fn add(sums: &mut Sums, x: &[f64]) {
        sums.add_doubles(x);
    }
}

/// Sum of lanes.
pub fn total<T: Summed>(x: Src<'_, T>, lanes: usize) -> f64 {
    let x = match x {
        Src::Lanes(x) => &x[..lanes],
        Src::Splat(v) => return v.convert() * lanes as f64,
    };
    let mut sums = Sums::ZERO;
    T::add(&mut sums, x);
    sums.total()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of both signs, from 2⁻⁶ to 2⁶.
    fn lanes(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.7).sin() * (i as f32 * 1.3).sin().mul_add(6.0, 0.0).exp2()).collect()
    }

    fn sum(add: impl FnOnce(&mut Sums)) -> f64 {
        let mut sums = Sums::ZERO;
        add(&mut sums);
        sums.total()
    }

    #[track_caller]
    fn close(got: f64, terms: impl Iterator<Item = f64> + Clone, what: &str) {
        let (exact, size) = (terms.clone().sum::<f64>(), terms.map(f64::abs).sum::<f64>());
        assert!((got - exact).abs() <= (3.0 + 1e-6) * 2f64.powi(-24) * size, "{what}: {got} for {exact}");
    }

    #[test]
    fn sums_lose_no_more_than_three_roundings() {
        for len in [0, 1, 31, 255, 256, 257, 512, 1000, 1025, 20_000] {
            let x = lanes(len);
            let (y, m): (Vec<f32>, f32) = (x.iter().map(|x| x + 0.3).collect(), 0.1);
            let halves: Vec<bf16> = x.iter().map(|x| bf16::from_f32(*x)).collect();
            let wide = || halves.iter().map(|x| x.to_f64());
            let double = |x: f32| f64::from(x);
            close(sum(|s| s.add(&x)), x.iter().map(|x| double(*x)), "f32");
            close(sum(|s| s.add_halves(&halves)), wide(), "bf16");
            close(sum(|s| s.add_products(&x, &y)), x.iter().zip(&y).map(|(x, y)| double(x * y)), "products");
            close(sum(|s| s.add_squares(&x, m)), x.iter().map(|x| double((x - m) * (x - m))), "squares");
            let rounded = |x: f64| double((x as f32 - m) * (x as f32 - m));
            close(sum(|s| s.add_squares(&halves, m)), wide().map(rounded), "squares of bf16");
            let doubles: Vec<f64> = x.iter().map(|x| double(*x)).collect();
            let (got, exact) = (sum(|s| s.add_doubles(&doubles)), doubles.iter().sum::<f64>());
            assert!((got - exact).abs() <= 1e-9, "{len} of f64: {got} for {exact}");
        }
    }

    #[test]
    fn a_sum_that_f32_does_not_hold_half_way_is_that_of_f64() {
        for len in [256, 300, 1024] {
            let cycle = |values: [f32; 4]| -> Vec<f32> { values.into_iter().cycle().take(len).collect() };
            for values in [[f32::MAX, f32::MAX, f32::MIN, f32::MIN], [3e38, 1.0, 2e38, -3e38], [f32::from_bits(1); 4]] {
                let x = cycle(values);
                assert_eq!(sum(|s| s.add(&x)), x.iter().map(|x| f64::from(*x)).sum::<f64>(), "{values:?}");
                let x: Vec<bf16> = x.iter().map(|x| bf16::from_f32(x.clamp(-3e38, 3e38))).collect();
                assert_eq!(sum(|s| s.add_halves(&x)), x.iter().map(|x| x.to_f64()).sum::<f64>(), "{values:?} in bf16");
            }
            let large = cycle([1.5e19, -1.5e19, 1.5e19, 1.5e19]);
            let exact: f64 = large.iter().map(|x| f64::from(x * x)).sum();
            assert!(exact > f64::from(f32::MAX));
            assert_eq!(sum(|s| s.add_products(&large, &large)), exact);
            assert_eq!(sum(|s| s.add_squares(&large, 0.0)), exact);
            assert_eq!(sum(|s| s.add(&cycle([1.0, f32::INFINITY, 2.0, 3.0]))), f64::INFINITY);
            assert!(sum(|s| s.add(&cycle([1.0, f32::INFINITY, f32::NEG_INFINITY, 3.0]))).is_nan());
        }
    }
}
