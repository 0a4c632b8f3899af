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


struct raw_moe_down_combine_4_args {
    i64 h_len;
    i64 h_dims[3];
    i64 down_len;
    i64 down_dims[3];
    i64 scales_len;
    i64 scales_dims[3];
    i64 biases_len;
    i64 biases_dims[3];
    i64 experts_len;
    i64 experts_dims[2];
    i64 weights_len;
    i64 weights_dims[2];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_moe_down_combine_4(device const f32* h [[buffer(0)]],
    device const u32* down [[buffer(1)]],
    device const f32* scales [[buffer(2)]],
    device const f32* biases [[buffer(3)]],
    device const u32* experts [[buffer(4)]],
    device const f32* weights [[buffer(5)]],
    device f32* y [[buffer(6)]],
    constant raw_moe_down_combine_4_args& args [[buffer(7)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 h_t;
    typedef u32 down_t;
    typedef f32 scales_t;
    typedef f32 biases_t;
    typedef u32 experts_t;
    typedef f32 weights_t;
    typedef f32 y_t;

    shared_array(f32, rooms, 4 * 1024 / 32 * 33);
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
        
    constexpr i32 per = 32 / 4, mine = 4 * per, chunk = 32 * mine, staged = 1024, area = 1024 / 32 * 33;
    struct codes { four<u32> w; f32 scale, bias; };
    const u32 one = cols >= 0 ? 0x3f800000u : 0u;
    f32 sum[4][1];
    for (i32 r = 0; r < 4; r++) {
        for (i32 k = 0; k < 1; k++) {
            sum[r][k] = 0.0f;
        }
    }
        threadgroup f32* room = rooms + warp * area;
        const bool there = turn + warp < many;
        const i64 slot = token * many + (there ? turn + warp : 0);
        const bool known = (i64)experts[slot] < args.down_dims[0];
        const i64 expert = known ? (i64)experts[slot] : 0;
        
    for (i64 from = 0; from < cols; from += staged) {
        const i64 end = from + staged < cols ? from + staged : cols;
        codes now[4];
        
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = from + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (there && first + r < n) {
                    const i64 row = expert * n + first + r, g = row * groups + (u32)at / group;
                    now[r].w = load4(down + row * words + at / per);
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        if (true) {
            // words are under way while floats are brought
            barrier();
            const i32 count = (i32)((end - from + chunk - 1) / chunk) * chunk;
            #pragma unroll
            for (i32 k = 0; k < 1; k++) {
                for (i32 i = lane; i < count; i += 32) {
                    const i64 column = from + i;
                    const i32 place = (i / chunk * mine + i % mine) * 33 + i % chunk / mine;
                    room[k * area + place] = column < end ? wide(h[slot * cols + column]) : 0.0f;
                }
            }
            barrier();
        }
        for (i64 base = from; base < end; base += chunk) {
            threadgroup const f32* floats = room + (i32)((base - from) / chunk) * mine * 33 + lane;
            f32 dot[4][1], all[1];
            #pragma unroll
            for (i32 k = 0; k < 1; k++) {
                all[k] = 0.0f;
                #pragma unroll
                for (i32 r = 0; r < 4; r++) {
                    dot[r][k] = 0.0f;
                }
            }
            #pragma unroll
            for (i32 part = 0; part < 4; part++) {
                #pragma unroll
                for (i32 j = 0; j < per; j++) {
                    f32 v[1];
                    #pragma unroll
                    for (i32 k = 0; k < 1; k++) {
                        v[k] = floats[k * area + (part * per + j) * 33];
                        all[k] += v[k];
                    }
                    #pragma unroll
                    for (i32 r = 0; r < 4; r++) {
                        const four<u32> w = now[r].w;
                        const u32 word = part == 0 ? w.x : part == 1 ? w.y : part == 2 ? w.z : w.w;
                        const i32 shift = j * 4 - (23 - 4);
                        const u32 code = shift > 0 ? word >> (shift & 31) : word << (-shift & 31);
                        const f32 q = as_f32((code & ((1u << 4) - 1) << (23 - 4)) | one);
                        #pragma unroll
                        for (i32 k = 0; k < 1; k++) {
                            dot[r][k] = fmaf(q, v[k], dot[r][k]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 4; r++) {
                const f32 scale = now[r].scale * (f32)(1 << 4), bias = now[r].bias - scale;
                #pragma unroll
                for (i32 k = 0; k < 1; k++) {
                    sum[r][k] = fmaf(scale, dot[r][k], fmaf(bias, all[k], sum[r][k]));
                }
            }
            
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = base + chunk + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (there && first + r < n) {
                    const i64 row = expert * n + first + r, g = row * groups + (u32)at / group;
                    now[r].w = load4(down + row * words + at / per);
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        }
    }
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


struct raw_dequantize_affine_args {
    i64 packed_len;
    i64 packed_dims[3];
    i64 scales_len;
    i64 scales_dims[3];
    i64 biases_len;
    i64 biases_dims[3];
    i64 y_len;
    i64 y_dims[3];
    i64 bits;
    i64 group;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void raw_dequantize_affine(device const u32* packed [[buffer(0)]],
    device const f32* scales [[buffer(1)]],
    device const f32* biases [[buffer(2)]],
    device f32* y [[buffer(3)]],
    constant raw_dequantize_affine_args& args [[buffer(4)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef u32 packed_t;
    typedef f32 scales_t;
    typedef f32 biases_t;
    typedef f32 y_t;
    const i32 bits = (i32)args.bits, group = (i32)args.group;
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


struct raw_moe_down_combine_8_args {
    i64 h_len;
    i64 h_dims[3];
    i64 down_len;
    i64 down_dims[3];
    i64 scales_len;
    i64 scales_dims[3];
    i64 biases_len;
    i64 biases_dims[3];
    i64 experts_len;
    i64 experts_dims[2];
    i64 weights_len;
    i64 weights_dims[2];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(128)]]
kernel void raw_moe_down_combine_8(device const f32* h [[buffer(0)]],
    device const u32* down [[buffer(1)]],
    device const f32* scales [[buffer(2)]],
    device const f32* biases [[buffer(3)]],
    device const u32* experts [[buffer(4)]],
    device const f32* weights [[buffer(5)]],
    device f32* y [[buffer(6)]],
    constant raw_moe_down_combine_8_args& args [[buffer(7)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 h_t;
    typedef u32 down_t;
    typedef f32 scales_t;
    typedef f32 biases_t;
    typedef u32 experts_t;
    typedef f32 weights_t;
    typedef f32 y_t;

    shared_array(f32, rooms, 4 * 1024 / 32 * 33);
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
        
    constexpr i32 per = 32 / 8, mine = 4 * per, chunk = 32 * mine, staged = 1024, area = 1024 / 32 * 33;
    struct codes { four<u32> w; f32 scale, bias; };
    const u32 one = cols >= 0 ? 0x3f800000u : 0u;
    f32 sum[4][1];
    for (i32 r = 0; r < 4; r++) {
        for (i32 k = 0; k < 1; k++) {
            sum[r][k] = 0.0f;
        }
    }
        threadgroup f32* room = rooms + warp * area;
        const bool there = turn + warp < many;
        const i64 slot = token * many + (there ? turn + warp : 0);
        const bool known = (i64)experts[slot] < args.down_dims[0];
        const i64 expert = known ? (i64)experts[slot] : 0;
        
    for (i64 from = 0; from < cols; from += staged) {
        const i64 end = from + staged < cols ? from + staged : cols;
        codes now[4];
        
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = from + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (there && first + r < n) {
                    const i64 row = expert * n + first + r, g = row * groups + (u32)at / group;
                    now[r].w = load4(down + row * words + at / per);
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        if (true) {
            // words are under way while floats are brought
            barrier();
            const i32 count = (i32)((end - from + chunk - 1) / chunk) * chunk;
            #pragma unroll
            for (i32 k = 0; k < 1; k++) {
                for (i32 i = lane; i < count; i += 32) {
                    const i64 column = from + i;
                    const i32 place = (i / chunk * mine + i % mine) * 33 + i % chunk / mine;
                    room[k * area + place] = column < end ? wide(h[slot * cols + column]) : 0.0f;
                }
            }
            barrier();
        }
        for (i64 base = from; base < end; base += chunk) {
            threadgroup const f32* floats = room + (i32)((base - from) / chunk) * mine * 33 + lane;
            f32 dot[4][1], all[1];
            #pragma unroll
            for (i32 k = 0; k < 1; k++) {
                all[k] = 0.0f;
                #pragma unroll
                for (i32 r = 0; r < 4; r++) {
                    dot[r][k] = 0.0f;
                }
            }
            #pragma unroll
            for (i32 part = 0; part < 4; part++) {
                #pragma unroll
                for (i32 j = 0; j < per; j++) {
                    f32 v[1];
                    #pragma unroll
                    for (i32 k = 0; k < 1; k++) {
                        v[k] = floats[k * area + (part * per + j) * 33];
                        all[k] += v[k];
                    }
                    #pragma unroll
                    for (i32 r = 0; r < 4; r++) {
                        const four<u32> w = now[r].w;
                        const u32 word = part == 0 ? w.x : part == 1 ? w.y : part == 2 ? w.z : w.w;
                        const i32 shift = j * 8 - (23 - 8);
                        const u32 code = shift > 0 ? word >> (shift & 31) : word << (-shift & 31);
                        const f32 q = as_f32((code & ((1u << 8) - 1) << (23 - 8)) | one);
                        #pragma unroll
                        for (i32 k = 0; k < 1; k++) {
                            dot[r][k] = fmaf(q, v[k], dot[r][k]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 4; r++) {
                const f32 scale = now[r].scale * (f32)(1 << 8), bias = now[r].bias - scale;
                #pragma unroll
                for (i32 k = 0; k < 1; k++) {
                    sum[r][k] = fmaf(scale, dot[r][k], fmaf(bias, all[k], sum[r][k]));
                }
            }
            
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = base + chunk + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (there && first + r < n) {
                    const i64 row = expert * n + first + r, g = row * groups + (u32)at / group;
                    now[r].w = load4(down + row * words + at / per);
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        }
    }
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
    }
}
