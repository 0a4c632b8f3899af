//! The part of the catalog that no formula says: kernels written by hand over a common prelude, one file each, for all GPU
//! targets, with a CPU side of their own. The lists are written by `cargo xtask index` from the folder.

// index: begin
pub mod attention;
pub mod dequantize_affine;
pub mod grouped_matmul;
pub mod grouped_swiglu;
pub mod moe_down_combine;
pub mod moe_gate_up_swiglu;
pub mod paged_attention;
pub mod quantize_affine;
pub mod quantized_grouped_matmul;
pub mod quantized_grouped_swiglu;
pub mod quantized_matvec;

/// Every kernel that is written by hand, by name.
pub static PORTABLES: &[&Portable] = &[
    &attention::ENTRY,
    &dequantize_affine::ENTRY,
    &grouped_matmul::ENTRY,
    &grouped_swiglu::ENTRY,
    &moe_down_combine::ENTRY,
    &moe_gate_up_swiglu::ENTRY,
    &paged_attention::ENTRY,
    &quantize_affine::ENTRY,
    &quantized_grouped_matmul::ENTRY,
    &quantized_grouped_swiglu::ENTRY,
    &quantized_matvec::ENTRY,
];
// index: end

use crate::{Result, entry::Gradient};
use candle_core::{DType as CandleType, Device, Tensor};

/// A kernel of the catalog that is written by hand. Its launches are those of [`RawKernel`](crate::RawKernel)s, so a test that
/// takes these over runs all of it as the text of a GPU.
pub struct Portable {
    /// Name of the kernel and of its file.
    pub name: &'static str,
    /// What it computes, in one line.
    pub summary: &'static str,
    /// The kernels of ZMLX that it covers, as `module.function`.
    pub zmlx: &'static [&'static str],
    /// Names of the inputs.
    pub args: &'static [&'static str],
    /// Names of the numbers that a call takes beside them.
    pub settings: &'static [&'static str],
    /// Its gradient, by the inputs of `wrt`.
    pub gradient: Gradient,
    /// Inputs that have a gradient.
    pub wrt: &'static [usize],
    /// Roundings that may add up: of the dtype, and of f32.
    pub roundings: [f64; 2],
    /// What is checked, with floats of this dtype.
    pub cases: fn(CandleType) -> candle_core::Result<Vec<Case>>,
    /// What is measured.
    pub sizes: fn(CandleType, &Device) -> candle_core::Result<Vec<Case>>,
    /// Runs it.
    pub run: fn(&[Tensor], &[f64]) -> Result<Vec<Tensor>>,
    /// The same in plain candle ops; the harness gives it floats in f64.
    pub reference: fn(&[Tensor], &[f64]) -> candle_core::Result<Vec<Tensor>>,
}

/// Inputs of a kernel.
pub struct Case {
    /// What is special about it.
    pub what: String,
    /// In the order of the arguments.
    pub inputs: Vec<Tensor>,
    /// In the order of the settings.
    pub settings: Vec<f64>,
    /// What a launch moves at least, for measurements.
    pub bytes: f64,
    /// Multiplications with an addition, where they and not the bytes are the floor: forward, and with the gradient.
    pub flops: [f64; 2],
}

impl Case {
    /// A case to be checked.
    pub fn new(what: &str, inputs: Vec<Tensor>, settings: &[f64]) -> Case {
        Case { what: what.into(), inputs, settings: settings.to_vec(), bytes: 0.0, flops: [0.0; 2] }
    }
}

/// Numbers in (−1, 1) that are the same in every process, in this shape and dtype.
pub fn numbers(shape: &[usize], dtype: CandleType, seed: u32, device: &Device) -> candle_core::Result<Tensor> {
    let n: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    Tensor::from_vec((0..n).map(|_| next()).collect::<Vec<f32>>(), shape, device)?.to_dtype(dtype)
}

/// Any words.
pub fn words(shape: &[usize], seed: u32, device: &Device) -> candle_core::Result<Tensor> {
    let n: usize = shape.iter().product::<usize>();
    let mix =
        |i: usize| ((i as u32).wrapping_add(seed)).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
    Tensor::from_vec((0..n).map(|i| mix(i) ^ mix(i) >> 15).collect::<Vec<u32>>(), shape, device)
}

/// The kernel of this name.
pub fn find(name: &str) -> Option<&'static Portable> {
    PORTABLES.iter().copied().find(|e| e.name == name)
}
