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


struct raw_paged_attention_32_args {
    i64 q_len;
    i64 q_dims[3];
    i64 keys_len;
    i64 keys_dims[4];
    i64 values_len;
    i64 values_dims[4];
    i64 table_len;
    i64 table_dims[2];
    i64 lengths_len;
    i64 lengths_dims[1];
    i64 part_len;
    i64 part_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    f32 scale;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_paged_attention_32(device const f32* q [[buffer(0)]],
    device const f32* keys [[buffer(1)]],
    device const f32* values [[buffer(2)]],
    device const u32* table [[buffer(3)]],
    device const u32* lengths [[buffer(4)]],
    device f32* part [[buffer(5)]],
    device f32* lse [[buffer(6)]],
    constant raw_paged_attention_32_args& args [[buffer(7)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 keys_t;
    typedef f32 values_t;
    typedef u32 table_t;
    typedef u32 lengths_t;
    typedef f32 part_t;
    typedef f32 lse_t;

    constexpr i32 own = 32 / 32;
    shared_array(f32, accs, 4 * 32);
    shared_array(f32, mosts, 4);
    shared_array(f32, sums, 4);
    const i64 d = args.q_dims[2], heads = args.q_dims[1], kv = args.keys_dims[2], size = args.keys_dims[1];
    const i64 b = block_index / heads, h = block_index - b * heads, pair = h / (heads / kv);
    const i64 parts = args.part_dims[2], room = args.table_dims[1] * size;
    i64 n = (i64)lengths[b];
    n = n < room ? n : room;
    const i64 step = (n + parts - 1) / parts, start = block_index_y * step;
    const i64 end = start + step < n ? start + step : n;
    f32 qs[own], acc[own], most = -INFINITY, sum = 0.0f;
    for (i32 o = 0; o < own; o++) {
        const i32 c = o * 32 + lane;
        qs[o] = c < d ? wide(q[(i64)block_index * d + c]) * args.scale : 0.0f;
        acc[o] = 0.0f;
    }
    for (i64 j = start + warp * 2; j < end; j += 2 * warps) {
        i64 at[2];
        f32 s[2];
        for (i32 t = 0; t < 2; t++) {
            const i64 key = j + t < end ? j + t : j;
            const i64 page = table[b * args.table_dims[1] + key / size];
            // a page that is not there: nothing is read outside, and the result is NaN
            const bool there = page < args.keys_dims[0];
            at[t] = (((there ? page : 0) * size + key % size) * kv + pair) * d;
            s[t] = there ? 0.0f : INFINITY - INFINITY;
            for (i32 o = 0; o < own; o++) {
                const i32 c = o * 32 + lane;
                s[t] = fmaf(qs[o], c < d ? wide(keys[at[t] + c]) : 0.0f, s[t]);
            }
        }
        s[0] = warp_sum(s[0]);
        s[1] = j + 1 < end ? warp_sum(s[1]) : -INFINITY;
        const f32 top = fmaxf(most, fmaxf(s[0], s[1])), shrink = expf(most - top);
        const f32 e0 = expf(s[0] - top), e1 = expf(s[1] - top);
        sum = fmaf(sum, shrink, e0 + e1);
        most = top;
        for (i32 o = 0; o < own; o++) {
            const i32 c = o * 32 + lane;
            const f32 v0 = c < d ? wide(values[at[0] + c]) : 0.0f, v1 = c < d ? wide(values[at[1] + c]) : 0.0f;
            acc[o] = fmaf(e1, v1, fmaf(e0, v0, acc[o] * shrink));
        }
    }
    if (lane == 0) {
        mosts[warp] = most;
        sums[warp] = sum;
    }
    barrier();
    f32 top = -INFINITY, total = 0.0f;
    for (i32 w = 0; w < warps; w++) {
        top = fmaxf(top, mosts[w]);
    }
    for (i32 w = 0; w < warps; w++) {
        total += sums[w] != 0.0f ? sums[w] * expf(mosts[w] - top) : 0.0f;
    }
    const f32 by = sum != 0.0f ? expf(most - top) / total : 0.0f;
    for (i32 o = 0; o < own; o++) {
        accs[warp * 32 + o * 32 + lane] = acc[o] * by;
    }
    barrier();
    for (i64 c = thread_index; c < d; c += block_threads) {
        f32 x = 0.0f;
        for (i32 w = 0; w < warps; w++) {
            x += accs[w * 32 + c];
        }
        part[((i64)block_index * parts + block_index_y) * d + c] = x;
    }
    if (thread_index == 0) {
        lse[(i64)block_index * parts + block_index_y] = total != 0.0f ? top + logf(total) : -INFINITY;
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


struct raw_paged_attention_join_args {
    i64 part_len;
    i64 part_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    i64 like_len;
    i64 like_dims[3];
    i64 y_len;
    i64 y_dims[3];
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_paged_attention_join(device const f32* part [[buffer(0)]],
    device const f32* lse [[buffer(1)]],
    device const f32* like [[buffer(2)]],
    device f32* y [[buffer(3)]],
    constant raw_paged_attention_join_args& args [[buffer(4)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 part_t;
    typedef f32 lse_t;
    typedef f32 like_t;
    typedef f32 y_t;

    const i64 d = args.part_dims[3], parts = args.part_dims[2], head = block_index;
    f32 top = -INFINITY, total = 0.0f;
    for (i64 p = 0; p < parts; p++) {
        top = fmaxf(top, lse[head * parts + p]);
    }
    for (i64 p = 0; p < parts; p++) {
        total += lse[head * parts + p] == -INFINITY ? 0.0f : expf(lse[head * parts + p] - top);
    }
    for (i64 c = thread_index; c < d; c += block_threads) {
        f32 x = 0.0f;
        for (i64 p = 0; p < parts; p++) {
            if (total != 0.0f) {
                x = fmaf(expf(lse[head * parts + p] - top) / total, part[(head * parts + p) * d + c], x);
            }
        }
        y[head * d + c] = narrow<y_t>(x);
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


struct raw_paged_attention_64_args {
    i64 q_len;
    i64 q_dims[3];
    i64 keys_len;
    i64 keys_dims[4];
    i64 values_len;
    i64 values_dims[4];
    i64 table_len;
    i64 table_dims[2];
    i64 lengths_len;
    i64 lengths_dims[1];
    i64 part_len;
    i64 part_dims[4];
    i64 lse_len;
    i64 lse_dims[3];
    f32 scale;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_paged_attention_64(device const f32* q [[buffer(0)]],
    device const f32* keys [[buffer(1)]],
    device const f32* values [[buffer(2)]],
    device const u32* table [[buffer(3)]],
    device const u32* lengths [[buffer(4)]],
    device f32* part [[buffer(5)]],
    device f32* lse [[buffer(6)]],
    constant raw_paged_attention_64_args& args [[buffer(7)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 q_t;
    typedef f32 keys_t;
    typedef f32 values_t;
    typedef u32 table_t;
    typedef u32 lengths_t;
    typedef f32 part_t;
    typedef f32 lse_t;

    constexpr i32 own = 64 / 32;
    shared_array(f32, accs, 4 * 64);
    shared_array(f32, mosts, 4);
    shared_array(f32, sums, 4);
    const i64 d = args.q_dims[2], heads = args.q_dims[1], kv = args.keys_dims[2], size = args.keys_dims[1];
    const i64 b = block_index / heads, h = block_index - b * heads, pair = h / (heads / kv);
    const i64 parts = args.part_dims[2], room = args.table_dims[1] * size;
    i64 n = (i64)lengths[b];
    n = n < room ? n : room;
    const i64 step = (n + parts - 1) / parts, start = block_index_y * step;
    const i64 end = start + step < n ? start + step : n;
    f32 qs[own], acc[own], most = -INFINITY, sum = 0.0f;
    for (i32 o = 0; o < own; o++) {
        const i32 c = o * 32 + lane;
        qs[o] = c < d ? wide(q[(i64)block_index * d + c]) * args.scale : 0.0f;
        acc[o] = 0.0f;
    }
    for (i64 j = start + warp * 2; j < end; j += 2 * warps) {
        i64 at[2];
        f32 s[2];
        for (i32 t = 0; t < 2; t++) {
            const i64 key = j + t < end ? j + t : j;
            const i64 page = table[b * args.table_dims[1] + key / size];
            // a page that is not there: nothing is read outside, and the result is NaN
            const bool there = page < args.keys_dims[0];
            at[t] = (((there ? page : 0) * size + key % size) * kv + pair) * d;
            s[t] = there ? 0.0f : INFINITY - INFINITY;
            for (i32 o = 0; o < own; o++) {
                const i32 c = o * 32 + lane;
                s[t] = fmaf(qs[o], c < d ? wide(keys[at[t] + c]) : 0.0f, s[t]);
            }
        }
        s[0] = warp_sum(s[0]);
        s[1] = j + 1 < end ? warp_sum(s[1]) : -INFINITY;
        const f32 top = fmaxf(most, fmaxf(s[0], s[1])), shrink = expf(most - top);
        const f32 e0 = expf(s[0] - top), e1 = expf(s[1] - top);
        sum = fmaf(sum, shrink, e0 + e1);
        most = top;
        for (i32 o = 0; o < own; o++) {
            const i32 c = o * 32 + lane;
            const f32 v0 = c < d ? wide(values[at[0] + c]) : 0.0f, v1 = c < d ? wide(values[at[1] + c]) : 0.0f;
            acc[o] = fmaf(e1, v1, fmaf(e0, v0, acc[o] * shrink));
        }
    }
    if (lane == 0) {
        mosts[warp] = most;
        sums[warp] = sum;
    }
    barrier();
    f32 top = -INFINITY, total = 0.0f;
    for (i32 w = 0; w < warps; w++) {
        top = fmaxf(top, mosts[w]);
    }
    for (i32 w = 0; w < warps; w++) {
        total += sums[w] != 0.0f ? sums[w] * expf(mosts[w] - top) : 0.0f;
    }
    const f32 by = sum != 0.0f ? expf(most - top) / total : 0.0f;
    for (i32 o = 0; o < own; o++) {
        accs[warp * 64 + o * 32 + lane] = acc[o] * by;
    }
    barrier();
    for (i64 c = thread_index; c < d; c += block_threads) {
        f32 x = 0.0f;
        for (i32 w = 0; w < warps; w++) {
            x += accs[w * 64 + c];
        }
        part[((i64)block_index * parts + block_index_y) * d + c] = x;
    }
    if (thread_index == 0) {
        lse[(i64)block_index * parts + block_index_y] = total != 0.0f ? top + logf(total) : -INFINITY;
    }
}
