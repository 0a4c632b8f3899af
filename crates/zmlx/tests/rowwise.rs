//! Row operations against candle's own: reductions, axes, declared rows, `reduce` and `map_reduce`.

use candle_core::{D, DType, Device, Tensor};
use zmlx::{map_reduce, reduce, rowwise};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn randn(dims: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::randn(0f32, 1.0, dims, &Device::Cpu)
}

#[track_caller]
fn close(got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), want.dims());
    assert_eq!(got.dtype(), want.dtype());
    let flat = |t: &Tensor| {
        t.to_dtype(DType::F64).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1::<f64>()).expect("numbers")
    };
    for (i, (g, w)) in flat(got).into_iter().zip(flat(want)).enumerate() {
        assert!((g - w).abs() <= tolerance * (1.0 + w.abs()), "element {i}: {g}, expected {w}");
    }
}

fn softmax(x: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(axis)?)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(axis)?)
}

#[test]
fn softmax_runs_along_every_axis_of_every_layout() -> Outcome {
    let base = randn(&[3, 4, 5])?;
    for x in [base.clone(), base.transpose(0, 2)?, base.narrow(1, 1, 2)?, base.permute((1, 0, 2))?] {
        for axis in 0..3 {
            let want = softmax(&x.contiguous()?, axis)?;
            for a in [axis as isize, axis as isize - 3] {
                let f = rowwise("let e = exp(x - max(x)); e / sum(e)")?.axis(a);
                close(&f.call(&x)?, &want, 1e-5);
            }
        }
    }
    Ok(())
}

#[test]
fn a_row_result_lacks_the_axis_unless_it_is_kept() -> Outcome {
    let x = randn(&[2, 3, 4])?;
    for axis in 0..3usize {
        let f = rowwise("sum(x)")?.axis(axis as isize);
        close(&f.call(&x)?, &x.sum(axis)?, 1e-5);
        close(&f.keepdim().call(&x)?, &x.sum_keepdim(axis)?, 1e-5);
    }
    let v = randn(&[7])?;
    assert_eq!(rowwise("sum(x)")?.call(&v)?.dims(), [0usize; 0]);
    assert_eq!(rowwise("sum(x)")?.keepdim().call(&v)?.dims(), [1]);
    assert_eq!(rowwise("sum(x)")?.call(&Tensor::new(3f32, &Device::Cpu)?)?.to_scalar::<f32>()?, 3.0);
    Ok(())
}

#[test]
fn reductions_of_nothing_give_their_identity() -> Outcome {
    let f = rowwise("out s = sum(x); out m = max(x)")?;
    let all = f.call_all(&Tensor::zeros((2, 0), DType::F32, &Device::Cpu)?)?;
    assert_eq!(all[0].to_vec1::<f32>()?, [0.0, 0.0]);
    assert_eq!(all[1].to_vec1::<f32>()?, [f32::NEG_INFINITY; 2]);
    let none = f.call_all(&Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?)?;
    assert_eq!(none[0].dims(), [0]);
    Ok(())
}

#[test]
fn weights_lie_along_the_axis() -> Outcome {
    let (x, w, b) = (randn(&[2, 3, 4])?, randn(&[4])?, randn(&[4])?);
    let f = rowwise("let d = x - mean(x); d * rsqrt(mean(d * d) + eps) * w + b")?.uniform("eps", 1e-5);
    let d = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let r = (d.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?.recip()?;
    let want = d.broadcast_mul(&r)?.broadcast_mul(&w)?.broadcast_add(&b)?;
    close(&f.call(&[&x, &w, &b])?, &want, 1e-5);
    // along another axis a weight of rank 1 is declared
    let t = x.permute((2, 0, 1))?.contiguous()?;
    let g = f.clone().axis(0).col("w").col("b");
    close(&g.call(&[&t, &w, &b])?, &want.permute((2, 0, 1))?, 1e-5);
    // or given all its axes
    let full = |v: &Tensor| v.reshape((4, 1, 1));
    close(&f.axis(0).call(&[&t, &full(&w)?, &full(&b)?])?, &want.permute((2, 0, 1))?, 1e-5);
    Ok(())
}

#[test]
fn a_declared_row_is_shaped_like_the_input_without_the_axis() -> Outcome {
    let x = randn(&[2, 3, 5])?;
    let t = Tensor::new(&[[0u32, 4, 2], [1, 1, 3]], &Device::Cpu)?;
    let f = rowwise("x[t]")?.row("t");
    let want = x.gather(&t.unsqueeze(2)?, 2)?.squeeze(2)?;
    close(&f.call(&[&x, &t])?, &want, 0.0);
    let moved = x.permute((2, 0, 1))?.contiguous()?;
    close(&f.clone().axis(0).call(&[&moved, &t])?, &want, 0.0);
    let middle = x.permute((0, 2, 1))?.contiguous()?;
    close(&f.axis(1).keepdim().call(&[&middle, &t])?, &want.unsqueeze(1)?, 0.0);
    let scaled = rowwise("x * s")?.row("s");
    let s = randn(&[2, 3])?;
    close(&scaled.call(&[&x, &s])?, &x.broadcast_mul(&s.unsqueeze(2)?)?, 1e-6);
    Ok(())
}

#[test]
fn an_index_out_of_range_is_an_error() -> Outcome {
    let f = rowwise("x[t]")?.name("pick").row("t");
    let x = randn(&[2, 3])?;
    let error = f.call(&[&x, &Tensor::new(&[0u32, 3], &Device::Cpu)?]).expect_err("3 of 3 columns");
    assert_eq!(error.to_string(), "pick: index 3 in row 1 is out of range, expected 0 ≤ index < 3");
    Ok(())
}

#[test]
fn positions_and_scans_follow_the_axis() -> Outcome {
    let x = randn(&[3, 4])?;
    close(&rowwise("cumsum(x)")?.call(&x)?, &x.cumsum(1)?, 1e-5);
    close(&rowwise("cumsum(x)")?.axis(0).call(&x)?, &x.cumsum(0)?, 1e-5);
    let position = rowwise("x * 0 + col")?.call(&x)?;
    assert_eq!(position.to_vec2::<f32>()?[2], [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(rowwise("argmax(x)")?.call(&x)?.to_vec1::<u32>()?, x.argmax(1)?.to_vec1::<u32>()?);
    Ok(())
}

#[test]
fn ranks_are_those_of_a_stable_sort() -> Outcome {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let rows = [[1.0, 3.0, -2.0, 3.0, 0.5], [-inf, 2.0, -inf, inf, -inf], [0.0, nan, 7.0, -0.0, inf]];
    let x = Tensor::new(&rows, &Device::Cpu)?;
    for k in 0..5 {
        let f = rowwise(format!("out y = top(x, {k}); out at = argtop(x, {k})"))?;
        let all = f.call_all(&x)?;
        let (values, columns) = (all[0].to_vec1::<f32>()?, all[1].to_vec1::<u32>()?);
        for (r, row) in rows.iter().enumerate() {
            let mut order: Vec<usize> = (0..5).collect();
            let size = |i: usize| if row[i].is_nan() { inf } else { row[i] };
            order.sort_by(|a, b| size(*b).partial_cmp(&size(*a)).expect("no NaN"));
            assert_eq!(columns[r] as usize, order[k], "row {r}, rank {k}");
            assert!(values[r] == row[order[k]] || (values[r].is_nan() && row[order[k]].is_nan()), "row {r}, rank {k}");
        }
    }
    // of so few columns
    assert_eq!(rowwise("top(x, 5)")?.call(&x)?.to_vec1::<f32>()?, [-inf; 3]);
    Ok(())
}

#[test]
fn the_gradient_of_a_rank_goes_to_its_column() -> Outcome {
    let x = candle_core::Var::new(&[[1f32, 3.0, 3.0, 2.0]], &Device::Cpu)?;
    let y = rowwise("top(x, 1) * 10 + top(x, 2)")?.call(&x)?;
    let g = y.sum_all()?.backward()?;
    assert_eq!(g.get(&x).expect("a gradient").to_vec2::<f32>()?, [[0.0, 0.0, 10.0, 1.0]]);
    // of a rank that the row has not it goes nowhere; a column has none
    let g = rowwise("top(x, 4) + top(x, 3)")?.call(&x)?.sum_all()?.backward()?;
    assert_eq!(g.get(&x).expect("a gradient").to_vec2::<f32>()?, [[1.0, 0.0, 0.0, 0.0]]);
    assert!(!rowwise("argtop(x, 0)")?.call(&x)?.track_op());
    Ok(())
}

#[test]
fn ranks_side_by_side_lie_along_the_axis_and_have_gradients() -> Outcome {
    let x = candle_core::Var::from_tensor(&randn(&[4, 3])?)?;
    let weights = randn(&[2, 3])?;
    for axis in [0, 1] {
        let turned = |t: &Tensor| if axis == 0 { Ok(t.clone()) } else { t.t()?.contiguous() };
        let (t, w) = (turned(&x)?, turned(&weights)?);
        let f = rowwise("out v = top_k(x, 2); out at = argtop_k(x, 2)")?.axis(axis);
        let all = f.call_all(&t)?;
        let at = all[1].contiguous()?;
        assert_eq!((all[0].dims(), at.dims()), (w.dims(), w.dims()));
        let plain = t.gather(&at, axis as usize)?;
        close(&all[0], &plain, 0.0);
        let of = |y: &Tensor| Ok::<_, candle_core::Error>((y * &w)?.sum_all()?.backward()?.get(&x).cloned());
        let (g, expected) = (of(&all[0])?.expect("a gradient"), of(&plain)?.expect("a gradient"));
        close(&g, &expected, 0.0);
        let zeros = at.zeros_like()?;
        close(f.vjp(&t, &[&w, &zeros])?[0].as_ref().expect("a gradient"), &turned(&g)?, 0.0);
    }
    // a vector has one row; one column is an axis too
    let one = rowwise("top_k(x, 1)")?.call(&Tensor::new(&[1f32, 3.0, 2.0], &Device::Cpu)?)?;
    assert_eq!(one.to_vec1::<f32>()?, [3.0]);
    let error = rowwise("top_k(x, 9)")?.name("nine").call(&randn(&[2, 4])?).expect_err("4 columns").to_string();
    assert_eq!(error, "nine: columns, expected at least 9, its ranks, got 4");
    Ok(())
}

#[test]
fn a_rank_is_a_number_in_the_formula() -> Outcome {
    for formula in ["top(x, k)", "argtop(x, 64)", "top(x, 0.5)"] {
        let error = rowwise(formula).expect_err("no such rank").to_string();
        assert!(error.contains("takes a rank from 0 to 63 written as a number"), "{error}");
    }
    Ok(())
}

#[test]
fn reduce_is_a_sum_a_product_a_maximum_and_what_finalize_makes_of_it() -> Outcome {
    let x = randn(&[3, 5])?;
    close(&reduce().init("0").update("acc + v").call(&x)?, &x.sum(1)?, 1e-5);
    close(
        &reduce().init("0").update("acc + v * v").finalize("sqrt(acc / cols)").call(&x)?,
        &x.sqr()?.mean(1)?.sqrt()?,
        1e-5,
    );
    close(&reduce().init("-INFINITY").update("max(acc, v)").axis(0).keepdim().call(&x)?, &x.max_keepdim(0)?, 0.0);
    assert_eq!(reduce().init("0").update("acc + v").call(&randn(&[4])?)?.dims(), [0usize; 0]);
    let i = Tensor::new(&[[1i64 << 40, 1], [3, 4]], &Device::Cpu)?;
    assert_eq!(reduce().init("0").update("acc + v").call(&i)?.to_vec1::<i64>()?, [(1 << 40) + 1, 7]);
    Ok(())
}

#[test]
fn reduce_takes_a_custom_monoid() -> Outcome {
    let f = reduce().init("0").update("acc + abs(v) + acc * abs(v)").combine("a + b + a * b").build()?;
    let x = randn(&[4, 9])?;
    let want: Vec<f32> =
        x.to_vec2::<f32>()?.iter().map(|r| r.iter().map(|v| 1.0 + v.abs()).product::<f32>() - 1.0).collect();
    let got = f.call(&x)?.to_vec1::<f32>()?;
    assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 1e-3 * w), "{got:?} {want:?}");
    Ok(())
}

#[test]
fn map_reduce_reads_the_passes_before() -> Outcome {
    let x = randn(&[6, 33])?;
    let f = map_reduce()
        .pass("-INFINITY", "max(acc1, x)", "max(a, b)")
        .pass("0", "acc2 + exp(x - s1)", "a + b")
        .write("exp(x - s1) / s2");
    close(&f.call(&x)?, &softmax(&x, 1)?, 1e-5);
    Ok(())
}

#[test]
fn the_same_formula_built_again_finds_what_was_compiled() -> Outcome {
    let build = || rowwise("x - mean(x) * unlikely")?.name("again").uniform("unlikely", 2.0).build();
    let x = randn(&[2, 3])?;
    build()?.call(&x)?;
    assert_eq!(build()?.specialisations(), 1);
    assert_eq!(rowwise("x - mean(x) * unlikely")?.name("other").uniform("unlikely", 2.0).specialisations(), 0);
    Ok(())
}
