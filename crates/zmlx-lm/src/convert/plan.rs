//! Which tensors mlx_lm has for those of a checkpoint: names, stacked experts, parts of matrices, and which of them are codes.

use crate::{
    Config, Error, Load, Result,
    models::{self, deepseek_v3::DeepseekV3},
    weights::{Format, Found, Source, folder::Folder},
};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

/// Routers that mlx_lm keeps in 8 bits and groups of 64, whatever the others have.
const ROUTERS: [(&str, &str); 3] =
    [("qwen3_moe", "mlp.gate"), ("lfm2_moe", "feed_forward.gate"), ("gpt_oss", "mlp.router")];
const ROUTER: (usize, usize) = (64, 8);
/// Matrices that are no linear layers in mlx_lm and stay numbers.
const PLAIN: [(&str, &str); 3] =
    [("deepseek_v3", "mlp.gate"), ("glm4_moe_lite", "mlp.gate"), ("lfm2_moe", "conv.conv")];
/// Biases of the choice of experts keep their dtype.
const UNCAST: [&str; 2] = ["e_score_correction_bias", "expert_bias"];

/// All tensors of the output, by name.
pub struct Plan {
    pub tensors: Vec<Made>,
    model_type: String,
    packing: (usize, usize),
}

/// A tensor of the output, before it is quantised.
pub struct Made {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: DType,
    /// What it is made of: one tensor, or those of all experts.
    pub pieces: Vec<Piece>,
    /// Group and bits, if it becomes codes.
    pub packing: Option<(usize, usize)>,
}

/// A tensor of the input, and what is taken of it.
pub struct Piece {
    pub from: String,
    pub view: View,
}

/// What is taken of a tensor.
#[derive(Clone, Copy)]
pub enum View {
    Whole,
    /// `[.., m, n]` as `[.., n, m]`
    Transposed,
    /// Of `kv_b_proj`, `[heads · (nope + value), rank]`, what makes keys: `[heads, rank, nope]`
    Keys([usize; 3]),
    /// and what makes values: `[heads, value, rank]`
    Values([usize; 3]),
    /// Every other column from this one on, of `[e, k, 2n]`, as `[e, n, k]`
    Half(usize),
    /// The same of biases, `[e, 2n]` as `[e, n]`
    HalfOfBias(usize),
}

/// A tensor of a file.
pub struct Entry {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl View {
    /// The shape of what is taken; none if it cannot be.
    fn shape(self, of: &[usize]) -> Option<Vec<usize>> {
        Some(match (self, of) {
            (View::Whole, _) => of.to_vec(),
            (View::Transposed, [before @ .., m, n]) => [before, &[*n, *m]].concat(),
            (View::Keys([h, nope, value]), [rows, rank]) if *rows == h * (nope + value) => vec![h, *rank, nope],
            (View::Values([h, nope, value]), [rows, rank]) if *rows == h * (nope + value) => vec![h, value, *rank],
            (View::Half(_), [e, k, both]) if both % 2 == 0 => vec![*e, both / 2, *k],
            (View::HalfOfBias(_), [e, both]) if both % 2 == 0 => vec![*e, both / 2],
            _ => return None,
        })
    }

    /// What is taken of a tensor whose shape fits.
    pub fn of(self, t: Tensor) -> Result<Tensor> {
        let heads = |[h, nope, value]: [usize; 3]| t.reshape((h, nope + value, t.elem_count() / (h * (nope + value))));
        Ok(match self {
            View::Whole => t,
            View::Transposed => t.transpose(t.rank() - 2, t.rank() - 1)?.contiguous()?,
            View::Keys(sizes) => heads(sizes)?.narrow(1, 0, sizes[1])?.transpose(1, 2)?.contiguous()?,
            View::Values(sizes) => heads(sizes)?.narrow(1, sizes[1], sizes[2])?.contiguous()?,
            View::Half(i) => {
                let (e, k, both) = t.dims3()?;
                let half = t.reshape((e, k, both / 2, 2))?.narrow(3, i, 1)?.squeeze(3)?;
                half.transpose(1, 2)?.contiguous()?
            }
            View::HalfOfBias(i) => {
                let (e, both) = t.dims2()?;
                t.reshape((e, both / 2, 2))?.narrow(2, i, 1)?.squeeze(2)?.contiguous()?
            }
        })
    }
}

impl Made {
    /// Numbers.
    pub fn parameters(&self) -> u64 {
        self.shape.iter().map(|n| *n as u64).product()
    }

    /// What a file has of it: itself, or words, scales and biases.
    pub fn codes(&self) -> Vec<Entry> {
        let Some((group, bits)) = self.packing else {
            return vec![Entry { name: self.name.clone(), dtype: self.dtype, shape: self.shape.clone() }];
        };
        let (before, k) = self.shape.split_at(self.shape.len() - 1);
        let stem = self.layer();
        let part = |name: &str, dtype: DType, last: usize| Entry {
            name: format!("{stem}.{name}"),
            dtype,
            shape: [before, &[last]].concat(),
        };
        vec![
            part("weight", DType::U32, k[0] * bits / 32),
            part("scales", self.dtype, k[0] / group),
            part("biases", self.dtype, k[0] / group),
        ]
    }

    fn layer(&self) -> &str {
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }
}

impl Plan {
    /// For the tensors of a folder.
    ///
    /// # Errors
    /// Tensors that are codes already; experts that are missing or of several shapes, all of them.
    pub fn new(folder: &Folder, config: &Config, group: usize, bits: usize) -> Result<Plan> {
        let mut names = folder.names();
        names.sort();
        let codes = |n: &&String| [".scales", "_scales", "_scale_inv", ".qweight"].iter().any(|end| n.ends_with(end));
        if let Some(name) = names.iter().find(codes) {
            return Err(config.wrong("weights", "numbers that are not quantised", name));
        }
        let mut pieces: BTreeMap<String, BTreeMap<Option<usize>, Piece>> = BTreeMap::new();
        for from in names {
            let shape = folder.find(&from, &[]).map_or(vec![], |f| f.shape);
            for (name, expert, view) in targets(config, &from, &shape)? {
                pieces.entry(name).or_default().insert(expert, Piece { from: from.clone(), view });
            }
        }
        let mut plan = Plan { tensors: vec![], model_type: config.model_type.clone(), packing: (group, bits) };
        let mut mistakes = vec![];
        for (name, pieces) in pieces {
            match plan.made(folder, config, name, pieces) {
                Ok(made) => plan.tensors.push(made),
                Err(said) => mistakes.extend(said),
            }
        }
        if mistakes.is_empty() { Ok(plan) } else { Err(Error::Weights(mistakes)) }
    }

    fn made(
        &self,
        folder: &Folder,
        config: &Config,
        name: String,
        pieces: BTreeMap<Option<usize>, Piece>,
    ) -> std::result::Result<Made, Vec<String>> {
        let count = pieces.keys().next_back().copied().flatten().map(|last| last + 1);
        let mut mistakes = vec![];
        if let Some(count) = count {
            let gone = (0..count).filter(|e| !pieces.contains_key(&Some(*e)));
            mistakes.extend(gone.map(|e| format!("{name}: expert {e} is missing, expected all of {count}")));
        }
        let (mut shape, mut dtype) = (None, DType::F32);
        for piece in pieces.values() {
            let Some(Found { shape: stored, format: Format::Dense(of) }) = folder.find(&piece.from, &[]) else {
                continue;
            };
            let here = piece.view.shape(&stored);
            let first = shape.get_or_insert_with(|| here.clone());
            if here.is_none() || *first != here {
                let expected = first.as_ref().map_or("one that fits the configuration".into(), |s| format!("{s:?}"));
                mistakes.push(format!("{}: shape, expected {expected}, got {stored:?}", piece.from));
            }
            dtype = of;
        }
        let Some(shape) = shape.flatten().filter(|_| mistakes.is_empty()) else { return Err(mistakes) };
        let shape: Vec<usize> = count.into_iter().chain(shape).collect();
        if dtype.is_float() && !UNCAST.iter().any(|end| name.ends_with(end)) {
            dtype = stated(config).unwrap_or(if dtype == DType::F64 { DType::F32 } else { dtype });
        }
        let packing = self.packing_of(&name, &shape, dtype);
        Ok(Made { name, shape, dtype, pieces: pieces.into_values().collect(), packing })
    }

    /// Group and bits of a tensor, if mlx_lm quantises it.
    fn packing_of(&self, name: &str, shape: &[usize], dtype: DType) -> Option<(usize, usize)> {
        let layer = name.strip_suffix(".weight").filter(|_| shape.len() > 1 && dtype.is_float())?;
        let is = |table: &[(&str, &str)]| table.iter().any(|(t, end)| *t == self.model_type && layer.ends_with(end));
        let packing = if is(&ROUTERS) { ROUTER } else { self.packing };
        let fits = |group: usize| shape[shape.len() - 1].is_multiple_of(group);
        (!is(&PLAIN) && fits(self.packing.0) && fits(packing.0)).then_some(packing)
    }

    /// What layers have that is not what all have, by their names.
    pub fn overrides(&self) -> BTreeMap<String, Value> {
        let own = self.tensors.iter().filter_map(|t| Some((t.layer(), t.packing?)));
        // mlx_lm notes these layers even where they have what all have
        let noted = |layer: &str| ROUTERS.iter().any(|(t, end)| *t == self.model_type && layer.ends_with(end));
        let own = own.filter(|(layer, _)| noted(layer));
        own.map(|(layer, (group, bits))| (layer.into(), json!({"group_size": group, "bits": bits}))).collect()
    }

    /// Builds the model of the configuration over tensors without memory: what is missing, of another shape or left over is an
    /// error before anything is written; what the model has no use for, a head beside tied embeddings, is dropped.
    pub fn check(&mut self, config: &Config) -> Result<()> {
        let entries = self.tensors.iter().flat_map(Made::codes).map(|e| (e.name, (e.shape, e.dtype)));
        let shapes = Shapes { entries: entries.collect(), asked: Arc::default() };
        let asked = shapes.asked.clone();
        models::load(config, shapes, DType::F32, &Load::default())?;
        let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.tensors.retain(|t| asked.contains(&t.name));
        Ok(())
    }
}

/// The dtype that the configuration states, if a file of mlx_lm may have it.
fn stated(config: &Config) -> Option<DType> {
    let name = config.get("dtype").or(config.get("torch_dtype"))?.as_str()?;
    crate::dtype_named(name.trim_start_matches("torch.")).filter(|d| *d != DType::F64)
}

/// What a tensor becomes: name, which expert's it is, and what is taken.
fn targets(config: &Config, name: &str, shape: &[usize]) -> Result<Vec<(String, Option<usize>, View)>> {
    let one = |name: String, view: View| Ok(vec![(name, None, view)]);
    let named = |from: &str, to: &str| name.strip_suffix(from).map(|stem| format!("{stem}{to}"));
    if let Some((before, rest)) = name.split_once(".experts.")
        && let [expert, projection, "weight"] = rest.split('.').collect::<Vec<_>>()[..]
        && let Ok(expert) = expert.parse()
    {
        let name = format!("{before}.switch_mlp.{}.weight", projected(projection));
        return Ok(vec![(name, Some(expert), View::Whole)]);
    }
    match config.model_type.as_str() {
        "lfm2_moe" => {
            let turned = name.ends_with("conv.conv.weight") && matches!(shape, [_, m, n] if n > m);
            let renamed = name.strip_suffix(".weight").and_then(|n| n.rsplit_once(".feed_forward."));
            let to = renamed.map(|(before, p)| format!("{before}.feed_forward.{}.weight", projected(p)));
            one(to.unwrap_or(name.into()), if turned { View::Transposed } else { View::Whole })
        }
        "deepseek_v3" | "glm4_moe_lite" => {
            let parts =
                named("kv_b_proj.weight", "embed_q.weight").zip(named("kv_b_proj.weight", "unembed_out.weight"));
            let Some((keys, values)) = parts else { return one(name.into(), View::Whole) };
            let fields: DeepseekV3 = config.fields()?;
            let sizes = [fields.base.num_attention_heads, fields.qk_nope_head_dim, fields.v_head_dim];
            Ok(vec![(keys, None, View::Keys(sizes)), (values, None, View::Values(sizes))])
        }
        "gpt_oss" => {
            for (from, to, view) in [
                ("gate_up_proj", "weight", View::Half as fn(usize) -> View),
                ("gate_up_proj_bias", "bias", View::HalfOfBias),
            ] {
                let halves = ["gate_proj", "up_proj"].map(|half| named(from, &format!("{half}.{to}")));
                if let [Some(gate), Some(up)] = halves {
                    return Ok(vec![(gate, None, view(0)), (up, None, view(1))]);
                }
            }
            match (named(".down_proj", ".down_proj.weight"), named(".down_proj_bias", ".down_proj.bias")) {
                (Some(weight), _) => one(weight, View::Transposed),
                (_, Some(bias)) => one(bias, View::Whole),
                _ => one(name.into(), View::Whole),
            }
        }
        _ => one(name.into(), View::Whole),
    }
}

/// mlx_lm's name of a projection.
fn projected(name: &str) -> &str {
    match name {
        "w1" => "gate_proj",
        "w2" => "down_proj",
        "w3" => "up_proj",
        other => other,
    }
}

/// Tensors of the output that have shapes and no numbers, and those of them that a model asked for.
struct Shapes {
    entries: HashMap<String, (Vec<usize>, DType)>,
    asked: Arc<Mutex<HashSet<String>>>,
}

impl Source for Shapes {
    fn find(&self, name: &str, _: &[usize]) -> Option<Found> {
        let (shape, dtype) = self.entries.get(name)?;
        Some(Found { shape: shape.clone(), format: Format::Dense(*dtype) })
    }

    fn dense(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into());
        Ok(Tensor::zeros((), dtype, device)?.broadcast_as(shape)?)
    }

    fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }
}
