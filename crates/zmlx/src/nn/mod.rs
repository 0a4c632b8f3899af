//! Layers and losses with the names, constructors and signatures of candle_nn's, whose gradients arrive: `use zmlx::nn::{RmsNorm,
//! rms_norm}` in the place of `use candle_nn::{RmsNorm, rms_norm}`. A model that has candle's layers turns them into these with
//! `into()`. Functions are in [`crate::ops`], optimizers in [`crate::optim`].
//!
//! | here | candle 0.11.1 | candle's gradient |
//! |---|---|---|
//! | [`RmsNorm`] [`LayerNorm`] | `candle_nn`, one kernel for contiguous inputs (without a bias, or strided: several) | lost, without an error (several: kept) |
//! | [`QMatMul`] | `candle_core::quantized` | lost, without an error |
//! | [`loss::cross_entropy`] | `candle_nn::loss`, several kernels | kept |
//!
//! Beside them [`linear_cross_entropy`], the loss of a head without its logits in memory, which candle has not.

mod linear_cross_entropy;
pub mod loss;
mod norm;
mod quantized;

pub use linear_cross_entropy::{LinearCrossEntropy, Reduction, linear_cross_entropy};
pub use norm::{LayerNorm, LayerNormConfig, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm};
pub use quantized::QMatMul;
