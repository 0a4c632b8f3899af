//! Two cheap f32 ops in one loop: `(a ∘ b) ∘ c`, each rounded as on its own. A sum or product of lanes costs less than
//! reading its operands and writing its result, so that two in one loop take hardly longer than one.

use super::{
    lanes::Src,
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
}

impl Cheap {
    /// The op with the value as its first operand, or as its second.
    pub fn of(op: Op, value_first: bool) -> Option<Cheap> {
        Some(match op {
            Op::Add => Cheap::Add,
            Op::Mul => Cheap::Mul,
            Op::Sub if value_first => Cheap::Sub,
            Op::Sub => Cheap::SubFrom,
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

struct Pair<'a, P, Q>(P, Q, &'a mut [f32], &'a [f32], Src<'a, f32>, Src<'a, f32>);

impl<P: Binary, Q: Binary> Loop for Pair<'_, P, Q> {
    type Output = ();
    #[inline(always)]
    fn run<F: Fma>(self) {
        let Pair(p, q, out, a, b, c) = self;
        match (b, c) {
            (Src::Lanes(b), Src::Lanes(c)) => {
                for (((y, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
                    *y = q.at(p.at(*a, *b), *c);
                }
            }
            (Src::Lanes(b), Src::Splat(c)) => {
                for ((y, a), b) in out.iter_mut().zip(a).zip(b) {
                    *y = q.at(p.at(*a, *b), c);
                }
            }
            (Src::Splat(b), Src::Lanes(c)) => {
                for ((y, a), c) in out.iter_mut().zip(a).zip(c) {
                    *y = q.at(p.at(*a, b), *c);
                }
            }
            (Src::Splat(b), Src::Splat(c)) => {
                for (y, a) in out.iter_mut().zip(a) {
                    *y = q.at(p.at(*a, b), c);
                }
            }
        }
    }
}

/// `out = (a first b) second c`.
pub fn pair(first: Cheap, second: Cheap, out: &mut [f32], a: &[f32], b: Src<'_, f32>, c: Src<'_, f32>) {
    fn with<P: Binary>(p: P, second: Cheap, out: &mut [f32], a: &[f32], b: Src<'_, f32>, c: Src<'_, f32>) {
        match second {
            Cheap::Add => dispatch(Pair(p, Add, out, a, b, c)),
            Cheap::Sub => dispatch(Pair(p, Sub, out, a, b, c)),
            Cheap::SubFrom => dispatch(Pair(p, SubFrom, out, a, b, c)),
            Cheap::Mul => dispatch(Pair(p, Mul, out, a, b, c)),
        }
    }
    match first {
        Cheap::Add => with(Add, second, out, a, b, c),
        Cheap::Sub => with(Sub, second, out, a, b, c),
        Cheap::SubFrom => with(SubFrom, second, out, a, b, c),
        Cheap::Mul => with(Mul, second, out, a, b, c),
    }
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
        };
        let ops = [Cheap::Add, Cheap::Sub, Cheap::SubFrom, Cheap::Mul];
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
}
