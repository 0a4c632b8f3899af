//! Two cheap f32 ops in one loop: `(a ∘ b) ∘ c`, each rounded as on its own. A sum or product of lanes costs less than
//! reading its operands and writing its result, so that two in one loop take hardly longer than one.

use super::{
    lanes::{Fn3, Map3, Src, Wide},
    simd::{Fma, Loop, dispatch},
};
use zmlx_ir::Op;

/// A cheap op on a value and the next operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cheap {
    Add,
    Sub,
    /// The operand less the value.
    SubFrom,
    Mul,
    /// Not so cheap, but a second op that waits for nothing: value over operand.
    Div,
}

impl Cheap {
    /// The op with the value as its first operand, or as its second.
    pub fn of(op: Op, value_first: bool) -> Option<Cheap> {
        Some(match op {
            Op::Add => Cheap::Add,
            Op::Mul => Cheap::Mul,
            Op::Sub if value_first => Cheap::Sub,
            Op::Sub => Cheap::SubFrom,
            Op::Div if value_first => Cheap::Div,
            _ => return None,
        })
    }
}

trait Binary: Copy {
    fn at(self, a: f32, b: f32) -> f32;
}

#[derive(Clone, Copy)]
struct Add;
impl Binary for Add {
    #[inline(always)]
    fn at(self, a: f32, b: f32) -> f32 {
        a + b
    }
}

#[derive(Clone, Copy)]
struct Sub;
impl Binary for Sub {
    #[inline(always)]
    fn at(self, a: f32, b: f32) -> f32 {
        a - b
    }
}

#[derive(Clone, Copy)]
struct SubFrom;
impl Binary for SubFrom {
    #[inline(always)]
    fn at(self, a: f32, b: f32) -> f32 {
        b - a
    }
}

#[derive(Clone, Copy)]
struct Mul;
impl Binary for Mul {
    #[inline(always)]
    fn at(self, a: f32, b: f32) -> f32 {
        a * b
    }
}

#[derive(Clone, Copy)]
struct Div;
impl Binary for Div {
    #[inline(always)]
    fn at(self, a: f32, b: f32) -> f32 {
        a / b
    }
}

#[derive(Clone, Copy)]
struct Pair<P, Q>(P, Q);

impl<A: Wide, P: Binary, Q: Binary> Fn3<A, f32> for Pair<P, Q> {
    #[inline(always)]
    fn at(self, a: A, b: f32, c: f32) -> f32 {
        self.1.at(self.0.at(a.wide(), b), c)
    }
}

/// `out = (a first b) second c`.
pub fn pair<A: Wide>(first: Cheap, second: Cheap, out: &mut [f32], a: &[A], b: Src<'_, f32>, c: Src<'_, f32>) {
    fn with<A: Wide, P: Binary>(p: P, second: Cheap, out: &mut [f32], a: &[A], b: Src<'_, f32>, c: Src<'_, f32>) {
        match second {
            Cheap::Add => dispatch(Map3(out, a, b, c, Pair(p, Add))),
            Cheap::Sub => dispatch(Map3(out, a, b, c, Pair(p, Sub))),
            Cheap::SubFrom => dispatch(Map3(out, a, b, c, Pair(p, SubFrom))),
            Cheap::Mul => dispatch(Map3(out, a, b, c, Pair(p, Mul))),
            Cheap::Div => dispatch(Map3(out, a, b, c, Pair(p, Div))),
        }
    }
    match first {
        Cheap::Add => with(Add, second, out, a, b, c),
        Cheap::Sub => with(Sub, second, out, a, b, c),
        Cheap::SubFrom => with(SubFrom, second, out, a, b, c),
        Cheap::Mul => with(Mul, second, out, a, b, c),
        Cheap::Div => with(Div, second, out, a, b, c),
    }
}

/// `out = a b + c d`, each rounded.
pub fn blend<A: Wide>(out: &mut [f32], a: &[A], c: &[f32], [b, d]: [f32; 2]) {
    struct M<'a, A>(&'a mut [f32], &'a [A], &'a [f32], [f32; 2]);
    impl<A: Wide> Loop for M<'_, A> {
        type Output = ();
        #[inline(always)]
        fn run<F: Fma>(self) {
            let M(out, a, c, [b, d]) = self;
            for ((y, a), c) in out.iter_mut().zip(a).zip(c) {
                *y = a.wide() * b + c * d;
            }
        }
    }
    dispatch(M(out, a, c, [b, d]))
}

/// `out = ((a - b) c) d + e`, each rounded.
pub fn norm<A: Wide>(out: &mut [f32], a: &[A], [b, c]: [f32; 2], [d, e]: [&[f32]; 2]) {
    struct M<'a, A>(&'a mut [f32], &'a [A], [f32; 2], [&'a [f32]; 2]);
    impl<A: Wide> Loop for M<'_, A> {
        type Output = ();
        #[inline(always)]
        fn run<F: Fma>(self) {
            let M(out, a, [b, c], [d, e]) = self;
            for (((y, a), d), e) in out.iter_mut().zip(a).zip(d).zip(e) {
                *y = (a.wide() - b) * c * d + e;
            }
        }
    }
    dispatch(M(out, a, [b, c], [d, e]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_one_op_after_the_other() {
        let lanes = |seed: f32| -> Vec<f32> { (0..75).map(|i| (i as f32 * seed).sin() * 3.0).collect() };
        let (a, b, c) = (lanes(0.7), lanes(1.3), lanes(2.1));
        let single = |op: Cheap, a: f32, b: f32| match op {
            Cheap::Add => a + b,
            Cheap::Sub => a - b,
            Cheap::SubFrom => b - a,
            Cheap::Mul => a * b,
            Cheap::Div => a / b,
        };
        let ops = [Cheap::Add, Cheap::Sub, Cheap::SubFrom, Cheap::Mul, Cheap::Div];
        for (first, second) in ops.iter().flat_map(|p| ops.map(|q| (*p, q))) {
            for b in [Src::Lanes(&b[..]), Src::Splat(1.7)] {
                for c in [Src::Lanes(&c[..]), Src::Splat(-0.3)] {
                    let mut out = vec![0.0; a.len()];
                    pair(first, second, &mut out, &a, b, c);
                    for (i, y) in out.iter().enumerate() {
                        let expected = single(second, single(first, a[i], b.at(i)), c.at(i));
                        assert_eq!(y.to_bits(), expected.to_bits(), "{first:?} {second:?} lane {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_blend_is_two_products_and_their_sum() {
        let lanes = |seed: f32| -> Vec<f32> { (0..75).map(|i| (i as f32 * seed).sin() * 3.0).collect() };
        let (a, c, mut out) = (lanes(0.7), lanes(1.3), vec![0.0; 75]);
        blend(&mut out, &a, &c, [0.9, 0.1]);
        assert!(out.iter().zip(a.iter().zip(&c)).all(|(y, (a, c))| *y == a * 0.9 + c * 0.1));
    }
}
