//! Patched models say what they say unpatched.

use crate::{
    dtypes::variables,
    tiny::{Tensors, Tiny, device, load, of_type},
};
use candle_core::{DType, Tensor};
use zmlx::Tune;
use zmlx_lm::{
    Mode, Model, Result,
    blocks::{Activation, Block, Norm, NormKind},
    models,
    patch::{self, ALL_PATTERNS, FUSED_ACTIVATIONS, Options, SmartOptions, TRAINING_RECOMMENDED},
};

fn model_of(tiny: &Tiny, dtype: DType) -> Result<Model> {
    models::load(&tiny.config, Tensors(tiny.tensors()?), dtype, &load())
}

/// Every tiny model.
fn all() -> Result<Vec<Tiny>> {
    models::MODEL_TYPES.iter().flat_map(|m| of_type(m.name)).map(|name| Tiny::named(&name)).collect()
}

/// The first of each type.
fn bases() -> Result<Vec<Tiny>> {
    models::MODEL_TYPES.iter().map(|m| Tiny::named(&format!("{}.base", m.name))).collect()
}

fn best(row: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).fold(0, better) as u32
}

/// The greedy answer of `count` tokens.
fn greedy(tiny: &Tiny, model: &Model, count: usize) -> Result<Vec<u32>> {
    let mut cache = model.new_cache(1, tiny.prompt.len() + count)?;
    let (mut text, mut answer) = (tiny.prompt.clone(), vec![]);
    while answer.len() < count {
        let logits = model.forward(&Tensor::new(&text[..], &device())?.unsqueeze(0)?, &mut cache)?;
        let last = logits.get(0)?.get(text.len() - 1)?.to_dtype(DType::F32)?.to_vec1()?;
        answer.push(best(&last));
        text = vec![best(&last)];
    }
    Ok(answer)
}

/// Logits of the oracle's text, `[t, vocab]`.
fn logits(tiny: &Tiny, model: &Model) -> Result<Vec<Vec<f64>>> {
    let text = Tensor::new([&tiny.prompt[..], &tiny.greedy].concat(), &device())?.unsqueeze(0)?;
    Ok(patch::logits_of(model, &text)?.squeeze(0)?.to_dtype(DType::F64)?.to_vec2()?)
}

#[test]
fn patched_models_of_f32_give_the_same_128_tokens() -> Result<()> {
    for tiny in all()? {
        let mut model = model_of(&tiny, DType::F32)?;
        let expected = greedy(&tiny, &model, 128)?;
        // the others are parts of the last one
        let presets = [FUSED_ACTIVATIONS, TRAINING_RECOMMENDED, ALL_PATTERNS];
        for preset in if tiny.name.ends_with(".base") { &presets[..] } else { &presets[2..] } {
            let report = patch::patch(&mut model, *preset)?;
            assert!(!report.swapped.is_empty(), "{}: {}", tiny.name, report.summary());
            assert_eq!(greedy(&tiny, &model, 128)?, expected, "{}: {}", tiny.name, report.summary());
            patch::unpatch(&mut model);
        }
    }
    Ok(())
}

#[test]
fn each_pattern_alone_keeps_the_logits() -> Result<()> {
    for tiny in bases()? {
        let mut model = model_of(&tiny, DType::F32)?;
        let expected = logits(&tiny, &model)?.concat();
        for name in ALL_PATTERNS {
            patch::patch(&mut model, [*name])?;
            let got = logits(&tiny, &model)?.concat();
            let off = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-4, "{}: {name} is off by {off}", tiny.name);
            patch::unpatch(&mut model);
        }
    }
    Ok(())
}

#[test]
fn unpatching_restores_every_bit_and_patching_twice_is_once() -> Result<()> {
    for dtype in [DType::F32, DType::BF16] {
        for tiny in bases()? {
            let mut model = model_of(&tiny, dtype)?;
            let (before, plain) = (logits(&tiny, &model)?, format!("{model:?}"));
            let first = patch::patch(&mut model, ALL_PATTERNS)?;
            let (once, patched) = (logits(&tiny, &model)?, format!("{model:?}"));
            let second = patch::patch(&mut model, ALL_PATTERNS)?;
            assert_eq!((second.swapped.len(), second.already), (0, first.swapped.len()), "{}", tiny.name);
            assert_eq!(format!("{model:?}"), patched, "{}", tiny.name);
            assert_eq!(logits(&tiny, &model)?, once, "{}", tiny.name);
            assert_eq!(patch::unpatch(&mut model), first.swapped.len(), "{}", tiny.name);
            assert_eq!(format!("{model:?}"), plain, "{}", tiny.name);
            assert_eq!(logits(&tiny, &model)?, before, "{}", tiny.name);
            assert_eq!(patch::unpatch(&mut model), 0);
        }
    }
    Ok(())
}

#[test]
fn gradients_of_every_parameter_are_those_of_the_unpatched_model() -> Result<()> {
    let text = |tiny: &Tiny| Tensor::new([&tiny.prompt[..], &tiny.greedy].concat(), &device())?.unsqueeze(0);
    for (dtype, bound) in [(DType::F64, 1e-9_f64), (DType::F32, 2e-4)] {
        for tiny in bases()? {
            // candle's gradient of gelu has constants of six digits
            let bound = if tiny.config.model_type == "gemma3_text" { bound.max(1e-6) } else { bound };
            let mut model = model_of(&tiny, dtype)?;
            let all = variables(&mut model);
            let text = text(&tiny)?;
            let grads = |model: &Model| -> Result<_> {
                Ok((model.forward_once(&text)? * 0.3)?.tanh()?.mean_all()?.backward()?)
            };
            let expected = grads(&model)?;
            for options in [Options::from(Mode::Training), ALL_PATTERNS.into()] {
                let report = patch::patch(&mut model, options)?;
                assert!(!report.swapped.is_empty());
                let got = grads(&model)?;
                for (name, var) in &all {
                    let of = |grads: &candle_core::backprop::GradStore| -> Result<Tensor> {
                        let grad = grads.get(var).unwrap_or_else(|| panic!("{}: no gradient of {name}", tiny.name));
                        Ok(grad.to_dtype(DType::F64)?)
                    };
                    let (got, expected) = (of(&got)?, of(&expected)?);
                    let off = (got - &expected)?.abs()?.max_all()?.to_scalar::<f64>()?;
                    let most = expected.abs()?.max_all()?.to_scalar::<f64>()?;
                    assert!(off <= bound * most, "{}, {dtype:?}: {name} is off by {off} of {most}", tiny.name);
                }
                patch::unpatch(&mut model);
            }
        }
    }
    Ok(())
}

/// Root of the mean square.
fn size(x: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = x.fold((0.0, 0), |(sum, n), x| (sum + x * x, n + 1));
    (sum / n as f64).sqrt()
}

#[test]
fn patched_models_of_16_bits_are_no_farther_from_the_exact_ones() -> Result<()> {
    for (dtype, bound) in [(DType::F16, 0.05), (DType::BF16, 0.25)] {
        let (mut offs, mut places, mut disagreements) = ([0.0; 2], 0, 0);
        for tiny in bases()? {
            let exact = logits(&tiny, &model_of(&tiny, DType::F64)?)?;
            let mut model = model_of(&tiny, dtype)?;
            let plain = logits(&tiny, &model)?;
            patch::patch(&mut model, ALL_PATTERNS)?;
            let patched = logits(&tiny, &model)?;
            let scale = size(exact.iter().flatten().copied());
            let off =
                |of: &[Vec<f64>]| size(of.iter().flatten().zip(exact.iter().flatten()).map(|(a, b)| a - b)) / scale;
            let (a, b) = (off(&plain), off(&patched));
            println!("{} {dtype:?}: unpatched off by {a:.1e}, patched by {b:.1e}", tiny.name);
            offs[0] += a;
            offs[1] += b;
            let best = |row: &[f64]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            for (plain, patched) in plain.iter().zip(&patched) {
                places += 1;
                let (one, other) = (best(plain), best(patched));
                if one != other {
                    disagreements += 1;
                    let apart = (plain[one] - plain[other]).abs() / scale;
                    assert!(apart < bound, "{} {dtype:?}: {apart} apart", tiny.name);
                }
            }
        }
        println!("{dtype:?}: {disagreements} of {places} tokens differ; off by {offs:?} in all");
        assert!(offs[1] <= 1.1 * offs[0], "{dtype:?}: {offs:?}");
    }
    Ok(())
}

#[test]
fn smart_patch_keeps_what_is_right_and_reverts_the_rest() -> Result<()> {
    let tiny = Tiny::named("qwen3_moe.base")?;
    let mut model = model_of(&tiny, DType::F32)?;
    let sample = Tensor::new(&tiny.prompt[..], &device())?.unsqueeze(0)?;
    let plain = (format!("{model:?}"), logits(&tiny, &model)?);
    // nothing is a thousand times as fast
    let never = SmartOptions { threshold: 1000.0, iters: 1, warmup: 0, ..SmartOptions::default() };
    let report = patch::smart_patch(&mut model, &sample, &never)?;
    assert!(report.swapped.is_empty() && report.benchmarks.iter().all(|b| !b.kept && b.ratio.is_some()));
    assert_eq!((format!("{model:?}"), logits(&tiny, &model)?), plain);
    // everything is at least not slower than this
    let always = SmartOptions { threshold: 0.0, iters: 1, warmup: 0, ..SmartOptions::default() };
    let report = patch::smart_patch(&mut model, &sample, &always)?;
    let kept: Vec<&str> = report.benchmarks.iter().filter(|b| b.kept).map(|b| b.pattern).collect();
    assert_eq!(kept, ["moe_mlp", "rms_norm", "residual_norm", "attention", "rope_qk"], "{}", report.summary());
    assert_eq!(patch::unpatch(&mut model), report.swapped.len());
    // no output is as right as this, but one that is the same
    let forward = |model: &Model, x: &Tensor| -> Result<Tensor> { Ok((model.forward_once(x)? + 1.0)?) };
    let exact = SmartOptions { bound: Some(-1.0), forward: Some(&forward), iters: 1, ..SmartOptions::default() };
    let report = patch::smart_patch(&mut model, &sample, &exact)?;
    assert!(report.benchmarks.iter().all(|b| !b.kept && b.ratio.is_none()), "{}", report.summary());
    assert!(report.summary().contains("reverted, its output is another"), "{}", report.summary());
    assert_eq!((format!("{model:?}"), logits(&tiny, &model)?), plain);
    Ok(())
}

#[test]
fn options_choose_patterns_and_names_that_are_not_known_are_told() -> Result<()> {
    let tiny = Tiny::named("llama.base")?;
    let mut model = model_of(&tiny, DType::F32)?;
    let layers = model.layers.len();
    let options = Options { threadgroup: Tune::Off, ..Options::from(["swiglu_mlp", "rms_norm", "swiglu_mlp"]) };
    let report = patch::patch(&mut model, options.exclude(&["rms_norm"]))?;
    assert_eq!(report.counts(), [("swiglu_mlp", layers)]);
    let report = patch::patch(&mut model, ["moe_mlp", "geglu_mlp"])?;
    assert_eq!(report.absent, ["moe_mlp"]);
    assert!(report.summary().contains("geglu_mlp: 0 swapped; 2 not: its activation is Silu"), "{}", report.summary());
    let wrong = patch::patch(&mut model, ["swiglu"]).expect_err("no such pattern").to_string();
    assert_eq!(wrong, format!("patch: pattern, expected one of {}, got swiglu", ALL_PATTERNS.join(", ")));
    assert_eq!(patch::unpatch(&mut model), layers);
    Ok(())
}

#[test]
fn every_pattern_is_in_the_list_of_all() {
    let mut all = ALL_PATTERNS.to_vec();
    all.sort_unstable();
    assert_eq!(all, patch::PATTERNS.iter().map(|p| p.name).collect::<Vec<_>>());
}

#[test]
fn a_kernel_of_somebody_else_stays() -> Result<()> {
    let tiny = Tiny::named("llama.base")?;
    let mut model = model_of(&tiny, DType::F32)?;
    model.visit(&mut |block| {
        if let Block::Mlp(mlp) = block {
            mlp.kernel.put("mine", std::sync::Arc::new(Activation::gated));
        }
    });
    let report = patch::patch(&mut model, ["swiglu_mlp"])?;
    assert!(report.swapped.is_empty() && report.skipped[0].why == "the kernel `mine` is in its place");
    assert_eq!(patch::unpatch(&mut model), 0);
    model.visit(&mut |block| {
        if let Block::Mlp(mlp) = block {
            assert_eq!(mlp.kernel.name(), Some("mine"));
        }
    });
    Ok(())
}

/// No model type has these: a LayerNorm, and the gate by erf.
#[test]
fn layer_norms_and_gates_by_erf_are_swapped_too() -> Result<()> {
    let tiny = Tiny::named("llama.base")?;
    for bias in [false, true] {
        let mut model = model_of(&tiny, DType::F32)?;
        model.visit(&mut |block| match block {
            Block::Mlp(mlp) => mlp.activation = Activation::GeluErf,
            Block::Norm(norm) => {
                let b = bias.then(|| (&norm.weight * 0.1).expect("numbers"));
                *norm = Norm::new(&norm.name, norm.weight.clone(), b, 1e-5, NormKind::Layer).expect("a norm");
            }
            _ => {}
        });
        let expected = logits(&tiny, &model)?.concat();
        let report = patch::patch(&mut model, TRAINING_RECOMMENDED)?;
        let layers = model.layers.len();
        let residual = if bias { layers } else { 0 };
        let counts = [
            ("swiglu_mlp", 0),
            ("geglu_mlp", layers),
            ("rms_norm", 0),
            ("layer_norm", 2 * layers + 1),
            ("residual_norm", residual),
        ];
        assert_eq!(report.counts(), counts);
        let got = logits(&tiny, &model)?.concat();
        let off = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-4, "off by {off}");
    }
    Ok(())
}
