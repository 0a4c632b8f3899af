//! Language models as their authors published them, on candle tensors, written over blocks that can be swapped for kernels.
//!
//! ```
//! use candle_core::{DType, Tensor};
//! use zmlx_lm::{Config, Load, models, weights::random::Random};
//!
//! let config = Config::parse(
//!     "config.json",
//!     r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
//!         "num_attention_heads": 4, "vocab_size": 50, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}"#,
//! )?;
//! let model = models::load(&config, Random { seed: 1 }, DType::F32, &Load::default())?;
//! let mut cache = model.new_cache(1, 64)?;
//! let tokens = Tensor::new(&[[1u32, 2, 3]], &model.facts.device)?;
//! assert_eq!(model.forward(&tokens, &mut cache)?.dims(), [1, 3, 50]);
//! # Ok::<(), zmlx_lm::Error>(())
//! ```
//!
//! Kernels go into the places that the blocks have for them, and out again:
//!
//! ```
//! # use zmlx_lm::{Config, Load, models, weights::random::Random};
//! # let config = Config::parse(
//! #     "config.json",
//! #     r#"{"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
//! #         "num_attention_heads": 4, "vocab_size": 50, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}"#,
//! # )?;
//! # let mut model = models::load(&config, Random { seed: 1 }, candle_core::DType::F32, &Load::default())?;
//! use zmlx_lm::{Mode, patch, unpatch};
//!
//! let report = patch(&mut model, Mode::Inference)?;
//! assert_eq!(report.counts()[0], ("swiglu_mlp", 2));
//! assert_eq!(unpatch(&mut model), 2);
//! # Ok::<(), zmlx_lm::Error>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `config.json`, or the same made of a GGUF file's metadata |
//! | [`weights`] | tensors by name, whatever file they are in; what is missing, superfluous or of another shape |
//! | [`blocks`] | what models are made of: each has a path in plain candle, and a place for a kernel |
//! | [`models`] | one file a `model_type`: its fields, and the blocks that it is made of |
//! | [`convert`] | a folder quantised to MLX's affine codes, readable by mlx_lm |
//! | [`mod@patch`] | kernels of the catalog in those places, and out of them again |
//! | [`text`] | tokenizer, chat template, sampler, and the loop that generates |

pub mod blocks;
mod checkpoint;
pub mod config;
pub mod convert;
pub mod decoder;
mod error;
pub mod models;
pub mod patch;
pub mod text;
pub mod weights;

pub use blocks::{Cache, Model};
pub use checkpoint::{Checkpoint, Place, dtype_named};
pub use config::Config;
pub use error::{Error, Result};
pub use patch::{Mode, patch, smart_patch, unpatch};
pub use weights::{Load, Weights};
