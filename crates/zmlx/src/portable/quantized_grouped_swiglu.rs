//! Grouped gate and up projection with SwiGLU, of affine codes: h = silu(`x[index]`·gate_eᵀ) · (`x[index]`·up_eᵀ) for the rows of expert e
//!
//! gate and up are words `[E, N, K·bits/32]` in MLX's packing of 4 or 8 bits, each with scales and biases `[E, N, K/group]`; x `[T, K]`,
//! index `[R]`, offsets `[E + 1]` and h `[R, N]` are those of [`grouped_swiglu`](super::grouped_swiglu). Codes become floats of the dtype of x
//! on their way to shared memory. The gradient is by x, through dequantised matrices.
//! Cost: 4·R·N·K operations.
//! Source: the definition.

use super::{
    Case, Portable, dequantize_affine,
    grouped_matmul::{SIZES, index, plain, qwen3},
    moe_gate_up_swiglu::{Experts, packed_experts},
    quantized_grouped_matmul::PACKED,
};
use crate::{
    Result,
    entry::Gradient,
    grouped::{self, Matrices, plain_swiglu},
    host::affine::Packing,
};
use candle_core::{DType, Device, Tensor};

/// silu(`x[index]`·gate_eᵀ) · (`x[index]`·up_eᵀ) for the rows of each expert, of codes of `bits` bits: `[R, N]`. Tracked by `x` alone.
///
/// # Errors
/// Shapes or dtypes that do not belong together; bits other than 4 and 8; on a CPU an index or offsets out of range.
pub fn quantized_grouped_swiglu(
    x: &Tensor,
    index: Option<&Tensor>,
    gate: Experts<'_>,
    up: Experts<'_>,
    offsets: &Tensor,
    bits: usize,
) -> Result<Tensor> {
    let both = [("gate", Matrices::Codes(gate, bits)), ("up", Matrices::Codes(up, bits))];
    grouped::run("quantized_grouped_swiglu", x, index, &both, offsets)
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    if dtype == DType::F64 {
        return Ok(cases); // numbers are made in f32
    }
    for ((s, by_index), [bits, group]) in SIZES.iter().zip([false, true, true]).zip(PACKED) {
        let [x, index, offsets] = s.rows_of_x(by_index, dtype)?;
        let p = Packing { rows: s.n, cols: s.k, group, bits };
        let mut inputs = vec![x, index];
        inputs.extend(packed_experts(s.counts.len(), p, dtype, &Device::Cpu)?);
        // up is gate from its end
        let up = inputs[2..5].iter().map(|t| t.flip(&[0, 1])).collect::<candle_core::Result<Vec<_>>>()?;
        inputs.extend(up);
        inputs.push(offsets);
        let what = format!("{}, {bits} bits", s.what());
        cases.push(Case::new(&what, inputs, &[f64::from(u8::from(by_index)), bits as f64]));
    }
    Ok(cases)
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "quantized_grouped_swiglu",
    summary: "silu(x·gateᵀ) · (x·upᵀ) of the rows of each expert, of affine codes of 4 or 8 bits",
    zmlx: &[],
    args: &["x", "index", "gate", "gate_scales", "gate_biases", "up", "up_scales", "up_biases", "offsets"],
    settings: &["by_index", "bits"],
    gradient: Gradient::Custom,
    wrt: &[0],
    // matrices are rounded to the dtype, and products where the gradient makes them again
    roundings: [8.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let mut all = vec![];
        for (tokens, bits) in [(8192, 4), (8192, 8), (1024, 4)] {
            let ([x, index, offsets], experts) = qwen3(tokens, 2048, true, dtype, device)?;
            let rows = index.dim(0)?;
            let mut inputs = vec![x, index];
            let p = Packing { rows: 768, cols: 2048, group: 64, bits };
            let gate = packed_experts(experts, p, dtype, device)?;
            inputs.extend(gate.iter().chain(&gate).cloned());
            inputs.push(offsets);
            let what = format!("{rows} rows of {experts} experts, 2048 -> 768, {bits} bits");
            let bytes = (dtype.size_in_bytes() * rows * (768 + 2048) + experts * 2048 * 768 * bits / 4) as f64;
            let case = Case::new(&what, inputs, &[1.0, bits as f64]);
            let flops = 2.0 * (rows * 2048 * 768) as f64;
            all.push(Case { bytes, flops: [flops, 2.0 * flops], ..case });
        }
        Ok(all)
    },
    run: |t, settings| {
        let gate = Experts { words: &t[2], scales: &t[3], biases: &t[4] };
        let up = Experts { words: &t[5], scales: &t[6], biases: &t[7] };
        Ok(vec![quantized_grouped_swiglu(&t[0], index(t, settings), gate, up, &t[8], settings[1] as usize)?])
    },
    reference: |t, settings| {
        let of = |at: usize| -> candle_core::Result<Tensor> {
            plain(t, &dequantize_affine::reference(&t[at..at + 3], &settings[1..])?[0], settings)
        };
        Ok(vec![plain_swiglu(&of(2)?, &of(5)?)?])
    },
};
