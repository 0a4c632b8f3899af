#include <metal_stdlib>
using namespace metal;

static inline float bf16_to_f32(ushort x) {
    return as_type<float>((uint)x << 16);
}

static inline ushort f32_to_bf16(float x) {
    const uint u = as_type<uint>(x);
    if (x != x) {
        return (ushort)((u >> 16) | 64);
    }
    return (ushort)((u + 32767 + ((u >> 16) & 1)) >> 16);
}

static inline uint pack_bf16(float low, float high) {
    return (uint)f32_to_bf16(low) | (uint)f32_to_bf16(high) << 16;
}

static inline int min_i32(int a, int b) {
    return a <= b ? a : b;
}

static inline float mulz_f32(float a, float b) {
    return a == 0.0f ? 0.0f : a * b;
}

static inline float half_bf16(uint w, int i) {
    return as_type<float>(i != 0 ? w & 4294901760u : w << 16);
}

static inline uint put_bf16(uint w, int i, float x) {
    const uint bits = f32_to_bf16(x);
    return i != 0 ? (w & 65535u) | (bits << 16) : (w & 4294901760u) | bits;
}

// a block of Philox4x32-7
static inline void philox(long seed, long block, thread uint* w) {
    uint c0 = (uint)block, c1 = (uint)(block >> 32), c2 = 0, c3 = 0;
    uint k0 = (uint)seed, k1 = (uint)((ulong)seed >> 32);
#pragma unroll
    for (int round = 0; round < 7; round++) {
        const ulong p0 = (ulong)0xD2511F53u * c0, p1 = (ulong)0xCD9E8D57u * c2;
        c0 = (uint)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint)p1;
        c2 = (uint)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0;
    w[1] = c1;
    w[2] = c2;
    w[3] = c3;
}

static inline void rand_units(long seed, long index, thread float* v) {
    uint w[8];
    philox(seed, index >> 2, w);
    if ((index & 3) != 0) {
        philox(seed, (index >> 2) + 1, &w[4]);
        if ((index & 1) != 0) {
#pragma unroll
            for (int i = 0; i < 7; i++) {
                w[i] = w[i + 1];
            }
        }
        if ((index & 2) != 0) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                w[i] = w[i + 2];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = (float)(w[i] >> 8) * 5.9604645e-8f;
    }
}

static inline void load_bf16x8(device const ushort* p, thread float* v) {
    const uint4 t = *(device const uint4*)p;
    const uint w[4] = {t.x, t.y, t.z, t.w};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        v[i] = bf16_to_f32((ushort)(w[i / 2] >> (16 * (i % 2))));
    }
}

static inline void load_f32x4(device const float* p, thread float* v) {
    const float4 t = *(device const float4*)p;
    v[0] = t.x;
    v[1] = t.y;
    v[2] = t.z;
    v[3] = t.w;
}

static inline void store_bf16x8(device ushort* p, const thread float* v) {
    uint w[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        w[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
    }
    uint4 t;
    t.x = w[0];
    t.y = w[1];
    t.z = w[2];
    t.w = w[3];
    *(device uint4*)p = t;
}

static inline void store_f32x4(device float* p, const thread float* v) {
    float4 t;
    t.x = v[0];
    t.y = v[1];
    t.z = v[2];
    t.w = v[3];
    *(device float4*)p = t;
}

static inline void copy_bf16x8(device const ushort* p, thread uint* w) {
    const uint4 t = *(device const uint4*)p;
    w[0] = t.x;
    w[1] = t.y;
    w[2] = t.z;
    w[3] = t.w;
}

struct zmlx_layer_norm_dropout_f32_args {
    float eps;
    float p;
    long seed;
    int cols;
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int w_shift;
    int w_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_layer_norm_dropout_f32(device const float* x [[buffer(0)]],
    device const float* w [[buffer(1)]],
    device const float* b [[buffer(2)]],
    device float* out [[buffer(3)]],
    constant zmlx_layer_norm_dropout_f32_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_7_of_warp[8];
    threadgroup float sum_13_of_warp[8];
    const long cols = (long)args.cols;
    const float f32_9 = (float)cols;
    const float sub_22 = 1.0f - args.p;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const bool w_vectors = (((args.w_shift - shift) & 3) == 0) && (args.w_col == 1);
        const bool b_vectors = (((args.b_shift - shift) & 3) == 0) && (args.b_col == 1);
        const int lane = tid;
        float x_held[16];
        if (((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && x_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 256)) * 4) - shift;
                const bool full = (0 <= col) && ((col + 4) <= args.cols);
                if (full && x_vectors) {
                    load_f32x4(&x[x_row + col], &x_held[c * 4]);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        x_held[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : 0.0f;
                    }
                }
            }
        }
        float sum_7 = 0.0f;
        bool v_21_held[16];
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float rand_20[4];
            rand_units(args.seed, (((long)base) * ((long)args.cols)) + ((long)col_3), &rand_20[0]);
            float term_0[4];
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                v_21_held[(c_3 * 4) + i_2] = rand_20[i_2] < args.p;
                term_0[i_2] = x_held[(c_3 * 4) + i_2];
            }
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    sum_7 = sum_7 + term_0[i_3];
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    sum_7 = sum_7 + (inside ? term_0[i_4] : 0.0f);
                }
            }
        }
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)16);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)8);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)4);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)2);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_7_of_warp[warp] = sum_7;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_7 = sum_7_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_7 = sum_7 + sum_7_of_warp[w_2];
        }
        const float div_10 = sum_7 / f32_9;
        float sum_13 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            if (full_3) {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const float sub_11 = x_held[(c_4 * 4) + i_5] - div_10;
                    sum_13 = sum_13 + (sub_11 * sub_11);
                }
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 4; i_6++) {
                    const float sub_11_2 = x_held[(c_4 * 4) + i_6] - div_10;
                    const bool inside_2 = (0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols);
                    sum_13 = sum_13 + (inside_2 ? (sub_11_2 * sub_11_2) : 0.0f);
                }
            }
        }
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)16);
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)8);
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)4);
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)2);
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_13_of_warp[warp_2] = sum_13;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_13 = sum_13_of_warp[0];
#pragma unroll
        for (int w_3 = 1; w_3 < 8; w_3++) {
            sum_13 = sum_13 + sum_13_of_warp[w_3];
        }
        const float div_14 = sum_13 / f32_9;
        const float add_15 = args.eps + div_14;
        const float rsqrt_16 = metal::precise::rsqrt(add_15);
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = ((lane + (c_5 * 256)) * 4) - shift;
            const bool full_4 = (0 <= col_5) && ((col_5 + 4) <= args.cols);
            float w_chunk[4];
            float b_chunk[4];
            if (full_4 && w_vectors) {
                load_f32x4(&w[col_5], &w_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    w_chunk[i_7] = ((0 <= (col_5 + i_7)) && ((col_5 + i_7) < args.cols)) ? w[(col_5 + i_7) * args.w_col] : 0.0f;
                }
            }
            if (full_4 && b_vectors) {
                load_f32x4(&b[col_5], &b_chunk[0]);
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    b_chunk[i_8] = ((0 <= (col_5 + i_8)) && ((col_5 + i_8) < args.cols)) ? b[(col_5 + i_8) * args.b_col] : 0.0f;
                }
            }
            float out_chunk[4];
#pragma unroll
            for (int i_9 = 0; i_9 < 4; i_9++) {
                const float mul_18 = w_chunk[i_9] * ((x_held[(c_5 * 4) + i_9] - div_10) * rsqrt_16);
                const float div_23 = (b_chunk[i_9] + mul_18) / sub_22;
                out_chunk[i_9] = v_21_held[(c_5 * 4) + i_9] ? 0.0f : div_23;
            }
            if (full_4) {
                store_f32x4(&out[out_row + col_5], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    if ((0 <= (col_5 + i_10)) && ((col_5 + i_10) < args.cols)) {
                        out[out_row + (col_5 + i_10)] = out_chunk[i_10];
                    }
                }
            }
        }
    }
}

struct zmlx_layer_norm_dropout_bf16_args {
    float eps;
    float p;
    long seed;
    int cols;
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int w_shift;
    int w_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_layer_norm_dropout_bf16(device const ushort* x [[buffer(0)]],
    device const ushort* w [[buffer(1)]],
    device const ushort* b [[buffer(2)]],
    device ushort* out [[buffer(3)]],
    constant zmlx_layer_norm_dropout_bf16_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_7_of_warp[4];
    threadgroup float sum_13_of_warp[4];
    const long cols = (long)args.cols;
    const float f32_9 = (float)cols;
    const float sub_22 = 1.0f - args.p;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 7;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 7) == 0) && (args.x_col == 1);
        const bool w_vectors = (((args.w_shift - shift) & 7) == 0) && (args.w_col == 1);
        const bool b_vectors = (((args.b_shift - shift) & 7) == 0) && (args.b_col == 1);
        const int lane = tid;
        uint x_held[16];
        if (((0 <= ((lane * 8) - shift)) && ((((lane * 8) - shift) + 3080) <= args.cols)) && x_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 8) - shift;
                copy_bf16x8(&x[x_row + col_2], &x_held[(c_2 * 8) / 2]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 128)) * 8) - shift;
                const bool full = (0 <= col) && ((col + 8) <= args.cols);
                if (full && x_vectors) {
                    copy_bf16x8(&x[x_row + col], &x_held[(c * 8) / 2]);
                } else {
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        x_held[((c * 8) + i) / 2] = put_bf16(x_held[((c * 8) + i) / 2], ((c * 8) + i) & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(x[x_row + ((col + i) * args.x_col)]) : 0.0f);
                    }
                }
            }
        }
        float sum_7 = 0.0f;
        bool v_21_held[32];
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            float rand_20[8];
            rand_units(args.seed, (((long)base) * ((long)args.cols)) + ((long)col_3), &rand_20[0]);
            rand_units(args.seed, (((long)base) * ((long)args.cols)) + ((long)(col_3 + 4)), &rand_20[4]);
            float term_0[8];
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                v_21_held[(c_3 * 8) + i_2] = rand_20[i_2] < args.p;
                term_0[i_2] = half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1);
            }
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    sum_7 = sum_7 + term_0[i_3];
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    sum_7 = sum_7 + (inside ? term_0[i_4] : 0.0f);
                }
            }
        }
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)16);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)8);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)4);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)2);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_7_of_warp[warp] = sum_7;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_7 = sum_7_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 4; w_2++) {
            sum_7 = sum_7 + sum_7_of_warp[w_2];
        }
        const float div_10 = sum_7 / f32_9;
        float sum_13 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            if (full_3) {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    const float sub_11 = half_bf16(x_held[((c_4 * 8) + i_5) / 2], ((c_4 * 8) + i_5) & 1) - div_10;
                    sum_13 = sum_13 + (sub_11 * sub_11);
                }
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 8; i_6++) {
                    const float sub_11_2 = half_bf16(x_held[((c_4 * 8) + i_6) / 2], ((c_4 * 8) + i_6) & 1) - div_10;
                    const bool inside_2 = (0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols);
                    sum_13 = sum_13 + (inside_2 ? (sub_11_2 * sub_11_2) : 0.0f);
                }
            }
        }
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)16);
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)8);
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)4);
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)2);
        sum_13 = sum_13 + simd_shuffle_xor(sum_13, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_13_of_warp[warp_2] = sum_13;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_13 = sum_13_of_warp[0];
#pragma unroll
        for (int w_3 = 1; w_3 < 4; w_3++) {
            sum_13 = sum_13 + sum_13_of_warp[w_3];
        }
        const float div_14 = sum_13 / f32_9;
        const float add_15 = args.eps + div_14;
        const float rsqrt_16 = metal::precise::rsqrt(add_15);
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = ((lane + (c_5 * 128)) * 8) - shift;
            const bool full_4 = (0 <= col_5) && ((col_5 + 8) <= args.cols);
            float w_chunk[8];
            float b_chunk[8];
            if (full_4 && w_vectors) {
                load_bf16x8(&w[col_5], &w_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 8; i_7++) {
                    w_chunk[i_7] = ((0 <= (col_5 + i_7)) && ((col_5 + i_7) < args.cols)) ? bf16_to_f32(w[(col_5 + i_7) * args.w_col]) : 0.0f;
                }
            }
            if (full_4 && b_vectors) {
                load_bf16x8(&b[col_5], &b_chunk[0]);
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 8; i_8++) {
                    b_chunk[i_8] = ((0 <= (col_5 + i_8)) && ((col_5 + i_8) < args.cols)) ? bf16_to_f32(b[(col_5 + i_8) * args.b_col]) : 0.0f;
                }
            }
            float out_chunk[8];
#pragma unroll
            for (int i_9 = 0; i_9 < 8; i_9++) {
                const float mul_18 = w_chunk[i_9] * ((half_bf16(x_held[((c_5 * 8) + i_9) / 2], ((c_5 * 8) + i_9) & 1) - div_10) * rsqrt_16);
                const float div_23 = (b_chunk[i_9] + mul_18) / sub_22;
                out_chunk[i_9] = v_21_held[(c_5 * 8) + i_9] ? 0.0f : div_23;
            }
            if (full_4) {
                store_bf16x8(&out[out_row + col_5], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 8; i_10++) {
                    if ((0 <= (col_5 + i_10)) && ((col_5 + i_10) < args.cols)) {
                        out[out_row + (col_5 + i_10)] = f32_to_bf16(out_chunk[i_10]);
                    }
                }
            }
        }
    }
}

struct zmlx_layer_norm_dropout_vjp_f32_args {
    float eps;
    float p;
    long seed;
    int cols;
    int w_shift;
    int w_col;
    int rows;
    int x_row_stride_0;
    int g_out_row_stride_0;
    int x_shift;
    int x_col;
    int g_out_shift;
    int g_out_col;
    int pitch;
};

[[max_total_threads_per_threadgroup(512)]]
kernel void zmlx_layer_norm_dropout_vjp_f32(device const float* x [[buffer(0)]],
    device const float* w [[buffer(1)]],
    device const float* g_out [[buffer(2)]],
    device float* d_x [[buffer(3)]],
    device float* parts_25 [[buffer(4)]],
    device float* parts_30 [[buffer(5)]],
    constant zmlx_layer_norm_dropout_vjp_f32_args& args [[buffer(6)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_7_of_warp[16];
    threadgroup float sum_14_of_warp[16];
    threadgroup float sum_33_of_warp[16];
    threadgroup float sum_43_of_warp[16];
    threadgroup float meeting[2048];
    const long cols = (long)args.cols;
    const float f32_9 = (float)cols;
    const float recip_10 = 1.0f / f32_9;
    const float sub_20 = 1.0f - args.p;
    const float recip_21 = 1.0f / sub_20;
    const int lane = tid & 255;
    const int sub = tid / 256;
    float sum_25[16];
#pragma unroll
    for (int i = 0; i < 16; i++) {
        sum_25[i] = 0.0f;
    }
    float sum_30[16];
#pragma unroll
    for (int i_2 = 0; i_2 < 16; i_2++) {
        sum_30[i_2] = 0.0f;
    }
    float w_held[16];
    const bool w_vectors = ((args.w_shift & 3) == 0) && (args.w_col == 1);
#pragma unroll
    for (int c = 0; c < 4; c++) {
        const int col = (lane + (c * 256)) * 4;
        const bool full = (col + 4) <= args.cols;
        if (full && w_vectors) {
            load_f32x4(&w[col], &w_held[c * 4]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                w_held[(c * 4) + i_3] = ((col + i_3) < args.cols) ? w[(col + i_3) * args.w_col] : 0.0f;
            }
        }
    }
    for (int base = bid * 2; base < args.rows; base += blocks * 2) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int x_row = row_2 * args.x_row_stride_0;
        const int g_out_row = row_2 * args.g_out_row_stride_0;
        const int d_x_row = row_2 * args.cols;
        const bool x_vectors = (((x_row + args.x_shift) & 3) == 0) && (args.x_col == 1);
        const bool g_out_vectors = (((g_out_row + args.g_out_shift) & 3) == 0) && (args.g_out_col == 1);
        const bool d_x_vectors = (d_x_row & 3) == 0;
        const int lane_2 = lane;
        float x_held[16];
        float g_out_held[16];
        if (((((lane_2 * 4) + 3076) <= args.cols) && x_vectors) && g_out_vectors) {
#pragma unroll
            for (int c_3 = 0; c_3 < 4; c_3++) {
                const int col_3 = (lane_2 + (c_3 * 256)) * 4;
                load_f32x4(&x[x_row + col_3], &x_held[c_3 * 4]);
                load_f32x4(&g_out[g_out_row + col_3], &g_out_held[c_3 * 4]);
            }
        } else {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = (lane_2 + (c_2 * 256)) * 4;
                const bool full_2 = (col_2 + 4) <= args.cols;
                if (full_2 && x_vectors) {
                    load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        x_held[(c_2 * 4) + i_4] = ((col_2 + i_4) < args.cols) ? x[x_row + ((col_2 + i_4) * args.x_col)] : 0.0f;
                    }
                }
                if (full_2 && g_out_vectors) {
                    load_f32x4(&g_out[g_out_row + col_2], &g_out_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 4; i_5++) {
                        g_out_held[(c_2 * 4) + i_5] = ((col_2 + i_5) < args.cols) ? g_out[g_out_row + ((col_2 + i_5) * args.g_out_col)] : 0.0f;
                    }
                }
            }
        }
        float sum_7 = 0.0f;
        float v_24_held[16];
        float v_29_held[16];
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = (lane_2 + (c_4 * 256)) * 4;
            const bool full_3 = (col_4 + 4) <= args.cols;
            float rand_18[4];
            rand_units(args.seed, (((long)row_2) * ((long)args.cols)) + ((long)col_4), &rand_18[0]);
            float term_0[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const float where_23 = (rand_18[i_6] < args.p) ? 0.0f : g_out_held[(c_4 * 4) + i_6];
                v_24_held[(c_4 * 4) + i_6] = mulz_f32(where_23, recip_21);
                v_29_held[(c_4 * 4) + i_6] = mulz_f32(where_23, (w_held[(c_4 * 4) + i_6] * recip_21));
                term_0[i_6] = x_held[(c_4 * 4) + i_6];
                sum_25[(c_4 * 4) + i_6] = sum_25[(c_4 * 4) + i_6] + (lives ? where_23 : 0.0f);
            }
            if (full_3) {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    sum_7 = sum_7 + term_0[i_7];
                }
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    const bool inside = (col_4 + i_8) < args.cols;
                    sum_7 = sum_7 + (inside ? term_0[i_8] : 0.0f);
                }
            }
        }
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)16);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)8);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)4);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)2);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_7_of_warp[warp] = sum_7;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int first_warp = (tid / 256) * 8;
        sum_7 = sum_7_of_warp[first_warp];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_7 = sum_7 + sum_7_of_warp[first_warp + w_2];
        }
        const float mul_11 = sum_7 * recip_10;
        float sum_14 = 0.0f;
        float sum_33 = 0.0f;
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = (lane_2 + (c_5 * 256)) * 4;
            const bool full_4 = (col_5 + 4) <= args.cols;
            if (full_4) {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    const float sub_12 = x_held[(c_5 * 4) + i_9] - mul_11;
                    sum_14 = sum_14 + (sub_12 * sub_12);
                    sum_33 = sum_33 + mulz_f32(v_29_held[(c_5 * 4) + i_9], sub_12);
                }
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    const float sub_12_2 = x_held[(c_5 * 4) + i_10] - mul_11;
                    const bool inside_2 = (col_5 + i_10) < args.cols;
                    sum_14 = sum_14 + (inside_2 ? (sub_12_2 * sub_12_2) : 0.0f);
                    sum_33 = sum_33 + (inside_2 ? mulz_f32(v_29_held[(c_5 * 4) + i_10], sub_12_2) : 0.0f);
                }
            }
        }
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)16);
        sum_33 = sum_33 + simd_shuffle_xor(sum_33, (ushort)16);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)8);
        sum_33 = sum_33 + simd_shuffle_xor(sum_33, (ushort)8);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)4);
        sum_33 = sum_33 + simd_shuffle_xor(sum_33, (ushort)4);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)2);
        sum_33 = sum_33 + simd_shuffle_xor(sum_33, (ushort)2);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)1);
        sum_33 = sum_33 + simd_shuffle_xor(sum_33, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_14_of_warp[warp_2] = sum_14;
            sum_33_of_warp[warp_2] = sum_33;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int first_warp_2 = (tid / 256) * 8;
        sum_14 = sum_14_of_warp[first_warp_2];
        sum_33 = sum_33_of_warp[first_warp_2];
#pragma unroll
        for (int w_3 = 1; w_3 < 8; w_3++) {
            sum_14 = sum_14 + sum_14_of_warp[first_warp_2 + w_3];
            sum_33 = sum_33 + sum_33_of_warp[first_warp_2 + w_3];
        }
        const float fma_15 = metal::fma(recip_10, sum_14, args.eps);
        const float rsqrt_16 = metal::precise::rsqrt(fma_15);
        const float mul_34 = rsqrt_16 * rsqrt_16;
        const float mul_35 = rsqrt_16 * mul_34;
        const float mul_37 = mul_35 * (-0.5f);
        const float mulz_38 = mulz_f32(sum_33, mul_37);
        const float mulz_39 = mulz_f32(mulz_38, recip_10);
        float sum_43 = 0.0f;
#pragma unroll
        for (int c_6 = 0; c_6 < 4; c_6++) {
            const int col_6 = (lane_2 + (c_6 * 256)) * 4;
            const bool full_5 = (col_6 + 4) <= args.cols;
            float term_42[4];
#pragma unroll
            for (int i_11 = 0; i_11 < 4; i_11++) {
                const float sub_12_3 = x_held[(c_6 * 4) + i_11] - mul_11;
                const float fma_42 = metal::fma(mulz_f32(mulz_39, sub_12_3), 2.0f, mulz_f32(v_29_held[(c_6 * 4) + i_11], rsqrt_16));
                term_42[i_11] = fma_42;
                sum_30[(c_6 * 4) + i_11] = sum_30[(c_6 * 4) + i_11] + (lives ? mulz_f32(v_24_held[(c_6 * 4) + i_11], (sub_12_3 * rsqrt_16)) : 0.0f);
            }
            if (full_5) {
#pragma unroll
                for (int i_12 = 0; i_12 < 4; i_12++) {
                    sum_43 = sum_43 + term_42[i_12];
                }
            } else {
#pragma unroll
                for (int i_13 = 0; i_13 < 4; i_13++) {
                    const bool inside_3 = (col_6 + i_13) < args.cols;
                    sum_43 = sum_43 + (inside_3 ? term_42[i_13] : 0.0f);
                }
            }
        }
        sum_43 = sum_43 + simd_shuffle_xor(sum_43, (ushort)16);
        sum_43 = sum_43 + simd_shuffle_xor(sum_43, (ushort)8);
        sum_43 = sum_43 + simd_shuffle_xor(sum_43, (ushort)4);
        sum_43 = sum_43 + simd_shuffle_xor(sum_43, (ushort)2);
        sum_43 = sum_43 + simd_shuffle_xor(sum_43, (ushort)1);
        const int warp_3 = tid / 32;
        if ((tid & 31) == 0) {
            sum_43_of_warp[warp_3] = sum_43;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int first_warp_3 = (tid / 256) * 8;
        sum_43 = sum_43_of_warp[first_warp_3];
#pragma unroll
        for (int w_4 = 1; w_4 < 8; w_4++) {
            sum_43 = sum_43 + sum_43_of_warp[first_warp_3 + w_4];
        }
        const float neg_44 = -sum_43;
        const float mulz_45 = mulz_f32(neg_44, recip_10);
#pragma unroll
        for (int c_7 = 0; c_7 < 4; c_7++) {
            const int col_7 = (lane_2 + (c_7 * 256)) * 4;
            const bool full_6 = (col_7 + 4) <= args.cols;
            float d_x_chunk[4];
#pragma unroll
            for (int i_14 = 0; i_14 < 4; i_14++) {
                const float fma_42_2 = metal::fma(mulz_f32(mulz_39, (x_held[(c_7 * 4) + i_14] - mul_11)), 2.0f, mulz_f32(v_29_held[(c_7 * 4) + i_14], rsqrt_16));
                d_x_chunk[i_14] = fma_42_2 + mulz_45;
            }
            if (lives) {
                if (full_6 && d_x_vectors) {
                    store_f32x4(&d_x[d_x_row + col_7], &d_x_chunk[0]);
                } else {
#pragma unroll
                    for (int i_15 = 0; i_15 < 4; i_15++) {
                        if ((col_7 + i_15) < args.cols) {
                            d_x[d_x_row + (col_7 + i_15)] = d_x_chunk[i_15];
                        }
                    }
                }
            }
        }
    }
#pragma unroll
    for (int c_8 = 0; c_8 < 4; c_8++) {
#pragma unroll
        for (int i_16 = 0; i_16 < 4; i_16++) {
            meeting[(i_16 * 512) + tid] = sum_25[(c_8 * 4) + i_16];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sub == 0) {
#pragma unroll
            for (int i_17 = 0; i_17 < 4; i_17++) {
                sum_25[(c_8 * 4) + i_17] = sum_25[(c_8 * 4) + i_17] + meeting[(i_17 * 512) + (tid + 256)];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
#pragma unroll
    for (int c_9 = 0; c_9 < 4; c_9++) {
#pragma unroll
        for (int i_18 = 0; i_18 < 4; i_18++) {
            meeting[(i_18 * 512) + tid] = sum_30[(c_9 * 4) + i_18];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sub == 0) {
#pragma unroll
            for (int i_19 = 0; i_19 < 4; i_19++) {
                sum_30[(c_9 * 4) + i_19] = sum_30[(c_9 * 4) + i_19] + meeting[(i_19 * 512) + (tid + 256)];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    const int part_start = bid * args.pitch;
    if (sub == 0) {
#pragma unroll
        for (int c_10 = 0; c_10 < 4; c_10++) {
            const int at = part_start + ((lane + (c_10 * 256)) * 4);
            store_f32x4(&parts_25[at], &sum_25[c_10 * 4]);
            store_f32x4(&parts_30[at], &sum_30[c_10 * 4]);
        }
    }
}

struct zmlx_layer_norm_dropout_vjp_f32_1_args {
    float p;
    int cols;
    int pitch;
    int parts;
};

[[max_total_threads_per_threadgroup(1024)]]
kernel void zmlx_layer_norm_dropout_vjp_f32_1(device float* d_w [[buffer(0)]],
    device float* d_b [[buffer(1)]],
    device const float* parts_25 [[buffer(2)]],
    device const float* parts_30 [[buffer(3)]],
    constant zmlx_layer_norm_dropout_vjp_f32_1_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    threadgroup float sum_25_of_group[1024];
    threadgroup float sum_30_of_group[1024];
    const float sub_20 = 1.0f - args.p;
    const float recip_21 = 1.0f / sub_20;
    const int lane = tid & 31;
    const int group = tid / 32;
    const int col = (bid * 32) + lane;
    const bool inside = col < args.cols;
    float sum_25 = 0.0f;
    float sum_30 = 0.0f;
    if (inside) {
        for (int part = group; part < args.parts; part += 32) {
            sum_25 = sum_25 + parts_25[(part * args.pitch) + col];
            sum_30 = sum_30 + parts_30[(part * args.pitch) + col];
        }
    }
    sum_25_of_group[tid] = sum_25;
    sum_30_of_group[tid] = sum_30;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if ((group == 0) && inside) {
#pragma unroll
        for (int g = 1; g < 32; g++) {
            sum_25 = sum_25 + sum_25_of_group[(g * 32) + lane];
        }
#pragma unroll
        for (int g_2 = 1; g_2 < 32; g_2++) {
            sum_30 = sum_30 + sum_30_of_group[(g_2 * 32) + lane];
        }
        d_w[col] = sum_30;
        d_b[col] = mulz_f32(sum_25, recip_21);
    }
}
