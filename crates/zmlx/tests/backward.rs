//! `backward()` and `vjp` against the gradients of candle's own ops: any number of inputs and results, inputs shared,
//! results unused, inner nodes, integers, several passes, broadcasting, other axes, formulas for gradients.

use candle_core::{D, DType, Device, Tensor, Var};
use zmlx::{Op, elementwise, reduce, rowwise};

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Candle = candle_core::Result<Tensor>;

fn var(dims: &[usize]) -> candle_core::Result<Var> {
    Var::randn(0f32, 1.0, dims, &Device::Cpu)
}

#[track_caller]
fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    assert_eq!(got.dtype(), want.dtype(), "{what}");
    let flat = |t: &Tensor| {
        t.to_dtype(DType::F64).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1::<f64>()).expect("numbers")
    };
    for (i, (g, w)) in flat(got).into_iter().zip(flat(want)).enumerate() {
        assert!((g - w).abs() <= tolerance * (1.0 + w.abs()), "{what}, element {i}: {g}, expected {w}");
    }
}

/// Gradients of two losses by the same variables agree.
#[track_caller]
fn same_gradients(vars: &[Var], ours: &Tensor, theirs: &Tensor) {
    let (a, b) = (ours.backward().expect("ours"), theirs.backward().expect("theirs"));
    for (k, v) in vars.iter().enumerate() {
        match (a.get(v), b.get(v)) {
            (Some(a), Some(b)) => close(&format!("input {k}"), a, b, 1e-4),
            // candle leaves out what a loss does not reach; ours are zeros
            (Some(a), None) => close(&format!("input {k}"), a, &v.zeros_like().expect("zeros"), 0.0),
            (None, b) => assert!(b.is_none(), "input {k}: the gradient is lost"),
        }
    }
}

fn tensors(vars: &[Var]) -> Vec<Tensor> {
    vars.iter().map(|v| v.as_tensor().clone()).collect()
}

fn weights(t: &Tensor) -> Candle {
    let n = t.elem_count();
    Tensor::arange(1f32, n as f32 + 1.0, &Device::Cpu)?.reshape(t.shape())?.sin()?.to_dtype(t.dtype())
}

/// A loss that weighs elements differently.
fn loss(t: &Tensor) -> Candle {
    (t * weights(t)?)?.sum_all()?.to_dtype(DType::F32)
}

#[test]
fn any_number_of_inputs() -> Outcome {
    for n in 1..=8usize {
        let vars: Vec<Var> = (0..n).map(|_| var(&[3, 4])).collect::<candle_core::Result<_>>()?;
        let terms: Vec<String> = (0..n).map(|k| format!("sin(x{k} * {})", k + 1)).collect();
        let f = elementwise(terms.join(" * "))?;
        let x = tensors(&vars);
        let mut want = (&x[0] * 1.0)?.sin()?;
        for (k, x) in x.iter().enumerate().skip(1) {
            want = (want * (x * (k as f64 + 1.0))?.sin()?)?;
        }
        same_gradients(&vars, &loss(&f.call(&x)?)?, &loss(&want)?);
    }
    Ok(())
}

#[test]
fn any_use_of_several_results() -> Outcome {
    let f = elementwise("out a = x * y; out b = exp(x) + w; out c = y / (2 + w * w)")?;
    let vars = [var(&[5])?, var(&[5])?, var(&[5])?];
    let [x, y, w] = [0, 1, 2].map(|k| vars[k].as_tensor());
    let ours = f.call_all(&[x, y, w])?;
    let theirs = [(x * y)?, (x.exp()? + w)?, (y / (w.sqr()? + 2.0)?)?];
    for used in 1..8 {
        let total = |all: &[Tensor]| -> Candle {
            let mut sum = Tensor::new(0f32, &Device::Cpu)?;
            for (k, t) in all.iter().enumerate().filter(|(k, _)| used >> k & 1 == 1) {
                sum = (sum + (loss(t)? * (k as f64 + 1.0))?)?;
            }
            Ok(sum)
        };
        same_gradients(&vars, &total(&ours)?, &total(&theirs)?);
    }
    // a result that meets another, and itself
    let meet = |all: &[Tensor]| -> Candle { loss(&((&all[0] * &all[1])? + (&all[1] * &all[1])?)?) };
    same_gradients(&vars, &meet(&ours)?, &meet(&theirs)?);
    Ok(())
}

#[test]
fn an_unused_result_with_an_infinite_derivative_harms_nothing() -> Outcome {
    let x = Var::zeros(3, DType::F32, &Device::Cpu)?;
    let all = elementwise("out a = log(x); out b = 2 * x")?.call_all(&x)?;
    let store = all[1].sum_all()?.backward()?;
    assert_eq!(store.get(&x).ok_or("lost")?.to_vec1::<f32>()?, [2.0; 3]);
    Ok(())
}

#[test]
fn a_tensor_given_twice_gets_both_gradients() -> Outcome {
    let x = var(&[4])?;
    let f = elementwise("a * exp(b)")?;
    same_gradients(std::slice::from_ref(&x), &loss(&f.call(&[&x, &x])?)?, &loss(&(x.as_tensor() * x.exp()?)?)?);
    Ok(())
}

#[test]
fn inner_nodes_pass_gradients_on() -> Outcome {
    let vars = [var(&[3, 4])?, var(&[4, 2])?];
    let f = elementwise("tanh(h) * s")?;
    let run = |fused: bool| -> Candle {
        let h = vars[0].matmul(vars[1].as_tensor())?;
        let s = vars[0].sum_keepdim(1)?;
        let y = if fused { f.call(&[&h, &s])? } else { h.tanh()?.broadcast_mul(&s)? };
        loss(&y.matmul(&vars[1].t()?)?)
    };
    same_gradients(&vars, &run(true)?, &run(false)?);
    Ok(())
}

#[test]
fn two_passes_through_one_graph_agree() -> Outcome {
    let vars = [var(&[4])?, var(&[4])?, var(&[4])?];
    let x = tensors(&vars);
    let all = elementwise("out a = x * y * z; out b = x + y * z")?.call_all(&x)?;
    let both = (loss(&all[0])? + loss(&all[1])?)?;
    let (first, second) = (both.backward()?, both.backward()?);
    let only = loss(&all[0])?.backward()?;
    let again = both.backward()?;
    for v in &vars {
        let get = |s: &candle_core::backprop::GradStore| s.get(v).map(|t| t.to_vec1::<f32>());
        let want = get(&first).ok_or("lost")??;
        assert_eq!(get(&second).ok_or("lost")??, want);
        assert_eq!(get(&again).ok_or("lost")??, want);
        assert_ne!(get(&only).ok_or("lost")??, want);
    }
    Ok(())
}

#[test]
fn passes_on_several_threads_do_not_mix() -> Outcome {
    let vars = [var(&[4])?, var(&[4])?, var(&[4])?];
    let all = elementwise("out a = x * y * z; out b = x + y * z")?.call_all(&tensors(&vars))?;
    let losses = [loss(&all[0])?, loss(&all[1])?, (loss(&all[0])? + loss(&all[1])?)?];
    let gradient = |l: &Tensor| {
        let store = l.backward().expect("backward");
        vars.iter().map(|v| store.get(v).expect("there").to_vec1::<f32>().expect("rank 1")).collect::<Vec<_>>()
    };
    let want: Vec<_> = losses.iter().map(gradient).collect();
    std::thread::scope(|s| {
        for (l, want) in losses.iter().zip(&want) {
            let gradient = &gradient;
            s.spawn(move || (0..50).for_each(|_| assert_eq!(gradient(l), *want)));
        }
    });
    Ok(())
}

#[test]
fn integer_inputs_and_untracked_ones_have_no_gradient() -> Outcome {
    let (x, c) = (var(&[2, 3])?, var(&[3])?.as_detached_tensor());
    let mask = Tensor::new(&[[1u8, 0, 1], [0, 1, 1]], &Device::Cpu)?;
    let f = elementwise("mask != 0 ? x * c : 0")?;
    let y = f.call(&[&mask, x.as_tensor(), &c])?;
    let want = mask.where_cond(&x.broadcast_mul(&c)?, &x.zeros_like()?)?;
    same_gradients(std::slice::from_ref(&x), &loss(&y)?, &loss(&want)?);
    let untracked = f.call(&[&mask, &x.as_detached_tensor(), &c])?;
    assert!(!untracked.track_op());
    let by_vjp = f.vjp(&[&mask, x.as_tensor(), &c], &y.ones_like()?)?;
    assert!(by_vjp[0].is_none() && by_vjp[1].is_some() && by_vjp[2].is_some());
    Ok(())
}

#[test]
fn integer_results_stay_off_the_tape() -> Outcome {
    let x = var(&[2, 3])?;
    let all = rowwise("out i = argmax(x); out m = max(x)")?.call_all(&x)?;
    assert!(!all[0].track_op() && all[1].track_op());
    let want = x.max(1)?;
    same_gradients(std::slice::from_ref(&x), &loss(&all[1])?, &loss(&want)?);
    Ok(())
}

#[test]
fn gradients_of_broadcast_inputs_are_summed() -> Outcome {
    let f = elementwise("a * b + b * b")?;
    let shapes: [(&[usize], &[usize]); 11] = [
        (&[3, 4], &[4]),
        (&[3, 4], &[3, 1]),
        (&[3, 1], &[1, 4]),
        (&[2, 3, 4], &[3, 4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 3, 4], &[2, 1, 4]),
        (&[2, 3, 4], &[2, 1, 1]),
        (&[2, 3, 4], &[1, 3, 1]),
        (&[2, 1, 4, 1], &[1, 3, 1, 5]),
        (&[3, 4], &[]),
        (&[1, 4], &[4]),
    ];
    for (a, b) in shapes {
        let vars = [var(a)?, var(b)?];
        let (a, b) = (vars[0].as_tensor(), vars[1].as_tensor());
        let want = a.broadcast_mul(b)?.broadcast_add(&b.sqr()?)?;
        same_gradients(&vars, &loss(&f.call(&[a, b])?)?, &loss(&want)?);
    }
    Ok(())
}

#[test]
fn sums_over_a_partial_broadcast_are_not_rounded_before() -> Outcome {
    // 3000 ones: in f16 a sum of rounded parts would stop at 2048
    let x = Var::ones((2, 3000, 1, 2), DType::F16, &Device::Cpu)?;
    let b = Var::zeros((2, 1, 1, 2), DType::F16, &Device::Cpu)?;
    let store = elementwise("x + b")?.call(&[&x, &b])?.sum_all()?.backward()?;
    let g = store.get(&b).ok_or("lost")?;
    assert_eq!((g.dims(), g.dtype()), (&[2, 1, 1, 2][..], DType::F16));
    assert_eq!(g.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?, [3000.0; 4]);
    Ok(())
}

#[test]
fn strided_inputs_and_cotangents() -> Outcome {
    let f = elementwise("x * exp(y)")?;
    let vars = [var(&[4, 3])?, var(&[3, 4])?];
    let run = |fused: bool| -> Candle {
        let (x, y) = (vars[0].t()?, vars[1].narrow(1, 0, 4)?);
        let out = if fused { f.call(&[&x, &y])? } else { (x * y.exp()?)? };
        // the cotangent comes transposed, then repeated
        loss(&out.t()?.contiguous()?)? + out.sum_all()?
    };
    same_gradients(&vars, &run(true)?, &run(false)?);
    Ok(())
}

#[test]
fn rows_along_any_axis() -> Outcome {
    for axis in 0..3usize {
        let f = rowwise("let d = x - mean(x); out y = d * rsqrt(mean(d * d) + 1e-3) * w; out m = mean(x)")?;
        let f = f.axis(axis as isize);
        for keep in [false, true] {
            let f = if keep { f.clone().keepdim() } else { f.clone() };
            let mut shape = vec![1; 3];
            shape[axis] = [2, 3, 4][axis];
            let vars = [var(&[2, 3, 4])?, var(&shape)?];
            let (x, w) = (vars[0].as_tensor(), vars[1].as_tensor());
            let d = x.broadcast_sub(&x.mean_keepdim(axis)?)?;
            let r = (d.sqr()?.mean_keepdim(axis)? + 1e-3)?.sqrt()?.recip()?;
            let y = d.broadcast_mul(&r)?.broadcast_mul(w)?;
            let m = if keep { x.mean_keepdim(axis)? } else { x.mean(axis)? };
            let all = f.call_all(&[x, w])?;
            same_gradients(&vars, &(loss(&all[0])? + loss(&all[1])?)?, &(loss(&y)? + loss(&m)?)?);
            // the same without the tape
            let ones: Vec<Tensor> = all.iter().map(Tensor::ones_like).collect::<candle_core::Result<_>>()?;
            let by_vjp = f.vjp(&[x, w], &ones)?;
            let store = (y.sum_all()? + m.sum_all()?)?.backward()?;
            for (v, g) in vars.iter().zip(by_vjp) {
                close("vjp", &g.ok_or("lost")?, store.get(v).ok_or("lost")?, 1e-4);
            }
        }
    }
    Ok(())
}

#[test]
fn declared_rows_and_columns_get_gradients_of_their_shape() -> Outcome {
    let vars = [var(&[2, 3, 4])?, var(&[2, 3])?, var(&[4])?, var(&[3])?];
    let x = tensors(&vars);
    let f = rowwise("x * r * c + sum(x * q)")?.row("r").row("q");
    let r = x[1].unsqueeze(2)?;
    let q = x[3].unsqueeze(1)?;
    let want = x[0].broadcast_mul(&r)?.broadcast_mul(&x[2])?;
    let want = want.broadcast_add(&x[0].broadcast_mul(&q)?.sum_keepdim(2)?)?;
    same_gradients(&vars, &loss(&f.call(&x_in(&f, &x, &["x", "r", "c", "q"]))?)?, &loss(&want)?);
    // along the first axis
    let moved: Vec<Var> =
        vec![Var::from_tensor(&x[0].permute((2, 0, 1))?)?, vars[1].clone(), vars[2].clone(), vars[3].clone()];
    let m = tensors(&moved);
    let g = f.axis(0).col("c");
    let mx = m[0].permute((1, 2, 0))?;
    let want = mx.broadcast_mul(&r)?.broadcast_mul(&x[2])?;
    let want = want.broadcast_add(&mx.broadcast_mul(&q)?.sum_keepdim(2)?)?.permute((2, 0, 1))?.contiguous()?;
    same_gradients(&moved, &loss(&g.call(&x_in(&g, &m, &["x", "r", "c", "q"]))?)?, &loss(&want)?);
    Ok(())
}

/// The tensors in the order of the operation's inputs.
fn x_in(op: &Op, tensors: &[Tensor], names: &[&str]) -> Vec<Tensor> {
    let order = op.inputs().into_iter().filter_map(|n| names.iter().position(|m| *m == n));
    order.map(|k| tensors[k].clone()).collect()
}

#[test]
fn empty_tensors_have_gradients_of_zeros() -> Outcome {
    let f = rowwise("x * w + sum(x)")?;
    for dims in [[0, 4], [4, 0]] {
        let vars = [var(&dims)?, Var::ones(dims[1], DType::F32, &Device::Cpu)?];
        let y = f.call(&tensors(&vars))?;
        let all = f.vjp(&tensors(&vars), &y.ones_like()?)?;
        for (g, v) in all.iter().zip(&vars) {
            let g = g.as_ref().ok_or("lost")?;
            assert_eq!(g.dims(), v.dims());
            assert!(g.flatten_all()?.to_vec1::<f32>()?.iter().all(|v| *v == 0.0));
        }
    }
    Ok(())
}

#[test]
fn reductions_given_by_update_differentiate() -> Outcome {
    let x = var(&[3, 5])?;
    let f = reduce().init("0").update("acc + v * v").finalize("sqrt(acc)").build()?;
    same_gradients(std::slice::from_ref(&x), &loss(&f.call(&x)?)?, &loss(&x.sqr()?.sum(1)?.sqrt()?)?);
    let max = reduce().init("-INFINITY").update("max(acc, v)").build()?;
    same_gradients(std::slice::from_ref(&x), &loss(&max.call(&x)?)?, &loss(&x.max(1)?)?);
    Ok(())
}

#[test]
fn a_formula_overrides_the_gradient_of_one_input() -> Outcome {
    let f = elementwise("round(x) * w")?.grad_of("x", "g * w");
    let vars = [var(&[3, 4])?, var(&[4])?];
    let store = f.call(&[&vars[0], &vars[1]])?.sum_all()?.backward()?;
    close("x", store.get(&vars[0]).ok_or("lost")?, &vars[1].broadcast_as((3, 4))?.contiguous()?, 1e-6);
    close("w, derived", store.get(&vars[1]).ok_or("lost")?, &vars[0].round()?.sum(0)?, 1e-5);
    // an input that lacks axes gets the sum; the result is in scope as y
    let f = elementwise("x * w")?.grad_of("w", "10 * g * y");
    let store = f.call(&[&vars[0], &vars[1]])?.sum_all()?.backward()?;
    let want = (vars[0].broadcast_mul(&vars[1])?.sum(0)? * 10.0)?;
    close("w", store.get(&vars[1]).ok_or("lost")?, &want, 1e-4);
    Ok(())
}

#[test]
fn an_override_may_use_rows_and_the_cotangents_of_all_results() -> Outcome {
    let f = elementwise("out a = x * 2; out b = x * 3")?.grad_of("x", "g_a - mean(g_a) + 100 * g_b");
    let x = var(&[2, 4])?;
    let all = f.call_all(&x)?;
    let c = Tensor::new(&[[1f32, 2., 3., 6.], [0., 0., 4., 4.]], &Device::Cpu)?;
    let store = ((&all[0] * &c)?.sum_all()? + all[1].sum_all()?)?.backward()?;
    let want = (c.broadcast_sub(&c.mean_keepdim(D::Minus1)?)? + 100.0)?;
    close("both", store.get(&x).ok_or("lost")?, &want, 1e-5);
    let store = (&all[0] * &c)?.sum_all()?.backward()?;
    close("only a", store.get(&x).ok_or("lost")?, &(want - 100.0)?, 1e-5);
    Ok(())
}

#[test]
fn no_grad_cuts_the_tape() -> Outcome {
    let f = elementwise("x * 2")?.no_grad();
    let x = var(&[3])?;
    assert!(!f.call(&x)?.track_op());
    let error = f.vjp(&x, &x.ones_like()?).expect_err("no gradient").to_string();
    assert_eq!(error, "formula: no gradient, it was built with no_grad");
    Ok(())
}

#[test]
fn a_gradient_that_does_not_exist_is_told_at_the_call() -> Outcome {
    let f = reduce().init("0").update("acc + v + acc * v").combine("a + b + a * b").name("odd").build()?;
    let x = var(&[2, 3])?;
    assert!(f.call(&x.as_detached_tensor()).is_ok(), "untracked it runs");
    let error = f.call(&x).expect_err("tracked").to_string();
    assert!(error.starts_with("odd: no gradient, "), "{error}");
    assert!(f.clone().build().is_err(), "build() says so too");
    assert!(f.no_grad().call(&x).is_ok());
    Ok(())
}

#[test]
fn sixteen_bit_gradients_have_the_dtype_of_their_input() -> Outcome {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let x = Var::from_tensor(&Tensor::randn(0f32, 1.0, (3, 4), &Device::Cpu)?.to_dtype(dtype)?)?;
        let w = Var::from_tensor(&Tensor::randn(0f32, 1.0, 4, &Device::Cpu)?)?;
        let y = rowwise("x * rsqrt(mean(x * x) + 1e-3) * w")?.call(&[&x, &w])?;
        assert_eq!(y.dtype(), dtype);
        let store = y.sum_all()?.backward()?;
        assert_eq!(store.get(&x).ok_or("lost")?.dtype(), dtype);
        assert_eq!(store.get(&w).ok_or("lost")?.dtype(), DType::F32);
    }
    Ok(())
}

#[test]
fn a_gradient_that_is_the_same_along_an_axis_is_stored_once() -> Outcome {
    for (axis, dims) in [(-1, vec![3, 4]), (0, vec![3, 4]), (1, vec![2, 3, 4]), (-1, vec![5])] {
        let at = (axis + dims.len() as isize) as usize % dims.len();
        for formula in ["sum(x)", "mean(x)", "out a = sum(x); out b = mean(x) * 3"] {
            let (f, x) = (rowwise(formula)?.axis(axis), var(&dims)?);
            let ys = f.call_all(&x.as_detached_tensor())?;
            let cotangents: Vec<Tensor> = ys.iter().map(weights).collect::<candle_core::Result<_>>()?;
            let g = f.vjp(&x, &cotangents)?.swap_remove(0).ok_or("lost")?;
            assert_eq!((g.dims(), g.stride()[at]), (&dims[..], 0), "{formula} along {axis}");
            let losses: Vec<Tensor> = f.call_all(&x)?.iter().map(loss).collect::<candle_core::Result<_>>()?;
            let store = Tensor::stack(&losses, 0)?.sum_all()?.backward()?;
            let by_tape = store.get(&x).ok_or("lost")?;
            assert!(by_tape.is_contiguous());
            close(formula, by_tape, &g, 1e-6);
        }
    }
    // one that depends on nothing, beside one that is summed
    let f = elementwise("a * 2 + b * 3 + c")?.grad_of("a", "2");
    let vars = [var(&[2, 3])?, var(&[3])?, var(&[2, 3])?];
    let y = f.call(&tensors(&vars))?;
    let all = f.vjp(&tensors(&vars), &y.ones_like()?)?;
    let numbers = [2.0, 6.0, 1.0];
    assert_eq!(all[0].as_ref().map(|g| g.stride()), Some(&[0, 0][..]));
    for ((g, v), number) in all.iter().zip(&vars).zip(numbers) {
        close("constant", g.as_ref().ok_or("lost")?, &(v.ones_like()? * number)?, 0.0);
    }
    same_gradients(
        &vars,
        &y.sum_all()?,
        &((vars[0].as_tensor() * 2.0)? + vars[2].as_tensor())?
            .broadcast_add(&(vars[1].as_tensor() * 3.0)?)?
            .sum_all()?,
    );
    Ok(())
}
