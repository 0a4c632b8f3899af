//! Grouped matrix product: y = `x[index]`·w_eᵀ for the rows of each expert e, on matrix units
//!
//! | name    | shape     | dtype            | note                                                                    |
//! |---------|-----------|------------------|-------------------------------------------------------------------------|
//! | x       | `[T, K]`    | f16 bf16 f32 f64 | tokens                                                                  |
//! | index   | `[R]`       | u32              | optional: the row of x of each row of y; without it R = T               |
//! | w       | `[E, N, K]` | as x             | a matrix an expert                                                      |
//! | offsets | `[E + 1]`   | u32              | rows of y of expert e: from `offsets[e]` up to `offsets[e + 1]`; 0 first    |
//! | y       | `[R, N]`    | as x             | summed in f32, rounded once; 0 in rows of no expert                     |
//! Cost: 2·R·N·K operations. Each expert's matrix is read once for a few tiles of 128 rows.
//! Source: the definition; `moe_dispatch` gives the index (`tokens`) and the offsets.
//!
//! On a GPU nothing waits for the host. f16 and bf16 with N and K of a multiple of 8 go through matrix units; else candle multiplies, an expert
//! at a time. On matrix units a row that x has not gives NaN; where candle multiplies
//! it stops a GPU. Gradients by x and w are products of the same kind.

use super::{Case, Portable, numbers};
use crate::{
    Result,
    entry::Gradient,
    grouped::{self, Matrices},
};
use candle_core::{DType, Device, Tensor};

/// `x[index]`·w_eᵀ for the rows of each expert: `[R, N]`.
///
/// # Errors
/// Shapes or dtypes that do not belong together; on a CPU an index or offsets out of range.
pub fn grouped_matmul(x: &Tensor, index: Option<&Tensor>, w: &Tensor, offsets: &Tensor) -> Result<Tensor> {
    grouped::run("grouped_matmul", x, index, &[("w", Matrices::Floats(w))], offsets)
}

/// Rows of experts: how many tokens there are, rows of each expert, rows and columns of matrices.
pub(super) struct Sizes {
    pub tokens: usize,
    pub counts: &'static [u32],
    pub n: usize,
    pub k: usize,
    /// Rows of no expert.
    pub rest: usize,
}

/// Few rows an expert, some of none; many rows; rows of y that do not fill 16 bytes.
pub(super) const SIZES: [Sizes; 3] = [
    Sizes { tokens: 9, counts: &[3, 0, 65], n: 24, k: 96, rest: 2 },
    Sizes { tokens: 150, counts: &[130, 0, 20], n: 72, k: 160, rest: 0 },
    Sizes { tokens: 5, counts: &[4, 1, 2], n: 9, k: 32, rest: 1 },
];

impl Sizes {
    pub(super) fn rows(&self) -> usize {
        self.counts.iter().sum::<u32>() as usize + self.rest
    }
    /// x, the index and the offsets; without an index x has a row for each row of the result.
    pub(super) fn rows_of_x(&self, by_index: bool, dtype: DType) -> candle_core::Result<[Tensor; 3]> {
        let device = &Device::Cpu;
        let tokens = if by_index { self.tokens } else { self.rows() };
        let index: Vec<u32> = (0..self.rows()).map(|r| (r * 7 % self.tokens) as u32).collect();
        let ends = self.counts.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        });
        let offsets: Vec<u32> = [0].into_iter().chain(ends).collect();
        let x = numbers(&[tokens, self.k], dtype, 3, device)?;
        Ok([x, Tensor::new(index, device)?, Tensor::new(offsets, device)?])
    }
    pub(super) fn what(&self) -> String {
        format!("{:?} rows and {} of no expert, {}x{}", self.counts, self.rest, self.n, self.k)
    }
}

/// Qwen3-30B-A3B: 8 of 128 experts, 2048 x 768, this many tokens; on a CPU an eighth of experts and tokens. x, index and offsets for
/// K columns; and the number of experts.
pub(super) fn qwen3(
    tokens: usize,
    k: usize,
    by_index: bool,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<([Tensor; 3], usize)> {
    let less = if device.is_cpu() { 8 } else { 1 };
    let (tokens, experts) = (tokens / less, 128 / less);
    let rows = tokens * 8;
    let index: Vec<u32> = (0..rows).map(|r| (r * 101 % tokens) as u32).collect();
    // uneven: an expert has up to half as many again as the least
    let weight = |e: usize| 16 + (e * 37 % 9);
    let all: usize = (0..experts).map(weight).sum();
    let ends = (0..=experts).map(|e| ((0..e).map(weight).sum::<usize>() * rows / all) as u32);
    let x = numbers(&[if by_index { tokens } else { rows }, k], dtype, 1, device)?;
    let offsets: Vec<u32> = ends.collect();
    Ok(([x, Tensor::new(index, device)?, Tensor::new(offsets, device)?], experts))
}

/// The index, if the first number says so.
pub(super) fn index<'a>(t: &'a [Tensor], settings: &[f64]) -> Option<&'a Tensor> {
    (settings[0] != 0.0).then(|| &t[1])
}

/// The same in candle's ops, by the last input's offsets.
pub(super) fn plain(t: &[Tensor], w: &Tensor, settings: &[f64]) -> candle_core::Result<Tensor> {
    grouped::plain(&t[0], index(t, settings), w, &t[t.len() - 1].to_vec1::<u32>()?)
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    for (s, by_index) in SIZES.iter().zip([true, false, true]) {
        let [x, index, offsets] = s.rows_of_x(by_index, dtype)?;
        let w = numbers(&[s.counts.len(), s.n, s.k], dtype, 5, &Device::Cpu)?;
        cases.push(Case::new(&s.what(), vec![x, index, w, offsets], &[f64::from(u8::from(by_index))]));
    }
    Ok(cases)
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "grouped_matmul",
    summary: "y = x·wᵀ of the rows of each expert, that lie side by side",
    zmlx: &[],
    args: &["x", "index", "w", "offsets"],
    settings: &["by_index"],
    gradient: Gradient::Custom,
    wrt: &[0, 2],
    roundings: [4.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let mut all = vec![];
        for tokens in [8192, 1024] {
            // the down projection
            let ([x, index, offsets], experts) = qwen3(tokens, 768, false, dtype, device)?;
            let w = numbers(&[experts, 2048, 768], dtype, 2, device)?;
            let (rows, size) = (x.dim(0)?, dtype.size_in_bytes());
            let what = format!("{rows} rows of {experts} experts, 768 -> 2048");
            let case = Case::new(&what, vec![x, index, w, offsets], &[0.0]);
            let bytes = (size * (rows * (768 + 2048) + experts * 2048 * 768)) as f64;
            let flops = (rows * 2048 * 768) as f64;
            all.push(Case { bytes, flops: [flops, 3.0 * flops], ..case });
        }
        Ok(all)
    },
    run: |t, settings| Ok(vec![grouped_matmul(&t[0], index(t, settings), &t[2], &t[3])?]),
    reference: |t, settings| Ok(vec![plain(t, &t[2], settings)?]),
};
