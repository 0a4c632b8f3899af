//! Elementwise operations against candle's own: layouts, broadcasting, dtypes, empty tensors, several results.

use candle_core::{DType, Device, Tensor};
use zmlx::{elementwise, elementwise_fn, prelude::prelude, rowwise};

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
        assert!((g - w).abs() <= tolerance * (1.0 + w.abs()) || g == w, "element {i}: {g}, expected {w}");
    }
}

#[test]
fn every_layout_of_an_input_gives_what_candle_gives() -> Outcome {
    let f = elementwise("x * 2 + 1")?;
    let base = randn(&[4, 6, 5])?;
    let layouts = [
        base.clone(),
        base.transpose(0, 2)?,
        base.narrow(1, 2, 3)?,
        base.narrow(0, 1, 2)?,
        base.get(1)?,
        base.get(2)?.t()?,
        randn(&[1, 5])?.broadcast_as((4, 5))?,
        randn(&[4, 1])?.broadcast_as((4, 5))?,
        base.flatten_all()?.narrow(0, 7, 13)?,
        base.get(1)?.get(1)?.get(1)?,
        base.permute((1, 2, 0))?.unsqueeze(1)?.unsqueeze(0)?,
        randn(&[2, 1, 3, 1, 2, 1, 2, 3])?.broadcast_as(vec![2, 2, 3, 2, 2, 2, 2, 3])?,
    ];
    for x in layouts {
        close(&f.call(&x)?, &x.contiguous()?.affine(2.0, 1.0)?, 1e-6);
    }
    Ok(())
}

#[test]
fn inputs_broadcast_as_candles_do() -> Outcome {
    let f = elementwise("a * b")?;
    let shapes: [(&[usize], &[usize]); 10] = [
        (&[3, 4], &[4]),
        (&[4], &[3, 4]),
        (&[3, 4], &[3, 1]),
        (&[3, 1], &[1, 4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 3, 4], &[2, 1, 4]),
        (&[2, 1, 4, 1], &[1, 3, 1, 5]),
        (&[3, 4], &[]),
        (&[1], &[5]),
        (&[0, 4], &[1, 4]),
    ];
    for (a, b) in shapes {
        let (a, b) = (randn(a)?, randn(b)?);
        close(&f.call(&[&a, &b])?, &a.broadcast_mul(&b)?, 1e-6);
    }
    Ok(())
}

#[test]
fn rank_zero_and_empty_tensors_keep_their_shapes() -> Outcome {
    let f = elementwise("x + 1")?;
    assert_eq!(f.call(&Tensor::new(1f32, &Device::Cpu)?)?.to_scalar::<f32>()?, 2.0);
    for dims in [&[0][..], &[0, 3], &[3, 0], &[2, 0, 2]] {
        assert_eq!(f.call(&Tensor::zeros(dims, DType::F32, &Device::Cpu)?)?.dims(), dims);
    }
    Ok(())
}

#[test]
fn sixteen_bit_floats_are_computed_in_f32_and_rounded_once() -> Outcome {
    let f = elementwise("x * y + 1 - x * y")?;
    let (x, y) = (Tensor::new(&[300f32, 0.1], &Device::Cpu)?, Tensor::new(&[300f32, 0.1], &Device::Cpu)?);
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let out = f.call(&[&x.to_dtype(dtype)?, &y.to_dtype(dtype)?])?;
        assert_eq!(out.dtype(), dtype);
        // 300 · 300 overflows f16; in f32 it does not
        assert_eq!(out.to_dtype(DType::F32)?.to_vec1::<f32>()?, [1.0, 1.0], "{dtype:?}");
    }
    Ok(())
}

#[test]
fn integers_wrap_and_divide_as_the_table_says() -> Outcome {
    let f = elementwise("x * x / y")?;
    let x = Tensor::new(&[7i64, -7, i64::MAX], &Device::Cpu)?;
    let y = Tensor::new(&[2i64, 2, 0], &Device::Cpu)?;
    assert_eq!(f.call(&[&x, &y])?.to_vec1::<i64>()?, [24, 24, 0]);
    let u = Tensor::new(&[200u8, 100], &Device::Cpu)?;
    assert_eq!(elementwise("x + x")?.call(&u)?.to_vec1::<u8>()?, [144, 200]);
    assert_eq!(elementwise("x > 150")?.call(&u)?.to_vec1::<u8>()?, [1, 0]);
    Ok(())
}

#[test]
fn the_dtype_of_a_result_does_not_depend_on_the_batch() -> Outcome {
    // w comes first, but x is what varies over rows
    for f in [elementwise("w * x")?, rowwise("w * x - mean(x)")?] {
        for batch in [1, 2, 5] {
            let x = randn(&[batch, 8])?.to_dtype(DType::F16)?;
            assert_eq!(f.call(&[&randn(&[8])?, &x])?.dtype(), DType::F16, "batch {batch}");
        }
    }
    Ok(())
}

#[test]
fn several_results_come_in_order_with_their_dtypes() -> Outcome {
    let f = elementwise("out a = x + y; out b: f64 = x - y; out c = x > y")?;
    assert_eq!((f.inputs(), f.outputs()), (vec!["x", "y"], vec!["a", "b", "c"]));
    let (x, y) = (randn(&[3, 4])?, randn(&[4])?);
    let all = f.call_all(&[&x, &y])?;
    close(&all[0], &x.broadcast_add(&y)?, 1e-6);
    close(&all[1], &x.broadcast_sub(&y)?.to_dtype(DType::F64)?, 1e-6);
    close(&all[2], &x.broadcast_gt(&y)?, 0.0);
    Ok(())
}

#[test]
fn a_new_value_of_a_uniform_or_a_new_shape_does_not_recompile() -> Outcome {
    let f = elementwise("x * k + n")?.uniform("k", 2.0).uniform("n", 1i64);
    let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
    assert_eq!(f.call(&x)?.to_vec1::<f32>()?, [3.0, 5.0]);
    assert_eq!(f.with("k", 3).call(&x)?.to_vec1::<f32>()?, [4.0, 7.0]);
    assert_eq!(f.with_all([("k", 0.5.into()), ("n", 0i64.into())]).call(&x)?.to_vec1::<f32>()?, [0.5, 1.0]);
    assert_eq!(f.call(&x)?.to_vec1::<f32>()?, [3.0, 5.0], "the default stays");
    for n in [1, 3, 1000] {
        f.call(&randn(&[n, 2])?)?;
    }
    assert_eq!(f.specialisations(), 1);
    f.call(&x.to_dtype(DType::F64)?)?;
    assert_eq!(f.specialisations(), 2);
    Ok(())
}

#[test]
fn closures_and_helper_functions_make_the_same_operation() -> Outcome {
    let x = randn(&[5])?;
    let want = ((&x * x.exp()?)? + 1.0)?;
    close(&elementwise_fn(["x"], |[x]| x * x.exp() + 1.0)?.call(&x)?, &want, 1e-5);
    close(&prelude("fn f(t) = t * exp(t);").elementwise("f(x) + 1")?.call(&x)?, &want, 1e-5);
    Ok(())
}

#[test]
fn inputs_may_be_references_or_tensors_in_arrays_slices_and_vectors() -> Outcome {
    let f = elementwise("a + b")?;
    let (a, b) = (randn(&[2])?, randn(&[2])?);
    let want = (&a + &b)?.to_vec1::<f32>()?;
    let owned = vec![a.clone(), b.clone()];
    let refs = vec![&a, &b];
    for got in [f.call(&[&a, &b])?, f.call(&owned)?, f.call(&owned[..])?, f.call(&refs)?, f.call(&refs[..])?] {
        assert_eq!(got.to_vec1::<f32>()?, want);
    }
    let (v, w) = (candle_core::Var::from_tensor(&a)?, candle_core::Var::from_tensor(&b)?);
    assert_eq!(f.call(&[&v, &w])?.to_vec1::<f32>()?, want);
    assert_eq!(elementwise("x")?.call(&v)?.to_vec1::<f32>()?, a.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn operations_are_shared_between_threads() -> Outcome {
    let f = elementwise("x * x")?;
    std::thread::scope(|s| {
        for t in 0..4 {
            let f = &f;
            s.spawn(move || {
                for n in 1..200usize {
                    let x = Tensor::full(t as f32, n, &Device::Cpu).expect("small");
                    let y = f.call(&x).expect("runs").to_vec1::<f32>().expect("rank 1");
                    assert!(y.len() == n && y.iter().all(|v| *v == (t * t) as f32));
                }
            });
        }
    });
    Ok(())
}
