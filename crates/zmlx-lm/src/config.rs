//! The configuration of a model: the fields of `config.json`, whether they come from that file or are made of the metadata of a
//! GGUF file.

use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::{fmt::Display, ops::RangeInclusive, path::Path};

/// Sizes that a configuration may state; a file that states more is damaged, and nothing is allocated for it.
pub const SIZES: RangeInclusive<usize> = 1..=1 << 24;
/// Experts that a configuration may state.
pub const EXPERTS: RangeInclusive<usize> = 1..=4096;
/// Layers that a configuration may state.
pub const LAYERS: RangeInclusive<usize> = 1..=4096;

/// The fields of `config.json`. Each model type reads its own with [`Config::fields`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Which file of `models/` it is for.
    pub model_type: String,
    /// How the weights are packed, if they are, in MLX's affine codes.
    pub quantization: Option<Quantization>,
    /// Where it was read, for errors.
    pub origin: String,
    json: Map<String, Value>,
}

/// MLX's `quantization`: bits and sizes of groups, and layers that have their own.
#[derive(Clone, Debug)]
pub struct Quantization {
    /// Columns that share a scale.
    pub group_size: usize,
    /// Bits of a code.
    pub bits: usize,
    overrides: Map<String, Value>,
}

impl Config {
    /// Of the text of a `config.json`.
    ///
    /// # Errors
    /// Text that is no JSON object, has no `model_type`, or a quantisation that is not understood.
    pub fn parse(origin: &str, text: &str) -> Result<Config> {
        let json = serde_json::from_str(text).map_err(|e| Error::format(Path::new(origin), e))?;
        Config::of(origin, json)
    }

    /// Of a JSON object.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn of(origin: &str, json: Value) -> Result<Config> {
        let Value::Object(json) = json else {
            return Err(Error::argument(origin, "config", "an object", kind(&json)));
        };
        let Some(Value::String(model_type)) = json.get("model_type") else {
            let got = json.get("model_type").map_or("none", kind);
            return Err(Error::argument(origin, "model_type", "a string", got));
        };
        let model_type = model_type.clone();
        let quantization = json.get("quantization").filter(|q| !q.is_null());
        let quantization = quantization.map(|q| Quantization::of(origin, q)).transpose()?;
        Ok(Config { model_type, quantization, origin: origin.into(), json })
    }

    /// The fields that a model type has, as its own struct.
    ///
    /// # Errors
    /// A field that is missing or of another type; which one is told.
    pub fn fields<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.json.clone()))
            .map_err(|e| Error::format(Path::new(&self.origin), format!("{}: {e}", self.model_type)))
    }

    /// One field, null and none being the same.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.json.get(name).filter(|v| !v.is_null())
    }

    /// All fields.
    pub fn json(&self) -> &Map<String, Value> {
        &self.json
    }

    /// Says that a field does not fit.
    pub fn wrong(&self, field: &str, expected: impl Display, got: impl Display) -> Error {
        Error::argument(&self.origin, field, expected, got)
    }

    /// Holds a field to a range.
    ///
    /// # Errors
    /// A value outside.
    pub fn within(&self, field: &str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
        match range.contains(&value) {
            true => Ok(()),
            false => Err(self.wrong(field, format!("{} to {}", range.start(), range.end()), value)),
        }
    }

    /// Holds fields to the sizes that a model may have.
    ///
    /// # Errors
    /// A value outside.
    pub fn sizes(&self, fields: &[(&str, usize)]) -> Result<()> {
        fields.iter().try_for_each(|(field, value)| self.within(field, *value, SIZES))
    }

    /// Holds one field to a multiple of another.
    ///
    /// # Errors
    /// A value that is no multiple, or 0.
    pub fn multiple(&self, (field, value): (&str, usize), (of, divisor): (&str, usize)) -> Result<()> {
        match divisor > 0 && value > 0 && value.is_multiple_of(divisor) {
            true => Ok(()),
            false => Err(self.wrong(field, format!("a multiple of {of}, {divisor}"), value)),
        }
    }
}

impl Quantization {
    fn of(origin: &str, json: &Value) -> Result<Quantization> {
        let Value::Object(map) = json else {
            return Err(Error::argument(origin, "quantization", "an object", kind(json)));
        };
        if let Some(mode) = map.get("mode").and_then(Value::as_str)
            && mode != "affine"
        {
            return Err(Error::argument(origin, "quantization.mode", "affine", mode));
        }
        let (group_size, bits) = numbers(origin, "quantization", map)?;
        let overrides = map.iter().filter(|(_, v)| v.is_object() || v.is_boolean());
        Ok(Quantization { group_size, bits, overrides: overrides.map(|(k, v)| (k.clone(), v.clone())).collect() })
    }

    /// Group size and bits of this layer; none if it is not quantised.
    ///
    /// # Errors
    /// An override that is not understood.
    pub fn of_layer(&self, origin: &str, name: &str) -> Result<Option<(usize, usize)>> {
        match self.overrides.get(name) {
            None | Some(Value::Bool(true)) => Ok(Some((self.group_size, self.bits))),
            Some(Value::Object(map)) => numbers(origin, &format!("quantization of {name}"), map).map(Some),
            Some(_) => Ok(None),
        }
    }
}

/// `group_size` and `bits`.
fn numbers(origin: &str, what: &str, map: &Map<String, Value>) -> Result<(usize, usize)> {
    let number = |field: &str| {
        let value = map.get(field).unwrap_or(&Value::Null);
        let wrong = || Error::argument(origin, format!("{what}: {field}"), "a whole number", value);
        value.as_u64().map(|n| n as usize).ok_or_else(wrong)
    };
    let (group, bits) = (number("group_size")?, number("bits")?);
    if !matches!(bits, 2..=6 | 8) {
        return Err(Error::argument(origin, format!("{what}: bits"), "2, 3, 4, 5, 6 or 8", bits));
    }
    if !matches!(group, 32 | 64 | 128) {
        return Err(Error::argument(origin, format!("{what}: group_size"), "32, 64 or 128", group));
    }
    Ok((group, bits))
}

fn kind(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        Config::parse("c.json", text).map_or_else(|e| e.to_string(), |c| format!("{:?}", c.quantization))
    }

    #[test]
    fn mistakes_of_a_configuration_are_told() {
        assert!(told("{").starts_with("c.json: EOF"));
        assert_eq!(told("[]"), "c.json: config, expected an object, got a list");
        assert_eq!(told("{}"), "c.json: model_type, expected a string, got none");
        let q = |q: &str| told(&format!("{{\"model_type\": \"llama\", \"quantization\": {q}}}"));
        assert_eq!(q("null"), "None");
        assert_eq!(q("{\"bits\": 4}"), "c.json: quantization: group_size, expected a whole number, got null");
        assert!(q("{\"bits\": 7, \"group_size\": 64}").ends_with("expected 2, 3, 4, 5, 6 or 8, got 7"));
        assert!(q("{\"bits\": 4, \"group_size\": 48}").ends_with("expected 32, 64 or 128, got 48"));
        assert!(q("{\"bits\": 4, \"group_size\": 32, \"mode\": \"mxfp4\"}").ends_with("expected affine, got mxfp4"));
    }

    #[test]
    fn a_layer_may_have_its_own_bits_or_none() -> Result<()> {
        let text = r#"{"model_type": "llama", "quantization": {"group_size": 64, "bits": 4, "mode": "affine",
            "lm_head": {"group_size": 32, "bits": 8}, "model.embed_tokens": false}}"#;
        let q = Config::parse("c.json", text)?.quantization;
        let of = |name: &str| q.as_ref().map_or(Ok(None), |q| q.of_layer("c.json", name));
        assert_eq!(of("model.layers.0.mlp.up_proj")?, Some((64, 4)));
        assert_eq!(of("lm_head")?, Some((32, 8)));
        assert_eq!(of("model.embed_tokens")?, None);
        Ok(())
    }
}
