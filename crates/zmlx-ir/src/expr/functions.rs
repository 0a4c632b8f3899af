//! The named functions of formulas, said once for text and closures: pointwise ops, compositions of them, and
//! row functions. A composition is written out in terms of the op table, so nothing after this file knows it.

use super::{Formula, FormulaError};
use crate::{
    Op,
    program::{Id, Index, Kind, Over, RANKS, ReduceOp, Scan, ScanOp},
};
use std::{f64::consts, ops::Range};

/// A function that formulas can call.
pub struct Function {
    /// Name in formulas.
    pub name: &'static str,
    /// Other accepted spellings.
    pub aliases: &'static [&'static str],
    /// Least and largest number of arguments (`usize::MAX`: no limit).
    pub arity: (usize, usize),
    /// Does it work on a whole row (only for `rowwise`), or on each element by itself?
    pub rowwise: bool,
    /// One line of documentation.
    pub doc: &'static str,
    build: Build,
}

/// How a call becomes terms.
enum Build {
    /// One op; with more arguments than it has operands, folded from the left.
    Op(Op),
    Reduce(ReduceOp),
    Scan(ScanOp),
    Rand,
    Composite(fn(&mut Formula, &[Id]) -> Id),
    /// Of a value and a rank, a whole literal below [`RANKS`].
    Ranked(fn(u8) -> ReduceOp),
    /// The first so many ranks of a value side by side, a whole literal up to [`RANKS`].
    FirstRanks(fn(u8) -> ReduceOp),
    /// Values of a row side by side.
    Stack,
    /// As `Stack`, element by element in turn.
    Weave,
}

/// The table of functions. `min` and `max` have two rows: of one argument they reduce, of more they do not.
pub fn functions() -> &'static [Function] {
    &FUNCTIONS
}

const fn row(name: &'static str, arity: (usize, usize), rowwise: bool, build: Build, doc: &'static str) -> Function {
    Function { name, aliases: &[], arity, rowwise, doc, build }
}

const fn op(op: Op, name: &'static str, arity: usize, doc: &'static str) -> Function {
    row(name, (arity, arity), false, Build::Op(op), doc)
}

const fn made(name: &'static str, arity: usize, build: fn(&mut Formula, &[Id]) -> Id, doc: &'static str) -> Function {
    row(name, (arity, arity), false, Build::Composite(build), doc)
}

const fn reduce(op: ReduceOp, name: &'static str, doc: &'static str) -> Function {
    row(name, (1, 1), true, Build::Reduce(op), doc)
}

const fn scan(op: ScanOp, name: &'static str, doc: &'static str) -> Function {
    row(name, (1, 1), true, Build::Scan(op), doc)
}

const fn row_made(name: &'static str, build: fn(&mut Formula, &[Id]) -> Id, doc: &'static str) -> Function {
    row(name, (1, 1), true, Build::Composite(build), doc)
}

const fn ranked(name: &'static str, build: Build, doc: &'static str) -> Function {
    row(name, (2, 2), true, build, doc)
}

const fn alias(aliases: &'static [&'static str], f: Function) -> Function {
    Function { aliases, ..f }
}

/// The largest arity of functions that take any number of arguments.
const MANY: usize = usize::MAX;

static FUNCTIONS: [Function; 64] = [
    alias(&["fabs"], op(Op::Abs, "abs", 1, "absolute value")),
    op(Op::Sign, "sign", 1, "-1, 0 or 1"),
    op(Op::Floor, "floor", 1, "largest whole number not above x"),
    op(Op::Ceil, "ceil", 1, "smallest whole number not below x"),
    op(Op::Round, "round", 1, "nearest whole number, halves away from zero"),
    made("trunc", 1, trunc, "whole part, towards zero"),
    op(Op::Exp, "exp", 1, "e to the x"),
    op(Op::Exp2, "exp2", 1, "2 to the x"),
    op(Op::Expm1, "expm1", 1, "exp(x) - 1 without cancellation"),
    alias(&["ln"], op(Op::Log, "log", 1, "natural logarithm")),
    op(Op::Log2, "log2", 1, "logarithm to base 2"),
    made("log10", 1, |f, x| f.scaled(Op::Log, x[0], consts::LOG10_E), "logarithm to base 10"),
    op(Op::Log1p, "log1p", 1, "log(1 + x) without cancellation"),
    op(Op::Sqrt, "sqrt", 1, "square root"),
    op(Op::Rsqrt, "rsqrt", 1, "1 / sqrt(x)"),
    op(Op::Recip, "recip", 1, "1 / x"),
    made("square", 1, |f, x| f.op(Op::Mul, &[x[0], x[0]]), "x * x"),
    alias(&["powf"], op(Op::Pow, "pow", 2, "a to the b")),
    op(Op::Sin, "sin", 1, "sine"),
    op(Op::Cos, "cos", 1, "cosine"),
    op(Op::Tan, "tan", 1, "tangent"),
    op(Op::Tanh, "tanh", 1, "hyperbolic tangent"),
    op(Op::Sigmoid, "sigmoid", 1, "1 / (1 + exp(-x)) without overflow"),
    made("silu", 1, silu, "x * sigmoid(x)"),
    made("gelu", 1, gelu, "GELU, the tanh form"),
    made("gelu_erf", 1, gelu_erf, "GELU, the exact form: x / 2 * (1 + erf(x / sqrt(2)))"),
    op(Op::Softplus, "softplus", 1, "log(1 + exp(x)) without overflow"),
    made("relu", 1, relu, "x <= 0 ? 0 : x"),
    op(Op::Erf, "erf", 1, "error function"),
    alias(&["fmin"], row("min", (2, MANY), false, Build::Op(Op::Min), "smallest of two or more; NaN propagates")),
    alias(&["fmax"], row("max", (2, MANY), false, Build::Op(Op::Max), "largest of two or more; NaN propagates")),
    made("clamp", 3, clamp, "min(max(x, lo), hi)"),
    op(Op::Fma, "fma", 3, "a * b + c, rounded once"),
    op(Op::Mulz, "mulz", 2, "a * b, and 0 where a is 0 whatever b"),
    alias(&["fmod"], op(Op::Rem, "rem", 2, "a % b: remainder with the sign of a")),
    op(Op::Select, "where", 3, "c ? a : b"),
    op(Op::IsNan, "isnan", 1, "is it NaN?"),
    made("isinf", 1, |f, x| f.against_infinity(Op::Eq, x[0]), "is it +inf or -inf?"),
    made("isfinite", 1, |f, x| f.against_infinity(Op::Lt, x[0]), "is it neither NaN nor infinite?"),
    made("float", 1, |f, x| f.as_float(x[0]), "x as a float: an integer becomes f32 (f64 beside f64 inputs)"),
    row(
        "rand",
        (1, 1),
        false,
        Build::Rand,
        "uniform random number in [0, 1) for this element; the argument is the seed",
    ),
    reduce(ReduceOp::Sum, "sum", "sum of the row"),
    row_made("mean", mean, "mean of the row"),
    row_made("var", var, "variance of the row: mean((x - mean(x))^2)"),
    row_made("std", std_dev, "standard deviation of the row: sqrt(var(x))"),
    reduce(ReduceOp::Max, "max", "largest of the row; NaN propagates"),
    reduce(ReduceOp::Min, "min", "smallest of the row; NaN propagates"),
    reduce(ReduceOp::Prod, "prod", "product of the row"),
    reduce(ReduceOp::Any, "any", "is any of the row nonzero?"),
    reduce(ReduceOp::All, "all", "are all of the row nonzero?"),
    reduce(ReduceOp::ArgMax, "argmax", "column of the first largest"),
    reduce(ReduceOp::ArgMin, "argmin", "column of the first smallest"),
    ranked(
        "top",
        Build::Ranked(ReduceOp::Top),
        "the k-th largest of the row, top(x, 0) the largest; NaN is larger than all",
    ),
    ranked("argtop", Build::Ranked(ReduceOp::ArgTop), "column of top(x, k); of equals the first column comes first"),
    ranked(
        "top_k",
        Build::FirstRanks(ReduceOp::Top),
        "result of k columns: the k largest of the row, the largest first",
    ),
    ranked("argtop_k", Build::FirstRanks(ReduceOp::ArgTop), "result of k columns: the columns of top_k(x, k)"),
    row(
        "stack",
        (1, MANY),
        true,
        Build::Stack,
        "result of the arguments side by side: the columns of each in its turn",
    ),
    row(
        "interleave",
        (1, MANY),
        true,
        Build::Weave,
        "result of the arguments' first columns, then their second, and on",
    ),
    row_made("logsumexp", log_sum_exp, "log(sum(exp(x))) without overflow"),
    row_made("softmax", softmax, "exp(x - max(x)) / sum(exp(x - max(x)))"),
    row_made("log_softmax", log_softmax, "log(softmax(x)) without overflow"),
    scan(ScanOp::Sum, "cumsum", "running sum along the row"),
    scan(ScanOp::Prod, "cumprod", "running product along the row"),
    scan(ScanOp::Max, "cummax", "running maximum along the row"),
];

impl Function {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// Is its last argument a rank: a whole number that the formula says?
    pub fn takes_rank(&self) -> bool {
        matches!(self.build, Build::Ranked(_) | Build::FirstRanks(_))
    }

    fn takes(&self, count: usize) -> bool {
        (self.arity.0..=self.arity.1).contains(&count)
    }
}

/// Every word that can be called, for suggestions.
pub(super) fn known<'a>() -> impl Iterator<Item = &'a str> {
    let casts = crate::DType::ALL.into_iter().map(crate::DType::name);
    FUNCTIONS
        .iter()
        .flat_map(|f| std::iter::once(f.name).chain(f.aliases.iter().copied()))
        .chain(casts)
        .map(|s| -> &'a str { s })
}

/// Calls a function by name; the error has no place yet. None: there is no such function.
pub(super) fn call(f: &mut Formula, name: &str, args: &[Id]) -> Option<Result<Id, FormulaError>> {
    let mut named = FUNCTIONS.iter().filter(|row| row.is_called(name)).peekable();
    named.peek()?;
    match named.clone().find(|row| row.takes(args.len())) {
        Some(row) => Some(row.build(f, args)),
        None => Some(Err(wrong_count(name, named, args.len()))),
    }
}

fn wrong_count<'a>(name: &str, rows: impl Iterator<Item = &'a Function>, got: usize) -> FormulaError {
    let (mut least, mut most) = (usize::MAX, 0);
    // Where a name has two rows, one of them takes any number.
    for row in rows {
        (least, most) = (least.min(row.arity.0), most.max(row.arity.1));
    }
    let at_least = if least == most { "" } else { "at least " };
    let plural = if least == 1 { "" } else { "s" };
    FormulaError::new(format!("{name} takes {at_least}{least} argument{plural}, not {got}"))
}

impl Function {
    fn build(&self, f: &mut Formula, args: &[Id]) -> Result<Id, FormulaError> {
        Ok(match self.build {
            Build::Op(op) if args.len() > op.arity() => {
                args[1..].iter().fold(args[0], |folded, &next| f.op(op, &[folded, next]))
            }
            Build::Op(op) => f.op(op, args),
            Build::Reduce(op) => f.reduce(op, args[0]),
            Build::Scan(op) => f.push(Kind::Scan(Scan { op, reverse: false, exclusive: false }), args.to_vec()),
            Build::Rand => f.push(Kind::Rand, args.to_vec()),
            Build::Composite(build) => build(f, args),
            Build::Ranked(op) => {
                let rank = self.whole(f, args[1], 0..RANKS, "a rank")?;
                f.reduce(op(rank), args[0])
            }
            Build::FirstRanks(op) => {
                let count = self.whole(f, args[1], 1..RANKS + 1, "a number of ranks")?;
                let ranks = (0..count).map(|rank| f.reduce(op(rank), args[0])).collect();
                f.push(Kind::Stack, ranks)
            }
            Build::Stack => f.push(Kind::Stack, args.to_vec()),
            Build::Weave => f.push(Kind::Weave, args.to_vec()),
        })
    }

    /// The whole number that a term says.
    fn whole(&self, f: &Formula, term: Id, range: Range<u8>, what: &str) -> Result<u8, FormulaError> {
        let value = match f.terms[term.index()].kind {
            Kind::Const(bits) => f64::from_bits(bits),
            _ => f64::NAN,
        };
        if (f64::from(range.start)..f64::from(range.end)).contains(&value) && value.fract() == 0.0 {
            return Ok(value as u8);
        }
        let (name, least, most) = (self.name, range.start, range.end - 1);
        Err(FormulaError::new(format!("{name} takes {what} from {least} to {most} written as a number")))
    }
}

/// Short spellings for the compositions below.
impl Formula {
    pub(super) fn op(&mut self, op: Op, args: &[Id]) -> Id {
        self.push(Kind::Op(op), args.to_vec())
    }

    fn reduce(&mut self, op: ReduceOp, arg: Id) -> Id {
        self.push(Kind::Reduce(op, Over::Cols), vec![arg])
    }

    /// op(x) · k
    fn scaled(&mut self, op: Op, x: Id, k: f64) -> Id {
        let y = self.op(op, &[x]);
        let k = self.literal(k);
        self.op(Op::Mul, &[y, k])
    }

    /// `abs(x) op INFINITY`; false for NaN.
    fn against_infinity(&mut self, op: Op, x: Id) -> Id {
        let size = self.op(Op::Abs, &[x]);
        let infinity = self.literal(f64::INFINITY);
        self.op(op, &[size, infinity])
    }

    /// pow(x, 1): itself on floats (`simplify` removes it), the conversion to the float type on integers. A
    /// formula does not know that type, so it cannot say `Cast`.
    pub(super) fn as_float(&mut self, x: Id) -> Id {
        let one = self.literal(1.0);
        self.op(Op::Pow, &[x, one])
    }

    /// A truth value: itself if it is one, else compared with 0.
    pub(super) fn truth(&mut self, x: Id) -> Id {
        if self.is_truth(x, 8) { x } else { self.op(Op::Cast(crate::DType::Bool), &[x]) }
    }

    /// Is the term plainly a truth value? Looks only some levels down, to stay cheap on long chains of `&&`.
    pub(super) fn is_truth(&self, x: Id, levels: usize) -> bool {
        let term = &self.terms[x.index()];
        match term.kind {
            Kind::Op(op) if op.is_predicate() => true,
            Kind::Op(Op::And | Op::Or | Op::Xor) if levels > 0 => {
                self.is_truth(term.args[1], levels / 2) && self.is_truth(term.args[0], levels - 1)
            }
            Kind::Reduce(ReduceOp::Any | ReduceOp::All, _) => true,
            _ => false,
        }
    }
}

/// x < 0 ? ceil(x) : floor(x)
fn trunc(f: &mut Formula, x: &[Id]) -> Id {
    let zero = f.literal(0.0);
    let (up, down) = (f.op(Op::Ceil, x), f.op(Op::Floor, x));
    let negative = f.op(Op::Lt, &[x[0], zero]);
    f.op(Op::Select, &[negative, up, down])
}

fn silu(f: &mut Formula, x: &[Id]) -> Id {
    let s = f.op(Op::Sigmoid, x);
    f.op(Op::Mul, &[x[0], s])
}

/// x/2 · (1 + tanh(u)) = x · sigmoid(2u), u = √(2/π)·(x + 0.044715x³): neither cancels nor overflows.
fn gelu(f: &mut Formula, x: &[Id]) -> Id {
    let x = x[0];
    let cubic = f.literal(0.044715);
    let k = f.literal(2.0 * (2.0 / consts::PI).sqrt());
    let square = f.op(Op::Mul, &[x, x]);
    let cube = f.op(Op::Mul, &[square, x]);
    let cube = f.op(Op::Mul, &[cubic, cube]);
    let u = f.op(Op::Add, &[x, cube]);
    let u = f.op(Op::Mul, &[k, u]);
    let s = f.op(Op::Sigmoid, &[u]);
    f.op(Op::Mul, &[x, s])
}

fn gelu_erf(f: &mut Formula, x: &[Id]) -> Id {
    let (half, one, k) = (f.literal(0.5), f.literal(1.0), f.literal(consts::FRAC_1_SQRT_2));
    let u = f.op(Op::Mul, &[x[0], k]);
    let e = f.op(Op::Erf, &[u]);
    let e = f.op(Op::Add, &[one, e]);
    let h = f.op(Op::Mul, &[half, x[0]]);
    f.op(Op::Mul, &[h, e])
}

/// Written so that NaN propagates and the gradient at 0 is 0.
fn relu(f: &mut Formula, x: &[Id]) -> Id {
    let zero = f.literal(0.0);
    let off = f.op(Op::Le, &[x[0], zero]);
    f.op(Op::Select, &[off, zero, x[0]])
}

fn clamp(f: &mut Formula, x: &[Id]) -> Id {
    let low = f.op(Op::Max, &[x[0], x[1]]);
    f.op(Op::Min, &[low, x[2]])
}

/// Integers are converted before they are summed, so that a sum of bytes does not wrap.
fn mean(f: &mut Formula, x: &[Id]) -> Id {
    let x = f.as_float(x[0]);
    let sum = f.reduce(ReduceOp::Sum, x);
    let cols = f.push(Kind::Index(Index::Cols), vec![]);
    f.op(Op::Div, &[sum, cols])
}

/// Two passes over the row: E[x²] − E[x]² would cancel.
fn var(f: &mut Formula, x: &[Id]) -> Id {
    let m = mean(f, x);
    let d = f.op(Op::Sub, &[x[0], m]);
    let square = f.op(Op::Mul, &[d, d]);
    mean(f, &[square])
}

fn std_dev(f: &mut Formula, x: &[Id]) -> Id {
    let v = var(f, x);
    f.op(Op::Sqrt, &[v])
}

/// exp(x − m) for a shift m.
fn shifted_exp(f: &mut Formula, x: Id, m: Id) -> Id {
    let d = f.op(Op::Sub, &[x, m]);
    f.op(Op::Exp, &[d])
}

/// The shift is max(x) where that is finite, else 0: a row of −inf gives −inf and one with +inf gives +inf,
/// where inf − inf would give NaN.
fn log_sum_exp(f: &mut Formula, x: &[Id]) -> Id {
    let m = f.reduce(ReduceOp::Max, x[0]);
    let finite = f.against_infinity(Op::Lt, m);
    let zero = f.literal(0.0);
    let m = f.op(Op::Select, &[finite, m, zero]);
    let e = shifted_exp(f, x[0], m);
    let sum = f.reduce(ReduceOp::Sum, e);
    let log = f.op(Op::Log, &[sum]);
    f.op(Op::Add, &[m, log])
}

fn softmax(f: &mut Formula, x: &[Id]) -> Id {
    let m = f.reduce(ReduceOp::Max, x[0]);
    let e = shifted_exp(f, x[0], m);
    let sum = f.reduce(ReduceOp::Sum, e);
    f.op(Op::Div, &[e, sum])
}

fn log_softmax(f: &mut Formula, x: &[Id]) -> Id {
    let m = f.reduce(ReduceOp::Max, x[0]);
    let d = f.op(Op::Sub, &[x[0], m]);
    let e = f.op(Op::Exp, &[d]);
    let sum = f.reduce(ReduceOp::Sum, e);
    let log = f.op(Op::Log, &[sum]);
    f.op(Op::Sub, &[d, log])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Value;

    #[test]
    fn every_function_of_the_op_table_can_be_called() {
        for op in Op::ALL {
            let (name, c) = (op.name(), op.row().c);
            let spelled_as_function = c.starts_with(&format!("{name}("));
            // Shifts are `<<` and `>>` in formulas; in C they are functions, since they mask the count.
            if spelled_as_function && !matches!(op, Op::Shl | Op::Shr) {
                let row = FUNCTIONS.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name}"));
                assert!(matches!(row.build, Build::Op(o) if o == op), "{name}");
                assert_eq!(row.arity.0, op.arity(), "{name}");
            }
        }
    }

    #[test]
    fn no_two_rows_answer_one_call() {
        for (i, a) in FUNCTIONS.iter().enumerate() {
            for b in &FUNCTIONS[i + 1..] {
                let same = std::iter::once(&a.name).chain(a.aliases).any(|n| b.is_called(n));
                assert!(!same || a.arity.1 < b.arity.0 || b.arity.1 < a.arity.0, "{} {}", a.name, b.name);
            }
            assert!(!a.doc.is_empty());
        }
    }

    #[test]
    fn a_wrong_number_of_arguments_is_told() {
        let message = |name, n| {
            let mut f = Formula::default();
            let x = f.name("x");
            call(&mut f, name, &vec![x; n]).unwrap().unwrap_err().message
        };
        assert_eq!(message("exp", 2), "exp takes 1 argument, not 2");
        assert_eq!(message("pow", 1), "pow takes 2 arguments, not 1");
        assert_eq!(message("max", 0), "max takes at least 1 argument, not 0");
        assert!(call(&mut Formula::default(), "tahn", &[]).is_none());
    }

    /// Runs a pointwise formula of one input in f64.
    fn eval(f: &Formula, root: Id, x: f64) -> f64 {
        let mut v: Vec<f64> = vec![];
        for t in f.terms() {
            let a = |i: usize| v[t.args[i].index()];
            v.push(match t.kind {
                Kind::Input(_) => x,
                Kind::Const(bits) => f64::from_bits(bits),
                Kind::Op(op) => match op.row().value {
                    Value::Unary(g) => g(a(0)),
                    Value::Binary(g) => g(a(0), a(1)),
                    Value::Ternary(g) => g(a(0), a(1), a(2)),
                },
                ref k => panic!("{k:?}"),
            });
        }
        v[root.index()]
    }

    fn value(name: &str, x: f64) -> f64 {
        let mut f = Formula::default();
        let arg = f.name("x");
        let y = call(&mut f, name, &[arg]).unwrap().unwrap();
        eval(&f, y, x)
    }

    #[test]
    fn compositions_have_their_values() {
        let near = |name, x: f64, want: f64| {
            let got = value(name, x);
            assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{name}({x}) = {got}, want {want}");
        };
        for x in [-30.0, -3.2, -0.5, 0.0, 0.5, 1.0, 7.9] {
            near("silu", x, x / (1.0 + f64::exp(-x)));
            let u = (2.0 / consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            near("gelu", x, 0.5 * x * (1.0 + u.tanh()));
            near("gelu_erf", x, 0.5 * x * (1.0 + crate::erf::erf(x / 2f64.sqrt())));
            near("relu", x, x.max(0.0));
            near("trunc", x, x.trunc());
            near("square", x, x * x);
            near("float", x, x);
        }
        near("log10", 1000.0, 3.0);
        for (x, finite, infinite) in [(1.0, 1.0, 0.0), (f64::NAN, 0.0, 0.0), (f64::NEG_INFINITY, 0.0, 1.0)] {
            assert_eq!((value("isfinite", x), value("isinf", x)), (finite, infinite), "{x}");
        }
        assert!(value("relu", f64::NAN).is_nan());
        assert_eq!(value("gelu", -1e200), 0.0);
    }
}
