//! Optimizers for candle: their steps beside candle's and beside references written out in f64, what they leave alone, and
//! what they refuse.

mod says;

use candle_core::{DType, Device, Result, Tensor, Var, backprop::GradStore};
use says::says;
use zmlx::optim::{AdamW, Lion, Muon, Optimizer, ParamsAdamW, ParamsLion, ParamsMuon, ParamsSgd, Sgd};

/// Numbers around 0, other ones for each seed.
fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| (((i * 7919 + seed * 104_729) * 31 % 1009) as f64 / 504.5 - 1.0) * 0.8).collect()
}

fn tensor(dims: &[usize], seed: usize, dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(numbers(dims.iter().product(), seed), dims, &Device::Cpu)?.to_dtype(dtype)
}

fn values(t: &Tensor) -> Result<Vec<f64>> {
    t.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// Gradients that were not made by a loss.
fn gradients(all: &[(&Var, Tensor)]) -> Result<GradStore> {
    let mut store = Var::zeros(1, DType::F32, &Device::Cpu)?.sum_all()?.backward()?;
    for (var, g) in all {
        store.insert(var, g.clone());
    }
    Ok(store)
}

#[track_caller]
fn close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "element {i}: {a} for {b}");
    }
}

/// Takes steps with gradients that are functions of the step alone, one of them with strides, beside a reference that says
/// what a step makes of a parameter, its gradient and its state.
fn follows<O: Optimizer>(
    config: O::Config,
    (dtype, dims, tolerance): (DType, &[usize], f64),
    mut reference: impl FnMut(&mut [f64], &[f64], usize),
) -> Result<()> {
    let var = Var::from_tensor(&tensor(dims, 1, dtype)?)?;
    let mut expected = values(&var)?;
    let mut optimizer = O::new(vec![var.clone()], config)?;
    for step in 1..=20 {
        let turned: Vec<usize> = dims.iter().rev().copied().collect();
        let g = match step {
            // that of a sum
            5 => tensor(&[1], 7, dtype)?.broadcast_as(dims)?,
            _ => tensor(&turned, 2 + step, dtype)?.t()?,
        };
        assert!(dims.len() < 2 || !g.is_contiguous());
        reference(&mut expected, &values(&g)?, step);
        if dtype == DType::BF16 {
            // parameters are stored in 16 bits between the steps
            expected.iter_mut().for_each(|v| *v = f64::from(half::bf16::from_f64(*v)));
        }
        optimizer.step(&gradients(&[(&var, g)])?)?;
    }
    assert_eq!((var.dtype(), var.dims()), (dtype, dims));
    close(&values(&var)?, &expected, tolerance);
    Ok(())
}

// an error in f32 may tip a bf16 to its neighbour, seldom twice
const CASES: [(DType, &[usize], f64); 4] = [
    (DType::F32, &[5, 3], 1e-5),
    (DType::F64, &[4, 6], 1e-12),
    (DType::BF16, &[16, 8], 0.01),
    (DType::F32, &[2, 9], 1e-5),
];

#[test]
fn adamw_follows_its_definition_in_all_dtypes() -> Result<()> {
    let p = ParamsAdamW { lr: 0.02, beta1: 0.8, beta2: 0.95, eps: 1e-6, weight_decay: 0.1 };
    for case in CASES {
        let (mut m, mut v) = (vec![0.0; 256], vec![0.0; 256]);
        follows::<AdamW>(p.clone(), case, |x, g, step| {
            for i in 0..x.len() {
                m[i] = p.beta1 * m[i] + (1.0 - p.beta1) * g[i];
                v[i] = p.beta2 * v[i] + (1.0 - p.beta2) * g[i] * g[i];
                let (mh, vh) = (m[i] / (1.0 - p.beta1.powi(step as i32)), v[i] / (1.0 - p.beta2.powi(step as i32)));
                x[i] = x[i] * (1.0 - p.lr * p.weight_decay) - p.lr * mh / (vh.sqrt() + p.eps);
            }
        })?;
    }
    Ok(())
}

#[test]
fn sgd_follows_pytorchs_with_and_without_momentum() -> Result<()> {
    let plain = ParamsSgd { lr: 0.05, momentum: 0.0, weight_decay: 0.1, ..ParamsSgd::default() };
    let heavy = ParamsSgd { momentum: 0.9, ..plain };
    for p in [plain, heavy, ParamsSgd { dampening: 0.5, ..heavy }, ParamsSgd { nesterov: true, ..heavy }] {
        for case in CASES {
            let mut m = vec![0.0; 256];
            follows::<Sgd>(p, case, |x, g, step| {
                for i in 0..x.len() {
                    let d = g[i] + p.weight_decay * x[i];
                    m[i] = if step == 1 { d } else { p.momentum * m[i] + (1.0 - p.dampening) * d };
                    x[i] -= p.lr * if p.nesterov { d + p.momentum * m[i] } else { m[i] };
                }
            })?;
        }
    }
    Ok(())
}

#[test]
fn lion_follows_its_definition() -> Result<()> {
    let p = ParamsLion { lr: 0.01, beta1: 0.9, beta2: 0.99, weight_decay: 0.1 };
    for case in CASES {
        let mut m = vec![0.0; 256];
        follows::<Lion>(p, case, |x, g, _| {
            for i in 0..x.len() {
                let c = p.beta1 * m[i] + (1.0 - p.beta1) * g[i];
                x[i] = x[i] * (1.0 - p.lr * p.weight_decay) - p.lr * c.signum();
                m[i] = p.beta2 * m[i] + (1.0 - p.beta2) * g[i];
            }
        })?;
    }
    Ok(())
}

/// a·b of matrices [n, k] and [k, m].
fn product(a: &[f64], b: &[f64], [n, k, m]: [usize; 3]) -> Vec<f64> {
    let cell = |i: usize| (0..k).map(|j| a[i / m * k + j] * b[j * m + i % m]).sum();
    (0..n * m).map(cell).collect()
}

fn transposed(a: &[f64], [rows, cols]: [usize; 2]) -> Vec<f64> {
    (0..rows * cols).map(|i| a[i % rows * cols + i / rows]).collect()
}

/// The published iteration, of a matrix that is no taller than wide.
fn newton_schulz(g: &[f64], [rows, cols]: [usize; 2]) -> Vec<f64> {
    let norm = g.iter().map(|v| v * v).sum::<f64>().sqrt() + 1e-7;
    let mut x: Vec<f64> = g.iter().map(|v| v / norm).collect();
    for _ in 0..5 {
        let a = product(&x, &transposed(&x, [rows, cols]), [rows, cols, rows]);
        let aa = product(&a, &a, [rows, rows, rows]);
        let b: Vec<f64> = a.iter().zip(&aa).map(|(a, aa)| -4.7750 * a + 2.0315 * aa).collect();
        let bx = product(&b, &x, [rows, rows, cols]);
        x.iter_mut().zip(bx).for_each(|(x, bx)| *x = 3.4445 * *x + bx);
    }
    x
}

#[test]
fn muon_follows_the_published_code_for_wide_and_tall_matrices() -> Result<()> {
    for nesterov in [true, false] {
        let p = ParamsMuon { lr: 0.02, momentum: 0.9, nesterov, weight_decay: 0.1, ..ParamsMuon::default() };
        for (dtype, dims, tolerance) in CASES {
            let mut m = vec![0.0; 256];
            let size @ [rows, cols] = [dims[0], dims[1]];
            // the iteration's slope makes an error some hundred times larger where a singular value is small
            let tolerance = if dtype == DType::F32 { 1e-3 } else { tolerance };
            follows::<Muon>(p, (dtype, dims, tolerance), |x, g, _| {
                let mut update = vec![0.0; x.len()];
                for i in 0..x.len() {
                    m[i] = p.momentum * m[i] + (1.0 - p.momentum) * g[i];
                    update[i] = if nesterov { (1.0 - p.momentum) * g[i] + p.momentum * m[i] } else { m[i] };
                }
                let o = match rows > cols {
                    true => transposed(&newton_schulz(&transposed(&update, size), [cols, rows]), [cols, rows]),
                    false => newton_schulz(&update, size),
                };
                let scale = (rows as f64 / cols as f64).max(1.0).sqrt();
                for i in 0..x.len() {
                    x[i] = x[i] * (1.0 - p.lr * p.weight_decay) - p.lr * scale * o[i];
                }
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_step_of_muon_is_nearly_orthogonal() -> Result<()> {
    let var = Var::zeros((6, 20), DType::F32, &Device::Cpu)?;
    let mut muon = Muon::new(vec![var.clone()], ParamsMuon { lr: 1.0, ..ParamsMuon::default() })?;
    let g = (Tensor::randn(0f32, 1.0, (6, 20), &Device::Cpu)? * 1e-3)?;
    muon.step(&gradients(&[(&var, g)])?)?;
    let gram = var.matmul(&var.t()?)?.to_vec2::<f32>()?;
    for (i, row) in gram.iter().enumerate() {
        for (j, v) in row.iter().enumerate() {
            let expected = if i == j { 0.3..1.6 } else { -0.5..0.5 };
            assert!(expected.contains(v), "{i} {j}: {v}");
        }
    }
    Ok(())
}

/// A loss of Vars of several shapes, one of them transposed, whose gradients depend on their values.
fn loss(vars: &[Var]) -> Result<Tensor> {
    let [w, b, scale, cube] = vars else { unreachable!("four of them") };
    let x = tensor(&[7, 5], 3, DType::F32)?;
    let h = x.matmul(&w.t()?)?.broadcast_add(b)?.tanh()?;
    let other = (cube.sqr()?.sum_all()? * 0.01)?;
    (h - tensor(&[7, 4], 4, DType::F32)?)?.sqr()?.mean_all()?.broadcast_mul(scale)? + other
}

fn vars() -> Result<Vec<Var>> {
    let shapes: [&[usize]; 4] = [&[4, 5], &[4], &[], &[2, 3, 4]];
    shapes.iter().enumerate().map(|(k, dims)| Var::from_tensor(&tensor(dims, 7 + k, DType::F32)?)).collect()
}

#[test]
fn adamw_is_candles_over_50_steps() -> Result<()> {
    let params = ParamsAdamW { lr: 0.02, weight_decay: 0.05, ..ParamsAdamW::default() };
    let (ours, theirs) = (vars()?, vars()?);
    let mut a = AdamW::new(ours.clone(), params.clone())?;
    let mut b = candle_nn::AdamW::new(theirs.clone(), params)?;
    for step in 0..50 {
        if step == 25 {
            a.set_learning_rate(0.01);
            b.set_learning_rate(0.01);
        }
        a.backward_step(&loss(&ours)?)?;
        b.backward_step(&loss(&theirs)?)?;
    }
    assert_eq!(a.learning_rate(), 0.01);
    for (x, y) in ours.iter().zip(&theirs) {
        close(&values(x)?, &values(y)?, 2e-5);
    }
    Ok(())
}

#[test]
fn a_var_without_a_gradient_is_left_alone_and_its_steps_do_not_count() -> Result<()> {
    let late = Var::from_tensor(&tensor(&[3], 1, DType::F32)?)?;
    let other = Var::from_tensor(&tensor(&[2], 2, DType::F64)?)?;
    let index = Var::zeros(2, DType::U32, &Device::Cpu)?;
    let mut adamw = AdamW::new_lr(vec![late.clone(), other.clone(), index], 0.1)?;
    let before = values(&late)?;
    for _ in 0..30 {
        adamw.step(&gradients(&[(&other, tensor(&[2], 3, DType::F64)?)])?)?;
    }
    assert_eq!(values(&late)?, before);
    // the first step of Adam is lr times the sign of the gradient
    let g = Tensor::new(&[1e-2f32, -1.0, 5.0], &Device::Cpu)?;
    adamw.set_params(ParamsAdamW { weight_decay: 0.0, ..adamw.params().clone() });
    adamw.step(&gradients(&[(&late, g)])?)?;
    close(&values(&late)?, &[before[0] - 0.1, before[1] + 0.1, before[2] - 0.1], 1e-5);
    Ok(())
}

#[test]
fn tensors_that_share_a_vars_storage_see_its_steps() -> Result<()> {
    let var = Var::ones((2, 2), DType::F32, &Device::Cpu)?;
    let row = var.as_detached_tensor().get(1)?;
    let mut sgd = Sgd::new(vec![var.clone()], ParamsSgd { lr: 0.5, momentum: 0.0, ..ParamsSgd::default() })?;
    sgd.step(&gradients(&[(&var, Tensor::ones((2, 2), DType::F32, &Device::Cpu)?)])?)?;
    assert_eq!(row.to_vec1::<f32>()?, [0.5, 0.5]);
    Ok(())
}

/// Loss of a small network of one hidden layer after some steps, and before.
fn trained<O: Optimizer>(config: O::Config) -> Result<[f32; 2]> {
    let x = tensor(&[64, 8], 1, DType::F32)?;
    let target = x.matmul(&tensor(&[8, 4], 2, DType::F32)?)?.tanh()?;
    let w1 = Var::from_tensor(&tensor(&[8, 16], 3, DType::F32)?)?;
    let w2 = Var::from_tensor(&tensor(&[16, 4], 4, DType::F32)?)?;
    let mut optimizer = O::from_slice(&[&w1, &w2], config)?;
    let loss = || (x.matmul(&w1)?.tanh()?.matmul(&w2)? - &target)?.sqr()?.mean_all();
    let first = loss()?.to_scalar::<f32>()?;
    for _ in 0..200 {
        optimizer.backward_step(&loss()?)?;
    }
    Ok([first, loss()?.to_scalar::<f32>()?])
}

#[test]
fn each_optimizer_trains_a_small_network() -> Result<()> {
    let all = [
        trained::<AdamW>(ParamsAdamW { lr: 0.01, ..ParamsAdamW::default() })?,
        trained::<Sgd>(ParamsSgd { lr: 0.1, ..ParamsSgd::default() })?,
        trained::<Lion>(ParamsLion { lr: 3e-3, ..ParamsLion::default() })?,
        trained::<Muon>(ParamsMuon::default())?,
    ];
    for [first, last] in all {
        assert!(last < 0.1 * first, "{all:?}");
    }
    Ok(())
}

#[test]
fn a_step_that_fails_is_none() -> Result<()> {
    let after = |mut bad: Vec<Tensor>| -> Result<Vec<f64>> {
        let var = Var::from_tensor(&tensor(&[4, 3], 1, DType::F32)?)?;
        let mut adamw = AdamW::new_lr(vec![var.clone()], 0.1)?;
        if let Some(g) = bad.pop() {
            assert!(adamw.step(&gradients(&[(&var, g)])?).is_err());
        }
        adamw.step(&gradients(&[(&var, tensor(&[4, 3], 2, DType::F32)?)])?)?;
        values(&var)
    };
    let bytes = Tensor::ones((4, 3), DType::F32, &Device::Cpu)?.to_dtype(DType::F8E4M3)?;
    assert_eq!(after(vec![bytes])?, after(vec![])?);
    Ok(())
}

#[test]
fn parameters_that_make_no_sense_are_refused() -> Result<()> {
    let adamw = |params| AdamW::new(vec![], params);
    let p = ParamsAdamW::default();
    says(adamw(ParamsAdamW { lr: -1.0, ..p.clone() }), "AdamW: lr, expected a finite number of at least 0, got -1");
    says(adamw(ParamsAdamW { beta1: 1.0, ..p.clone() }), "AdamW: beta1, expected 0 ≤ beta1 < 1, got 1");
    says(adamw(ParamsAdamW { beta2: -0.1, ..p.clone() }), "AdamW: beta2, expected 0 ≤ beta2 < 1, got -0.1");
    says(
        adamw(ParamsAdamW { eps: f64::NAN, ..p.clone() }),
        "AdamW: eps, expected a finite number of at least 0, got NaN",
    );
    let sgd = |params| Sgd::new(vec![], params);
    let p = ParamsSgd::default();
    says(sgd(ParamsSgd { momentum: 1.0, ..p }), "Sgd: momentum, expected 0 ≤ momentum < 1, got 1");
    says(sgd(ParamsSgd { dampening: 2.0, ..p }), "Sgd: dampening, expected 0 ≤ dampening ≤ 1, got 2");
    says(
        sgd(ParamsSgd { nesterov: true, dampening: 0.5, ..p }),
        "Sgd: nesterov, expected momentum, and no dampening, got momentum 0.9, dampening 0.5",
    );
    says(
        Lion::new(vec![], ParamsLion { weight_decay: -1.0, ..ParamsLion::default() }),
        "Lion: weight_decay, expected a finite number of at least 0, got -1",
    );
    let bias = Var::zeros(3, DType::F32, &Device::Cpu)?;
    says(
        Muon::new(vec![bias], ParamsMuon::default()),
        "Muon: a Var has shape [3], expected matrices alone, of rank 2 (give the others to AdamW)",
    );
    let var = Var::zeros(3, DType::F32, &Device::Cpu)?;
    let mut adamw = AdamW::new_lr(vec![var.clone()], 0.1)?;
    let g = |dims: &[usize]| gradients(&[(&var, tensor(dims, 1, DType::F32)?)]);
    says(adamw.step(&g(&[1])?), "AdamW: a gradient has shape [1], expected [3], that of its Var");
    adamw.set_learning_rate(f64::INFINITY);
    says(adamw.step(&g(&[3])?), "AdamW: lr, expected a finite number of at least 0, got inf");
    assert_eq!(values(&var)?, [0.0; 3]);
    Ok(())
}
