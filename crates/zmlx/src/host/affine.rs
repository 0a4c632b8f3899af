//! Affine numbers of a few bits in MLX's packing: codes of a row one behind the other from the lowest bit of the first word on,
//! also across words; of each group a scale and a bias: w = scale · code + bias.

use super::in_parts;
use crate::{Error, Result, bridge};
use candle_core::{DType, Tensor};
use zmlx_runtime::{
    Slice,
    backend::cpu::{
        simd::{Fma, Loop, dispatch},
        to_bf16, widen,
    },
};

/// How a matrix is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    pub rows: usize,
    pub cols: usize,
    pub group: usize,
    pub bits: usize,
}

/// Are these floats that the loops read?
pub fn floats(op: &str, name: &str, t: &Tensor) -> Result<()> {
    match t.dtype() {
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Ok(()),
        other => Err(Error::argument(op, format!("{name}: dtype"), "f16, bf16, f32 or f64", other.as_str())),
    }
}

/// Are there codes of so many bits?
pub fn check_bits(op: &str, bits: usize) -> Result<()> {
    match bits {
        2..=6 | 8 => Ok(()),
        _ => Err(Error::argument(op, "bits", "2, 3, 4, 5, 6 or 8", bits)),
    }
}

/// Columns that may share a scale.
pub const GROUPS: [usize; 3] = [32, 64, 128];

impl Packing {
    /// That of these words [.., rows, words], with scales and biases [.., rows, groups].
    pub fn of(op: &str, words: &Tensor, scales: &Tensor, biases: &Tensor, bits: usize) -> Result<Packing> {
        check_bits(op, bits)?;
        if words.dtype() != DType::U32 {
            return Err(Error::argument(op, "dtype of the words", "u32", words.dtype().as_str()));
        }
        let (rank, last) = (words.rank(), |t: &Tensor| t.dims().last().copied().unwrap_or(0));
        let (cols, groups) = (last(words) * 32 / bits, last(scales));
        let group = cols.checked_div(groups).unwrap_or(0);
        let alike = rank > 0 && scales.rank() == rank && scales.dims()[..rank - 1] == words.dims()[..rank - 1];
        if !alike || !GROUPS.contains(&group) || group * groups * bits != last(words) * 32 {
            let expected = format!("a scale for 32, 64 or 128 of the {cols} columns of words {:?}", words.dims());
            return Err(Error::shape(op, "scales", expected, scales.dims()));
        }
        floats(op, "scales", scales)?;
        if biases.dims() != scales.dims() || biases.dtype() != scales.dtype() {
            let expected = format!("that of scales, {:?} {}", scales.dims(), scales.dtype().as_str());
            return Err(Error::argument(
                op,
                "biases",
                expected,
                format!("{:?} {}", biases.dims(), biases.dtype().as_str()),
            ));
        }
        Ok(Packing { rows: words.elem_count() / last(words).max(1), cols, group, bits })
    }
    /// Words of a row.
    pub fn words(&self) -> usize {
        self.cols * self.bits / 32
    }
    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.cols / self.group
    }
    fn most(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }
}

/// Code `i` of a row.
#[inline(always)]
fn code(words: &[u32], i: usize, bits: usize) -> u32 {
    let (word, at) = (i * bits / 32, i * bits % 32);
    let next = if at + bits > 32 { words[word + 1] } else { 0 };
    ((u64::from(words[word]) | u64::from(next) << 32) >> at) as u32 & ((1 << bits) - 1)
}

/// Words, scales and biases of a matrix, as MLX makes them.
pub fn quantize(w: &Slice<'_>, p: Packing) -> (Vec<u32>, Vec<f32>, Vec<f32>) {
    // 0: words of the row, then the bits of its scales and biases
    let (words, groups) = (p.words(), p.groups());
    let width = words + 2 * groups;
    let mut all = vec![0u32; p.rows * width];
    in_parts(&mut all, width, |row, out| {
        let mut group = vec![0f32; p.group];
        for g in 0..groups {
            widen(w, row * p.cols + g * p.group, &mut group);
            let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
            for v in &group {
                least = least.min(*v);
                most = most.max(*v);
            }
            let below = least.abs() > most.abs();
            let edge = if below { least } else { most };
            let size = ((most - least) / p.most()).max(1e-7);
            let mut scale = if below { size } else { -size };
            let mut bias = 0.0;
            let steps = (edge / scale).round_ties_even();
            if steps != 0.0 {
                scale = edge / steps;
                bias = edge;
            }
            for (i, v) in group.iter().enumerate() {
                let q = ((v - bias) / scale).round_ties_even().clamp(0.0, p.most()) as u64;
                let bit = (g * p.group + i) * p.bits;
                let q = q << (bit % 32);
                out[bit / 32] |= q as u32;
                if q >> 32 != 0 {
                    out[bit / 32 + 1] |= (q >> 32) as u32;
                }
            }
            out[words + g] = scale.to_bits();
            out[words + groups + g] = bias.to_bits();
        }
    });
    let (mut packed, mut scales, mut biases) = (vec![], vec![], vec![]);
    for row in all.chunks(width.max(1)) {
        packed.extend(&row[..words]);
        scales.extend(row[words..words + groups].iter().map(|b| f32::from_bits(*b)));
        biases.extend(row[words + groups..].iter().map(|b| f32::from_bits(*b)));
    }
    (packed, scales, biases)
}

/// Rounds to the type of the results: the product too is rounded there.
pub trait Round: Copy + Send + Sync {
    /// Rounds.
    fn round(x: f32) -> f32;
}
#[derive(Clone, Copy)]
pub struct ToF32;
#[derive(Clone, Copy)]
pub struct ToF16;
#[derive(Clone, Copy)]
pub struct ToBf16;
impl Round for ToF32 {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }
}
impl Round for ToF16 {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        half::f16::from_f32(x).to_f32()
    }
}
impl Round for ToBf16 {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        f32::from_bits(u32::from(to_bf16(x).to_bits()) << 16)
    }
}

struct Row<'a, R> {
    round: std::marker::PhantomData<R>,
    words: &'a [u32],
    scales: &'a [f32],
    biases: &'a [f32],
    p: Packing,
    out: &'a mut [f32],
}

impl<R: Round> Loop for Row<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<F: Fma>(self) {
        let Row { words, scales, biases, p, out, .. } = self;
        for (g, out) in out.chunks_mut(p.group).enumerate() {
            let (scale, bias) = (scales[g], biases[g]);
            let words = &words[g * p.group * p.bits / 32..][..p.group * p.bits / 32];
            match p.bits {
                2 | 4 | 8 => {
                    let (per, mask) = (32 / p.bits, (1u32 << p.bits) - 1);
                    for (word, out) in words.iter().zip(out.chunks_mut(per)) {
                        for (j, o) in out.iter_mut().enumerate() {
                            *o = R::round(((word >> (j * p.bits)) & mask) as i32 as f32 * scale) + bias;
                        }
                    }
                }
                bits => {
                    for (i, o) in out.iter_mut().enumerate() {
                        *o = R::round(code(words, i, bits) as f32 * scale) + bias;
                    }
                }
            }
        }
    }
}

/// The numbers behind the codes, still to be rounded to the type of the results: product and sum are rounded one after the
/// other, as MLX does on a CPU.
pub fn dequantize<R: Round>(words: &[u32], scales: &Slice<'_>, biases: &Slice<'_>, p: Packing) -> Vec<f32> {
    let mut out = vec![0f32; p.rows * p.cols];
    let (n, groups) = (p.words(), p.groups());
    // some rows a task
    let rows = (1usize << 14).div_ceil(p.cols.max(1));
    in_parts(&mut out, rows * p.cols, |part, out| {
        let (mut s, mut b) = (vec![0f32; groups], vec![0f32; groups]);
        for (k, out) in out.chunks_mut(p.cols).enumerate() {
            let row = part * rows + k;
            widen(scales, row * groups, &mut s);
            widen(biases, row * groups, &mut b);
            dispatch(Row::<R> {
                round: std::marker::PhantomData,
                words: &words[row * n..][..n],
                scales: &s,
                biases: &b,
                p,
                out,
            });
        }
    });
    out
}

/// Words that the loops read at once: those of a group, up to 16.
fn lanes(p: Packing) -> usize {
    (p.group * p.bits / 32).min(16)
}

/// A row of floats as the loops read it.
struct Spread {
    /// For each so many words, the elements of the first code of each, then of the second …
    x: Vec<f32>,
    /// The sum of each group.
    sums: Vec<f32>,
}

impl Spread {
    fn of(x: &[f32], p: Packing) -> Spread {
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

struct Dot<'a, const BITS: usize, const LANES: usize> {
    words: &'a [u32],
    scales: &'a [f32],
    biases: &'a [f32],
    x: &'a Spread,
    group: usize,
}

impl<const BITS: usize, const LANES: usize> Loop for Dot<'_, BITS, LANES> {
    type Output = f32;
    #[inline(always)]
    fn run<F: Fma>(self) -> f32 {
        let per = 32 / BITS;
        let mask = (1u32 << BITS) - 1;
        let mut total = [0f32; LANES];
        let mut rest = 0f32;
        let words = self.words.chunks_exact(self.group / per);
        for (g, (words, x)) in words.zip(self.x.x.chunks_exact(self.group)).enumerate() {
            // two chains of additions
            let mut sums = [[0f32; LANES]; 2];
            for (words, x) in words.chunks_exact(LANES).zip(x.chunks_exact(LANES * per)) {
                for j in 0..per {
                    for l in 0..LANES {
                        let q = ((words[l] >> (j * BITS)) & mask) as i32 as f32;
                        sums[j % 2][l] = F::f32(q, x[j * LANES + l], sums[j % 2][l]);
                    }
                }
            }
            for l in 0..LANES {
                total[l] = F::f32(self.scales[g], sums[0][l] + sums[1][l], total[l]);
            }
            rest = F::f32(self.biases[g], self.x.sums[g], rest);
        }
        total.iter().sum::<f32>() + rest
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

/// Scales and biases of a row.
struct Factors {
    scales: Vec<f32>,
    biases: Vec<f32>,
}

impl Matrix<'_> {
    fn factors(&self) -> Factors {
        Factors { scales: vec![0.0; self.p.groups()], biases: vec![0.0; self.p.groups()] }
    }
    /// The factors of this row.
    fn at(&self, row: usize, f: &mut Factors) {
        let groups = self.p.groups();
        widen(&self.scales, row * groups, &mut f.scales);
        widen(&self.biases, row * groups, &mut f.biases);
    }
    /// A row, whose factors are known, times x.
    fn dot(&self, row: usize, f: &Factors, x: &Spread) -> f32 {
        let (n, group) = (self.p.words(), self.p.group);
        let words = &self.words[row * n..][..n];
        let (scales, biases) = (&f.scales[..], &f.biases[..]);
        match (self.p.bits, lanes(self.p)) {
            (4, 4) => dispatch(Dot::<4, 4> { words, scales, biases, x, group }),
            (4, 8) => dispatch(Dot::<4, 8> { words, scales, biases, x, group }),
            (4, _) => dispatch(Dot::<4, 16> { words, scales, biases, x, group }),
            (_, 8) => dispatch(Dot::<8, 8> { words, scales, biases, x, group }),
            _ => dispatch(Dot::<8, 16> { words, scales, biases, x, group }),
        }
    }
    /// Results that a task makes: each costs a row.
    fn task(&self) -> usize {
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
        let mut f = w.factors();
        for (k, y) in y.chunks_mut(m).enumerate() {
            let row = part * rows + k;
            w.at(row, &mut f);
            for (y, x) in y.iter_mut().zip(&spreads) {
                *y = w.dot(row, &f, x);
            }
        }
    });
    turned(&y, p.rows, m)
}

/// The transpose of rows × cols.
fn turned(y: &[f32], rows: usize, cols: usize) -> Vec<f32> {
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
    /// They stay in the second level of the caches.
    const TILE: usize = 1 << 18;
    let p = w.p;
    let m = x.len() / p.cols.max(1);
    let rows = (TILE / p.cols.max(1)).clamp(8, 128);
    let mut y = vec![0f32; p.rows * m];
    in_parts(&mut y, rows * m, |part, y| {
        let mut f = w.factors();
        let mut tile = vec![0f32; y.len() / m * p.cols];
        for (k, out) in tile.chunks_mut(p.cols).enumerate() {
            let row = part * rows + k;
            w.at(row, &mut f);
            let words = &w.words[row * p.words()..][..p.words()];
            let round = std::marker::PhantomData::<ToF32>;
            dispatch(Row { round, words, scales: &f.scales, biases: &f.biases, p, out });
        }
        let size = [y.len() / m, m, p.cols];
        bridge::matmul(size, (y, [m, 1]), (&tile, [p.cols, 1]), (x, [1, p.cols]), None, [0.0, 1.0]);
    });
    turned(&y, p.rows, m)
}

/// silu(gate·x) · (up·x) of the experts of each token, whose matrices have n rows each: a row of the result an expert.
pub fn gate_up_swiglu(x: &[f32], gate: &Matrix<'_>, up: &Matrix<'_>, experts: &[u32], n: usize) -> Vec<f32> {
    let p = gate.p;
    let spreads: Vec<_> = x.chunks(p.cols).map(|x| Spread::of(x, p)).collect();
    let many = experts.len() / spreads.len().max(1);
    let mut h = vec![0f32; experts.len() * n];
    let task = gate.task();
    in_parts(&mut h, task, |part, h| {
        let mut f = gate.factors();
        for (i, h) in h.iter_mut().enumerate() {
            let at = part * task + i;
            let (slot, row) = (at / n, at % n);
            let (x, row) = (&spreads[slot / many], experts[slot] as usize * n + row);
            let [a, b] = [gate, up].map(|w| {
                w.at(row, &mut f);
                w.dot(row, &f, x)
            });
            *h = a / (1.0 + (-a).exp()) * b;
        }
    });
    h
}

/// Σ weight · (down·h) over the experts of each token; the result is tokens × n.
pub fn down_combine(
    h: &[f32],
    down: &Matrix<'_>,
    experts: &[u32],
    weights: &[f32],
    [tokens, n]: [usize; 2],
) -> Vec<f32> {
    let p = down.p;
    let spreads: Vec<_> = h.chunks(p.cols).map(|h| Spread::of(h, p)).collect();
    let many = experts.len() / tokens.max(1);
    let mut y = vec![0f32; tokens * n];
    let task = down.task().div_ceil(many.max(1));
    in_parts(&mut y, task, |part, y| {
        let mut f = down.factors();
        for (i, y) in y.iter_mut().enumerate() {
            let at = part * task + i;
            let (token, row) = (at / n, at % n);
            for slot in token * many..(token + 1) * many {
                let row = experts[slot] as usize * n + row;
                down.at(row, &mut f);
                *y += weights[slot] * down.dot(row, &f, &spreads[slot]);
            }
        }
    });
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_nan_stays_nan() {
        for (x, y) in [(1.0, 1.0), (1.0 + 1.0 / 256.0, 1.0), (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0), (-3.2, -3.203_125)]
        {
            assert_eq!(ToBf16::round(x), y);
        }
        // a scale of any bits
        for bits in [0x7fc0_0000u32, 0x7fff_ffff, 0xffff_ffff, 0xff80_0001] {
            assert!(ToBf16::round(f32::from_bits(bits)).is_nan(), "{bits:x}");
        }
    }
}
