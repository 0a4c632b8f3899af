//! Inputs of a measurement: functions of position and seed, by integers and f64 alone, so that a peer in another process and
//! language makes the same bits (`benches/peers/seeded.py`) and no array has to travel.

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use zmlx::entry::{Arg, ArgShape, Entry, Values};

/// What a tensor is made of.
#[derive(Clone, Debug)]
pub struct Seeded {
    pub values: Values,
    pub shape: Vec<usize>,
    pub seed: u32,
    /// Columns of a row, for indices.
    pub cols: usize,
    /// Of floats, which are made in f32 first.
    pub dtype: DType,
}

/// 32 bits from a position and a seed.
fn hash(position: u32, seed: u32) -> u32 {
    let mut x = position ^ seed.wrapping_mul(0x9e37_79b9);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The sum of four bytes is nearly normal, with deviation 147.8, and within 3.5 deviations.
fn normal(h: u32) -> f64 {
    (f64::from(h.to_le_bytes().map(u32::from).iter().sum::<u32>()) - 510.0) * (1.0 / 148.0)
}

fn unit(h: u32) -> f64 {
    f64::from(h >> 8) / f64::from(1 << 24)
}

impl Seeded {
    /// The arguments of an entry, its floats of this dtype, with seeds from 1 on.
    pub fn of(entry: &Entry, rows: usize, cols: usize, dtype: DType) -> Vec<Seeded> {
        let shape = |s: ArgShape| match s {
            // a table of as many rows as read it
            ArgShape::Full | ArgShape::Table(_) => vec![rows, cols],
            ArgShape::Col => vec![cols],
            ArgShape::Row => vec![rows],
        };
        let arguments = entry.args.iter().zip(1..);
        let range = |values| if values == Values::Place { rows } else { cols };
        let made = |(a, seed): (&Arg, u32)| Seeded {
            values: a.values,
            shape: shape(a.shape),
            seed,
            cols: range(a.values),
            dtype,
        };
        arguments.map(made).collect()
    }

    /// As the peer reads it.
    pub fn describe(&self) -> Value {
        let (kind, lo, hi) = match self.values {
            Values::Normal(sigma) => ("normal", 0.0, sigma),
            Values::Range(lo, hi) => ("range", lo, hi),
            Values::Mask => ("mask", 0.0, 1.0),
            Values::Column | Values::Place => ("column", 0.0, self.cols as f64),
            Values::Turns => ("turns", 0.0, 1.0),
            Values::Byte => ("byte", 0.0, 256.0),
        };
        json!({
            "kind": kind, "lo": lo, "hi": hi, "shape": self.shape, "seed": self.seed, "dtype": self.dtype.as_str(),
        })
    }

    /// The tensor.
    pub fn tensor(&self, device: &Device) -> candle_core::Result<Tensor> {
        let (seed, cols, dtype) = (self.seed, self.cols as u64, self.dtype);
        let shape = &self.shape[..];
        match self.values {
            Values::Normal(sigma) => {
                Tensor::from_vec(self.fill(|i| (normal(hash(i, seed)) * sigma) as f32), shape, device)?.to_dtype(dtype)
            }
            Values::Range(lo, hi) => {
                let value = |i| (unit(hash(i, seed)) * (hi - lo) + lo) as f32;
                Tensor::from_vec(self.fill(value), shape, device)?.to_dtype(dtype)
            }
            Values::Mask => Tensor::from_vec(self.fill(|i| u8::from(unit(hash(i, seed)) < 0.7)), shape, device),
            Values::Turns => {
                let value = |i| i64::from(hash(i, seed)) << 32;
                Tensor::from_vec(self.fill(value), shape, device)
            }
            Values::Byte => Tensor::from_vec(self.fill(|i| (hash(i, seed) >> 24) as u8), shape, device),
            Values::Column | Values::Place => {
                let value = |i| ((u64::from(hash(i, seed)) * cols) >> 32) as u32;
                Tensor::from_vec(self.fill(value), shape, device)
            }
        }
    }

    /// The values at all positions, by all cores.
    fn fill<T: Copy + Default + Send>(&self, value: impl Fn(u32) -> T + Sync) -> Vec<T> {
        let mut all = vec![T::default(); self.shape.iter().product()];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let part = all.len().div_ceil(threads).max(1 << 16);
        std::thread::scope(|scope| {
            for (k, part_of_all) in all.chunks_mut(part).enumerate() {
                let value = &value;
                scope.spawn(move || {
                    part_of_all.iter_mut().enumerate().for_each(|(i, v)| *v = value((k * part + i) as u32));
                });
            }
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(values: Values, shape: &[usize], seed: u32) -> Tensor {
        let cols = *shape.last().expect("a shape");
        Seeded { values, shape: shape.to_vec(), seed, cols, dtype: DType::F32 }
            .tensor(&Device::Cpu)
            .expect("it is made")
    }

    #[test]
    fn inputs_are_nearly_standard_normal_and_differ_by_seed() -> candle_core::Result<()> {
        let (a, b) = (seeded(Values::Normal(1.0), &[300, 1000], 1), seeded(Values::Normal(1.0), &[300, 1000], 2));
        for t in [&a, &b] {
            assert!(t.mean_all()?.to_scalar::<f32>()?.abs() < 0.01);
            assert!((t.sqr()?.mean_all()?.to_scalar::<f32>()? - 1.0).abs() < 0.01);
        }
        assert!((&a * &b)?.mean_all()?.to_scalar::<f32>()?.abs() < 0.01);
        Ok(())
    }

    #[test]
    fn bits_are_those_that_a_peer_makes() -> candle_core::Result<()> {
        // what `python3 benches/peers/seeded.py` prints
        let bits = |values| -> candle_core::Result<Vec<u32>> {
            Ok(seeded(values, &[4], 3).to_vec1::<f32>()?.iter().map(|v| v.to_bits()).collect())
        };
        assert_eq!(bits(Values::Normal(1.0))?, [0xbf6cf915, 0xbf6b3e45, 0x3fdf2298, 0xbeb06eb4]);
        assert_eq!(bits(Values::Range(-1.0, 3.0))?, [0xbf41cf8c, 0x3f417dc0, 0x3eae9ec8, 0x401f171b]);
        assert_eq!(seeded(Values::Column, &[4], 3).to_vec1::<u32>()?, [0, 1, 1, 3]);
        Ok(())
    }
}
