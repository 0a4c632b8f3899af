//! A real model, SmolLM2-135M-Instruct in 4 bits: what it answers is what transformers says with the same weights, token by token.
//! `.ci/smollm2.sh` fetches it; without it these tests say that they were not run.

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use zmlx_lm::{Checkpoint, Load, Model, Result};

/// Made by tests/oracle/smollm2.py.
const EXPECTED: &str = include_str!("smollm2.json");

#[derive(Deserialize)]
struct Case {
    question: String,
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(EXPECTED).expect("json")
}

fn file() -> Option<PathBuf> {
    let name = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
    // beside the folder that this test was built in
    let here = std::env::current_exe().ok()?;
    let found = here.ancestors().map(|folder| folder.join(name)).find(|file| file.exists());
    if found.is_none() {
        println!("not run: no {name}; .ci/smollm2.sh fetches it");
    }
    found
}

fn model(file: &Path, dequantize: bool) -> Result<Model> {
    Checkpoint::open(file)?.model(&Load { dequantize, ..Load::default() })
}

/// Greedy tokens, and the logits of the first.
fn greedy(model: &Model, prompt: &[u32], many: usize, end: u32) -> Result<(Vec<u32>, Vec<f32>)> {
    let mut cache = model.new_cache(1, prompt.len() + many)?;
    let (mut next, mut made, mut first) = (prompt.to_vec(), vec![], vec![]);
    while made.len() < many {
        let hidden = model.hidden(&Tensor::new(next, &Device::Cpu)?.unsqueeze(0)?, &mut cache)?;
        let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?;
        let logits = model.head(&last)?.flatten_all()?.to_dtype(DType::F32)?;
        if first.is_empty() {
            first = logits.to_vec1()?;
        }
        let token = logits.argmax(0)?.to_scalar::<u32>()?;
        if token == end {
            break;
        }
        made.push(token);
        next = vec![token];
    }
    Ok((made, first))
}

#[test]
fn greedy_tokens_are_those_of_transformers() -> Result<()> {
    let Some(file) = file() else { return Ok(()) };
    let model = model(&file, true)?;
    for case in cases() {
        let (tokens, logits) = greedy(&model, &case.prompt_tokens, 48, 2)?;
        assert_eq!(tokens, case.tokens, "{}", case.question);
        let off = case.logits.iter().zip(&logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 2e-3, "{}: {off}", case.question);
    }
    Ok(())
}

/// candle rounds activations to 8 bits beside blocks, as llama.cpp does: so logits are near, and the choice between two that are
/// nearly equal may be another.
#[test]
fn blocks_of_four_bits_give_nearly_the_same_logits() -> Result<()> {
    let Some(file) = file() else { return Ok(()) };
    let (blocks, dense) = (model(&file, false)?, model(&file, true)?);
    for case in cases() {
        let text = [case.prompt_tokens, case.tokens].concat();
        let text = Tensor::new(text, &Device::Cpu)?.unsqueeze(0)?;
        let (a, b) = (blocks.forward_once(&text)?, dense.forward_once(&text)?);
        let off = (&a - &b)?.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
        let size = b.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
        assert!(off < 0.05 * size, "{}: {off} of {size}", case.question);
    }
    Ok(())
}
