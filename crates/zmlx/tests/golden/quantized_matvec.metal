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


struct raw_quantized_matvec_4_1_args {
    i64 x_len;
    i64 x_dims[2];
    i64 packed_len;
    i64 packed_dims[2];
    i64 scales_len;
    i64 scales_dims[2];
    i64 biases_len;
    i64 biases_dims[2];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(256)]]
kernel void raw_quantized_matvec_4_1(device const f32* x [[buffer(0)]],
    device const u32* packed [[buffer(1)]],
    device const f32* scales [[buffer(2)]],
    device const f32* biases [[buffer(3)]],
    device f32* y [[buffer(4)]],
    constant raw_quantized_matvec_4_1_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 x_t;
    typedef u32 packed_t;
    typedef f32 scales_t;
    typedef f32 biases_t;
    typedef f32 y_t;

    shared_array(f32, room, 1 * 2048 / 32 * 33);
    const i64 cols = args.x_dims[1], m = args.x_dims[0], n = args.packed_dims[0], words = args.packed_dims[1];
    const u32 group = (u32)(cols / args.scales_dims[1]);
    const i64 top = (i64)block_index_y * 1, wave = (i64)grid_blocks * warps * 4;
    // all blocks take as many turns: their threads wait for each other
    for (i64 turn = 0; turn < n; turn += wave) {
        
    constexpr i32 per = 32 / 4, mine = 4 * per, chunk = 32 * mine, staged = 2048, area = 2048 / 32 * 33;
    struct codes { four<u32> w; f32 scale, bias; };
    const u32 one = cols >= 0 ? 0x3f800000u : 0u;
    f32 sum[4][1];
    for (i32 r = 0; r < 4; r++) {
        for (i32 k = 0; k < 1; k++) {
            sum[r][k] = 0.0f;
        }
    }
        const i64 first = turn + ((i64)block_index * warps + warp) * 4;
        
    for (i64 from = 0; from < cols; from += staged) {
        const i64 end = from + staged < cols ? from + staged : cols;
        codes now[4];
        
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = from + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        if (turn == 0 || cols > staged) {
            // words are under way while floats are brought
            barrier();
            const i32 count = (i32)((end - from + chunk - 1) / chunk) * chunk;
            #pragma unroll
            for (i32 k = 0; k < 1; k++) {
                for (i32 i = thread_index; i < count; i += block_threads) {
                    const i64 column = from + i;
                    const i32 place = (i / chunk * mine + i % mine) * 33 + i % chunk / mine;
                    room[k * area + place] = column < end ? (top + k < m ? wide(x[(top + k) * cols + column]) : 0.0f) : 0.0f;
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
                if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        }
    }
        for (i32 r = 0; r < 4; r++) {
            for (i32 k = 0; k < 1; k++) {
                const f32 total = warp_sum(sum[r][k]);
                if (lane == 0 && first + r < n && top + k < m) {
                    y[(top + k) * n + first + r] = narrow<y_t>(total);
                }
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


struct raw_dequantize_affine_args {
    i64 packed_len;
    i64 packed_dims[2];
    i64 scales_len;
    i64 scales_dims[2];
    i64 biases_len;
    i64 biases_dims[2];
    i64 y_len;
    i64 y_dims[2];
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


struct raw_quantized_matvec_4_4_args {
    i64 x_len;
    i64 x_dims[2];
    i64 packed_len;
    i64 packed_dims[2];
    i64 scales_len;
    i64 scales_dims[2];
    i64 biases_len;
    i64 biases_dims[2];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(256)]]
kernel void raw_quantized_matvec_4_4(device const f32* x [[buffer(0)]],
    device const u32* packed [[buffer(1)]],
    device const f32* scales [[buffer(2)]],
    device const f32* biases [[buffer(3)]],
    device f32* y [[buffer(4)]],
    constant raw_quantized_matvec_4_4_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 x_t;
    typedef u32 packed_t;
    typedef f32 scales_t;
    typedef f32 biases_t;
    typedef f32 y_t;

    shared_array(f32, room, 4 * 1024 / 32 * 33);
    const i64 cols = args.x_dims[1], m = args.x_dims[0], n = args.packed_dims[0], words = args.packed_dims[1];
    const u32 group = (u32)(cols / args.scales_dims[1]);
    const i64 top = (i64)block_index_y * 4, wave = (i64)grid_blocks * warps * 4;
    // all blocks take as many turns: their threads wait for each other
    for (i64 turn = 0; turn < n; turn += wave) {
        
    constexpr i32 per = 32 / 4, mine = 4 * per, chunk = 32 * mine, staged = 1024, area = 1024 / 32 * 33;
    struct codes { four<u32> w; f32 scale, bias; };
    const u32 one = cols >= 0 ? 0x3f800000u : 0u;
    f32 sum[4][4];
    for (i32 r = 0; r < 4; r++) {
        for (i32 k = 0; k < 4; k++) {
            sum[r][k] = 0.0f;
        }
    }
        const i64 first = turn + ((i64)block_index * warps + warp) * 4;
        
    for (i64 from = 0; from < cols; from += staged) {
        const i64 end = from + staged < cols ? from + staged : cols;
        codes now[4];
        
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = from + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        if (turn == 0 || cols > staged) {
            // words are under way while floats are brought
            barrier();
            const i32 count = (i32)((end - from + chunk - 1) / chunk) * chunk;
            #pragma unroll
            for (i32 k = 0; k < 4; k++) {
                for (i32 i = thread_index; i < count; i += block_threads) {
                    const i64 column = from + i;
                    const i32 place = (i / chunk * mine + i % mine) * 33 + i % chunk / mine;
                    room[k * area + place] = column < end ? (top + k < m ? wide(x[(top + k) * cols + column]) : 0.0f) : 0.0f;
                }
            }
            barrier();
        }
        for (i64 base = from; base < end; base += chunk) {
            threadgroup const f32* floats = room + (i32)((base - from) / chunk) * mine * 33 + lane;
            f32 dot[4][4], all[4];
            #pragma unroll
            for (i32 k = 0; k < 4; k++) {
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
                    f32 v[4];
                    #pragma unroll
                    for (i32 k = 0; k < 4; k++) {
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
                        for (i32 k = 0; k < 4; k++) {
                            dot[r][k] = fmaf(q, v[k], dot[r][k]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 4; r++) {
                const f32 scale = now[r].scale * (f32)(1 << 4), bias = now[r].bias - scale;
                #pragma unroll
                for (i32 k = 0; k < 4; k++) {
                    sum[r][k] = fmaf(scale, dot[r][k], fmaf(bias, all[k], sum[r][k]));
                }
            }
            
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = base + chunk + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        }
    }
        for (i32 r = 0; r < 4; r++) {
            for (i32 k = 0; k < 4; k++) {
                const f32 total = warp_sum(sum[r][k]);
                if (lane == 0 && first + r < n && top + k < m) {
                    y[(top + k) * n + first + r] = narrow<y_t>(total);
                }
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


struct raw_quantized_matvec_8_1_args {
    i64 x_len;
    i64 x_dims[2];
    i64 packed_len;
    i64 packed_dims[2];
    i64 scales_len;
    i64 scales_dims[2];
    i64 biases_len;
    i64 biases_dims[2];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(256)]]
kernel void raw_quantized_matvec_8_1(device const f32* x [[buffer(0)]],
    device const u32* packed [[buffer(1)]],
    device const f32* scales [[buffer(2)]],
    device const f32* biases [[buffer(3)]],
    device f32* y [[buffer(4)]],
    constant raw_quantized_matvec_8_1_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 x_t;
    typedef u32 packed_t;
    typedef f32 scales_t;
    typedef f32 biases_t;
    typedef f32 y_t;

    shared_array(f32, room, 1 * 2048 / 32 * 33);
    const i64 cols = args.x_dims[1], m = args.x_dims[0], n = args.packed_dims[0], words = args.packed_dims[1];
    const u32 group = (u32)(cols / args.scales_dims[1]);
    const i64 top = (i64)block_index_y * 1, wave = (i64)grid_blocks * warps * 4;
    // all blocks take as many turns: their threads wait for each other
    for (i64 turn = 0; turn < n; turn += wave) {
        
    constexpr i32 per = 32 / 8, mine = 4 * per, chunk = 32 * mine, staged = 2048, area = 2048 / 32 * 33;
    struct codes { four<u32> w; f32 scale, bias; };
    const u32 one = cols >= 0 ? 0x3f800000u : 0u;
    f32 sum[4][1];
    for (i32 r = 0; r < 4; r++) {
        for (i32 k = 0; k < 1; k++) {
            sum[r][k] = 0.0f;
        }
    }
        const i64 first = turn + ((i64)block_index * warps + warp) * 4;
        
    for (i64 from = 0; from < cols; from += staged) {
        const i64 end = from + staged < cols ? from + staged : cols;
        codes now[4];
        
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = from + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        if (turn == 0 || cols > staged) {
            // words are under way while floats are brought
            barrier();
            const i32 count = (i32)((end - from + chunk - 1) / chunk) * chunk;
            #pragma unroll
            for (i32 k = 0; k < 1; k++) {
                for (i32 i = thread_index; i < count; i += block_threads) {
                    const i64 column = from + i;
                    const i32 place = (i / chunk * mine + i % mine) * 33 + i % chunk / mine;
                    room[k * area + place] = column < end ? (top + k < m ? wide(x[(top + k) * cols + column]) : 0.0f) : 0.0f;
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
                if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        }
    }
        for (i32 r = 0; r < 4; r++) {
            for (i32 k = 0; k < 1; k++) {
                const f32 total = warp_sum(sum[r][k]);
                if (lane == 0 && first + r < n && top + k < m) {
                    y[(top + k) * n + first + r] = narrow<y_t>(total);
                }
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


struct raw_quantized_matvec_8_4_args {
    i64 x_len;
    i64 x_dims[2];
    i64 packed_len;
    i64 packed_dims[2];
    i64 scales_len;
    i64 scales_dims[2];
    i64 biases_len;
    i64 biases_dims[2];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(256)]]
kernel void raw_quantized_matvec_8_4(device const f32* x [[buffer(0)]],
    device const u32* packed [[buffer(1)]],
    device const f32* scales [[buffer(2)]],
    device const f32* biases [[buffer(3)]],
    device f32* y [[buffer(4)]],
    constant raw_quantized_matvec_8_4_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef f32 x_t;
    typedef u32 packed_t;
    typedef f32 scales_t;
    typedef f32 biases_t;
    typedef f32 y_t;

    shared_array(f32, room, 4 * 1024 / 32 * 33);
    const i64 cols = args.x_dims[1], m = args.x_dims[0], n = args.packed_dims[0], words = args.packed_dims[1];
    const u32 group = (u32)(cols / args.scales_dims[1]);
    const i64 top = (i64)block_index_y * 4, wave = (i64)grid_blocks * warps * 4;
    // all blocks take as many turns: their threads wait for each other
    for (i64 turn = 0; turn < n; turn += wave) {
        
    constexpr i32 per = 32 / 8, mine = 4 * per, chunk = 32 * mine, staged = 1024, area = 1024 / 32 * 33;
    struct codes { four<u32> w; f32 scale, bias; };
    const u32 one = cols >= 0 ? 0x3f800000u : 0u;
    f32 sum[4][4];
    for (i32 r = 0; r < 4; r++) {
        for (i32 k = 0; k < 4; k++) {
            sum[r][k] = 0.0f;
        }
    }
        const i64 first = turn + ((i64)block_index * warps + warp) * 4;
        
    for (i64 from = 0; from < cols; from += staged) {
        const i64 end = from + staged < cols ? from + staged : cols;
        codes now[4];
        
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = from + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        if (turn == 0 || cols > staged) {
            // words are under way while floats are brought
            barrier();
            const i32 count = (i32)((end - from + chunk - 1) / chunk) * chunk;
            #pragma unroll
            for (i32 k = 0; k < 4; k++) {
                for (i32 i = thread_index; i < count; i += block_threads) {
                    const i64 column = from + i;
                    const i32 place = (i / chunk * mine + i % mine) * 33 + i % chunk / mine;
                    room[k * area + place] = column < end ? (top + k < m ? wide(x[(top + k) * cols + column]) : 0.0f) : 0.0f;
                }
            }
            barrier();
        }
        for (i64 base = from; base < end; base += chunk) {
            threadgroup const f32* floats = room + (i32)((base - from) / chunk) * mine * 33 + lane;
            f32 dot[4][4], all[4];
            #pragma unroll
            for (i32 k = 0; k < 4; k++) {
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
                    f32 v[4];
                    #pragma unroll
                    for (i32 k = 0; k < 4; k++) {
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
                        for (i32 k = 0; k < 4; k++) {
                            dot[r][k] = fmaf(q, v[k], dot[r][k]);
                        }
                    }
                }
            }
            #pragma unroll
            for (i32 r = 0; r < 4; r++) {
                const f32 scale = now[r].scale * (f32)(1 << 8), bias = now[r].bias - scale;
                #pragma unroll
                for (i32 k = 0; k < 4; k++) {
                    sum[r][k] = fmaf(scale, dot[r][k], fmaf(bias, all[k], sum[r][k]));
                }
            }
            
        #pragma unroll
        for (i32 r = 0; r < 4; r++) {
            const i64 at = base + chunk + lane * mine;
            now[r].w.x = now[r].w.y = now[r].w.z = now[r].w.w = 0;
            now[r].scale = now[r].bias = 0.0f;
            if (at < end) {
                if (first + r < n) {
                    now[r].w = load4(packed + (first + r) * words + at / per);
                    const i64 g = (first + r) * args.scales_dims[1] + (u32)at / group;
                    now[r].scale = wide(scales[g]);
                    now[r].bias = wide(biases[g]);
                }
            }
        }
        }
    }
        for (i32 r = 0; r < 4; r++) {
            for (i32 k = 0; k < 4; k++) {
                const f32 total = warp_sum(sum[r][k]);
                if (lane == 0 && first + r < n && top + k < m) {
                    y[(top + k) * n + first + r] = narrow<y_t>(total);
                }
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


struct raw_quantized_matmul_4_64x64_args {
    i64 x_len;
    i64 x_dims[2];
    i64 packed_len;
    i64 packed_dims[2];
    i64 scales_len;
    i64 scales_dims[2];
    i64 biases_len;
    i64 biases_dims[2];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_quantized_matmul_4_64x64(device const bf16* x [[buffer(0)]],
    device const u32* packed [[buffer(1)]],
    device const bf16* scales [[buffer(2)]],
    device const bf16* biases [[buffer(3)]],
    device bf16* y [[buffer(4)]],
    constant raw_quantized_matmul_4_64x64_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 x_t;
    typedef u32 packed_t;
    typedef bf16 scales_t;
    typedef bf16 biases_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[20480];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = false ? DEPTH : ROWS, A_COLS = false ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = false ? DEPTH : COLS, B_COLS = false ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    
    constexpr i32 WIDE = COLS;
    const i64 end = args.y_dims[0], down = (end + ROWS - 1) / ROWS, group = 0;
    const i64 top = block_index % down * ROWS, left = block_index / down * WIDE;
    const i32 depth = (i32)args.x_dims[1];
    shared_array(i32, rows_of, 64);
    for (i32 i = thread_index; i < ROWS; i += THREADS) {
        rows_of[i] = top + i < end ? (i32)(top + i) : -1;
    }
    barrier();
    // a thread copies chunks of one column
    constexpr i32 A_STEP = THREADS * 8 / A_COLS, A_TURNS = A_ROWS / A_STEP, B_STEP = THREADS * 8 / B_COLS, B_TURNS = B_ROWS / B_STEP;
    const i32 a_row = thread_index / (A_COLS / 8), a_col = thread_index % (A_COLS / 8) * 8;
    const i32 b_row = thread_index / (B_COLS / 8), b_col = thread_index % (B_COLS / 8) * 8;
    constexpr u32 none = 0xffffffffu;
    u32 a_from[A_TURNS];
    #pragma unroll
    for (i32 t = 0; t < A_TURNS; t++) {
        const i32 row = rows_of[a_row + t * A_STEP];
        a_from[t] = row < 0 ? none : (u32)row;
    }
    constexpr i32 HIGH = 23 - 4;
    constexpr u32 ONES = (1u << 4) - 1;
    constexpr i32 PARTS = DEPTH / 32, TURNS = COLS * PARTS / THREADS;
    const i32 part = thread_index % PARTS * 32, size = depth / (i32)args.scales_dims[1], shift = size == 32 ? 5 : size == 64 ? 6 : 7;
    i64 words_at[TURNS], scales_at[TURNS];
    #pragma unroll
    for (i32 t = 0; t < TURNS; t++) {
        const i64 row = left + (thread_index / PARTS + t * (THREADS / PARTS)) % WIDE;
        const i64 at = group * args.y_dims[1] + (row < args.y_dims[1] ? row : 0);
        words_at[t] = at * args.packed_dims[1];
        scales_at[t] = at * args.scales_dims[1];
    }
    const i32 warp_row = warp / 1 * WARP_ROWS, warp_col = warp % 1 * (WARP_COLS / 2);
    fragment_c sums[M][N];
    #pragma unroll
    for (i32 i = 0; i < M; i++) {
        #pragma unroll
        for (i32 j = 0; j < N; j++) {
            clear(sums[i][j]);
        }
    }
    const i32 steps = (depth + DEPTH - 1) / DEPTH;
    // the first turns only copy
    for (i32 step = 1 - STAGES; step < steps; step++) {
        if (step >= 0) {
            copy_wait<STAGES - 2>();
            barrier();
        }
        const i32 next = step + STAGES - 1, from = next * DEPTH;
        if (next < steps) {
            threadgroup y_t* a = tiles + next % STAGES * STAGE;
            #pragma unroll
            for (i32 t = 0; t < A_TURNS; t++) {
                threadgroup y_t* to = a + (a_row * A_PITCH + a_col) + t * A_STEP * A_PITCH;
                copy_async(to, x + (from + a_col) + (u64)a_from[t] * (u32)depth, a_from[t] != none && from + a_col < depth);
            }
            
        }
        copy_commit();
        four<u32> held[TURNS][4 / 4];
        f32 scale[TURNS], bias[TURNS];
        const bool coming = step >= -1 && step + 1 < steps;
        if (coming) {
            const i32 k = (step + 1) * DEPTH + part;
            #pragma unroll
            for (i32 t = 0; t < TURNS; t++) {
                const i32 r = thread_index / PARTS + t * (THREADS / PARTS);
                const bool there = k < depth;
                #pragma unroll
                for (i32 q = 0; q < 4 / 4; q++) {
                    held[t][q] = load4(packed + words_at[t] + (there ? k * 4 / 32 : 0) + q * 4);
                }
                const i64 g = scales_at[t] + (there ? k >> shift : 0);
                scale[t] = there ? wide(scales[g]) * (f32)(1 << 4) : 0.0f;
                bias[t] = there ? wide(biases[g]) - scale[t] : 0.0f;
            }
        }
        if (step >= 0) {
            threadgroup const y_t* stage = tiles + step % STAGES * STAGE;
            threadgroup const y_t* a = stage + warp_row * (false ? 1 : A_PITCH);
            threadgroup const y_t* b = stage + A_ROWS * A_PITCH + warp_col * (false ? 1 : B_PITCH);
            #pragma unroll
            for (i32 k = 0; k < DEPTH; k += 16) {
                fragment_a<y_t> of_a[M];
                fragment_b<y_t> of_b[N];
                #pragma unroll
                for (i32 i = 0; i < M; i++) {
                    of_a[i] = load_a<false>(a, false ? k * A_PITCH + i * 16 : i * 16 * A_PITCH + k, A_PITCH, lane);
                }
                #pragma unroll
                for (i32 j = 0; j < N; j++) {
                    const i32 col = j / (N / 2) * (COLS / 2) + j % (N / 2) * 16;
                    of_b[j] = load_b<false>(b, false ? k * B_PITCH + col : col * B_PITCH + k, B_PITCH, lane);
                }
                #pragma unroll
                for (i32 i = 0; i < M; i++) {
                    #pragma unroll
                    for (i32 j = 0; j < N; j++) {
                        multiply_add(sums[i][j], of_a[i], of_b[j]);
                    }
                }
            }
        }
        if (coming) {
            threadgroup y_t* b = tiles + (step + 1) % STAGES * STAGE + A_ROWS * A_PITCH + thread_index / PARTS * B_PITCH + part;
            #pragma unroll
            for (i32 t = 0; t < TURNS; t++) {
                threadgroup y_t* to = b + t * (THREADS / PARTS) * B_PITCH;
                #pragma unroll
                for (i32 q = 0; q < 4 / 4; q++) {
                    const u32 word[4] = {held[t][q].x, held[t][q].y, held[t][q].z, held[t][q].w};
                    #pragma unroll
                    for (i32 s = 0; s < 16 / 4; s++) {
                        f32 v[8];
                        #pragma unroll
                        for (i32 j = 0; j < 8; j++) {
                            const i32 bit = (s * 8 + j) * 4;
                            const u32 code = bit % 32 < HIGH ? word[bit / 32] << (HIGH - bit % 32) : word[bit / 32] >> (bit % 32 - HIGH);
                            v[j] = fmaf(as_f32((code & ONES << HIGH) | 0x3f800000u), scale[t], bias[t]);
                        }
                        four<u32> out;
                        out.x = pair_of<y_t>(v[0], v[1]);
                        out.y = pair_of<y_t>(v[2], v[3]);
                        out.z = pair_of<y_t>(v[4], v[5]);
                        out.w = pair_of<y_t>(v[6], v[7]);
                        store4((threadgroup u32*)(to + (q * (16 / 4) + s) * 8), out);
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 i = 0; i < M; i++) {
        #pragma unroll
        for (i32 j = 0; j < N; j++) {
            #pragma unroll
            for (i32 e = 0; e < 8; e += 2) {
                const i32 r = warp_row + i * 16 + fragment_row(e, lane);
                const i32 c = j / (N / 2) * (COLS / 2) + warp_col + j % (N / 2) * 16 + fragment_col(e, lane);
                const f32 low = element(sums[i][j], e), high = element(sums[i][j], e + 1);
                if (top + r < end && left + c < args.y_dims[1]) {
                    const u32 pair = pair_of<y_t>(low, high);
                    *(device u32*)(y + (top + r) * args.y_dims[1] + left + c) = rows_of[r] == -2 ? 0x7fff7fffu : pair;
                }
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


struct raw_quantized_matmul_8_64x64_args {
    i64 x_len;
    i64 x_dims[2];
    i64 packed_len;
    i64 packed_dims[2];
    i64 scales_len;
    i64 scales_dims[2];
    i64 biases_len;
    i64 biases_dims[2];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_quantized_matmul_8_64x64(device const bf16* x [[buffer(0)]],
    device const u32* packed [[buffer(1)]],
    device const bf16* scales [[buffer(2)]],
    device const bf16* biases [[buffer(3)]],
    device bf16* y [[buffer(4)]],
    constant raw_quantized_matmul_8_64x64_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 x_t;
    typedef u32 packed_t;
    typedef bf16 scales_t;
    typedef bf16 biases_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[20480];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = false ? DEPTH : ROWS, A_COLS = false ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = false ? DEPTH : COLS, B_COLS = false ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    
    constexpr i32 WIDE = COLS;
    const i64 end = args.y_dims[0], down = (end + ROWS - 1) / ROWS, group = 0;
    const i64 top = block_index % down * ROWS, left = block_index / down * WIDE;
    const i32 depth = (i32)args.x_dims[1];
    shared_array(i32, rows_of, 64);
    for (i32 i = thread_index; i < ROWS; i += THREADS) {
        rows_of[i] = top + i < end ? (i32)(top + i) : -1;
    }
    barrier();
    // a thread copies chunks of one column
    constexpr i32 A_STEP = THREADS * 8 / A_COLS, A_TURNS = A_ROWS / A_STEP, B_STEP = THREADS * 8 / B_COLS, B_TURNS = B_ROWS / B_STEP;
    const i32 a_row = thread_index / (A_COLS / 8), a_col = thread_index % (A_COLS / 8) * 8;
    const i32 b_row = thread_index / (B_COLS / 8), b_col = thread_index % (B_COLS / 8) * 8;
    constexpr u32 none = 0xffffffffu;
    u32 a_from[A_TURNS];
    #pragma unroll
    for (i32 t = 0; t < A_TURNS; t++) {
        const i32 row = rows_of[a_row + t * A_STEP];
        a_from[t] = row < 0 ? none : (u32)row;
    }
    constexpr i32 HIGH = 23 - 8;
    constexpr u32 ONES = (1u << 8) - 1;
    constexpr i32 PARTS = DEPTH / 32, TURNS = COLS * PARTS / THREADS;
    const i32 part = thread_index % PARTS * 32, size = depth / (i32)args.scales_dims[1], shift = size == 32 ? 5 : size == 64 ? 6 : 7;
    i64 words_at[TURNS], scales_at[TURNS];
    #pragma unroll
    for (i32 t = 0; t < TURNS; t++) {
        const i64 row = left + (thread_index / PARTS + t * (THREADS / PARTS)) % WIDE;
        const i64 at = group * args.y_dims[1] + (row < args.y_dims[1] ? row : 0);
        words_at[t] = at * args.packed_dims[1];
        scales_at[t] = at * args.scales_dims[1];
    }
    const i32 warp_row = warp / 1 * WARP_ROWS, warp_col = warp % 1 * (WARP_COLS / 2);
    fragment_c sums[M][N];
    #pragma unroll
    for (i32 i = 0; i < M; i++) {
        #pragma unroll
        for (i32 j = 0; j < N; j++) {
            clear(sums[i][j]);
        }
    }
    const i32 steps = (depth + DEPTH - 1) / DEPTH;
    // the first turns only copy
    for (i32 step = 1 - STAGES; step < steps; step++) {
        if (step >= 0) {
            copy_wait<STAGES - 2>();
            barrier();
        }
        const i32 next = step + STAGES - 1, from = next * DEPTH;
        if (next < steps) {
            threadgroup y_t* a = tiles + next % STAGES * STAGE;
            #pragma unroll
            for (i32 t = 0; t < A_TURNS; t++) {
                threadgroup y_t* to = a + (a_row * A_PITCH + a_col) + t * A_STEP * A_PITCH;
                copy_async(to, x + (from + a_col) + (u64)a_from[t] * (u32)depth, a_from[t] != none && from + a_col < depth);
            }
            
        }
        copy_commit();
        four<u32> held[TURNS][8 / 4];
        f32 scale[TURNS], bias[TURNS];
        const bool coming = step >= -1 && step + 1 < steps;
        if (coming) {
            const i32 k = (step + 1) * DEPTH + part;
            #pragma unroll
            for (i32 t = 0; t < TURNS; t++) {
                const i32 r = thread_index / PARTS + t * (THREADS / PARTS);
                const bool there = k < depth;
                #pragma unroll
                for (i32 q = 0; q < 8 / 4; q++) {
                    held[t][q] = load4(packed + words_at[t] + (there ? k * 8 / 32 : 0) + q * 4);
                }
                const i64 g = scales_at[t] + (there ? k >> shift : 0);
                scale[t] = there ? wide(scales[g]) * (f32)(1 << 8) : 0.0f;
                bias[t] = there ? wide(biases[g]) - scale[t] : 0.0f;
            }
        }
        if (step >= 0) {
            threadgroup const y_t* stage = tiles + step % STAGES * STAGE;
            threadgroup const y_t* a = stage + warp_row * (false ? 1 : A_PITCH);
            threadgroup const y_t* b = stage + A_ROWS * A_PITCH + warp_col * (false ? 1 : B_PITCH);
            #pragma unroll
            for (i32 k = 0; k < DEPTH; k += 16) {
                fragment_a<y_t> of_a[M];
                fragment_b<y_t> of_b[N];
                #pragma unroll
                for (i32 i = 0; i < M; i++) {
                    of_a[i] = load_a<false>(a, false ? k * A_PITCH + i * 16 : i * 16 * A_PITCH + k, A_PITCH, lane);
                }
                #pragma unroll
                for (i32 j = 0; j < N; j++) {
                    const i32 col = j / (N / 2) * (COLS / 2) + j % (N / 2) * 16;
                    of_b[j] = load_b<false>(b, false ? k * B_PITCH + col : col * B_PITCH + k, B_PITCH, lane);
                }
                #pragma unroll
                for (i32 i = 0; i < M; i++) {
                    #pragma unroll
                    for (i32 j = 0; j < N; j++) {
                        multiply_add(sums[i][j], of_a[i], of_b[j]);
                    }
                }
            }
        }
        if (coming) {
            threadgroup y_t* b = tiles + (step + 1) % STAGES * STAGE + A_ROWS * A_PITCH + thread_index / PARTS * B_PITCH + part;
            #pragma unroll
            for (i32 t = 0; t < TURNS; t++) {
                threadgroup y_t* to = b + t * (THREADS / PARTS) * B_PITCH;
                #pragma unroll
                for (i32 q = 0; q < 8 / 4; q++) {
                    const u32 word[4] = {held[t][q].x, held[t][q].y, held[t][q].z, held[t][q].w};
                    #pragma unroll
                    for (i32 s = 0; s < 16 / 8; s++) {
                        f32 v[8];
                        #pragma unroll
                        for (i32 j = 0; j < 8; j++) {
                            const i32 bit = (s * 8 + j) * 8;
                            const u32 code = bit % 32 < HIGH ? word[bit / 32] << (HIGH - bit % 32) : word[bit / 32] >> (bit % 32 - HIGH);
                            v[j] = fmaf(as_f32((code & ONES << HIGH) | 0x3f800000u), scale[t], bias[t]);
                        }
                        four<u32> out;
                        out.x = pair_of<y_t>(v[0], v[1]);
                        out.y = pair_of<y_t>(v[2], v[3]);
                        out.z = pair_of<y_t>(v[4], v[5]);
                        out.w = pair_of<y_t>(v[6], v[7]);
                        store4((threadgroup u32*)(to + (q * (16 / 8) + s) * 8), out);
                    }
                }
            }
        }
    }
    #pragma unroll
    for (i32 i = 0; i < M; i++) {
        #pragma unroll
        for (i32 j = 0; j < N; j++) {
            #pragma unroll
            for (i32 e = 0; e < 8; e += 2) {
                const i32 r = warp_row + i * 16 + fragment_row(e, lane);
                const i32 c = j / (N / 2) * (COLS / 2) + warp_col + j % (N / 2) * 16 + fragment_col(e, lane);
                const f32 low = element(sums[i][j], e), high = element(sums[i][j], e + 1);
                if (top + r < end && left + c < args.y_dims[1]) {
                    const u32 pair = pair_of<y_t>(low, high);
                    *(device u32*)(y + (top + r) * args.y_dims[1] + left + c) = rows_of[r] == -2 ? 0x7fff7fffu : pair;
                }
            }
        }
    }
}
