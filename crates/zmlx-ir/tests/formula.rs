//! Formulas: what text means, which mistakes it is told about and how, what it prints as, and how it binds.

use zmlx_ir::{
    DType, Extent, Formula, Op, Program, Scalar, Signature,
    expr::functions,
    program::{Id, Kind, Output, Over, ReduceOp},
};

fn parse(text: &str) -> Formula {
    Formula::parse(text).unwrap_or_else(|e| panic!("{e}"))
}

fn error(text: &str) -> String {
    match Formula::parse(text) {
        Ok(f) => panic!("{text} parses to {f}"),
        Err(e) => e.to_string(),
    }
}

/// The formula with every input f32 over rows and columns.
fn bind(text: &str) -> Program {
    bind_as(text, &[])
}

/// The formula with these inputs, f32 over rows and columns where none is given.
fn bind_as(text: &str, inputs: &[(DType, Extent)]) -> Program {
    try_bind(&parse(text), inputs).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn try_bind(f: &Formula, inputs: &[(DType, Extent)]) -> Result<Program, zmlx_ir::FormulaError> {
    let count = f.names.iter().filter(|n| n.uniform.is_none()).count();
    let mut sig = Signature::uniform(count, DType::F32, Extent::ELEM);
    sig.inputs.iter_mut().zip(inputs).for_each(|(slot, given)| *slot = *given);
    f.bind("test", &sig)
}

fn out(p: &Program) -> &Output {
    p.outputs.last().unwrap()
}

/// The value of a formula without inputs.
fn constant(text: &str) -> f64 {
    let p = bind(text);
    p.constant_value(out(&p).node).unwrap_or_else(|| panic!("{text} is no constant"))
}

fn elem(d: DType) -> (DType, Extent) {
    (d, Extent::ELEM)
}

#[test]
fn precedence_is_that_of_c() {
    for (text, bracketed) in [
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a / b * c % d", "((a / b) * c) % d"),
        ("-a * b", "(-a) * b"),
        ("- - a", "-(-a)"),
        ("!a == b", "(!a) == b"),
        ("a << b + c", "a << (b + c)"),
        ("a < b << c", "a < (b << c)"),
        ("a < b == c > d", "(a < b) == (c > d)"),
        ("a & b == c", "a & (b == c)"),
        ("a ^ b & c", "a ^ (b & c)"),
        ("a | b ^ c", "a | (b ^ c)"),
        ("a && b | c", "a && (b | c)"),
        ("a || b && c", "a || (b && c)"),
        ("a && b || c && d", "(a && b) || (c && d)"),
        ("a || b ? c : d", "(a || b) ? c : d"),
        ("a ? b : c ? d : e", "a ? b : (c ? d : e)"),
        ("a ? b ? c : d : e", "a ? (b ? c : d) : e"),
        ("~a + b", "(~a) + b"),
        ("(f32)a * b", "((f32)a) * b"),
        ("(f32)-a * b", "(f32(-a)) * b"),
        ("a - -1", "a - (-1)"),
        ("a + b + c * d - e", "((a + b) + (c * d)) - e"),
    ] {
        assert_eq!(parse(text), parse(bracketed), "{text}");
    }
    assert_ne!(parse("a - (b - c)"), parse("a - b - c"));
}

#[test]
fn spellings_of_c_and_metal_are_accepted() {
    for (text, same) in [
        ("metal::exp(x)", "exp(x)"),
        ("metal::precise::tanh(x)", "tanh(x)"),
        ("std::max(a, b)", "max(a, b)"),
        ("fast::fabs(x)", "abs(x)"),
        ("fmin(a, fmax(b, c))", "min(a, max(b, c))"),
        ("powf(x, 2) + ln(y)", "pow(x, 2) + log(y)"),
        ("(T)1 / ((T)1 + exp(-x))", "1 / (1 + exp(-x))"),
        ("T(2) * x", "2 * x"),
        ("(half)x + int(y)", "f16(x) + i32(y)"),
        ("(float)x", "float(x)"),
        ("x * 1.5f + 2.F - 0x10u", "x * 1.5 + 2 - 16"),
        ("x /* of the first */ + y // and more\n + z;", "x + y + z"),
        ("+x", "x"),
        (";;x;;", "x"),
        ("where(c, a, b)", "c ? a : b"),
        ("max(a, b, c)", "max(max(a, b), c)"),
        ("log(x, )", "log(x)"),
    ] {
        assert_eq!(parse(text), parse(same), "{text}");
    }
}

#[test]
fn a_name_in_brackets_before_a_minus_is_no_cast_where_it_may_be_a_value() {
    assert_eq!(parse("(T) - x").names.len(), 2);
    assert_eq!(parse("(T) * x").names.len(), 2);
    assert_eq!(parse("half + (half) - x").names.len(), 2);
    assert_eq!(parse("(half) - x"), parse("f16(-x)"));
}

#[test]
fn inputs_are_in_order_of_appearance() {
    let names = |text: &str| parse(text).names.iter().map(|n| n.name.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(names("silu(gate) * up"), "gate up");
    assert_eq!(names("let d = x - mean(x); d * rsqrt(mean(d * d) + eps) * w + b"), "x eps w b");
    assert_eq!(names("d + e * g - y"), "d e g y");
    assert_eq!(names("let x = x * 2; x + cols + PI + INFINITY"), "x");
    assert_eq!(names("fn sq(v) = v * v; sq(b) + sq(a)"), "b a");
    assert_eq!(names("x[t]"), "x t");
}

#[test]
fn results_are_outs_or_the_last_expression() {
    let f = parse("out h: f32 = x + r; out y = h * 2; out m: bf16 = h");
    let outs: Vec<_> = f.outs.iter().map(|o| (o.name.as_str(), o.dtype)).collect();
    assert_eq!(outs, [("h", Some(DType::F32)), ("y", None), ("m", Some(DType::BF16))]);
    assert_eq!(f.outs[0].term, f.outs[2].term);
    let f = parse("let a = x; a");
    assert_eq!((f.outs[0].name.as_str(), f.outs[0].dtype), ("out", None));
    let f = parse("out: f16 = x");
    assert_eq!((f.outs[0].name.as_str(), f.outs[0].dtype), ("out", Some(DType::F16)));
}

#[test]
fn helper_functions_are_inlined() {
    let f = Formula::parse_with("fn sq(x) = x*x; fn norm(a, b) = sqrt(sq(a) + sq(b));", "norm(u, v - 1)").unwrap();
    assert_eq!(f, parse("sqrt(u * u + (v - 1) * (v - 1))"));
    assert_eq!(parse("fn half_of(x) = x / 2; half_of(half_of(y))"), parse("y / 2 / 2"));
    assert_eq!(parse("let k = 3; fn f(x) = x * k; let k = 4; f(y) + k"), parse("y * 3 + 4"));
    assert_eq!(parse("let a = 2; fn f(a) = a + 1; f(x) * a"), parse("(x + 1) * 2"));
    assert_eq!(parse("fn at(v, i) = v[i]; at(x, t)"), parse("x[t]"));
    assert_eq!(parse("fn relu(x) = max(x, 0); relu(y)"), parse("max(y, 0)"));
    assert_eq!(parse("fn one() = 1; one() + x"), parse("1 + x"));
    // A body that is never called leaves nothing behind.
    assert!(!parse("fn m(v) = max(v); x + 1").uses_rows());
    assert_eq!(parse("fn m(v) = max(v); let unused = sum(x); x + 1").terms().len(), 3);
}

#[test]
fn every_function_parses_binds_and_prints() {
    for f in functions() {
        let args = match f.name {
            // of values of a row
            "stack" => "sum(a)".into(),
            _ if f.takes_rank() => "a, 1".into(),
            _ => ["a", "b", "c"][..f.arity.0].join(", "),
        };
        let text = format!("{}({args})", f.name);
        let formula = parse(&text);
        assert_eq!(formula.is_pointwise(), !f.rowwise, "{text}");
        assert_eq!(parse(&formula.to_string()), formula, "{text} prints {formula}");
        for dtype in DType::ALL {
            // a seed is one a row
            let extent = if f.name == "rand" { Extent::ROW } else { Extent::ELEM };
            let inputs = f.arity.0 - usize::from(f.takes_rank());
            let p = formula.bind(f.name, &Signature::uniform(inputs, dtype, extent)).unwrap();
            assert!(p.inputs.iter().all(|i| i.dtype == dtype), "{text}");
        }
        for alias in f.aliases {
            assert_eq!(parse(&format!("{alias}({args})")), formula, "{alias}");
        }
    }
}

#[test]
fn row_functions_have_the_structure_that_later_passes_look_for() {
    assert_eq!(parse("softmax(x)"), parse("exp(x - max(x)) / sum(exp(x - max(x)))"));
    assert_eq!(parse("mean(x)"), parse("sum(float(x)) / cols"));
    assert_eq!(parse("var(x)"), parse("let d = x - mean(x); mean(d * d)"));
    assert_eq!(parse("std(x)"), parse("sqrt(var(x))"));
    assert_eq!(
        parse("logsumexp(x)"),
        parse("let m = max(x); let s = abs(m) < INFINITY ? m : 0; s + log(sum(exp(x - s)))")
    );
    assert_eq!(parse("log_softmax(x)"), parse("let d = x - max(x); d - log(sum(exp(d)))"));
}

#[test]
fn mistakes_are_underlined_and_explained() {
    for (text, want) in [
        ("x * tahn(x)", "unknown function 'tahn'; did you mean 'tanh'?\n  x * tahn(x)\n      ^^^^"),
        ("", "the formula has no result; end with a value\n  \n  ^"),
        ("let a = x;", "the formula has no result; end with a value\n  let a = x;\n            ^"),
        ("x +", "expected a value, but the formula ends\n  x +\n     ^"),
        ("(x + 1", "expected ')', but the formula ends\n  (x + 1\n        ^"),
        ("x + * y", "expected a value, found '*'\n  x + * y\n      ^"),
        ("x y", "expected an operator or ';', found 'y'; is an operator missing?\n  x y\n    ^"),
        ("2x", "this is not a number; write '2 * x'\n  2x\n  ^^"),
        ("x = 1", "expected an operator or ';', found '='; for a comparison write '=='\n  x = 1\n    ^"),
        ("x ** 2", "expected an operator or ';', found '**'; for a power write 'pow(a, b)'\n  x ** 2\n    ^^"),
        ("exp(x, y)", "exp takes 1 argument, not 2\n  exp(x, y)\n  ^^^^^^^^^"),
        ("f32(x, y)", "f32 takes 1 argument, not 2\n  f32(x, y)\n  ^^^^^^^^^"),
        ("x + foo::exp(x)", "unknown namespace 'foo'\n  x + foo::exp(x)\n      ^^^"),
        ("x + let", "'let' is a reserved word and begins a statement\n  x + let\n      ^^^"),
        ("let cols = 1; cols", "'cols' is a reserved word\n  let cols = 1; cols\n      ^^^^"),
        ("x; y", "this value is not used; name it with 'let' or 'out'\n  x; y\n  ^"),
        (
            "out a = x; y",
            "beside 'out' this value is not a result; write 'out name = …'\n  out a = x; y\n             ^",
        ),
        ("out a = x; out a = y", "there are two results 'a'\n  out a = x; out a = y\n                 ^"),
        ("out x = x", "'x' is an input; give the result another name\n  out x = x\n      ^"),
        ("out a: f33 = x", "expected a type, found 'f33'; did you mean 'f32'?\n  out a: f33 = x\n         ^^^"),
        ("(x + 1)[t]", "only an input can be indexed\n  (x + 1)[t]\n  ^^^^^^^^^^"),
        ("x + x(y)", "unknown function 'x'; for a product write 'x * (…)'\n  x + x(y)\n      ^"),
        (
            "select(a, b, c)",
            "unknown function 'select'; write 'where(c, a, b)' or 'c ? a : b'\n  select(a, b, c)\n  ^^^^^^",
        ),
        (
            "fn f(v) = f(v); x",
            "'f' calls itself; helper functions are inlined and cannot recurse\n  fn f(v) = f(v); x\n            ^",
        ),
        (
            "fn f(v) = v * eps; f(x)",
            "'eps' is not a parameter of 'f'; pass it as an argument\n  fn f(v) = v * eps; f(x)\n                ^^^",
        ),
        ("fn f(v, v) = v; x", "there are two parameters 'v'\n  fn f(v, v) = v; x\n          ^"),
        (
            "fn f(v) = v; fn f(u) = u; x",
            "there are two functions 'f'\n  fn f(v) = v; fn f(u) = u; x\n                  ^",
        ),
        ("fn f(v) = v; f(x, 1)", "f takes 1 argument, not 2\n  fn f(v) = v; f(x, 1)\n               ^^^^^^^"),
        ("let a = 1;\nlet b = a +;\nb", "expected a value, found ';'\n  let b = a +;\n             ^"),
        ("x $ y", "unexpected character '$'\n  x $ y\n    ^"),
        ("x + _", "'_' names no value; give it another name\n  x + _\n      ^"),
        ("let _ = x; _ * w", "'_' names no value; give it another name\n  let _ = x; _ * w\n             ^"),
    ] {
        assert_eq!(error(text), want, "{text}");
    }
}

#[test]
fn a_prelude_holds_definitions_only() {
    let e = Formula::parse_with("fn f(v) = v; out y = x;", "f(x)").unwrap_err();
    assert_eq!(e.to_string(), "a prelude holds only 'fn' and 'let'\n  fn f(v) = v; out y = x;\n               ^^^");
    let e = Formula::parse_with("fn f(v) = v +;", "f(x)").unwrap_err();
    assert_eq!(e.text, "fn f(v) = v +;");
}

#[test]
fn text_can_be_parsed_into_a_formula_with_names_bound() {
    let mut f = parse("out h = x * w");
    let (h, before) = (f.outs[0].term, f.clone());
    let g = f.name("g");
    let outs = f.parse_into("fn twice(v) = v + v; twice(g) * w + h", &[("g", g), ("h", h)]).unwrap();
    assert_eq!(f.names.len(), 3);
    assert_eq!(f.outs, before.outs, "results are given back, not added");
    f.outs = outs;
    let same = parse("let _ = x; let h = x * w; (g + g) * w + h");
    assert_eq!(f, same, "{f}");
    // An error leaves all as it was.
    let (names, terms) = (f.names.clone(), f.terms().to_vec());
    assert!(f.parse_into("let a = x * 17; a + b * tahn(c)", &[]).is_err());
    assert_eq!((&f.names, f.terms()), (&names, terms.as_slice()));
    assert_eq!(f.clone(), same);
    let x17 = f.parse_into("x * 17", &[]).unwrap()[0].term;
    assert_eq!(f.terms()[x17.index()].kind, Kind::Op(Op::Mul));
    // Closed text may use what is there, and nothing else.
    assert!(f.parse_closed("x + w", &[]).is_ok());
    let e = f.parse_closed("x + weight", &[("weights", g)]).unwrap_err();
    assert_eq!(e.to_string(), "unknown name 'weight'; did you mean 'weights'?\n  x + weight\n      ^^^^^^");
}

#[test]
fn elementwise_is_told_what_reduces() {
    let message = |text: &str| parse(text).expect_pointwise().unwrap_err().to_string();
    assert_eq!(message("x - max(x)"), "max(x) reduces a row: use rowwise, or max(a, b)\n  x - max(x)\n      ^^^^^^");
    assert_eq!(message("x / sum(x)"), "sum(x) reduces a row: use rowwise\n  x / sum(x)\n      ^^^^^^");
    assert_eq!(message("2 * softmax(x)"), "softmax(x) reduces a row: use rowwise\n  2 * softmax(x)\n      ^^^^^^^^^^");
    assert_eq!(message("cumsum(x)"), "cumsum(x) runs along a row: use rowwise\n  cumsum(x)\n  ^^^^^^^^^");
    assert_eq!(message("x[t]"), "x[t] reads along a row: use rowwise\n  x[t]\n  ^^^^");
    assert!(parse("max(x, y) + rand(seed)").is_pointwise());
    assert!(parse("let m = max(x); x + 1").is_pointwise(), "what is not used does not count");
}

const SAMPLES: [&str; 26] = [
    "x",
    "-1",
    "-(1) + -x",
    "a - (b - c) - -2",
    "a / (b * c) % (d / e)",
    "(a, b) == c ? 1 : 2",
    "x * tanh(log(1 + exp(x)))",
    "exp(x - max(x)) / sum(exp(x - max(x)))",
    "let d = x - mean(x); d * rsqrt(mean(d * d) + eps) * w + b",
    "out h: f32 = x + r; out y = h * rsqrt(mean(h * h) + eps) * w",
    "out: bf16 = x",
    "out y = x",
    "a && b || !c && (d > 1 || e)",
    "a > 1 && b > 1 && c > 1 && d > 1 && e > 1 && f > 1 && g > 1 && h > 1 && i > 1 && j > 1 && k > 1 && l > 1",
    "(a | b) & c ^ ~d << 2 >> (e + 1)",
    "((a & b) == c) != (d < e)",
    "c ? a : d ? b : (e ? f : g) + 1",
    "(c ? a : b) ? d : e",
    "x[t] - x[0] + x[argmax(x)]",
    "0.1 + 1e-300 + 1e300 + 123456789012345678 + 1152921504606846976.0 + 9223372036854775807 + -0.0",
    "NAN + INFINITY - -INFINITY + PI",
    "float(x) + f16(x) + bool(x) + mulz(x, y)",
    "row * cols + col - rows + rand(seed)",
    "logsumexp(x) + cumsum(x) + cumprod(y) + cummax(x)",
    "let b = a; let t0 = x + t1; t0 * t0",
    "fma(a, b, c) + where(a, b, c) + clamp(a, b, c) + gelu(a)",
];

#[test]
fn printing_and_parsing_give_the_same_formula() {
    for text in SAMPLES {
        let Ok(f) = Formula::parse(text) else {
            assert!(text.contains("(a, b)"), "{text}");
            continue;
        };
        let printed = f.to_string();
        let again = Formula::parse(&printed).unwrap_or_else(|e| panic!("{text} prints {printed}\n{e}"));
        assert_eq!(again, f, "{text} prints {printed}");
        assert_eq!(again.to_string(), printed);
    }
}

#[test]
fn printing_is_plain() {
    for text in [
        "x * tanh(log(1 + exp(x)))",
        "a - (b - c) + -d * 2",
        "x > 0 ? x : alpha * (exp(x) - 1)",
        "a > 0 && b != 1 || c <= d",
        "let t0 = exp(x - max(x)); t0 / sum(t0)",
        "out h: f32 = x + r; out y = w * 2",
        "let _ = b; let _ = a; a - b",
        "x[i64(t)] * 0.5 + -1.5e-7",
    ] {
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn shared_terms_print_once() {
    let mut text = String::from("let a0 = x + 1;");
    for i in 0..100 {
        text += &format!("let a{} = a{i} * a{i};", i + 1);
    }
    let f = parse(&(text + "a100"));
    let printed = f.to_string();
    assert!(printed.len() < 4000, "{} bytes", printed.len());
    assert_eq!(parse(&printed), f);
}

#[test]
fn equality_does_not_depend_on_numbering() {
    assert_eq!(parse("let a = x * 2; let b = x + 1; b - a"), parse("let b = x + 1; let a = x * 2; b - a"));
    assert_ne!(parse("a + b"), parse("b + a"));
    assert_ne!(parse("out y = x"), parse("x"));
    assert_ne!(parse("out y = x"), parse("out y: f32 = x"));
    assert_ne!(parse("let _ = y; x"), parse("x"));
}

#[test]
fn limits_hold() {
    let long = vec!["a"; 10_000].join("+");
    let f = parse(&long);
    let p = try_bind(&f, &[]).unwrap();
    assert_eq!(p.nodes().len(), 10_000);
    assert_eq!(parse(&f.to_string()), f);
    assert!(error(&"a+".repeat(40_000)).contains("the formula has 80000 bytes, more than 65536"));
    let nested = |n: usize| format!("{}x{}", "(".repeat(n), ")".repeat(n));
    assert!(Formula::parse(&nested(99)).is_ok());
    assert!(error(&nested(100)).contains("nested more than 100 deep"));
    assert!(error(&nested(30_000)).contains("nested more than 100 deep"));
    assert!(error(&"exp(".repeat(10_000)).contains("nested"));
    assert!(error(&"x[".repeat(10_000)).contains("nested"));
    assert!(error(&"a?".repeat(20_000)).contains("nested"));
    assert!(parse(&format!("{}a", "a?a:".repeat(10_000))).terms().len() > 10_000);
    assert!(parse(&format!("{}a", "-".repeat(15_000))).terms().len() > 15_000);
    assert!(error(&format!("{}a", "- ~".repeat(15_000))).contains("more than 20000 terms"));
    assert!(error(&(0..10_000).map(|i| format!("x{i}+")).collect::<String>()).contains("more than 1000 inputs"));
}

#[test]
fn helper_functions_cannot_explode() {
    let mut text = String::from("fn f0(a, b) = exp(a) + b;");
    for i in 0..60 {
        text += &format!("fn f{0}(a, b) = f{i}(a + {i}, b) * f{i}(b - {i}, a);", i + 1);
    }
    let e = error(&(text + "f60(x, y)"));
    assert!(e.contains("more than"), "{e}");
    // The same expansion again and again makes no new terms, but it is work.
    let body = vec!["exp(v)"; 500].join("+");
    let e = error(&format!("fn f(v) = {body}; {}", vec!["f(x)"; 10_000].join("+")));
    assert!(e.contains("helper functions expand to more than 200000 terms"), "{e}");
}

#[test]
fn rubbish_gives_errors_and_no_panic() {
    // A walk through fragments, in an order that a fixed generator gives.
    let parts = [
        "x", "(", ")", "[", "]", ",", ";", "?", ":", "=", "let ", "out ", "fn ", "f(", "max(", "(T)", "(f32)", "-",
        "1", "0x", "1e", "::", "metal::", "&&", "**", "/*", "//", "\n", "é", ".", "NAN", "cols", "y", "f32", "+", "<<",
        "!",
    ];
    let mut seed = 1u64;
    let mut next = |n: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % n
    };
    let mut fine = 0;
    for _ in 0..20_000 {
        let text: String = (0..next(12) + 1).map(|_| parts[next(parts.len())]).collect();
        match Formula::parse(&text) {
            Ok(f) => {
                fine += 1;
                assert_eq!(parse(&f.to_string()), f, "{text}");
                let _ = try_bind(&f, &[]).map_err(|e| e.to_string());
            }
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }
    assert!(fine > 100, "{fine}");
}

#[test]
fn literals_fold_in_f64() {
    for (text, value) in [
        ("1 / 2", 0.5),
        ("7 % 4 + 1 << 2", 16.0),
        ("5 & 6 | 8", 12.0),
        ("2 ^ 3", 1.0),
        ("sqrt(2) * sqrt(2) > 2", 1.0),
        ("1 ? 3 : 4", 3.0),
        ("!0 && 1 < 2", 1.0),
        ("max(1, 5, 3) - min(1, 5)", 4.0),
        ("f32(0.1) == 0.1", 1.0),
        ("u8(300)", 255.0),
        ("i32(-1.9)", -1.0),
        ("isnan(NAN) || isinf(1)", 1.0),
        ("9007199254740993 == 9007199254740992", 0.0),
        ("~0", -1.0),
        ("T(3)", 3.0),
    ] {
        assert_eq!(constant(text), value, "{text}");
    }
}

#[test]
fn literals_take_the_type_that_they_meet() {
    use DType::*;
    for (text, input, value) in [
        ("x + 1", I32, I32),
        ("x + 1.5", I32, F32),
        ("x * 2", F16, F32),
        ("x * 2", F64, F64),
        ("x / 2", I64, I64),
        ("x - 1", U8, U8),
        ("x + 300", U8, I32),
        ("x + -1", U32, I64),
        ("x + 5000000000", I32, I64),
        ("x < 300", U8, Bool),
        ("x & 1", I16, I16),
        ("(x > 0) + 1", F32, I32),
        ("x > 0 ? 1 : 0", F32, F32),
        ("x > 0 ? 1 : 0", I32, I64),
        ("x > 0 ? 1 : 0.5", I32, F32),
        ("x > 0 ? x : 0", I32, I32),
        ("exp(x)", I64, F32),
        ("pow(x, 2)", I32, F32),
        ("float(x)", I32, F32),
        ("x * float(2)", I32, F32),
        ("mean(x)", U8, F32),
        ("sum(x)", U8, U8),
        ("sum(x > 0)", F32, I64),
        ("sum(1)", F32, F32),
        ("argmax(x)", F64, U32),
        ("any(x)", F32, Bool),
        ("isnan(x)", F64, Bool),
        ("x + cols", F32, F32),
        ("col", F32, I64),
        ("rand(1)", F64, F32),
        ("f16(x)", F32, F32),
        ("i32(x)", F32, I32),
        ("x && 1", F32, Bool),
        ("x << 3", U32, U32),
        ("clamp(x, 0, 1)", BF16, F32),
    ] {
        let p = bind_as(text, &[elem(input)]);
        assert_eq!(p.node(out(&p).node).dtype, value, "{text} of {input}");
    }
    // A comparison must not wrap its literal.
    let p = bind_as("x < 300", &[elem(U8)]);
    assert!(p.nodes().iter().any(|n| n.kind == Kind::Int(300)));
    // In an f64 Program integers become f64.
    let p = bind_as("exp(i) + x", &[elem(I64), elem(F64)]);
    assert!(p.nodes().iter().all(|n| n.dtype != F32));
}

#[test]
fn results_are_stored_like_the_inputs() {
    use DType::*;
    for (text, inputs, stored) in [
        ("x * 2", vec![elem(F16)], F16),
        ("x * w", vec![(BF16, Extent::COL), elem(F16)], F16),
        ("s * 2", vec![(F16, Extent::UNIFORM)], F16),
        ("t * x", vec![elem(I32), elem(BF16)], BF16),
        ("x + y", vec![elem(F32), elem(F64)], F32),
        ("exp(x)", vec![elem(I32)], F32),
        ("x + y", vec![elem(I32), elem(U8)], I32),
        ("x > 0", vec![elem(F32)], U8),
        ("x > 0 ? 1 : -1", vec![elem(I16)], I16),
        ("argmax(x)", vec![elem(F32)], U32),
        ("argmax(x)", vec![elem(U8)], U32),
        ("col", vec![], I64),
        ("i32(x)", vec![elem(I64)], I32),
        ("f64(x)", vec![elem(I64)], F64),
        ("out: f64 = x", vec![elem(F16)], F64),
        ("1", vec![], F32),
    ] {
        assert_eq!(out(&bind_as(text, &inputs)).dtype, stored, "{text} of {inputs:?}");
    }
}

#[test]
fn results_are_elem_or_row() {
    let (e, r, c, u) = (Extent::ELEM, Extent::ROW, Extent::COL, Extent::UNIFORM);
    for (text, inputs, extent) in [
        ("x + w", vec![e, c], e),
        ("mean(x)", vec![e], r),
        ("x - mean(x)", vec![e], e),
        ("let a = x; w * 2", vec![e, c], e),
        ("let a = x; sum(w)", vec![e, c], r),
        ("let a = x; 1", vec![e], e),
        ("x > 0 ? 1 : 1", vec![e], e),
        ("sum(x) > 0 ? 1 : 1", vec![e], r),
        ("sum(1) + 0 * sum(x)", vec![e], r),
        ("t * 2", vec![r], r),
        ("s * 2", vec![u], u),
        ("x[i64(t)]", vec![e, r], r),
        ("cumsum(w) + t", vec![c, r], e),
        ("let _ = x; w[0]", vec![e, c], r),
        ("sum(t)", vec![r], r),
    ] {
        let inputs: Vec<_> = inputs.into_iter().map(|x| (DType::F32, x)).collect();
        assert_eq!(out(&bind_as(text, &inputs)).extent, extent, "{text}");
    }
}

#[test]
fn names_become_inputs_and_uniforms_in_order() {
    let mut f = parse("let unused = z; x * eps + seed * y");
    for name in &mut f.names {
        match name.name.as_str() {
            "eps" => name.uniform = Some(Scalar::Float(1e-5)),
            "seed" => name.uniform = Some(Scalar::Int(7)),
            _ => {}
        }
    }
    let p = try_bind(&f, &[elem(DType::F16), elem(DType::F64)]).unwrap();
    assert_eq!(p.name, "test");
    assert_eq!(p.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["z", "x", "y"]);
    let uniforms: Vec<_> = p.uniforms.iter().map(|u| (u.name.as_str(), u.dtype)).collect();
    assert_eq!(uniforms, [("eps", DType::F64), ("seed", DType::I64)]);
    assert!(p.live().iter().all(|l| *l), "nothing that no result needs is left");
    let e = f.bind("f", &Signature::default()).unwrap_err();
    assert_eq!(e.to_string(), "expected 3 inputs, got 0");
}

#[test]
fn mistakes_of_types_are_underlined() {
    let message = |text: &str, inputs: &[(DType, Extent)]| try_bind(&parse(text), inputs).unwrap_err().to_string();
    let power = "for a power write 'pow(a, b)'";
    assert_eq!(
        message("1 + (x^2)", &[]),
        format!("'^' is xor and takes integers, not f32; {power}\n  1 + (x^2)\n       ^^^")
    );
    assert_eq!(
        message("i ^ 0.5", &[elem(DType::I32)]),
        format!("'^' is xor and takes integers, not 0.5; {power}\n  i ^ 0.5\n  ^^^^^^^")
    );
    assert_eq!(message("x & y", &[]), "'&' takes integers, not f32; did you mean '&&'?\n  x & y\n  ^^^^^");
    assert_eq!(message("~x", &[]), "'~' takes integers, not f32\n  ~x\n  ^^");
    assert_eq!(message("x[t] * 2", &[]), "an index must be an integer; convert it with 'i64(…)'\n  x[t] * 2\n  ^^^^");
    assert!(message("x[t]", &[elem(DType::F32), elem(DType::I64)]).starts_with("x[…] takes one index a row"));
    assert!(message("x[0]", &[(DType::F32, Extent::ROW)]).starts_with("'x' has one value a row"));
    let e = "rand takes one seed a row, not one an element; seed it with a launch argument, or a value of the row";
    assert_eq!(message("1 + rand(s)", &[]), format!("{e}\n  1 + rand(s)\n      ^^^^^^^"));
    let mut f = parse("eps[0] + x");
    f.names[0].uniform = Some(Scalar::Float(1.0));
    assert!(try_bind(&f, &[]).unwrap_err().message.starts_with("'eps' is a launch argument"));
    let e = try_bind(&Formula::parse_with("fn p(v) = v ^ 2;", "1 +\n p(x)").unwrap(), &[]).unwrap_err();
    assert!(e.to_string().ends_with("\n  p(x)\n  ^^^^"), "{e}");
}

#[test]
fn custom_folds_take_the_float_type_of_the_program() {
    let pointwise = |text: &str| bind(text);
    let fold = zmlx_ir::program::Fold { init: 0.0, update: pointwise("acc + v * 0.5"), combine: pointwise("a + b") };
    let mut f = parse("x");
    f.folds.push(fold.clone());
    let x = f.outs[0].term;
    f.outs[0].term = f.push(Kind::Fold(0), vec![x]);
    assert!(!f.is_pointwise());
    let p = try_bind(&f, &[elem(DType::F16)]).unwrap();
    assert_eq!(p.folds, [fold]);
    assert_eq!(out(&p).extent, Extent::ROW);
    let p = try_bind(&f, &[elem(DType::F64)]).unwrap();
    for program in [&p.folds[0].update, &p.folds[0].combine] {
        assert!(program.nodes().iter().all(|n| n.dtype == DType::F64));
        assert!(program.inputs.iter().all(|i| i.dtype == DType::F64) && program.outputs[0].dtype == DType::F64);
    }
    assert_eq!(p.node(out(&p).node).dtype, DType::F64);
}

#[test]
fn a_typical_program_is_small() {
    let p = bind_as(
        "let h = x + r; h * rsqrt(mean(h * h) + 1e-6) * w",
        &[elem(DType::BF16), elem(DType::BF16), (DType::BF16, Extent::COL)],
    );
    let reduces = p.nodes().iter().filter(|n| n.kind == Kind::Reduce(ReduceOp::Sum, Over::Cols)).count();
    assert_eq!((reduces, p.nodes().len()), (1, 14), "{:#?}", p.nodes());
    assert_eq!(p.node(Id(0)).kind, Kind::Input(0));
}
