#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_32_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 y_len;
    i64 y_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_attention_32(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device f32* y [[buffer(4)]],
    device f32* lse [[buffer(5)]],
    constant raw_attention_32_args& args [[buffer(6)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 y_t;
    typedef f32 lse_t;

    constexpr i32 wide_dim = 32, part = 32, line = 32 + 4, own = 32 / 32;
    alignas(16) shared_array(f32, qs, 4 * 8 * 32);
    alignas(16) shared_array(f32, tile, 32 * (32 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 tiles = (nq + 4 * 8 - 1) / (4 * 8), head = block_index / tiles;
    const i64 b = head / heads, h = head - b * heads, pair = b * kv + h / (heads / kv), off = n - nq;
    const i64 first = (block_index - head * tiles) * (4 * 8), mine = first + warp * 8;
    for (i32 i = thread_index; i < 4 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        qs[i] = first + r < nq && c < d ? wide(q[(head * nq + first + r) * d + c]) * args.scale : 0.0f;
    }
    f32 most[8], sum[8], acc[8][own], s[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        most[r] = -INFINITY;
        sum[r] = 0.0f;
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
        }
    }
    i64 start = 0, end = n;
    if (args.causal != 0) {
        const i64 past = first + 4 * 8 < nq ? first + 4 * 8 : nq;
        end = past + off;
    }
    if (args.window != 0 && first + 1 + off - args.window > 0) {
        start = (first + 1 + off - args.window) / 32 * 32;
    }
    for (i64 from = start; from < end; from += 32) {
        #pragma unroll
        for (i32 r = 0; r < 8; r++) {
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
                for (i32 r = 0; r < 8; r++) {
                    s[r] = dot(load4(qs + (warp * 8 + r) * wide_dim + p + c), kk, s[r]);
                }
            }
        }
        const i64 j = from + lane;
        #pragma unroll
        for (i32 r = 0; r < 8; r++) {
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
                for (i32 r = 0; r < 8; r++) {
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
    for (i32 r = 0; r < 8; r++) {
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
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_by_q_32_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    i64 less_len;
    i64 less_dims[3];
    i64 g_in_len;
    i64 g_in_dims[4];
    i64 dq_len;
    i64 dq_dims[4];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_attention_by_q_32(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device const f32* lse [[buffer(4)]],
    device const f32* less [[buffer(5)]],
    device const f32* g_in [[buffer(6)]],
    device f32* dq [[buffer(7)]],
    constant raw_attention_by_q_32_args& args [[buffer(8)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 lse_t;
    typedef f32 less_t;
    typedef f32 g_in_t;
    typedef f32 dq_t;

    constexpr i32 wide_dim = 32, part = 32, line = 32 + 4, own = 32 / 32;
    alignas(16) shared_array(f32, as, 2 * 8 * 32);
    alignas(16) shared_array(f32, bs, 2 * 8 * 32);
    alignas(16) shared_array(f32, tile, 32 * (32 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 group = heads / kv, per = 0 ? kv : heads, many = 0 ? n : nq, others = 0 ? nq : n;
    const i64 tiles = (many + 2 * 8 - 1) / (2 * 8), which = block_index / tiles;
    const i64 b = which / per, h0 = which - b * per;
    const i64 off = n - nq, first = (block_index - which * tiles) * (2 * 8), mine = first + warp * 8;
    const i64 past = first + 2 * 8 < many ? first + 2 * 8 : many;
    for (i32 i = thread_index; i < 2 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        const i64 at = (which * many + first + r) * d + c;
        const bool there = first + r < many && c < d;
        as[i] = there ? wide(q[at]) : 0.0f;
        bs[i] = there ? wide(g_in[at]) : 0.0f;
    }
    f32 acc[8][own], acc2[0 ? 8 : 1][own], s[8], ds[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
            acc2[0 ? r : 0][o] = 0.0f;
        }
    }
    i64 start = 0, end = others;
    if (0 == 0) {
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
    for (i64 g = 0; g < (0 ? group : 1); g++) {
        const i64 h = 0 ? h0 * group + g : h0;
        const i64 head = b * heads + h, other = (0 ? head : b * kv + h / group) * others;
        for (i64 from = start; from < end; from += 32) {
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
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
                        x = p < wide_dim ? wide(k[place]) : wide(v_in[place]);
                    }
                    tile[j * line + c] = x;
                }
                barrier();
                for (i32 c = 0; c < part; c += 4) {
                    const four<f32> x = load4(tile + lane * line + c);
                    #pragma unroll
                    for (i32 r = 0; r < 8; r++) {
                        const i32 place = (warp * 8 + r) * wide_dim + at + c;
                        if (p < wide_dim) {
                            s[r] = dot(load4(as + place), x, s[r]);
                        } else {
                            ds[r] = dot(load4(bs + place), x, ds[r]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
                const i64 i = 0 ? from + lane : mine + r, j = 0 ? mine + r : from + lane;
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
                for (i32 side = 0; side < (0 ? 2 : 1); side++) {
                    barrier();
                    for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                        const i32 j = i / part, c = i % part;
                        const bool there = from + j < others && p + c < d;
                        const i64 place = (other + from + j) * d + p + c;
                        f32 x = 0.0f;
                        if (there) {
                            x = side == 0 ? wide(k[place]) : wide(v_in[place]);
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
                        for (i32 r = 0; r < 8; r++) {
                            const f32 e = shuffle(side == 0 ? ds[r] : s[r], t);
                            #pragma unroll
                            for (i32 o = 0; o < part / 32; o++) {
                                if (side == 0) {
                                    acc[r][p / 32 + o] = fmaf(e, x[o], acc[r][p / 32 + o]);
                                } else {
                                    acc2[0 ? r : 0][p / 32 + o] = fmaf(e, x[o], acc2[0 ? r : 0][p / 32 + o]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            if (mine + r < many && o * 32 + lane < d) {
                const i64 at = (which * many + mine + r) * d + o * 32 + lane;
                dq[at] = narrow<dq_t>(acc[r][o]);
            }
        }
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_by_kv_32_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    i64 less_len;
    i64 less_dims[3];
    i64 g_in_len;
    i64 g_in_dims[4];
    i64 dk_len;
    i64 dk_dims[4];
    i64 dv_len;
    i64 dv_dims[4];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_attention_by_kv_32(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device const f32* lse [[buffer(4)]],
    device const f32* less [[buffer(5)]],
    device const f32* g_in [[buffer(6)]],
    device f32* dk [[buffer(7)]],
    device f32* dv [[buffer(8)]],
    constant raw_attention_by_kv_32_args& args [[buffer(9)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 lse_t;
    typedef f32 less_t;
    typedef f32 g_in_t;
    typedef f32 dk_t;
    typedef f32 dv_t;

    constexpr i32 wide_dim = 32, part = 32, line = 32 + 4, own = 32 / 32;
    alignas(16) shared_array(f32, as, 2 * 8 * 32);
    alignas(16) shared_array(f32, bs, 2 * 8 * 32);
    alignas(16) shared_array(f32, tile, 32 * (32 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 group = heads / kv, per = 1 ? kv : heads, many = 1 ? n : nq, others = 1 ? nq : n;
    const i64 tiles = (many + 2 * 8 - 1) / (2 * 8), which = block_index / tiles;
    const i64 b = which / per, h0 = which - b * per;
    const i64 off = n - nq, first = (block_index - which * tiles) * (2 * 8), mine = first + warp * 8;
    const i64 past = first + 2 * 8 < many ? first + 2 * 8 : many;
    for (i32 i = thread_index; i < 2 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        const i64 at = (which * many + first + r) * d + c;
        const bool there = first + r < many && c < d;
        as[i] = there ? wide(k[at]) : 0.0f;
        bs[i] = there ? wide(v_in[at]) : 0.0f;
    }
    f32 acc[8][own], acc2[1 ? 8 : 1][own], s[8], ds[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
            acc2[1 ? r : 0][o] = 0.0f;
        }
    }
    i64 start = 0, end = others;
    if (1 == 0) {
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
    for (i64 g = 0; g < (1 ? group : 1); g++) {
        const i64 h = 1 ? h0 * group + g : h0;
        const i64 head = b * heads + h, other = (1 ? head : b * kv + h / group) * others;
        for (i64 from = start; from < end; from += 32) {
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
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
                        x = p < wide_dim ? wide(q[place]) : wide(g_in[place]);
                    }
                    tile[j * line + c] = x;
                }
                barrier();
                for (i32 c = 0; c < part; c += 4) {
                    const four<f32> x = load4(tile + lane * line + c);
                    #pragma unroll
                    for (i32 r = 0; r < 8; r++) {
                        const i32 place = (warp * 8 + r) * wide_dim + at + c;
                        if (p < wide_dim) {
                            s[r] = dot(load4(as + place), x, s[r]);
                        } else {
                            ds[r] = dot(load4(bs + place), x, ds[r]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
                const i64 i = 1 ? from + lane : mine + r, j = 1 ? mine + r : from + lane;
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
                for (i32 side = 0; side < (1 ? 2 : 1); side++) {
                    barrier();
                    for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                        const i32 j = i / part, c = i % part;
                        const bool there = from + j < others && p + c < d;
                        const i64 place = (other + from + j) * d + p + c;
                        f32 x = 0.0f;
                        if (there) {
                            x = side == 0 ? wide(q[place]) : wide(g_in[place]);
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
                        for (i32 r = 0; r < 8; r++) {
                            const f32 e = shuffle(side == 0 ? ds[r] : s[r], t);
                            #pragma unroll
                            for (i32 o = 0; o < part / 32; o++) {
                                if (side == 0) {
                                    acc[r][p / 32 + o] = fmaf(e, x[o], acc[r][p / 32 + o]);
                                } else {
                                    acc2[1 ? r : 0][p / 32 + o] = fmaf(e, x[o], acc2[1 ? r : 0][p / 32 + o]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            if (mine + r < many && o * 32 + lane < d) {
                const i64 at = (which * many + mine + r) * d + o * 32 + lane;
                dk[at] = narrow<dk_t>(acc[r][o]);
                dv[at] = narrow<dv_t>(acc2[1 ? r : 0][o]);
            }
        }
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_64_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 y_len;
    i64 y_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_attention_64(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device f32* y [[buffer(4)]],
    device f32* lse [[buffer(5)]],
    constant raw_attention_64_args& args [[buffer(6)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 y_t;
    typedef f32 lse_t;

    constexpr i32 wide_dim = 64, part = 64, line = 64 + 4, own = 64 / 32;
    alignas(16) shared_array(f32, qs, 4 * 8 * 64);
    alignas(16) shared_array(f32, tile, 32 * (64 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 tiles = (nq + 4 * 8 - 1) / (4 * 8), head = block_index / tiles;
    const i64 b = head / heads, h = head - b * heads, pair = b * kv + h / (heads / kv), off = n - nq;
    const i64 first = (block_index - head * tiles) * (4 * 8), mine = first + warp * 8;
    for (i32 i = thread_index; i < 4 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        qs[i] = first + r < nq && c < d ? wide(q[(head * nq + first + r) * d + c]) * args.scale : 0.0f;
    }
    f32 most[8], sum[8], acc[8][own], s[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        most[r] = -INFINITY;
        sum[r] = 0.0f;
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
        }
    }
    i64 start = 0, end = n;
    if (args.causal != 0) {
        const i64 past = first + 4 * 8 < nq ? first + 4 * 8 : nq;
        end = past + off;
    }
    if (args.window != 0 && first + 1 + off - args.window > 0) {
        start = (first + 1 + off - args.window) / 32 * 32;
    }
    for (i64 from = start; from < end; from += 32) {
        #pragma unroll
        for (i32 r = 0; r < 8; r++) {
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
                for (i32 r = 0; r < 8; r++) {
                    s[r] = dot(load4(qs + (warp * 8 + r) * wide_dim + p + c), kk, s[r]);
                }
            }
        }
        const i64 j = from + lane;
        #pragma unroll
        for (i32 r = 0; r < 8; r++) {
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
                for (i32 r = 0; r < 8; r++) {
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
    for (i32 r = 0; r < 8; r++) {
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
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_by_q_64_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    i64 less_len;
    i64 less_dims[3];
    i64 g_in_len;
    i64 g_in_dims[4];
    i64 dq_len;
    i64 dq_dims[4];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_attention_by_q_64(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device const f32* lse [[buffer(4)]],
    device const f32* less [[buffer(5)]],
    device const f32* g_in [[buffer(6)]],
    device f32* dq [[buffer(7)]],
    constant raw_attention_by_q_64_args& args [[buffer(8)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 lse_t;
    typedef f32 less_t;
    typedef f32 g_in_t;
    typedef f32 dq_t;

    constexpr i32 wide_dim = 64, part = 64, line = 64 + 4, own = 64 / 32;
    alignas(16) shared_array(f32, as, 2 * 8 * 64);
    alignas(16) shared_array(f32, bs, 2 * 8 * 64);
    alignas(16) shared_array(f32, tile, 32 * (64 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 group = heads / kv, per = 0 ? kv : heads, many = 0 ? n : nq, others = 0 ? nq : n;
    const i64 tiles = (many + 2 * 8 - 1) / (2 * 8), which = block_index / tiles;
    const i64 b = which / per, h0 = which - b * per;
    const i64 off = n - nq, first = (block_index - which * tiles) * (2 * 8), mine = first + warp * 8;
    const i64 past = first + 2 * 8 < many ? first + 2 * 8 : many;
    for (i32 i = thread_index; i < 2 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        const i64 at = (which * many + first + r) * d + c;
        const bool there = first + r < many && c < d;
        as[i] = there ? wide(q[at]) : 0.0f;
        bs[i] = there ? wide(g_in[at]) : 0.0f;
    }
    f32 acc[8][own], acc2[0 ? 8 : 1][own], s[8], ds[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
            acc2[0 ? r : 0][o] = 0.0f;
        }
    }
    i64 start = 0, end = others;
    if (0 == 0) {
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
    for (i64 g = 0; g < (0 ? group : 1); g++) {
        const i64 h = 0 ? h0 * group + g : h0;
        const i64 head = b * heads + h, other = (0 ? head : b * kv + h / group) * others;
        for (i64 from = start; from < end; from += 32) {
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
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
                        x = p < wide_dim ? wide(k[place]) : wide(v_in[place]);
                    }
                    tile[j * line + c] = x;
                }
                barrier();
                for (i32 c = 0; c < part; c += 4) {
                    const four<f32> x = load4(tile + lane * line + c);
                    #pragma unroll
                    for (i32 r = 0; r < 8; r++) {
                        const i32 place = (warp * 8 + r) * wide_dim + at + c;
                        if (p < wide_dim) {
                            s[r] = dot(load4(as + place), x, s[r]);
                        } else {
                            ds[r] = dot(load4(bs + place), x, ds[r]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
                const i64 i = 0 ? from + lane : mine + r, j = 0 ? mine + r : from + lane;
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
                for (i32 side = 0; side < (0 ? 2 : 1); side++) {
                    barrier();
                    for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                        const i32 j = i / part, c = i % part;
                        const bool there = from + j < others && p + c < d;
                        const i64 place = (other + from + j) * d + p + c;
                        f32 x = 0.0f;
                        if (there) {
                            x = side == 0 ? wide(k[place]) : wide(v_in[place]);
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
                        for (i32 r = 0; r < 8; r++) {
                            const f32 e = shuffle(side == 0 ? ds[r] : s[r], t);
                            #pragma unroll
                            for (i32 o = 0; o < part / 32; o++) {
                                if (side == 0) {
                                    acc[r][p / 32 + o] = fmaf(e, x[o], acc[r][p / 32 + o]);
                                } else {
                                    acc2[0 ? r : 0][p / 32 + o] = fmaf(e, x[o], acc2[0 ? r : 0][p / 32 + o]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            if (mine + r < many && o * 32 + lane < d) {
                const i64 at = (which * many + mine + r) * d + o * 32 + lane;
                dq[at] = narrow<dq_t>(acc[r][o]);
            }
        }
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_by_kv_64_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    i64 less_len;
    i64 less_dims[3];
    i64 g_in_len;
    i64 g_in_dims[4];
    i64 dk_len;
    i64 dk_dims[4];
    i64 dv_len;
    i64 dv_dims[4];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_attention_by_kv_64(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device const f32* lse [[buffer(4)]],
    device const f32* less [[buffer(5)]],
    device const f32* g_in [[buffer(6)]],
    device f32* dk [[buffer(7)]],
    device f32* dv [[buffer(8)]],
    constant raw_attention_by_kv_64_args& args [[buffer(9)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 lse_t;
    typedef f32 less_t;
    typedef f32 g_in_t;
    typedef f32 dk_t;
    typedef f32 dv_t;

    constexpr i32 wide_dim = 64, part = 64, line = 64 + 4, own = 64 / 32;
    alignas(16) shared_array(f32, as, 2 * 8 * 64);
    alignas(16) shared_array(f32, bs, 2 * 8 * 64);
    alignas(16) shared_array(f32, tile, 32 * (64 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 group = heads / kv, per = 1 ? kv : heads, many = 1 ? n : nq, others = 1 ? nq : n;
    const i64 tiles = (many + 2 * 8 - 1) / (2 * 8), which = block_index / tiles;
    const i64 b = which / per, h0 = which - b * per;
    const i64 off = n - nq, first = (block_index - which * tiles) * (2 * 8), mine = first + warp * 8;
    const i64 past = first + 2 * 8 < many ? first + 2 * 8 : many;
    for (i32 i = thread_index; i < 2 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        const i64 at = (which * many + first + r) * d + c;
        const bool there = first + r < many && c < d;
        as[i] = there ? wide(k[at]) : 0.0f;
        bs[i] = there ? wide(v_in[at]) : 0.0f;
    }
    f32 acc[8][own], acc2[1 ? 8 : 1][own], s[8], ds[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
            acc2[1 ? r : 0][o] = 0.0f;
        }
    }
    i64 start = 0, end = others;
    if (1 == 0) {
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
    for (i64 g = 0; g < (1 ? group : 1); g++) {
        const i64 h = 1 ? h0 * group + g : h0;
        const i64 head = b * heads + h, other = (1 ? head : b * kv + h / group) * others;
        for (i64 from = start; from < end; from += 32) {
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
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
                        x = p < wide_dim ? wide(q[place]) : wide(g_in[place]);
                    }
                    tile[j * line + c] = x;
                }
                barrier();
                for (i32 c = 0; c < part; c += 4) {
                    const four<f32> x = load4(tile + lane * line + c);
                    #pragma unroll
                    for (i32 r = 0; r < 8; r++) {
                        const i32 place = (warp * 8 + r) * wide_dim + at + c;
                        if (p < wide_dim) {
                            s[r] = dot(load4(as + place), x, s[r]);
                        } else {
                            ds[r] = dot(load4(bs + place), x, ds[r]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
                const i64 i = 1 ? from + lane : mine + r, j = 1 ? mine + r : from + lane;
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
                for (i32 side = 0; side < (1 ? 2 : 1); side++) {
                    barrier();
                    for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                        const i32 j = i / part, c = i % part;
                        const bool there = from + j < others && p + c < d;
                        const i64 place = (other + from + j) * d + p + c;
                        f32 x = 0.0f;
                        if (there) {
                            x = side == 0 ? wide(q[place]) : wide(g_in[place]);
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
                        for (i32 r = 0; r < 8; r++) {
                            const f32 e = shuffle(side == 0 ? ds[r] : s[r], t);
                            #pragma unroll
                            for (i32 o = 0; o < part / 32; o++) {
                                if (side == 0) {
                                    acc[r][p / 32 + o] = fmaf(e, x[o], acc[r][p / 32 + o]);
                                } else {
                                    acc2[1 ? r : 0][p / 32 + o] = fmaf(e, x[o], acc2[1 ? r : 0][p / 32 + o]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            if (mine + r < many && o * 32 + lane < d) {
                const i64 at = (which * many + mine + r) * d + o * 32 + lane;
                dk[at] = narrow<dk_t>(acc[r][o]);
                dv[at] = narrow<dv_t>(acc2[1 ? r : 0][o]);
            }
        }
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_160_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 y_len;
    i64 y_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_attention_160(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device f32* y [[buffer(4)]],
    device f32* lse [[buffer(5)]],
    constant raw_attention_160_args& args [[buffer(6)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 y_t;
    typedef f32 lse_t;

    constexpr i32 wide_dim = 160, part = 32, line = 32 + 4, own = 160 / 32;
    alignas(16) shared_array(f32, qs, 2 * 8 * 160);
    alignas(16) shared_array(f32, tile, 32 * (32 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 tiles = (nq + 2 * 8 - 1) / (2 * 8), head = block_index / tiles;
    const i64 b = head / heads, h = head - b * heads, pair = b * kv + h / (heads / kv), off = n - nq;
    const i64 first = (block_index - head * tiles) * (2 * 8), mine = first + warp * 8;
    for (i32 i = thread_index; i < 2 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        qs[i] = first + r < nq && c < d ? wide(q[(head * nq + first + r) * d + c]) * args.scale : 0.0f;
    }
    f32 most[8], sum[8], acc[8][own], s[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        most[r] = -INFINITY;
        sum[r] = 0.0f;
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
        }
    }
    i64 start = 0, end = n;
    if (args.causal != 0) {
        const i64 past = first + 2 * 8 < nq ? first + 2 * 8 : nq;
        end = past + off;
    }
    if (args.window != 0 && first + 1 + off - args.window > 0) {
        start = (first + 1 + off - args.window) / 32 * 32;
    }
    for (i64 from = start; from < end; from += 32) {
        #pragma unroll
        for (i32 r = 0; r < 8; r++) {
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
                for (i32 r = 0; r < 8; r++) {
                    s[r] = dot(load4(qs + (warp * 8 + r) * wide_dim + p + c), kk, s[r]);
                }
            }
        }
        const i64 j = from + lane;
        #pragma unroll
        for (i32 r = 0; r < 8; r++) {
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
                for (i32 r = 0; r < 8; r++) {
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
    for (i32 r = 0; r < 8; r++) {
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
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_by_q_160_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    i64 less_len;
    i64 less_dims[3];
    i64 g_in_len;
    i64 g_in_dims[4];
    i64 dq_len;
    i64 dq_dims[4];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(32)]]
kernel void raw_attention_by_q_160(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device const f32* lse [[buffer(4)]],
    device const f32* less [[buffer(5)]],
    device const f32* g_in [[buffer(6)]],
    device f32* dq [[buffer(7)]],
    constant raw_attention_by_q_160_args& args [[buffer(8)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 lse_t;
    typedef f32 less_t;
    typedef f32 g_in_t;
    typedef f32 dq_t;

    constexpr i32 wide_dim = 160, part = 32, line = 32 + 4, own = 160 / 32;
    alignas(16) shared_array(f32, as, 1 * 8 * 160);
    alignas(16) shared_array(f32, bs, 1 * 8 * 160);
    alignas(16) shared_array(f32, tile, 32 * (32 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 group = heads / kv, per = 0 ? kv : heads, many = 0 ? n : nq, others = 0 ? nq : n;
    const i64 tiles = (many + 1 * 8 - 1) / (1 * 8), which = block_index / tiles;
    const i64 b = which / per, h0 = which - b * per;
    const i64 off = n - nq, first = (block_index - which * tiles) * (1 * 8), mine = first + warp * 8;
    const i64 past = first + 1 * 8 < many ? first + 1 * 8 : many;
    for (i32 i = thread_index; i < 1 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        const i64 at = (which * many + first + r) * d + c;
        const bool there = first + r < many && c < d;
        as[i] = there ? wide(q[at]) : 0.0f;
        bs[i] = there ? wide(g_in[at]) : 0.0f;
    }
    f32 acc[8][own], acc2[0 ? 8 : 1][own], s[8], ds[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
            acc2[0 ? r : 0][o] = 0.0f;
        }
    }
    i64 start = 0, end = others;
    if (0 == 0) {
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
    for (i64 g = 0; g < (0 ? group : 1); g++) {
        const i64 h = 0 ? h0 * group + g : h0;
        const i64 head = b * heads + h, other = (0 ? head : b * kv + h / group) * others;
        for (i64 from = start; from < end; from += 32) {
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
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
                        x = p < wide_dim ? wide(k[place]) : wide(v_in[place]);
                    }
                    tile[j * line + c] = x;
                }
                barrier();
                for (i32 c = 0; c < part; c += 4) {
                    const four<f32> x = load4(tile + lane * line + c);
                    #pragma unroll
                    for (i32 r = 0; r < 8; r++) {
                        const i32 place = (warp * 8 + r) * wide_dim + at + c;
                        if (p < wide_dim) {
                            s[r] = dot(load4(as + place), x, s[r]);
                        } else {
                            ds[r] = dot(load4(bs + place), x, ds[r]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
                const i64 i = 0 ? from + lane : mine + r, j = 0 ? mine + r : from + lane;
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
                for (i32 side = 0; side < (0 ? 2 : 1); side++) {
                    barrier();
                    for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                        const i32 j = i / part, c = i % part;
                        const bool there = from + j < others && p + c < d;
                        const i64 place = (other + from + j) * d + p + c;
                        f32 x = 0.0f;
                        if (there) {
                            x = side == 0 ? wide(k[place]) : wide(v_in[place]);
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
                        for (i32 r = 0; r < 8; r++) {
                            const f32 e = shuffle(side == 0 ? ds[r] : s[r], t);
                            #pragma unroll
                            for (i32 o = 0; o < part / 32; o++) {
                                if (side == 0) {
                                    acc[r][p / 32 + o] = fmaf(e, x[o], acc[r][p / 32 + o]);
                                } else {
                                    acc2[0 ? r : 0][p / 32 + o] = fmaf(e, x[o], acc2[0 ? r : 0][p / 32 + o]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            if (mine + r < many && o * 32 + lane < d) {
                const i64 at = (which * many + mine + r) * d + o * 32 + lane;
                dq[at] = narrow<dq_t>(acc[r][o]);
            }
        }
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_by_kv_160_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    i64 less_len;
    i64 less_dims[3];
    i64 g_in_len;
    i64 g_in_dims[4];
    i64 dk_len;
    i64 dk_dims[4];
    i64 dv_len;
    i64 dv_dims[4];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(32)]]
kernel void raw_attention_by_kv_160(device const f32* q [[buffer(0)]],
    device const f32* k [[buffer(1)]],
    device const f32* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device const f32* lse [[buffer(4)]],
    device const f32* less [[buffer(5)]],
    device const f32* g_in [[buffer(6)]],
    device f32* dk [[buffer(7)]],
    device f32* dv [[buffer(8)]],
    constant raw_attention_by_kv_160_args& args [[buffer(9)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 k_t;
    typedef f32 v_in_t;
    typedef f32 mask_t;
    typedef f32 lse_t;
    typedef f32 less_t;
    typedef f32 g_in_t;
    typedef f32 dk_t;
    typedef f32 dv_t;

    constexpr i32 wide_dim = 160, part = 32, line = 32 + 4, own = 160 / 32;
    alignas(16) shared_array(f32, as, 1 * 8 * 160);
    alignas(16) shared_array(f32, bs, 1 * 8 * 160);
    alignas(16) shared_array(f32, tile, 32 * (32 + 4));
    const i64 d = args.q_dims[3], nq = args.q_dims[2], heads = args.q_dims[1], kv = args.k_dims[1], n = args.k_dims[2];
    const i64 group = heads / kv, per = 1 ? kv : heads, many = 1 ? n : nq, others = 1 ? nq : n;
    const i64 tiles = (many + 1 * 8 - 1) / (1 * 8), which = block_index / tiles;
    const i64 b = which / per, h0 = which - b * per;
    const i64 off = n - nq, first = (block_index - which * tiles) * (1 * 8), mine = first + warp * 8;
    const i64 past = first + 1 * 8 < many ? first + 1 * 8 : many;
    for (i32 i = thread_index; i < 1 * 8 * wide_dim; i += block_threads) {
        const i32 r = i / wide_dim, c = i % wide_dim;
        const i64 at = (which * many + first + r) * d + c;
        const bool there = first + r < many && c < d;
        as[i] = there ? wide(k[at]) : 0.0f;
        bs[i] = there ? wide(v_in[at]) : 0.0f;
    }
    f32 acc[8][own], acc2[1 ? 8 : 1][own], s[8], ds[8];
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            acc[r][o] = 0.0f;
            acc2[1 ? r : 0][o] = 0.0f;
        }
    }
    i64 start = 0, end = others;
    if (1 == 0) {
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
    for (i64 g = 0; g < (1 ? group : 1); g++) {
        const i64 h = 1 ? h0 * group + g : h0;
        const i64 head = b * heads + h, other = (1 ? head : b * kv + h / group) * others;
        for (i64 from = start; from < end; from += 32) {
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
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
                        x = p < wide_dim ? wide(q[place]) : wide(g_in[place]);
                    }
                    tile[j * line + c] = x;
                }
                barrier();
                for (i32 c = 0; c < part; c += 4) {
                    const four<f32> x = load4(tile + lane * line + c);
                    #pragma unroll
                    for (i32 r = 0; r < 8; r++) {
                        const i32 place = (warp * 8 + r) * wide_dim + at + c;
                        if (p < wide_dim) {
                            s[r] = dot(load4(as + place), x, s[r]);
                        } else {
                            ds[r] = dot(load4(bs + place), x, ds[r]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 8; r++) {
                const i64 i = 1 ? from + lane : mine + r, j = 1 ? mine + r : from + lane;
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
                for (i32 side = 0; side < (1 ? 2 : 1); side++) {
                    barrier();
                    for (i32 i = thread_index; i < 32 * part; i += block_threads) {
                        const i32 j = i / part, c = i % part;
                        const bool there = from + j < others && p + c < d;
                        const i64 place = (other + from + j) * d + p + c;
                        f32 x = 0.0f;
                        if (there) {
                            x = side == 0 ? wide(q[place]) : wide(g_in[place]);
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
                        for (i32 r = 0; r < 8; r++) {
                            const f32 e = shuffle(side == 0 ? ds[r] : s[r], t);
                            #pragma unroll
                            for (i32 o = 0; o < part / 32; o++) {
                                if (side == 0) {
                                    acc[r][p / 32 + o] = fmaf(e, x[o], acc[r][p / 32 + o]);
                                } else {
                                    acc2[1 ? r : 0][p / 32 + o] = fmaf(e, x[o], acc2[1 ? r : 0][p / 32 + o]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 r = 0; r < 8; r++) {
        #pragma unroll
        for (i32 o = 0; o < own; o++) {
            if (mine + r < many && o * 32 + lane < d) {
                const i64 at = (which * many + mine + r) * d + o * 32 + lane;
                dk[at] = narrow<dk_t>(acc[r][o]);
                dv[at] = narrow<dv_t>(acc2[1 ? r : 0][o]);
            }
        }
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)
template <class T> struct fragment_a { simdgroup_matrix<float, 8, 8> at[4]; };
template <class T> struct fragment_b { simdgroup_matrix<float, 8, 8> at[4]; };
struct fragment_c { simdgroup_matrix<float, 8, 8> at[4]; };
function i32 fragment_row(i32 i, i32 lane) { return (lane / 4 & 4) + lane / 2 % 4 + i / 4 * 8; }
function i32 fragment_col(i32 i, i32 lane) { return (lane / 4 & 2) * 2 + lane % 2 * 2 + i % 2 + i / 2 % 2 * 8; }
template <bool turned, class T> function fragment_a<T> load_a(threadgroup const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_a<T> a;
    for (i32 i = 0; i < 8; i++) {
        const i32 row = fragment_row(i, lane), col = fragment_col(i, lane);
        a.at[i / 2].thread_elements()[i % 2] = wide(turned ? tile[at + col * pitch + row] : tile[at + row * pitch + col]);
    }
    return a;
}
template <bool turned, class T> function fragment_b<T> load_b(threadgroup const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_b<T> b;
    for (i32 i = 0; i < 8; i++) {
        const i32 row = fragment_row(i, lane), col = fragment_col(i, lane);
        b.at[i / 2].thread_elements()[i % 2] = wide(turned ? tile[at + row * pitch + col] : tile[at + col * pitch + row]);
    }
    return b;
}
template <class T> function void multiply_add(thread fragment_c& c, thread fragment_a<T>& a, thread fragment_b<T>& b) {
    for (i32 row = 0; row < 2; row++) {
        for (i32 col = 0; col < 2; col++) {
            for (i32 k = 0; k < 2; k++) {
                simdgroup_multiply_accumulate(c.at[row * 2 + col], a.at[row * 2 + k], b.at[k * 2 + col], c.at[row * 2 + col]);
            }
        }
    }
}
function void clear(thread fragment_c& c) {
    for (i32 i = 0; i < 4; i++) {
        c.at[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
}
function f32 element(thread fragment_c& c, i32 i) { return c.at[i / 2].thread_elements()[i % 2]; }
function void set_element(thread fragment_c& c, i32 i, f32 x) { c.at[i / 2].thread_elements()[i % 2] = x; }
constant constexpr i32 FRAGMENT_HALF = 4;
template <class F> function f32 across_row(f32 x) {
    x = F::join(x, shuffle_xor(x, 1));
    return F::join(x, shuffle_xor(x, 8));
}
template <class T> function fragment_a<T> as_a(thread fragment_c& c) {
    fragment_a<T> a;
    for (i32 i = 0; i < 4; i++) {
        a.at[i] = c.at[i];
    }
    return a;
}
template <class T> function void copy_async(threadgroup T* to, device const T* from, bool there) {
    for (i32 i = 0; i < 8; i++) {
        to[i] = there ? from[i] : (T)0;
    }
}
function f32 sigmoid(f32 x) { return 1.0f / (1.0f + metal::exp(-x)); }
template <class T> function void store4(threadgroup T* to, four<T> x) {
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
}
function void copy_commit() {}
template <i32 n> function void copy_wait() {}
template <class T> function u32 pair_of(f32 low, f32 high) {
    return (u32)narrow<T>(low) | (u32)narrow<T>(high) << 16;
}

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_tiles_32_64_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 y_len;
    i64 y_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_attention_tiles_32_64(device const bf16* q [[buffer(0)]],
    device const bf16* k [[buffer(1)]],
    device const bf16* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device bf16* y [[buffer(4)]],
    device f32* lse [[buffer(5)]],
    constant raw_attention_tiles_32_64_args& args [[buffer(6)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 q_t;
    typedef bf16 k_t;
    typedef bf16 v_in_t;
    typedef f32 mask_t;
    typedef bf16 y_t;
    typedef f32 lse_t;
    alignas(16) threadgroup u8 memory[20480];

    constexpr i32 DIM = 32, KEYS = 64, STAGES = 2, PITCH = DIM + 8, TILE = KEYS * PITCH;
    constexpr i32 D = DIM / 16, J = KEYS / 16, THREADS = 128;
    constexpr f32 BASE = 1.44269504088896341f;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
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
            threadgroup y_t* to = tiles + (STAGES == 1 ? 0 : from < start ? 0 : 1 - stage) * 2 * TILE;
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
        threadgroup const y_t* of_k = tiles + stage * 2 * TILE;
        threadgroup const y_t* of_v = of_k + TILE;
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
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)
template <class T> struct fragment_a { simdgroup_matrix<float, 8, 8> at[4]; };
template <class T> struct fragment_b { simdgroup_matrix<float, 8, 8> at[4]; };
struct fragment_c { simdgroup_matrix<float, 8, 8> at[4]; };
function i32 fragment_row(i32 i, i32 lane) { return (lane / 4 & 4) + lane / 2 % 4 + i / 4 * 8; }
function i32 fragment_col(i32 i, i32 lane) { return (lane / 4 & 2) * 2 + lane % 2 * 2 + i % 2 + i / 2 % 2 * 8; }
template <bool turned, class T> function fragment_a<T> load_a(threadgroup const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_a<T> a;
    for (i32 i = 0; i < 8; i++) {
        const i32 row = fragment_row(i, lane), col = fragment_col(i, lane);
        a.at[i / 2].thread_elements()[i % 2] = wide(turned ? tile[at + col * pitch + row] : tile[at + row * pitch + col]);
    }
    return a;
}
template <bool turned, class T> function fragment_b<T> load_b(threadgroup const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_b<T> b;
    for (i32 i = 0; i < 8; i++) {
        const i32 row = fragment_row(i, lane), col = fragment_col(i, lane);
        b.at[i / 2].thread_elements()[i % 2] = wide(turned ? tile[at + row * pitch + col] : tile[at + col * pitch + row]);
    }
    return b;
}
template <class T> function void multiply_add(thread fragment_c& c, thread fragment_a<T>& a, thread fragment_b<T>& b) {
    for (i32 row = 0; row < 2; row++) {
        for (i32 col = 0; col < 2; col++) {
            for (i32 k = 0; k < 2; k++) {
                simdgroup_multiply_accumulate(c.at[row * 2 + col], a.at[row * 2 + k], b.at[k * 2 + col], c.at[row * 2 + col]);
            }
        }
    }
}
function void clear(thread fragment_c& c) {
    for (i32 i = 0; i < 4; i++) {
        c.at[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
}
function f32 element(thread fragment_c& c, i32 i) { return c.at[i / 2].thread_elements()[i % 2]; }
function void set_element(thread fragment_c& c, i32 i, f32 x) { c.at[i / 2].thread_elements()[i % 2] = x; }
constant constexpr i32 FRAGMENT_HALF = 4;
template <class F> function f32 across_row(f32 x) {
    x = F::join(x, shuffle_xor(x, 1));
    return F::join(x, shuffle_xor(x, 8));
}
template <class T> function fragment_a<T> as_a(thread fragment_c& c) {
    fragment_a<T> a;
    for (i32 i = 0; i < 4; i++) {
        a.at[i] = c.at[i];
    }
    return a;
}
template <class T> function void copy_async(threadgroup T* to, device const T* from, bool there) {
    for (i32 i = 0; i < 8; i++) {
        to[i] = there ? from[i] : (T)0;
    }
}
function f32 sigmoid(f32 x) { return 1.0f / (1.0f + metal::exp(-x)); }
template <class T> function void store4(threadgroup T* to, four<T> x) {
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
}
function void copy_commit() {}
template <i32 n> function void copy_wait() {}
template <class T> function u32 pair_of(f32 low, f32 high) {
    return (u32)narrow<T>(low) | (u32)narrow<T>(high) << 16;
}

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_tiles_16_64_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 y_len;
    i64 y_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_attention_tiles_16_64(device const bf16* q [[buffer(0)]],
    device const bf16* k [[buffer(1)]],
    device const bf16* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device bf16* y [[buffer(4)]],
    device f32* lse [[buffer(5)]],
    constant raw_attention_tiles_16_64_args& args [[buffer(6)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 q_t;
    typedef bf16 k_t;
    typedef bf16 v_in_t;
    typedef f32 mask_t;
    typedef bf16 y_t;
    typedef f32 lse_t;
    alignas(16) threadgroup u8 memory[12288];

    constexpr i32 DIM = 16, KEYS = 64, STAGES = 2, PITCH = DIM + 8, TILE = KEYS * PITCH;
    constexpr i32 D = DIM / 16, J = KEYS / 16, THREADS = 128;
    constexpr f32 BASE = 1.44269504088896341f;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
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
            threadgroup y_t* to = tiles + (STAGES == 1 ? 0 : from < start ? 0 : 1 - stage) * 2 * TILE;
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
        threadgroup const y_t* of_k = tiles + stage * 2 * TILE;
        threadgroup const y_t* of_v = of_k + TILE;
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
    }
}

// --- next unit ---
#include <metal_stdlib>
using namespace metal;

static inline float f16_to_f32(ushort x) {
    return (float)as_type<half>(x);
}

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_f16(float x) {
    return as_type<ushort>((half)x);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }

template <class T> function T wide(T x) { return x; }
function f32 wide(f16 x) { return f16_to_f32((u16)x); }
function f32 wide(bf16 x) { return bf16_to_f32((u16)x); }
template <class T> function T narrow(f32 x) { return (T)x; }
template <> function f16 narrow<f16>(f32 x) { return (f16)f32_to_f16(x); }
template <> function bf16 narrow<bf16>(f32 x) { return (bf16)f32_to_bf16(x); }

struct sum_of {
    template <class T> static function T join(T a, T b) { return a + b; }
    template <class T> static function T only(T x, bool there) { return there ? x : (T)0; }
};
struct max_of {
    template <class T> static function T join(T a, T b) { return a >= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
struct min_of {
    template <class T> static function T join(T a, T b) { return a <= b || a != a ? a : b; }
    template <class T> static function T only(T x, bool there) { return x; }
};
template <class F, class T> function T across_warp(T x) {
    for (i32 n = 16; n > 0; n /= 2) {
        x = F::join(x, shuffle_xor(x, n));
    }
    return x;
}
template <class F, class T> function T across_block(T x, threadgroup T* part, i32 lane, i32 warp, i32 warps) {
    x = across_warp<F>(x);
    if (lane == 0) {
        part[warp] = x;
    }
    barrier();
    x = across_warp<F>(F::only(part[lane < warps ? lane : 0], lane < warps));
    barrier();
    return x;
}
#define warp_sum(x) across_warp<sum_of>(x)
#define warp_max(x) across_warp<max_of>(x)
#define warp_min(x) across_warp<min_of>(x)
#define block_sum(x, part) across_block<sum_of>(x, part, lane, warp, warps)
#define block_max(x, part) across_block<max_of>(x, part, lane, warp, warps)
#define block_min(x, part) across_block<min_of>(x, part, lane, warp, warps)
template <class T> struct fragment_a { simdgroup_matrix<float, 8, 8> at[4]; };
template <class T> struct fragment_b { simdgroup_matrix<float, 8, 8> at[4]; };
struct fragment_c { simdgroup_matrix<float, 8, 8> at[4]; };
function i32 fragment_row(i32 i, i32 lane) { return (lane / 4 & 4) + lane / 2 % 4 + i / 4 * 8; }
function i32 fragment_col(i32 i, i32 lane) { return (lane / 4 & 2) * 2 + lane % 2 * 2 + i % 2 + i / 2 % 2 * 8; }
template <bool turned, class T> function fragment_a<T> load_a(threadgroup const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_a<T> a;
    for (i32 i = 0; i < 8; i++) {
        const i32 row = fragment_row(i, lane), col = fragment_col(i, lane);
        a.at[i / 2].thread_elements()[i % 2] = wide(turned ? tile[at + col * pitch + row] : tile[at + row * pitch + col]);
    }
    return a;
}
template <bool turned, class T> function fragment_b<T> load_b(threadgroup const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_b<T> b;
    for (i32 i = 0; i < 8; i++) {
        const i32 row = fragment_row(i, lane), col = fragment_col(i, lane);
        b.at[i / 2].thread_elements()[i % 2] = wide(turned ? tile[at + row * pitch + col] : tile[at + col * pitch + row]);
    }
    return b;
}
template <class T> function void multiply_add(thread fragment_c& c, thread fragment_a<T>& a, thread fragment_b<T>& b) {
    for (i32 row = 0; row < 2; row++) {
        for (i32 col = 0; col < 2; col++) {
            for (i32 k = 0; k < 2; k++) {
                simdgroup_multiply_accumulate(c.at[row * 2 + col], a.at[row * 2 + k], b.at[k * 2 + col], c.at[row * 2 + col]);
            }
        }
    }
}
function void clear(thread fragment_c& c) {
    for (i32 i = 0; i < 4; i++) {
        c.at[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
}
function f32 element(thread fragment_c& c, i32 i) { return c.at[i / 2].thread_elements()[i % 2]; }
function void set_element(thread fragment_c& c, i32 i, f32 x) { c.at[i / 2].thread_elements()[i % 2] = x; }
constant constexpr i32 FRAGMENT_HALF = 4;
template <class F> function f32 across_row(f32 x) {
    x = F::join(x, shuffle_xor(x, 1));
    return F::join(x, shuffle_xor(x, 8));
}
template <class T> function fragment_a<T> as_a(thread fragment_c& c) {
    fragment_a<T> a;
    for (i32 i = 0; i < 4; i++) {
        a.at[i] = c.at[i];
    }
    return a;
}
template <class T> function void copy_async(threadgroup T* to, device const T* from, bool there) {
    for (i32 i = 0; i < 8; i++) {
        to[i] = there ? from[i] : (T)0;
    }
}
function f32 sigmoid(f32 x) { return 1.0f / (1.0f + metal::exp(-x)); }
template <class T> function void store4(threadgroup T* to, four<T> x) {
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
}
function void copy_commit() {}
template <i32 n> function void copy_wait() {}
template <class T> function u32 pair_of(f32 low, f32 high) {
    return (u32)narrow<T>(low) | (u32)narrow<T>(high) << 16;
}

function f32 dot(four<f32> a, four<f32> b, f32 c) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c)))); }
function bool sees(i64 i, i64 j, i64 nq, i64 n, i64 causal, i64 window) {
    const i64 place = i + n - nq;
    return i < nq && j < n && (causal == 0 || j <= place) && (window == 0 || j > place - window);
}
function i64 in_mask(i64 b, i64 h, i64 i, i64 j, i64 of_b, i64 of_h, i64 of_i, i64 of_j) {
    const i64 mb = of_b == 1 ? 0 : b, mh = of_h == 1 ? 0 : h, mi = of_i == 1 ? 0 : i, mj = of_j == 1 ? 0 : j;
    return ((mb * of_h + mh) * of_i + mi) * of_j + mj;
}
struct raw_attention_tiles_48_64_args {
    i64 q_len;
    i64 q_dims[4];
    i64 k_len;
    i64 k_dims[4];
    i64 v_in_len;
    i64 v_in_dims[4];
    i64 mask_len;
    i64 mask_dims[4];
    i64 y_len;
    i64 y_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    f32 scale;
    i64 causal;
    i64 window;
    i64 masked;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_attention_tiles_48_64(device const bf16* q [[buffer(0)]],
    device const bf16* k [[buffer(1)]],
    device const bf16* v_in [[buffer(2)]],
    device const f32* mask [[buffer(3)]],
    device bf16* y [[buffer(4)]],
    device f32* lse [[buffer(5)]],
    constant raw_attention_tiles_48_64_args& args [[buffer(6)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 q_t;
    typedef bf16 k_t;
    typedef bf16 v_in_t;
    typedef f32 mask_t;
    typedef bf16 y_t;
    typedef f32 lse_t;
    alignas(16) threadgroup u8 memory[28672];

    constexpr i32 DIM = 48, KEYS = 64, STAGES = 2, PITCH = DIM + 8, TILE = KEYS * PITCH;
    constexpr i32 D = DIM / 16, J = KEYS / 16, THREADS = 128;
    constexpr f32 BASE = 1.44269504088896341f;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
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
            threadgroup y_t* to = tiles + (STAGES == 1 ? 0 : from < start ? 0 : 1 - stage) * 2 * TILE;
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
        threadgroup const y_t* of_k = tiles + stage * 2 * TILE;
        threadgroup const y_t* of_v = of_k + TILE;
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
    }
}
