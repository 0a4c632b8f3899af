//! Files of safetensors whose tensors are written one after the other, in parts, at the places that the header states.

use super::{
    plan::{Entry, Made},
    write_json,
};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use safetensors::View;
use serde_json::{Map, Value, json};
use std::{
    collections::HashMap,
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// All files of the weights.
pub struct Shards {
    files: Vec<(PathBuf, File)>,
    /// Of each tensor the file, and where its first byte is.
    places: HashMap<String, (usize, u64)>,
    bytes: u64,
}

impl Shards {
    /// Makes the files, with their headers; a file has at most `most` bytes, unless one tensor has more.
    pub fn create(folder: &Path, tensors: &[Made], most: u64) -> Result<Shards> {
        let mut groups: Vec<(u64, Vec<Entry>)> = vec![];
        for tensor in tensors {
            let entries = tensor.codes();
            let more: u64 = entries.iter().map(bytes).sum();
            match groups.last_mut() {
                Some((size, group)) if *size + more <= most => {
                    *size += more;
                    group.extend(entries);
                }
                _ => groups.push((more, entries)),
            }
        }
        let bytes = groups.iter().map(|(size, _)| size).sum();
        let mut all = Shards { files: vec![], places: HashMap::new(), bytes };
        let count = groups.len();
        for (i, (_, entries)) in groups.into_iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".into(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
            };
            all.begin(folder.join(name), entries)?;
        }
        Ok(all)
    }

    fn begin(&mut self, path: PathBuf, mut entries: Vec<Entry>) -> Result<()> {
        // wide numbers first, so that each begins at a multiple of its size
        entries.sort_by_key(|e| std::cmp::Reverse(e.dtype.size_in_bytes()));
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "mlx"}));
        let (mut at, mut starts) = (0, vec![]);
        for entry in &entries {
            let end = at + bytes(entry);
            let dtype = name_of(entry).map_err(|e| Error::format(&path, e))?;
            header.insert(entry.name.clone(), json!({"dtype": dtype, "shape": entry.shape, "data_offsets": [at, end]}));
            starts.push(at);
            at = end;
        }
        let mut text = Value::Object(header).to_string();
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        let told = |e| Error::file(&path, e);
        let mut file = File::create_new(&path).map_err(told)?;
        file.write_all(&(text.len() as u64).to_le_bytes())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(told)?;
        let (here, first) = (self.files.len(), 8 + text.len() as u64);
        self.places.extend(entries.into_iter().zip(starts).map(|(e, start)| (e.name, (here, first + start))));
        self.files.push((path, file));
        Ok(())
    }

    /// Writes a tensor, or the part of this number of one that has several of the same size.
    pub fn put(&mut self, name: &str, part: usize, t: &Tensor) -> Result<()> {
        let missing = || Error::argument("convert", name, "a tensor of the plan", "none");
        let (file, start) = self.places.get(name).ok_or_else(missing)?;
        let (path, file) = &mut self.files[*file];
        let data = t.data();
        let at = start + (part * data.len()) as u64;
        let written = file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&data));
        written.map_err(|e| Error::file(path, e))
    }

    /// Waits until all is on the disk, and writes the index; the number of files, and the bytes of all tensors.
    pub fn finish(self, folder: &Path, parameters: u64) -> Result<(usize, u64)> {
        self.files.iter().try_for_each(|(path, file)| file.sync_all().map_err(|e| Error::file(path, e)))?;
        let file = |i: usize| self.files[i].0.file_name().map(|n| n.to_string_lossy().into_owned());
        let map: Map<String, Value> =
            self.places.iter().map(|(name, (i, _))| (name.clone(), json!(file(*i)))).collect();
        let index = json!({
            "metadata": {"total_size": self.bytes, "total_parameters": parameters},
            "weight_map": map,
        });
        write_json(&folder.join("model.safetensors.index.json"), &index)?;
        Ok((self.files.len(), self.bytes))
    }
}

fn bytes(entry: &Entry) -> u64 {
    entry.shape.iter().product::<usize>() as u64 * entry.dtype.size_in_bytes() as u64
}

fn name_of(entry: &Entry) -> std::result::Result<&'static str, String> {
    Ok(match entry.dtype {
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::U32 => "U32",
        other => return Err(format!("{} of {}, expected f32, f16, bf16 or u32", entry.name, other.as_str())),
    })
}
