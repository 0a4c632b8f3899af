//! A folder as Hugging Face and MLX write it: `config.json`, and the tensors in one or several files of safetensors.

use super::{Format, Found, Source, map::Map};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
};

/// The tensors of all files of a folder.
pub struct Folder {
    files: Vec<Map>,
    tensors: HashMap<String, Place>,
}

struct Place {
    file: usize,
    at: std::ops::Range<usize>,
    shape: Vec<usize>,
    dtype: DType,
}

impl Folder {
    /// Maps the files that `model.safetensors.index.json` names, or all `*.safetensors` if there is no index.
    ///
    /// # Errors
    /// No file, a file that is missing, cut off or damaged, a tensor of a dtype that is not read, or in two files.
    pub fn open(folder: &Path) -> Result<Folder> {
        let names = files_of(folder)?;
        let mut all = Folder { files: vec![], tensors: HashMap::new() };
        for name in names {
            all.add(Map::open(&folder.join(name))?)?;
        }
        Ok(all)
    }

    fn add(&mut self, map: Map) -> Result<()> {
        let (header, metadata) = SafeTensors::read_metadata(map.bytes())
            .map_err(|e| Error::format(map.path(), format!("no safetensors: {e}")))?;
        // behind 8 bytes with the length of the header
        let start = header + 8;
        for (name, info) in metadata.tensors() {
            let dtype = dtype_of(info.dtype).ok_or_else(|| {
                Error::argument(
                    &map.path().display().to_string(),
                    format!("dtype of {name}"),
                    READ,
                    format!("{:?}", info.dtype),
                )
            })?;
            let at = start + info.data_offsets.0..start + info.data_offsets.1;
            let place = Place { file: self.files.len(), at, shape: info.shape.clone(), dtype };
            if let Some(other) = self.tensors.insert(name.clone(), place) {
                let other = self.files.get(other.file).unwrap_or(&map).path().display();
                return Err(Error::format(map.path(), format!("{name} is also in {other}")));
            }
        }
        self.files.push(map);
        Ok(())
    }

    /// The dtype of most numbers that are floats.
    pub fn dtype(&self) -> Option<DType> {
        let floats = [DType::BF16, DType::F16, DType::F32, DType::F64];
        let bytes = |d: DType| self.tensors.values().filter(|p| p.dtype == d).map(|p| p.at.len()).sum::<usize>();
        floats.into_iter().map(|d| (bytes(d), d)).filter(|(n, _)| *n > 0).max_by_key(|(n, _)| *n).map(|(_, d)| d)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.values().map(|p| p.at.len()).sum()
    }
}

fn files_of(folder: &Path) -> Result<Vec<String>> {
    let index = folder.join("model.safetensors.index.json");
    if index.exists() {
        let text = fs::read_to_string(&index).map_err(|e| Error::file(&index, e))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| Error::format(&index, e))?;
        let Some(map) = json.get("weight_map").and_then(|m| m.as_object()) else {
            return Err(Error::format(&index, "no object weight_map, expected names of tensors with their files"));
        };
        let files: BTreeSet<&str> = map.values().filter_map(|v| v.as_str()).collect();
        // a path out of the folder is no name of a shard
        if let Some(bad) = files.iter().find(|f| f.contains(['/', '\\'])) {
            return Err(Error::format(&index, format!("file {bad}, expected a name in this folder")));
        }
        return Ok(files.into_iter().map(String::from).collect());
    }
    let entries = fs::read_dir(folder).map_err(|e| Error::file(folder, e))?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".safetensors")).collect();
    names.sort();
    match names.is_empty() {
        true => Err(Error::format(folder, "no *.safetensors, expected weights beside config.json")),
        false => Ok(names),
    }
}

const READ: &str = "F64, F32, F16, BF16, U32, U8, I32 or I64";

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::U32 => DType::U32,
        Dtype::U8 => DType::U8,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        _ => return None,
    })
}

impl Source for Folder {
    fn find(&self, name: &str, _: &[usize]) -> Option<Found> {
        let place = self.tensors.get(name)?;
        Some(Found { shape: place.shape.clone(), format: Format::Dense(place.dtype) })
    }

    fn dense(&self, name: &str, _: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let place = self.tensors.get(name).ok_or_else(|| Error::argument("weights", name, "a tensor", "none"))?;
        let map = &self.files[place.file];
        let wrong = |expected: &str| {
            let path = map.path().display().to_string();
            Error::argument(&path, format!("dtype of {name}"), expected, place.dtype.as_str())
        };
        if dtype.is_float() != place.dtype.is_float() || !dtype.is_float() && dtype != place.dtype {
            return Err(wrong(dtype.as_str()));
        }
        let read = Read { map, place, device };
        match dtype {
            DType::F64 => read.floats::<f64>(|x| x),
            DType::F32 => read.floats::<f32>(|x| x as f32),
            DType::F16 => read.floats::<f16>(f16::from_f64),
            DType::BF16 => read.floats::<bf16>(bf16::from_f64),
            DType::U32 => read.tensor(u32::from_le_bytes),
            DType::U8 => read.tensor(u8::from_le_bytes),
            DType::I32 => read.tensor(i32::from_le_bytes),
            DType::I64 => read.tensor(i64::from_le_bytes),
            _ => Err(wrong(READ)),
        }
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }
}

/// A tensor that is read in chunks, so that beside its numbers only a few MiB of the file are in memory.
struct Read<'a> {
    map: &'a Map,
    place: &'a Place,
    device: &'a Device,
}

impl Read<'_> {
    /// Numbers of `N` bytes each.
    fn tensor<T: WithDType, const N: usize>(&self, number: impl Fn([u8; N]) -> T) -> Result<Tensor> {
        let mut numbers: Vec<T> = Vec::with_capacity(self.place.at.len() / N);
        self.map
            .read(self.place.at.clone(), |bytes| numbers.extend(bytes.as_chunks::<N>().0.iter().map(|b| number(*b))))?;
        Ok(Tensor::from_vec(numbers, self.place.shape.as_slice(), self.device)?)
    }

    /// Floats of the file's type as those of another: 16 bits widen exactly, so one rounding is left.
    fn floats<T: WithDType>(&self, from: impl Fn(f64) -> T) -> Result<Tensor> {
        let (stored, wanted) = (self.place.dtype, T::DTYPE);
        match stored {
            // bits as they are, NaN payloads too
            DType::F64 if stored == wanted => self.tensor(f64::from_le_bytes),
            DType::F32 if stored == wanted => self.tensor(f32::from_le_bytes),
            DType::F16 if stored == wanted => self.tensor(f16::from_le_bytes),
            DType::BF16 if stored == wanted => self.tensor(bf16::from_le_bytes),
            DType::F64 => self.tensor(|b| from(f64::from_le_bytes(b))),
            DType::F32 => self.tensor(|b| from(f64::from(f32::from_le_bytes(b)))),
            DType::F16 => self.tensor(|b| from(f64::from(f16::from_le_bytes(b)))),
            _ => self.tensor(|b| from(f64::from(bf16::from_le_bytes(b)))),
        }
    }
}
