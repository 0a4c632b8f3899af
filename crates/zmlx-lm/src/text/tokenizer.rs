//! Text to tokens and back, with the tokenizer of the checkpoint.

use super::{ChatTemplate, Message, vocabulary};
use crate::{Checkpoint, Error, Place, Result, weights::gguf::Gguf};
use candle_core::quantized::gguf_file::Value as GgufValue;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// The tokenizer of a checkpoint, its special tokens, and its chat template if it has one.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Where it was read, for errors.
    origin: String,
    /// How a conversation is written as one text.
    pub template: Option<ChatTemplate>,
    /// Tokens that end an answer; without any, it ends at its most tokens.
    pub ends: BTreeSet<u32>,
    /// The token that stands before a text, where the checkpoint wants one and the tokenizer does not put it there itself.
    begin: Option<u32>,
}

impl Tokenizer {
    /// That of a checkpoint: `tokenizer.json` of a folder, the vocabulary of a GGUF file.
    ///
    /// # Errors
    /// A file that is missing or damaged, or a vocabulary that is not understood.
    pub fn of(checkpoint: &Checkpoint) -> Result<Tokenizer> {
        let mut tokenizer = match &checkpoint.place {
            Place::Folder(folder) => Tokenizer::of_folder(folder)?,
            Place::Gguf(file) => Tokenizer::of_gguf(file)?,
        };
        ends_in(checkpoint.config.get("eos_token_id"), &mut tokenizer.ends);
        Ok(tokenizer)
    }

    fn of_folder(folder: &Path) -> Result<Tokenizer> {
        let path = folder.join("tokenizer.json");
        let bytes = fs::read(&path).map_err(|e| Error::file(&path, e))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| Error::format(&path, e))?;
        // what was set for training would cut prompts, or fill them up
        inner.with_truncation(None).map_err(|e| Error::format(&path, e))?;
        inner.with_padding(None);
        let settings = json_of(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let word = |field: &str| match settings.get(field) {
            Some(Value::String(word)) => Some(word.clone()),
            Some(Value::Object(token)) => token.get("content").and_then(Value::as_str).map(String::from),
            _ => None,
        };
        let (begin, end) = (word("bos_token"), word("eos_token"));
        let mut ends = BTreeSet::new();
        ends.extend(end.as_deref().and_then(|word| inner.token_to_id(word)));
        if let Some(json) = json_of(&folder.join("generation_config.json"))? {
            ends_in(json.get("eos_token_id"), &mut ends);
        }
        // a file of its own goes before the field
        let file = folder.join("chat_template.jinja");
        let template = match text_of(&file)? {
            Some(text) => Some((file.display().to_string(), text)),
            None => named_template(settings.get("chat_template"))
                .map(|text| (folder.join("tokenizer_config.json").display().to_string(), text)),
        };
        let template = template.map(|(origin, text)| ChatTemplate::new(&origin, text, begin, end)).transpose()?;
        Ok(Tokenizer { inner, origin: path.display().to_string(), template, ends, begin: None })
    }

    fn of_gguf(file: &Gguf) -> Result<Tokenizer> {
        let origin = file.path().display().to_string();
        let json = vocabulary::of_gguf(file)?;
        let inner = serde_json::from_value::<tokenizers::Tokenizer>(json)
            .map_err(|e| Error::format(file.path(), format!("its vocabulary: {e}")))?;
        let id = |key: &str| file.number(&format!("tokenizer.ggml.{key}_token_id")).map(|id| id as u32);
        let word = |id: Option<u32>| id.and_then(|id| inner.id_to_token(id));
        let (begin, end) = (id("bos"), id("eos"));
        // llama.cpp puts it before texts of SentencePiece and of Llama 3 unless told otherwise
        let wants = match file.value("tokenizer.ggml.add_bos_token") {
            Some(GgufValue::Bool(wants)) => *wants,
            _ => {
                let llama3 = ["llama3", "llama-v3", "llama-bpe"];
                file.text("tokenizer.ggml.model") == Some("llama")
                    || file.text("tokenizer.ggml.pre").is_some_and(|pre| llama3.contains(&pre))
            }
        };
        let template = file.text("tokenizer.chat_template").map(String::from);
        let template = template.map(|text| ChatTemplate::new(&origin, text, word(begin), word(end))).transpose()?;
        // many files name but one, and have the end of a turn among their control tokens
        let kinds = file.list("tokenizer.ggml.token_type");
        let control = |id: &u32| matches!(kinds.get(*id as usize), Some(GgufValue::I32(3) | GgufValue::U32(3)));
        let turns = ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"];
        let turns = turns.into_iter().filter_map(|word| inner.token_to_id(word)).filter(control);
        let ends = ["eos", "eot", "eom"].into_iter().filter_map(id).chain(turns).collect();
        Ok(Tokenizer { begin: begin.filter(|_| wants), inner, origin, template, ends })
    }

    /// The tokens of a text. `special`: with what the checkpoint puts before a text (which a chat template writes itself).
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoded =
            self.inner.encode(text, special).map_err(|e| Error::argument(&self.origin, "text", "tokens", e))?;
        let begin = self.begin.filter(|b| special && encoded.get_ids().first() != Some(b));
        Ok(begin.into_iter().chain(encoded.get_ids().iter().copied()).collect())
    }

    /// The tokens of a conversation that waits for an answer.
    ///
    /// # Errors
    /// A checkpoint without a chat template, one that fails; what the tokenizer says.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let Some(template) = &self.template else {
            return Err(Error::argument(&self.origin, "chat template", "one in the checkpoint", "none"));
        };
        self.encode(&template.render(messages)?, false)
    }

    /// The text of tokens, without the special ones.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, true).map_err(|e| Error::argument(&self.origin, "tokens", "a text", e))
    }

    /// The text of tokens that come one by one.
    pub fn stream(&self) -> Stream<'_> {
        Stream { tokenizer: self, tokens: vec![], told: 0, done: 0 }
    }
}

/// Text as it comes: no part of a letter is told before all of its bytes are there.
pub struct Stream<'t> {
    tokenizer: &'t Tokenizer,
    tokens: Vec<u32>,
    /// Tokens whose text was told; those before `done` are no longer looked at.
    told: usize,
    done: usize,
}

impl Stream<'_> {
    /// The text that is new with this token; it may be none.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.tokens.push(token);
        let text = self.tokenizer.decode(&self.tokens[self.done..])?;
        match text.ends_with('\u{fffd}') {
            true => Ok(String::new()),
            false => self.told_up_to(&text),
        }
    }

    /// What was held back.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn finish(&mut self) -> Result<String> {
        let text = self.tokenizer.decode(&self.tokens[self.done..])?;
        self.told_up_to(&text)
    }

    fn told_up_to(&mut self, text: &str) -> Result<String> {
        // a token's text may depend on the one before it (a space at the beginning), so those told last are decoded once more
        let before = self.tokenizer.decode(&self.tokens[self.done..self.told])?;
        let new = text.get(before.len()..).unwrap_or_default().to_string();
        (self.done, self.told) = (self.told, self.tokens.len());
        Ok(new)
    }
}

/// A token or a list of them.
fn ends_in(value: Option<&Value>, ends: &mut BTreeSet<u32>) {
    match value {
        Some(Value::Array(all)) => ends.extend(all.iter().filter_map(|v| v.as_u64()).map(|n| n as u32)),
        Some(one) => ends.extend(one.as_u64().map(|n| n as u32)),
        None => {}
    }
}

/// The template that a text field or a list of named ones has.
fn named_template(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => {
            let default = all.iter().find(|t| t.get("name").and_then(Value::as_str) == Some("default"));
            default?.get("template")?.as_str().map(String::from)
        }
        _ => None,
    }
}

/// A file that need not be there.
fn text_of(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file(path, e)),
    }
}

/// The same, as JSON.
fn json_of(path: &Path) -> Result<Option<Value>> {
    let Some(text) = text_of(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| Error::format(path, e))
}
