//! What mistakes are told as: the operation, the argument, what was expected and what came.

use candle_core::{DType, Device, Tensor};
use zmlx::{Op, RawKernel, Result, elementwise, reduce, rowwise};

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F32, &Device::Cpu).expect("small")
}

#[track_caller]
fn says<T>(result: Result<T>, message: &str) {
    match result {
        Ok(_) => panic!("expected `{message}`"),
        Err(e) => assert_eq!(e.to_string(), message),
    }
}

fn layer_norm() -> Op {
    let f = rowwise("let d = x - mean(x); d * rsqrt(mean(d * d) + eps) * w + b").expect("parses");
    f.name("layer_norm").uniform("eps", 1e-5)
}

#[test]
fn wrong_inputs() {
    let (x, w) = (zeros(&[4, 128]), zeros(&[128]));
    says(
        layer_norm().call(&[&x, &zeros(&[64]), &w]),
        "layer_norm: w has shape [64], expected [128] or one that broadcasts with x [4, 128]",
    );
    says(
        layer_norm().call(&[&x, &w, &zeros(&[3, 1])]),
        "layer_norm: b has shape [3, 1], expected [4, 128] or one that broadcasts with x [4, 128]",
    );
    says(layer_norm().call(&[&x, &w]), "layer_norm: number of inputs, expected 3 (x w b), got 2");
    says(
        layer_norm().axis(2).call(&[&x, &w, &w]),
        "layer_norm: axis, expected -2 ≤ axis < 2 (the rank of the inputs), got 2",
    );
    let f8 = zeros(&[4, 128]).to_dtype(DType::F8E4M3).expect("converts");
    says(
        layer_norm().call(&[&f8, &w, &w]),
        "layer_norm: x: dtype, expected one of u8 u32 i16 i32 i64 bf16 f16 f32 f64, got f8e4m3",
    );
    says(
        layer_norm().axis(0).col("w").col("b").call(&[&x, &zeros(&[4, 1]), &zeros(&[4])]),
        "layer_norm: w has shape [4, 1], expected one of rank 1 (it is declared col)",
    );
    says(
        rowwise("x[t]")
            .expect("parses")
            .name("pick")
            .row("t")
            .call(&[&x, &zeros(&[5]).to_dtype(DType::U32).expect("u32")]),
        "pick: t has shape [5], expected [4] or one that broadcasts with x [4, 128]",
    );
}

#[test]
fn wrong_settings_are_kept_until_the_first_use() {
    let x = zeros(&[2]);
    let f = || elementwise("x * k").expect("parses").name("scale");
    says(
        f().uniform("c", 1.0).call(&x),
        "scale: uniform c, expected one of the formula's names (x k), got another name",
    );
    says(f().row("t").build(), "scale: row t, expected one of the formula's names (x k), got another name");
    says(
        f().uniform("k", 1.0).with("x", 2.0).call(&x),
        "scale: with x, expected one of the declared uniforms (k), got another name",
    );
    says(f().uniform("k", 1i64).with("k", 0.5).call(&x), "scale: with k, expected an integer, as declared, got 0.5");
    says(
        f().grad_of("z", "g").build(),
        "scale: grad_of z, expected one of the formula's names (x k), got another name",
    );
    let error = f().grad_of("x", "g * q").build().expect_err("q is unknown").to_string();
    assert!(error.contains('q') && error.contains('^'), "{error}");
    says(elementwise("1 + 2").and_then(Op::build), "formula: formula, expected between 1 and 32 tensor inputs, got 0");
}

#[test]
fn wrong_cotangents() {
    let x = zeros(&[2, 3]);
    let f = elementwise("out a = x; out b = x * x").expect("parses").name("two");
    says(f.vjp(&x, &x), "two: number of cotangents, expected 2 (one for each of a b), got 1");
    says(f.vjp(&x, &[&x, &zeros(&[3])]), "two: cotangent of b has shape [3], expected [2, 3]");
    let double = x.to_dtype(DType::F64).expect("converts");
    says(f.vjp(&x, &[&double, &x]), "two: cotangent of a: dtype, expected f32, got f64");
    says(f.vjp_of(&x, &[&x, &x], &["y"]), "two: wrt, expected one of x, got y");
    let i = x.to_dtype(DType::I64).expect("converts");
    says(f.vjp_of(&i, &[&i, &i], &["x"]), "two: wrt x: dtype, expected a float, got i64");
}

#[test]
fn a_wrong_formula_is_underlined() {
    let error = elementwise("x * tahn(x)").expect_err("no such function").to_string();
    assert_eq!(error, "unknown function 'tahn'; did you mean 'tanh'?\n  x * tahn(x)\n      ^^^^");
    let error = elementwise("x - max(x)").expect_err("reduces").to_string();
    assert!(error.starts_with("max(x) reduces a row: use rowwise, or max(a, b)"), "{error}");
}

#[test]
fn reductions_say_what_they_lack() {
    let x = zeros(&[2, 3]);
    says(reduce().update("acc + v").call(&x), "reduce: init, expected .init(…), got none");
    says(reduce().init("1").update("acc + v").call(&x), "reduce: init of sum, expected its identity 0, got 1");
    says(
        reduce().init("0").update("acc + v * acc").call(&x),
        "reduce: update `acc + v * acc`, expected acc ⊕ f(v) with ⊕ among + * max min, or a .combine(…) formula of a and b, got neither",
    );
    let error =
        reduce().init("2").update("acc * v + acc + v").combine("a * b + a + b").call(&x).expect_err("2 is no identity");
    assert!(error.to_string().starts_with("reduce: init, expected an identity of combine"), "{error}");
}

#[test]
fn a_raw_kernel_runs_its_closure_and_nothing_else() -> candle_core::Result<()> {
    let x = zeros(&[2]);
    let kernel = RawKernel::new("twice").inputs(&["x"]).outputs(&["y"]).cuda("__global__ …").metal("kernel …");
    says(kernel.call(&x), "twice: cpu, expected a .cpu(…) closure, got none");
    let kernel = kernel.cpu(|t| Ok(vec![(&t[0] + 1.0)?]));
    assert_eq!(kernel.call(&x)?[0].to_vec1::<f32>()?, [1.0, 1.0]);
    says(kernel.call(&[&x, &x]), "twice: number of inputs, expected 1 (x), got 2");
    says(
        kernel.clone().outputs(&["y", "z"]).call(&x),
        "twice: number of results of the .cpu(…) closure, expected 2 (y z), got 1",
    );
    assert_eq!(kernel.source("metal"), Some("kernel …"));
    let scaled = kernel.uniform("scale", 0.5);
    assert!(scaled.with("scale", 2).call(&x).is_ok());
    says(
        scaled.with("scales", 2.0).call(&x),
        "twice: with scales, expected one of the declared uniforms (scale), got another name",
    );
    Ok(())
}

#[test]
fn tables_and_parts_that_do_not_fit_are_errors() -> Result<()> {
    let error = |op: &Op, inputs: &[Tensor]| op.call(inputs).expect_err("a mistake").to_string();
    let find = rowwise("x + table")?.name("find").rows_by("table", "ids");
    let (x, ids) = (zeros(&[3, 8]), Tensor::zeros(3, candle_core::DType::U32, &candle_core::Device::Cpu)?);
    let of = |table: &[usize]| error(&find, &[x.clone(), zeros(table), ids.clone()]);
    assert_eq!(of(&[8]), "find: table has shape [8], expected one of rank 2, a table whose rows ids finds");
    assert_eq!(of(&[0, 8]), "find: table has shape [0, 8], expected rows, as its index has elements");
    assert!(of(&[4, 7]).contains("table has shape"), "{}", of(&[4, 7]));
    let float = error(&find, &[x.clone(), zeros(&[4, 8]), zeros(&[3])]);
    assert!(float.contains("ids finds rows of 'table', expected one integer a row, got f32 row"), "{float}");
    let last = error(&find.clone().axis(0), &[x.clone(), zeros(&[4, 8]), ids]);
    assert_eq!(last, "find: axis, expected the last one, as that of a table is, got 0");
    let three = rowwise("stack(b, a, c)")?.name("three");
    let turned = three.clone().parts("x", &["b", "a", "c"], false);
    assert_eq!(
        error(&turned, std::slice::from_ref(&x)),
        "three: x has shape [3, 8], expected a last dimension of a multiple of 3, the parts side by side"
    );
    let apart = error(&three.parts("x", &["b", "c"], false), &[x]);
    assert_eq!(apart, "three: parts x, expected neighbours among the inputs (b a c), got b c");
    // what later settings make of parts
    let sum = rowwise("a + b + c")?.name("sum").parts("x", &["a", "b"], false);
    for (op, message) in [
        (sum.clone().parts("y", &["b", "c"], false), "parts y, expected inputs that are parts of nothing else, got b"),
        (sum.clone().uniform("a", 1.0), "parts x, expected neighbours among the inputs (b c), got a b"),
        (sum.clone().row("b"), "parts x, expected inputs declared like a, got b"),
        (
            rowwise("a + b + c")?.name("sum").parts("c", &["a", "b"], false),
            "parts c, expected a name of its own, got c",
        ),
    ] {
        says(op.build(), &format!("sum: {message}"));
    }
    assert!(sum.row("a").row("b").build().is_ok());
    says(
        rowwise("x + t * k")?
            .name("find")
            .uniform("k", 1.0)
            .rows_by("t", "k")
            .call(&[&zeros(&[3, 8]), &zeros(&[3, 8])]),
        "find(x f32, t f32): rows of 't', expected an input that finds them, got 'k'",
    );
    Ok(())
}

#[test]
fn catalog_functions_name_the_argument_that_does_not_fit() -> Result<()> {
    use zmlx::catalog::{
        adamw_step::adamw_step,
        cross_entropy::cross_entropy,
        lion_step::{ParamsLion, lion_step},
        rms_norm::{linear_rms_norm, rms_norm},
    };
    let (x, w) = (zeros(&[4, 6]), zeros(&[6]));
    let t = Tensor::zeros((4, 1), DType::I64, &Device::Cpu)?;
    // these would broadcast, and make the result larger than x
    says(rms_norm(&x, &x, 1e-5), "rms_norm: w has shape [4, 6], expected [C], one value a column");
    says(rms_norm(&x, &zeros(&[1, 1, 6]), 1e-5), "rms_norm: w has shape [1, 1, 6], expected [C], one value a column");
    says(cross_entropy(&x, &t), "cross_entropy: t has shape [4, 1], expected x without its last dimension");
    assert_eq!(rms_norm(&x, &zeros(&[1, 6]), 1e-5)?.dims(), [4, 6]);
    says(
        linear_rms_norm(&x, &zeros(&[3, 6]), &w, 1e-5),
        "linear_rms_norm: gamma has shape [6], expected [3] of w [3, 6]",
    );
    says(
        cross_entropy(&x, &zeros(&[4])),
        "cross_entropy(x f32, t f32): an index must be an integer; convert it with 'i64(…)'\n  \
         out loss: f32 = logsumexp(x) - x[t]\n                                 ^^^^",
    );
    let adamw = |g: &Tensor, step| adamw_step(&x, g, &x, &x, &Default::default(), step);
    says(adamw(&w, 1), "adamw_step: g has shape [6], expected [4, 6], that of p");
    says(adamw(&x, 0), "adamw_step: step, expected 1 or more: the first is 1, got 0");
    says(lion_step(&w, &w, &x, &ParamsLion::default()), "lion_step: m0 has shape [4, 6], expected [6], that of p");
    Ok(())
}

#[test]
fn checks_of_nothing_and_gradients_side_by_side_are_mistakes() {
    let same = |t: &[Tensor]| Ok(t[0].clone());
    says(zmlx::testing::assert_matches(same, same, &[]), "assert: shapes, expected one at least, got none");
    says(zmlx::testing::assert_gradient_matches(same, same, &[]), "assert: shapes, expected one at least, got none");
    says(zmlx::bench::compare(&mut [], 0, 1), "compare: contenders, expected one at least, got none");
    for text in ["stack(g, g)", "interleave(g, g)"] {
        let f = rowwise("x * 2").expect("parses").name("twice").grad_of("x", text);
        says(f.build(), "twice: grad_of x: formula, expected one value, got values side by side");
    }
}
