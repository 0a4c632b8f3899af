//! What the verbs of language models share: which checkpoint, how it is loaded, how tokens are chosen.

use crate::{device, out};
use candle_core::DType;
use std::{
    io::IsTerminal,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use zmlx_lm::{
    Checkpoint, Load, Mode, Model, dtype_named,
    patch::{PatchReport, SmartOptions, patch, smart_patch},
    text::Sampling,
};

/// `--model` and how it is loaded.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A folder of Hugging Face or MLX, or a GGUF file
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    how: LoadArgs,
}

/// How a model is loaded.
#[derive(clap::Args)]
pub struct LoadArgs {
    /// The device to run on (default: the best that is there)
    #[arg(long, value_parser = device::NAMES)]
    device: Option<String>,
    /// Type of activations and of weights that are not quantised (default: f32 on a CPU and for GGUF, else that of the checkpoint)
    #[arg(long, value_parser = ["f32", "f16", "bf16", "f64"])]
    dtype: Option<String>,
    /// Make quantised weights dense when they are loaded: more memory, and no rounding of activations beside GGUF's blocks
    #[arg(long)]
    dequantize: bool,
}

impl ModelArgs {
    /// The checkpoint's configuration.
    pub fn checkpoint(&self) -> zmlx_lm::Result<Checkpoint> {
        Checkpoint::open(&self.model)
    }

    /// The model. Progress goes to a terminal's standard error.
    pub fn load(&self, checkpoint: &Checkpoint) -> Result<Model, Box<dyn std::error::Error>> {
        Ok(checkpoint.model(&self.how.load()?)?)
    }
}

impl LoadArgs {
    /// As the library has it: by default f32 on a CPU. Progress goes to a terminal's standard error.
    pub fn load(&self) -> Result<Load, Box<dyn std::error::Error>> {
        let device = device::open(self.device.as_deref())?;
        let given = self.dtype.as_deref().and_then(dtype_named);
        let dtype = given.or(device.is_cpu().then_some(DType::F32));
        let shown = AtomicU64::new(0);
        let progress = move |read: u64, all: u64| {
            let percent = read * 100 / all.max(1);
            if shown.swap(percent, Ordering::Relaxed) != percent {
                out::note(format_args!("\rloading {percent} %{}", if percent == 100 { "\r\x1b[K" } else { "" }));
            }
        };
        let terminal = std::io::stderr().is_terminal();
        let progress = terminal.then(|| Arc::new(progress) as Arc<dyn Fn(u64, u64) + Send + Sync>);
        Ok(Load { device, dtype, dequantize: self.dequantize, progress })
    }
}

/// `--patch`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Patch {
    /// The plain path
    None,
    /// Kernels between the products of feed-forward blocks
    Inference,
    /// Kernels with fused gradients
    Training,
    /// What proves right and faster here, on the prompt
    Smart,
}

/// Most tokens of a prompt that `--patch smart` tries its patterns on.
const SAMPLE: usize = 16;

impl Patch {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Patch::None => "none",
            Patch::Inference => "inference",
            Patch::Training => "training",
            Patch::Smart => "smart",
        }
    }

    /// Patches a model that is about to read this prompt.
    pub fn apply(self, model: &mut Model, prompt: &[u32]) -> zmlx_lm::Result<Option<PatchReport>> {
        Ok(Some(match self {
            Patch::None => return Ok(None),
            Patch::Inference => patch(model, Mode::Inference)?,
            Patch::Training => patch(model, Mode::Training)?,
            Patch::Smart => {
                let sample = &prompt[..prompt.len().min(SAMPLE)];
                let sample = candle_core::Tensor::new(sample, &model.facts.device)?.unsqueeze(0)?;
                smart_patch(model, &sample, &SmartOptions::default())?
            }
        }))
    }
}

/// How tokens are chosen.
#[derive(clap::Args)]
pub struct SamplingArgs {
    /// Most tokens of an answer
    #[arg(long, default_value_t = 256)]
    pub max_tokens: usize,
    /// Logits are divided by it; 0 takes the most likely token
    #[arg(long = "temp", default_value_t = 0.0)]
    temperature: f64,
    /// Only the most likely tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Only this many of the most likely tokens (0: all)
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Only tokens with at least this part of the largest probability
    #[arg(long, default_value_t = 0.0)]
    min_p: f64,
    /// Above 1: what was said in the last 64 tokens is less likely
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f64,
    /// The same seed makes the same choices
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            ..Sampling::default()
        }
    }
}

/// The most memory that this process had, where the system tells.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
