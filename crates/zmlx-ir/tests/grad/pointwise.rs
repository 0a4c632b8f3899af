//! Ops of the table, one by one.

use crate::*;

#[test]
fn every_float_op_agrees_with_central_differences() {
    for op in Op::ALL {
        let range = match op {
            Op::Log | Op::Log2 | Op::Sqrt | Op::Rsqrt | Op::Recip | Op::Pow | Op::Div => (0.5, 3.0),
            Op::Log1p => (-0.5, 3.0),
            Op::Tan => (-1.0, 1.0),
            Op::Floor | Op::Ceil | Op::Round => (0.1, 0.4),
            _ => (-2.0, 2.0),
        };
        if matches!(op.row().class, zmlx_ir::op::Class::Bits)
            || op == Op::Cast(DType::BF16)
            || op == Op::Cast(DType::I64)
        {
            continue;
        }
        let mut p = Program::new(op.name());
        let mut args: Vec<Id> = ["a", "b", "c"][..op.arity()].iter().map(|n| p.elem(n)).collect();
        if op == Op::Select {
            let zero = p.lit(0.0);
            args[0] = p.bin(Op::Gt, args[0], zero);
        }
        let y = p.op(op, &args);
        let p = p.out(y);
        // a remainder jumps: keep the quotient between two multiples
        if op == Op::Rem {
            let (a, b) = (vec![5.3, -4.1, 0.7], vec![2.0, 1.5, -2.0]);
            check_at(&p, 1, 3, &[a, b], &[vec![0.5, -1.0, 2.0]], &[]);
            continue;
        }
        if p.outputs[0].dtype.is_float() {
            check_in(&p, range, &[]);
        }
    }
}

#[test]
fn mixed_extents_are_summed_over_what_an_input_lacks() {
    for op in [Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Max, Op::Min, Op::Pow] {
        for extents in [
            [Extent::ELEM, Extent::COL],
            [Extent::COL, Extent::ROW],
            [Extent::ROW, Extent::ELEM],
            [Extent::UNIFORM, Extent::ELEM],
            [Extent::COL, Extent::UNIFORM],
            [Extent::ROW, Extent::UNIFORM],
        ] {
            for third in [Extent::ELEM, Extent::ROW, Extent::COL] {
                let mut p = Program::new(format!("{op:?} {extents:?} {third:?}"));
                let a = p.input("a", DType::F64, extents[0]);
                let b = p.input("b", DType::F64, extents[1]);
                let c = p.input("c", DType::F64, third);
                let y = p.op(op, &[a, b]);
                let y = p.bin(Op::Mul, y, c);
                let e = p.un(Op::Exp, b);
                let y = p.bin(Op::Add, y, e);
                check_in(&p.out(y), (0.5, 2.0), &[]);
            }
        }
    }
}

#[test]
fn an_output_repeated_over_more_axes_sums_its_cotangent() {
    for (own, stored) in [(Extent::ROW, Extent::ELEM), (Extent::COL, Extent::ELEM), (Extent::UNIFORM, Extent::ROW)] {
        let mut p = Program::new("repeat");
        let x = p.input("x", DType::F64, own);
        let y = p.un(Op::Exp, x);
        let mut p = p.out(y);
        p.outputs[0].extent = stored;
        check(&p);
    }
}

#[test]
fn a_power_has_gradients_at_its_limits() {
    let mut p = Program::new("pow");
    let (a, b) = (p.elem("a"), p.elem("b"));
    let y = p.bin(Op::Pow, a, b);
    let p = p.out(y);
    let d = gradients(&p, 1, 3, &[vec![0.0, 0.0, 2.0], vec![2.0, 0.0, 0.0]], &[vec![1.0; 3]], &[]);
    assert_eq!(d[0].1, [0.0, 0.0, 0.0]);
    assert_eq!(d[1].1, [0.0, 0.0, 2f64.ln()]);
    for k in [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0] {
        let mut p = Program::new("pow of a constant");
        let a = p.elem("a");
        let k = p.lit(k);
        let y = p.bin(Op::Pow, a, k);
        check_in(&p.out(y), (0.5, 2.0), &[]);
    }
}

#[test]
fn branches_not_taken_do_not_leak() {
    // where(x > 0, sqrt(x) * log(x) / x, x)
    let mut p = Program::new("guard");
    let x = p.elem("x");
    let zero = p.lit(0.0);
    let c = p.bin(Op::Gt, x, zero);
    let (s, l) = (p.un(Op::Sqrt, x), p.un(Op::Log, x));
    let y = p.bin(Op::Mul, s, l);
    let y = p.bin(Op::Div, y, x);
    let y = p.select(c, y, x);
    let p = p.out(y);
    let d = gradients(&p, 1, 4, &[vec![-1.0, 0.0, -1e300, 1.0]], &[vec![3.0; 4]], &[]);
    assert_eq!(d[0].1, [3.0, 3.0, 3.0, 3.0]);
    // max(log(x), -1) at 0 and below
    let mut p = Program::new("guard max");
    let x = p.elem("x");
    let l = p.un(Op::Log, x);
    let low = p.lit(-1.0);
    let y = p.bin(Op::Max, l, low);
    let p = p.out(y);
    let d = gradients(&p, 1, 2, &[vec![0.0, 2.0]], &[vec![3.0; 2]], &[]);
    assert_eq!(d[0].1, [0.0, 1.5]);
}

#[test]
fn a_guard_outlives_sums_along_the_row() {
    // rows whose mask is empty: any(keep) ? sum(keep ? x/n : 0) : 0 with n = sum(keep)
    let mut p = Program::new("masked mean");
    let x = p.elem("x");
    let zero = p.lit(0.0);
    let keep = p.bin(Op::Gt, x, zero);
    let (e, n) = (p.un(Op::Exp, x), p.un(Op::Cast(DType::F64), keep));
    let e = p.select(keep, e, zero);
    let s = p.row(ReduceOp::Sum, e);
    let n = p.row(ReduceOp::Sum, n);
    let m = p.bin(Op::Div, e, s);
    let m = p.bin(Op::Div, m, n);
    let any = p.row(ReduceOp::Any, keep);
    let y = p.select(any, m, zero);
    let p = p.out(y);
    let inputs = vec![vec![-1.0, -2.0, -3.0, 1.0, 0.5, -1.0]];
    check_at(&p, 2, 3, &inputs, &[vec![1.0, -2.0, 0.5, 1.0, -2.0, 0.5]], &[]);
}

#[test]
fn ties_of_max_and_min_go_to_the_first_operand() {
    for op in [Op::Max, Op::Min] {
        let mut p = Program::new("tie");
        let (a, b) = (p.elem("a"), p.elem("b"));
        let y = p.op(op, &[a, b]);
        let p = p.out(y);
        let d = gradients(&p, 1, 1, &[vec![2.0], vec![2.0]], &[vec![1.0]], &[]);
        assert_eq!((d[0].1[0], d[1].1[0]), (1.0, 0.0));
    }
}
