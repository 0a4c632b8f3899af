//! Models of random weights: what holds of any of them, whatever their numbers.

use candle_core::{DType, Device, Tensor};
use zmlx_lm::{Config, Load, Model, Result, models, weights::random::Random};

/// A small model of this JSON.
fn model(json: &str) -> Result<Model> {
    let config = Config::parse("config.json", json)?;
    models::load(&config, Random { seed: 1 }, DType::F32, &Load::default())
}

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}"#;

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.max_all()?.to_scalar()?)
}

#[test]
fn cached_decode_gives_the_logits_of_the_whole_text() -> Result<()> {
    let model = model(LLAMA)?;
    let tokens = Tensor::new(&[[3u32, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]], &Device::Cpu)?;
    let whole = model.forward_once(&tokens)?;
    assert_eq!(whole.dims(), [2, 8, 50]);
    let mut cache = model.new_cache(2, 8)?;
    let mut parts = vec![model.forward(&tokens.narrow(1, 0, 5)?, &mut cache)?];
    for t in 5..8 {
        parts.push(model.forward(&tokens.narrow(1, t, 1)?, &mut cache)?);
    }
    assert!(largest_difference(&whole, &Tensor::cat(&parts, 1)?)? < 1e-5);
    let full = model.forward(&tokens.narrow(1, 0, 1)?, &mut cache).map_or_else(|e| e.to_string(), |_| "logits".into());
    assert_eq!(full, "forward: tokens, expected 1 to 0, as 8 of 8 are there, got 1");
    Ok(())
}

/// As on a GPU, where a token's launches are the same as those of the token before.
#[test]
fn keys_behind_a_text_are_not_seen() -> Result<()> {
    let model = model(LLAMA)?;
    let tokens = Tensor::new(&[[3u32, 1, 4, 1, 5, 9, 2, 6, 5, 3]], &Device::Cpu)?;
    let whole = model.forward_once(&tokens)?;
    let mut cache = model.new_cache(1, 14)?;
    cache.set_grain(4);
    for t in 0..10 {
        let logits = model.forward(&tokens.narrow(1, t, 1)?, &mut cache)?;
        assert!(largest_difference(&whole.narrow(1, t, 1)?, &logits)? < 1e-5, "token {t}");
    }
    Ok(())
}

#[test]
fn texts_of_several_lengths_share_a_batch() -> Result<()> {
    let model = model(LLAMA)?;
    let (long, short) = ([3u32, 1, 4, 1, 5, 9], [2u32, 7, 1]);
    // the short one is padded with anything
    let both = Tensor::new(&[long, [2, 7, 1, 49, 49, 49]], &Device::Cpu)?;
    let mut cache = model.new_cache(2, 16)?;
    model.forward(&both, &mut cache)?;
    cache.set_lengths(&[6, 3])?;
    let next = model.forward(&Tensor::new(&[[7u32], [7]], &Device::Cpu)?, &mut cache)?;
    for (row, text) in [&long[..], &short[..]].into_iter().enumerate() {
        let alone = [text, &[7]].concat();
        let alone = model.forward_once(&Tensor::new(alone, &Device::Cpu)?.unsqueeze(0)?)?;
        let last = alone.narrow(1, text.len(), 1)?;
        assert!(largest_difference(&last, &next.narrow(0, row, 1)?)? < 1e-5);
    }
    Ok(())
}
