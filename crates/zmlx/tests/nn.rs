//! What takes candle's place: equal values, and gradients beside candle's, which are lost, and those of candle's own
//! compositions, which are not.

mod says;

use candle_core::{
    D, DType, Device, Module, Result, Tensor, Var,
    quantized::{self, GgmlDType, QTensor},
};
use candle_nn::{VarBuilder, VarMap, ops as candle_ops, rotary_emb};
use says::says;
use zmlx::{nn, ops};

fn random(dims: &[usize]) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, dims, &Device::Cpu)
}

fn apart(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    let off = (a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?.abs()?;
    let scale = b.to_dtype(DType::F64)?.abs()?.maximum(1.0)?;
    (off / scale)?.flatten_all()?.max(0)?.to_scalar()
}

/// An operation of some tensors.
type Op = fn(&[Tensor]) -> Result<Tensor>;

/// Gradients of the inputs (None: lost) for a cotangent that differs from element to element.
fn gradients(f: Op, inputs: &[Tensor]) -> Result<Vec<Option<Tensor>>> {
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tracked)?;
    let weights = Tensor::arange(0f32, y.elem_count() as f32, &Device::Cpu)?.sin()?.reshape(y.shape())?;
    let store = (y * weights)?.sum_all()?.backward()?;
    Ok(vars.iter().map(|v| store.get(v).cloned()).collect())
}

/// candle's op, ours, and candle ops whose gradients arrive.
struct Beside {
    name: &'static str,
    candle: Op,
    ours: Op,
    plain: Op,
    shapes: &'static [&'static [usize]],
}

fn candles_layer(t: &[Tensor]) -> candle_nn::LayerNorm {
    candle_nn::LayerNorm::new(t[1].clone(), t[2].clone(), 1e-5)
}

const LOST: &[Beside] = &[
    Beside {
        name: "ops::softmax_last_dim",
        candle: |t| candle_ops::softmax_last_dim(&t[0]),
        ours: |t| ops::softmax_last_dim(&t[0]),
        plain: |t| candle_ops::softmax(&t[0], D::Minus1),
        shapes: &[&[3, 5, 17]],
    },
    Beside {
        name: "ops::rms_norm",
        candle: |t| candle_ops::rms_norm(&t[0], &t[1], 1e-5),
        ours: |t| ops::rms_norm(&t[0], &t[1], 1e-5),
        plain: |t| candle_ops::rms_norm_slow(&t[0], &t[1], 1e-5),
        shapes: &[&[3, 5, 17], &[17]],
    },
    Beside {
        name: "RmsNorm::forward",
        candle: |t| candle_nn::RmsNorm::new(t[1].clone(), 1e-5).forward(&t[0]),
        ours: |t| nn::RmsNorm::new(t[1].clone(), 1e-5).forward(&t[0]),
        plain: |t| candle_nn::RmsNorm::new(t[1].clone(), 1e-5).forward_diff(&t[0]),
        shapes: &[&[3, 5, 17], &[17]],
    },
    Beside {
        name: "ops::layer_norm",
        candle: |t| candle_ops::layer_norm(&t[0], &t[1], &t[2], 1e-5),
        ours: |t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5),
        plain: |t| candle_ops::layer_norm_slow(&t[0], &t[1], &t[2], 1e-5),
        shapes: &[&[3, 5, 17], &[17], &[17]],
    },
    Beside {
        name: "LayerNorm::forward",
        candle: |t| candles_layer(t).forward(&t[0]),
        ours: |t| nn::LayerNorm::from(candles_layer(t)).forward(&t[0]),
        plain: |t| candle_ops::layer_norm_slow(&t[0], &t[1], &t[2], 1e-5),
        shapes: &[&[3, 5, 17], &[17], &[17]],
    },
    Beside {
        name: "rotary_emb::rope",
        candle: |t| rotary_emb::rope(&t[0], &t[1], &t[2]),
        ours: |t| ops::rope(&t[0], &t[1], &t[2]),
        plain: |t| rotary_emb::rope_slow(&t[0], &t[1], &t[2]),
        shapes: &[&[2, 3, 5, 8], &[7, 4], &[7, 4]],
    },
    Beside {
        name: "rotary_emb::rope_i",
        candle: |t| rotary_emb::rope_i(&t[0], &t[1], &t[2]),
        ours: |t| ops::rope_i(&t[0], &t[1], &t[2]),
        plain: |t| rotary_emb::rope_i_slow(&t[0], &t[1], &t[2]),
        shapes: &[&[2, 3, 5, 8], &[7, 4], &[7, 4]],
    },
    Beside {
        name: "rotary_emb::rope_thd",
        candle: |t| rotary_emb::rope_thd(&t[0], &t[1], &t[2]),
        ours: |t| ops::rope_thd(&t[0], &t[1], &t[2]),
        plain: |t| rotary_emb::rope_slow(&t[0].transpose(1, 2)?, &t[1], &t[2])?.transpose(1, 2),
        shapes: &[&[2, 5, 3, 8], &[7, 4], &[7, 4]],
    },
];

#[test]
fn where_candle_loses_gradients_ours_are_those_of_its_compositions() -> Result<()> {
    for Beside { name, candle, ours, plain, shapes } in LOST {
        let inputs: Vec<Tensor> = shapes.iter().map(|dims| random(dims)).collect::<Result<_>>()?;
        assert!(gradients(*candle, &inputs)?.iter().all(Option::is_none), "{name}: candle has a gradient now");
        let (got, expected) = (gradients(*ours, &inputs)?, gradients(*plain, &inputs)?);
        for (k, (a, b)) in got.iter().zip(&expected).enumerate() {
            let (Some(a), Some(b)) = (a, b) else { panic!("{name}: input {k} has no gradient") };
            let off = apart(a, b)?;
            assert!(off < 2e-5, "{name}: gradient of input {k} is off by {off}");
        }
    }
    Ok(())
}

/// Bounds of what candle's rounding in each dtype differs from ours.
const DTYPES: [(DType, f64); 4] = [(DType::F32, 1e-5), (DType::F64, 1e-5), (DType::F16, 5e-3), (DType::BF16, 4e-2)];

#[test]
fn values_are_candles_in_every_dtype_that_it_takes() -> Result<()> {
    for Beside { name, candle, ours, shapes, .. } in LOST {
        let mut taken = 0;
        for (dtype, bound) in DTYPES {
            let inputs: Vec<Tensor> = shapes.iter().map(|dims| random(dims)?.to_dtype(dtype)).collect::<Result<_>>()?;
            let got = ours(&inputs)?;
            assert_eq!((got.dtype(), got.is_contiguous()), (dtype, true), "{name}");
            if let Ok(expected) = candle(&inputs) {
                let off = apart(&got, &expected)?;
                assert!(off < bound, "{name} {dtype:?}: off by {off}");
                taken += 1;
            }
        }
        assert!(taken >= 3, "{name}: candle takes {taken} dtypes");
    }
    Ok(())
}

#[test]
fn any_layout_is_taken() -> Result<()> {
    for Beside { name, ours, shapes, .. } in LOST {
        let plain: Vec<Tensor> = shapes.iter().map(|dims| random(dims)).collect::<Result<_>>()?;
        let strided = plain.iter().map(|t| match t.rank() {
            1 => Tensor::stack(&[t, t], 1)?.get_on_dim(1, 0),
            _ => t.transpose(0, 1)?.contiguous()?.transpose(0, 1),
        });
        let strided: Vec<Tensor> = strided.collect::<Result<_>>()?;
        assert!(strided.iter().all(|t| !t.is_contiguous()));
        assert!(apart(&ours(&strided)?, &ours(&plain)?)? < 1e-6, "{name}");
    }
    Ok(())
}

/// Operations whose gradient candle keeps: values and gradients are the same.
const KEPT: &[(&str, Op, Op, &[usize])] = &[
    ("softmax 0", |t| ops::softmax(&t[0], 0), |t| candle_ops::softmax(&t[0], 0), &[4, 5, 6]),
    ("softmax 1", |t| ops::softmax(&t[0], 1), |t| candle_ops::softmax(&t[0], 1), &[4, 5, 6]),
    ("softmax -1", |t| ops::softmax(&t[0], D::Minus1), |t| candle_ops::softmax(&t[0], D::Minus1), &[4, 5, 6]),
    ("log_softmax 1", |t| ops::log_softmax(&t[0], 1), |t| candle_ops::log_softmax(&t[0], 1), &[4, 5, 6]),
    ("log_softmax", |t| ops::log_softmax(&t[0], D::Minus1), |t| candle_ops::log_softmax(&t[0], D::Minus1), &[4, 9]),
    ("silu", |t| ops::silu(&t[0]), |t| candle_ops::silu(&t[0]), &[5, 7]),
    ("swiglu", |t| ops::swiglu(&t[0]), |t| candle_ops::swiglu(&t[0]), &[5, 8]),
    ("sigmoid", |t| ops::sigmoid(&t[0]), |t| candle_ops::sigmoid(&t[0]), &[5, 7]),
    ("hard_sigmoid", |t| ops::hard_sigmoid(&(&t[0] * 3.0)?), |t| candle_ops::hard_sigmoid(&(&t[0] * 3.0)?), &[9, 7]),
    ("mish", |t| ops::mish(&t[0]), |t| candle_ops::mish(&t[0]), &[5, 7]),
    ("leaky_relu", |t| ops::leaky_relu(&t[0], 0.1), |t| candle_ops::leaky_relu(&t[0], 0.1), &[5, 7]),
    ("selu", |t| ops::selu(&t[0], 1.67, 1.05), |t| candle_ops::selu(&t[0], 1.67, 1.05), &[5, 7]),
];

#[test]
fn where_candle_keeps_gradients_ours_are_equal() -> Result<()> {
    for (name, ours, candle, dims) in KEPT {
        let inputs = [random(dims)?];
        let (y, expected) = (ours(&inputs)?, candle(&inputs)?);
        assert!(y.is_contiguous());
        assert!(apart(&y, &expected)? < 1e-5, "{name}");
        let (a, b) = (gradients(*ours, &inputs)?.remove(0), gradients(*candle, &inputs)?.remove(0));
        let (Some(a), Some(b)) = (a, b) else { panic!("{name}: no gradient") };
        let off = apart(&a, &b)?;
        assert!(off < 2e-5, "{name}: gradient is off by {off}");
        for (dtype, bound) in &DTYPES[1..] {
            let x = [inputs[0].to_dtype(*dtype)?];
            // candle's selu knows f32 alone
            let Ok(expected) = candle(&x) else { continue };
            assert!(apart(&ours(&x)?, &expected)? < *bound, "{name} {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn tables_of_each_batch_turn_it() -> Result<()> {
    let (x, cos, sin) = (random(&[2, 3, 5, 8])?, random(&[2, 5, 4])?, random(&[2, 5, 4])?);
    assert!(apart(&ops::rope(&x, &cos, &sin)?, &rotary_emb::rope(&x, &cos, &sin)?)? < 1e-5);
    assert!(apart(&ops::rope_i(&x, &cos, &sin)?, &rotary_emb::rope_i(&x, &cos, &sin)?)? < 1e-5);
    let x = x.transpose(1, 2)?.contiguous()?;
    assert!(apart(&ops::rope_thd(&x, &cos, &sin)?, &rotary_emb::rope_thd(&x, &cos, &sin)?)? < 1e-5);
    Ok(())
}

#[test]
fn sdpa_is_its_definition_with_a_gradient() -> Result<()> {
    let shapes: [&[usize]; 3] = [&[2, 4, 5, 8], &[2, 2, 7, 8], &[2, 2, 7, 8]];
    let inputs: Vec<Tensor> = shapes.iter().map(|dims| random(dims)).collect::<Result<_>>()?;
    let ours: Op = |t| ops::sdpa(&t[0], &t[1], &t[2], None, false, 0.3, 1.0);
    let plain: Op = |t| {
        let each = |t: &Tensor| t.unsqueeze(2)?.broadcast_as((2, 2, 2, 7, 8))?.reshape((2, 4, 7, 8));
        let scores = (t[0].matmul(&each(&t[1])?.t()?)? * 0.3)?;
        candle_ops::softmax(&scores, D::Minus1)?.matmul(&each(&t[2])?)
    };
    assert!(apart(&ours(&inputs)?, &plain(&inputs)?)? < 1e-5);
    for (a, b) in gradients(ours, &inputs)?.iter().zip(&gradients(plain, &inputs)?) {
        let (Some(a), Some(b)) = (a, b) else { panic!("no gradient") };
        assert!(apart(a, b)? < 2e-5);
    }
    Ok(())
}

#[test]
fn layers_are_built_from_candles_names_and_train_their_weights() -> Result<()> {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let layers: [(Box<dyn Module>, Box<dyn Module>); 4] = [
        (Box::new(nn::layer_norm(6, 1e-5, vb.pp("a"))?), Box::new(candle_nn::layer_norm(6, 1e-5, vb.pp("a"))?)),
        (Box::new(nn::rms_norm(6, 1e-5, vb.pp("b"))?), Box::new(candle_nn::rms_norm(6, 1e-5, vb.pp("b"))?)),
        (
            Box::new(nn::layer_norm_no_bias(6, 1e-5, vb.pp("c"))?),
            Box::new(candle_nn::layer_norm_no_bias(6, 1e-5, vb.pp("c"))?),
        ),
        {
            let config = nn::LayerNormConfig { remove_mean: false, affine: true, eps: 1e-5 };
            let ours = nn::layer_norm(6, config, vb.pp("d"))?;
            (Box::new(ours), Box::new(candle_nn::layer_norm(6, config, vb.pp("d"))?))
        },
    ];
    assert_eq!(map.all_vars().len(), 6, "both have the same tensors");
    for var in map.all_vars() {
        var.set(&random(&[6])?)?;
    }
    let x = Var::from_tensor(&random(&[4, 6])?)?;
    let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu)?;
    for (ours, candle) in &layers {
        let y = ours.forward(&x)?;
        assert!(apart(&y, &candle.forward(&x)?)? < 1e-5);
        loss = (loss + y.sqr()?.sum_all()?)?;
    }
    let grads = loss.backward()?;
    assert!(map.all_vars().iter().chain([&x]).all(|v| grads.get(v).is_some()));
    Ok(())
}

#[test]
fn a_quantised_product_hands_its_gradient_on() -> Result<()> {
    for format in [GgmlDType::Q4_0, GgmlDType::Q8_0, GgmlDType::Q4K, GgmlDType::F16] {
        let w = QTensor::quantize(&random(&[12, 256])?, format)?;
        let plain = w.dequantize(&Device::Cpu)?;
        let candle = quantized::QMatMul::from_qtensor(w)?;
        let ours = nn::QMatMul::from(candle.clone());
        for dims in [&[3, 256][..], &[2, 3, 256], &[2, 2, 3, 256]] {
            let x = Var::from_tensor(&random(dims)?)?;
            let y = ours.forward(&x)?;
            assert_eq!(apart(&y, &candle.forward(&x)?)?, 0.0);
            let lost = candle.forward(&x)?.sqr()?.sum_all()?.backward()?;
            assert_eq!(lost.get(&x).is_some(), format == GgmlDType::F16, "candle's gradient, {format:?}");
            let g = (y.sqr()? * 0.5)?.sum_all()?.backward()?;
            let expected = y.detach().reshape(((), 12))?.matmul(&plain)?.reshape(dims)?;
            assert!(apart(g.get(&x).expect("a gradient"), &expected)? < 1e-4, "{format:?} {dims:?}");
        }
        // strided, and in other dtypes that candle takes
        let t = random(&[256, 3])?.t()?;
        assert!(apart(&ours.forward(&t)?, &candle.forward(&t.contiguous()?)?)? < 1e-5);
        for dtype in [DType::F16, DType::BF16].into_iter().filter(|_| format != GgmlDType::F16) {
            let x = Var::from_tensor(&random(&[3, 256])?.to_dtype(dtype)?)?;
            let y = ours.forward(&x)?;
            assert_eq!(y.dtype(), dtype);
            let g = y.sum_all()?.backward()?;
            let expected = Tensor::ones((3, 12), DType::F32, &Device::Cpu)?.matmul(&plain)?;
            assert!(apart(g.get(&x).expect("a gradient"), &expected)? < 2e-2);
        }
    }
    Ok(())
}

#[test]
fn cross_entropy_is_candles() -> Result<()> {
    let target = Tensor::new(&[3u32, 0, 9, 9, 1], &Device::Cpu)?;
    let x = Var::from_tensor(&random(&[5, 10])?)?;
    let (ours, theirs) = (nn::loss::cross_entropy(&x, &target)?, candle_nn::loss::cross_entropy(&x, &target)?);
    assert!(apart(&ours, &theirs)? < 1e-6);
    let (a, b) = (ours.backward()?, theirs.backward()?);
    assert!(apart(a.get(&x).expect("a gradient"), b.get(&x).expect("a gradient"))? < 1e-6);
    let half = x.to_dtype(DType::BF16)?;
    assert_eq!(nn::loss::cross_entropy(&half, &target)?.dtype(), DType::BF16);
    Ok(())
}

#[test]
fn shapes_that_do_not_belong_together_are_refused() -> Result<()> {
    let (x, w) = (random(&[2, 3, 5, 8])?, random(&[7])?);
    says(ops::rms_norm(&x, &w, 1e-5), "rms_norm: alpha has shape [7], expected [8] (the last dim of xs)");
    says(
        nn::LayerNorm::new(random(&[8])?, w, 1e-5).forward(&x),
        "LayerNorm: bias has shape [7], expected [8] (the last dim of xs)",
    );
    let long = random(&[4, 4])?;
    says(ops::rope(&x, &long, &long), "rope: cos has shape [4, 4], expected [t, 4] or [2, t, 4] with t of at least 5");
    assert!(ops::rope_thd(&x, &long, &long).is_ok(), "3 positions there");
    says(ops::sdpa(&x, &x, &x, None, true, 1.0, 50.0), "sdpa: softcapping, expected 1 (none), got 50");
    let target = Tensor::zeros(2, DType::U32, &Device::Cpu)?;
    says(nn::loss::cross_entropy(&random(&[3, 4])?, &target), "cross_entropy: target has shape [2], expected [3]");
    assert!(ops::softmax(&x, 4).is_err());
    assert!(ops::swiglu(&random(&[2, 3])?).is_err());
    Ok(())
}
