//! Quantisation to a few bits in MLX's layout: words, and of each group of columns a scale and a bias
//!
//! w is [.., K] of floats; the words [.., K·bits/32] of u32 hold codes of 2, 3, 4, 5, 6 or 8 bits, dense from the lowest bit on;
//! scales and biases are [.., K/group] in the dtype of w, for groups of 32, 64 or 128.
//! Cost: N elements read, N·bits/8 bytes written.
//! Source: MLX 0.32's affine quantisation on a CPU, bit for bit: the end of larger size is met exactly.

use super::{Case, Portable, numbers};
use crate::{
    Error, Grid, RawKernel, Result, bridge,
    entry::Gradient,
    host::affine::{self, Packing},
};
use candle_core::{DType, Device, Shape, Tensor};
use std::sync::LazyLock;

static KERNEL: LazyLock<RawKernel> = LazyLock::new(|| {
    RawKernel::new("quantize_affine")
        .inputs(&["x"])
        .outputs(&["packed", "scales", "biases"])
        .uniform("bits", 4i64)
        .uniform("group", 64i64)
        // a warp a group
        .portable(
            "shared_array(u32, codes, 4 * 128);
    const i32 bits = (i32)args.bits, group = (i32)args.group, most = (1 << bits) - 1;
    const i64 g = (i64)block_index * 4 + warp;
    const bool there = g * group < args.x_len;
    f32 v[4];
    f32 low = INFINITY, high = -INFINITY;
    for (i32 k = 0; k < 4; k++) {
        v[k] = there && k * 32 < group ? wide(x[g * group + k * 32 + lane]) : 0.0f;
        if (k * 32 < group) {
            low = fminf(low, v[k]);
            high = fmaxf(high, v[k]);
        }
    }
    low = warp_min(low);
    high = warp_max(high);
    const bool below = fabsf(low) > fabsf(high);
    const f32 edge = below ? low : high;
    const f32 size = fmaxf((high - low) / (f32)most, 1e-7f);
    f32 scale = below ? size : -size, bias = 0.0f;
    const f32 steps = even(edge / scale);
    if (steps != 0.0f) {
        scale = edge / steps;
        bias = edge;
    }
    for (i32 k = 0; k < 4; k++) {
        codes[warp * 128 + k * 32 + lane] = (u32)fminf(fmaxf(even((v[k] - bias) / scale), 0.0f), (f32)most);
    }
    warp_barrier();
    const i32 words = group * bits / 32;
    if (there && lane < words) {
        u32 word = 0;
        for (i32 i = lane * 32 / bits; i < group && i * bits < lane * 32 + 32; i++) {
            const u32 q = codes[warp * 128 + i];
            const i32 at = i * bits - lane * 32;
            word |= at >= 0 ? q << at : q >> -at;
        }
        packed[g * words + lane] = word;
    }
    if (there && lane == 0) {
        scales[g] = narrow<scales_t>(scale);
        biases[g] = narrow<biases_t>(bias);
    }",
        )
        // the nearest integer, of two the even one
        .header(
            "function f32 even(f32 x) {
    const f32 low = floorf(x), part = x - low;
    if (part != 0.5f) {
        return part < 0.5f ? low : low + 1.0f;
    }
    return floorf(low * 0.5f) * 2.0f == low ? low : low + 1.0f;
}",
        )
});

/// Words, scales and biases of `w` in groups of `group` and codes of `bits` bits, made in f32 (of f64 too). Nothing is tracked.
///
/// # Errors
/// A group other than 32, 64, 128; bits other than 2, 3, 4, 5, 6, 8; columns that are no multiple of the group; no floats.
pub fn quantize_affine(w: &Tensor, group: usize, bits: usize) -> Result<Vec<Tensor>> {
    const NAME: &str = "quantize_affine";
    if !affine::GROUPS.contains(&group) {
        return Err(Error::argument(NAME, "group", "32, 64 or 128", group));
    }
    affine::check_bits(NAME, bits)?;
    affine::floats(NAME, "w", w)?;
    let cols = w.dims().last().copied().unwrap_or(0);
    if cols == 0 || cols % group != 0 {
        return Err(Error::shape(NAME, "w", format!("columns in groups of {group}"), w.dims()));
    }
    let mut dims = w.dims().to_vec();
    let mut of = |n: usize| {
        let last = dims.len() - 1;
        dims[last] = n;
        Shape::from(&dims[..])
    };
    let (packed, scales) = (of(cols * bits / 32), of(cols / group));
    let dtype = w.dtype();
    let (to, p) = (scales.clone(), Packing { rows: w.elem_count() / cols, cols, group, bits });
    let shapes = [(packed.clone(), DType::U32), (scales.clone(), dtype), (scales, dtype)];
    let kernel = KERNEL
        .with("bits", bits as i64)
        .with("group", group as i64)
        .results(move |_| shapes.to_vec())
        .grid_of(move |x| Grid::new((x[0].elem_count() / group).div_ceil(4), 128))
        .cpu(move |x| {
            let x = x[0].contiguous()?;
            let (words, scales, biases) = {
                let guards = bridge::Guards::lock(&[&x]);
                affine::quantize(&bridge::host(&guards, 0, &x)?, p)
            };
            let float = |v: Vec<f32>| Tensor::from_vec(v, &to, x.device())?.to_dtype(dtype);
            Ok(vec![Tensor::from_vec(words, &packed, x.device())?, float(scales)?, float(biases)?])
        });
    kernel.call(&w.detach())
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    if dtype == DType::F64 {
        return Ok(cases); // codes are made in f32
    }
    for (bits, group, shape) in [
        (2, 32, vec![3, 64]),
        (3, 64, vec![2, 3, 128]),
        (4, 64, vec![5, 64]),
        (5, 32, vec![96]),
        (6, 128, vec![3, 256]),
        (8, 64, vec![2, 192]),
    ] {
        let w = numbers(&shape, dtype, bits, &Device::Cpu)?;
        cases.push(Case::new(&format!("{bits} bits, groups of {group}"), vec![w], &[group as f64, f64::from(bits)]));
    }
    cases.push(Case::new("nothing but zeros", vec![Tensor::zeros((2, 64), dtype, &Device::Cpu)?], &[64.0, 4.0]));
    Ok(cases)
}

/// Plain numbers in f32, where numbers between two codes are rounded as MLX rounds them; another packing than the kernel's.
fn reference(inputs: &[Tensor], settings: &[f64]) -> candle_core::Result<Vec<Tensor>> {
    let w = &inputs[0];
    let (group, bits) = (settings[0] as usize, settings[1] as usize);
    let most = ((1 << bits) - 1) as f32;
    let (mut stream, mut scales, mut biases) = (vec![], vec![], vec![]);
    for g in w.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?.chunks(group) {
        let (low, high) =
            (g.iter().copied().fold(f32::INFINITY, f32::min), g.iter().copied().fold(-f32::INFINITY, f32::max));
        let edge = if low.abs() > high.abs() { low } else { high };
        let size = ((high - low) / most).max(1e-7);
        let mut scale = if low.abs() > high.abs() { size } else { -size };
        let mut bias = 0.0;
        if (edge / scale).round_ties_even() != 0.0 {
            (scale, bias) = (edge / (edge / scale).round_ties_even(), edge);
        }
        for v in g {
            let q = ((v - bias) / scale).round_ties_even().clamp(0.0, most) as u32;
            stream.extend((0..bits).map(|b| q >> b & 1));
        }
        scales.push(scale);
        biases.push(bias);
    }
    let words: Vec<u32> = stream.chunks(32).map(|c| c.iter().rev().fold(0, |w, b| w << 1 | b)).collect();
    let mut dims = w.dims().to_vec();
    let last = dims.len() - 1;
    let cols = dims[last];
    dims[last] = cols * bits / 32;
    let words = Tensor::from_vec(words, &dims[..], w.device())?;
    dims[last] = cols / group;
    Ok(vec![words, Tensor::from_vec(scales, &dims[..], w.device())?, Tensor::from_vec(biases, &dims[..], w.device())?])
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "quantize_affine",
    summary: "codes of a few bits, scale and bias a group, as MLX packs them",
    zmlx: &[],
    args: &["w"],
    settings: &["group", "bits"],
    gradient: Gradient::None("codes are steps"),
    wrt: &[],
    roundings: [0.0, 4.0],
    cases,
    sizes: |dtype, device| {
        let w = numbers(&[4096, 4096], dtype, 1, device)?;
        let bytes = (1 << 24) as f64 * (dtype.size_in_bytes() as f64 * (1.0 + 2.0 / 64.0) + 0.5);
        Ok(vec![Case { bytes, ..Case::new("4096x4096, 4 bits", vec![w], &[64.0, 4.0]) }])
    },
    run: |inputs, settings| quantize_affine(&inputs[0], settings[0] as usize, settings[1] as usize),
    reference,
};
