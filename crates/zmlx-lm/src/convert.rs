//! A checkpoint in MLX's affine codes: a folder that mlx_lm and [`crate::Checkpoint`] load, written tensor by tensor.

mod plan;
mod shards;

use crate::{
    Checkpoint, Config, Error, Place, Result,
    weights::{Source, folder::Folder},
};
use candle_core::Device;
use plan::Plan;
use serde::Serialize;
use serde_json::{Value, json, ser::PrettyFormatter};
use shards::Shards;
use std::{
    collections::BTreeMap,
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};
use zmlx::portable::quantize_affine::quantize_affine;

const NAME: &str = "convert";
/// Bytes of a file of weights, as mlx_lm has them.
const SHARD: u64 = 5 << 30;

/// How a checkpoint is quantised.
pub struct Convert<'a> {
    /// Bits of a code: 2, 3, 4, 5, 6 or 8.
    pub bits: usize,
    /// Columns that share a scale and a bias: 32, 64 or 128.
    pub group_size: usize,
    /// A checkpoint that is at the place of the output is replaced.
    pub force: bool,
    /// A file of weights has at most this many bytes, unless one tensor has more.
    pub shard_bytes: u64,
    /// Is told after each tensor how many of how many numbers are written. On `Break` nothing is left of the output.
    pub progress: &'a dyn Fn(u64, u64) -> ControlFlow<()>,
}

impl Default for Convert<'_> {
    fn default() -> Self {
        let progress = &|_, _| ControlFlow::Continue(());
        Convert { bits: 4, group_size: 64, force: false, shard_bytes: SHARD, progress }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Numbers of all tensors.
    pub parameters: u64,
    /// Those of them that are codes now.
    pub quantized: u64,
    /// Bytes of all tensors in the output.
    pub bytes: u64,
    /// Files of weights.
    pub files: usize,
}

/// Quantises the folder `from` into a new folder `to`, with the layers, names and configuration that mlx_lm 0.32 gives it:
/// matrices of linear layers, experts and embeddings whose columns are a multiple of the group become `weight` `[.., k·bits/32]`
/// of u32, `scales` and `biases` `[.., k/group]`; routers that mlx_lm keeps in 8 bits have 8; all else stays as it is, in the
/// dtype that the configuration states. The tokenizer's files are copied.
///
/// Memory: one tensor (of experts that are stored one by one, one of them) and its codes. The output appears when it is whole.
///
/// # Errors
/// A checkpoint that is quantised already, a GGUF file, a model type that is not known, tensors that do not fit the configuration
/// (all are listed); an output that is there, or in the input; what the system says; and if `progress` says to stop.
pub fn convert(from: &Path, to: &Path, how: &Convert<'_>) -> Result<Converted> {
    let checkpoint = Checkpoint::open(from)?;
    let config = &checkpoint.config;
    if matches!(checkpoint.place, Place::Gguf(_)) {
        let expected = "a folder with config.json and safetensors";
        return Err(Error::argument(NAME, "model", expected, "a GGUF file, whose configuration mlx_lm does not read"));
    }
    if let Some(q) = config.get("quantization").or(config.get("quantization_config")) {
        let got = q.get("quant_method").or(q.get("mode")).and_then(Value::as_str).unwrap_or("quantization");
        return Err(config.wrong("weights", "numbers that are not quantised", format!("{got} in the configuration")));
    }
    let part = Part::beside(from, to, how.force)?;
    let folder = Folder::open(from)?;
    let stated = quantised(config, how, &BTreeMap::new())?;
    let mut plan = Plan::new(&folder, config, how.group_size, how.bits)?;
    let stated = match plan.overrides() {
        own if own.is_empty() => stated,
        own => quantised(config, how, &own)?,
    };
    plan.check(&stated)?;
    fs::create_dir(&part.path).map_err(|e| Error::file(&part.path, e))?;
    copy_others(from, &part.path)?;
    let all: u64 = plan.tensors.iter().map(|t| t.parameters()).sum();
    let mut shards = Shards::create(&part.path, &plan.tensors, how.shard_bytes)?;
    let mut written = 0;
    for tensor in &plan.tensors {
        for (i, piece) in tensor.pieces.iter().enumerate() {
            let numbers = piece.view.of(folder.dense(&piece.from, &[], tensor.dtype, &Device::Cpu)?)?;
            written += numbers.elem_count() as u64;
            match tensor.packing {
                None => shards.put(&tensor.name, i, &numbers)?,
                Some((group, bits)) => {
                    let codes = quantize_affine(&numbers, group, bits)?;
                    drop(numbers);
                    tensor.codes().iter().zip(&codes).try_for_each(|(e, t)| shards.put(&e.name, i, t))?;
                }
            }
            if (how.progress)(written, all).is_break() {
                return Err(Error::file(to, io::Error::new(io::ErrorKind::Interrupted, "stopped, nothing is written")));
            }
        }
    }
    let (files, bytes) = shards.finish(&part.path, all)?;
    write_json(&part.path.join("config.json"), &Value::Object(stated.json().clone()))?;
    part.done()?;
    let quantized = plan.tensors.iter().filter(|t| t.packing.is_some()).map(|t| t.parameters()).sum();
    Ok(Converted { parameters: all, quantized, bytes, files })
}

/// The configuration with `quantization`, once more under the name by which the hub knows it.
fn quantised(config: &Config, how: &Convert<'_>, own: &BTreeMap<String, Value>) -> Result<Config> {
    let mut q = json!({"group_size": how.group_size, "bits": how.bits, "mode": "affine"});
    own.iter().for_each(|(layer, packing)| q[layer] = packing.clone());
    let mut json = config.json().clone();
    json.remove("_name_or_path");
    json.insert("quantization".into(), q.clone());
    json.insert("quantization_config".into(), q);
    Config::of(&config.origin, Value::Object(json))
}

/// Four spaces a level and sorted, as mlx_lm writes it.
fn write_json(path: &Path, json: &Value) -> Result<()> {
    let mut text = vec![];
    let sorted: BTreeMap<&String, &Value> = json.as_object().into_iter().flatten().collect();
    let written =
        sorted.serialize(&mut serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    ")));
    written.map_err(|e| Error::format(path, e))?;
    fs::write(path, text).map_err(|e| Error::file(path, e))
}

/// Files beside the weights and the configuration: those of the tokenizer, and what mlx_lm takes along.
fn copy_others(from: &Path, to: &Path) -> Result<()> {
    const STARTS: [&str; 8] = [
        "tokenizer",
        "special_tokens_map.",
        "added_tokens.",
        "vocab.",
        "merges.",
        "chat_template.",
        "generation_config.",
        "LICENSE",
    ];
    const ENDS: [&str; 3] = [".model", ".tiktoken", ".py"];
    for entry in fs::read_dir(from).map_err(|e| Error::file(from, e))? {
        let path = entry.map_err(|e| Error::file(from, e))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let taken = STARTS.iter().any(|s| name.starts_with(s)) || ENDS.iter().any(|s| name.ends_with(s));
        if taken && path.is_file() {
            fs::copy(&path, to.join(name)).map_err(|e| Error::file(&path, e))?;
        }
    }
    Ok(())
}

/// A folder beside the output that takes its place at the end; dropped before, it is removed.
struct Part {
    path: PathBuf,
    to: PathBuf,
    there: bool,
}

impl Part {
    fn beside(from: &Path, to: &Path, force: bool) -> Result<Part> {
        let system = |path: &Path| fs::canonicalize(path).map_err(|e| Error::file(path, e));
        let there = fs::symlink_metadata(to).is_ok();
        let Some(name) = to.file_name().and_then(|n| n.to_str()) else {
            return Err(Error::argument(NAME, "out", "the name of a new folder", to.display()));
        };
        let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = system(parent)?;
        let (from, full) = (system(from)?, if there { system(to)? } else { parent.join(name) });
        if full.starts_with(&from) || from.starts_with(&full) {
            let expected = format!("a folder beside {}, neither in it nor around it", from.display());
            return Err(Error::argument(NAME, "out", expected, to.display()));
        }
        if there && !force {
            return Err(Error::argument(NAME, "out", "a folder that is not there yet, or --force", to.display()));
        }
        if there && !full.join("config.json").is_file() {
            let got = format!("{}, which is none", to.display());
            return Err(Error::argument(NAME, "out", "a checkpoint that --force may replace", got));
        }
        let parent = full.parent().unwrap_or(&parent);
        let path = parent.join(format!(".{name}.{}.part", std::process::id()));
        Ok(Part { path, to: full, there })
    }

    /// All that is written is on the disk: the folder takes its place.
    fn done(mut self) -> Result<()> {
        let told = |e| Error::file(&self.to, e);
        if !self.there {
            fs::rename(&self.path, &self.to).map_err(told)?;
        } else {
            let old = self.path.with_extension("old");
            fs::rename(&self.to, &old).map_err(told)?;
            if let Err(e) = fs::rename(&self.path, &self.to) {
                let _ = fs::rename(&old, &self.to);
                return Err(told(e));
            }
            fs::remove_dir_all(&old).map_err(|e| Error::file(&old, e))?;
        }
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
