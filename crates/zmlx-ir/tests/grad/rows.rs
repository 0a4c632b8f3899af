//! Reductions, scans, `x[t]` and the formulas made of them.

use crate::*;
use zmlx_ir::grad::vjp;

#[test]
fn a_gradient_that_would_use_a_sum_over_the_rows_in_each_row_is_refused_with_its_node() {
    // the gradient of w, one for all rows, times x once an element
    let mut p = Program::new("update");
    let (x, w) = (p.elem("x"), p.input("w", DType::F64, Extent::COL));
    let y = p.bin(Op::Mul, x, w);
    let y = p.un(Op::Exp, y);
    let s = p.reduce(ReduceOp::Sum, Over::Rows, y);
    let y = p.bin(Op::Mul, s, s);
    let p = p.out(y);
    let e = vjp(&p, &[0]).unwrap_err().to_string();
    assert_eq!(e, "%4 = sum over rows(%3): the gradient of a reduction over the rows is not supported here");
}

/// exp(x − max(x)) and its sum.
fn shifted(p: &mut Program, x: Id) -> (Id, Id) {
    let m = p.row(ReduceOp::Max, x);
    let d = p.bin(Op::Sub, x, m);
    let e = p.un(Op::Exp, d);
    (e, p.row(ReduceOp::Sum, e))
}

pub(crate) fn softmax() -> Program {
    let mut p = Program::new("softmax");
    let x = p.elem("x");
    let (e, s) = shifted(&mut p, x);
    let y = p.bin(Op::Div, e, s);
    p.out(y)
}

pub(crate) fn log_softmax() -> Program {
    let mut p = Program::new("log_softmax");
    let x = p.elem("x");
    let m = p.row(ReduceOp::Max, x);
    let d = p.bin(Op::Sub, x, m);
    let e = p.un(Op::Exp, d);
    let s = p.row(ReduceOp::Sum, e);
    let l = p.un(Op::Log, s);
    let y = p.bin(Op::Sub, d, l);
    p.out(y)
}

pub(crate) fn log_sum_exp(p: &mut Program, x: Id) -> Id {
    let m = p.row(ReduceOp::Max, x);
    let (size, inf, zero) = (p.un(Op::Abs, m), p.lit(f64::INFINITY), p.lit(0.0));
    let finite = p.bin(Op::Lt, size, inf);
    let m = p.select(finite, m, zero);
    let d = p.bin(Op::Sub, x, m);
    let e = p.un(Op::Exp, d);
    let s = p.row(ReduceOp::Sum, e);
    let l = p.un(Op::Log, s);
    p.bin(Op::Add, m, l)
}

pub(crate) fn cross_entropy() -> Program {
    let mut p = Program::new("cross_entropy");
    let x = p.elem("x");
    let t = p.input("t", DType::U32, Extent::ROW);
    let l = log_sum_exp(&mut p, x);
    let at = p.pick(0, t);
    let y = p.bin(Op::Sub, l, at);
    p.out(y)
}

pub(crate) fn rms_norm() -> Program {
    let mut p = Program::new("rms_norm");
    let x = p.elem("x");
    let w = p.input("w", DType::F64, Extent::COL);
    let eps = p.uniform("eps", DType::F64);
    let s = p.bin(Op::Mul, x, x);
    let s = p.mean(s);
    let s = p.bin(Op::Add, s, eps);
    let r = p.un(Op::Rsqrt, s);
    let y = p.bin(Op::Mul, x, r);
    let y = p.bin(Op::Mul, y, w);
    p.out(y)
}

pub(crate) fn layer_norm() -> Program {
    let mut p = Program::new("layer_norm");
    let x = p.elem("x");
    let (w, b) = (p.input("w", DType::F64, Extent::COL), p.input("b", DType::F64, Extent::COL));
    let eps = p.uniform("eps", DType::F64);
    let m = p.mean(x);
    let d = p.bin(Op::Sub, x, m);
    let v = p.bin(Op::Mul, d, d);
    let v = p.mean(v);
    let v = p.bin(Op::Add, v, eps);
    let r = p.un(Op::Rsqrt, v);
    let y = p.bin(Op::Mul, d, r);
    let y = p.bin(Op::Mul, y, w);
    let y = p.bin(Op::Add, y, b);
    p.out(y)
}

#[test]
fn norms_and_softmaxes_agree_with_central_differences() {
    for p in [softmax(), log_softmax(), cross_entropy()] {
        check(&p);
    }
    check_in(&rms_norm(), (-2.0, 2.0), &[1e-2]);
    check_in(&layer_norm(), (-2.0, 2.0), &[1e-1]);
}

#[test]
fn a_maximum_that_is_a_shift_is_constant_and_one_that_is_not_is_not() {
    let has_argmax = |p: &Program| {
        let d = vjp(p, &[0]).unwrap();
        d.nodes().iter().any(|n| matches!(n.kind, Kind::Reduce(ReduceOp::ArgMax | ReduceOp::ArgMin, _)))
    };
    for p in [softmax(), log_softmax(), cross_entropy()] {
        assert!(!has_argmax(&p), "{}", p.name);
    }
    let mut p = Program::new("exp(x - max(x))");
    let x = p.elem("x");
    let (e, _) = shifted(&mut p, x);
    let p = p.out(e);
    assert!(has_argmax(&p));
    check(&p);
    // relu of a maximum is no test for a finite one
    let mut p = Program::new("max(x) > 0 ? max(x) : 0, as a shift");
    let x = p.elem("x");
    let m = p.row(ReduceOp::Max, x);
    let zero = p.lit(0.0);
    let c = p.bin(Op::Gt, m, zero);
    let m = p.select(c, m, zero);
    let y = p.bin(Op::Sub, x, m);
    let p = p.out(y);
    assert!(has_argmax(&p));
    check(&p);
}

#[test]
fn shifts_are_seen_through_temperatures_means_powers_and_masks() {
    let invariant = |name: &str, build: &dyn Fn(&mut Program, Id, Id) -> Id| {
        let mut p = Program::new(name);
        let x = p.elem("x");
        let k = p.uniform("k", DType::F64);
        let m = p.row(ReduceOp::Max, x);
        let d = p.bin(Op::Sub, x, m);
        let y = build(&mut p, d, k);
        let p = p.out(y);
        let g = vjp(&p, &[0]).unwrap();
        check_in(&p, (-2.0, 2.0), &[0.7]);
        !g.nodes().iter().any(|n| matches!(n.kind, Kind::Reduce(ReduceOp::ArgMax, _)))
    };
    assert!(invariant("temperature", &|p, d, k| {
        let d = p.bin(Op::Div, d, k);
        let e = p.un(Op::Exp, d);
        let s = p.row(ReduceOp::Sum, e);
        p.bin(Op::Div, e, s)
    }));
    assert!(invariant("exp2", &|p, d, _| {
        let e = p.un(Op::Exp2, d);
        let s = p.row(ReduceOp::Sum, e);
        let r = p.bin(Op::Div, e, s);
        p.un(Op::Log2, r)
    }));
    assert!(invariant("log2(sum exp2) - x", &|p, d, _| {
        let e = p.un(Op::Exp2, d);
        let s = p.row(ReduceOp::Sum, e);
        let l = p.un(Op::Log2, s);
        p.bin(Op::Sub, l, d)
    }));
    assert!(invariant("minus the mean", &|p, d, _| {
        let m = p.mean(d);
        p.bin(Op::Sub, d, m)
    }));
    assert!(invariant("root of squares", &|p, d, _| {
        let e = p.un(Op::Exp, d);
        let two = p.lit(3.0);
        let q = p.bin(Op::Pow, e, two);
        let s = p.row(ReduceOp::Sum, q);
        let third = p.lit(1.0 / 3.0);
        let n = p.bin(Op::Pow, s, third);
        p.bin(Op::Div, e, n)
    }));
    assert!(invariant("rsqrt", &|p, d, _| {
        let e = p.un(Op::Exp, d);
        let q = p.bin(Op::Mul, e, e);
        let s = p.row(ReduceOp::Sum, q);
        let r = p.un(Op::Rsqrt, s);
        p.bin(Op::Mul, e, r)
    }));
    assert!(invariant("running share", &|p, d, _| {
        let e = p.un(Op::Exp, d);
        let c = p.running(ScanOp::Sum, false, e);
        let s = p.row(ReduceOp::Sum, e);
        p.bin(Op::Div, c, s)
    }));
    assert!(invariant("clamped numerator", &|p, d, _| {
        let e = p.un(Op::Exp, d);
        let zero = p.lit(0.0);
        let e = p.bin(Op::Max, e, zero);
        let s = p.row(ReduceOp::Sum, e);
        p.bin(Op::Div, e, s)
    }));
    assert!(!invariant("a share plus one", &|p, d, _| {
        let e = p.un(Op::Exp, d);
        let s = p.row(ReduceOp::Sum, e);
        let one = p.lit(1.0);
        let s = p.bin(Op::Add, s, one);
        p.bin(Op::Div, e, s)
    }));
    assert!(!invariant("a sum of shifts", &|p, d, _| p.row(ReduceOp::Sum, d)));
    assert!(!invariant("square", &|p, d, _| p.bin(Op::Mul, d, d)));
}

#[test]
fn plain_reductions_agree_with_central_differences() {
    for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min] {
        for extent in [Extent::ELEM, Extent::COL, Extent::ROW] {
            let mut p = Program::new(format!("{op:?} of {extent:?}"));
            let x = p.input("x", DType::F64, extent);
            let z = p.elem("z");
            let e = p.un(Op::Sin, x);
            let r = p.row(op, e);
            let y = p.bin(Op::Mul, r, z);
            check_in(&p.out(y), (0.1, 1.5), &[]);
        }
    }
}

#[test]
fn a_product_with_zeros_has_a_gradient_at_them() {
    let mut p = Program::new("prod");
    let x = p.elem("x");
    let y = p.row(ReduceOp::Prod, x);
    let p = p.out(y);
    let d = gradients(&p, 3, 3, &[vec![2.0, 0.0, 5.0, 0.0, 3.0, 0.0, 1.0, 2.0, 3.0]], &[vec![1.0, 1.0, 2.0]], &[]);
    assert_eq!(d[0].1, [0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 12.0, 6.0, 4.0]);
}

#[test]
fn ties_of_a_maximum_go_to_the_first_column() {
    for (op, sign) in [(ReduceOp::Max, 1.0), (ReduceOp::Min, -1.0)] {
        let mut p = Program::new("tie");
        let x = p.elem("x");
        let y = p.row(op, x);
        let p = p.out(y);
        let x = [1.0, 2.0, 2.0, 2.0, 0.0, 2.0].map(|v| v * sign).to_vec();
        let d = gradients(&p, 2, 3, &[x], &[vec![1.0, 3.0]], &[]);
        assert_eq!(d[0].1, [0.0, 1.0, 0.0, 3.0, 0.0, 0.0]);
    }
}

#[test]
fn scans_agree_with_central_differences() {
    for op in [ScanOp::Sum, ScanOp::Prod, ScanOp::Max] {
        for reverse in [false, true] {
            for extent in [Extent::ELEM, Extent::COL, Extent::ROW] {
                let mut p = Program::new(format!("{op:?} {reverse} {extent:?}"));
                let x = p.input("x", DType::F64, extent);
                let z = p.elem("z");
                let s = p.un(Op::Exp, x);
                let s = p.running(op, reverse, s);
                let y = p.bin(Op::Mul, s, z);
                // equal values of a row leave no room for differences of a maximum
                if op == ScanOp::Max && extent == Extent::ROW {
                    continue;
                }
                check(&p.out(y));
            }
        }
    }
}

#[test]
fn an_exclusive_running_sum_has_a_gradient() {
    let mut p = Program::new("exclusive");
    let x = p.elem("x");
    let e = p.un(Op::Exp, x);
    let y = p.scan(Scan { op: ScanOp::Sum, reverse: false, exclusive: true }, &[e]);
    check(&p.out(y));
}

#[test]
fn a_running_product_with_zeros_has_a_gradient_at_them() {
    let mut p = Program::new("cumprod");
    let x = p.elem("x");
    let y = p.running(ScanOp::Prod, false, x);
    let p = p.out(y);
    let x = vec![2.0, 0.0, 5.0, 0.0, 3.0];
    check_at(&p, 1, 5, std::slice::from_ref(&x), &[vec![1.0, 2.0, 3.0, 4.0, 5.0]], &[]);
    let d = gradients(&p, 1, 5, &[x], &[vec![1.0, 2.0, 3.0, 4.0, 5.0]], &[]);
    assert_eq!(d[0].1, [1.0, 2.0 * 2.0 + 3.0 * 10.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_running_maximum_gives_its_cotangent_to_the_first_that_set_it() {
    let mut p = Program::new("cummax");
    let x = p.elem("x");
    let y = p.running(ScanOp::Max, false, x);
    let p = p.out(y);
    let d = gradients(&p, 1, 6, &[vec![1.0, 1.0, 0.0, 3.0, 2.0, 3.0]], &[vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0]], &[]);
    assert_eq!(d[0].1, [7.0, 0.0, 0.0, 56.0, 0.0, 0.0]);
}

#[test]
fn picked_elements_get_the_cotangent_of_their_row() {
    for extent in [Extent::ELEM, Extent::COL] {
        let mut p = Program::new("pick");
        let x = p.input("x", DType::F64, extent);
        let t = p.input("t", DType::I64, Extent::ROW);
        let at = p.pick(0, t);
        let e = p.un(Op::Exp, x);
        let y = p.bin(Op::Mul, e, at);
        check(&p.out(y));
    }
    let mut p = Program::new("pick alone");
    let _ = p.elem("x");
    let t = p.input("t", DType::I64, Extent::ROW);
    let y = p.pick(0, t);
    check(&p.out(y));
}

#[test]
fn a_weight_may_be_normalised_along_the_columns() {
    // softmax(w)·x: nothing can reduce along the columns after a sum over the rows
    let mut p = Program::new("softmax of a weight");
    let w = p.input("w", DType::F64, Extent::COL);
    let x = p.elem("x");
    let (e, s) = shifted(&mut p, w);
    let y = p.bin(Op::Div, e, s);
    let y = p.bin(Op::Mul, y, x);
    check(&p.out(y));
    let mut p = Program::new("norms of a weight and a scale");
    let w = p.input("w", DType::F64, Extent::COL);
    let k = p.input("k", DType::F64, Extent::UNIFORM);
    let x = p.elem("x");
    let q = p.bin(Op::Mul, w, w);
    let n = p.row(ReduceOp::Sum, q);
    let n = p.un(Op::Sqrt, n);
    let v = p.bin(Op::Div, w, n);
    let c = p.running(ScanOp::Sum, false, v);
    let v = p.bin(Op::Add, v, c);
    let v = p.bin(Op::Mul, v, k);
    let y = p.bin(Op::Mul, v, x);
    check_in(&p.out(y), (0.3, 1.0), &[]);
}

#[test]
fn a_bias_below_a_row_sum_is_stored_to_each_column() {
    let mut p = Program::new("sum(x + b)");
    let x = p.elem("x");
    let b = p.input("b", DType::F64, Extent::COL);
    let y = p.bin(Op::Add, x, b);
    let y = p.row(ReduceOp::Sum, y);
    check(&p.out(y));
}

#[test]
fn pointwise_and_rowwise_gradients_differentiate_again() {
    for p in [softmax(), log_softmax()] {
        let d = vjp(&p, &[0]).unwrap();
        check(&d);
    }
    let mut p = Program::new("silu");
    let x = p.elem("x");
    let s = p.un(Op::Sigmoid, x);
    let y = p.bin(Op::Mul, x, s);
    let d = vjp(&p.out(y), &[0]).unwrap();
    check(&d);
    check(&vjp(&d, &[0]).unwrap());
    // weighted norms: the gradient of a weight is a sum over the rows
    for wrt in [&[0][..], &[1], &[0, 1]] {
        let d = vjp(&rms_norm(), wrt).unwrap();
        check_in(&d, (0.3, 2.0), &[1e-2]);
    }
}
