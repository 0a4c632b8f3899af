//! Rows of affine codes of 4 or 8 bits times rows of floats: as dot products in the codes, or a tile of floats at a time.

use super::{
    affine::{Packing, Row, ToF32},
    in_parts,
};
use crate::bridge;
use candle_core::Tensor;
use zmlx_runtime::{
    Slice,
    backend::cpu::{
        simd::{Fma, Loop, dispatch},
        widen,
    },
};

/// Words that the loops read at once: those of a group, up to 8. (Of 16, LLVM keeps the sums in memory: a
/// sixth of the speed; the loop is written as it is because of what LLVM makes of it.)
fn lanes(p: Packing) -> usize {
    (p.group * p.bits / 32).min(8)
}

/// Rows of x that share what is made of the words.
const TOGETHER: usize = 4;

/// A row of floats as the loops read it.
pub struct Spread {
    /// For each so many words, the elements of the first code of each, then of the second …
    x: Vec<f32>,
    /// The sum of each group.
    sums: Vec<f32>,
}

impl Spread {
    /// Of these floats.
    pub fn of(x: &[f32], p: Packing) -> Spread {
        let (per, lanes) = (32 / p.bits, lanes(p));
        let mut out = Vec::with_capacity(x.len());
        for block in x.chunks(per * lanes) {
            for j in 0..per {
                out.extend((0..lanes).map(|l| block[l * per + j]));
            }
        }
        Spread { x: out, sums: x.chunks(p.group).map(|g| g.iter().sum()).collect() }
    }
}

struct Dot<'a, const BITS: usize, const LANES: usize, const M: usize> {
    words: &'a [u32],
    scales: &'a [f32],
    biases: &'a [f32],
    x: [&'a Spread; M],
    group: usize,
}

impl<const BITS: usize, const LANES: usize, const M: usize> Loop for Dot<'_, BITS, LANES, M> {
    type Output = [f32; M];
    #[inline(always)]
    fn run<F: Fma>(self) -> [f32; M] {
        let per = 32 / BITS;
        let mask = (1u32 << BITS) - 1;
        let mut total = [[0f32; LANES]; M];
        let mut rest = [0f32; M];
        for (g, words) in self.words.chunks_exact(self.group / per).enumerate() {
            // one row has two chains of additions
            let mut sums = [[[0f32; LANES]; M]; 2];
            for (k, words) in words.chunks_exact(LANES).enumerate() {
                let at = g * self.group + k * LANES * per;
                let x: [&[f32]; M] = std::array::from_fn(|m| &self.x[m].x[at..at + LANES * per]);
                for j in 0..per {
                    let mut q = [0f32; LANES];
                    for l in 0..LANES {
                        q[l] = ((words[l] >> (j * BITS)) & mask) as i32 as f32;
                    }
                    let chain = if M == 1 { j % 2 } else { 0 };
                    for m in 0..M {
                        let sum = &mut sums[chain][m];
                        for l in 0..LANES {
                            sum[l] = F::f32(q[l], x[m][j * LANES + l], sum[l]);
                        }
                    }
                }
            }
            for m in 0..M {
                for l in 0..LANES {
                    total[m][l] = F::f32(self.scales[g], sums[0][m][l] + sums[1][m][l], total[m][l]);
                }
                rest[m] = F::f32(self.biases[g], self.x[m].sums[g], rest[m]);
            }
        }
        std::array::from_fn(|m| total[m].iter().sum::<f32>() + rest[m])
    }
}

/// Calls `f` with the rows of codes that lie in these tensors of the CPU: words, scales and biases of each matrix in turn.
pub fn with_matrices<const N: usize, R>(
    tensors: &[Tensor],
    p: Packing,
    f: impl FnOnce([Matrix<'_>; N]) -> R,
) -> candle_core::Result<R> {
    let guards = bridge::Guards::lock(&tensors.iter().collect::<Vec<_>>());
    let slice = |k: usize| bridge::host(&guards, k, &tensors[k]);
    let matrix = |at: usize| -> candle_core::Result<Matrix<'_>> {
        let Slice::U32(words) = slice(at)? else { candle_core::bail!("words are u32") };
        Ok(Matrix { words, scales: slice(at + 1)?, biases: slice(at + 2)?, p })
    };
    let all = (0..N).map(|k| matrix(3 * k)).collect::<candle_core::Result<Vec<_>>>()?;
    match all.try_into() {
        Ok(all) => Ok(f(all)),
        Err(_) => candle_core::bail!("a matrix for each three tensors"),
    }
}

/// Rows of codes of 4 or 8 bits.
pub struct Matrix<'a> {
    pub words: &'a [u32],
    pub scales: Slice<'a>,
    pub biases: Slice<'a>,
    /// How a row is packed.
    pub p: Packing,
}

/// Room for scales and biases of a row.
pub struct Room {
    scales: Vec<f32>,
    biases: Vec<f32>,
}

/// Those of a row, where they lie or made f32.
fn of_row<'a>(all: &Slice<'a>, row: usize, room: &'a mut [f32]) -> &'a [f32] {
    let n = room.len();
    match all {
        Slice::F32(all) => &all[row * n..][..n],
        all => {
            widen(all, row * n, room);
            room
        }
    }
}

impl Matrix<'_> {
    /// For its rows.
    pub fn room(&self) -> Room {
        Room { scales: vec![0.0; self.p.groups()], biases: vec![0.0; self.p.groups()] }
    }
    /// A row times some rows of x.
    pub fn dot<const M: usize>(&self, row: usize, room: &mut Room, x: [&Spread; M]) -> [f32; M] {
        let n = self.p.words();
        let words = &self.words[row * n..][..n];
        let scales = of_row(&self.scales, row, &mut room.scales);
        let biases = of_row(&self.biases, row, &mut room.biases);
        let group = self.p.group;
        match (self.p.bits, lanes(self.p)) {
            (4, 4) => dispatch(Dot::<4, 4, M> { words, scales, biases, x, group }),
            (4, _) => dispatch(Dot::<4, 8, M> { words, scales, biases, x, group }),
            _ => dispatch(Dot::<8, 8, M> { words, scales, biases, x, group }),
        }
    }
    /// Makes floats of the rows from this one on.
    pub fn floats(&self, first: usize, out: &mut [f32]) {
        let (p, n, mut room) = (self.p, self.p.words(), self.room());
        for (k, out) in out.chunks_mut(p.cols).enumerate() {
            let words = &self.words[(first + k) * n..][..n];
            let scales = of_row(&self.scales, first + k, &mut room.scales);
            let biases = of_row(&self.biases, first + k, &mut room.biases);
            dispatch(Row { round: std::marker::PhantomData::<ToF32>, words, scales, biases, p, out });
        }
    }
    /// Rows of which floats are made at a time: they stay in the second level of the caches.
    pub fn tile(&self) -> usize {
        ((1usize << 18) / self.p.cols.max(1)).clamp(8, 128)
    }
    /// Results that a task makes: each costs a row.
    pub fn task(&self) -> usize {
        (1usize << 16).div_ceil(self.p.cols.max(1))
    }
}

/// y = x·wᵀ; x is m × cols, y is m × rows.
pub fn matvec(x: &[f32], w: &Matrix<'_>) -> Vec<f32> {
    let p = w.p;
    let m = x.len() / p.cols.max(1);
    let spreads: Vec<_> = x.chunks(p.cols.max(1)).map(|x| Spread::of(x, p)).collect();
    // the result by rows of w first, so that each task has a part of its own
    let rows = w.task();
    let mut y = vec![0f32; p.rows * m];
    in_parts(&mut y, rows * m, |part, y| {
        let mut room = w.room();
        for (k, y) in y.chunks_mut(m).enumerate() {
            let row = part * rows + k;
            for (y, x) in y.chunks_mut(TOGETHER).zip(spreads.chunks(TOGETHER)) {
                match x {
                    [a, b, c, d] => y.copy_from_slice(&w.dot(row, &mut room, [a, b, c, d])),
                    some => y.iter_mut().zip(some).for_each(|(y, x)| [*y] = w.dot(row, &mut room, [x])),
                }
            }
        }
    });
    turned(&y, p.rows, m)
}

/// The transpose of rows × cols.
pub fn turned(y: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0f32; y.len()];
    for first in (0..rows).step_by(16) {
        for c in 0..cols {
            for r in first..rows.min(first + 16) {
                out[c * rows + r] = y[r * cols + c];
            }
        }
    }
    out
}

/// y = x·wᵀ for many rows of x: some rows of w at a time are made floats, and multiplied with all of x.
pub fn matmul(x: &[f32], w: &Matrix<'_>) -> Vec<f32> {
    let p = w.p;
    let m = x.len() / p.cols.max(1);
    let rows = w.tile();
    let mut y = vec![0f32; p.rows * m];
    in_parts(&mut y, rows * m, |part, y| {
        let mut floats = vec![0f32; y.len() / m * p.cols];
        w.floats(part * rows, &mut floats);
        times(&floats, x, p.cols, (y, m));
    });
    turned(&y, p.rows, m)
}

/// out = w·xᵀ of rows of floats; `pitch` between the rows of out.
pub fn times(w: &[f32], x: &[f32], cols: usize, (out, pitch): (&mut [f32], usize)) {
    let size = [w.len() / cols, x.len() / cols, cols];
    bridge::matmul(size, (out, [pitch, 1]), (w, [cols, 1]), (x, [1, cols]), None, [0.0, 1.0]);
}
