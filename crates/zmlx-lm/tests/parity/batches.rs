//! Texts of several lengths in one batch, and prompts in several parts, give what each text gives alone and at once.

use crate::tiny::{Tensors, Tiny, device, load};
use candle_core::{DType, Tensor};
use zmlx_lm::{Model, Result, models};

fn every_type(check: impl Fn(&str, &Model) -> Result<()>) -> Result<()> {
    for model_type in models::MODEL_TYPES {
        let tiny = Tiny::named(&format!("{}.base", model_type.name))?;
        let model = models::load(&tiny.config, Tensors(tiny.tensors()?), DType::F32, &load())?;
        check(&tiny.name, &model)?;
    }
    Ok(())
}

fn tokens(text: &[u32]) -> Result<Tensor> {
    Ok(Tensor::new(text, &device())?.unsqueeze(0)?)
}

fn off(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.max_all()?.to_scalar()?)
}

#[test]
fn texts_of_several_lengths_share_a_batch() -> Result<()> {
    let (long, short) = ([3u32, 1, 4, 1, 5, 9, 2, 6], [2u32, 7, 1]);
    every_type(|name, model| {
        // the short one is padded with anything, and both go on by two tokens
        let both = Tensor::new(&[long, [2, 7, 1, 49, 49, 49, 49, 49]], &device())?;
        let mut cache = model.new_cache(2, 16)?;
        model.forward(&both, &mut cache)?;
        cache.set_lengths(&[8, 3])?;
        model.forward(&Tensor::new(&[[7u32], [8]], &device())?, &mut cache)?;
        let next = model.forward(&Tensor::new(&[[5u32], [6]], &device())?, &mut cache)?;
        for (row, text) in [[&long[..], &[7, 5]].concat(), [&short[..], &[8, 6]].concat()].into_iter().enumerate() {
            let alone = model.forward_once(&tokens(&text)?)?.narrow(1, text.len() - 1, 1)?;
            let off = off(&alone, &next.narrow(0, row, 1)?)?;
            assert!(off < 1e-4, "{name}: row {row} is off by {off}");
        }
        Ok(())
    })
}

#[test]
fn a_prompt_in_parts_gives_the_logits_of_the_whole() -> Result<()> {
    let text = [3u32, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];
    every_type(|name, model| {
        let whole = model.forward_once(&tokens(&text)?)?;
        let mut cache = model.new_cache(1, text.len())?;
        let parts = [&text[..1], &text[1..6], &text[6..7], &text[7..]].map(tokens);
        let parts = parts.into_iter().map(|part| model.forward(&part?, &mut cache)).collect::<Result<Vec<_>>>()?;
        let off = off(&whole, &Tensor::cat(&parts, 1)?)?;
        assert!(off < 1e-4, "{name} is off by {off}");
        Ok(())
    })
}
