//! What the code that `#[jit]` writes is made of: values that carry the Rust type they stand for, so that rustc infers
//! and checks the traced function exactly as the original.

use crate::{DType, Expr, Op, Result};
use std::{marker::PhantomData, ops};
use zmlx_ir::expr::{fail, trace};

/// More turns of a loop than this are refused: each is written out.
const LONGEST_LOOP: usize = 4096;

/// A traced value of the Rust type `T`.
pub struct Value<T> {
    expr: Expr,
    of: PhantomData<T>,
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        *self
    }
}
impl<T> Copy for Value<T> {}

/// The Rust types that a value may have.
pub trait Number: Copy {
    /// As a literal of the formula.
    fn literal(self) -> Expr;
    /// A value of any type, converted to this one.
    fn convert(e: Expr) -> Expr;
}
/// Those with arithmetic.
pub trait Arithmetic: Number {}
/// Those with bit operators.
pub trait Bits: Number {
    /// `!`
    fn complement(e: Expr) -> Expr {
        e ^ Self::convert(Expr::int(-1))
    }
}
/// `f32` and `f64`.
pub trait Float: Arithmetic {}
/// The integers.
pub trait Int: Arithmetic + Bits {}

impl Number for f32 {
    fn literal(self) -> Expr {
        // by its shortest digits: 0.1f32 is the literal 0.1, also where the program computes in f64
        Expr::lit(self.to_string().parse().unwrap_or(f64::from(self)))
    }
    fn convert(e: Expr) -> Expr {
        e.float()
    }
}
impl Number for f64 {
    fn literal(self) -> Expr {
        Expr::lit(self)
    }
    fn convert(e: Expr) -> Expr {
        e.cast(DType::F64)
    }
}
impl Number for bool {
    fn literal(self) -> Expr {
        Expr::from(self)
    }
    fn convert(e: Expr) -> Expr {
        e.cast(DType::Bool)
    }
}
impl Arithmetic for f32 {}
impl Arithmetic for f64 {}
impl Float for f32 {}
impl Float for f64 {}
impl Bits for bool {
    fn complement(e: Expr) -> Expr {
        !e
    }
}

macro_rules! ints {
    ($($t:ty = $dtype:ident),*) => {$(
        impl Number for $t {
            fn literal(self) -> Expr {
                Expr::int(self.into()).cast(DType::$dtype)
            }
            fn convert(e: Expr) -> Expr {
                e.cast(DType::$dtype)
            }
        }
        impl Arithmetic for $t {}
        impl Bits for $t {}
        impl Int for $t {}
    )*};
}
ints!(i16 = I16, i32 = I32, i64 = I64, u8 = U8, u32 = U32);

/// A literal or constant.
pub fn lit<T: Number>(value: T) -> Value<T> {
    Value::of(value.literal())
}

/// The turns of a loop; one that is too long fails the trace.
pub fn unroll<I: Iterator>(range: I) -> Vec<I::Item> {
    let turns: Vec<I::Item> = range.take(LONGEST_LOOP + 1).collect();
    if turns.len() <= LONGEST_LOOP {
        return turns;
    }
    fail(format!("a loop of more than {LONGEST_LOOP} turns: each is written out"));
    vec![]
}

/// The operation of a traced function.
pub fn build(name: &str, inputs: &[&str], f: impl FnOnce(&[Expr]) -> Expr) -> Result<Op> {
    Ok(crate::elementwise(trace(inputs, |v| vec![f(v)])?)?.name(name))
}

/// The returns taken so far: whether one is, and its value.
pub struct Returns<T>(Option<(Value<bool>, Value<T>)>);

impl<T> Default for Returns<T> {
    fn default() -> Returns<T> {
        Returns(None)
    }
}

impl<T: Number> Returns<T> {
    /// `return value` under a condition, or always. The first that holds counts.
    pub fn note(&mut self, condition: Option<Value<bool>>, value: Value<T>) {
        let condition = condition.unwrap_or_else(|| lit(true));
        self.0 = Some(match self.0 {
            None => (condition, value),
            Some((before, first)) => (before | condition, before.select(first, value)),
        });
    }

    /// The result, with the value at the end of the function.
    pub fn or(self, end: Value<T>) -> Value<T> {
        match self.0 {
            None => end,
            Some((taken, value)) => taken.select(value, end),
        }
    }

    /// The result, where every way through the function returns.
    pub fn value(self) -> Value<T> {
        match self.0 {
            Some((_, value)) => value,
            None => {
                fail("a function returns nothing".into());
                Value::of(Expr::lit(f64::NAN))
            }
        }
    }
}

impl<T> Value<T> {
    fn of(expr: Expr) -> Value<T> {
        Value { expr, of: PhantomData }
    }

    /// The value, without its type.
    pub fn expr(self) -> Expr {
        self.expr
    }
}

impl<T: Number> Value<T> {
    /// An input of any type, as this one.
    pub fn input(e: Expr) -> Value<T> {
        Value::of(T::convert(e))
    }

    /// `as`
    pub fn cast<U: Number>(self) -> Value<U> {
        Value::of(U::convert(self.expr))
    }
}

impl Value<bool> {
    pub fn select<T>(self, a: Value<T>, b: Value<T>) -> Value<T> {
        Value::of(self.expr.select(a.expr, b.expr))
    }
}

macro_rules! comparisons {
    ($($name:ident),*) => {
        impl<T: Number> Value<T> {$(
            pub fn $name(self, other: Value<T>) -> Value<bool> {
                Value::of(self.expr.$name(other.expr))
            }
        )*}
    };
}
comparisons!(lt, le, gt, ge, equals, not_equals);

macro_rules! operators {
    ($($trait:ident $method:ident: $kind:ident),*) => {$(
        impl<T: $kind> ops::$trait for Value<T> {
            type Output = Value<T>;
            fn $method(self, other: Value<T>) -> Value<T> {
                Value::of(ops::$trait::$method(self.expr, other.expr))
            }
        }
    )*};
}
operators!(Add add: Arithmetic, Sub sub: Arithmetic, Mul mul: Arithmetic, Div div: Arithmetic, Rem rem: Arithmetic);
operators!(BitAnd bitand: Bits, BitOr bitor: Bits, BitXor bitxor: Bits);

impl<T: Int, U: Int> ops::Shl<Value<U>> for Value<T> {
    type Output = Value<T>;
    fn shl(self, count: Value<U>) -> Value<T> {
        // the type of the count must not widen the value
        Value::of(T::convert(self.expr << T::convert(count.expr)))
    }
}
impl<T: Int, U: Int> ops::Shr<Value<U>> for Value<T> {
    type Output = Value<T>;
    fn shr(self, count: Value<U>) -> Value<T> {
        Value::of(T::convert(self.expr >> T::convert(count.expr)))
    }
}
impl<T: Arithmetic> ops::Neg for Value<T> {
    type Output = Value<T>;
    fn neg(self) -> Value<T> {
        Value::of(-self.expr)
    }
}
impl<T: Bits> ops::Not for Value<T> {
    type Output = Value<T>;
    fn not(self) -> Value<T> {
        Value::of(T::complement(self.expr))
    }
}

impl<T: Arithmetic> Value<T> {
    pub fn abs(self) -> Value<T> {
        Value::of(self.expr.abs())
    }
    /// As `f32::max`: the other value where one is NaN.
    pub fn max(self, other: Value<T>) -> Value<T> {
        (self.ge(other) | other.not_equals(other)).select(self, other)
    }
    /// As `f32::min`: the other value where one is NaN.
    pub fn min(self, other: Value<T>) -> Value<T> {
        (self.le(other) | other.not_equals(other)).select(self, other)
    }
    /// As `f32::clamp`: NaN stays NaN.
    pub fn clamp(self, low: Value<T>, high: Value<T>) -> Value<T> {
        self.lt(low).select(low, self.gt(high).select(high, self))
    }
}

impl<T: Int> Value<T> {
    /// As `i32::signum`.
    pub fn signum(self) -> Value<T> {
        Value::of(T::convert(self.expr.signum()))
    }
}

/// Methods of floats that are the functions of formulas.
macro_rules! float_methods {
    ($($name:ident)*) => {
        impl<T: Float> Value<T> {$(
            pub fn $name(self) -> Value<T> {
                Value::of(self.expr.$name())
            }
        )*}
    };
}
float_methods! {
    exp exp2 exp_m1 ln log2 log10 ln_1p sqrt recip sin cos tan tanh floor ceil round trunc
    rsqrt sigmoid silu gelu gelu_erf softplus relu square
}

impl<T: Float> Value<T> {
    pub fn powf(self, n: Value<T>) -> Value<T> {
        Value::of(self.expr.powf(n.expr))
    }
    pub fn powi(self, n: Value<i32>) -> Value<T> {
        Value::of(self.expr.powf(n.expr))
    }
    pub fn mul_add(self, a: Value<T>, b: Value<T>) -> Value<T> {
        Value::of(self.expr.mul_add(a.expr, b.expr))
    }
    pub fn is_nan(self) -> Value<bool> {
        Value::of(self.expr.is_nan())
    }
    pub fn is_finite(self) -> Value<bool> {
        Value::of(self.expr.is_finite())
    }
    pub fn is_infinite(self) -> Value<bool> {
        Value::of(self.expr.is_infinite())
    }
}
