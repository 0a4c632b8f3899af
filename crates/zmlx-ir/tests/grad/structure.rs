//! What a gradient looks like: its inputs, its outputs, its cost, its errors.

use crate::*;
use zmlx_ir::{
    grad::{check_identity, normalise_folds, vjp},
    program::Fold,
};

#[test]
fn inputs_are_those_of_the_forward_pass_then_the_float_cotangents() {
    let mut p = Program::new("f");
    let x = p.input("x", DType::F16, Extent::ELEM);
    let w = p.input("w", DType::BF16, Extent::COL);
    let k = p.uniform("k", DType::F32);
    let y = p.op(Op::Mul, &[x, w]);
    let y = p.op(Op::Mul, &[y, k]);
    let at = p.reduce(ReduceOp::ArgMax, Over::Cols, y);
    let m = p.reduce(ReduceOp::Max, Over::Cols, y);
    p.output("y", y, DType::F16);
    p.output("at", at, DType::U32);
    p.output("m", m, DType::F32);
    let d = vjp(&p, &[1, 0]).unwrap();
    let inputs: Vec<_> = d.inputs.iter().map(|i| (i.name.as_str(), i.dtype, i.extent)).collect();
    assert_eq!(
        inputs,
        [
            ("x", DType::F16, Extent::ELEM),
            ("w", DType::BF16, Extent::COL),
            ("g_y", DType::F16, Extent::ELEM),
            ("g_m", DType::F32, Extent::ROW)
        ]
    );
    let outputs: Vec<_> = d.outputs.iter().map(|o| (o.name.as_str(), o.dtype, o.extent)).collect();
    assert_eq!(outputs, [("d_w", DType::BF16, Extent::COL), ("d_x", DType::F16, Extent::ELEM)]);
    assert_eq!(d.uniforms, p.uniforms);
    // an absent cotangent is no input and costs nothing
    let d = vjp_with(&p, &[0], &[true, false, false]).unwrap();
    assert_eq!(d.inputs.len(), 3);
    assert!(!d.nodes().iter().any(|n| matches!(n.kind, Kind::Reduce(..))), "{d}");
}

#[test]
fn an_input_that_nothing_depends_on_gets_zeros() {
    let mut p = Program::new("unused");
    let x = p.elem("x");
    let _ = p.input("u", DType::F64, Extent::COL);
    let y = p.un(Op::Floor, x);
    let p = p.out(y);
    for (_, d) in gradients(&p, 2, 3, &[vec![0.5; 6], vec![1.0; 3]], &[vec![1.0; 6]], &[]) {
        assert!(d.iter().all(|v| *v == 0.0));
    }
}

#[test]
fn integer_inputs_and_absent_slots_are_refused() {
    let mut p = Program::new("pick");
    let x = p.elem("x");
    p.input("t", DType::U32, Extent::ROW);
    let p = p.out(x);
    assert!(vjp(&p, &[1]).unwrap_err().to_string().contains("t: an input of type u32 has no gradient"));
    assert!(vjp(&p, &[7]).unwrap_err().to_string().contains("only 2 inputs"));
}

#[test]
fn precisions_meet_by_conversion() {
    let mut p = Program::new("mixed");
    let x = p.input("x", DType::F32, Extent::ELEM);
    let w = p.input("w", DType::F64, Extent::ELEM);
    let h = p.cast(x, DType::BF16);
    let i = p.cast(x, DType::I64);
    let y = p.bin(Op::Mul, h, w);
    let y = p.bin(Op::Mul, y, i);
    p.output("out", y, DType::F64);
    let d = vjp(&p, &[0, 1]).unwrap();
    assert_eq!(d.outputs[0].dtype, DType::F32);
    let out = evaluate(&d, 1, 1, &[vec![3.0], vec![5.0], vec![2.0]], &[]);
    // the integer copy of x passes nothing
    assert_eq!(out, [vec![2.0 * 5.0 * 3.0], vec![2.0 * 3.0 * 3.0]]);
}

/// Pointwise passes over elements in the whole backward Program, forward values it needs included.
fn cost(p: &Program) -> (usize, String) {
    let wrt: Vec<usize> = (0..p.inputs.len()).filter(|&k| p.inputs[k].dtype.is_float()).collect();
    let d = vjp(p, &wrt).unwrap();
    (passes(&d), d.to_string())
}

fn activation(name: &str, build: impl Fn(&mut Program, Id) -> Id) -> Program {
    let mut p = Program::new(name);
    let x = p.elem("x");
    let y = build(&mut p, x);
    p.out(y)
}

fn silu(p: &mut Program, x: Id) -> Id {
    let s = p.un(Op::Sigmoid, x);
    p.bin(Op::Mul, x, s)
}

#[test]
fn backward_passes_stay_short() {
    let gelu = activation("gelu", |p, x| {
        let (a, k) = (p.lit(0.044715), p.lit(1.5957691216057308));
        let x2 = p.bin(Op::Mul, x, x);
        let x3 = p.bin(Op::Mul, x2, x);
        let x3 = p.bin(Op::Mul, a, x3);
        let u = p.bin(Op::Add, x, x3);
        let u = p.bin(Op::Mul, k, u);
        let s = p.un(Op::Sigmoid, u);
        p.bin(Op::Mul, x, s)
    });
    let mish = activation("mish", |p, x| {
        let s = p.un(Op::Softplus, x);
        let t = p.un(Op::Tanh, s);
        p.bin(Op::Mul, x, t)
    });
    let mut swiglu = Program::new("swiglu");
    let (gate, up) = (swiglu.elem("gate"), swiglu.elem("up"));
    let s = silu(&mut swiglu, gate);
    let y = swiglu.bin(Op::Mul, s, up);
    let swiglu = swiglu.out(y);
    use crate::rows::*;
    for (p, most) in [
        (softmax(), 5),
        (log_softmax(), 3),
        (cross_entropy(), 4),
        (rms_norm(), 7),
        (layer_norm(), 9),
        (activation("silu", silu), 5),
        (gelu, 11),
        (mish, 8),
        (swiglu, 8),
    ] {
        let (n, text) = cost(&p);
        if std::env::args().any(|a| a == "--nocapture") {
            println!("{n} passes: {text}");
        }
        assert!(n <= most, "{n} passes, expected at most {most}: {text}");
        if p.uniforms.is_empty() { check(&p) } else { check_in(&p, (0.3, 2.0), &[0.1]) }
    }
}

/// The longest chain of reductions.
fn barriers(p: &Program) -> usize {
    let mut depth = vec![0; p.nodes().len()];
    for (i, n) in p.nodes().iter().enumerate() {
        let before = n.args.iter().map(|a| depth[a.index()]).max().unwrap_or(0);
        depth[i] = before + usize::from(matches!(n.kind, Kind::Reduce(..)));
    }
    depth.into_iter().max().unwrap_or(0)
}

#[test]
fn a_sum_does_not_wait_for_factors_that_are_one_a_row() {
    // Σ g·y runs beside Σ exp(x − m); all sums of the layer norm beside its variance
    for (p, most) in [(crate::rows::softmax(), 2), (crate::rows::layer_norm(), 2), (crate::rows::rms_norm(), 1)] {
        let d = vjp(&p, &[0]).unwrap();
        assert_eq!(barriers(&d), most, "{d}");
    }
}

#[test]
fn long_programs_differentiate_in_reasonable_time() {
    let mut p = Program::new("long");
    let x = p.elem("x");
    let mut sum = x;
    let mut product = x;
    for i in 0..1000 {
        let k = p.lit(1.0 + f64::from(i) / 1e4);
        let y = p.bin(Op::Mul, x, k);
        let y = p.un(Op::Sin, y);
        let s = p.row(if i % 2 == 0 { ReduceOp::Max } else { ReduceOp::Sum }, y);
        let y = p.bin(Op::Mul, y, s);
        sum = p.bin(Op::Add, sum, y);
        product = p.bin(Op::Mul, product, y);
    }
    let y = p.bin(Op::Add, sum, product);
    let start = std::time::Instant::now();
    let d = vjp(&p.out(y), &[0]).unwrap();
    assert!(d.nodes().len() < 40_000, "{} nodes", d.nodes().len());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// A custom monoid over one value.
fn monoid(
    init: f64,
    update: impl Fn(&mut Program, Id, Id) -> Id,
    combine: impl Fn(&mut Program, Id, Id) -> Id,
) -> Fold {
    let make = |names: [&str; 2], f: &dyn Fn(&mut Program, Id, Id) -> Id| {
        let mut p = Program::new("");
        let (a, b) = (p.elem(names[0]), p.elem(names[1]));
        let y = f(&mut p, a, b);
        p.out(y)
    };
    Fold { init, update: make(["acc", "v"], &update), combine: make(["a", "b"], &combine) }
}

fn folded(fold: Fold) -> Program {
    let mut p = Program::new("fold");
    let x = p.elem("x");
    let y = p.fold(fold, &[x]);
    p.out(y)
}

fn plus(p: &mut Program, a: Id, b: Id) -> Id {
    p.bin(Op::Add, a, b)
}

#[test]
fn monoids_that_are_reductions_become_ones_and_differentiate() {
    let square = |p: &mut Program, v: Id| p.bin(Op::Mul, v, v);
    let inf = f64::INFINITY;
    let folds = [
        monoid(
            0.0,
            |p, acc, v| {
                let q = square(p, v);
                p.bin(Op::Add, acc, q)
            },
            plus,
        ),
        monoid(
            0.0,
            |p, acc, v| {
                let q = p.un(Op::Exp, v);
                p.bin(Op::Sub, acc, q)
            },
            plus,
        ),
        monoid(0.0, |p, acc, v| p.op(Op::Fma, &[v, v, acc]), plus),
        monoid(
            0.0,
            |p, acc, v| {
                let s = p.bin(Op::Add, v, acc);
                let e = p.un(Op::Exp, v);
                p.bin(Op::Add, s, e)
            },
            plus,
        ),
        monoid(
            0.0,
            |p, acc, v| {
                let zero = p.lit(0.0);
                let c = p.bin(Op::Gt, v, zero);
                let s = p.bin(Op::Add, acc, v);
                p.select(c, s, acc)
            },
            plus,
        ),
        monoid(
            1.0,
            |p, acc, v| {
                let e = p.un(Op::Exp, v);
                p.bin(Op::Mul, e, acc)
            },
            |p, a, b| p.bin(Op::Mul, b, a),
        ),
        monoid(
            1.0,
            |p, acc, v| {
                let e = p.un(Op::Exp, v);
                p.bin(Op::Div, acc, e)
            },
            |p, a, b| p.bin(Op::Mul, b, a),
        ),
        monoid(-inf, |p, acc, v| p.bin(Op::Max, acc, v), |p, a, b| p.bin(Op::Max, a, b)),
        monoid(
            inf,
            |p, acc, v| {
                let e = p.un(Op::Neg, v);
                p.bin(Op::Min, acc, e)
            },
            |p, a, b| p.bin(Op::Min, a, b),
        ),
        monoid(-1e6, |p, acc, v| p.bin(Op::Max, acc, v), |p, a, b| p.bin(Op::Max, a, b)),
    ];
    for fold in folds {
        check_identity(&fold).unwrap();
        let p = folded(fold);
        let plain = normalise_folds(&p);
        assert!(plain.nodes().iter().all(|n| !matches!(n.kind, Kind::Fold(_))), "{}", plain);
        let (inputs, _) = sample(&p, 3, 4, (-2.0, 2.0), 9);
        let (a, b) = (evaluate(&p, 3, 4, &inputs, &[]), evaluate(&plain, 3, 4, &inputs, &[]));
        assert!(a[0].iter().zip(&b[0]).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?} {b:?}\n{}", plain);
        check(&p);
    }
}

#[test]
fn other_monoids_have_no_derived_gradient_and_say_so() {
    for fold in [
        monoid(
            0.0,
            |p, acc, v| {
                let s = p.bin(Op::Add, acc, v);
                p.bin(Op::Mul, s, acc)
            },
            plus,
        ),
        monoid(0.0, |p, acc, v| p.bin(Op::Mul, acc, v), plus),
        monoid(0.0, plus, |p, a, b| {
            let s = p.bin(Op::Add, a, b);
            p.bin(Op::Add, s, a)
        }),
        monoid(1.0, plus, plus),
    ] {
        let p = folded(fold);
        assert_eq!(normalise_folds(&p), p);
        let e = vjp(&p, &[0]).unwrap_err().to_string();
        assert!(e.contains("reduce(x): update is not acc ⊕ f(v)") && e.contains("grad_of"), "{e}");
    }
}

#[test]
fn a_start_value_that_is_no_identity_is_found() {
    let e = check_identity(&monoid(1.0, plus, plus)).unwrap_err();
    assert!(e.contains("init 1 is not an identity of combine"), "{e}");
    assert!(check_identity(&monoid(0.0, plus, |p, a, b| p.bin(Op::Max, a, b))).is_err());
    assert!(check_identity(&monoid(0.0, plus, |p, a, _| p.un(Op::Exp, a))).is_err());
}
