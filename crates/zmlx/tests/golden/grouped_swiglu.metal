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


struct raw_grouped_swiglu_64x64_args {
    i64 x_len;
    i64 x_dims[2];
    i64 gate_len;
    i64 gate_dims[3];
    i64 up_len;
    i64 up_dims[3];
    i64 offsets_len;
    i64 offsets_dims[1];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_grouped_swiglu_64x64(device const bf16* x [[buffer(0)]],
    device const bf16* gate [[buffer(1)]],
    device const bf16* up [[buffer(2)]],
    device const u32* offsets [[buffer(3)]],
    device bf16* y [[buffer(4)]],
    constant raw_grouped_swiglu_64x64_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 x_t;
    typedef bf16 gate_t;
    typedef bf16 up_t;
    typedef u32 offsets_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[20480];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = false ? DEPTH : ROWS, A_COLS = false ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = false ? DEPTH : COLS, B_COLS = false ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    
    constexpr i32 WIDE = COLS / 2;
    const i32 across = (i32)((args.y_dims[1] + WIDE - 1) / WIDE), groups = (i32)args.offsets_len - 1;
    const i64 tile = block_index / across, all = args.y_dims[0], left = (i64)(block_index % across) * WIDE;
    i32 begun = 0;
    for (i32 e = lane; e <= groups; e += 32) {
        begun += e == 0 || offsets[e] / ROWS + e <= tile ? 1 : 0;
    }
    const i32 group = warp_sum(begun) - 1;
    const i64 first = group == 0 ? 0 : (i64)offsets[group];
    const i64 after = group < groups ? (i64)offsets[group + 1] : all, end = after < all ? after : all;
    const i64 top = first + (tile - first / ROWS - group) * ROWS;
    if (top >= end) {
        return;
    }
    const i32 depth = group < groups ? (i32)args.x_dims[1] : 0;
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
    const i64 of_group = group * args.y_dims[1] * depth;
    u32 b_from[B_TURNS];
    #pragma unroll
    for (i32 t = 0; t < B_TURNS; t++) {
        const i64 row = left + b_row + t * B_STEP % WIDE;
        b_from[t] = (u32)(row < args.y_dims[1] ? row : 0);
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
            threadgroup y_t* b = a + A_ROWS * A_PITCH;
            #pragma unroll
            for (i32 t = 0; t < B_TURNS; t++) {
                threadgroup y_t* to = b + (b_row * B_PITCH + b_col) + t * B_STEP * B_PITCH;
                const i32 r = t * B_STEP;
                copy_async(to, (r < WIDE ? gate : up) + of_group + (from + b_col) + (u64)b_from[t] * (u32)depth, from + b_col < depth);
            }
        }
        copy_commit();
        
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
        
    }
    #pragma unroll
    for (i32 i = 0; i < M; i++) {
        #pragma unroll
        for (i32 j = 0; j < N / 2; j++) {
            #pragma unroll
            for (i32 e = 0; e < 8; e += 2) {
                const i32 r = warp_row + i * 16 + fragment_row(e, lane);
                const i32 c = j / (N / 2) * (COLS / 2) + warp_col + j % (N / 2) * 16 + fragment_col(e, lane);
                const f32 low = element(sums[i][j], e), high = element(sums[i][j], e + 1);
                if (top + r < end && left + c < args.y_dims[1]) {
                    const f32 up_low = element(sums[i][j + N / 2], e), up_high = element(sums[i][j + N / 2], e + 1);
                    const f32 h_low = low * sigmoid(low) * up_low, h_high = high * sigmoid(high) * up_high;
                    const u32 pair = pair_of<y_t>(h_low, h_high);
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


struct raw_grouped_matmul_64x64_args {
    i64 x_len;
    i64 x_dims[2];
    i64 w_len;
    i64 w_dims[3];
    i64 offsets_len;
    i64 offsets_dims[1];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_grouped_matmul_64x64(device const bf16* x [[buffer(0)]],
    device const bf16* w [[buffer(1)]],
    device const u32* offsets [[buffer(2)]],
    device bf16* y [[buffer(3)]],
    constant raw_grouped_matmul_64x64_args& args [[buffer(4)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 x_t;
    typedef bf16 w_t;
    typedef u32 offsets_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[20480];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = false ? DEPTH : ROWS, A_COLS = false ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = false ? DEPTH : COLS, B_COLS = false ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    
    constexpr i32 WIDE = COLS / 1;
    const i32 across = (i32)((args.y_dims[1] + WIDE - 1) / WIDE), groups = (i32)args.offsets_len - 1;
    const i64 tile = block_index / across, all = args.y_dims[0], left = (i64)(block_index % across) * WIDE;
    i32 begun = 0;
    for (i32 e = lane; e <= groups; e += 32) {
        begun += e == 0 || offsets[e] / ROWS + e <= tile ? 1 : 0;
    }
    const i32 group = warp_sum(begun) - 1;
    const i64 first = group == 0 ? 0 : (i64)offsets[group];
    const i64 after = group < groups ? (i64)offsets[group + 1] : all, end = after < all ? after : all;
    const i64 top = first + (tile - first / ROWS - group) * ROWS;
    if (top >= end) {
        return;
    }
    const i32 depth = group < groups ? (i32)args.x_dims[1] : 0;
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
    const i64 of_group = group * args.y_dims[1] * depth;
    u32 b_from[B_TURNS];
    #pragma unroll
    for (i32 t = 0; t < B_TURNS; t++) {
        const i64 row = left + b_row + t * B_STEP % WIDE;
        b_from[t] = (u32)(row < args.y_dims[1] ? row : 0);
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
            threadgroup y_t* b = a + A_ROWS * A_PITCH;
            #pragma unroll
            for (i32 t = 0; t < B_TURNS; t++) {
                threadgroup y_t* to = b + (b_row * B_PITCH + b_col) + t * B_STEP * B_PITCH;
                const i32 r = t * B_STEP;
                copy_async(to, w + of_group + (from + b_col) + (u64)b_from[t] * (u32)depth, from + b_col < depth);
            }
        }
        copy_commit();
        
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


struct raw_grouped_matmul_by_rows_64x64_args {
    i64 g_len;
    i64 g_dims[2];
    i64 w_len;
    i64 w_dims[3];
    i64 offsets_len;
    i64 offsets_dims[1];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_grouped_matmul_by_rows_64x64(device const bf16* g [[buffer(0)]],
    device const bf16* w [[buffer(1)]],
    device const u32* offsets [[buffer(2)]],
    device bf16* y [[buffer(3)]],
    constant raw_grouped_matmul_by_rows_64x64_args& args [[buffer(4)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 g_t;
    typedef bf16 w_t;
    typedef u32 offsets_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[19456];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = false ? DEPTH : ROWS, A_COLS = false ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = true ? DEPTH : COLS, B_COLS = true ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    
    constexpr i32 WIDE = COLS / 1;
    const i32 across = (i32)((args.y_dims[1] + WIDE - 1) / WIDE), groups = (i32)args.offsets_len - 1;
    const i64 tile = block_index / across, all = args.y_dims[0], left = (i64)(block_index % across) * WIDE;
    i32 begun = 0;
    for (i32 e = lane; e <= groups; e += 32) {
        begun += e == 0 || offsets[e] / ROWS + e <= tile ? 1 : 0;
    }
    const i32 group = warp_sum(begun) - 1;
    const i64 first = group == 0 ? 0 : (i64)offsets[group];
    const i64 after = group < groups ? (i64)offsets[group + 1] : all, end = after < all ? after : all;
    const i64 top = first + (tile - first / ROWS - group) * ROWS;
    if (top >= end) {
        return;
    }
    const i32 depth = group < groups ? (i32)args.g_dims[1] : 0;
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
    const i64 of_b = (i64)group * depth * args.y_dims[1] + (left + b_col < args.y_dims[1] ? left + b_col : 0);
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
                copy_async(to, g + (from + a_col) + (u64)a_from[t] * (u32)depth, a_from[t] != none && from + a_col < depth);
            }
            threadgroup y_t* b = a + A_ROWS * A_PITCH;
            #pragma unroll
            for (i32 t = 0; t < B_TURNS; t++) {
                threadgroup y_t* to = b + (b_row * B_PITCH + b_col) + t * B_STEP * B_PITCH;
                const i32 row = from + b_row + t * B_STEP;
                copy_async(to, w + of_b + row * args.y_dims[1], row < depth);
            }
        }
        copy_commit();
        
        if (step >= 0) {
            threadgroup const y_t* stage = tiles + step % STAGES * STAGE;
            threadgroup const y_t* a = stage + warp_row * (false ? 1 : A_PITCH);
            threadgroup const y_t* b = stage + A_ROWS * A_PITCH + warp_col * (true ? 1 : B_PITCH);
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
                    of_b[j] = load_b<true>(b, true ? k * B_PITCH + col : col * B_PITCH + k, B_PITCH, lane);
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


struct raw_grouped_matmul_by_matrices_64x64_args {
    i64 g_len;
    i64 g_dims[2];
    i64 x_len;
    i64 x_dims[2];
    i64 offsets_len;
    i64 offsets_dims[1];
    i64 y_len;
    i64 y_dims[3];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_grouped_matmul_by_matrices_64x64(device const bf16* g [[buffer(0)]],
    device const bf16* x [[buffer(1)]],
    device const u32* offsets [[buffer(2)]],
    device bf16* y [[buffer(3)]],
    constant raw_grouped_matmul_by_matrices_64x64_args& args [[buffer(4)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 g_t;
    typedef bf16 x_t;
    typedef u32 offsets_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[18432];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = true ? DEPTH : ROWS, A_COLS = true ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = true ? DEPTH : COLS, B_COLS = true ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    const i64 n = args.y_dims[1], k = args.y_dims[2], all = args.g_dims[0];
    const i32 down = (i32)((n + ROWS - 1) / ROWS), across = (i32)((k + COLS - 1) / COLS);
    const i64 group = block_index / (down * across);
    const i64 top = (i64)(block_index / across % down) * ROWS, left = (i64)(block_index % across) * COLS;
    const i64 first = group == 0 ? 0 : (i64)offsets[group], after = (i64)offsets[group + 1];
    const i64 end = after < all ? after : all;
    const i32 depth = end > first ? (i32)(end - first) : 0;
    // a thread copies chunks of one column
    constexpr i32 A_STEP = THREADS * 8 / A_COLS, A_TURNS = A_ROWS / A_STEP, B_STEP = THREADS * 8 / B_COLS, B_TURNS = B_ROWS / B_STEP;
    const i32 a_row = thread_index / (A_COLS / 8), a_col = thread_index % (A_COLS / 8) * 8;
    const i32 b_row = thread_index / (B_COLS / 8), b_col = thread_index % (B_COLS / 8) * 8;
    const i64 of_a = first * n + (top + a_col < n ? top + a_col : 0);
    const i64 of_b = left + b_col < k ? left + b_col : 0;
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
                const i32 row = from + a_row + t * A_STEP;
                copy_async(to, g + of_a + row * n, row < depth);
            }
            threadgroup y_t* b = a + A_ROWS * A_PITCH;
            #pragma unroll
            for (i32 t = 0; t < B_TURNS; t++) {
                threadgroup y_t* to = b + (b_row * B_PITCH + b_col) + t * B_STEP * B_PITCH;
                const i32 step_of = from + b_row + t * B_STEP;
                const i64 row = step_of < depth ? (i64)first + step_of : 0;
                copy_async(to, x + of_b + row * k, step_of < depth && row < args.x_dims[0]);
            }
        }
        copy_commit();
        
        if (step >= 0) {
            threadgroup const y_t* stage = tiles + step % STAGES * STAGE;
            threadgroup const y_t* a = stage + warp_row * (true ? 1 : A_PITCH);
            threadgroup const y_t* b = stage + A_ROWS * A_PITCH + warp_col * (true ? 1 : B_PITCH);
            #pragma unroll
            for (i32 k = 0; k < DEPTH; k += 16) {
                fragment_a<y_t> of_a[M];
                fragment_b<y_t> of_b[N];
                #pragma unroll
                for (i32 i = 0; i < M; i++) {
                    of_a[i] = load_a<true>(a, true ? k * A_PITCH + i * 16 : i * 16 * A_PITCH + k, A_PITCH, lane);
                }
                #pragma unroll
                for (i32 j = 0; j < N; j++) {
                    const i32 col = j / (N / 2) * (COLS / 2) + j % (N / 2) * 16;
                    of_b[j] = load_b<true>(b, true ? k * B_PITCH + col : col * B_PITCH + k, B_PITCH, lane);
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
                if (top + r < n && left + c < k) {
                    *(device u32*)(y + (group * n + top + r) * k + left + c) = pair_of<y_t>(low, high);
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


struct raw_grouped_swiglu_by_index_64x64_args {
    i64 x_len;
    i64 x_dims[2];
    i64 index_len;
    i64 index_dims[1];
    i64 gate_len;
    i64 gate_dims[3];
    i64 up_len;
    i64 up_dims[3];
    i64 offsets_len;
    i64 offsets_dims[1];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_grouped_swiglu_by_index_64x64(device const bf16* x [[buffer(0)]],
    device const u32* index [[buffer(1)]],
    device const bf16* gate [[buffer(2)]],
    device const bf16* up [[buffer(3)]],
    device const u32* offsets [[buffer(4)]],
    device bf16* y [[buffer(5)]],
    constant raw_grouped_swiglu_by_index_64x64_args& args [[buffer(6)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 x_t;
    typedef u32 index_t;
    typedef bf16 gate_t;
    typedef bf16 up_t;
    typedef u32 offsets_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[20480];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = false ? DEPTH : ROWS, A_COLS = false ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = false ? DEPTH : COLS, B_COLS = false ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    
    constexpr i32 WIDE = COLS / 2;
    const i32 across = (i32)((args.y_dims[1] + WIDE - 1) / WIDE), groups = (i32)args.offsets_len - 1;
    const i64 tile = block_index / across, all = args.y_dims[0], left = (i64)(block_index % across) * WIDE;
    i32 begun = 0;
    for (i32 e = lane; e <= groups; e += 32) {
        begun += e == 0 || offsets[e] / ROWS + e <= tile ? 1 : 0;
    }
    const i32 group = warp_sum(begun) - 1;
    const i64 first = group == 0 ? 0 : (i64)offsets[group];
    const i64 after = group < groups ? (i64)offsets[group + 1] : all, end = after < all ? after : all;
    const i64 top = first + (tile - first / ROWS - group) * ROWS;
    if (top >= end) {
        return;
    }
    const i32 depth = group < groups ? (i32)args.x_dims[1] : 0;
    shared_array(i32, rows_of, 64);
    for (i32 i = thread_index; i < ROWS; i += THREADS) {
        rows_of[i] = top + i < end ? ((i64)index[top + i] < args.x_dims[0] ? (i32)index[top + i] : -2) : -1;
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
    const i64 of_group = group * args.y_dims[1] * depth;
    u32 b_from[B_TURNS];
    #pragma unroll
    for (i32 t = 0; t < B_TURNS; t++) {
        const i64 row = left + b_row + t * B_STEP % WIDE;
        b_from[t] = (u32)(row < args.y_dims[1] ? row : 0);
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
            threadgroup y_t* b = a + A_ROWS * A_PITCH;
            #pragma unroll
            for (i32 t = 0; t < B_TURNS; t++) {
                threadgroup y_t* to = b + (b_row * B_PITCH + b_col) + t * B_STEP * B_PITCH;
                const i32 r = t * B_STEP;
                copy_async(to, (r < WIDE ? gate : up) + of_group + (from + b_col) + (u64)b_from[t] * (u32)depth, from + b_col < depth);
            }
        }
        copy_commit();
        
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
        
    }
    #pragma unroll
    for (i32 i = 0; i < M; i++) {
        #pragma unroll
        for (i32 j = 0; j < N / 2; j++) {
            #pragma unroll
            for (i32 e = 0; e < 8; e += 2) {
                const i32 r = warp_row + i * 16 + fragment_row(e, lane);
                const i32 c = j / (N / 2) * (COLS / 2) + warp_col + j % (N / 2) * 16 + fragment_col(e, lane);
                const f32 low = element(sums[i][j], e), high = element(sums[i][j], e + 1);
                if (top + r < end && left + c < args.y_dims[1]) {
                    const f32 up_low = element(sums[i][j + N / 2], e), up_high = element(sums[i][j + N / 2], e + 1);
                    const f32 h_low = low * sigmoid(low) * up_low, h_high = high * sigmoid(high) * up_high;
                    const u32 pair = pair_of<y_t>(h_low, h_high);
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


struct raw_grouped_matmul_by_index_64x64_args {
    i64 x_len;
    i64 x_dims[2];
    i64 index_len;
    i64 index_dims[1];
    i64 w_len;
    i64 w_dims[3];
    i64 offsets_len;
    i64 offsets_dims[1];
    i64 y_len;
    i64 y_dims[2];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_grouped_matmul_by_index_64x64(device const bf16* x [[buffer(0)]],
    device const u32* index [[buffer(1)]],
    device const bf16* w [[buffer(2)]],
    device const u32* offsets [[buffer(3)]],
    device bf16* y [[buffer(4)]],
    constant raw_grouped_matmul_by_index_64x64_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 x_t;
    typedef u32 index_t;
    typedef bf16 w_t;
    typedef u32 offsets_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[20480];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = false ? DEPTH : ROWS, A_COLS = false ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = false ? DEPTH : COLS, B_COLS = false ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    
    constexpr i32 WIDE = COLS / 1;
    const i32 across = (i32)((args.y_dims[1] + WIDE - 1) / WIDE), groups = (i32)args.offsets_len - 1;
    const i64 tile = block_index / across, all = args.y_dims[0], left = (i64)(block_index % across) * WIDE;
    i32 begun = 0;
    for (i32 e = lane; e <= groups; e += 32) {
        begun += e == 0 || offsets[e] / ROWS + e <= tile ? 1 : 0;
    }
    const i32 group = warp_sum(begun) - 1;
    const i64 first = group == 0 ? 0 : (i64)offsets[group];
    const i64 after = group < groups ? (i64)offsets[group + 1] : all, end = after < all ? after : all;
    const i64 top = first + (tile - first / ROWS - group) * ROWS;
    if (top >= end) {
        return;
    }
    const i32 depth = group < groups ? (i32)args.x_dims[1] : 0;
    shared_array(i32, rows_of, 64);
    for (i32 i = thread_index; i < ROWS; i += THREADS) {
        rows_of[i] = top + i < end ? ((i64)index[top + i] < args.x_dims[0] ? (i32)index[top + i] : -2) : -1;
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
    const i64 of_group = group * args.y_dims[1] * depth;
    u32 b_from[B_TURNS];
    #pragma unroll
    for (i32 t = 0; t < B_TURNS; t++) {
        const i64 row = left + b_row + t * B_STEP % WIDE;
        b_from[t] = (u32)(row < args.y_dims[1] ? row : 0);
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
            threadgroup y_t* b = a + A_ROWS * A_PITCH;
            #pragma unroll
            for (i32 t = 0; t < B_TURNS; t++) {
                threadgroup y_t* to = b + (b_row * B_PITCH + b_col) + t * B_STEP * B_PITCH;
                const i32 r = t * B_STEP;
                copy_async(to, w + of_group + (from + b_col) + (u64)b_from[t] * (u32)depth, from + b_col < depth);
            }
        }
        copy_commit();
        
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


struct raw_grouped_matmul_by_matrices_by_index_64x64_args {
    i64 g_len;
    i64 g_dims[2];
    i64 x_len;
    i64 x_dims[2];
    i64 index_len;
    i64 index_dims[1];
    i64 offsets_len;
    i64 offsets_dims[1];
    i64 y_len;
    i64 y_dims[3];
};

[[max_total_threads_per_threadgroup(64)]]
kernel void raw_grouped_matmul_by_matrices_by_index_64x64(device const bf16* g [[buffer(0)]],
    device const bf16* x [[buffer(1)]],
    device const u32* index [[buffer(2)]],
    device const u32* offsets [[buffer(3)]],
    device bf16* y [[buffer(4)]],
    constant raw_grouped_matmul_by_matrices_by_index_64x64_args& args [[buffer(5)]],
    uint3 thread_of_group [[thread_position_in_threadgroup]],
    uint3 threads_of_group [[threads_per_threadgroup]],
    uint3 group_of_grid [[threadgroup_position_in_grid]],
    uint3 groups_of_grid [[threadgroups_per_grid]]) {
const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
    typedef bf16 g_t;
    typedef bf16 x_t;
    typedef u32 index_t;
    typedef u32 offsets_t;
    typedef bf16 y_t;
    alignas(16) threadgroup u8 memory[18432];

    constexpr i32 ROWS = 64, COLS = 64, DEPTH = 32, STAGES = 2, THREADS = 64;
    constexpr i32 WARP_ROWS = ROWS / 2, WARP_COLS = COLS / 1, M = WARP_ROWS / 16, N = WARP_COLS / 16;
    constexpr i32 A_ROWS = true ? DEPTH : ROWS, A_COLS = true ? ROWS : DEPTH, A_PITCH = A_COLS + 8;
    constexpr i32 B_ROWS = true ? DEPTH : COLS, B_COLS = true ? COLS : DEPTH, B_PITCH = B_COLS + 8;
    constexpr i32 STAGE = A_ROWS * A_PITCH + B_ROWS * B_PITCH;
    threadgroup y_t* tiles = (threadgroup y_t*)memory;
    const i64 n = args.y_dims[1], k = args.y_dims[2], all = args.g_dims[0];
    const i32 down = (i32)((n + ROWS - 1) / ROWS), across = (i32)((k + COLS - 1) / COLS);
    const i64 group = block_index / (down * across);
    const i64 top = (i64)(block_index / across % down) * ROWS, left = (i64)(block_index % across) * COLS;
    const i64 first = group == 0 ? 0 : (i64)offsets[group], after = (i64)offsets[group + 1];
    const i64 end = after < all ? after : all;
    const i32 depth = end > first ? (i32)(end - first) : 0;
    // a thread copies chunks of one column
    constexpr i32 A_STEP = THREADS * 8 / A_COLS, A_TURNS = A_ROWS / A_STEP, B_STEP = THREADS * 8 / B_COLS, B_TURNS = B_ROWS / B_STEP;
    const i32 a_row = thread_index / (A_COLS / 8), a_col = thread_index % (A_COLS / 8) * 8;
    const i32 b_row = thread_index / (B_COLS / 8), b_col = thread_index % (B_COLS / 8) * 8;
    const i64 of_a = first * n + (top + a_col < n ? top + a_col : 0);
    const i64 of_b = left + b_col < k ? left + b_col : 0;
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
                const i32 row = from + a_row + t * A_STEP;
                copy_async(to, g + of_a + row * n, row < depth);
            }
            threadgroup y_t* b = a + A_ROWS * A_PITCH;
            #pragma unroll
            for (i32 t = 0; t < B_TURNS; t++) {
                threadgroup y_t* to = b + (b_row * B_PITCH + b_col) + t * B_STEP * B_PITCH;
                const i32 step_of = from + b_row + t * B_STEP;
                const i64 row = step_of < depth ? (i64)index[first + step_of] : 0;
                copy_async(to, x + of_b + row * k, step_of < depth && row < args.x_dims[0]);
            }
        }
        copy_commit();
        
        if (step >= 0) {
            threadgroup const y_t* stage = tiles + step % STAGES * STAGE;
            threadgroup const y_t* a = stage + warp_row * (true ? 1 : A_PITCH);
            threadgroup const y_t* b = stage + A_ROWS * A_PITCH + warp_col * (true ? 1 : B_PITCH);
            #pragma unroll
            for (i32 k = 0; k < DEPTH; k += 16) {
                fragment_a<y_t> of_a[M];
                fragment_b<y_t> of_b[N];
                #pragma unroll
                for (i32 i = 0; i < M; i++) {
                    of_a[i] = load_a<true>(a, true ? k * A_PITCH + i * 16 : i * 16 * A_PITCH + k, A_PITCH, lane);
                }
                #pragma unroll
                for (i32 j = 0; j < N; j++) {
                    const i32 col = j / (N / 2) * (COLS / 2) + j % (N / 2) * 16;
                    of_b[j] = load_b<true>(b, true ? k * B_PITCH + col : col * B_PITCH + k, B_PITCH, lane);
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
                if (top + r < n && left + c < k) {
                    *(device u32*)(y + (group * n + top + r) * k + left + c) = pair_of<y_t>(low, high);
                }
            }
        }
    }
}
