//! The text files of a folder, and what generation promises for any model.

mod files;

use candle_core::{Device, Tensor};
use files::{Scratch, random, write_folder};
use std::fs;
use zmlx_lm::{
    Checkpoint, Result,
    text::{Generation, Message, Options, Sampling, Tokenizer, generate_batch},
};

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50, "rms_norm_eps": 1e-5, "max_position_embeddings": 24}"#;

/// Bytes of two letters and of half a letter, so that no token alone is text.
const TOKENIZER: &str = r#"{"version": "1.0", "added_tokens": [
      {"id": 4, "content": "<s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
      {"id": 5, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "Ã": 2, "¼": 3, "<s>": 4, "</s>": 5, "ab": 6}, "merges": [["a", "b"]]}}"#;

fn folder(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let write = |file: &str, text: &str| fs::write(scratch.0.join(file), text).expect("written");
    write("config.json", LLAMA);
    write("tokenizer.json", TOKENIZER);
    let settings = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{{ bos_token }}{{ messages[-1].content }}"}"#;
    write("tokenizer_config.json", settings);
    scratch
}

#[test]
fn a_folder_brings_its_tokenizer_its_template_and_its_ends() -> Result<()> {
    let scratch = folder("tokenizer");
    let tokenizer = Tokenizer::of(&Checkpoint::open(&scratch.0)?)?;
    let said = [Message::new("user", "abaü")];
    assert_eq!(tokenizer.encode_chat(&said)?, [4, 6, 0, 2, 3]);
    assert_eq!(tokenizer.ends.iter().copied().collect::<Vec<_>>(), [5]);
    // a letter is told when all of its bytes are there
    let mut stream = tokenizer.stream();
    let pieces = [6, 2, 3, 0].map(|t| stream.push(t).expect("text"));
    assert_eq!(pieces, ["ab", "", "ü", "a"]);
    assert_eq!(stream.push(2)?, "");
    assert_eq!(stream.finish()?, "\u{fffd}");
    fs::write(scratch.0.join("chat_template.jinja"), "{{ raise_exception('never') }}").expect("written");
    fs::write(scratch.0.join("generation_config.json"), r#"{"eos_token_id": [5, 0]}"#).expect("written");
    let tokenizer = Tokenizer::of(&Checkpoint::open(&scratch.0)?)?;
    assert!(tokenizer.encode_chat(&said).unwrap_err().to_string().contains("never"));
    assert_eq!(tokenizer.ends.iter().copied().collect::<Vec<_>>(), [0, 5]);
    Ok(())
}

#[test]
fn text_files_that_do_not_fit_are_told() -> Result<()> {
    let scratch = folder("text-mistakes");
    let told = || match Checkpoint::open(&scratch.0).and_then(|c| Tokenizer::of(&c)) {
        Ok(t) => t.encode_chat(&[]).map_or_else(|e| e.to_string(), |_| "tokens".into()),
        Err(e) => e.to_string(),
    };
    let write = |file: &str, text: &str| fs::write(scratch.0.join(file), text).expect("written");
    write("tokenizer_config.json", r#"{"eos_token": "</s>"}"#);
    assert!(told().ends_with("chat template, expected one in the checkpoint, got none"));
    write("tokenizer_config.json", "{}");
    assert!(Checkpoint::open(&scratch.0).and_then(|c| Tokenizer::of(&c))?.ends.is_empty());
    write("chat_template.jinja", "{% for %}");
    assert!(told().contains("expected a template in Jinja"));
    write("tokenizer_config.json", "{");
    assert!(told().contains("tokenizer_config.json: EOF"));
    write("tokenizer.json", "{}");
    assert!(told().contains("tokenizer.json: "));
    fs::remove_file(scratch.0.join("tokenizer.json")).expect("removed");
    assert!(told().contains("tokenizer.json: No such file"));
    Ok(())
}

#[test]
fn answers_end_where_they_should_and_are_alike_in_a_batch() -> Result<()> {
    let (model, _) = random(LLAMA)?;
    let options = |max_tokens: usize| Options { max_tokens, ..Options::default() };
    let answer = |prompt: &[u32], o: &Options| Generation::new(&model, prompt, o)?.collect::<Result<Vec<u32>>>();
    let free = answer(&[1, 2, 3], &options(10))?;
    assert_eq!(free.len(), 10);
    // up to, and without, a token that ends it
    let ends = Options { ends: [free[4]].into(), ..options(10) };
    let first = free.iter().position(|t| *t == free[4]).expect("it is there");
    assert_eq!(answer(&[1, 2, 3], &ends)?, free[..first]);
    assert_eq!(answer(&[1, 2, 3], &options(0))?, [0u32; 0]);
    // the context has 24 tokens: the last comes from a full one
    assert_eq!(answer(&[1; 20], &options(100))?.len(), 5);
    let warm = Options { sampling: Sampling { temperature: 1.0, seed: 3, ..Sampling::default() }, ..options(8) };
    for options in [options(8), options(100), options(usize::MAX), ends, warm] {
        let prompts = [vec![1, 2, 3], vec![7], vec![1; 20], vec![9, 8, 7, 6, 5]];
        let alone = prompts.iter().map(|p| answer(p, &options)).collect::<Result<Vec<_>>>()?;
        assert_eq!(generate_batch(&model, &prompts, &options)?, alone);
    }
    let told = |prompt: &[u32]| answer(prompt, &options(1)).map_or_else(|e| e.to_string(), |_| "tokens".into());
    assert_eq!(told(&[]), "generate: tokens of the prompt, expected 1 to 24, got 0");
    assert_eq!(told(&[1; 25]), "generate: tokens of the prompt, expected 1 to 24, got 25");
    assert_eq!(told(&[50]), "generate: token of the prompt, expected below 50, got 50");
    Ok(())
}

#[test]
fn prompts_are_neither_cut_nor_filled_up() -> Result<()> {
    let scratch = folder("cut");
    let set = r#"{"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "a"},"#;
    fs::write(scratch.0.join("tokenizer.json"), TOKENIZER.replacen('{', set, 1)).expect("written");
    let tokenizer = Tokenizer::of(&Checkpoint::open(&scratch.0)?)?;
    assert_eq!(tokenizer.encode("abaü", false)?, [6, 0, 2, 3]);
    Ok(())
}

#[test]
fn long_prompts_of_a_batch_are_read_in_parts() -> Result<()> {
    let (model, _) = random(&LLAMA.replace("\"max_position_embeddings\": 24", "\"max_position_embeddings\": 1100"))?;
    let options = Options { max_tokens: 4, ..Options::default() };
    let prompts = [512, 3, 513, 1050].map(|n| (0..n).map(|i| i * 7 % 50).collect::<Vec<u32>>());
    let alone = prompts.iter().map(|p| Generation::new(&model, p, &options)?.collect::<Result<Vec<_>>>());
    assert_eq!(generate_batch(&model, &prompts, &options)?, alone.collect::<Result<Vec<_>>>()?);
    Ok(())
}

#[test]
fn a_folder_answers_as_the_model_that_was_written() -> Result<()> {
    let scratch = folder("whole");
    let (model, tensors) = random(LLAMA)?;
    write_folder(&scratch.0, LLAMA, &tensors, 4)?;
    let read = Checkpoint::open(&scratch.0)?.model(&zmlx_lm::Load::default())?;
    let tokens = Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?;
    let pair = [&model, &read].map(|m| m.forward_once(&tokens).and_then(|l| Ok(l.flatten_all()?.to_vec1::<f32>()?)));
    let [a, b] = pair.map(|logits| logits.expect("logits"));
    assert_eq!(a, b);
    Ok(())
}
