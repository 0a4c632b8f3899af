//! The loss of a head in chunks, beside that of all logits.

mod says;

use candle_core::{DType, Device, Result, Tensor, Var};
use says::says;
use zmlx::{
    catalog::cross_entropy_options::{CrossEntropy, cross_entropy_options},
    nn::{LinearCrossEntropy, Reduction, linear_cross_entropy},
};

const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

fn tensor(dims: &[usize], seed: usize) -> Result<Tensor> {
    let n: usize = dims.iter().product();
    let numbers = (0..n).map(|i| ((i * 7919 + seed * 104_729) * 31 % 1009) as f64 / 504.5 - 1.0);
    Tensor::from_vec(numbers.collect(), dims, &Device::Cpu)
}

fn apart(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    let b = b.to_dtype(DType::F64)?;
    let scale = b.abs()?.flatten_all()?.max(0)?.maximum(1e-3)?;
    (a.to_dtype(DType::F64)? - b)?.abs()?.broadcast_div(&scale)?.flatten_all()?.max(0)?.to_scalar()
}

/// With all logits, in f64.
fn whole(h: &Tensor, w: &Tensor, t: &Tensor, options: &LinearCrossEntropy) -> Result<Tensor> {
    let logits = h.matmul(&w.t()?)?;
    let lse = logits.exp()?.sum(1)?.log()?;
    let counted = t.to_dtype(DType::I64)?.ne(options.loss.ignore_index)?;
    let safe = counted.where_cond(&t.to_dtype(DType::I64)?, &t.to_dtype(DType::I64)?.zeros_like()?)?;
    let at = logits.gather(&safe.unsqueeze(1)?, 1)?.squeeze(1)?;
    let s = options.loss.label_smoothing;
    let plain = ((&lse - (at * (1.0 - s))?)? - (logits.mean(1)? * s)?)?;
    let losses = ((plain + (lse.sqr()? * options.loss.z_loss)?)? * counted.to_dtype(DType::F64)?)?;
    match options.reduction {
        Reduction::None => Ok(losses),
        Reduction::Sum => losses.sum_all(),
        Reduction::Mean => losses.sum_all()? / counted.to_dtype(DType::F64)?.sum_all()?,
    }
}

/// A loss and the gradients of hidden and weight, for a cotangent that is not 1 and differs from row to row.
fn with_gradients(loss: &Tensor, h: &Var, w: &Var) -> Result<[Tensor; 3]> {
    let n = loss.elem_count();
    let g = (Tensor::arange(0f32, n as f32, &Device::Cpu)?.cos()? * 3.0)?.reshape(loss.shape())?;
    let store = (loss.to_dtype(DType::F64)? * g.to_dtype(DType::F64)?)?.sum_all()?.backward()?;
    let of = |v: &Var| store.get(v).cloned().expect("a gradient");
    Ok([loss.clone(), of(h), of(w)])
}

#[test]
fn losses_and_gradients_are_those_of_all_logits_for_any_chunk_and_reduction() -> Result<()> {
    let (n, d, v) = (23, 16, 37);
    let classes: Vec<i64> = (0..n).map(|i| if i % 5 == 2 { -100 } else { (i * 11 % v) as i64 }).collect();
    let t = Tensor::from_vec(classes, n, &Device::Cpu)?;
    let losses =
        [CrossEntropy::default(), CrossEntropy { label_smoothing: 0.1, z_loss: 1e-2, ..CrossEntropy::default() }];
    for (dtype, bound) in [(DType::F64, 1e-6), (DType::F32, 1e-5), (DType::F16, 2e-3), (DType::BF16, 2e-2)] {
        let (h, w) = (tensor(&[n, d], 1)?.to_dtype(dtype)?, tensor(&[v, d], 2)?.to_dtype(dtype)?);
        let (h, w) = (Var::from_tensor(&h)?, Var::from_tensor(&w)?);
        let (h64, w64) = (Var::from_tensor(&h.to_dtype(DType::F64)?)?, Var::from_tensor(&w.to_dtype(DType::F64)?)?);
        for (reduction, loss) in REDUCTIONS.iter().flat_map(|r| losses.map(|l| (*r, l))) {
            let options = LinearCrossEntropy { loss, reduction, rows: None };
            let expected = with_gradients(&whole(&h64, &w64, &t, &options)?, &h64, &w64)?;
            for rows in [None, Some(1), Some(8), Some(23), Some(100)] {
                let options = LinearCrossEntropy { rows, ..options };
                let loss = linear_cross_entropy(&h, &w, &t, &options)?;
                assert_eq!(loss.dtype(), DType::F32);
                let got = with_gradients(&loss, &h, &w)?;
                assert_eq!((got[1].dtype(), got[2].dtype()), (dtype, dtype));
                for (k, (a, b)) in got.iter().zip(&expected).enumerate() {
                    let off = apart(a, b)?;
                    assert!(off < bound, "{dtype:?} {reduction:?} {rows:?}, result {k}: off by {off}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_weights_gradient_is_summed_in_f32() -> Result<()> {
    // 512 equal rows: in bf16 a sum of one chunk a row would stop growing at 256 times a row's gradient
    let h = Tensor::ones((512, 4), DType::BF16, &Device::Cpu)?;
    let w = Var::zeros((3, 4), DType::BF16, &Device::Cpu)?;
    let t = Tensor::zeros(512, DType::U32, &Device::Cpu)?;
    let options = LinearCrossEntropy { reduction: Reduction::Sum, rows: Some(1), ..LinearCrossEntropy::default() };
    let g = linear_cross_entropy(&h, &w, &t, &options)?.backward()?;
    let g = g.get(&w).expect("a gradient").to_dtype(DType::F32)?.to_vec2::<f32>()?;
    for (row, expected) in g.iter().zip([-2.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]) {
        assert!(row.iter().all(|v| (v / (512.0 * expected) - 1.0).abs() < 0.005), "{row:?}");
    }
    Ok(())
}

#[test]
fn a_scaled_loss_keeps_small_gradients_in_f16() -> Result<()> {
    // a row's share of the gradient, 1e-8, is below what f16 holds; that of the scaled loss is not
    let n = 4096;
    let h = Var::from_tensor(&(Tensor::ones((n, 2), DType::F16, &Device::Cpu)? * 1e-2)?)?;
    let w = Tensor::new(&[[1e-4f32, -1e-4], [0.0, 0.0], [0.0, 0.0]], &Device::Cpu)?;
    let w = Var::from_tensor(&w.to_dtype(DType::F16)?)?;
    let t = Tensor::zeros(n, DType::U32, &Device::Cpu)?;
    let loss = linear_cross_entropy(&h, &w, &t, &LinearCrossEntropy::default())?;
    let g = (loss * 65536.0)?.backward()?;
    let g = g.get(&h).expect("a gradient").to_dtype(DType::F32)?.get(0)?.to_vec1::<f32>()?;
    let expected = 65536.0 / n as f32 * (1e-4 * (1.0 / 3.0 - 1.0));
    assert!((g[0] / expected - 1.0).abs() < 0.01 && (g[1] / -expected - 1.0).abs() < 0.01, "{g:?} for {expected}");
    Ok(())
}

#[test]
fn one_of_hidden_and_weight_may_be_tracked_and_neither() -> Result<()> {
    let (h, w) = (tensor(&[2, 3, 8], 1)?.to_dtype(DType::F32)?, tensor(&[5, 8], 2)?.to_dtype(DType::F32)?);
    let t = Tensor::new(&[[0u32, 4, 2], [3, 1, 0]], &Device::Cpu)?;
    let (hv, wv) = (Var::from_tensor(&h)?, Var::from_tensor(&w)?);
    for reduction in REDUCTIONS {
        let options = LinearCrossEntropy { reduction, ..LinearCrossEntropy::default() };
        let free = linear_cross_entropy(&h, &w, &t, &options)?;
        assert!(!free.track_op());
        let dims: &[usize] = if reduction == Reduction::None { &[2, 3] } else { &[] };
        assert_eq!(free.dims(), dims);
        let both = linear_cross_entropy(&hv, &wv, &t, &options)?.sum_all()?.backward()?;
        let of_h = linear_cross_entropy(&hv, &w, &t, &options)?.sum_all()?.backward()?;
        let of_w = linear_cross_entropy(&h, &wv, &t, &options)?.sum_all()?.backward()?;
        for (store, var) in [(&of_h, &hv), (&of_w, &wv)] {
            let (a, b) = (store.get(var).expect("a gradient"), both.get(var).expect("a gradient"));
            assert_eq!(apart(a, b)?, 0.0);
            assert_eq!(a.dims(), var.dims());
        }
    }
    Ok(())
}

#[test]
fn strided_inputs_and_other_dtypes_of_the_weight_are_taken() -> Result<()> {
    let (h, w) = (tensor(&[8, 6], 1)?.to_dtype(DType::F32)?.t()?, tensor(&[8, 5], 2)?.to_dtype(DType::F32)?.t()?);
    let t =
        Tensor::new(&[[0u8, 9], [4, 9], [2, 9], [3, 9], [1, 9], [0, 9]], &Device::Cpu)?.narrow(1, 0, 1)?.squeeze(1)?;
    assert!(!h.is_contiguous() && !w.is_contiguous() && !t.is_contiguous());
    let options = LinearCrossEntropy { reduction: Reduction::None, rows: Some(4), ..LinearCrossEntropy::default() };
    let expected = cross_entropy_options(&h.matmul(&w.t()?)?, &t, &options.loss)?;
    assert!(apart(&linear_cross_entropy(&h, &w, &t, &options)?, &expected)? < 1e-6);
    assert!(apart(&linear_cross_entropy(&h, &w.to_dtype(DType::BF16)?, &t, &options)?, &expected)? < 1e-2);
    Ok(())
}

#[test]
fn no_rows_and_rows_that_are_all_ignored() -> Result<()> {
    let (h, w) = (Var::zeros((3, 4), DType::F32, &Device::Cpu)?, Var::ones((5, 4), DType::F32, &Device::Cpu)?);
    let t = Tensor::new(&[-100i64, -100, -100], &Device::Cpu)?;
    let options = LinearCrossEntropy::default();
    let loss = linear_cross_entropy(&h, &w, &t, &options)?;
    assert!(loss.to_scalar::<f32>()?.is_nan());
    assert_eq!(loss.backward()?.get(&w).expect("a gradient").abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
    let loss = linear_cross_entropy(&h, &w, &t, &LinearCrossEntropy { reduction: Reduction::Sum, ..options })?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.0);
    let g = loss.backward()?;
    assert_eq!(g.get(&w).expect("a gradient").abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
    let (none, no_class) = (h.narrow(0, 0, 0)?, t.narrow(0, 0, 0)?);
    let loss =
        linear_cross_entropy(&none, &w, &no_class, &LinearCrossEntropy { reduction: Reduction::Sum, ..options })?;
    assert_eq!(loss.to_scalar::<f32>()?, 0.0);
    assert!(loss.backward()?.get(&w).is_some());
    Ok(())
}

#[test]
fn what_does_not_belong_together_is_refused() -> Result<()> {
    let (h, w) = (tensor(&[3, 4], 1)?, tensor(&[5, 4], 2)?);
    let t = Tensor::new(&[0u32, 4, 2], &Device::Cpu)?;
    let options = LinearCrossEntropy::default();
    let call = |h: &Tensor, w: &Tensor, t: &Tensor, o: LinearCrossEntropy| linear_cross_entropy(h, w, t, &o);
    let name = "linear_cross_entropy";
    says(call(&h, &h.t()?, &t, options), &format!("{name}: weight has shape [4, 3], expected [V, 4] with V above 0"));
    says(
        call(&h, &w, &t.narrow(0, 0, 2)?, options),
        &format!("{name}: targets has shape [2], expected [3], one a row of hidden"),
    );
    says(
        call(&h, &w, &t.to_dtype(DType::F32)?, options),
        &format!("{name}: targets: dtype, expected an integer, got f32"),
    );
    says(
        call(&h, &w, &t, LinearCrossEntropy { rows: Some(0), ..options }),
        &format!("{name}: rows, expected at least 1, got 0"),
    );
    let loss = CrossEntropy { label_smoothing: 1.5, ..CrossEntropy::default() };
    says(
        call(&h, &w, &t, LinearCrossEntropy { loss, ..options }),
        &format!("{name}: label_smoothing, expected 0 ≤ label_smoothing ≤ 1, got 1.5"),
    );
    assert!(call(&h, &w, &Tensor::new(&[0u32, 5, 2], &Device::Cpu)?, options).is_err(), "class 5 of 5");
    Ok(())
}
