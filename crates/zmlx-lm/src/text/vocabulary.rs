//! The vocabulary of a GGUF file as a `tokenizer.json`: byte-level BPE with its merges, or SentencePiece's BPE with its scores.

use crate::{Error, Result, weights::gguf::Gguf};
use candle_core::quantized::gguf_file::Value as Gg;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Kinds of tokens that stand for themselves in a text.
const CONTROL: i64 = 3;
const USER: i64 = 4;
const UNKNOWN: i64 = 2;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The file's vocabulary, in the form of a `tokenizer.json`.
///
/// # Errors
/// A kind of vocabulary, or a way to cut text before it, that is not known; lists that do not belong together.
pub fn of_gguf(file: &Gguf) -> Result<Value> {
    let origin = file.path().display().to_string();
    let tokens = file.list("tokenizer.ggml.tokens").iter().map(|t| match t {
        Gg::String(word) => Ok(word.as_str()),
        _ => Err(Error::argument(&origin, "tokenizer.ggml.tokens", "texts", "something else")),
    });
    let tokens = tokens.collect::<Result<Vec<&str>>>()?;
    if tokens.is_empty() {
        return Err(Error::argument(&origin, "tokenizer.ggml.tokens", "a vocabulary", "none"));
    }
    let kinds = file.list("tokenizer.ggml.token_type");
    let kind = |id: usize| kinds.get(id).and_then(|k| k.to_i64().ok().or(k.to_i32().ok().map(i64::from))).unwrap_or(1);
    let added: Vec<Value> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| [CONTROL, USER, UNKNOWN].contains(&kind(*id)))
        .map(|(id, word)| {
            json!({"id": id, "content": word, "special": kind(id) != USER, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false})
        })
        .collect();
    let mut json = match file.text("tokenizer.ggml.model") {
        Some("gpt2") => byte_level(file, &origin, &tokens)?,
        Some("llama") => sentence_piece(file, &tokens, kind),
        other => {
            let got = other.unwrap_or("none");
            return Err(Error::argument(&origin, "tokenizer.ggml.model", "gpt2 or llama", got));
        }
    };
    json["version"] = "1.0".into();
    json["added_tokens"] = added.into();
    Ok(json)
}

/// The numbers of words.
fn numbered(tokens: &[&str]) -> Value {
    tokens
        .iter()
        .enumerate()
        .map(|(id, word)| (word.to_string(), Value::from(id)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn byte_level(file: &Gguf, origin: &str, tokens: &[&str]) -> Result<Value> {
    let merges = file.list("tokenizer.ggml.merges").iter().map(|m| match m {
        Gg::String(pair) => match pair.split_once(' ') {
            Some((left, right)) => Ok(json!([left, right])),
            None => Err(Error::argument(origin, "tokenizer.ggml.merges", "pairs", pair)),
        },
        _ => Err(Error::argument(origin, "tokenizer.ggml.merges", "texts", "something else")),
    });
    let bytes =
        |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let cut = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}, bytes(false)]})
    };
    let name = file.text("tokenizer.ggml.pre").unwrap_or("default");
    let (before, normal) = match name {
        "default" | "gpt-2" => (bytes(true), Value::Null),
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            (json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]}), Value::Null)
        }
        "llama-bpe" | "llama3" | "llama-v3" => (cut(LLAMA3), Value::Null),
        "qwen2" => (cut(QWEN2), json!({"type": "NFC"})),
        other => {
            let expected = "default, gpt-2, smollm, llama-bpe or qwen2";
            return Err(Error::argument(origin, "tokenizer.ggml.pre", expected, other));
        }
    };
    Ok(json!({
        "normalizer": normal,
        "pre_tokenizer": before,
        "decoder": bytes(true),
        "model": {"type": "BPE", "vocab": numbered(tokens), "merges": merges.collect::<Result<Vec<_>>>()?,
                  "ignore_merges": name.starts_with("llama")},
    }))
}

/// Its file has scores and no merges: two neighbours are merged if the whole is a word, those of the highest score first.
fn sentence_piece(file: &Gguf, tokens: &[&str], kind: impl Fn(usize) -> i64) -> Value {
    let scores: Vec<f64> =
        file.list("tokenizer.ggml.scores").iter().map(|s| f64::from(s.to_f32().unwrap_or(0.0))).collect();
    let numbers: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    let mut merges: Vec<(f64, usize, &str, &str)> = vec![];
    for (id, word) in tokens.iter().enumerate().filter(|(id, _)| kind(*id) == 1) {
        for (at, _) in word.char_indices().skip(1) {
            let (left, right) = word.split_at(at);
            if let (Some(l), Some(r)) = (numbers.get(left), numbers.get(right)) {
                merges.push((scores.get(id).copied().unwrap_or(0.0), *l.max(r), left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let merges: Vec<Value> = merges.into_iter().map(|(_, _, left, right)| json!([left, right])).collect();
    let prefix = file.value("tokenizer.ggml.add_space_prefix").is_none_or(|v| v.to_bool().unwrap_or(true));
    let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let normal = match prefix {
        true => json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}),
        false => space,
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = (0..tokens.len()).find(|id| kind(*id) == UNKNOWN).map(|id| tokens[id]);
    json!({
        "normalizer": normal,
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "vocab": numbered(tokens), "merges": merges, "byte_fallback": true, "fuse_unk": true,
                  "unk_token": unknown},
    })
}
