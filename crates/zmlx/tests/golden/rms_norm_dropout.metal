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

struct zmlx_rms_norm_dropout_f32_args {
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
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_rms_norm_dropout_f32(device const float* x [[buffer(0)]],
    device const float* w [[buffer(1)]],
    device float* out [[buffer(2)]],
    constant zmlx_rms_norm_dropout_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_7_of_warp[8];
    const long cols = (long)args.cols;
    const float f32_9 = (float)cols;
    const float sub_17 = 1.0f - args.p;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const bool w_vectors = (((args.w_shift - shift) & 3) == 0) && (args.w_col == 1);
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
        bool v_16_held[16];
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float rand_15[4];
            rand_units(args.seed, (((long)base) * ((long)args.cols)) + ((long)col_3), &rand_15[0]);
            float term_5[4];
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                const float mul_5 = x_held[(c_3 * 4) + i_2] * x_held[(c_3 * 4) + i_2];
                v_16_held[(c_3 * 4) + i_2] = rand_15[i_2] < args.p;
                term_5[i_2] = mul_5;
            }
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    sum_7 = sum_7 + term_5[i_3];
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    sum_7 = sum_7 + (inside ? term_5[i_4] : 0.0f);
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
        const float add_11 = args.eps + div_10;
        const float rsqrt_12 = metal::precise::rsqrt(add_11);
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float w_chunk[4];
            if (full_3 && w_vectors) {
                load_f32x4(&w[col_4], &w_chunk[0]);
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    w_chunk[i_5] = ((0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols)) ? w[(col_4 + i_5) * args.w_col] : 0.0f;
                }
            }
            float out_chunk[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const float mul_14 = w_chunk[i_6] * (x_held[(c_4 * 4) + i_6] * rsqrt_12);
                const float div_18 = mul_14 / sub_17;
                out_chunk[i_6] = v_16_held[(c_4 * 4) + i_6] ? 0.0f : div_18;
            }
            if (full_3) {
                store_f32x4(&out[out_row + col_4], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    if ((0 <= (col_4 + i_7)) && ((col_4 + i_7) < args.cols)) {
                        out[out_row + (col_4 + i_7)] = out_chunk[i_7];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_rms_norm_dropout_bf16_args {
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
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_rms_norm_dropout_bf16(device const ushort* x [[buffer(0)]],
    device const ushort* w [[buffer(1)]],
    device ushort* out [[buffer(2)]],
    constant zmlx_rms_norm_dropout_bf16_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_7_of_warp[4];
    const long cols = (long)args.cols;
    const float f32_9 = (float)cols;
    const float sub_17 = 1.0f - args.p;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 7;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 7) == 0) && (args.x_col == 1);
        const bool w_vectors = (((args.w_shift - shift) & 7) == 0) && (args.w_col == 1);
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
        bool v_16_held[32];
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            float rand_15[8];
            rand_units(args.seed, (((long)base) * ((long)args.cols)) + ((long)col_3), &rand_15[0]);
            rand_units(args.seed, (((long)base) * ((long)args.cols)) + ((long)(col_3 + 4)), &rand_15[4]);
            float term_5[8];
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                const float mul_5 = half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1) * half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1);
                v_16_held[(c_3 * 8) + i_2] = rand_15[i_2] < args.p;
                term_5[i_2] = mul_5;
            }
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    sum_7 = sum_7 + term_5[i_3];
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    sum_7 = sum_7 + (inside ? term_5[i_4] : 0.0f);
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
        const float add_11 = args.eps + div_10;
        const float rsqrt_12 = metal::precise::rsqrt(add_11);
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            float w_chunk[8];
            if (full_3 && w_vectors) {
                load_bf16x8(&w[col_4], &w_chunk[0]);
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    w_chunk[i_5] = ((0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols)) ? bf16_to_f32(w[(col_4 + i_5) * args.w_col]) : 0.0f;
                }
            }
            float out_chunk[8];
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                const float mul_14 = w_chunk[i_6] * (half_bf16(x_held[((c_4 * 8) + i_6) / 2], ((c_4 * 8) + i_6) & 1) * rsqrt_12);
                const float div_18 = mul_14 / sub_17;
                out_chunk[i_6] = v_16_held[(c_4 * 8) + i_6] ? 0.0f : div_18;
            }
            if (full_3) {
                store_bf16x8(&out[out_row + col_4], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 8; i_7++) {
                    if ((0 <= (col_4 + i_7)) && ((col_4 + i_7) < args.cols)) {
                        out[out_row + (col_4 + i_7)] = f32_to_bf16(out_chunk[i_7]);
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_rms_norm_dropout_vjp_f32_args {
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
kernel void zmlx_rms_norm_dropout_vjp_f32(device const float* x [[buffer(0)]],
    device const float* w [[buffer(1)]],
    device const float* g_out [[buffer(2)]],
    device float* d_x [[buffer(3)]],
    device float* parts_25 [[buffer(4)]],
    constant zmlx_rms_norm_dropout_vjp_f32_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_8_of_warp[16];
    threadgroup float sum_28_of_warp[16];
    threadgroup float meeting[2048];
    const long cols = (long)args.cols;
    const float f32_10 = (float)cols;
    const float recip_11 = 1.0f / f32_10;
    const float sub_17 = 1.0f - args.p;
    const float recip_18 = 1.0f / sub_17;
    const int lane = tid & 255;
    const int sub = tid / 256;
    float sum_25[16];
#pragma unroll
    for (int i = 0; i < 16; i++) {
        sum_25[i] = 0.0f;
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
            for (int i_2 = 0; i_2 < 4; i_2++) {
                w_held[(c * 4) + i_2] = ((col + i_2) < args.cols) ? w[(col + i_2) * args.w_col] : 0.0f;
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
                    for (int i_3 = 0; i_3 < 4; i_3++) {
                        x_held[(c_2 * 4) + i_3] = ((col_2 + i_3) < args.cols) ? x[x_row + ((col_2 + i_3) * args.x_col)] : 0.0f;
                    }
                }
                if (full_2 && g_out_vectors) {
                    load_f32x4(&g_out[g_out_row + col_2], &g_out_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        g_out_held[(c_2 * 4) + i_4] = ((col_2 + i_4) < args.cols) ? g_out[g_out_row + ((col_2 + i_4) * args.g_out_col)] : 0.0f;
                    }
                }
            }
        }
        float sum_8 = 0.0f;
        float sum_28 = 0.0f;
        float v_21_held[16];
        float v_24_held[16];
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = (lane_2 + (c_4 * 256)) * 4;
            const bool full_3 = (col_4 + 4) <= args.cols;
            float rand_15[4];
            rand_units(args.seed, (((long)row_2) * ((long)args.cols)) + ((long)col_4), &rand_15[0]);
            float term_6[4];
            float term_27[4];
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                const float mul_6 = x_held[(c_4 * 4) + i_5] * x_held[(c_4 * 4) + i_5];
                const float where_20 = (rand_15[i_5] < args.p) ? 0.0f : g_out_held[(c_4 * 4) + i_5];
                const float mulz_24 = mulz_f32(where_20, (w_held[(c_4 * 4) + i_5] * recip_18));
                v_21_held[(c_4 * 4) + i_5] = mulz_f32(where_20, recip_18);
                v_24_held[(c_4 * 4) + i_5] = mulz_24;
                term_6[i_5] = mul_6;
                term_27[i_5] = mulz_f32(mulz_24, x_held[(c_4 * 4) + i_5]);
            }
            if (full_3) {
#pragma unroll
                for (int i_6 = 0; i_6 < 4; i_6++) {
                    sum_8 = sum_8 + term_6[i_6];
                    sum_28 = sum_28 + term_27[i_6];
                }
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    const bool inside = (col_4 + i_7) < args.cols;
                    sum_8 = sum_8 + (inside ? term_6[i_7] : 0.0f);
                    sum_28 = sum_28 + (inside ? term_27[i_7] : 0.0f);
                }
            }
        }
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)16);
        sum_28 = sum_28 + simd_shuffle_xor(sum_28, (ushort)16);
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)8);
        sum_28 = sum_28 + simd_shuffle_xor(sum_28, (ushort)8);
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)4);
        sum_28 = sum_28 + simd_shuffle_xor(sum_28, (ushort)4);
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)2);
        sum_28 = sum_28 + simd_shuffle_xor(sum_28, (ushort)2);
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)1);
        sum_28 = sum_28 + simd_shuffle_xor(sum_28, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_8_of_warp[warp] = sum_8;
            sum_28_of_warp[warp] = sum_28;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int first_warp = (tid / 256) * 8;
        sum_8 = sum_8_of_warp[first_warp];
        sum_28 = sum_28_of_warp[first_warp];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_8 = sum_8 + sum_8_of_warp[first_warp + w_2];
            sum_28 = sum_28 + sum_28_of_warp[first_warp + w_2];
        }
        const float fma_12 = metal::fma(sum_8, recip_11, args.eps);
        const float rsqrt_13 = metal::precise::rsqrt(fma_12);
        const float mul_29 = rsqrt_13 * rsqrt_13;
        const float mul_30 = rsqrt_13 * mul_29;
        const float mul_32 = mul_30 * (-0.5f);
        const float mulz_33 = mulz_f32(sum_28, mul_32);
        const float mulz_34 = mulz_f32(mulz_33, recip_11);
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = (lane_2 + (c_5 * 256)) * 4;
            const bool full_4 = (col_5 + 4) <= args.cols;
            float d_x_chunk[4];
#pragma unroll
            for (int i_8 = 0; i_8 < 4; i_8++) {
                const float mulz_22 = mulz_f32(v_21_held[(c_5 * 4) + i_8], (x_held[(c_5 * 4) + i_8] * rsqrt_13));
                const float fma_37 = metal::fma(mulz_f32(mulz_34, x_held[(c_5 * 4) + i_8]), 2.0f, mulz_f32(v_24_held[(c_5 * 4) + i_8], rsqrt_13));
                d_x_chunk[i_8] = fma_37;
                sum_25[(c_5 * 4) + i_8] = sum_25[(c_5 * 4) + i_8] + (lives ? mulz_22 : 0.0f);
            }
            if (lives) {
                if (full_4 && d_x_vectors) {
                    store_f32x4(&d_x[d_x_row + col_5], &d_x_chunk[0]);
                } else {
#pragma unroll
                    for (int i_9 = 0; i_9 < 4; i_9++) {
                        if ((col_5 + i_9) < args.cols) {
                            d_x[d_x_row + (col_5 + i_9)] = d_x_chunk[i_9];
                        }
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
#pragma unroll
    for (int c_6 = 0; c_6 < 4; c_6++) {
#pragma unroll
        for (int i_10 = 0; i_10 < 4; i_10++) {
            meeting[(i_10 * 512) + tid] = sum_25[(c_6 * 4) + i_10];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sub == 0) {
#pragma unroll
            for (int i_11 = 0; i_11 < 4; i_11++) {
                sum_25[(c_6 * 4) + i_11] = sum_25[(c_6 * 4) + i_11] + meeting[(i_11 * 512) + (tid + 256)];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    const int part_start = bid * args.pitch;
    if (sub == 0) {
#pragma unroll
        for (int c_7 = 0; c_7 < 4; c_7++) {
            const int at = part_start + ((lane + (c_7 * 256)) * 4);
            store_f32x4(&parts_25[at], &sum_25[c_7 * 4]);
        }
    }
}

struct zmlx_rms_norm_dropout_vjp_f32_1_args {
    int cols;
    int pitch;
    int parts;
};

[[max_total_threads_per_threadgroup(1024)]]
kernel void zmlx_rms_norm_dropout_vjp_f32_1(device float* d_w [[buffer(0)]],
    device const float* parts_25 [[buffer(1)]],
    constant zmlx_rms_norm_dropout_vjp_f32_1_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    threadgroup float sum_25_of_group[1024];
    const int lane = tid & 31;
    const int group = tid / 32;
    const int col = (bid * 32) + lane;
    const bool inside = col < args.cols;
    float sum_25 = 0.0f;
    if (inside) {
        for (int part = group; part < args.parts; part += 32) {
            sum_25 = sum_25 + parts_25[(part * args.pitch) + col];
        }
    }
    sum_25_of_group[tid] = sum_25;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if ((group == 0) && inside) {
#pragma unroll
        for (int g = 1; g < 32; g++) {
            sum_25 = sum_25 + sum_25_of_group[(g * 32) + lane];
        }
        d_w[col] = sum_25;
    }
}
