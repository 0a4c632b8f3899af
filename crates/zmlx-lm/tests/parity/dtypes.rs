//! Models of every type in other dtypes, and their gradients.

use crate::tiny::{Tensors, Tiny, device, load};
use candle_core::{DType, Tensor, Var};
use zmlx_lm::{
    Model, Result,
    blocks::{Block, Matrix},
    models,
};

fn base(model_type: &str, dtype: DType) -> Result<(Tiny, Model)> {
    let tiny = Tiny::named(&format!("{model_type}.base"))?;
    let model = models::load(&tiny.config, Tensors(tiny.tensors()?), dtype, &load())?;
    Ok((tiny, model))
}

/// Logits of the prompt, by the cached path.
fn logits(tiny: &Tiny, model: &Model) -> Result<Tensor> {
    let prompt = Tensor::new(&tiny.prompt[..], &device())?.unsqueeze(0)?;
    let logits = model.forward(&prompt, &mut model.new_cache(1, tiny.prompt.len())?)?;
    assert_eq!(logits.dtype(), model.facts.dtype, "{}", tiny.name);
    Ok(logits.to_dtype(DType::F64)?)
}

#[test]
fn models_of_16_bits_say_nearly_the_same_and_those_of_64_the_same() -> Result<()> {
    for model_type in models::MODEL_TYPES {
        let (tiny, model) = base(model_type.name, DType::F64)?;
        let exact = logits(&tiny, &model)?;
        // of the root of the mean square of all logits; an expert that is chosen by a hair may be another in 16 bits
        for (dtype, most) in [(DType::F32, 1e-5), (DType::F16, 0.05), (DType::BF16, 0.1)] {
            let (_, model) = base(model_type.name, dtype)?;
            let off = (logits(&tiny, &model)? - &exact)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
            let off = (off / exact.sqr()?.mean_all()?.to_scalar::<f64>()?).sqrt();
            println!("{}: {dtype:?} is off by {off:.1e}", tiny.name);
            assert!(off < most, "{}: {dtype:?} is off by {off}", tiny.name);
        }
    }
    Ok(())
}

/// Puts a variable in the place of every weight; gives their names.
pub fn variables(model: &mut Model) -> Vec<(String, Var)> {
    let mut all = vec![];
    model.visit(&mut |block| {
        let name = block.name().to_string();
        let mut of = |part: &str, t: &mut Tensor| {
            let var = Var::from_tensor(&t.contiguous().expect("a copy")).expect("a variable");
            *t = var.as_tensor().clone();
            all.push((format!("{name}.{part}"), var));
        };
        let mut matrix = |m: &mut Matrix| match m {
            Matrix::Dense(t) => of("weight", t),
            _ => panic!("{name} is not dense"),
        };
        match block {
            Block::Embedding(b) => matrix(&mut b.matrix),
            Block::Linear(b) => {
                matrix(&mut b.matrix);
                b.bias.iter_mut().for_each(|t| of("bias", t));
            }
            Block::ExpertLinear(b) => {
                matrix(&mut b.matrix);
                b.bias.iter_mut().for_each(|t| of("bias", t));
            }
            Block::Norm(b) => {
                of("weight", &mut b.weight);
                b.bias.iter_mut().for_each(|t| of("bias", t));
            }
            Block::Taps(b) => {
                of("weight", &mut b.weight);
                b.bias.iter_mut().for_each(|t| of("bias", t));
            }
            Block::Sdpa(b) => b.sinks.iter_mut().for_each(|t| of("sinks", t)),
            Block::Rope(_) | Block::Mlp(_) | Block::Router(_) | Block::Experts(_) => {}
        }
    });
    all
}

#[test]
fn gradients_reach_every_weight_and_are_those_of_central_differences() -> Result<()> {
    for model_type in models::MODEL_TYPES {
        let (tiny, mut model) = base(model_type.name, DType::F64)?;
        let all = variables(&mut model);
        let text = [&tiny.prompt[..], &tiny.greedy].concat();
        let text = Tensor::new(text, &device())?.unsqueeze(0)?;
        // some function of all logits
        let loss = |model: &Model| -> Result<Tensor> { Ok((model.forward_once(&text)? * 0.3)?.tanh()?.mean_all()?) };
        let grads = loss(&model)?.backward()?;
        let (mut along, mut moves) = (0.0, vec![]);
        for (i, (name, var)) in all.iter().enumerate() {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{}: no gradient of {name}", tiny.name));
            assert!(grad.abs()?.max_all()?.to_scalar::<f64>()? > 0.0, "{}: no gradient of {name}", tiny.name);
            let n = var.elem_count();
            let step: Vec<f64> = (0..n).map(|k| ((k * 7 + i * 13) % 11) as f64 / 11.0 - 0.45).collect();
            let step = Tensor::from_vec(step, var.shape(), &device())?;
            along += (grad * &step)?.sum_all()?.to_scalar::<f64>()?;
            moves.push((var, var.as_tensor().copy()?, step));
        }
        let at = |h: f64| -> Result<f64> {
            moves.iter().try_for_each(|(var, from, step)| var.set(&(from + (step * h)?)?))?;
            Ok(loss(&model)?.to_scalar::<f64>()?)
        };
        let difference = (at(1e-5)? - at(-1e-5)?) / 2e-5;
        println!("{}: {along} along a line, {difference} by differences", tiny.name);
        assert!((along - difference).abs() < 1e-6 * along.abs().max(1e-3), "{}: {along}, {difference}", tiny.name);
    }
    Ok(())
}
