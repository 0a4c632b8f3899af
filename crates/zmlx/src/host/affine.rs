//! Affine numbers of a few bits in MLX's packing: codes of a row one behind the other from the lowest bit of the first word on,
//! also across words; of each group a scale and a bias: w = scale · code + bias.

use super::in_parts;
use crate::{Error, Result};
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

/// A row of codes, to be dequantised.
pub(super) struct Row<'a, R> {
    pub round: std::marker::PhantomData<R>,
    pub words: &'a [u32],
    pub scales: &'a [f32],
    pub biases: &'a [f32],
    pub p: Packing,
    pub out: &'a mut [f32],
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
