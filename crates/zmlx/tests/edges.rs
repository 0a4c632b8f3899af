//! What happens at the edges of the types: the promises of ARCHITECTURE.md, "What a formula means".

use candle_core::{DType, Device, Tensor, Var, WithDType};
use zmlx::{catalog, elementwise, rowwise};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const INF: f32 = f32::INFINITY;

fn tensor<T: WithDType>(values: &[T]) -> candle_core::Result<Tensor> {
    Tensor::new(values, &Device::Cpu)
}

fn floats(t: &Tensor) -> candle_core::Result<Vec<f32>> {
    t.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()
}

/// A formula of x alone.
fn of<T: WithDType>(formula: &str, x: &[T]) -> Result<Tensor, Box<dyn std::error::Error>> {
    Ok(elementwise(formula)?.call(&tensor(x)?)?)
}

/// Are they the same bits? NaN equals NaN.
#[track_caller]
fn same(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    let bits = |v: &[f32]| v.iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect::<Vec<_>>();
    assert_eq!(bits(got), bits(want), "{got:?}, expected {want:?}");
}

#[test]
fn layer_norm_far_from_zero_is_accurate() -> Outcome {
    // mean 1e4, σ 1: x is exact in f32, the reference is f64
    for cols in [256, 1024, 5000] {
        let x = (Tensor::randn(0f32, 1.0, (64, cols), &Device::Cpu)? + 1e4)?;
        let (w, b) = (Tensor::ones(cols, DType::F32, &Device::Cpu)?, Tensor::zeros(cols, DType::F32, &Device::Cpu)?);
        let y = catalog::layer_norm::layer_norm(&x, &w, &b, 1e-5)?;
        let x = x.to_dtype(DType::F64)?;
        let d = x.broadcast_sub(&x.mean_keepdim(1)?)?;
        let want = d.broadcast_div(&(d.sqr()?.mean_keepdim(1)? + 1e-5)?.sqrt()?)?;
        let worst = (y.to_dtype(DType::F64)? - want)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?;
        assert!(worst < 1e-3, "{cols} columns: off by {worst}");
    }
    Ok(())
}

#[test]
fn softmax_of_rows_that_are_infinite_huge_or_not_numbers() -> Outcome {
    let rows = [[-INF, -INF, -INF], [-INF, 0.0, -INF], [3e38, -3e38, 3e38], [f32::NAN, 1.0, 2.0], [INF, 1.0, 2.0]];
    let x = Tensor::new(&rows, &Device::Cpu)?;
    let nan = f32::NAN;
    let want = [nan, nan, nan, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5, nan, nan, nan, nan, 0.0, 0.0];
    let got = floats(&catalog::softmax::softmax(&x)?)?;
    same(&got[..12], &want[..12]);
    // exp(∞ − ∞) is not a number, and neither is the sum
    assert!(got[12..].iter().all(|v| v.is_nan()));
    let plain = plain_softmax(&x)?;
    same(&got, &floats(&plain)?);

    let mask = Tensor::new(&[[0u8, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 1, 1]], &Device::Cpu)?;
    let masked = floats(&catalog::masked_softmax::masked_softmax(&x, &mask)?)?;
    let half = 1.0 / (1.0 + 1f32.exp());
    for (got, want) in masked.iter().zip([0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5, 0.0, half, 1.0 - half]) {
        assert!((got - want).abs() < 1e-6, "{masked:?}");
    }

    same(&floats(&catalog::logsumexp::logsumexp(&x.narrow(0, 0, 3)?)?)?, &[-INF, 0.0, 3e38]);
    Ok(())
}

/// Softmax of plain candle operations.
fn plain_softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(1)?)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(1)?)
}

#[test]
fn functions_keep_their_digits() -> Outcome {
    let soft = |x: &[f32]| -> Result<Vec<f32>, Box<dyn std::error::Error>> {
        Ok(floats(&catalog::softplus::softplus(&tensor(x)?)?)?)
    };
    same(&soft(&[89.0, 1e30, INF, -INF])?, &[89.0, 1e30, INF, 0.0]);
    assert!((soft(&[-80.0])?[0] / (-80f32).exp() - 1.0).abs() < 1e-6);
    let y = floats(&catalog::elu::elu(&tensor(&[-1e-8f32, -1e-20, 1e-8, -INF, INF])?, 1.0)?)?;
    same(&y, &[-1e-8, -1e-20, 1e-8, -1.0, INF]);
    same(&floats(&catalog::sigmoid::sigmoid(&tensor(&[-INF, -89.0, 0.0, 89.0, INF])?)?)?[2..], &[0.5, 1.0, 1.0]);
    same(&floats(&catalog::silu::silu(&tensor(&[100f32, INF, 0.0, -0.0])?)?)?, &[100.0, INF, 0.0, -0.0]);
    // mish written as it stands in the paper does not overflow either
    same(&floats(&of("x * tanh(log(1 + exp(x)))", &[100f32, 1e38])?)?, &[100.0, 1e38]);
    Ok(())
}

#[test]
fn ties_go_to_the_first() -> Outcome {
    let x = Tensor::new(&[[1f32, 3.0, 3.0], [f32::NAN, f32::NAN, 9.0], [0.0, -0.0, 0.0]], &Device::Cpu)?;
    let columns = |f: &str| -> Result<Vec<u32>, Box<dyn std::error::Error>> { Ok(rowwise(f)?.call(&x)?.to_vec1()?) };
    assert_eq!(columns("argmax(x)")?, [1, 0, 0]);
    assert_eq!(columns("argmin(x)")?, [0, 0, 0]);
    // the first operand, bit for bit, and with it the whole gradient
    let (a, b) = (Var::from_vec(vec![0f32, -0.0, 2.0], 3, &Device::Cpu)?, tensor(&[-0f32, 0.0, 2.0])?);
    let b = Var::from_tensor(&b)?;
    for f in ["min(a, b)", "max(a, b)"] {
        let y = elementwise(f)?.call(&[a.as_tensor(), b.as_tensor()])?;
        same(&floats(&y)?, &[0.0, -0.0, 2.0]);
        let grads = y.backward()?;
        let gradient = |v: &Var| grads.get(v).map_or(Ok(vec![0.0; 3]), floats);
        same(&gradient(&a)?, &[1.0; 3]);
        same(&gradient(&b)?, &[0.0; 3]);
    }
    // the maximum of a row: the first of its equals has the gradient
    let v = Var::from_tensor(&tensor(&[1f32, 5.0, 5.0])?)?;
    let grads = rowwise("max(x)")?.call(v.as_tensor())?.backward()?;
    same(&floats(grads.get(&v).ok_or("a gradient")?)?, &[0.0, 1.0, 0.0]);
    Ok(())
}

#[test]
fn nan_propagates_where_the_table_says() -> Outcome {
    let nan = f32::NAN;
    let x = [nan, 1.0];
    same(&floats(&of("min(x, 0)", &x)?)?, &[nan, 0.0]);
    same(&floats(&of("max(0, x)", &x)?)?, &[nan, 1.0]);
    same(&floats(&of("clamp(x, 0, 0.5)", &x)?)?, &[nan, 0.5]);
    same(&floats(&of("sign(x)", &x)?)?, &[nan, 1.0]);
    for (f, want) in [("x < 0", [0, 0]), ("x >= 0", [0, 1]), ("x == x", [0, 1]), ("x != x", [1, 0])] {
        assert_eq!(of(f, &x)?.to_vec1::<u8>()?, want, "{f}");
    }
    for f in ["sum(x)", "prod(x)", "max(x)", "min(x)", "mean(x)"] {
        assert!(rowwise(f)?.call(&tensor(&x)?)?.to_scalar::<f32>()?.is_nan(), "{f}");
    }
    Ok(())
}

#[test]
fn zero_keeps_its_sign() -> Outcome {
    let zeros = [0f32, -0.0];
    for f in ["sign(x)", "x * 1", "x + -0.0", "x - 0.0", "round(x)", "trunc(x)", "sqrt(x)", "tanh(x)", "sin(x)"] {
        same(&floats(&of(f, &zeros)?)?, &zeros);
    }
    same(&floats(&of("x + 0.0", &zeros)?)?, &[0.0, 0.0]);
    same(&floats(&of("-x", &zeros)?)?, &[-0.0, 0.0]);
    same(&floats(&of("0.0 - x", &zeros)?)?, &[0.0, 0.0]);
    same(&floats(&of("1 / x", &zeros)?)?, &[INF, -INF]);
    Ok(())
}

#[test]
fn subnormal_numbers_are_numbers() -> Outcome {
    let small = [1e-40f32, -3e-45, 1.2e-38];
    same(&floats(&of("x * 1", &small)?)?, &small);
    same(&floats(&of("x * 0.5 + x * 0.5", &small[..1])?)?, &small[..1]);
    same(&floats(&of("x * 16777216 / 16777216", &small)?)?, &small);
    assert_eq!(rowwise("sum(x)")?.call(&tensor(&small[..1])?)?.to_scalar::<f32>()?, 1e-40);
    let y = floats(&of("exp(x)", &[-100f32])?)?[0];
    assert!(y > 0.0 && (f64::from(y) / (-100f64).exp() - 1.0).abs() < 0.02, "{y:e}");
    Ok(())
}

#[test]
fn integers_wrap_and_never_trap() -> Outcome {
    let bytes = tensor(&[250u8, 255, 0])?;
    let of_bytes =
        |f: &str| -> Result<Vec<u8>, Box<dyn std::error::Error>> { Ok(elementwise(f)?.call(&bytes)?.to_vec1()?) };
    assert_eq!(of_bytes("x + x")?, [244, 254, 0]);
    assert_eq!(of_bytes("x * x")?, [36, 1, 0]);
    assert_eq!(of_bytes("x / (x - x)")?, [0, 0, 0]);
    assert_eq!(of_bytes("x % (x - x)")?, [0, 0, 0]);
    let ends = [i64::MIN, i64::MAX, -7];
    let of_ends = |f: &str| -> Result<Vec<i64>, Box<dyn std::error::Error>> { Ok(of(f, &ends)?.to_vec1()?) };
    assert_eq!(of_ends("x + 1")?, [i64::MIN + 1, i64::MIN, -6]);
    assert_eq!(of_ends("-x")?, [i64::MIN, -i64::MAX, 7]);
    assert_eq!(of_ends("abs(x)")?, [i64::MIN, i64::MAX, 7]);
    assert_eq!(of_ends("x / -1")?, [i64::MIN, -i64::MAX, 7]);
    assert_eq!(of_ends("x % -1")?, [0, 0, 0]);
    assert_eq!(of_ends("x / 2")?, [i64::MIN / 2, i64::MAX / 2, -3]);
    assert_eq!(of_ends("x % 4")?, [0, 3, -3]);
    assert_eq!(of_ends("x / 0 + x % 0")?, [0, 0, 0]);
    // counts of a shift are taken modulo the width
    assert_eq!(of_ends("x << 64")?, ends);
    assert_eq!(of_ends("x >> 65")?, [i64::MIN >> 1, i64::MAX >> 1, -4]);
    assert_eq!(of("x << 33", &[1u32, 3])?.to_vec1::<u32>()?, [2, 6]);
    assert_eq!(rowwise("sum(x)")?.call(&bytes)?.to_scalar::<u8>()?, 249);
    assert_eq!(rowwise("prod(x)")?.call(&tensor(&[i64::MAX, 2])?)?.to_scalar::<i64>()?, -2);
    Ok(())
}

#[test]
fn a_float_saturates_when_it_becomes_an_integer() -> Outcome {
    let x = [f32::NAN, INF, -INF, 300.7, -1.9, 3e9];
    assert_eq!(of("u8(x)", &x)?.to_vec1::<u8>()?, [0, 255, 0, 255, 0, 255]);
    assert_eq!(of("u32(x)", &x)?.to_vec1::<u32>()?, [0, u32::MAX, 0, 300, 0, 3_000_000_000]);
    assert_eq!(of("i64(x)", &x)?.to_vec1::<i64>()?, [0, i64::MAX, i64::MIN, 300, -1, 3_000_000_000]);
    assert_eq!(of("i32(x)", &x)?.to_vec1::<i32>()?, [0, i32::MAX, i32::MIN, 300, -1, i32::MAX]);
    Ok(())
}

#[test]
fn half_types_round_once() -> Outcome {
    use half::{bf16, f16};
    // 1 + 2⁻⁹ needs 9 bits, then ·256 − 256 shows whether the middle was rounded to bf16
    let x = tensor(&[bf16::ONE])?;
    let y = elementwise("(x + 0.001953125) * 256 - 256")?.call(&x)?;
    assert_eq!(y.to_vec1::<bf16>()?, [bf16::from_f32(0.5)]);
    let y = elementwise("x * x")?.call(&tensor(&[f16::from_f32(300.0), f16::from_f32(-2e-4)])?)?;
    assert_eq!(y.to_vec1::<f16>()?, [f16::INFINITY, f16::from_f64(f64::from(f16::from_f32(-2e-4)).powi(2))]);
    Ok(())
}

#[test]
fn no_rows_and_no_columns() -> Outcome {
    for dims in [(0, 3), (3, 0), (0, 0)] {
        let x = Tensor::zeros(dims, DType::F32, &Device::Cpu)?;
        let w = Tensor::ones(dims.1, DType::F32, &Device::Cpu)?;
        let v = Var::from_tensor(&x)?;
        let y = rowwise("let s = sum(x * w); x * w / (s + 1)")?.call(&[v.as_tensor(), &w])?;
        assert_eq!(y.dims2()?, dims);
        let grads = y.sum_all()?.backward()?;
        assert_eq!(grads.get(&v).ok_or("a gradient")?.dims2()?, dims);
        same(&floats(&rowwise("sum(x)")?.call(&x)?)?, &vec![0.0; dims.0]);
        same(&floats(&rowwise("max(x)")?.call(&x)?)?, &vec![-INF; dims.0]);
        assert_eq!(rowwise("x * softmax(w)")?.call(&[&x, &w])?.dims2()?, dims);
    }
    Ok(())
}

#[test]
fn what_no_row_changes_has_a_gradient_too() -> Outcome {
    // computed once for all rows: the softmax of w, and with it its gradient
    let x = Tensor::randn(0f32, 1.0, (5, 7), &Device::Cpu)?;
    let w = Var::randn(0f32, 1.0, 7, &Device::Cpu)?;
    let op = rowwise("x * softmax(w)")?;
    let fused = op.call(&[&x, w.as_tensor()])?;
    let e = w.exp()?;
    let plain = x.broadcast_mul(&e.broadcast_div(&e.sum_keepdim(0)?)?)?;
    let gradient = |y: &Tensor| -> Result<Vec<f32>, Box<dyn std::error::Error>> {
        Ok(floats(y.sqr()?.sum_all()?.backward()?.get(&w).ok_or("a gradient")?)?)
    };
    for (got, want) in gradient(&fused)?.iter().zip(gradient(&plain)?) {
        assert!((got - want).abs() < 1e-5, "{got}, expected {want}");
    }
    Ok(())
}

#[test]
fn a_view_of_nothing_may_begin_behind_its_memory() -> Outcome {
    let x = Tensor::zeros((5, 0), DType::F32, &Device::Cpu)?.narrow(0, 2, 3)?;
    let y = Tensor::zeros((0, 9), DType::F32, &Device::Cpu)?.narrow(1, 4, 5)?;
    for x in [x, y] {
        let f = rowwise("softmax(x) + x")?;
        let v = Var::from_tensor(&x)?;
        assert_eq!(elementwise("x * 2 + x")?.call(&x)?.dims(), x.dims());
        assert_eq!(f.call(&x)?.dims(), x.dims());
        let g = f.call(&v)?.sum_all()?.backward()?;
        assert_eq!(g.get(&v).ok_or("a gradient")?.dims(), x.dims());
    }
    Ok(())
}
