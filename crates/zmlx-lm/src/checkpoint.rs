//! A checkpoint on disk: a folder of Hugging Face or MLX, or a GGUF file.

use crate::{
    Config, Error, Load, Model, Result, models,
    weights::{folder::Folder, gguf::Gguf},
};
use candle_core::DType;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A checkpoint whose configuration is read, and whose weights are not yet.
pub struct Checkpoint {
    /// Its configuration.
    pub config: Config,
    /// Where it is.
    pub place: Place,
}

/// What a checkpoint is.
pub enum Place {
    /// A folder with `config.json` and files of safetensors.
    Folder(PathBuf),
    /// A GGUF file.
    Gguf(Arc<Gguf>),
}

impl Checkpoint {
    /// Reads the configuration of a folder or the header of a file.
    ///
    /// # Errors
    /// A path with nothing there, or something that is no checkpoint; what is wrong with the configuration.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint> {
        let path = path.as_ref();
        let kind = fs::metadata(path).map_err(|e| Error::file(path, e))?;
        if kind.is_dir() {
            let file = path.join("config.json");
            let text = fs::read_to_string(&file).map_err(|e| Error::file(&file, e))?;
            let config = Config::parse(&file.display().to_string(), &text)?;
            models::find(&config)?;
            return Ok(Checkpoint { config, place: Place::Folder(path.into()) });
        }
        let file = Arc::new(Gguf::open(path)?);
        Ok(Checkpoint { config: file.config()?, place: Place::Gguf(file) })
    }

    /// The model with its weights.
    ///
    /// # Errors
    /// As [`models::load`], and what is wrong with the files.
    pub fn model(&self, load: &Load) -> Result<Model> {
        match &self.place {
            Place::Folder(path) => {
                let folder = Folder::open(path)?;
                let stated = self.config.get("dtype").or(self.config.get("torch_dtype")).and_then(|v| v.as_str());
                let stated = stated.and_then(|name| dtype_named(name.trim_start_matches("torch.")));
                let dtype = load.dtype.or(stated).or(folder.dtype()).unwrap_or(DType::F32);
                models::load(&self.config, folder, dtype, load)
            }
            Place::Gguf(file) => {
                let tensors = file.tensors(&self.config)?;
                models::load(&self.config, tensors, load.dtype.unwrap_or(DType::F32), load)
            }
        }
    }
}

/// A float type by the name that configurations and people have for it.
pub fn dtype_named(name: &str) -> Option<DType> {
    match name {
        "float64" | "f64" => Some(DType::F64),
        "float32" | "f32" => Some(DType::F32),
        "float16" | "f16" => Some(DType::F16),
        "bfloat16" | "bf16" => Some(DType::BF16),
        _ => None,
    }
}
