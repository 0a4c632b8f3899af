//! Attention: y = softmax(scale·q·kᵀ + mask)·v, with the logarithm of each row's sum of exponentials
//!
//! q is [b, h, q, d], k and v [b, kv, n, d] with h a multiple of kv; results are y like q and lse [b, h, q] in f32 (f64 for f64).
//! Causal and windows count from the ends: query i is at place i + n − q. A mask of u8 (0: unseen) or of floats that are added is
//! broadcast to [b, h, q, n]. A row that sees nothing gives 0. Any length: no more scores than a tile are held, forward and
//! backward. On GPUs d is at most 256; f16 and bf16 in heads of up to 128, a multiple of 8, go through matrix units forward
//! (`tiles/attention.rs`), from 16 queries on. A row that meets NaN is NaN, and so are the gradients of the keys that it sees; on a GPU
//! also those of keys up to a tile of 32 beyond, and results of rows whose tile has an unseen value that is not finite.
//! Cost: 2·b·h·q·n·d multiplications and additions, half of them if causal; 5 such products backward.
//! Source: arXiv:2307.08691, algorithms 1 and 2.

use super::{Case, Portable, numbers, quantized_matvec::aligned};
use crate::{
    Error, Grid, RawKernel, Result,
    entry::Gradient,
    host::attention::{self as host, Back, Real},
    raw::text_target,
    tiles::attention as units,
};
use candle_core::{D, DType, Device, Shape, Tensor, WithDType};
use zmlx_runtime::list::List;

const NAME: &str = "attention";
/// Most sizes of a head that the texts take.
const WIDEST: usize = 256;
/// Rows of a warp.
const ROWS: usize = 8;

/// What both passes say of queries i and keys j: who sees whom, and where the mask has them (its sizes are those of b, h, i, j or 1).
const HEADER: &str = "function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}";

/// A warp has ROWS queries; of a tile of 32 keys a lane has one for the scores, and afterwards some columns for the results.
const FORWARD: &str = "
    constexpr i32 wide_dim = DIM, part = PART, line = PART + 4, own = DIM / 32;
    alignas(16) shared_array(f32, qs, WARPS * ROWS * DIM);
    alignas(16) shared_array(f32, tile, 32 * (PART + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 tiles = (nq + WARPS * ROWS - 1) / (WARPS * ROWS), head = block_index / tiles;
    const i64 b = head / heads, h = head - b * heads, pair = b * kv + h / (heads / kv), off = n - nq;
    const i64 first = (block_index - head * tiles) * (WARPS * ROWS), mine = first + warp * ROWS;
    for (i32 i = thread_index; i < WARPS * ROWS * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        qs[i] = first + r < nq && c < d ? wide(q[(head * nq + first + r) * d + c]) * args.scale : 0.0f;
    }
    f32 most[ROWS], sum[ROWS], acc[ROWS][own], s[ROWS];
    #pragma unroll
    for (i32 r = 0; r < ROWS; r++) {
        most[r] = -INFINITY;
        sum[r] = 0.0f;
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
        }
    }
    i64 start = 0, end = n;
    if (args.causal != 0) {
        const i64 past = first + WARPS * ROWS < nq ? first + WARPS * ROWS : nq;
        end = past + off;
    }
    if (args.window != 0 && first + 1 + off - args.window > 0) {
        start = (first + 1 + off - args.window) / 32 * 32;
    }
    for (i64 from = start; from < end; from += 32) {
        #pragma unroll
        for (i32 r = 0; r < ROWS; r++) {
            s[r] = 0.0f;
        }
        for (i32 p = 0; p < wide_dim; p += part) {
            barrier();
            for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                const i32 j = i / part, c = i % part;
                tile[j * line + c] = from + j < n && p + c < d ? wide(k[(pair * n + from + j) * d + p + c]) : 0.0f;
            }
            barrier();
            for (i32 c = 0; c < part; c += 4) {
                const four<f32> kk = load4(tile + lane * line + c);
                #pragma unroll
                for (i32 r = 0; r < ROWS; r++) {
                    s[r] = dot(load4(qs + (warp * ROWS + r) * wide_dim + p + c), kk, s[r]);
                }
            }
        }
        const i64 j = from + lane;
        #pragma unroll
        for (i32 r = 0; r < ROWS; r++) {
            const i64 i = mine + r;
            const bool there = sees(i, j, nq, n, args.causal, args.window);
            if (there && args.masked != 0) {
                s[r] += mask[in_mask(b, h, i, j, args.mask_dims[0], args.mask_dims[1], args.mask_dims[2], args.mask_dims[3])];
            }
            const f32 v = there ? s[r] : -INFINITY;
            const f32 top = fmaxf(most[r], warp_max(v));
            const f32 shrink = top == -INFINITY ? 1.0f : expf(most[r] - top);
            s[r] = v == -INFINITY ? 0.0f : expf(v - top);
            sum[r] = sum[r] * shrink + warp_sum(s[r]);
            most[r] = top;
            #pragma unroll
            for (i32 o = 0; o < own; o++) {
                acc[r][o] *= shrink;
            }
        }
        #pragma unroll
        for (i32 p = 0; p < wide_dim; p += part) {
            barrier();
            for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                const i32 t = i / part, c = i % part;
                tile[t * line + c] = from + t < n && p + c < d ? wide(v_in[(pair * n + from + t) * d + p + c]) : 0.0f;
            }
            barrier();
            for (i32 t = 0; t < 32; t++) {
                f32 x[part / 32];
                #pragma unroll
                for (i32 o = 0; o < part / 32; o++) {
                    x[o] = tile[t * line + o * 32 + lane];
                }
                #pragma unroll
                for (i32 r = 0; r < ROWS; r++) {
                    const f32 e = shuffle(s[r], t);
                    #pragma unroll
                    for (i32 o = 0; o < part / 32; o++) {
                        acc[r][p / 32 + o] = fmaf(e, x[o], acc[r][p / 32 + o]);
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 r = 0; r < ROWS; r++) {
        if (mine + r < nq) {
            const f32 by = sum[r] != 0.0f ? 1.0f / sum[r] : 0.0f;
            #pragma unroll
            for (i32 o = 0; o < own; o++) {
                if (o * 32 + lane < d) {
                    y[(head * nq + mine + r) * d + o * 32 + lane] = narrow<y_t>(acc[r][o] * by);
                }
            }
            if (lane == 0) {
                lse[head * nq + mine + r] = sum[r] != 0.0f ? most[r] + logf(sum[r]) : -INFINITY;
            }
        }
    }";

/// The gradient by q (TURNED 0: a warp has queries a and their cotangents b, and meets keys x and values y), and those by k and v
/// (TURNED 1: it has keys a and values b, and meets queries x and their cotangents y).
const BACKWARD: &str = "
    constexpr i32 wide_dim = DIM, part = PART, line = PART + 4, own = DIM / 32;
    alignas(16) shared_array(f32, as, WARPS * ROWS * DIM);
    alignas(16) shared_array(f32, bs, WARPS * ROWS * DIM);
    alignas(16) shared_array(f32, tile, 32 * (PART + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 group = heads / kv, per = TURNED ? kv : heads, many = TURNED ? n : nq, others = TURNED ? nq : n;
    const i64 tiles = (many + WARPS * ROWS - 1) / (WARPS * ROWS), which = block_index / tiles;
    const i64 b = which / per, h0 = which - b * per;
    const i64 off = n - nq, first = (block_index - which * tiles) * (WARPS * ROWS), mine = first + warp * ROWS;
    const i64 past = first + WARPS * ROWS < many ? first + WARPS * ROWS : many;
    for (i32 i = thread_index; i < WARPS * ROWS * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        const i64 at = (which * many + first + r) * d + c;
        const bool there = first + r < many && c < d;
        as[i] = there ? wide(A_IN[at]) : 0.0f;
        bs[i] = there ? wide(B_IN[at]) : 0.0f;
    }
    f32 acc[ROWS][own], acc2[TURNED ? ROWS : 1][own], s[ROWS], ds[ROWS];
    #pragma unroll
    for (i32 r = 0; r < ROWS; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
            acc2[TURNED ? r : 0][o] = 0.0f;
        }
    }
    i64 start = 0, end = others;
    if (TURNED == 0) {
        if (args.causal != 0) {
            end = past + off;
        }
        if (args.window != 0 && first + 1 + off - args.window > 0) {
            start = (first + 1 + off - args.window) / 32 * 32;
        }
    } else {
        if (args.causal != 0 && first - off > 0) {
            start = (first - off) / 32 * 32;
        }
        if (args.window != 0 && past - 1 + args.window - off < end) {
            end = past - 1 + args.window - off;
        }
    }
    for (i64 g = 0; g < (TURNED ? group : 1); g++) {
        const i64 h = TURNED ? h0 * group + g : h0;
        const i64 head = b * heads + h, other = (TURNED ? head : b * kv + h / group) * others;
        for (i64 from = start; from < end; from += 32) {
            #pragma unroll
            for (i32 r = 0; r < ROWS; r++) {
                s[r] = 0.0f;
                ds[r] = 0.0f;
            }
            for (i32 p = 0; p < 2 * wide_dim; p += part) {
                const i32 at = p < wide_dim ? p : p - wide_dim;
                barrier();
                for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                    const i32 j = i / part, c = i % part;
                    const bool there = from + j < others && at + c < d;
                    const i64 place = (other + from + j) * d + at + c;
                    f32 x = 0.0f;
                    if (there) {
                        x = p < wide_dim ? wide(X_IN[place]) : wide(Y_IN[place]);
                    }
                    tile[j * line + c] = x;
                }
                barrier();
                for (i32 c = 0; c < part; c += 4) {
                    const four<f32> x = load4(tile + lane * line + c);
                    #pragma unroll
                    for (i32 r = 0; r < ROWS; r++) {
                        const i32 place = (warp * ROWS + r) * wide_dim + at + c;
                        if (p < wide_dim) {
                            s[r] = dot(load4(as + place), x, s[r]);
                        } else {
                            ds[r] = dot(load4(bs + place), x, ds[r]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < ROWS; r++) {
                const i64 i = TURNED ? from + lane : mine + r, j = TURNED ? mine + r : from + lane;
                f32 e = 0.0f, delta = 0.0f;
                if (sees(i, j, nq, n, args.causal, args.window) && lse[head * nq + i] != -INFINITY) {
                    f32 v = s[r] * args.scale;
                    if (args.masked != 0) {
                        v += mask[in_mask(b, h, i, j, args.mask_dims[0], args.mask_dims[1], args.mask_dims[2], args.mask_dims[3])];
                    }
                    e = expf(v - lse[head * nq + i]);
                    delta = less[head * nq + i];
                }
                s[r] = e;
                ds[r] = e * (ds[r] - delta) * args.scale;
            }
            #pragma unroll
            for (i32 p = 0; p < wide_dim; p += part) {
                #pragma unroll
                for (i32 side = 0; side < (TURNED ? 2 : 1); side++) {
                    barrier();
                    for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                        const i32 j = i / part, c = i % part;
                        const bool there = from + j < others && p + c < d;
                        const i64 place = (other + from + j) * d + p + c;
                        f32 x = 0.0f;
                        if (there) {
                            x = side == 0 ? wide(X_IN[place]) : wide(Y_IN[place]);
                        }
                        tile[j * line + c] = x;
                    }
                    barrier();
                    for (i32 t = 0; t < 32; t++) {
                        f32 x[part / 32];
                        #pragma unroll
                        for (i32 o = 0; o < part / 32; o++) {
                            x[o] = tile[t * line + o * 32 + lane];
                        }
                        #pragma unroll
                        for (i32 r = 0; r < ROWS; r++) {
                            const f32 e = shuffle(side == 0 ? ds[r] : s[r], t);
                            #pragma unroll
                            for (i32 o = 0; o < part / 32; o++) {
                                if (side == 0) {
                                    acc[r][p / 32 + o] = fmaf(e, x[o], acc[r][p / 32 + o]);
                                } else {
                                    acc2[TURNED ? r : 0][p / 32 + o] = fmaf(e, x[o], acc2[TURNED ? r : 0][p / 32 + o]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 r = 0; r < ROWS; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            if (mine + r < many && o * 32 + lane < d) {
                const i64 at = (which * many + mine + r) * d + o * 32 + lane;
                STORE
            }
        }
    }";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Forward,
    ByQ,
    ByKv,
}

/// Warps of a block: what a block shares fits into 32 KiB.
fn warps(which: Which, d: usize) -> usize {
    match (which, d > 128) {
        (Which::Forward, false) => 4,
        (Which::Forward, true) | (_, false) => 2,
        (_, true) => 1,
    }
}

/// The kernel for heads of this size, rounded up to 32.
fn kernel(which: Which, d: usize) -> &'static RawKernel {
    static KNOWN: List<((Which, usize), RawKernel)> = List::new();
    let key = (which, d.next_multiple_of(32));
    &KNOWN.get_or_add(|(k, _)| *k == key, || (key, made(which, key.1))).1
}

fn made(which: Which, dim: usize) -> RawKernel {
    let part = if dim.is_multiple_of(64) { 64 } else { 32 };
    let (name, source, names) = match which {
        Which::Forward => ("attention", FORWARD, ["", "", "", "", "", ""]),
        Which::ByQ => {
            ("attention_by_q", BACKWARD, ["0", "q", "g_in", "k", "v_in", "dq[at] = narrow<dq_t>(acc[r][o]);"])
        }
        Which::ByKv => {
            let store =
                "dk[at] = narrow<dk_t>(acc[r][o]);\n                dv[at] = narrow<dv_t>(acc2[TURNED ? r : 0][o]);";
            ("attention_by_kv", BACKWARD, ["1", "k", "v_in", "q", "g_in", store])
        }
    };
    let mut body = source.replace("STORE", names[5]);
    for (word, value) in [
        ("TURNED", names[0]),
        ("A_IN", names[1]),
        ("B_IN", names[2]),
        ("X_IN", names[3]),
        ("Y_IN", names[4]),
        ("DIM", &dim.to_string()),
        ("PART", &part.to_string()),
        ("WARPS", &warps(which, dim).to_string()),
        ("ROWS", &ROWS.to_string()),
    ] {
        body = body.replace(word, value);
    }
    let made = RawKernel::new(&format!("{name}_{dim}"))
        .uniform("scale", 1.0)
        .uniform("causal", 0i64)
        .uniform("window", 0i64)
        .uniform("masked", 0i64)
        .header(HEADER)
        .portable(&body);
    match which {
        Which::Forward => made.inputs(&["q", "k", "v_in", "mask"]).outputs(&["y", "lse"]),
        Which::ByQ => made.inputs(&["q", "k", "v_in", "mask", "lse", "less", "g_in"]).outputs(&["dq"]),
        Which::ByKv => made.inputs(&["q", "k", "v_in", "mask", "lse", "less", "g_in"]).outputs(&["dk", "dv"]),
    }
}

/// What is seen, and how it is scaled.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// A query sees keys up to its own place.
    pub causal: bool,
    /// The most keys that a query sees, back from its own place: 1 or more; keys behind that place are seen unless causal.
    pub window: Option<usize>,
    /// 1/√d unless given.
    pub scale: Option<f64>,
    /// u8, 0 where a key is unseen, or floats that are added; it has no gradient.
    pub mask: Option<&'a Tensor>,
}

/// Results and the logarithms of the sums of exponentials, both tracked by q, k and v.
///
/// # Errors
/// Shapes or dtypes that do not belong together; a window of 0; on a GPU f64, or heads of more than 256.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &Options<'_>) -> Result<[Tensor; 2]> {
    let four = |name: &str, t: &Tensor| match t.dims() {
        [a, b, c, d] => Ok([*a, *b, *c, *d]),
        dims => Err(Error::shape(NAME, name, "[b, h, n, d]", dims)),
    };
    let ([b, h, nq, d], [_, kv, n, _]) = (four("q", q)?, four("k", k)?);
    if d == 0 {
        return Err(Error::shape(NAME, "q", "[b, h, n, d] with a column at least", q.dims()));
    }
    if k.dims() != [b, kv, n, d] || kv == 0 || h % kv != 0 {
        return Err(Error::shape(NAME, "k", format!("[{b}, a divisor of {h}, n, {d}]"), k.dims()));
    }
    if v.dims() != k.dims() {
        return Err(Error::shape(NAME, "v", format!("{:?} as k", k.dims()), v.dims()));
    }
    let dtype = q.dtype();
    crate::host::affine::floats(NAME, "q", q)?;
    if k.dtype() != dtype || v.dtype() != dtype {
        return Err(Error::argument(
            NAME,
            "dtypes",
            "one float dtype of q, k, v",
            format!("{dtype:?} {:?} {:?}", k.dtype(), v.dtype()),
        ));
    }
    if options.window == Some(0) {
        return Err(Error::argument(NAME, "window", "a key at least", 0));
    }
    let on_gpu = text_target(q.device()).is_some();
    if on_gpu && (dtype == DType::F64 || d > WIDEST) {
        return Err(Error::argument(
            NAME,
            "q",
            "on a GPU no f64 and heads up to 256",
            format!("{dtype:?}, heads of {d}"),
        ));
    }
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let mask = match options.mask {
        None => None,
        Some(mask) => {
            let dims = four("mask", mask)?;
            if dims.iter().zip([b, h, nq, n]).any(|(m, full)| *m != 1 && *m != full) {
                return Err(Error::shape(NAME, "mask", format!("[{b} or 1, {h} or 1, {nq} or 1, {n} or 1]"), &dims));
            }
            let mask = mask.detach();
            Some(match mask.dtype().is_float() {
                true => mask.to_dtype(wide)?.contiguous()?,
                false => {
                    let zeros = mask.zeros_like()?.to_dtype(wide)?.contiguous()?;
                    mask.contiguous()?.where_cond(&zeros, &(zeros.affine(1.0, f64::NEG_INFINITY)?))?
                }
            })
        }
    };
    let scale = options.scale.unwrap_or(1.0 / (d as f64).sqrt());
    let s = host::Shape {
        b,
        h,
        kv,
        q: nq,
        n,
        d,
        scale,
        causal: options.causal,
        // no more than there are: the numbers of a kernel have a sign
        window: options.window.map_or(0, |w| w.min(n + nq + 1)),
        mask: mask.as_ref().map(|m| four("mask", m)).transpose()?,
    };
    let mask = mask.map_or_else(|| Tensor::zeros((1, 1, 1, 1), wide, q.device()), Ok)?;
    let numbered = move |which| set(kernel(which, d), &s);
    let kernel = match units::kernel(q.device(), dtype, d, nq, HEADER) {
        Some(kernel) => set(kernel, &s).grid(units::grid(nq, b * h)),
        None => numbered(Which::Forward).grid(grid(Which::Forward, d, nq, b * h)),
    };
    let kernel = kernel
        .results(move |t| vec![(t[0].shape().clone(), dtype), (Shape::from((b, h, nq)), wide)])
        .cpu(move |t| match wide {
            DType::F64 => forward::<f64>(&s, t),
            _ => forward::<f32>(&s, t),
        })
        .vjp(move |t, results, cotangents| {
            let floats = |t: &Tensor| t.to_dtype(wide);
            let g = cotangents[0].as_ref().map_or_else(|| t[0].zeros_like(), |g| g.contiguous())?;
            let mut less = (floats(&results[0])? * floats(&g)?)?.sum(D::Minus1)?;
            if let Some(of_lse) = &cotangents[1] {
                less = (less - of_lse)?;
            }
            let all = [&t[0], &t[1], &t[2], &t[3], &results[1], &less, &g];
            if text_target(t[0].device()).is_none() {
                let all: Vec<Tensor> = all.into_iter().cloned().collect();
                let mut gradients = match wide {
                    DType::F64 => backward::<f64>(&s, &all)?,
                    _ => backward::<f32>(&s, &all)?,
                };
                gradients.push(None);
                return Ok(gradients);
            }
            let by_q = numbered(Which::ByQ).grid_of(move |_| grid(Which::ByQ, d, nq, b * h));
            let by_kv = numbered(Which::ByKv)
                .results(|t| vec![(t[1].shape().clone(), t[1].dtype()), (t[2].shape().clone(), t[2].dtype())])
                .grid_of(move |_| grid(Which::ByKv, d, n, b * kv));
            let mut gradients = by_q.call(&all)?;
            gradients.extend(by_kv.call(&all)?);
            Ok(gradients.into_iter().map(Some).chain([None]).collect())
        });
    let mut results = kernel.call(&[&aligned(q)?, &aligned(k)?, &aligned(v)?, &mask])?;
    let lse = results.pop().ok_or_else(|| Error::internal("attention has two results"))?;
    Ok([results.swap_remove(0), lse])
}

fn set(kernel: &RawKernel, s: &host::Shape) -> RawKernel {
    let kernel = kernel.with("scale", s.scale).with("causal", i64::from(s.causal));
    kernel.with("window", s.window as i64).with("masked", i64::from(s.mask.is_some()))
}

fn grid(which: Which, d: usize, rows: usize, heads: usize) -> Grid {
    let warps = warps(which, d);
    // along one axis, since others end at 65,535
    Grid::new(rows.div_ceil(warps * ROWS) * heads, 32 * warps as u32)
}

fn values<T: WithDType>(t: &Tensor) -> candle_core::Result<Vec<T>> {
    t.to_dtype(T::DTYPE)?.flatten_all()?.to_vec1()
}

fn forward<T: Real + WithDType>(s: &host::Shape, t: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
    let (y, lse) = host::forward::<T>(s, &values(&t[0])?, &values(&t[1])?, &values(&t[2])?, Some(&values(&t[3])?));
    let y = Tensor::from_vec(y, t[0].shape(), t[0].device())?.to_dtype(t[0].dtype())?;
    Ok(vec![y, Tensor::from_vec(lse, (s.b, s.h, s.q), t[0].device())?])
}

fn backward<T: Real + WithDType>(s: &host::Shape, t: &[Tensor]) -> candle_core::Result<Vec<Option<Tensor>>> {
    let v: Vec<Vec<T>> = t.iter().map(values).collect::<candle_core::Result<_>>()?;
    let back = Back { q: &v[0], k: &v[1], v: &v[2], mask: Some(&v[3]), lse: &v[4], delta: &v[5], cotangent: &v[6] };
    let gradients = host::backward(s, &back).into_iter().zip(t);
    gradients.map(|(g, t)| Ok(Some(Tensor::from_vec(g, t.shape(), t.device())?.to_dtype(t.dtype())?))).collect()
}

/// Settings: causal, window (0: none), kind of mask (0 none, 1 of u8, 2 of floats).
fn options<'a>(t: &'a [Tensor], settings: &[f64]) -> Options<'a> {
    let window = Some(settings[1] as usize).filter(|w| *w > 0);
    Options { causal: settings[0] != 0.0, window, scale: None, mask: t.get(3) }
}

fn cases(dtype: DType) -> candle_core::Result<Vec<Case>> {
    let cpu = &Device::Cpu;
    let mut cases = vec![];
    for (what, [b, h, kv, q, n, d], causal, window) in [
        ("one of everything", [1, 1, 1, 1, 1, 1], 0, 0),
        ("several tiles", [1, 2, 2, 37, 70, 32], 0, 0),
        ("causal, shared keys", [2, 4, 2, 35, 35, 24], 1, 0),
        ("causal, more keys than queries", [1, 2, 1, 9, 50, 64], 1, 0),
        ("causal, more queries than keys", [1, 1, 1, 40, 7, 16], 1, 0),
        ("a window", [1, 2, 2, 70, 70, 40], 1, 11),
        ("wide heads", [1, 1, 1, 5, 33, 160], 0, 0),
        ("more than a tile of queries and of keys", [1, 2, 1, 70, 140, 16], 1, 75),
    ] {
        let inputs = vec![
            (numbers(&[b, h, q, d], dtype, 1, cpu)? * 2.0)?,
            (numbers(&[b, kv, n, d], dtype, 2, cpu)? * 2.0)?,
            numbers(&[b, kv, n, d], dtype, 3, cpu)?,
        ];
        cases.push(Case::new(what, inputs, &[f64::from(causal), f64::from(window)]));
    }
    for floats in [false, true] {
        let mut inputs = vec![
            numbers(&[2, 2, 6, 16], dtype, 4, cpu)?,
            numbers(&[2, 2, 40, 16], dtype, 5, cpu)?,
            numbers(&[2, 2, 40, 16], dtype, 6, cpu)?,
        ];
        let mask = numbers(&[2, 1, 6, 40], dtype, 7, cpu)?;
        inputs.push(if floats { (mask * 3.0)? } else { mask.gt(0.3)? });
        cases.push(Case::new(if floats { "a mask that is added" } else { "a mask of bytes" }, inputs, &[0.0, 0.0]));
    }
    Ok(cases)
}

/// All scores at once.
fn reference(t: &[Tensor], settings: &[f64]) -> candle_core::Result<Vec<Tensor>> {
    let (_, h, q, d) = t[0].dims4()?;
    let (b, kv, n, _) = t[1].dims4()?;
    let spread = |t: &Tensor| t.unsqueeze(2)?.broadcast_as((b, kv, h / kv, n, d))?.contiguous()?.reshape((b, h, n, d));
    let (k, v) = (spread(&t[1])?, spread(&t[2])?);
    let scores = (t[0].matmul(&k.t()?.contiguous()?)? * (1.0 / (d as f64).sqrt()))?;
    let sees = |i: usize, j: usize| {
        let at = i as f64 + n as f64 - q as f64;
        (settings[0] == 0.0 || j as f64 <= at) && (settings[1] == 0.0 || j as f64 > at - settings[1])
    };
    let hidden: Vec<f64> = (0..q * n).map(|x| if sees(x / n, x % n) { 0.0 } else { f64::NEG_INFINITY }).collect();
    let hidden = Tensor::from_vec(hidden, (q, n), t[0].device())?.to_dtype(t[0].dtype())?;
    let mut scores = scores.broadcast_add(&hidden)?;
    if let Some(mask) = t.get(3) {
        let added = if mask.dtype().is_float() { mask.clone() } else { mask.to_dtype(t[0].dtype())?.log()? };
        scores = scores.broadcast_add(&added)?;
    }
    // a row that sees nothing: 0 and −∞
    let most = scores.max_keepdim(D::Minus1)?.detach();
    let shift = most.maximum(-1e100)?;
    let e = scores.broadcast_sub(&shift)?.exp()?;
    let sum = e.sum_keepdim(D::Minus1)?;
    let y = e.matmul(&v)?.broadcast_div(&sum.maximum(1e-100)?)?;
    let nothing = sum.detach().log()?.minimum(0.0)?.maximum(-1e300)?.lt(-1e299)?.to_dtype(t[0].dtype())?;
    let lse = ((sum.maximum(1e-100)?.log()? + shift)? + nothing.affine(-1.0, 1.0)?.log()?)?.squeeze(D::Minus1)?;
    Ok(vec![y, lse])
}

/// See the head of the file.
pub static ENTRY: Portable = Portable {
    name: "attention",
    summary: "y = softmax(scale·q·kᵀ + mask)·v and its log-sum-exp, causal, windowed, with shared keys",
    zmlx: &["attention.attention_tile_proto"],
    args: &["q", "k", "v", "mask"],
    settings: &["causal", "window"],
    gradient: Gradient::Custom,
    wrt: &[0, 1, 2],
    roundings: [4.0, 64.0],
    cases,
    sizes: |dtype, device| {
        let mut all = vec![];
        let lengths: &[usize] = if device.is_cpu() { &[512] } else { &[1024, 4096] };
        for &n in lengths {
            let t = |h, seed| numbers(&[1, h, n, 128], dtype, seed, device);
            let flops = (2 * 16 * n * n * 128) as f64;
            let case = Case::new(
                &format!("1x16 heads (4 of keys), {n}, 128, causal"),
                vec![t(16, 1)?, t(4, 2)?, t(4, 3)?],
                &[1.0, 0.0],
            );
            // 2 products forward, 5 backward
            all.push(Case {
                flops: [flops, 3.5 * flops],
                bytes: (40 * n * 128 * dtype.size_in_bytes()) as f64,
                ..case
            });
        }
        Ok(all)
    },
    run: |t, settings| Ok(attention(&t[0], &t[1], &t[2], &options(t, settings))?.into()),
    reference,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_heads_than_a_grid_has_along_its_second_axis() {
        assert_eq!(grid(Which::Forward, 64, 33, 70_000), Grid { blocks: [140_000, 1, 1], threads: 128 });
    }
}
