//! A GGUF file: metadata, and tensors under names of its own, in blocks of a few bits. Read with candle's reader.

use super::{Format, Found, Source, map::Map, renamed};
use crate::{Config, Error, Result, models};
use candle_core::{
    DType, Device, Tensor,
    quantized::{
        GgmlDType,
        gguf_file::{Content, Value},
    },
};
use serde_json::{Map as Json, json};
use std::{borrow::Cow, collections::HashMap, io::Cursor, ops::Range, path::Path, sync::Arc};

/// A file, mapped, with its header read.
pub struct Gguf {
    map: Map,
    content: Content,
    architecture: String,
}

/// The tensors of a file under the names of Hugging Face.
pub struct Tensors {
    file: Arc<Gguf>,
    places: HashMap<String, Place>,
}

struct Place {
    at: Range<usize>,
    shape: Vec<usize>,
    kind: GgmlDType,
    /// Rows of each head lie in turn of its halves, as llama.cpp wants them for its rotary embeddings: so many heads.
    turned: Option<usize>,
}

impl Gguf {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// A file that is none, cut off or damaged.
    pub fn open(path: &Path) -> Result<Gguf> {
        let map = Map::open(path)?;
        let told = |why: &dyn std::fmt::Display| Error::format(path, format!("no GGUF: {why}"));
        if !map.bytes().starts_with(b"GGUF") {
            return Err(told(&"it does not begin with GGUF"));
        }
        check_alignment(map.bytes()).map_err(|why| told(&why))?;
        // candle adds a trace to its errors, which is none of a user's business
        let content = Content::read(&mut Cursor::new(map.bytes()))
            .map_err(|e| told(&e.to_string().lines().next().unwrap_or_default()))?;
        let architecture = match content.metadata.get("general.architecture") {
            Some(Value::String(name)) => name.clone(),
            _ => return Err(Error::format(path, "no general.architecture in its metadata")),
        };
        Ok(Gguf { map, content, architecture })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// A value of the metadata.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    /// A number of the metadata.
    pub fn number(&self, key: &str) -> Option<f64> {
        Some(match *self.value(key)? {
            Value::U8(n) => n.into(),
            Value::I8(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U64(n) => n as f64,
            Value::I64(n) => n as f64,
            Value::F32(n) => n.into(),
            Value::F64(n) => n,
            _ => return None,
        })
    }

    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A list of the metadata; empty if there is none.
    pub fn list(&self, key: &str) -> &[Value] {
        match self.value(key) {
            Some(Value::Array(values)) => values,
            _ => &[],
        }
    }

    /// The configuration that `config.json` would have.
    ///
    /// # Errors
    /// An architecture that is not known; those that are, are listed.
    pub fn config(&self) -> Result<Config> {
        let origin = self.path().display().to_string();
        let name = self.architecture.as_str();
        let Some(model_type) = models::MODEL_TYPES.iter().find(|m| m.gguf.contains(&name)) else {
            let known: Vec<&str> = models::MODEL_TYPES.iter().flat_map(|m| m.gguf).copied().collect();
            return Err(Error::argument(&origin, "architecture", format!("one of {}", known.join(", ")), name));
        };
        let mut fields = Json::new();
        fields.insert("model_type".into(), model_type.name.into());
        for (field, key) in FIELDS {
            let of = key.strip_prefix('*').map(|key| format!("{name}{key}"));
            if let Some(n) = self.number(of.as_deref().unwrap_or(key)) {
                let whole = n.fract() == 0.0 && n.abs() < 2f64.powi(53);
                fields.insert((*field).into(), if whole { json!(n as i64) } else { json!(n) });
            }
        }
        let has = |tensor: &str| self.content.tensor_infos.contains_key(tensor);
        let rows = self.content.tensor_infos.get("token_embd.weight").and_then(|t| t.shape.dims().first());
        fields.insert("vocab_size".into(), json!(rows.copied().unwrap_or(0)));
        fields.insert("tie_word_embeddings".into(), json!(!has("output.weight")));
        fields.insert("attention_bias".into(), json!(has("blk.0.attn_q.bias")));
        // llama.cpp has it in its code: the weights of these experts are divided by their sum, those of no others
        fields.insert("norm_topk_prob".into(), json!(name == "qwen3moe"));
        let scaling = self.text(&format!("{name}.rope.scaling.type")).filter(|kind| *kind != "none");
        if let Some(kind) = scaling {
            let of = |key: &str| self.number(&format!("{name}.rope.scaling.{key}"));
            let mut scaling = Json::new();
            scaling.insert("rope_type".into(), kind.into());
            for (field, key) in [("factor", "factor"), ("original_max_position_embeddings", "original_context_length")]
            {
                of(key).and_then(|n| scaling.insert(field.into(), json!(n)));
            }
            fields.insert("rope_scaling".into(), scaling.into());
        }
        Config::of(&origin, fields.into())
    }

    /// Its tensors, for a model of this configuration.
    ///
    /// # Errors
    /// A tensor that lies beyond the end of the file, or whose place or sizes make no sense.
    pub fn tensors(self: &Arc<Gguf>, config: &Config) -> Result<Tensors> {
        let whole = |field: &str| config.get(field).and_then(|v| v.as_u64()).map(|n| n as usize);
        let heads = whole("num_attention_heads");
        let kv = whole("num_key_value_heads").or(heads);
        let turns = self.architecture == "llama";
        let mut places = HashMap::new();
        for (name, info) in &self.content.tensor_infos {
            let shape = info.shape.dims().to_vec();
            let start = self.content.tensor_data_offset.checked_add(info.offset);
            let told = |why: String| Error::format(self.path(), format!("{name}: {why}"));
            let size = size_of(&shape, info.ggml_dtype)
                .ok_or_else(|| told(format!("shape {shape:?} makes no whole blocks of {:?}", info.ggml_dtype)))?;
            let at = start
                .filter(|s| s.is_multiple_of(8))
                .and_then(|s| Some(s as usize..(s as usize).checked_add(size)?))
                .ok_or_else(|| told(format!("offset {}, expected a multiple of the alignment", info.offset)))?;
            self.map.range(at.clone())?;
            let turned = match name.rsplit('.').nth(1) {
                Some("attn_q") if turns => heads,
                Some("attn_k") if turns => kv,
                _ => None,
            };
            let place = Place { at, shape, kind: info.ggml_dtype, turned };
            places.insert(renamed::from_gguf(name), place);
        }
        Ok(Tensors { file: self.clone(), places })
    }
}

/// Fields of `config.json` and the keys that they have here; `*` stands for the architecture.
const FIELDS: &[(&str, &str)] = &[
    ("hidden_size", "*.embedding_length"),
    ("intermediate_size", "*.feed_forward_length"),
    ("num_hidden_layers", "*.block_count"),
    ("num_attention_heads", "*.attention.head_count"),
    ("num_key_value_heads", "*.attention.head_count_kv"),
    ("head_dim", "*.attention.key_length"),
    ("rms_norm_eps", "*.attention.layer_norm_rms_epsilon"),
    ("rope_theta", "*.rope.freq_base"),
    ("max_position_embeddings", "*.context_length"),
    ("sliding_window", "*.attention.sliding_window"),
    ("num_experts", "*.expert_count"),
    ("num_experts_per_tok", "*.expert_used_count"),
    ("moe_intermediate_size", "*.expert_feed_forward_length"),
    ("bos_token_id", "tokenizer.ggml.bos_token_id"),
    ("eos_token_id", "tokenizer.ggml.eos_token_id"),
];

/// candle's reader divides by the alignment that the file states.
fn check_alignment(bytes: &[u8]) -> std::result::Result<(), String> {
    // what is cut off is told by that reader
    match alignments(bytes).into_iter().find(|n| !n.is_power_of_two()) {
        Some(n) => Err(format!("general.alignment, expected a power of two, got {n}")),
        None => Ok(()),
    }
}

/// All values of `general.alignment` up to where the header ends or makes no sense.
fn alignments(bytes: &[u8]) -> Vec<u64> {
    let mut found = vec![];
    let mut header = Header { rest: bytes.get(4..).unwrap_or_default(), wide: true };
    let _ = header.read(&mut found);
    found
}

/// The metadata, walked over without being kept.
struct Header<'b> {
    rest: &'b [u8],
    /// Counts are of 8 bytes, and of 4 in the first version.
    wide: bool,
}

impl<'b> Header<'b> {
    fn read(&mut self, found: &mut Vec<u64>) -> Option<()> {
        self.wide = self.number(4)? != 1;
        let (_tensors, pairs) = (self.count()?, self.count()?);
        for _ in 0..pairs {
            let size = self.count()?;
            let key = self.take(size)?;
            let kind = self.number(4)?;
            let value = self.rest;
            self.skip(kind)?;
            if key == b"general.alignment" && kind <= 5 {
                let size = value.len() - self.rest.len();
                found.push(value[..size].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)));
            }
        }
        Some(())
    }

    fn take(&mut self, size: u64) -> Option<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(size).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self, size: u64) -> Option<u64> {
        Some(self.take(size)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn count(&mut self) -> Option<u64> {
        self.number(if self.wide { 8 } else { 4 })
    }

    fn skip(&mut self, kind: u64) -> Option<()> {
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => self.count()?,
            9 => {
                let (kind, count) = (self.number(4)?, self.count()?);
                return (0..count).try_for_each(|_| self.skip(kind));
            }
            _ => return None,
        };
        self.take(size).map(|_| ())
    }
}

/// Bytes of a tensor, if its rows are whole blocks.
fn size_of(shape: &[usize], kind: GgmlDType) -> Option<usize> {
    let last = shape.last().copied().unwrap_or(1);
    let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    last.is_multiple_of(kind.block_size()).then_some(())?;
    (count / kind.block_size()).checked_mul(kind.type_size())
}

impl Tensors {
    /// The bytes of a tensor, its rows in the order of Hugging Face.
    fn bytes(&self, place: &Place) -> Result<Cow<'_, [u8]>> {
        let Some(heads) = place.turned else { return Ok(Cow::Borrowed(self.file.map.range(place.at.clone())?)) };
        let rows = place.shape.first().copied().unwrap_or(0);
        let half = rows / heads.max(1) / 2;
        let row = place.at.len() / rows.max(1);
        if half * heads * 2 != rows {
            let what = format!("rows of queries or keys, {:?}", place.shape);
            return Err(Error::argument("weights", what, format!("pairs for {heads} heads"), rows));
        }
        let from = self.file.map.range(place.at.clone())?;
        let mut bytes = Vec::with_capacity(from.len());
        for (head, side, pair) in (0..rows).map(|r| (r / (2 * half), r / half % 2, r % half)) {
            let at = (head * 2 * half + pair * 2 + side) * row;
            bytes.extend_from_slice(&from[at..at + row]);
        }
        Ok(Cow::Owned(bytes))
    }
}

impl Source for Tensors {
    fn find(&self, name: &str, _: &[usize]) -> Option<Found> {
        let place = self.places.get(name)?;
        Some(Found { shape: place.shape.clone(), format: Format::Blocks(place.kind) })
    }

    fn dense(&self, name: &str, _: &[usize], _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::argument(
            "weights",
            name,
            "blocks, as of every tensor of a GGUF file",
            "a tensor that is stored one by one",
        ))
    }

    fn blocks(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let place = self.places.get(name).ok_or_else(|| Error::argument("weights", name, "a tensor", "none"))?;
        self.bytes(place)
    }

    fn let_go(&self, name: &str) {
        if let Some(place) = self.places.get(name) {
            self.file.map.let_go(place.at.start, place.at.len());
        }
    }

    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_of_a_header_is_judged() {
        let told = |values: &[u32]| {
            let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
            bytes.extend((values.len() as u64 + 1).to_le_bytes());
            // a text of more than 1 MiB, with the key in it, goes before
            let text = "general.alignment\0\0\0\0".repeat(1 << 16);
            bytes.extend([&1u64.to_le_bytes()[..], b"t", &8u32.to_le_bytes()].concat());
            bytes.extend([&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat());
            for value in values {
                bytes.extend([&17u64.to_le_bytes()[..], b"general.alignment", &4u32.to_le_bytes()].concat());
                bytes.extend(value.to_le_bytes());
            }
            check_alignment(&bytes)
        };
        assert_eq!(told(&[]), Ok(()));
        assert_eq!(told(&[32, 4096]), Ok(()));
        assert_eq!(told(&[32, 0]), Err("general.alignment, expected a power of two, got 0".into()));
    }
}
