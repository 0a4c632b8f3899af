//! Attention's forward pass on matrix units: the text of a kernel for heads of up to 128, of 16-bit floats.
//!
//! A block has 64 queries, 16 a warp, in registers as fragments; keys and values come through shared memory, a tile ahead where there is
//! room. Scores of a tile are fragments of C, and their exponentials, rounded to the dtype, are the fragments of A of the product with
//! the values: neither leaves its lane. A row of a fragment is in four lanes. Exponentials have base 2; sums are in f32.
//! Source: arXiv:2307.08691, algorithm 1.

use super::fits;
use crate::{Grid, RawKernel};
use candle_core::{DType, Device};
use zmlx_runtime::list::List;

/// Queries of a block, and its warps.
const ROWS: usize = 64;
const WARPS: usize = 4;

/// Keys of a tile, and tiles in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keys {
    keys: usize,
    stages: usize,
}

const BODY: &str = "
    constexpr i32 DIM = $DIM, KEYS = $KEYS, STAGES = $STAGES, PITCH = DIM + 8, TILE = KEYS * PITCH;
    constexpr i32 D = DIM / 16, J = KEYS / 16, THREADS = 128;
    constexpr f32 BASE = 1.44269504088896341f;
    shared y_t* tiles = (shared y_t*)memory;
    const i32 d = (i32)args.q_dims[3];
    const i64 nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 blocks = (nq + 63) / 64, head = block_index / blocks, off = n - nq;
    const i64 b = head / heads, h = head - b * heads, pair = b * kv + h / (heads / kv);
    // those that see most begin first
    const i64 first = (blocks - 1 - (block_index - head * blocks)) * 64, mine = first + warp * 16;
    // queries lie where the tiles will
    #pragma unroll
    for (i32 i = thread_index; i < 64 * DIM / 8; i += THREADS) {
        const i32 r = i / (DIM / 8), c = i % (DIM / 8) * 8;
        const bool there = first + r < nq && c < d;
        copy_async(tiles + r * PITCH + c, q + (there ? (head * nq + first + r) * d + c : 0), there);
    }
    copy_commit();
    copy_wait<0>();
    barrier();
    fragment_a<y_t> own[D];
    #pragma unroll
    for (i32 k = 0; k < D; k++) {
        own[k] = load_a<false>(tiles + warp * 16 * PITCH, k * 16, PITCH, lane);
    }
    barrier();
    // of the lane's two rows
    f32 most[2], sum[2];
    most[0] = most[1] = -INFINITY;
    sum[0] = sum[1] = 0.0f;
    fragment_c acc[D];
    #pragma unroll
    for (i32 k = 0; k < D; k++) {
        clear(acc[k]);
    }
    const i64 past = first + 64 < nq ? first + 64 : nq;
    i64 start = 0, end = n;
    if (args.causal != 0) {
        end = past + off < n ? past + off : n;
    }
    if (args.window != 0 && first + 1 + off - args.window > 0) {
        start = (first + 1 + off - args.window) / KEYS * KEYS;
    }
    i32 stage = 0;
    for (i64 from = start - (STAGES - 1) * KEYS; from < end; from += KEYS) {
        if (STAGES == 1 || from >= start) {
            copy_wait<0>();
            barrier();
        }
        const i64 next = from + (STAGES - 1) * KEYS;
        if (next < end) {
            shared y_t* to = tiles + (STAGES == 1 ? 0 : from < start ? 0 : 1 - stage) * 2 * TILE;
            #pragma unroll
            for (i32 i = thread_index; i < KEYS * DIM / 8; i += THREADS) {
                const i32 r = i / (DIM / 8), c = i % (DIM / 8) * 8;
                const bool there = next + r < n && c < d;
                const i64 at = there ? (pair * n + next + r) * d + c : 0;
                copy_async(to + r * PITCH + c, k + at, there);
                copy_async(to + TILE + r * PITCH + c, v_in + at, there);
            }
        }
        copy_commit();
        if (STAGES == 1) {
            copy_wait<0>();
            barrier();
        }
        if (from < start) {
            continue;
        }
        shared const y_t* of_k = tiles + stage * 2 * TILE;
        shared const y_t* of_v = of_k + TILE;
        stage = STAGES == 1 ? 0 : 1 - stage;
        fragment_c s[J];
        #pragma unroll
        for (i32 j = 0; j < J; j++) {
            clear(s[j]);
            #pragma unroll
            for (i32 k = 0; k < D; k++) {
                fragment_b<y_t> key = load_b<false>(of_k, j * 16 * PITCH + k * 16, PITCH, lane);
                multiply_add(s[j], own[k], key);
            }
        }
        // tiles that all queries see in full need no look at places
        const bool full = args.masked == 0 && from + KEYS <= n && past == first + 64
            && (args.causal == 0 || from + KEYS - 1 <= first + off) && (args.window == 0 || from > first + 63 + off - args.window);
        f32 top[2], shrink[2];
        top[0] = most[0];
        top[1] = most[1];
        #pragma unroll
        for (i32 j = 0; j < J; j++) {
            #pragma unroll
            for (i32 e = 0; e < 8; e++) {
                f32 v = element(s[j], e) * (args.scale * BASE);
                if (!full) {
                    const i64 i = mine + fragment_row(e, lane), at = from + j * 16 + fragment_col(e, lane);
                    const bool there = sees(i, at, nq, n, args.causal, args.window);
                    if (there && args.masked != 0) {
                        v += BASE * mask[in_mask(b, h, i, at, args.mask_dims[0], args.mask_dims[1], args.mask_dims[2], args.mask_dims[3])];
                    }
                    v = there ? v : -INFINITY;
                }
                set_element(s[j], e, v);
                top[e / FRAGMENT_HALF % 2] = fmaxf(top[e / FRAGMENT_HALF % 2], v);
            }
        }
        #pragma unroll
        for (i32 r = 0; r < 2; r++) {
            top[r] = across_row<max_of>(top[r]);
            shrink[r] = top[r] == -INFINITY ? 1.0f : exp2f(most[r] - top[r]);
            most[r] = top[r];
            sum[r] *= shrink[r];
        }
        #pragma unroll
        for (i32 k = 0; k < D; k++) {
            #pragma unroll
            for (i32 e = 0; e < 8; e++) {
                set_element(acc[k], e, element(acc[k], e) * shrink[e / FRAGMENT_HALF % 2]);
            }
        }
        #pragma unroll
        for (i32 j = 0; j < J; j++) {
            #pragma unroll
            for (i32 e = 0; e < 8; e++) {
                const f32 v = element(s[j], e);
                const f32 p = v == -INFINITY ? 0.0f : exp2f(v - most[e / FRAGMENT_HALF % 2]);
                sum[e / FRAGMENT_HALF % 2] += p;
                set_element(s[j], e, p);
            }
            fragment_a<y_t> p = as_a<y_t>(s[j]);
            #pragma unroll
            for (i32 k = 0; k < D; k++) {
                fragment_b<y_t> value = load_b<true>(of_v, j * 16 * PITCH + k * 16, PITCH, lane);
                multiply_add(acc[k], p, value);
            }
        }
    }
    f32 by[2];
    #pragma unroll
    for (i32 r = 0; r < 2; r++) {
        sum[r] = across_row<sum_of>(sum[r]);
        by[r] = sum[r] != 0.0f ? 1.0f / sum[r] : 0.0f;
        const i64 i = mine + fragment_row(r * FRAGMENT_HALF, lane);
        if (i < nq && fragment_col(0, lane) == 0) {
            lse[head * nq + i] = sum[r] != 0.0f ? (most[r] + log2f(sum[r])) * 0.693147180559945309f : -INFINITY;
        }
    }
    #pragma unroll
    for (i32 k = 0; k < D; k++) {
        #pragma unroll
        for (i32 e = 0; e < 8; e += 2) {
            const i64 i = mine + fragment_row(e, lane);
            const i32 c = k * 16 + fragment_col(e, lane);
            const f32 half = by[e / FRAGMENT_HALF % 2];
            if (i < nq && c < d) {
                *(device u32*)(y + (head * nq + i) * d + c) = pair_of<y_t>(element(acc[k], e) * half, element(acc[k], e + 1) * half);
            }
        }
    }";

/// The kernel for heads of this size and rows of queries, where it is the faster one; with `header`'s functions of who sees whom.
pub(crate) fn kernel(device: &Device, dtype: DType, d: usize, rows: usize, header: &str) -> Option<&'static RawKernel> {
    let memory = fits(device, dtype, &[d])?;
    if d > 128 || rows < 16 {
        return None;
    }
    let dim = d.next_multiple_of(16);
    let of = |k: Keys| 2 * (dim + 8) * (2 * k.stages * k.keys).max(ROWS);
    let all = [Keys { keys: 64, stages: 2 }, Keys { keys: 32, stages: 1 }];
    let keys = *all.iter().find(|k| of(**k) <= memory)?;
    static KNOWN: List<((usize, Keys), RawKernel)> = List::new();
    let make = || {
        let numbers = [("$DIM", dim), ("$KEYS", keys.keys), ("$STAGES", keys.stages)];
        let body = numbers.iter().fold(BODY.to_string(), |text, (word, n)| text.replace(word, &n.to_string()));
        let made = RawKernel::new(&format!("attention_tiles_{dim}_{}", keys.keys))
            .uniform("scale", 1.0)
            .uniform("causal", 0i64)
            .uniform("window", 0i64)
            .uniform("masked", 0i64)
            .header(header)
            .portable(&body)
            .shared_memory(of(keys))
            .inputs(&["q", "k", "v_in", "mask"])
            .outputs(&["y", "lse"]);
        ((dim, keys), made)
    };
    Some(&KNOWN.get_or_add(|(key, _)| *key == (dim, keys), make).1)
}

/// Its blocks for so many rows of so many heads.
pub(crate) fn grid(rows: usize, heads: usize) -> Grid {
    Grid::new(rows.div_ceil(ROWS) * heads, 32 * WARPS as u32)
}
