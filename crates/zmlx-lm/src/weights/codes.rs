//! Blocks of GGUF that are affine codes as well: Q4_0, Q4_1 and Q8_0 have a scale (and an offset) for 32 numbers, so each is
//! w = scale · code + bias in groups of 32, the same number to the bit. In this form the kernels of the catalog run on them, and
//! activations are not rounded to 8 bits, as candle does beside blocks.

use crate::{Result, blocks::Affine};
use candle_core::{Device, Tensor, quantized::GgmlDType};
use half::f16;

/// Numbers of a block.
const GROUP: usize = 32;

/// The codes of these blocks, `[.., k]`; none if they are of another kind, or a bias is too large for f16.
///
/// # Errors
/// What the device says.
pub fn of_blocks(kind: GgmlDType, bytes: &[u8], shape: &[usize], device: &Device) -> Result<Option<Affine>> {
    let bits = match kind {
        GgmlDType::Q4_0 | GgmlDType::Q4_1 => 4,
        GgmlDType::Q8_0 => 8,
        _ => return Ok(None),
    };
    let blocks = bytes.chunks_exact(kind.type_size());
    let count = blocks.len();
    let mut words: Vec<u32> = Vec::with_capacity(count * bits);
    let (mut scales, mut biases) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for block in blocks {
        let number = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        let scale = number(0);
        let times = |n: f32| f16::from_f32(n * scale.to_f32());
        scales.push(scale);
        biases.push(match kind {
            GgmlDType::Q4_0 => times(-8.0),
            GgmlDType::Q4_1 => number(2),
            _ => times(-128.0),
        });
        match kind {
            GgmlDType::Q8_0 => words.extend(block[2..].as_chunks::<4>().0.iter().map(|four| {
                // −128 … 127 to 0 … 255
                u32::from_le_bytes(*four) ^ 0x8080_8080
            })),
            _ => nibbles(&block[block.len() - GROUP / 2..], &mut words),
        }
    }
    if !scales.iter().chain(&biases).all(|x| x.is_finite()) {
        return Ok(None);
    }
    let (before, last) = shape.split_at(shape.len() - 1);
    let with = |n: usize| [before, &[n]].concat();
    Ok(Some(Affine {
        words: Tensor::from_vec(words, with(last[0] * bits / 32), device)?,
        scales: Tensor::from_vec(scales, with(last[0] / GROUP), device)?,
        biases: Tensor::from_vec(biases, with(last[0] / GROUP), device)?,
        bits,
    }))
}

/// Byte i has the codes of numbers i and i + 16; here number i is the i-th code from the lowest bit on.
fn nibbles(bytes: &[u8], words: &mut Vec<u32>) {
    for high in [0, 4] {
        for eight in bytes.chunks_exact(8) {
            words.push(eight.iter().rev().fold(0, |word, byte| word << 4 | u32::from(byte >> high & 15)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::QTensor;

    #[test]
    fn codes_stand_for_the_numbers_of_the_blocks() -> Result<()> {
        let w = Tensor::randn(0f32, 1.0, (6, 96), &Device::Cpu)?;
        for kind in [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q8_0] {
            let blocks = QTensor::quantize(&w, kind)?;
            let codes = of_blocks(kind, &blocks.data()?, &[6, 96], &Device::Cpu)?.expect("codes");
            let expected = blocks.dequantize(&Device::Cpu)?;
            assert_eq!(
                (codes.dequantize_in(candle_core::DType::F32)? - expected)?.abs()?.max_all()?.to_scalar::<f32>()?,
                0.0
            );
        }
        let other = QTensor::quantize(&w, GgmlDType::Q5_0)?;
        assert!(of_blocks(GgmlDType::Q5_0, &other.data()?, &[6, 96], &Device::Cpu)?.is_none());
        Ok(())
    }
}
