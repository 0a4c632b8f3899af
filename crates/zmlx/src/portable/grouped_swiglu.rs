//! Grouped gate and up projection with SwiGLU: h = silu(`x[index]`·gate_eᵀ) · (`x[index]`·up_eᵀ) for the rows of each expert e
//!
//! | name     | shape     | dtype            | note                                                       |
//! |----------|-----------|------------------|------------------------------------------------------------|
//! | x        | `[T, K]`    | f16 bf16 f32 f64 | tokens                                                     |
//! | index    | `[R]`       | u32              | optional, as in [`grouped_matmul`](super::grouped_matmul)  |
//! | gate, up | `[E, N, K]` | as x             |                                                            |
//! | offsets  | `[E + 1]`   | u32              | as there                                                   |
//! | h        | `[R, N]`    | as x             | products are f32, rounded once                             |
//! Cost: 4·R·N·K operations.
//! Source: the definition; arXiv:2002.05202.
//!
//! One launch, as [`grouped_matmul`](super::grouped_matmul): a tile has as many columns of gate as of up. The gradient makes both
//! products again.

use super::{
    Case, Portable,
    grouped_matmul::{SIZES, index, plain, qwen3},
    numbers,
};
use crate::{
    Result,
    entry::Gradient,
    grouped::{self, Matrices, plain_swiglu},
};
use candle_core::{DType, Device, Tensor};

/// silu(`x[index]`·gate_eᵀ) · (`x[index]`·up_eᵀ) for the rows of each expert: `[R, N]`.
///
/// # Errors
/// Shapes or dtypes that do not belong together; on a CPU an index or offsets out of range.
pub fn grouped_swiglu(
    x: &Tensor,
    index: Option<&Tensor>,
    gate: &Tensor,
    up: &Tensor,
    offsets: &Tensor,
) -> Result<Tensor> {
    let both = [("gate", Matrices::Floats(gate)), ("up", Matrices::Floats(up))];
    grouped::run("grouped_swiglu", x, index, &both, offsets)
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    for (s, by_index) in SIZES.iter().zip([false, true, true]) {
        let [x, index, offsets] = s.rows_of_x(by_index, dtype)?;
        let of = |seed| (numbers(&[s.counts.len(), s.n, s.k], DType::F64, seed, &Device::Cpu)? * 0.3)?.to_dtype(dtype);
        cases.push(Case::new(&s.what(), vec![x, index, of(5)?, of(6)?, offsets], &[f64::from(u8::from(by_index))]));
    }
    Ok(cases)
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "grouped_swiglu",
    summary: "silu(x·gateᵀ) · (x·upᵀ) of the rows of each expert, that lie side by side",
    zmlx: &[],
    args: &["x", "index", "gate", "up", "offsets"],
    settings: &["by_index"],
    gradient: Gradient::Custom,
    wrt: &[0, 2, 3],
    // gate and up are rounded where the gradient makes them again
    roundings: [8.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let mut all = vec![];
        for tokens in [8192, 1024] {
            let ([x, index, offsets], experts) = qwen3(tokens, 2048, true, dtype, device)?;
            let of = |seed| numbers(&[experts, 768, 2048], dtype, seed, device)? * 0.05;
            let (rows, size) = (index.dim(0)?, dtype.size_in_bytes());
            let what = format!("{rows} rows of {experts} experts, 2048 -> 768");
            let case = Case::new(&what, vec![x, index, of(2)?, of(3)?, offsets], &[1.0]);
            let bytes = (size * (rows * (2048 + 768) + 2 * experts * 2048 * 768)) as f64;
            let flops = 2.0 * (rows * 2048 * 768) as f64;
            // those that the gradient makes again are not counted
            all.push(Case { bytes, flops: [flops, 3.0 * flops], ..case });
        }
        Ok(all)
    },
    run: |t, settings| Ok(vec![grouped_swiglu(&t[0], index(t, settings), &t[2], &t[3], &t[4])?]),
    reference: |t, settings| Ok(vec![plain_swiglu(&plain(t, &t[2], settings)?, &plain(t, &t[3], settings)?)?]),
};
