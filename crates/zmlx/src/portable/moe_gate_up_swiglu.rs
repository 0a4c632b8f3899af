//! Gate and up projection of the experts of each token, and SwiGLU: h = silu(gate_e·x) · (up_e·x), in affine codes of 4 or 8 bits
//!
//! x is [T, D], experts [T, k] of u32; gate and up are words [E, F, D·bits/32] in MLX's packing, each with scales and biases
//! [E, F, D/group]; h is [T, k, F] in the dtype of x. Sums are in f32. A warp of a GPU makes two columns of h, of both matrices
//! together; each expert of a token reads its weights anew, so this is for few tokens there. A CPU dequantises some rows of an expert at
//! a time where it has many tokens. The gradient is by x, a token at a time through dequantised experts.
//! Cost: the codes of k experts read for each token.
//! Source: the definition.
//!
//! [`moe_down_combine`](super::moe_down_combine) takes h on.

use super::{
    Case, Portable,
    dequantize_affine::{self, dequantize_affine, packed},
    numbers,
    quantized_matvec::{Sums, aligned},
};
use crate::{
    Error, Grid, RawKernel, Result,
    entry::Gradient,
    host::{
        self,
        affine::{self, Packing},
        products::{Matrix, with_matrices},
    },
};
use candle_core::{D, DType, Device, Shape, Tensor};
use std::sync::LazyLock;

/// A block has a slot (a token and one of its experts) and some columns of h; rows 0 and 1 are of gate, 2 and 3 of up.
const TEXT: Sums = Sums {
    body: "
    shared_array(f32, room, STAGED / 32 * 33);
    const i64 cols = args.x_dims[1], slot = block_index, token = slot / args.experts_dims[1];
    const i64 n = args.gate_dims[1], words = args.gate_dims[2], groups = args.gate_scales_dims[2];
    const u32 group = (u32)(cols / groups);
    const bool known = (i64)experts[slot] < args.gate_dims[0];
    const i64 expert = known ? (i64)experts[slot] : 0;
    const i64 first = ((i64)block_index_y * warps + warp) * 2;
    BEFORE
    SUMS
    for (i32 r = 0; r < 4; r++) {
        sum[r][0] = warp_sum(sum[r][0]);
    }
    for (i32 r = 0; r < 2; r++) {
        if (lane == 0 && first + r < n) {
            // an expert that is not there
            const f32 a = sum[r][0], h = known ? a / (1.0f + expf(-a)) * sum[r + 2][0] : NAN;
            y[slot * n + first + r] = narrow<y_t>(h);
        }
    }",
    load: "if (first + r % 2 < n) {
                    const i64 row = expert * n + first + r % 2, g = row * groups + (u32)at / group;
                    now[r].w = load4((r < 2 ? gate : up) + row * words + at / per);
                    now[r].scale = r < 2 ? wide(gate_scales[g]) : wide(up_scales[g]);
                    now[r].bias = r < 2 ? wide(gate_biases[g]) : wide(up_biases[g]);
                }",
    float: "wide(x[token * cols + column])",
    fresh: "true",
    together: true,
    staged: 2048,
};

const WARPS: usize = 8;

static KERNELS: LazyLock<[RawKernel; 2]> = LazyLock::new(|| {
    [4, 8].map(|bits| {
        RawKernel::new(&format!("moe_gate_up_swiglu_{bits}"))
            .inputs(&["x", "gate", "gate_scales", "gate_biases", "up", "up_scales", "up_biases", "experts"])
            .outputs(&["y"])
            .portable(&TEXT.text(bits, 1))
    })
});

/// Codes of experts, [E, rows, words], with scales and biases.
#[derive(Clone, Copy, Debug)]
pub struct Experts<'a> {
    /// The words.
    pub words: &'a Tensor,
    /// A scale a group.
    pub scales: &'a Tensor,
    /// A bias a group.
    pub biases: &'a Tensor,
}

impl<'a> Experts<'a> {
    /// Its packing, and how many experts and rows there are.
    pub(crate) fn packing(self, op: &str, bits: usize) -> Result<(Packing, usize, usize)> {
        if ![4, 8].contains(&bits) {
            return Err(Error::argument(op, "bits", "4 or 8", bits));
        }
        let p = Packing::of(op, self.words, self.scales, self.biases, bits)?;
        match self.words.dims() {
            &[experts, rows, _] => Ok((p, experts, rows)),
            dims => Err(Error::shape(op, "words", "[experts, rows, words]", dims)),
        }
    }
    /// As inputs of a kernel.
    pub(crate) fn tensors(self) -> Result<[Tensor; 3]> {
        Ok([aligned(self.words)?, self.scales.detach(), self.biases.detach()])
    }
}

/// Those of a kernel's inputs for the experts of a token, dequantised in f32: [k, rows, cols].
pub(super) fn of_token(t: &[Tensor], experts: &Tensor, bits: usize) -> Result<Tensor> {
    let of = |t: &Tensor| t.index_select(experts, 0);
    let wide = |t: &Tensor| of(t)?.to_dtype(DType::F32);
    dequantize_affine(&of(&t[0])?, &wide(&t[1])?, &wide(&t[2])?, bits)
}

/// Are these experts of the tokens of `x`?
pub(super) fn check_experts(op: &str, experts: &Tensor, tokens: usize) -> Result<usize> {
    match experts.dims() {
        &[t, k] if t == tokens && experts.dtype() == DType::U32 => Ok(k),
        dims => {
            let got = format!("{dims:?} of {}", experts.dtype().as_str());
            Err(Error::argument(op, "experts", format!("[{tokens}, k] of u32"), got))
        }
    }
}

/// Experts of tokens on the CPU: each is there.
pub(super) fn known(experts: &Tensor, count: usize) -> candle_core::Result<Vec<u32>> {
    let experts = experts.flatten_all()?.to_vec1::<u32>()?;
    match experts.iter().find(|e| **e as usize >= count) {
        Some(e) => candle_core::bail!("experts, expected below {count}, got {e}"),
        None => Ok(experts),
    }
}

/// silu(gate_e·x) · (up_e·x) of the experts `e` of each token, [T, k, F], for codes of `bits` bits. Tracked by `x` alone.
///
/// # Errors
/// Shapes or dtypes that do not belong together; bits other than 4 and 8; on a CPU an expert that is not there (on a GPU it
/// gives NaN, and stops the device in a backward pass).
pub fn moe_gate_up_swiglu(
    x: &Tensor,
    gate: Experts<'_>,
    up: Experts<'_>,
    experts: &Tensor,
    bits: usize,
) -> Result<Tensor> {
    const NAME: &str = "moe_gate_up_swiglu";
    let (p, count, n) = gate.packing(NAME, bits)?;
    if up.packing(NAME, bits)? != (p, count, n) || up.scales.dtype() != gate.scales.dtype() {
        return Err(Error::shape(NAME, "words of up", format!("{:?}, as of gate", gate.words.dims()), up.words.dims()));
    }
    if x.rank() != 2 || x.dim(1)? != p.cols {
        return Err(Error::shape(NAME, "x", format!("[T, {}]", p.cols), x.dims()));
    }
    affine::floats(NAME, "x", x)?;
    let (tokens, dtype) = (x.dim(0)?, x.dtype());
    let k = check_experts(NAME, experts, tokens)?;
    let kernel = KERNELS[usize::from(bits == 8)]
        .clone()
        .results(move |_| vec![(Shape::from((tokens, k, n)), dtype)])
        .grid_of(move |_| Grid {
            blocks: [(tokens * k) as u32, n.div_ceil(2 * WARPS) as u32, 1],
            threads: 32 * WARPS as u32,
        })
        .cpu(move |t| {
            let t: Vec<Tensor> = t.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?;
            let x = t[0].to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let experts = known(&t[7], count)?;
            let run = |[gate, up]: [Matrix<'_>; 2]| host::experts::gate_up_swiglu(&x, &gate, &up, &experts, n);
            let y = with_matrices(&t[1..7], p, run)?;
            Ok(vec![Tensor::from_vec(y, (tokens, k, n), t[0].device())?.to_dtype(dtype)?])
        })
        .vjp(move |t, _, cotangents| {
            let Some(g) = &cotangents[0] else { return Ok(vec![None; 8]) };
            let mut rows = vec![];
            for token in 0..tokens {
                let of = |t: &Tensor| t.narrow(0, token, 1)?.to_dtype(DType::F32);
                let experts = t[7].get(token)?;
                let (gate, up) = (of_token(&t[1..4], &experts, bits)?, of_token(&t[4..7], &experts, bits)?);
                let x = of(&t[0])?.t()?.broadcast_as((k, p.cols, 1))?.contiguous()?;
                let (a, b) = (gate.matmul(&x)?.squeeze(2)?, up.matmul(&x)?.squeeze(2)?);
                let sigmoid = (a.neg()?.exp()? + 1.0)?.recip()?;
                let g = of(g)?.squeeze(0)?;
                // silu′(a) = σ + a·σ·(1 − σ)
                let slope = (&sigmoid * ((&a * (1.0 - &sigmoid)?)? + 1.0)?)?;
                let (da, db) = (((&g * b)? * slope)?, ((g * a)? * sigmoid)?);
                let back = |d: Tensor, w: Tensor| d.unsqueeze(1)?.matmul(&w)?.sum(0);
                rows.push((back(da, gate)? + back(db, up)?)?.to_dtype(dtype)?);
            }
            let x = if rows.is_empty() { t[0].zeros_like()? } else { Tensor::cat(&rows, 0)? };
            Ok([Some(x)].into_iter().chain([const { None }; 7]).collect())
        });
    let ([g, gs, gb], [u, us, ub]) = (gate.tensors()?, up.tensors()?);
    Ok(kernel.call(&[x, &g, &gs, &gb, &u, &us, &ub, experts])?.swap_remove(0))
}

/// A token a row, experts that are not in order.
pub(super) fn experts_of(tokens: usize, k: usize, count: usize, device: &Device) -> candle_core::Result<Tensor> {
    let of = |i: usize| ((i * 7 + i / k * 3 + 1) % count) as u32;
    Tensor::from_vec((0..tokens * k).map(of).collect::<Vec<_>>(), (tokens, k), device)
}

/// The codes of `count` experts of this packing each.
pub(super) fn packed_experts(
    count: usize,
    p: Packing,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Vec<Tensor>> {
    let all = packed(Packing { rows: count * p.rows, ..p }, dtype, device)?;
    all.iter().map(|t| t.reshape((count, p.rows, ()))).collect()
}

/// Cases of experts: inputs of so many tokens, experts of each, and experts, of this packing.
pub(super) fn cases_of(
    dtype: DType,
    inputs: impl Fn([usize; 3], Packing) -> candle_core::Result<Vec<Tensor>>,
) -> candle_core::Result<Vec<Case>> {
    let mut cases = vec![];
    if dtype == DType::F64 {
        return Ok(cases); // sums are in f32
    }
    for (bits, group, of, rows, cols) in [
        (4, 64, [1, 2, 5], 37, 1088),
        (4, 32, [3, 2, 4], 5, 96),
        (4, 128, [2, 1, 3], 18, 128),
        (8, 64, [2, 3, 4], 17, 576),
        (8, 32, [1, 1, 1], 3, 32),
        (4, 64, [0, 2, 2], 4, 64),
        // many tokens an expert
        (4, 64, [29, 2, 3], 21, 128),
    ] {
        let inputs = inputs(of, Packing { rows, cols, group, bits })?;
        let [tokens, k, count] = of;
        let what = format!("{tokens} tokens, {k} of {count} experts, {rows}x{cols}, {bits} bits, groups of {group}");
        cases.push(Case::new(&what, inputs, &[bits as f64]));
    }
    Ok(cases)
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    cases_of(dtype, |[tokens, k, count], p| {
        let mut inputs = vec![numbers(&[tokens, p.cols], dtype, 3, &Device::Cpu)?];
        inputs.extend(packed_experts(count, p, dtype, &Device::Cpu)?);
        // up is gate from its end
        let turned = |t: &Tensor| t.flip(&[0, 1]);
        let up = inputs[1..4].iter().map(turned).collect::<candle_core::Result<Vec<_>>>()?;
        inputs.extend(up);
        inputs.push(experts_of(tokens, k, count, &Device::Cpu)?);
        Ok(inputs)
    })
}

/// The rows of experts times a vector each: w [E, rows, cols], x [T, k, cols].
pub(super) fn products(w: &Tensor, x: &Tensor, experts: &Tensor) -> candle_core::Result<Tensor> {
    let (tokens, k, cols) = x.dims3()?;
    let w = w.index_select(&experts.flatten_all()?, 0)?;
    w.matmul(&x.reshape((tokens * k, cols, 1))?)?.reshape((tokens, k, w.dim(1)?))
}

fn reference(t: &[Tensor], settings: &[f64]) -> candle_core::Result<Vec<Tensor>> {
    let (tokens, k) = t[7].dims2()?;
    let x = t[0].unsqueeze(1)?.broadcast_as((tokens, k, t[0].dim(D::Minus1)?))?.contiguous()?;
    let of = |at: usize| products(&dequantize_affine::reference(&t[at..], settings)?[0], &x, &t[7]);
    let (gate, up) = (of(1)?, of(4)?);
    let sigmoid = (gate.neg()?.exp()? + 1.0)?.recip()?;
    Ok(vec![((gate * sigmoid)? * up)?])
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "moe_gate_up_swiglu",
    summary: "silu(gate·x) · (up·x) of the experts of each token, of affine codes of 4 or 8 bits",
    zmlx: &[],
    args: &["x", "gate", "gate_scales", "gate_biases", "up", "up_scales", "up_biases", "experts"],
    settings: &["bits"],
    gradient: Gradient::Custom,
    wrt: &[0],
    roundings: [4.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let mut all = vec![];
        for (bits, tokens) in [(4, 1), (8, 1), (4, 4)] {
            // Qwen3-30B-A3B; on a CPU with an eighth of its experts
            let count = if device.is_cpu() { 16 } else { 128 };
            let p = Packing { rows: 768, cols: 2048, group: 64, bits };
            let mut inputs = vec![numbers(&[tokens, 2048], dtype, 1, device)?];
            let gate = packed_experts(count, p, dtype, device)?;
            inputs.extend(gate.iter().cloned().chain(gate.iter().cloned()));
            inputs.push(experts_of(tokens, 8, count, device)?);
            let of_expert = (768 * 2048) as f64 * (bits as f64 / 8.0 + dtype.size_in_bytes() as f64 / 32.0);
            let bytes = 2.0 * 8.0 * tokens as f64 * of_expert;
            let what = format!("{tokens} tokens, 8 of {count} experts, 2·768x2048, {bits} bits");
            all.push(Case { bytes, ..Case::new(&what, inputs, &[bits as f64]) });
        }
        Ok(all)
    },
    run: |t, settings| {
        let [gate, up] = [1, 4].map(|k| Experts { words: &t[k], scales: &t[k + 1], biases: &t[k + 2] });
        Ok(vec![moe_gate_up_swiglu(&t[0], gate, up, &t[7], settings[0] as usize)?])
    },
    reference,
};
