//! The loops: each pointwise op over slices of lanes. What an op means is the op table's; here is only how the CPU
//! spells it.

use super::{
    bank::Lane,
    math,
    simd::{Fma, Loop, dispatch},
};
use half::{bf16, f16};
use zmlx_ir::{DType, Op, program::philox};

/// Operand of a loop: a lane for each result, or one for all.
#[derive(Clone, Copy, Debug)]
pub enum Src<'a, T> {
    Lanes(&'a [T]),
    Splat(T),
}

impl<'a, T: Copy> Src<'a, T> {
    /// One lane.
    #[inline]
    pub fn at(&self, i: usize) -> T {
        match self {
            Src::Lanes(l) => l[i],
            Src::Splat(v) => *v,
        }
    }
    /// The lanes; none, where one stands for all.
    pub fn lanes(self) -> &'a [T] {
        match self {
            Src::Lanes(l) => l,
            Src::Splat(_) => &[],
        }
    }
    /// Some lanes.
    pub fn part(self, first: usize, count: usize) -> Src<'a, T> {
        match self {
            Src::Lanes(l) => Src::Lanes(&l[first..first + count]),
            splat => splat,
        }
    }
}

/// Floats of memory that are computed with as f32.
pub trait Wide: Copy {
    /// As that.
    fn wide(self) -> f32;
}
impl Wide for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}
impl Wide for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

struct Map1<'a, T, U, M>(&'a mut [U], Src<'a, T>, M);

/// A pointwise function, compiled for each instruction set.
trait Fn1<T, U>: Copy {
    fn at<F: Fma>(self, x: T) -> U;
}
trait Fn2<A, B, U>: Copy {
    fn at<F: Fma>(self, a: A, b: B) -> U;
}

impl<T: Copy, U: Copy, M: Fn1<T, U>> Loop for Map1<'_, T, U, M> {
    type Output = ();
    #[inline(always)]
    fn run<F: Fma>(self) {
        let Map1(out, x, m) = self;
        match x {
            Src::Lanes(x) => {
                for (y, x) in out.iter_mut().zip(x) {
                    *y = m.at::<F>(*x);
                }
            }
            Src::Splat(x) => out.fill(m.at::<F>(x)),
        }
    }
}

struct Map2<'a, A, B, U, M>(&'a mut [U], Src<'a, A>, Src<'a, B>, M);

impl<A: Copy, B: Copy, U: Copy, M: Fn2<A, B, U>> Loop for Map2<'_, A, B, U, M> {
    type Output = ();
    #[inline(always)]
    fn run<F: Fma>(self) {
        let Map2(out, a, b, m) = self;
        match (a, b) {
            (Src::Lanes(a), Src::Lanes(b)) => {
                for ((y, a), b) in out.iter_mut().zip(a).zip(b) {
                    *y = m.at::<F>(*a, *b);
                }
            }
            (Src::Lanes(a), Src::Splat(b)) => {
                for (y, a) in out.iter_mut().zip(a) {
                    *y = m.at::<F>(*a, b);
                }
            }
            (Src::Splat(a), Src::Lanes(b)) => {
                for (y, b) in out.iter_mut().zip(b) {
                    *y = m.at::<F>(a, *b);
                }
            }
            (Src::Splat(a), Src::Splat(b)) => out.fill(m.at::<F>(a, b)),
        }
    }
}

/// A pointwise function of three operands, the first of which is lanes.
pub trait Fn3<A, T>: Copy {
    fn at(self, a: A, b: T, c: T) -> T;
}

pub struct Map3<'a, A, T, M>(pub &'a mut [T], pub &'a [A], pub Src<'a, T>, pub Src<'a, T>, pub M);

impl<A: Copy, T: Copy, M: Fn3<A, T>> Loop for Map3<'_, A, T, M> {
    type Output = ();
    #[inline(always)]
    fn run<F: Fma>(self) {
        let Map3(out, a, b, c, m) = self;
        match (b, c) {
            (Src::Lanes(b), Src::Lanes(c)) => {
                for (((y, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
                    *y = m.at(*a, *b, *c);
                }
            }
            (Src::Lanes(b), Src::Splat(c)) => {
                for ((y, a), b) in out.iter_mut().zip(a).zip(b) {
                    *y = m.at(*a, *b, c);
                }
            }
            (Src::Splat(b), Src::Lanes(c)) => {
                for ((y, a), c) in out.iter_mut().zip(a).zip(c) {
                    *y = m.at(*a, b, *c);
                }
            }
            (Src::Splat(b), Src::Splat(c)) => {
                for (y, a) in out.iter_mut().zip(a) {
                    *y = m.at(*a, b, c);
                }
            }
        }
    }
}

/// Makes a zero-sized function value from an expression in `$x` (and `$y`), with `$f` the Fma choice.
macro_rules! f1 {
    ($t:ty => $u:ty, |$f:ident, $x:ident| $body:expr) => {{
        #[derive(Clone, Copy)]
        struct M;
        impl Fn1<$t, $u> for M {
            #[inline(always)]
            fn at<$f: Fma>(self, $x: $t) -> $u {
                $body
            }
        }
        M
    }};
}
macro_rules! f2 {
    ($t:ty => $u:ty, |$f:ident, $a:ident, $b:ident| $body:expr) => {{
        #[derive(Clone, Copy)]
        struct M;
        impl Fn2<$t, $t, $u> for M {
            #[inline(always)]
            fn at<$f: Fma>(self, $a: $t, $b: $t) -> $u {
                $body
            }
        }
        M
    }};
}

/// Arithmetic of a lane type.
pub trait Arith: Lane {
    /// An op of one operand, same type out.
    fn unary(op: Op, out: &mut [Self], x: Src<'_, Self>);
    /// An op of two operands, same type out.
    fn binary(op: Op, out: &mut [Self], a: Src<'_, Self>, b: Src<'_, Self>);
    /// a·b + c, rounded once.
    fn fma(out: &mut [Self], a: Src<'_, Self>, b: Src<'_, Self>, c: Src<'_, Self>);
    /// Is it a NaN?
    fn is_nan(self) -> bool;
}

macro_rules! float_arith {
    ($t:ident, $bits:ty, $m:ident) => {
        impl Arith for $t {
            fn unary(op: Op, out: &mut [$t], x: Src<'_, $t>) {
                macro_rules! go {
                                                    (|$f:ident, $x:ident| $body:expr) => {
                                                        dispatch(Map1(out, x, f1!($t => $t, |$f, $x| $body)))
                                                    };
                                                }
                match op {
                    Op::Neg => go!(|_F, x| -x),
                    Op::Abs => go!(|_F, x| x.abs()),
                    Op::Sign => go!(|_F, x| math::$m::sign(x)),
                    Op::Floor => go!(|_F, x| math::$m::floor(x)),
                    Op::Ceil => go!(|_F, x| math::$m::ceil(x)),
                    Op::Round => go!(|_F, x| math::$m::round(x)),
                    Op::Exp => go!(|F, x| math::$m::exp::<F>(x)),
                    Op::Exp2 => go!(|F, x| math::$m::exp2::<F>(x)),
                    Op::Expm1 => go!(|F, x| math::$m::expm1::<F>(x)),
                    Op::Log => go!(|F, x| math::$m::log::<F>(x)),
                    Op::Log2 => go!(|F, x| math::$m::log2::<F>(x)),
                    Op::Log1p => go!(|F, x| math::$m::log1p::<F>(x)),
                    Op::Sqrt => go!(|_F, x| x.sqrt()),
                    Op::Rsqrt => go!(|_F, x| 1.0 / x.sqrt()),
                    Op::Recip => go!(|_F, x| 1.0 / x),
                    Op::Sin => math::$m::sin_lanes(out, x),
                    Op::Cos => math::$m::cos_lanes(out, x),
                    Op::Tan => math::$m::tan_lanes(out, x),
                    Op::Tanh => go!(|F, x| math::$m::tanh::<F>(x)),
                    Op::Sigmoid => go!(|F, x| math::$m::sigmoid::<F>(x)),
                    Op::Softplus => go!(|F, x| math::$m::softplus::<F>(x)),
                    Op::Erf => go!(|F, x| math::$m::erf::<F>(x)),
                    _ => unreachable!("invariant: {op:?} is not a float op of one operand"),
                }
            }

            fn binary(op: Op, out: &mut [$t], a: Src<'_, $t>, b: Src<'_, $t>) {
                macro_rules! go {
                                                    (|$f:ident, $a:ident, $b:ident| $body:expr) => {
                                                        dispatch(Map2(out, a, b, f2!($t => $t, |$f, $a, $b| $body)))
                                                    };
                                                }
                match op {
                    Op::Add => go!(|_F, a, b| a + b),
                    Op::Sub => go!(|_F, a, b| a - b),
                    Op::Mul => go!(|_F, a, b| a * b),
                    Op::Mulz => go!(|_F, a, b| if a == 0.0 { 0.0 } else { a * b }),
                    Op::Div if math::$m::div_by_one(out, a, b) => {}
                    Op::Div => go!(|_F, a, b| a / b),
                    // first operand on ties and where it is NaN; a NaN second operand fails the comparison
                    Op::Min => go!(|_F, a, b| if a <= b || a.is_nan() { a } else { b }),
                    Op::Max => go!(|_F, a, b| if a >= b || a.is_nan() { a } else { b }),
                    Op::Pow => math::$m::pow_lanes(out, a, b),
                    Op::Rem => math::$m::rem_lanes(out, a, b),
                    _ => unreachable!("invariant: {op:?} is not a float op of two operands"),
                }
            }

            fn fma(out: &mut [$t], a: Src<'_, $t>, b: Src<'_, $t>, c: Src<'_, $t>) {
                #[derive(Clone, Copy)]
                struct M;
                impl Fn3<$t, $t> for M {
                    #[inline(always)]
                    fn at(self, a: $t, b: $t, c: $t) -> $t {
                        // rounded once on every machine, as the op table says
                        a.mul_add(b, c)
                    }
                }
                match (a, b) {
                    (Src::Lanes(a), b) | (b, Src::Lanes(a)) => dispatch(Map3(out, a, b, c, M)),
                    (a, b) => out.iter_mut().enumerate().for_each(|(i, y)| *y = a.at(i).mul_add(b.at(i), c.at(i))),
                }
            }

            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }
        }
    };
}
float_arith!(f32, u32, f32);
float_arith!(f64, u64, f64);

macro_rules! int_arith {
    ($t:ident) => {
        impl Arith for $t {
            fn unary(op: Op, out: &mut [$t], x: Src<'_, $t>) {
                macro_rules! go {
                                                    (|$x:ident| $body:expr) => {
                                                        dispatch(Map1(out, x, f1!($t => $t, |_F, $x| $body)))
                                                    };
                                                }
                #[allow(unused_comparisons)]
                match op {
                    Op::Neg => go!(|x| x.wrapping_neg()),
                    Op::Abs => go!(|x| if x < 0 { x.wrapping_neg() } else { x }),
                    Op::Sign => go!(|x| (x > 0) as $t - (x < 0) as $t),
                    Op::Floor | Op::Ceil | Op::Round => copy(out, x),
                    Op::BitNot => go!(|x| !x),
                    _ => unreachable!("invariant: {op:?} is not an integer op of one operand"),
                }
            }

            fn binary(op: Op, out: &mut [$t], a: Src<'_, $t>, b: Src<'_, $t>) {
                const MASK: u32 = <$t>::BITS - 1;
                macro_rules! go {
                                                    (|$a:ident, $b:ident| $body:expr) => {
                                                        dispatch(Map2(out, a, b, f2!($t => $t, |_F, $a, $b| $body)))
                                                    };
                                                }
                match op {
                    Op::Add => go!(|a, b| a.wrapping_add(b)),
                    Op::Sub => go!(|a, b| a.wrapping_sub(b)),
                    Op::Mul | Op::Mulz => go!(|a, b| a.wrapping_mul(b)),
                    Op::Div => go!(|a, b| if b == 0 { 0 } else { a.wrapping_div(b) }),
                    Op::Rem => go!(|a, b| if b == 0 { 0 } else { a.wrapping_rem(b) }),
                    Op::Min => go!(|a, b| if a <= b { a } else { b }),
                    Op::Max => go!(|a, b| if a >= b { a } else { b }),
                    Op::And => go!(|a, b| a & b),
                    Op::Or => go!(|a, b| a | b),
                    Op::Xor => go!(|a, b| a ^ b),
                    Op::Shl => go!(|a, b| a.wrapping_shl(b as u32 & MASK)),
                    Op::Shr => go!(|a, b| a.wrapping_shr(b as u32 & MASK)),
                    _ => unreachable!("invariant: {op:?} is not an integer op of two operands"),
                }
            }

            fn fma(out: &mut [$t], a: Src<'_, $t>, b: Src<'_, $t>, c: Src<'_, $t>) {
                for (i, y) in out.iter_mut().enumerate() {
                    *y = a.at(i).wrapping_mul(b.at(i)).wrapping_add(c.at(i));
                }
            }

            fn is_nan(self) -> bool {
                false
            }
        }
    };
}
int_arith!(i64);
int_arith!(i32);
int_arith!(i16);
int_arith!(u32);
int_arith!(u8);

/// A type of lanes that hold truth values: 0 and 1.
pub trait Truth: Lane {
    /// As a lane.
    fn lane(truth: bool) -> Self;
    /// From a lane.
    fn holds(self) -> bool;
}
impl Truth for u8 {
    #[inline(always)]
    fn lane(truth: bool) -> u8 {
        u8::from(truth)
    }
    #[inline(always)]
    fn holds(self) -> bool {
        self != 0
    }
}
impl Truth for f32 {
    #[inline(always)]
    fn lane(truth: bool) -> f32 {
        if truth { 1.0 } else { 0.0 }
    }
    #[inline(always)]
    fn holds(self) -> bool {
        self != 0.0
    }
}

/// e to the lanes of `a`, less `b`: exponentials of softmax, whose differences cost nothing beside them.
pub fn exp_sub<A: Wide>(out: &mut [f32], a: &[A], b: Src<'_, f32>) {
    #[derive(Clone, Copy)]
    struct M;
    impl<A: Wide> Fn2<A, f32, f32> for M {
        #[inline(always)]
        fn at<F: Fma>(self, a: A, b: f32) -> f32 {
            math::f32::exp::<F>(a.wide() - b)
        }
    }
    dispatch(Map2(out, Src::Lanes(a), b, M))
}

/// Comparisons, tests and logic: truth values out.
pub fn predicate<T: Arith, U: Truth>(op: Op, out: &mut [U], a: Src<'_, T>, b: Src<'_, T>) {
    macro_rules! go {
        (|$a:ident, $b:ident| $body:expr) => {{
            #[derive(Clone, Copy)]
            struct M;
            impl<T: Arith, U: Truth> Fn2<T, T, U> for M {
                #[inline(always)]
                fn at<F: Fma>(self, $a: T, $b: T) -> U {
                    U::lane($body)
                }
            }
            dispatch(Map2(out, a, b, M))
        }};
    }
    match op {
        Op::Lt => go!(|a, b| a < b),
        Op::Le => go!(|a, b| a <= b),
        Op::Gt => go!(|a, b| a > b),
        Op::Ge => go!(|a, b| a >= b),
        Op::Eq => go!(|a, b| a == b),
        Op::Ne => go!(|a, b| a != b),
        Op::Not => go!(|a, _b| a == T::default()),
        Op::IsNan => go!(|a, _b| a.is_nan()),
        _ => unreachable!("invariant: {op:?} is not a predicate"),
    }
}

/// Truth values of memory, as lanes of 0 and 1.
pub fn truths(out: &mut [f32], x: &[u8]) {
    #[derive(Clone, Copy)]
    struct IsTrue;
    impl Fn1<u8, f32> for IsTrue {
        #[inline(always)]
        fn at<F: Fma>(self, x: u8) -> f32 {
            f32::lane(x != 0)
        }
    }
    dispatch(Map1(out, Src::Lanes(x), IsTrue));
}

/// Lanes of the first operand where the truth value holds, else of the second.
pub fn select<T: Lane, C: Truth>(out: &mut [T], c: Src<'_, C>, a: Src<'_, T>, b: Src<'_, T>) {
    #[derive(Clone, Copy)]
    struct Choose;
    impl<C: Truth, T> Fn3<C, T> for Choose {
        #[inline(always)]
        fn at(self, c: C, a: T, b: T) -> T {
            if c.holds() { a } else { b }
        }
    }
    match c {
        Src::Lanes(c) => dispatch(Map3(out, c, a, b, Choose)),
        Src::Splat(c) => copy(out, if c.holds() { a } else { b }),
    }
}

/// A copy, or a fill.
#[inline(always)]
pub fn copy<T: Lane>(out: &mut [T], x: Src<'_, T>) {
    match x {
        Src::Lanes(x) => out.copy_from_slice(&x[..out.len()]),
        Src::Splat(v) => out.fill(v),
    }
}

/// Lane types a conversion goes to and from.
pub trait Convert<U> {
    /// As the op table says: float → int saturates (NaN → 0), int → int wraps, anything → bool is `!= 0`.
    fn convert(self) -> U;
}
macro_rules! convert {
    ($($t:ident),*) => { convert!(@ [$($t),*] [$($t),*]); };
    (@ [$($t:ident),*] $us:tt) => { $(convert!(@@ $t $us);)* };
    (@@ $t:ident [$($u:ident),*]) => {
        $(impl Convert<$u> for $t {
            #[inline(always)]
            fn convert(self) -> $u {
                self as $u
            }
        })*
    };
}
convert!(f32, f64, i64, i32, i16, u32, u8);

/// Converts between compute types; `to` tells bool from u8.
pub fn cast<T: Arith + Convert<U>, U: Lane>(out: &mut [U], x: Src<'_, T>, to: DType)
where
    u8: Convert<U>,
{
    #[derive(Clone, Copy)]
    struct As;
    impl<T: Convert<U>, U> Fn1<T, U> for As {
        #[inline(always)]
        fn at<F: Fma>(self, x: T) -> U {
            x.convert()
        }
    }
    #[derive(Clone, Copy)]
    struct IsTrue;
    impl<T: Lane, U> Fn1<T, U> for IsTrue
    where
        u8: Convert<U>,
    {
        #[inline(always)]
        fn at<F: Fma>(self, x: T) -> U {
            u8::from(x != T::default()).convert()
        }
    }
    if to == DType::Bool { dispatch(Map1(out, x, IsTrue)) } else { dispatch(Map1(out, x, As)) }
}

/// Rounds f32 lanes to f16 or bf16 precision.
pub fn round_to(out: &mut [f32], to: DType) {
    for v in out {
        *v = if to == DType::F16 { f16::from_f32(*v).to_f32() } else { bf16::from_f32(*v).to_f32() };
    }
}

/// Random lanes of the elements from `start`.
pub fn rand(out: &mut [f32], seed: i64, start: u64) {
    struct M<'a>(&'a mut [f32], i64, u64);
    impl Loop for M<'_> {
        type Output = ();
        #[inline(always)]
        fn run<F: Fma>(self) {
            const BLOCKS: usize = 16;
            let M(out, seed, start) = self;
            let whole = out.len().min((start.next_multiple_of(4) - start) as usize);
            let (head, rest) = out.split_at_mut(whole);
            let (chunks, tail) = rest.as_chunks_mut::<{ 4 * BLOCKS }>();
            let mut at = start + whole as u64;
            head.iter_mut().zip(start..).for_each(|(y, i)| *y = philox::rand_unit(seed, i));
            for chunk in chunks {
                let words = philox::philox_blocks::<BLOCKS>(at / 4, [seed as u32, (seed >> 32) as u32]);
                for (i, y) in chunk.iter_mut().enumerate() {
                    *y = philox::unit(words[i % 4][i / 4]);
                }
                at += chunk.len() as u64;
            }
            tail.iter_mut().zip(at..).for_each(|(y, i)| *y = philox::rand_unit(seed, i));
        }
    }
    dispatch(M(out, seed, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_lanes_are_those_of_their_elements_wherever_they_begin() {
        for start in [0, 1, 3, 4, (1 << 34) - 70] {
            for len in [0, 1, 2, 5, 63, 64, 65, 200] {
                let mut out = vec![f32::NAN; len];
                rand(&mut out, -7, start);
                for (y, at) in out.iter().zip(start..) {
                    assert_eq!(*y, philox::rand_unit(-7, at), "element {at} of {len} from {start}");
                }
            }
        }
    }
}
