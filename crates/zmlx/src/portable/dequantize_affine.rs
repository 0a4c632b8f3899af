//! The numbers behind MLX's affine codes: y = scale · code + bias
//!
//! Words [.., K·bits/32] of u32 hold codes of 2, 3, 4, 5, 6 or 8 bits, dense from the lowest bit on; scales and biases [.., K/group]
//! give the dtype of y, [.., K].
//! Cost: N·bits/8 bytes read, N elements written.
//! Source: MLX 0.32 on a CPU, bit for bit: product and sum are rounded to the dtype of y one after the other.

use super::{Case, Portable, numbers, words};
use crate::{
    Grid, RawKernel, Result, bridge,
    entry::Gradient,
    host::affine::{self, Packing, ToBf16, ToF16, ToF32},
};
use candle_core::{DType, Device, Shape, Tensor};
use std::sync::LazyLock;
use zmlx_runtime::Slice;

static KERNEL: LazyLock<RawKernel> = LazyLock::new(|| {
    RawKernel::new("dequantize_affine")
        .inputs(&["packed", "scales", "biases"])
        .outputs(&["y"])
        .uniform("bits", 4i64)
        .uniform("group", 64i64)
        // two codes a thread and step: their words come from the caches
        .portable(
            "    const i32 bits = (i32)args.bits, group = (i32)args.group;
    const u32 mask = (1u << bits) - 1;
    const i64 start = ((i64)block_index * block_threads) * 8 + thread_index;
    for (i32 k = 0; k < 8; k++) {
        const i64 i = start + (i64)k * block_threads;
        if (i < args.y_len) {
            const i64 bit = i * bits, word = bit / 32;
            const i32 at = (i32)(bit - word * 32);
            u32 q = packed[word] >> at;
            if (at + bits > 32) {
                q |= packed[word + 1] << (32 - at);
            }
            const i64 g = i / group;
            const f32 product = wide(narrow<y_t>((f32)(i32)(q & mask) * wide(scales[g])));
            y[i] = narrow<y_t>(product + wide(biases[g]));
        }
    }",
        )
});

/// The numbers behind codes of `bits` bits, in the dtype of the scales (f64 is computed in f32); the size of a group follows
/// from the shapes. Nothing is tracked.
///
/// # Errors
/// Shapes or dtypes that do not belong together; bits other than 2, 3, 4, 5, 6, 8.
pub fn dequantize_affine(packed: &Tensor, scales: &Tensor, biases: &Tensor, bits: usize) -> Result<Tensor> {
    let p = Packing::of("dequantize_affine", packed, scales, biases, bits)?;
    let mut dims = packed.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = p.cols;
    }
    let (shape, dtype) = (Shape::from(dims), scales.dtype());
    let of = shape.clone();
    let kernel = KERNEL
        .with("bits", bits as i64)
        .with("group", p.group as i64)
        .results(move |_| vec![(of.clone(), dtype)])
        .grid_of(move |_| Grid::new((p.rows * p.cols).div_ceil(8 * 256), 256))
        .cpu(move |t| {
            let t: Vec<Tensor> = t.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?;
            let y = {
                let guards = bridge::Guards::lock(&[&t[0], &t[1], &t[2]]);
                let Slice::U32(words) = bridge::host(&guards, 0, &t[0])? else { candle_core::bail!("words are u32") };
                let (s, b) = (bridge::host(&guards, 1, &t[1])?, bridge::host(&guards, 2, &t[2])?);
                match dtype {
                    DType::F16 => affine::dequantize::<ToF16>(words, &s, &b, p),
                    DType::BF16 => affine::dequantize::<ToBf16>(words, &s, &b, p),
                    _ => affine::dequantize::<ToF32>(words, &s, &b, p),
                }
            };
            Ok(vec![Tensor::from_vec(y, &shape, t[0].device())?.to_dtype(dtype)?])
        });
    Ok(kernel.call(&[&packed.detach(), &scales.detach(), &biases.detach()])?.swap_remove(0))
}

/// A matrix of this packing: any words, and scales and biases of weights.
pub(super) fn packed(p: Packing, dtype: DType, device: &Device) -> candle_core::Result<Vec<Tensor>> {
    let w = words(&[p.rows, p.words()], p.bits as u32, device)?;
    let scales = numbers(&[p.rows, p.groups()], DType::F32, 5, device)?;
    Ok(vec![w, (&scales * 0.01)?.to_dtype(dtype)?, (scales * -0.07)?.to_dtype(dtype)?])
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    if dtype == DType::F64 {
        return Ok(cases); // numbers are made in f32
    }
    for (bits, group, rows, cols) in [
        (2, 32, 3, 64),
        (3, 64, 2, 128),
        (4, 64, 5, 64),
        (5, 32, 1, 96),
        (6, 128, 3, 256),
        (8, 64, 7, 320),
        (4, 32, 0, 32),
    ] {
        let inputs = packed(Packing { rows, cols, group, bits }, dtype, &Device::Cpu)?;
        cases.push(Case::new(&format!("{rows}x{cols}, {bits} bits, groups of {group}"), inputs, &[bits as f64]));
    }
    Ok(cases)
}

/// The codes bit by bit, then plain ops.
pub(super) fn reference(inputs: &[Tensor], settings: &[f64]) -> candle_core::Result<Vec<Tensor>> {
    let bits = settings[0] as usize;
    let (words, scales) = (&inputs[0], &inputs[1]);
    let stream: Vec<u8> =
        words.flatten_all()?.to_vec1::<u32>()?.iter().flat_map(|w| (0..32).map(move |b| (w >> b & 1) as u8)).collect();
    let codes: Vec<f64> =
        stream.chunks(bits).map(|c| c.iter().rev().fold(0.0, |q, b| 2.0 * q + f64::from(*b))).collect();
    let (mut grouped, mut dims) = (scales.dims().to_vec(), words.dims().to_vec());
    let last = dims.len() - 1;
    dims[last] = dims[last] * 32 / bits;
    grouped.push(dims[last] / grouped[last]);
    let codes = Tensor::from_vec(codes, grouped, words.device())?.to_dtype(scales.dtype())?;
    let one = |t: &Tensor| t.unsqueeze(t.rank());
    let y = codes.broadcast_mul(&one(scales)?)?.broadcast_add(&one(&inputs[2])?)?;
    Ok(vec![y.reshape(dims)?])
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "dequantize_affine",
    summary: "y = scale · code + bias, codes as MLX packs them",
    zmlx: &[],
    args: &["packed", "scales", "biases"],
    settings: &["bits"],
    gradient: Gradient::None("weights that are packed are not trained"),
    wrt: &[],
    roundings: [32.0, 4.0],
    cases,
    sizes: |dtype, device| {
        let p = Packing { rows: 4096, cols: 4096, group: 64, bits: 4 };
        let bytes = (1 << 24) as f64 * (dtype.size_in_bytes() as f64 * (1.0 + 2.0 / 64.0) + 0.5);
        Ok(vec![Case { bytes, ..Case::new("4096x4096, 4 bits", packed(p, dtype, device)?, &[4.0]) }])
    },
    run: |t, settings| Ok(vec![dequantize_affine(&t[0], &t[1], &t[2], settings[0] as usize)?]),
    reference,
};
