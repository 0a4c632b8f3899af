//! Traces a Rust closure: its [`Expr`]s stand for values of a formula under construction, and what the closure
//! does to them becomes terms of it.

use super::{
    Formula, FormulaError, Out, functions,
    parse::{MAX_TERMS, RESERVED},
    token::is_word,
};
use crate::{
    DType, Op,
    program::{Id, Index, Kind},
};
use std::{
    cell::RefCell,
    ops,
    sync::atomic::{AtomicU64, Ordering},
};

/// A value inside a traced closure.
///
/// Its methods are named like those of `f32`; operators take another value or a number on either side. A mistake
/// (a value of another trace, too many terms) makes [`trace`] return an error, it never panics.
#[derive(Clone, Copy, Debug)]
pub struct Expr {
    id: Id,
    /// The trace it belongs to; 0 for none.
    trace: u64,
}

/// A formula under construction.
struct Tracing {
    number: u64,
    formula: Formula,
    mistake: Option<FormulaError>,
}

thread_local! {
    /// The traces of this thread, the innermost last: a closure may trace another.
    static TRACES: RefCell<Vec<Tracing>> = const { RefCell::new(Vec::new()) };
}

/// Numbers are unique over all threads, since an `Expr` may be sent to another.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Runs a closure over the named inputs and gives the formula of its results. One result is called `out`,
/// several are `out0`, `out1`, ….
///
/// ```
/// use zmlx_ir::expr::trace;
/// let f = trace(&["x", "w"], |v| vec![v[0].silu() * v[1] + 1.0]).unwrap();
/// assert_eq!(f.to_string(), "x * sigmoid(x) * w + 1");
/// ```
pub fn trace(names: &[&str], f: impl FnOnce(&[Expr]) -> Vec<Expr>) -> Result<Formula, FormulaError> {
    let mut formula = Formula::default();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut inputs = Vec::with_capacity(names.len());
    for name in names {
        if !is_word(name) || RESERVED.contains(name) {
            return Err(FormulaError::new(format!("'{name}' cannot be the name of an input")));
        }
        let id = formula.name(name);
        if inputs.len() + 1 != formula.names.len() {
            return Err(FormulaError::new(format!("there are two inputs '{name}'")));
        }
        inputs.push(Expr { id, trace: number });
    }
    TRACES.with_borrow_mut(|t| t.push(Tracing { number, formula, mistake: None }));
    let scope = Scope;
    let results: Vec<Expr> = f(&inputs);
    let terms: Vec<Option<Id>> = results.iter().map(|e| e.here()).collect();
    let traced = TRACES.with_borrow_mut(Vec::pop);
    std::mem::forget(scope);
    let Some(Tracing { mut formula, mistake, .. }) = traced else {
        return Err(FormulaError::new("the trace was lost"));
    };
    if let Some(e) = mistake {
        return Err(e);
    }
    let name = |i: usize| if terms.len() == 1 { "out".into() } else { format!("out{i}") };
    let mut outs: Vec<Out> = vec![];
    for (i, term) in terms.iter().enumerate() {
        let term = term.ok_or_else(|| FormulaError::new("a result is no value of this trace"))?;
        outs.push(Out { name: name(i), dtype: None, term });
    }
    if outs.is_empty() {
        return Err(FormulaError::new("the closure has no result"));
    }
    formula.retain(0, &mut outs);
    formula.outs = outs;
    Ok(formula)
}

/// Ends the trace if the closure panics.
struct Scope;

impl Drop for Scope {
    fn drop(&mut self) {
        TRACES.with_borrow_mut(|t| t.pop());
    }
}

/// Builds a term in the innermost trace; outside of any the value stands for nothing.
fn build(args: &[Expr], make: impl FnOnce(&mut Formula, &[Id]) -> Result<Id, FormulaError>) -> Expr {
    const NOTHING: Expr = Expr { id: Id(0), trace: 0 };
    TRACES.with_borrow_mut(|traces| {
        let Some(tracing) = traces.last_mut() else { return NOTHING };
        if tracing.mistake.is_some() {
            return NOTHING;
        }
        let made = if args.iter().any(|a| a.trace != tracing.number) {
            Err(FormulaError::new("a value is used outside the closure that it was traced in"))
        } else if tracing.formula.terms().len() >= MAX_TERMS {
            Err(FormulaError::new(format!("more than {MAX_TERMS} terms")))
        } else {
            let ids: Vec<Id> = args.iter().map(|a| a.id).collect();
            make(&mut tracing.formula, &ids)
        };
        match made {
            Ok(id) => Expr { id, trace: tracing.number },
            Err(e) => {
                tracing.mistake = Some(e);
                NOTHING
            }
        }
    })
}

/// Makes the innermost trace fail with this message.
#[doc(hidden)]
pub fn fail(message: String) {
    build(&[], |_, _| Err(FormulaError::new(message)));
}

fn op(op: Op, args: &[Expr]) -> Expr {
    build(args, |f, ids| Ok(f.op(op, ids)))
}

/// `condition ? a : b`, element by element.
pub fn select(condition: impl Into<Expr>, a: impl Into<Expr>, b: impl Into<Expr>) -> Expr {
    op(Op::Select, &[condition.into(), a.into(), b.into()])
}

/// A result of these values side by side: the columns of each in its turn; a value of a row has one.
pub fn stack(values: &[Expr]) -> Expr {
    Expr::call("stack", values)
}

/// A result of the first columns of these values, then the second ones, and on.
pub fn interleave(values: &[Expr]) -> Expr {
    Expr::call("interleave", values)
}

impl Expr {
    /// A literal; it takes the type of what it meets.
    pub fn lit(value: f64) -> Expr {
        build(&[], |f, _| Ok(f.literal(value)))
    }

    /// A whole literal; one beyond 2⁵³ is an i64.
    pub fn int(value: i64) -> Expr {
        build(&[], |f, _| {
            let exact = value as f64 as i128 == i128::from(value);
            Ok(if exact { f.literal(value as f64) } else { f.push(Kind::Int(value), vec![]) })
        })
    }

    /// Calls a function of the formula language by its name.
    pub fn call(name: &str, args: &[Expr]) -> Expr {
        build(args, |f, ids| {
            let none =
                || FormulaError::new(format!("unknown function '{name}'")).did_you_mean(name, functions::known());
            functions::call(f, name, ids).unwrap_or_else(|| Err(none()))
        })
    }

    /// A position or size, an i64.
    pub fn index(index: Index) -> Expr {
        build(&[], |f, _| Ok(f.push(Kind::Index(index), vec![])))
    }

    /// Uniform random number in [0, 1) for this element.
    pub fn rand(seed: impl Into<Expr>) -> Expr {
        Expr::call("rand", &[seed.into()])
    }

    /// The element of this input at column `t` of the row: `x[t]`.
    pub fn at(self, t: impl Into<Expr>) -> Expr {
        build(&[self, t.into()], |f, ids| match f.terms()[ids[0].index()].kind {
            Kind::Input(slot) => Ok(f.push(Kind::Pick(slot), vec![ids[1]])),
            _ => Err(FormulaError::new("only an input can be indexed")),
        })
    }

    /// Converts to this type.
    pub fn cast(self, dtype: DType) -> Expr {
        op(Op::Cast(dtype), &[self])
    }

    /// `self ? a : b`, element by element.
    pub fn select(self, a: impl Into<Expr>, b: impl Into<Expr>) -> Expr {
        select(self, a, b)
    }

    /// Both are true (numbers: not 0).
    pub fn and(self, other: impl Into<Expr>) -> Expr {
        self.logic(Op::And, other.into())
    }

    /// Either is true (numbers: not 0).
    pub fn or(self, other: impl Into<Expr>) -> Expr {
        self.logic(Op::Or, other.into())
    }

    fn logic(self, op: Op, other: Expr) -> Expr {
        build(&[self, other], |f, ids| {
            let (a, b) = (f.truth(ids[0]), f.truth(ids[1]));
            Ok(f.op(op, &[a, b]))
        })
    }

    /// The power `self` to the `n`.
    pub fn powi(self, n: i32) -> Expr {
        op(Op::Pow, &[self, n.into()])
    }

    /// The value between `low` and `high`.
    pub fn clamp(self, low: impl Into<Expr>, high: impl Into<Expr>) -> Expr {
        Expr::call("clamp", &[self, low.into(), high.into()])
    }

    /// `self * a + b`, rounded once.
    pub fn mul_add(self, a: impl Into<Expr>, b: impl Into<Expr>) -> Expr {
        op(Op::Fma, &[self, a.into(), b.into()])
    }

    /// The k-th largest of the row; `top(0)` is the largest.
    pub fn top(self, k: u32) -> Expr {
        Expr::call("top", &[self, Expr::lit(k.into())])
    }

    /// Column of the k-th largest of the row; of equals the first column comes first.
    pub fn argtop(self, k: u32) -> Expr {
        Expr::call("argtop", &[self, Expr::lit(k.into())])
    }

    /// A result of k columns: the k largest of the row, the largest first.
    pub fn top_k(self, k: u32) -> Expr {
        Expr::call("top_k", &[self, Expr::lit(k.into())])
    }

    /// A result of k columns: the columns of [`Expr::top_k`].
    pub fn argtop_k(self, k: u32) -> Expr {
        Expr::call("argtop_k", &[self, Expr::lit(k.into())])
    }

    /// The here-and-now id, if it belongs to the innermost trace.
    fn here(&self) -> Option<Id> {
        TRACES.with_borrow(|t| t.last().filter(|t| t.number == self.trace).map(|_| self.id))
    }
}

/// Methods of one value, each a function of the formula language.
macro_rules! methods {
    ($($method:ident = $function:literal, $doc:literal;)*) => {
        impl Expr {$(
            #[doc = $doc]
            pub fn $method(self) -> Expr {
                Expr::call($function, &[self])
            }
        )*}
    };
}

methods! {
    exp = "exp", "e to the x.";
    exp2 = "exp2", "2 to the x.";
    exp_m1 = "expm1", "exp(x) − 1 without cancellation.";
    ln = "log", "Natural logarithm.";
    log2 = "log2", "Logarithm to base 2.";
    log10 = "log10", "Logarithm to base 10.";
    ln_1p = "log1p", "ln(1 + x) without cancellation.";
    sqrt = "sqrt", "Square root.";
    rsqrt = "rsqrt", "1 / sqrt(x).";
    recip = "recip", "1 / x.";
    sin = "sin", "Sine.";
    cos = "cos", "Cosine.";
    tan = "tan", "Tangent.";
    tanh = "tanh", "Hyperbolic tangent.";
    abs = "abs", "Absolute value.";
    floor = "floor", "Largest whole number not above x.";
    ceil = "ceil", "Smallest whole number not below x.";
    round = "round", "Nearest whole number, halves away from zero.";
    trunc = "trunc", "Whole part, towards zero.";
    signum = "sign", "−1, 0 or 1; unlike that of f32 it gives 0 for 0.";
    is_nan = "isnan", "Is it NaN?";
    is_infinite = "isinf", "Is it infinite?";
    is_finite = "isfinite", "Is it neither NaN nor infinite?";
    sigmoid = "sigmoid", "1 / (1 + exp(−x)).";
    silu = "silu", "x · sigmoid(x).";
    gelu = "gelu", "GELU, the tanh form.";
    gelu_erf = "gelu_erf", "GELU, the exact form.";
    softplus = "softplus", "ln(1 + exp(x)) without overflow.";
    relu = "relu", "x, and 0 below 0.";
    erf = "erf", "Error function.";
    square = "square", "x · x.";
    float = "float", "As a float: an integer becomes f32 (f64 beside f64 inputs).";
    sum = "sum", "Sum of the row.";
    mean = "mean", "Mean of the row.";
    var = "var", "Variance of the row.";
    std = "std", "Standard deviation of the row.";
    row_max = "max", "Largest of the row.";
    row_min = "min", "Smallest of the row.";
    prod = "prod", "Product of the row.";
    any = "any", "Is any of the row nonzero?";
    all = "all", "Are all of the row nonzero?";
    argmax = "argmax", "Column of the first largest of the row.";
    argmin = "argmin", "Column of the first smallest of the row.";
    logsumexp = "logsumexp", "ln(sum(exp(x))) of the row without overflow.";
    softmax = "softmax", "Softmax of the row.";
    log_softmax = "log_softmax", "Logarithm of the softmax of the row.";
    cumsum = "cumsum", "Running sum along the row.";
    cumprod = "cumprod", "Running product along the row.";
    cummax = "cummax", "Running maximum along the row.";
}

/// Methods of two values, each an op.
macro_rules! binary_methods {
    ($($method:ident = $op:ident, $doc:literal;)*) => {
        impl Expr {$(
            #[doc = $doc]
            pub fn $method(self, other: impl Into<Expr>) -> Expr {
                op(Op::$op, &[self, other.into()])
            }
        )*}
    };
}

binary_methods! {
    lt = Lt, "Is it less?";
    le = Le, "Is it less or equal?";
    gt = Gt, "Is it greater?";
    ge = Ge, "Is it greater or equal?";
    equals = Eq, "Is it equal?";
    not_equals = Ne, "Is it different?";
    min = Min, "The smaller; NaN propagates.";
    max = Max, "The larger; NaN propagates.";
    powf = Pow, "The power `self` to the `other`.";
}

macro_rules! from_number {
    ($($t:ty => $make:ident as $wide:ty),*) => {$(
        impl From<$t> for Expr {
            fn from(v: $t) -> Expr {
                Expr::$make(v as $wide)
            }
        }
    )*};
}
from_number!(f64 => lit as f64, f32 => lit as f64, i32 => int as i64, i64 => int as i64, u32 => int as i64);

impl From<bool> for Expr {
    fn from(v: bool) -> Expr {
        Expr::int(i64::from(v)).cast(DType::Bool)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $assign:ident $assign_method:ident;)*) => {$(
        impl<R: Into<Expr>> ops::$trait<R> for Expr {
            type Output = Expr;
            fn $method(self, other: R) -> Expr {
                op(Op::$trait, &[self, other.into()])
            }
        }
        impl<R: Into<Expr>> ops::$assign<R> for Expr {
            fn $assign_method(&mut self, other: R) {
                *self = op(Op::$trait, &[*self, other.into()]);
            }
        }
        operators!(left $trait $method: f32 f64 i32);
    )*};
    (left $trait:ident $method:ident: $($t:ty)*) => {$(
        impl ops::$trait<Expr> for $t {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr {
                op(Op::$trait, &[self.into(), other])
            }
        }
    )*};
}

operators! {
    Add add AddAssign add_assign;
    Sub sub SubAssign sub_assign;
    Mul mul MulAssign mul_assign;
    Div div DivAssign div_assign;
    Rem rem RemAssign rem_assign;
}

macro_rules! bit_operators {
    ($($trait:ident $method:ident $op:ident;)*) => {$(
        impl<R: Into<Expr>> ops::$trait<R> for Expr {
            type Output = Expr;
            fn $method(self, other: R) -> Expr {
                op(Op::$op, &[self, other.into()])
            }
        }
    )*};
}

bit_operators! {
    BitAnd bitand And;
    BitOr bitor Or;
    BitXor bitxor Xor;
    Shl shl Shl;
    Shr shr Shr;
}

impl ops::Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        op(Op::Neg, &[self])
    }
}

impl ops::Not for Expr {
    type Output = Expr;
    fn not(self) -> Expr {
        op(Op::Not, &[self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(names: &[&str], f: impl FnOnce(&[Expr]) -> Expr) -> String {
        trace(names, |v| vec![f(v)]).unwrap().to_string()
    }

    #[test]
    fn operators_take_numbers_on_either_side() {
        assert_eq!(text(&["x"], |v| 1.0 - v[0] * 2 + 3f32 / v[0]), "1 - x * 2 + 3 / x");
        assert_eq!(text(&["x"], |v| 7 % -v[0]), "7 % -x");
        let assigned = text(&["x", "y"], |v| {
            let mut a = v[0];
            a += 1.0;
            a -= v[1];
            a *= 2.0;
            a /= v[1];
            a %= 3;
            a
        });
        assert_eq!(assigned, "(x + 1 - y) * 2 / y % 3");
    }

    #[test]
    fn conditions_read_as_in_formulas() {
        let f = text(&["x", "y"], |v| v[0].gt(0.0).and(v[1].le(v[0])).select(v[0], -1.0));
        assert_eq!(f, "x > 0 && y <= x ? x : -1");
        assert_eq!(text(&["x"], |v| v[0].and(!v[0])), "bool(x) && !x");
        assert_eq!(text(&["x"], |v| (v[0] & 3) ^ (v[0] << 2)), "x & 3 ^ x << 2");
        assert_eq!(
            text(&["x"], |v| select(v[0].equals(1).or(v[0].not_equals(v[0])), 1, 2)),
            "x == 1 || x != x ? 1 : 2"
        );
    }

    #[test]
    fn methods_are_the_functions_of_formulas() {
        for (name, traced) in [
            ("gelu(x)", trace(&["x"], |v| vec![v[0].gelu()])),
            ("logsumexp(x)", trace(&["x"], |v| vec![v[0].logsumexp()])),
            ("clamp(x, 0, 1)", trace(&["x"], |v| vec![v[0].clamp(0, 1.0)])),
            ("max(x) + x[argmax(x)]", trace(&["x"], |v| vec![v[0].row_max() + v[0].at(v[0].argmax())])),
            ("fma(x, 2, col)", trace(&["x"], |v| vec![v[0].mul_add(2, Expr::index(Index::Col))])),
            ("f16(pow(x, 3))", trace(&["x"], |v| vec![v[0].powi(3).cast(DType::F16)])),
        ] {
            assert_eq!(traced.unwrap(), Formula::parse(name).unwrap(), "{name}");
        }
    }

    #[test]
    fn unused_inputs_and_several_results_are_kept() {
        let f = trace(&["a", "b", "c"], |v| vec![v[1], v[0]]).unwrap();
        assert_eq!(f.to_string(), "let _ = a; let _ = b; let _ = c; out out0 = b; out out1 = a");
        assert_eq!(Formula::parse(&f.to_string()).unwrap(), f);
    }

    #[test]
    fn a_value_from_another_trace_is_an_error() {
        let mut stolen = None;
        trace(&["x"], |v| {
            stolen = Some(v[0]);
            vec![v[0]]
        })
        .unwrap();
        let stolen = stolen.unwrap();
        let e = trace(&["y"], |v| vec![v[0] + stolen]).unwrap_err();
        assert_eq!(e.message, "a value is used outside the closure that it was traced in");
        assert!(trace(&["y"], |_| vec![stolen]).is_err());
        let _outside_of_any_trace = stolen.exp() + Expr::lit(1.0);
        let inner = trace(&["a"], |v| {
            let a = v[0];
            let inner = trace(&["b"], |w| vec![w[0] + a]);
            assert!(inner.is_err());
            assert!(trace(&["b"], |w| vec![w[0] + 1.0]).is_ok());
            vec![a + 1.0]
        });
        assert_eq!(inner.unwrap().to_string(), "a + 1");
    }

    #[test]
    fn a_panic_in_the_closure_leaves_no_trace() {
        let panicked = std::panic::catch_unwind(|| trace(&["x"], |_| std::panic::resume_unwind(Box::new(()))));
        assert!(panicked.is_err());
        assert_eq!(TRACES.with_borrow(Vec::len), 0);
        assert_eq!(text(&["x"], |v| v[0] + 1.0), "x + 1");
    }

    #[test]
    fn mistakes_are_errors() {
        assert!(trace(&["x", "x"], |v| vec![v[0]]).is_err());
        assert!(trace(&["cols"], |v| vec![v[0]]).is_err());
        assert!(trace(&["a b"], |v| vec![v[0]]).is_err());
        assert!(trace(&["x"], |_| vec![]).is_err());
        let e = trace(&["x"], |v| vec![Expr::call("tahn", v)]).unwrap_err();
        assert_eq!(e.to_string(), "unknown function 'tahn'; did you mean 'tanh'?");
        assert!(trace(&["x"], |v| vec![(v[0] + 1).at(0)]).is_err());
        let endless = trace(&["x"], |v| vec![(0..1_000_000).fold(v[0], |a, i| a + i)]).unwrap_err();
        assert_eq!(endless.message, "more than 20000 terms");
    }
}
