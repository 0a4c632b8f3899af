//! The op table: every pointwise operation, said once. A row holds its name in formulas and text forms, its
//! arity, its dtype rule, its value in f64, how errors pass through it, its cost, its C spelling and its gradient.
//!
//! Semantics that hold on every target:
//! - float arithmetic is in f32 (f64 for f64); integers wrap; `x / 0 = 0` and `x % 0 = 0` on integers; shift
//!   counts are masked to the width; float → int saturates, NaN → 0.
//! - `min` and `max` propagate NaN and take the first operand on ties; comparisons with NaN are false (`!=` true).
//! - `/` on integers truncates and `%` has the sign of the dividend, as in C; `round` rounds halves away from 0.

use crate::{DType, grad::Rule, program::Id};

/// A pointwise operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// `-x`
    Neg,
    /// `abs(x)`
    Abs,
    /// `sign(x)`: −1, 0 or 1; 0 keeps its sign, NaN stays NaN.
    Sign,
    /// `floor(x)`
    Floor,
    /// `ceil(x)`
    Ceil,
    /// `round(x)`: halves away from zero.
    Round,
    /// `exp(x)`
    Exp,
    /// `exp2(x)`
    Exp2,
    /// `expm1(x)` = exp(x) − 1 without cancellation.
    Expm1,
    /// `log(x)`, natural.
    Log,
    /// `log2(x)`
    Log2,
    /// `log1p(x)` = log(1 + x) without cancellation.
    Log1p,
    /// `sqrt(x)`
    Sqrt,
    /// `rsqrt(x)` = 1 / sqrt(x)
    Rsqrt,
    /// `recip(x)` = 1 / x
    Recip,
    /// `sin(x)`
    Sin,
    /// `cos(x)`
    Cos,
    /// `tan(x)`
    Tan,
    /// `tanh(x)`
    Tanh,
    /// `sigmoid(x)` = 1 / (1 + exp(−x)), without overflow.
    Sigmoid,
    /// `softplus(x)` = log(1 + exp(x)), without overflow.
    Softplus,
    /// `erf(x)`
    Erf,
    /// `isnan(x)`
    IsNan,
    /// `!x` on truth values.
    Not,
    /// `~x` on integers.
    BitNot,
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// Strong-zero product: 0 where a is 0, whatever b; else `a * b`. Gradients below a select use it.
    Mulz,
    /// `a / b`
    Div,
    /// `a % b`
    Rem,
    /// `pow(a, b)`
    Pow,
    /// `min(a, b)`
    Min,
    /// `max(a, b)`
    Max,
    /// `a & b`
    And,
    /// `a | b`
    Or,
    /// `a ^ b` on integers and truth values.
    Xor,
    /// `a << b`
    Shl,
    /// `a >> b` (arithmetic for signed types).
    Shr,
    /// `a < b`
    Lt,
    /// `a <= b`
    Le,
    /// `a > b`
    Gt,
    /// `a >= b`
    Ge,
    /// `a == b`
    Eq,
    /// `a != b`
    Ne,
    /// `fma(a, b, c)` = a·b + c, rounded once.
    Fma,
    /// `where(c, a, b)` and `c ? a : b`.
    Select,
    /// `f32(x)`, `i64(x)` …: conversion; to f16 and bf16 it rounds and stays in f32.
    Cast(DType),
}

/// What types an op takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Floats in, the same float out; integers are converted to f32 first.
    Float,
    /// Floats or integers, promoted to one type, the same out.
    Number,
    /// Integers or truth values, promoted to one type, the same out.
    Bits,
    /// Truth values in and out; numbers are compared with 0 first.
    Logic,
    /// Any two of one type in, a truth value out.
    Compare,
    /// A float in, a truth value out.
    Test,
    /// A truth value and two of one type in, that type out.
    Select,
    /// Any type in, the named type out.
    Cast,
}

/// Value of an op on f64 operands.
#[derive(Clone, Copy)]
pub enum Value {
    /// One operand.
    Unary(fn(f64) -> f64),
    /// Two operands.
    Binary(fn(f64, f64) -> f64),
    /// Three operands.
    Ternary(fn(f64, f64, f64) -> f64),
}

/// How an error of the operands reaches the result; the oracle carries bounds with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slope {
    /// Monotone in its operand: the ends of the interval bound it.
    Monotone,
    /// |f(a) − f(b)| ≤ L·|a − b|.
    Lipschitz(f64),
    /// Bounded by a rule of its own (binary and ternary ops).
    Own,
}

/// Gradient of an op: cotangents of its arguments from the arguments, the result `y` and its cotangent `g`.
pub type VjpRule = fn(&mut Rule<'_>, args: &[Id], y: Id, g: Id) -> Vec<Option<Id>>;

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// Name in formulas and text forms.
    pub name: &'static str,
    /// Spelling in C; `$0`, `$1`, `$2` are the operands. A dialect may differ.
    pub c: &'static str,
    /// dtype rule.
    pub class: Class,
    /// Rough cost of one f32 element in units of an addition.
    pub cost: u32,
    /// Error any target may make on exact operands, in units in the last place.
    pub ulp: f64,
    /// The same of its second spelling in f32, if it has one: at most 2⁻¹² of the value (2048 units). Targets may use it
    /// where [`Program::is_half`](crate::Program::is_half) holds.
    pub half: Option<f64>,
    /// How operand errors pass through.
    pub slope: Slope,
    /// Value in f64.
    pub value: Value,
    /// Gradient; None where it is zero everywhere it exists.
    pub vjp: Option<VjpRule>,
}

impl Op {
    /// Every op (one representative of `Cast`).
    pub const ALL: [Op; 50] = {
        use Op::*;
        [
            Neg,
            Abs,
            Sign,
            Floor,
            Ceil,
            Round,
            Exp,
            Exp2,
            Expm1,
            Log,
            Log2,
            Log1p,
            Sqrt,
            Rsqrt,
            Recip,
            Sin,
            Cos,
            Tan,
            Tanh,
            Sigmoid,
            Softplus,
            Erf,
            IsNan,
            Not,
            BitNot,
            Add,
            Sub,
            Mul,
            Mulz,
            Div,
            Rem,
            Pow,
            Min,
            Max,
            And,
            Or,
            Xor,
            Shl,
            Shr,
            Lt,
            Le,
            Gt,
            Ge,
            Eq,
            Ne,
            Fma,
            Select,
            Cast(DType::F32),
            Cast(DType::I64),
            Cast(DType::BF16),
        ]
    };

    /// The op with this function name (`exp`, `min`, `fma`, …).
    pub fn from_name(name: &str) -> Option<Op> {
        match DType::from_name(name) {
            Some(d) => Some(Op::Cast(d)),
            None => Op::ALL.into_iter().find(|o| !matches!(o, Op::Cast(_)) && o.row().name == name),
        }
    }

    /// Name in formulas and text forms; a cast is named like its type.
    pub fn name(self) -> &'static str {
        match self {
            Op::Cast(d) => d.name(),
            op => op.row().name,
        }
    }

    /// Number of operands.
    pub fn arity(self) -> usize {
        match self.row().value {
            Value::Unary(_) => 1,
            Value::Binary(_) => 2,
            Value::Ternary(_) => 3,
        }
    }

    /// Is `a op b = b op a`, bit for bit?
    pub fn is_commutative(self) -> bool {
        matches!(self, Op::Add | Op::Mul | Op::And | Op::Or | Op::Xor | Op::Eq | Op::Ne)
    }

    /// Does it give a truth value?
    pub fn is_predicate(self) -> bool {
        matches!(self.row().class, Class::Compare | Class::Test | Class::Logic) || self == Op::Cast(DType::Bool)
    }

    /// The row of this op.
    pub fn row(self) -> Row {
        use Class::*;
        use Slope::*;
        use Value::*;
        let half = match self {
            // exp2(x / 2·log2 e)²: the product is off by 2⁻²⁰ where exp2 is near the ends of its range, and counts twice
            Op::Exp => Some(64.0),
            Op::Exp2 => Some(8.0),
            Op::Sigmoid => Some(68.0),
            // by an approximate reciprocal
            Op::Div | Op::Recip => Some(4.0),
            _ => None,
        };
        let row = |name, c, class, cost, ulp, slope, value, vjp: Option<VjpRule>| Row {
            name,
            c,
            class,
            cost,
            ulp,
            half,
            slope,
            value,
            vjp,
        };
        let lip = Lipschitz;
        match self {
            Op::Neg => {
                row("neg", "-$0", Number, 1, 0.0, lip(1.0), Unary(|x| -x), Some(|r, _, _, g| vec![Some(r.neg(g))]))
            }
            Op::Abs => row(
                "abs",
                "abs($0)",
                Number,
                1,
                0.0,
                lip(1.0),
                Unary(f64::abs),
                Some(|r, x, _, g| {
                    let s = r.op(Op::Sign, &[x[0]]);
                    vec![Some(r.times(g, s))]
                }),
            ),
            Op::Sign => row("sign", "sign($0)", Number, 1, 0.0, Monotone, Unary(sign), None),
            Op::Floor => row("floor", "floor($0)", Number, 1, 0.0, Monotone, Unary(f64::floor), None),
            Op::Ceil => row("ceil", "ceil($0)", Number, 1, 0.0, Monotone, Unary(f64::ceil), None),
            Op::Round => row("round", "round($0)", Number, 2, 0.0, Monotone, Unary(f64::round), None),
            Op::Exp => row(
                "exp",
                "exp($0)",
                Float,
                10,
                2.0,
                Monotone,
                Unary(f64::exp),
                Some(|r, _, y, g| vec![Some(r.times(g, y))]),
            ),
            Op::Exp2 => row(
                "exp2",
                "exp2($0)",
                Float,
                10,
                2.0,
                Monotone,
                Unary(f64::exp2),
                Some(|r, _, y, g| {
                    let d = r.scale(y, std::f64::consts::LN_2);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Expm1 => row(
                "expm1",
                "expm1($0)",
                Float,
                14,
                3.0,
                Monotone,
                Unary(f64::exp_m1),
                Some(|r, x, _, g| {
                    let d = r.op(Op::Exp, &[x[0]]);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Log => row(
                "log",
                "log($0)",
                Float,
                12,
                2.0,
                Monotone,
                Unary(f64::ln),
                Some(|r, x, _, g| {
                    let d = r.op(Op::Recip, &[x[0]]);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Log2 => row(
                "log2",
                "log2($0)",
                Float,
                12,
                2.0,
                Monotone,
                Unary(f64::log2),
                Some(|r, x, _, g| {
                    let d = r.op(Op::Recip, &[x[0]]);
                    let d = r.scale(d, std::f64::consts::LOG2_E);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Log1p => row(
                "log1p",
                "log1p($0)",
                Float,
                14,
                3.0,
                Monotone,
                Unary(f64::ln_1p),
                Some(|r, x, _, g| {
                    let one = r.like(x[0], 1.0);
                    let d = r.op(Op::Add, &[x[0], one]);
                    let d = r.op(Op::Recip, &[d]);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Sqrt => row(
                "sqrt",
                "sqrt($0)",
                Float,
                4,
                1.0,
                Monotone,
                Unary(f64::sqrt),
                Some(|r, _, y, g| {
                    let d = r.op(Op::Recip, &[y]);
                    let d = r.scale(d, 0.5);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Rsqrt => row(
                "rsqrt",
                "rsqrt($0)",
                Float,
                6,
                2.0,
                Monotone,
                Unary(|x| 1.0 / x.sqrt()),
                Some(|r, _, y, g| {
                    let d = r.op(Op::Mul, &[y, y]);
                    let d = r.op(Op::Mul, &[d, y]);
                    let d = r.scale(d, -0.5);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Recip => row(
                "recip",
                "(1 / $0)",
                Float,
                4,
                1.0,
                Monotone,
                Unary(|x| 1.0 / x),
                Some(|r, _, y, g| {
                    let d = r.op(Op::Mul, &[y, y]);
                    let d = r.neg(d);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Sin => row(
                "sin",
                "sin($0)",
                Float,
                20,
                2.0,
                lip(1.0),
                Unary(f64::sin),
                Some(|r, x, _, g| {
                    let d = r.op(Op::Cos, &[x[0]]);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Cos => row(
                "cos",
                "cos($0)",
                Float,
                20,
                2.0,
                lip(1.0),
                Unary(f64::cos),
                Some(|r, x, _, g| {
                    let d = r.op(Op::Sin, &[x[0]]);
                    let d = r.neg(d);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Tan => row(
                "tan",
                "tan($0)",
                Float,
                30,
                4.0,
                Monotone,
                Unary(f64::tan),
                Some(|r, _, y, g| {
                    let one = r.like(y, 1.0);
                    let d = r.op(Op::Mul, &[y, y]);
                    let d = r.op(Op::Add, &[d, one]);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Tanh => row(
                "tanh",
                "tanh($0)",
                Float,
                14,
                4.0,
                Monotone,
                Unary(f64::tanh),
                Some(|r, _, y, g| {
                    // 1 − y² cancels for large |x|, to an error of some ulps of 1: what a gradient beside it has
                    // anyway, and a tenth of the cost of σ(2x)·σ(−2x).
                    let one = r.like(y, 1.0);
                    let d = r.op(Op::Mul, &[y, y]);
                    let d = r.op(Op::Sub, &[one, d]);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Sigmoid => row(
                "sigmoid",
                "sigmoid($0)",
                Float,
                14,
                4.0,
                Monotone,
                Unary(sigmoid),
                Some(|r, _, y, g| {
                    // As for tanh: 1 − y shares y, a second sigmoid would double the cost.
                    let one = r.like(y, 1.0);
                    let q = r.op(Op::Sub, &[one, y]);
                    let d = r.op(Op::Mul, &[y, q]);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Softplus => row(
                "softplus",
                "softplus($0)",
                Float,
                24,
                4.0,
                Monotone,
                Unary(softplus),
                Some(|r, x, _, g| {
                    let d = r.op(Op::Sigmoid, &[x[0]]);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::Erf => row(
                "erf",
                "erf($0)",
                Float,
                20,
                6.0,
                Monotone,
                Unary(crate::erf::erf),
                Some(|r, x, _, g| {
                    let d = r.op(Op::Mul, &[x[0], x[0]]);
                    let d = r.neg(d);
                    let d = r.op(Op::Exp, &[d]);
                    let d = r.scale(d, std::f64::consts::FRAC_2_SQRT_PI);
                    vec![Some(r.times(g, d))]
                }),
            ),
            Op::IsNan => row("isnan", "isnan($0)", Test, 1, 0.0, Monotone, Unary(|x| f64::from(x.is_nan())), None),
            Op::Not => row("not", "!$0", Logic, 1, 0.0, Monotone, Unary(|x| f64::from(x == 0.0)), None),
            Op::BitNot => row("bitnot", "~$0", Bits, 1, 0.0, Own, Unary(|x| !(x as i64) as f64), None),
            Op::Add => row(
                "add",
                "$0 + $1",
                Number,
                1,
                0.5,
                Own,
                Binary(|a, b| a + b),
                Some(|_, _, _, g| vec![Some(g), Some(g)]),
            ),
            Op::Sub => row(
                "sub",
                "$0 - $1",
                Number,
                1,
                0.5,
                Own,
                Binary(|a, b| a - b),
                Some(|r, _, _, g| vec![Some(g), Some(r.neg(g))]),
            ),
            Op::Mul => row(
                "mul",
                "$0 * $1",
                Number,
                1,
                0.5,
                Own,
                Binary(|a, b| a * b),
                Some(|r, x, _, g| vec![Some(r.times(g, x[1])), Some(r.times(g, x[0]))]),
            ),
            Op::Mulz => row(
                "mulz",
                "mulz($0, $1)",
                Number,
                2,
                0.5,
                Own,
                Binary(|a, b| if a == 0.0 { 0.0 } else { a * b }),
                Some(|r, x, _, g| {
                    let d = r.op(Op::Mulz, &[g, x[1]]);
                    vec![Some(d), Some(r.op(Op::Mulz, &[g, x[0]]))]
                }),
            ),
            Op::Div => row(
                "div",
                "$0 / $1",
                Number,
                4,
                1.0,
                Own,
                Binary(|a, b| a / b),
                Some(|r, x, y, g| {
                    let inv = r.op(Op::Recip, &[x[1]]);
                    let ga = r.times(g, inv);
                    let gb = r.times(ga, y);
                    vec![Some(ga), Some(r.neg(gb))]
                }),
            ),
            Op::Rem => row(
                "rem",
                "rem($0, $1)",
                Number,
                12,
                0.5,
                Own,
                Binary(|a, b| a % b),
                Some(|r, x, _, g| {
                    // a % b = a − b·trunc(a / b)
                    let q = r.op(Op::Div, &[x[0], x[1]]);
                    let s = r.op(Op::Sign, &[q]);
                    let m = r.op(Op::Abs, &[q]);
                    let m = r.op(Op::Floor, &[m]);
                    let q = r.op(Op::Mul, &[s, m]);
                    let q = r.neg(q);
                    vec![Some(g), Some(r.times(g, q))]
                }),
            ),
            Op::Pow => row("pow", "pow($0, $1)", Float, 40, 16.0, Own, Binary(f64::powf), Some(pow_vjp)),
            Op::Min => row(
                "min",
                "min($0, $1)",
                Number,
                2,
                0.0,
                Own,
                Binary(|a, b| if a.is_nan() || a <= b { a } else { b }),
                Some(|r, x, _, g| r.first_wins(Op::Le, x, g)),
            ),
            Op::Max => row(
                "max",
                "max($0, $1)",
                Number,
                2,
                0.0,
                Own,
                Binary(|a, b| if a.is_nan() || a >= b { a } else { b }),
                Some(|r, x, _, g| r.first_wins(Op::Ge, x, g)),
            ),
            Op::And => row("and", "$0 & $1", Bits, 1, 0.0, Own, Binary(|a, b| (a as i64 & b as i64) as f64), None),
            Op::Or => row("or", "$0 | $1", Bits, 1, 0.0, Own, Binary(|a, b| (a as i64 | b as i64) as f64), None),
            Op::Xor => row("xor", "$0 ^ $1", Bits, 1, 0.0, Own, Binary(|a, b| (a as i64 ^ b as i64) as f64), None),
            Op::Shl => row(
                "shl",
                "shl($0, $1)",
                Bits,
                1,
                0.0,
                Own,
                Binary(|a, b| (a as i64).wrapping_shl(b as u32) as f64),
                None,
            ),
            Op::Shr => row(
                "shr",
                "shr($0, $1)",
                Bits,
                1,
                0.0,
                Own,
                Binary(|a, b| (a as i64).wrapping_shr(b as u32) as f64),
                None,
            ),
            Op::Lt => row("lt", "$0 < $1", Compare, 1, 0.0, Own, Binary(|a, b| f64::from(a < b)), None),
            Op::Le => row("le", "$0 <= $1", Compare, 1, 0.0, Own, Binary(|a, b| f64::from(a <= b)), None),
            Op::Gt => row("gt", "$0 > $1", Compare, 1, 0.0, Own, Binary(|a, b| f64::from(a > b)), None),
            Op::Ge => row("ge", "$0 >= $1", Compare, 1, 0.0, Own, Binary(|a, b| f64::from(a >= b)), None),
            Op::Eq => row("eq", "$0 == $1", Compare, 1, 0.0, Own, Binary(|a, b| f64::from(a == b)), None),
            Op::Ne => row("ne", "$0 != $1", Compare, 1, 0.0, Own, Binary(|a, b| f64::from(a != b)), None),
            Op::Fma => row(
                "fma",
                "fma($0, $1, $2)",
                Number,
                1,
                0.5,
                Own,
                Ternary(f64::mul_add),
                Some(|r, x, _, g| vec![Some(r.times(g, x[1])), Some(r.times(g, x[0])), Some(g)]),
            ),
            Op::Select => row(
                "where",
                "$0 ? $1 : $2",
                Select,
                1,
                0.0,
                Own,
                Ternary(|c, a, b| if c != 0.0 { a } else { b }),
                Some(|r, x, _, g| {
                    let zero = r.like(g, 0.0);
                    vec![None, Some(r.op(Op::Select, &[x[0], g, zero])), Some(r.op(Op::Select, &[x[0], zero, g]))]
                }),
            ),
            Op::Cast(d) => row(
                "cast",
                "cast($0)",
                Cast,
                1,
                0.5,
                Monotone,
                cast_value(d),
                // Floats pass their cotangent; to and from integers there is none (the walk drops it).
                if d.is_float() { Some(|_, _, _, g| vec![Some(g)]) } else { None },
            ),
        }
    }
}

fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { 1f64.copysign(x) }
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p() + if x.is_nan() { x } else { 0.0 }
}

/// f64 is wide enough to name every target of a cast; wrapping and rounding are the evaluator's.
fn cast_value(d: DType) -> Value {
    match d {
        DType::Bool => Value::Unary(|x| f64::from(x != 0.0)),
        DType::F16 => Value::Unary(|x| half::f16::from_f64(x).to_f64()),
        DType::BF16 => Value::Unary(|x| half::bf16::from_f64(x).to_f64()),
        d if d.is_int() => Value::Unary(|x| if x.is_nan() { 0.0 } else { x.trunc() }),
        _ => Value::Unary(|x| x),
    }
}

/// d(aᵇ) = b·aᵇ⁻¹ da + aᵇ·log a db, with the limits at a = 0 (0·log 0 = 0) and at b = 0.
fn pow_vjp(r: &mut Rule<'_>, x: &[Id], y: Id, g: Id) -> Vec<Option<Id>> {
    let (a, b) = (x[0], x[1]);
    let one = r.like(b, 1.0);
    let zero = r.like(b, 0.0);
    let b1 = r.op(Op::Sub, &[b, one]);
    let p = r.op(Op::Pow, &[a, b1]);
    let da = r.op(Op::Mulz, &[b, p]);
    let ga = r.times(g, da);
    if r.is_constant(b) {
        return vec![Some(ga), None];
    }
    let positive = r.op(Op::Gt, &[a, zero]);
    let safe = r.op(Op::Select, &[positive, a, one]);
    let log = r.op(Op::Log, &[safe]);
    let db = r.op(Op::Mulz, &[log, y]);
    vec![Some(ga), Some(r.times(g, db))]
}

impl Op {
    /// Value on integer operands (wrapped into `dtype` by the caller): the integer half of the table.
    /// None for ops that have no integer meaning.
    pub fn int_value(self, dtype: DType, v: &[i64]) -> Option<i64> {
        let bits = (dtype.size_bytes() * 8) as i64;
        Some(match (self, v) {
            (Op::Neg, [a]) => a.wrapping_neg(),
            (Op::Abs, [a]) => a.wrapping_abs(),
            (Op::Sign, [a]) => a.signum(),
            (Op::Floor | Op::Ceil | Op::Round, [a]) => *a,
            (Op::Not, [a]) => i64::from(*a == 0),
            (Op::BitNot, [a]) => !*a,
            (Op::Add, [a, b]) => a.wrapping_add(*b),
            (Op::Sub, [a, b]) => a.wrapping_sub(*b),
            (Op::Mul | Op::Mulz, [a, b]) => a.wrapping_mul(*b),
            (Op::Div | Op::Rem, [_, 0]) => 0,
            (Op::Div, [a, b]) => a.wrapping_div(*b),
            (Op::Rem, [a, b]) => a.wrapping_rem(*b),
            (Op::Min, [a, b]) => *a.min(b),
            (Op::Max, [a, b]) => *a.max(b),
            (Op::And, [a, b]) => a & b,
            (Op::Or, [a, b]) => a | b,
            (Op::Xor, [a, b]) => a ^ b,
            (Op::Shl, [a, b]) => a.wrapping_shl((b & (bits - 1)) as u32),
            (Op::Shr, [a, b]) => a >> (b & (bits - 1)),
            (Op::Lt, [a, b]) => i64::from(a < b),
            (Op::Le, [a, b]) => i64::from(a <= b),
            (Op::Gt, [a, b]) => i64::from(a > b),
            (Op::Ge, [a, b]) => i64::from(a >= b),
            (Op::Eq, [a, b]) => i64::from(a == b),
            (Op::Ne, [a, b]) => i64::from(a != b),
            (Op::Fma, [a, b, c]) => a.wrapping_mul(*b).wrapping_add(*c),
            (Op::Select, [c, a, b]) => {
                if *c != 0 {
                    *a
                } else {
                    *b
                }
            }
            _ => return None,
        })
    }
}
