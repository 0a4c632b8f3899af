//! Down projection of the experts of each token, times their weights and added: y = Σ weight_k · (down_e·h_k), in affine codes
//!
//! h is [T, k, F], experts [T, k] of u32, weights [T, k] of any float; down is words [E, D, F·bits/32] in MLX's packing of 4 or 8
//! bits, with scales and biases [E, D, F/group]; y is [T, D] in the dtype of h. Sums are in f32, experts in a fixed order. A block of a
//! GPU makes four columns of y, a warp an expert. The gradient is by h and the weights, a token at a time through dequantised experts.
//! Cost: the codes of k experts read for each token.
//! Source: the definition.
//!
//! [`moe_gate_up_swiglu`](super::moe_gate_up_swiglu) makes h.

use super::{
    Case, Portable, dequantize_affine,
    moe_gate_up_swiglu::{Experts, cases_of, check_experts, experts_of, known, of_token, packed_experts, products},
    numbers,
    quantized_matvec::Sums,
};
use crate::{
    Error, Grid, RawKernel, Result,
    entry::Gradient,
    host::{
        self,
        affine::{self, Packing},
        products::{Matrix, with_matrices},
    },
    raw::text_target,
};
use candle_core::{D, DType, Device, Shape, Tensor};
use std::sync::LazyLock;

/// A block has a token and four columns of y; each of its warps takes a slot (one of the token's experts) at a time, since one
/// token has to fill a GPU.
const TEXT: Sums = Sums {
    body: "
    shared_array(f32, rooms, ROOMS * STAGED / 32 * 33);
    shared_array(f32, parts, 32);
    const i64 cols = args.h_dims[2], many = args.h_dims[1], token = block_index;
    const i64 n = args.down_dims[1], words = args.down_dims[2], groups = args.scales_dims[2];
    const u32 group = (u32)(cols / groups);
    const i64 first = (i64)block_index_y * 4;
    f32 total[4];
    for (i32 r = 0; r < 4; r++) {
        total[r] = 0.0f;
    }
    // all warps go around as often: they wait for each other
    for (i64 turn = 0; turn < many; turn += warps) {
        BEFORE
        shared f32* room = rooms + warp * area;
        const bool there = turn + warp < many;
        const i64 slot = token * many + (there ? turn + warp : 0);
        const bool known = (i64)experts[slot] < args.down_dims[0];
        const i64 expert = known ? (i64)experts[slot] : 0;
        SUMS
        // an expert that is not there
        const f32 weight = known ? wide(weights[slot]) : NAN;
        for (i32 r = 0; r < 4; r++) {
            total[r] = there ? fmaf(weight, sum[r][0], total[r]) : total[r];
        }
    }
    for (i32 r = 0; r < 4; r++) {
        const f32 all = warp_sum(total[r]);
        if (lane == 0) {
            parts[warp * 4 + r] = all;
        }
    }
    barrier();
    if (thread_index < 4 && first + thread_index < n) {
        f32 all = 0.0f;
        for (i32 k = 0; k < warps; k++) {
            all += parts[k * 4 + thread_index];
        }
        y[token * n + first + thread_index] = narrow<y_t>(all);
    }",
    load: "if (there && first + r < n) {
                    const i64 row = expert * n + first + r, g = row * groups + (u32)at / group;
                    now[r].w = load4(down + row * words + at / per);
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }",
    float: "wide(h[slot * cols + column])",
    fresh: "true",
    together: false,
    staged: 1024,
};

/// Most warps of a block, on CUDA and on Metal, where a block has 32 KiB.
const WARPS: [usize; 2] = [8, 4];

static KERNELS: LazyLock<[RawKernel; 2]> = LazyLock::new(|| {
    [4, 8].map(|bits| {
        RawKernel::new(&format!("moe_down_combine_{bits}"))
            .inputs(&["h", "down", "scales", "biases", "experts", "weights"])
            .outputs(&["y"])
            .cuda(&TEXT.text(bits, 1).replace("ROOMS", &WARPS[0].to_string()))
            .metal(&TEXT.text(bits, 1).replace("ROOMS", &WARPS[1].to_string()))
    })
});

/// Σ weight·(down_e·h) over the experts `e` of each token, [T, D], for codes of `bits` bits. Tracked by `h` and `weights`.
///
/// # Errors
/// Shapes or dtypes that do not belong together; bits other than 4 and 8; on a CPU an expert that is not there (on a GPU it
/// gives NaN, and stops the device in a backward pass).
pub fn moe_down_combine(
    h: &Tensor,
    down: Experts<'_>,
    experts: &Tensor,
    weights: &Tensor,
    bits: usize,
) -> Result<Tensor> {
    const NAME: &str = "moe_down_combine";
    let (p, count, n) = down.packing(NAME, bits)?;
    if h.rank() != 3 || h.dim(2)? != p.cols {
        return Err(Error::shape(NAME, "h", format!("[T, k, {}]", p.cols), h.dims()));
    }
    affine::floats(NAME, "h", h)?;
    affine::floats(NAME, "weights", weights)?;
    let (tokens, dtype) = (h.dim(0)?, h.dtype());
    let k = check_experts(NAME, experts, tokens)?;
    if h.dim(1)? != k {
        return Err(Error::shape(NAME, "h", format!("[{tokens}, {k}, {}], as experts", p.cols), h.dims()));
    }
    if weights.dims() != experts.dims() {
        return Err(Error::shape(NAME, "weights", format!("[{tokens}, {k}], as experts"), weights.dims()));
    }
    let kernel = KERNELS[usize::from(bits == 8)]
        .clone()
        .results(move |_| vec![(Shape::from((tokens, n)), dtype)])
        .grid_of(move |t| {
            let most = WARPS[usize::from(text_target(t[0].device()) == Some("metal"))];
            Grid { blocks: [tokens as u32, n.div_ceil(4) as u32, 1], threads: 32 * k.clamp(1, most) as u32 }
        })
        .cpu(move |t| {
            let t: Vec<Tensor> = t.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?;
            let wide = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
            let (h, weights, experts) = (wide(&t[0])?, wide(&t[5])?, known(&t[4], count)?);
            let run = |[down]: [Matrix<'_>; 1]| host::experts::down_combine(&h, &down, &experts, &weights, [tokens, n]);
            let y = with_matrices(&t[1..4], p, run)?;
            Ok(vec![Tensor::from_vec(y, (tokens, n), t[0].device())?.to_dtype(dtype)?])
        })
        .vjp(move |t, _, cotangents| {
            let Some(g) = &cotangents[0] else { return Ok(vec![None; 6]) };
            let (mut of_h, mut of_weights) = (vec![], vec![]);
            for token in 0..tokens {
                let of = |t: &Tensor| t.narrow(0, token, 1)?.to_dtype(DType::F32);
                let down = of_token(&t[1..4], &t[4].get(token)?, bits)?;
                // g·down, [1, k, F]; times the weight that of h, times h that of the weight
                let back = of(g)?.broadcast_as((k, 1, n))?.contiguous()?.matmul(&down)?.transpose(0, 1)?;
                of_h.push(back.broadcast_mul(&of(&t[5])?.unsqueeze(2)?)?.to_dtype(dtype)?);
                of_weights.push((back * of(&t[0])?)?.sum(2)?.to_dtype(t[5].dtype())?);
            }
            if tokens == 0 {
                return Ok(vec![Some(t[0].zeros_like()?), None, None, None, None, Some(t[5].zeros_like()?)]);
            }
            Ok(vec![Some(Tensor::cat(&of_h, 0)?), None, None, None, None, Some(Tensor::cat(&of_weights, 0)?)])
        });
    let [w, s, b] = down.tensors()?;
    Ok(kernel.call(&[h, &w, &s, &b, experts, weights])?.swap_remove(0))
}

fn inputs(
    [tokens, k, count]: [usize; 3],
    p: Packing,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Vec<Tensor>> {
    let mut inputs = vec![numbers(&[tokens, k, p.cols], dtype, 3, device)?];
    inputs.extend(packed_experts(count, p, dtype, device)?);
    inputs.push(experts_of(tokens, k, count, device)?);
    inputs.push(numbers(&[tokens, k], DType::F32, 9, device)?.abs()?);
    Ok(inputs)
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    cases_of(dtype, |of, p| inputs(of, p, dtype, &Device::Cpu))
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "moe_down_combine",
    summary: "Σ weight · (down·h) over the experts of each token, of affine codes of 4 or 8 bits",
    zmlx: &[],
    args: &["h", "down", "scales", "biases", "experts", "weights"],
    settings: &["bits"],
    gradient: Gradient::Custom,
    wrt: &[0, 5],
    roundings: [4.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let mut all = vec![];
        for (bits, tokens) in [(4, 1), (8, 1), (4, 4)] {
            // Qwen3-30B-A3B; on a CPU with an eighth of its experts
            let count = if device.is_cpu() { 16 } else { 128 };
            let p = Packing { rows: 2048, cols: 768, group: 64, bits };
            let of_expert = (768 * 2048) as f64 * (bits as f64 / 8.0 + dtype.size_in_bytes() as f64 / 32.0);
            let what = format!("{tokens} tokens, 8 of {count} experts, 2048x768, {bits} bits");
            let case = Case::new(&what, inputs([tokens, 8, count], p, dtype, device)?, &[bits as f64]);
            all.push(Case { bytes: 8.0 * tokens as f64 * of_expert, ..case });
        }
        Ok(all)
    },
    run: |t, settings| {
        let down = Experts { words: &t[1], scales: &t[2], biases: &t[3] };
        Ok(vec![moe_down_combine(&t[0], down, &t[4], &t[5], settings[0] as usize)?])
    },
    reference: |t, settings| {
        let w = dequantize_affine::reference(&t[1..4], settings)?.swap_remove(0);
        let y = products(&w, &t[0], &t[4])?.broadcast_mul(&t[5].unsqueeze(D::Minus1)?)?;
        Ok(vec![y.sum(1)?])
    },
};
