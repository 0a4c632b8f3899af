//! Grouped matrix product with affine codes: y = `x[index]`·w_eᵀ for the rows of each expert e
//!
//! w is words `[E, N, K·bits/32]` in MLX's packing of 4 or 8 bits, with scales and biases `[E, N, K/group]`; x `[T, K]`, index `[R]`,
//! offsets `[E + 1]` and y `[R, N]` are those of [`grouped_matmul`](super::grouped_matmul). Codes become floats of the dtype of x on their way to
//! shared memory, so they are read from memory as codes; sums are in f32. The gradient is by x, through dequantised matrices.
//! Cost: 2·R·N·K operations.
//! Source: the definition.

use super::{
    Case, Portable, dequantize_affine,
    grouped_matmul::{SIZES, index, plain, qwen3},
    moe_gate_up_swiglu::{Experts, packed_experts},
};
use crate::{
    Result,
    entry::Gradient,
    grouped::{self, Matrices},
    host::affine::Packing,
};
use candle_core::{DType, Device, Tensor};

/// `x[index]`·w_eᵀ for the rows of each expert, of codes of `bits` bits: `[R, N]`. Tracked by `x` alone.
///
/// # Errors
/// Shapes or dtypes that do not belong together; bits other than 4 and 8; on a CPU an index or offsets out of range.
pub fn quantized_grouped_matmul(
    x: &Tensor,
    index: Option<&Tensor>,
    w: Experts<'_>,
    offsets: &Tensor,
    bits: usize,
) -> Result<Tensor> {
    grouped::run("quantized_grouped_matmul", x, index, &[("w", Matrices::Codes(w, bits))], offsets)
}

/// Bits and groups of each of [`SIZES`].
pub(super) const PACKED: [[usize; 2]; 3] = [[4, 32], [8, 32], [4, 32]];

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    if dtype == DType::F64 {
        return Ok(cases); // numbers are made in f32
    }
    for ((s, by_index), [bits, group]) in SIZES.iter().zip([true, false, true]).zip(PACKED) {
        let [x, index, offsets] = s.rows_of_x(by_index, dtype)?;
        let p = Packing { rows: s.n, cols: s.k, group, bits };
        let mut inputs = vec![x, index];
        inputs.extend(packed_experts(s.counts.len(), p, dtype, &Device::Cpu)?);
        inputs.push(offsets);
        let what = format!("{}, {bits} bits", s.what());
        cases.push(Case::new(&what, inputs, &[f64::from(u8::from(by_index)), bits as f64]));
    }
    Ok(cases)
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "quantized_grouped_matmul",
    summary: "y = x·wᵀ of the rows of each expert, w of affine codes of 4 or 8 bits",
    zmlx: &[],
    args: &["x", "index", "w", "w_scales", "w_biases", "offsets"],
    settings: &["by_index", "bits"],
    gradient: Gradient::Custom,
    wrt: &[0],
    // matrices are rounded to the dtype
    roundings: [4.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let mut all = vec![];
        for (tokens, bits) in [(8192, 4), (8192, 8), (1024, 4)] {
            let ([x, index, offsets], experts) = qwen3(tokens, 768, false, dtype, device)?;
            let rows = x.dim(0)?;
            let mut inputs = vec![x, index];
            let p = Packing { rows: 2048, cols: 768, group: 64, bits };
            inputs.extend(packed_experts(experts, p, dtype, device)?);
            inputs.push(offsets);
            let what = format!("{rows} rows of {experts} experts, 768 -> 2048, {bits} bits");
            let bytes = (dtype.size_in_bytes() * rows * (768 + 2048) + experts * 2048 * 768 * bits / 8) as f64;
            let case = Case::new(&what, inputs, &[0.0, bits as f64]);
            let flops = (rows * 2048 * 768) as f64;
            all.push(Case { bytes, flops: [flops, 2.0 * flops], ..case });
        }
        Ok(all)
    },
    run: |t, settings| {
        let w = Experts { words: &t[2], scales: &t[3], biases: &t[4] };
        Ok(vec![quantized_grouped_matmul(&t[0], index(t, settings), w, &t[5], settings[1] as usize)?])
    },
    reference: |t, settings| {
        let w = dequantize_affine::reference(&t[2..5], &settings[1..])?.swap_remove(0);
        Ok(vec![plain(t, &w, settings)?])
    },
};
