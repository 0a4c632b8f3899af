//! Gates of mixtures of experts, beside the rules of models as transformers states them, written out in f64.

use candle_core::{DType, Device, Tensor, Var};
use zmlx::catalog::top_k_gating::{Gating, Scoring, top_k_gating};

/// Numbers in (−3, 3), none of which are equal in a row.
fn logits(rows: usize, experts: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from(((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 3.0)
    };
    (0..rows).map(|_| (0..experts).map(|_| next()).collect()).collect()
}

fn tensor(rows: &[Vec<f64>], dtype: DType) -> Tensor {
    let flat: Vec<f64> = rows.concat();
    let t = Tensor::from_vec(flat, (rows.len(), rows[0].len()), &Device::Cpu);
    t.and_then(|t| t.to_dtype(dtype)).expect("logits")
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|v| (v - most).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|v| v / sum).collect()
}

fn sigmoid(x: &[f64]) -> Vec<f64> {
    x.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect()
}

/// Places of the k largest, the largest first, of equals the lower.
fn top(x: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|a, b| x[*b].total_cmp(&x[*a]));
    order.truncate(k);
    order
}

fn at(x: &[f64], places: &[usize]) -> Vec<f64> {
    places.iter().map(|p| x[*p]).collect()
}

fn normal(w: Vec<f64>) -> Vec<f64> {
    let sum = w.iter().sum::<f64>() + 1e-20;
    w.into_iter().map(|v| v / sum).collect()
}

/// The weights and experts of a token.
type Routed = (Vec<f64>, Vec<usize>);

/// Mixtral: softmax over all, the k largest, renormalised. Qwen2-MoE and OLMoE leave the last out, Qwen3-MoE by `norm_topk_prob`.
fn of_softmax(x: &[f64], k: usize, norm: bool) -> Routed {
    let p = softmax(x);
    let e = top(&p, k);
    let w = at(&p, &e);
    (if norm { normal(w) } else { w }, e)
}

/// gpt-oss: the k largest logits, of which the softmax is taken.
fn gpt_oss(x: &[f64], k: usize) -> Routed {
    let e = top(x, k);
    (softmax(&at(x, &e)), e)
}

/// DeepSeek-V3 and GLM-4-MoE: sigmoids; the bias and the groups take part in the choice alone. `best` 1 and softmax: DeepSeek-V2.
fn deepseek(scores: &[f64], bias: &[f64], k: usize, [groups, chosen, best]: [usize; 3], norm: bool, by: f64) -> Routed {
    let mut choice: Vec<f64> = scores.iter().zip(bias).map(|(s, b)| s + b).collect();
    let each = scores.len() / groups;
    let of_group: Vec<f64> = choice.chunks(each).map(|g| at(g, &top(g, best)).iter().sum()).collect();
    let reached = top(&of_group, chosen);
    for (_, c) in choice.iter_mut().enumerate().filter(|(i, _)| !reached.contains(&(i / each))) {
        // transformers has 0 here: never larger than what is chosen in these tests, and DeepSeek's own code has −∞
        *c = f64::NEG_INFINITY;
    }
    let e = top(&choice, k);
    let w = at(scores, &e);
    let w = if norm { normal(w) } else { w };
    (w.into_iter().map(|v| v * by).collect(), e)
}

/// Weights, experts and the gradient of Σ weights·(1, 2, …) by the logits are those of the rule.
fn check(name: &str, gate: &Gating, rows: &[Vec<f64>], tolerance: f64, rule: impl Fn(&[f64]) -> Routed) {
    let x = Var::from_tensor(&tensor(rows, DType::F64)).expect("logits");
    let (weights, experts) = gate.route(&x).unwrap_or_else(|e| panic!("{name}: {e}"));
    let k = experts.dims()[1];
    let (w, e): (Vec<Vec<f64>>, Vec<Vec<u32>>) =
        (weights.to_dtype(DType::F64).and_then(|w| w.to_vec2()).expect("f64"), experts.to_vec2().expect("u32"));
    let factors = Tensor::arange(1f64, k as f64 + 1.0, &Device::Cpu).expect("factors");
    let loss = weights.to_dtype(DType::F64).and_then(|w| w.broadcast_mul(&factors)?.sum_all()).expect("a loss");
    let store = loss.backward().expect("a gradient");
    let gradient: Vec<Vec<f64>> = store.get(&x).expect("a gradient").to_vec2().expect("f64");
    for (r, row) in rows.iter().enumerate() {
        let (want, places) = rule(row);
        let got: Vec<usize> = e[r].iter().map(|e| *e as usize).collect();
        assert_eq!(got, places, "{name}: experts of row {r}");
        assert!(
            w[r].iter().zip(&want).all(|(a, b)| (a - b).abs() < tolerance),
            "{name}: {:?}, expected {want:?}",
            w[r]
        );
        // central differences, with experts that stay
        for c in 0..row.len() {
            let moved = |by: f64| {
                let mut row = row.clone();
                row[c] += by;
                let (w, p) = rule(&row);
                (p == places).then(|| w.iter().zip(1..).map(|(w, f)| w * f64::from(f)).sum::<f64>())
            };
            let (Some(up), Some(down)) = (moved(1e-6), moved(-1e-6)) else { continue };
            let slope = (up - down) / 2e-6;
            let off = (gradient[r][c] - slope).abs();
            assert!(off < tolerance.max(1e-7) * 30.0, "{name}: d/dx[{r}][{c}] {}, expected {slope}", gradient[r][c]);
        }
    }
}

#[test]
fn gates_are_those_of_the_models() {
    for (experts, k) in [(8, 2), (60, 4), (128, 8), (16, 1)] {
        let x = logits(5, experts, experts as u64);
        let bias = &logits(1, experts, 99)[0].iter().map(|b| b * 0.05).collect::<Vec<_>>();
        let b = Tensor::new(&bias[..], &Device::Cpu).expect("a bias");
        check("Mixtral", &Gating::new(k), &x, 1e-12, |x| of_softmax(x, k, true));
        check("gpt-oss", &Gating::new(k), &x, 1e-12, |x| gpt_oss(x, k));
        check("Qwen2-MoE", &Gating::new(k).renormalise(false), &x, 1e-12, |x| of_softmax(x, k, false));
        let scaled = |x: &[f64], by: f64, norm| {
            let (w, e) = of_softmax(x, k, norm);
            (w.into_iter().map(|v| v * by).collect(), e)
        };
        check("scaled", &Gating::new(k).scale(1.5), &x, 1e-12, |x| scaled(x, 1.5, true));
        check("scaled", &Gating::new(k).renormalise(false).scale(16.0), &x, 1e-12, |x| scaled(x, 16.0, false));
        // with a bias or groups weights are f32
        let sigmoids = Gating::new(k).scoring(Scoring::Sigmoid);
        let none = &vec![0.0; experts];
        let all = [1, 1, 1];
        check("sigmoid", &sigmoids, &x, 1e-12, |x| deepseek(&sigmoid(x), none, k, all, true, 1.0));
        let plain = sigmoids.clone().renormalise(false).scale(2.5);
        check("sigmoid", &plain, &x, 1e-12, |x| deepseek(&sigmoid(x), none, k, all, false, 2.5));
        let glm = sigmoids.clone().bias(&b).groups(1, 1).scale(2.5);
        check("GLM-4.7", &glm, &x, 1e-6, |x| deepseek(&sigmoid(x), bias, k, all, true, 2.5));
        let lfm2 = sigmoids.clone().bias(&b).renormalise(false);
        check("LFM2", &lfm2, &x, 1e-6, |x| deepseek(&sigmoid(x), bias, k, all, false, 1.0));
        let ernie = Gating::new(k).bias(&b);
        check("ERNIE", &ernie, &x, 1e-6, |x| deepseek(&softmax(x), bias, k, all, true, 1.0));
        let v3 = sigmoids.clone().bias(&b).groups(4, 2).scale(2.5);
        check("DeepSeek-V3", &v3, &x, 1e-6, |x| deepseek(&sigmoid(x), bias, k, [4, 2, 2], true, 2.5));
        let unbiased = sigmoids.clone().groups(4, 3);
        check("groups", &unbiased, &x, 1e-6, |x| deepseek(&sigmoid(x), none, k, [4, 3, 2], true, 1.0));
        let v2 = Gating::new(k).renormalise(false).groups_by_largest(4, 2).scale(16.0);
        check("DeepSeek-V2", &v2, &x, 1e-5, |x| deepseek(&softmax(x), none, k, [4, 2, 1], false, 16.0));
        let both = Gating::new(k).bias(&b).groups(4, 2);
        check("softmax, bias and groups", &both, &x, 1e-6, |x| deepseek(&softmax(x), bias, k, [4, 2, 2], true, 1.0));
    }
}

#[test]
fn of_equal_scores_the_lower_is_chosen_and_there_are_always_k() -> zmlx::Result<()> {
    let b = Tensor::zeros(16, DType::F32, &Device::Cpu)?;
    let gates = [
        Gating::new(3),
        Gating::new(3).renormalise(false),
        Gating::new(3).scoring(Scoring::Sigmoid).bias(&b),
        Gating::new(3).scoring(Scoring::Sigmoid).groups(4, 1),
        Gating::new(3).groups(4, 2),
    ];
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let nan = Tensor::new(&[f32::NAN], &Device::Cpu)?.broadcast_as((1, 16))?;
        let low = Tensor::new(&[f32::NEG_INFINITY], &Device::Cpu)?.broadcast_as((1, 16))?;
        let x = Tensor::cat(&[&Tensor::zeros((1, 16), DType::F32, &Device::Cpu)?, &nan, &low], 0)?.to_dtype(dtype)?;
        for gate in &gates {
            let (weights, experts) = gate.route(&x)?;
            assert_eq!(experts.get(0)?.to_vec1::<u32>()?, [0, 1, 2], "{gate:?}");
            for row in experts.to_vec2::<u32>()? {
                assert!(row.iter().all(|e| *e < 16) && row[0] != row[1] && row[1] != row[2] && row[0] != row[2]);
            }
            let w = weights.get(0)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            assert!(w.iter().all(|v| *v == w[0] && v.is_finite()), "{gate:?}: {w:?}");
        }
    }
    Ok(())
}

#[test]
fn a_group_that_is_not_reached_is_never_chosen_whatever_the_bias() -> zmlx::Result<()> {
    // all choices are negative, and 0 would be larger
    let b = Tensor::full(-2f32, 16, &Device::Cpu)?;
    let x = tensor(&logits(7, 16, 3), DType::F32);
    let (_, experts) = Gating::new(4).scoring(Scoring::Sigmoid).bias(&b).groups(4, 1).route(&x)?;
    for row in experts.to_vec2::<u32>()? {
        assert!(row.iter().all(|e| e / 4 == row[0] / 4), "{row:?}");
    }
    Ok(())
}

#[test]
fn a_bias_has_no_gradient_and_16_bits_choose_as_f32() -> zmlx::Result<()> {
    let b = Var::from_tensor(&tensor(&logits(1, 64, 5), DType::F32).squeeze(0)?)?;
    let x = Var::from_tensor(&tensor(&logits(9, 64, 6), DType::BF16))?;
    let gate = Gating::new(6).scoring(Scoring::Sigmoid).bias(&b).groups(8, 4).scale(2.5);
    let (weights, experts) = gate.route(&x)?;
    assert_eq!(weights.dtype(), DType::F32);
    let (of_wide, same) = gate.route(&x.to_dtype(DType::F32)?)?;
    assert_eq!(experts.to_vec2::<u32>()?, same.to_vec2::<u32>()?);
    assert!((&weights - &of_wide)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
    let store = weights.sqr()?.sum_all()?.backward()?;
    assert!(store.get(&b).is_none());
    let g = store.get(&x).expect("a gradient");
    assert_eq!((g.dims(), g.dtype()), (&[9, 64][..], DType::BF16));
    Ok(())
}

#[test]
fn one_token_or_none_and_leading_dimensions() -> zmlx::Result<()> {
    let x = tensor(&logits(6, 32, 8), DType::F32);
    let b = Tensor::zeros(32, DType::F32, &Device::Cpu)?;
    let gate = Gating::new(4).scoring(Scoring::Sigmoid).bias(&b).groups(4, 2);
    let (all, places) = gate.route(&x)?;
    let (weights, experts) = gate.route(&x.reshape((2, 3, 32))?)?;
    assert_eq!((weights.dims(), experts.dims()), (&[2, 3, 4][..], &[2, 3, 4][..]));
    assert_eq!(weights.flatten_to(1)?.to_vec2::<f32>()?, all.to_vec2::<f32>()?);
    let (_, first) = gate.route(&x.get(0)?)?;
    assert_eq!(first.to_vec1::<u32>()?, places.get(0)?.to_vec1::<u32>()?);
    assert_eq!(gate.route(&x.narrow(0, 0, 0)?)?.0.dims(), [0, 4]);
    Ok(())
}

#[test]
fn what_cannot_be_is_told() -> zmlx::Result<()> {
    let x = tensor(&logits(2, 12, 8), DType::F32);
    let told = |gate: &Gating| gate.route(&x).expect_err("a mistake").to_string();
    let b = Tensor::zeros(11, DType::F32, &Device::Cpu)?;
    assert_eq!(
        told(&Gating::new(2).bias(&b)),
        "top_k_gating: bias has shape [11], expected [12] of floats, one an expert"
    );
    assert_eq!(told(&Gating::new(13)), "top_k_gating: k, expected 1 to 12, for 12 experts, got 13");
    let many = "top_k_gating: groups, expected 1 to 16, of equal size and 2 experts at least, for 12 experts, got";
    assert_eq!(told(&Gating::new(2).groups(5, 2)), format!("{many} 5"));
    assert_eq!(told(&Gating::new(2).groups(12, 2)), format!("{many} 12"));
    assert_eq!(
        told(&Gating::new(7).groups(4, 2)),
        "top_k_gating: chosen groups, expected 3 to 4, for 7 experts of 3 a group, got 2"
    );
    let plain = top_k_gating(&x, 3)?;
    assert_eq!(plain.1.to_vec2::<u32>()?, Gating::new(3).groups(4, 4).route(&x)?.1.to_vec2::<u32>()?);
    Ok(())
}
