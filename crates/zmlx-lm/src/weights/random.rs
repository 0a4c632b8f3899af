//! Weights that nobody trained: for tests, and to measure models of a shape without their checkpoint.

use super::{Format, Found, Source};
use crate::Result;
use candle_core::{DType, Device, Tensor};

/// Makes each tensor that it is asked for, the same for the same seed and name. Matrices are uniform with the variance 1 / k,
/// norms lie around 1, biases around 0, words are any words.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    /// Another seed, other numbers.
    pub seed: u64,
}

impl Source for Random {
    fn find(&self, name: &str, expected: &[usize]) -> Option<Found> {
        // absent on purpose: they are asked for only where a checkpoint has them
        let _ = name;
        Some(Found { shape: expected.to_vec(), format: Format::Dense(DType::F32) })
    }

    fn dense(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let n: usize = shape.iter().product();
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325 ^ self.seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let mut state = hash | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
        };
        if dtype == DType::U32 {
            let words: Vec<u32> = (0..n).map(|_| next() as u32).collect();
            return Ok(Tensor::from_vec(words, shape, device)?);
        }
        let (middle, width) = spread(name, shape);
        let numbers: Vec<f32> = (0..n).map(|_| middle + width * (next() as f32 / 2f32.powi(31) - 1.0)).collect();
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
    }

    fn names(&self) -> Vec<String> {
        vec![]
    }
}

/// The middle and half the width of the numbers of a tensor.
fn spread(name: &str, shape: &[usize]) -> (f32, f32) {
    let last = shape.last().copied().unwrap_or(1).max(1) as f32;
    // codes of 4 bits are 0 to 15: w = scale · code + bias lies around 0 and is a matrix as below
    let code = (3.0 / (last * 64.0)).sqrt() / 8.0;
    match name.rsplit('.').next() {
        Some("scales") => (code, code / 8.0),
        Some("biases") => (-7.5 * code, code / 8.0),
        _ if shape.len() < 2 && name.ends_with("weight") => (1.0, 0.25),
        _ if shape.len() < 2 => (0.0, 0.1),
        _ => (0.0, (3.0 / last).sqrt()),
    }
}
