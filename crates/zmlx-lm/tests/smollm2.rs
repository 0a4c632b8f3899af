//! A real model, SmolLM2-135M-Instruct in 4 bits: what it answers is what transformers says with the same weights, token by token.
//! `.ci/smollm2.sh` fetches it; without it these tests say that they were not run.

use candle_core::{Device, Tensor};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use zmlx_lm::{
    Checkpoint, Load, Model, Result,
    patch::{ALL_PATTERNS, patch},
    text::{Generation, Message, Options, Tokenizer, generate_batch},
};

/// Made by tests/oracle/smollm2.py.
const EXPECTED: &str = include_str!("smollm2.json");

#[derive(Deserialize)]
struct Case {
    question: String,
    prompt: String,
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    text: String,
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

fn options(tokenizer: &Tokenizer) -> Options {
    Options { max_tokens: 48, ends: tokenizer.ends.clone(), ..Options::default() }
}

#[test]
fn the_chat_template_and_tokens_are_those_of_transformers() -> Result<()> {
    let Some(file) = file() else { return Ok(()) };
    let tokenizer = Tokenizer::of(&Checkpoint::open(file)?)?;
    for case in cases() {
        let said = [Message::new("user", case.question)];
        assert_eq!(tokenizer.template.as_ref().map(|t| t.render(&said)).transpose()?, Some(case.prompt));
        assert_eq!(tokenizer.encode_chat(&said)?, case.prompt_tokens);
        assert_eq!(tokenizer.decode(&case.tokens)?, case.text);
        let mut stream = tokenizer.stream();
        let mut pieces = case.tokens.iter().map(|t| stream.push(*t)).collect::<Result<Vec<_>>>()?;
        pieces.push(stream.finish()?);
        assert_eq!(pieces.concat(), case.text);
    }
    Ok(())
}

#[test]
fn texts_of_all_kinds_have_the_tokens_of_transformers() -> Result<()> {
    #[derive(Deserialize)]
    struct Text {
        text: String,
        tokens: Vec<u32>,
    }
    let Some(file) = file() else { return Ok(()) };
    let tokenizer = Tokenizer::of(&Checkpoint::open(file)?)?;
    let texts: Vec<Text> = serde_json::from_str(include_str!("smollm2_texts.json")).expect("json");
    for Text { text, tokens } in texts {
        assert_eq!(tokenizer.encode(&text, true)?, tokens, "{text:?}");
    }
    Ok(())
}

#[test]
fn greedy_answers_are_those_of_transformers_alone_and_in_a_batch() -> Result<()> {
    let Some(file) = file() else { return Ok(()) };
    let tokenizer = Tokenizer::of(&Checkpoint::open(&file)?)?;
    let (model, cases) = (model(&file, true)?, cases());
    for case in &cases {
        let prompt = Tensor::new(case.prompt_tokens.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let logits = model.forward_once(&prompt)?.squeeze(0)?.get(case.prompt_tokens.len() - 1)?.to_vec1::<f32>()?;
        let off = case.logits.iter().zip(&logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 2e-3, "{}: {off}", case.question);
        let answer = Generation::new(&model, &case.prompt_tokens, &options(&tokenizer))?;
        assert_eq!(answer.collect::<Result<Vec<_>>>()?, case.tokens, "{}", case.question);
    }
    let prompts: Vec<Vec<u32>> = cases.iter().map(|c| c.prompt_tokens.clone()).collect();
    let answers: Vec<Vec<u32>> = cases.into_iter().map(|c| c.tokens).collect();
    assert_eq!(generate_batch(&model, &prompts, &options(&tokenizer))?, answers);
    Ok(())
}

/// Its blocks are affine codes too, so activations are not rounded and greedy answers stay the same.
#[test]
fn weights_of_four_bits_give_the_same_answers() -> Result<()> {
    let Some(file) = file() else { return Ok(()) };
    let tokenizer = Tokenizer::of(&Checkpoint::open(&file)?)?;
    let model = model(&file, false)?;
    assert_eq!(model.embed_tokens.matrix.format(), "affine 8 bits, groups of 32");
    for case in cases() {
        let answer = Generation::new(&model, &case.prompt_tokens, &options(&tokenizer))?;
        assert_eq!(answer.collect::<Result<Vec<_>>>()?, case.tokens, "{}", case.question);
    }
    Ok(())
}

#[test]
fn patched_it_gives_the_same_answers() -> Result<()> {
    let Some(file) = file() else { return Ok(()) };
    let tokenizer = Tokenizer::of(&Checkpoint::open(&file)?)?;
    for dequantize in [false, true] {
        let mut model = model(&file, dequantize)?;
        let report = patch(&mut model, ALL_PATTERNS)?;
        let layers = model.layers.len();
        let swapped = [layers, 0, 0, 2 * layers + 1, 0, layers, layers, 0, layers];
        assert_eq!(report.counts().into_iter().map(|(_, n)| n).collect::<Vec<_>>(), swapped, "{}", report.summary());
        for case in cases() {
            let answer = Generation::new(&model, &case.prompt_tokens, &options(&tokenizer))?;
            assert_eq!(answer.collect::<Result<Vec<_>>>()?, case.tokens, "{}", case.question);
        }
    }
    Ok(())
}
