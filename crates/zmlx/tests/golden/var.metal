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

static inline float half_bf16(uint w, int i) {
    return as_type<float>(i != 0 ? w & 4294901760u : w << 16);
}

static inline uint put_bf16(uint w, int i, float x) {
    const uint bits = f32_to_bf16(x);
    return i != 0 ? (w & 65535u) | (bits << 16) : (w & 4294901760u) | bits;
}

static inline void load_f32x4(device const float* p, thread float* v) {
    const float4 t = *(device const float4*)p;
    v[0] = t.x;
    v[1] = t.y;
    v[2] = t.z;
    v[3] = t.w;
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

struct zmlx_var_f32_args {
    int cols;
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_var_f32(device const float* x [[buffer(0)]],
    device float* out [[buffer(1)]],
    constant zmlx_var_f32_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_1_of_warp[8];
    threadgroup float sum_7_of_warp[8];
    const long cols = (long)args.cols;
    const float f32_3 = (float)cols;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int shift = (x_row + args.x_shift) & 3;
        const bool x_vectors = args.x_col == 1;
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
        float sum_1 = 0.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    sum_1 = sum_1 + x_held[(c_3 * 4) + i_2];
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    sum_1 = sum_1 + (inside ? x_held[(c_3 * 4) + i_3] : 0.0f);
                }
            }
        }
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)16);
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)8);
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)4);
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)2);
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_1_of_warp[warp] = sum_1;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_1 = sum_1_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            sum_1 = sum_1 + sum_1_of_warp[w];
        }
        const float div_4 = sum_1 / f32_3;
        float sum_7 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            if (full_3) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const float sub_5 = x_held[(c_4 * 4) + i_4] - div_4;
                    sum_7 = sum_7 + (sub_5 * sub_5);
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const float sub_5_2 = x_held[(c_4 * 4) + i_5] - div_4;
                    const bool inside_2 = (0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols);
                    sum_7 = sum_7 + (inside_2 ? (sub_5_2 * sub_5_2) : 0.0f);
                }
            }
        }
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)16);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)8);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)4);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)2);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_7_of_warp[warp_2] = sum_7;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_7 = sum_7_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_7 = sum_7 + sum_7_of_warp[w_2];
        }
        const float div_8 = sum_7 / f32_3;
        if (tid == 0) {
            out[base] = div_8;
        }
    }
}

struct zmlx_var_bf16_args {
    int cols;
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_var_bf16(device const ushort* x [[buffer(0)]],
    device ushort* out [[buffer(1)]],
    constant zmlx_var_bf16_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_1_of_warp[4];
    threadgroup float sum_7_of_warp[4];
    const long cols = (long)args.cols;
    const float f32_3 = (float)cols;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int shift = (x_row + args.x_shift) & 7;
        const bool x_vectors = args.x_col == 1;
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
        float sum_1 = 0.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    sum_1 = sum_1 + half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1);
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    sum_1 = sum_1 + (inside ? half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1) : 0.0f);
                }
            }
        }
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)16);
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)8);
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)4);
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)2);
        sum_1 = sum_1 + simd_shuffle_xor(sum_1, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_1_of_warp[warp] = sum_1;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_1 = sum_1_of_warp[0];
#pragma unroll
        for (int w = 1; w < 4; w++) {
            sum_1 = sum_1 + sum_1_of_warp[w];
        }
        const float div_4 = sum_1 / f32_3;
        float sum_7 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            if (full_3) {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const float sub_5 = half_bf16(x_held[((c_4 * 8) + i_4) / 2], ((c_4 * 8) + i_4) & 1) - div_4;
                    sum_7 = sum_7 + (sub_5 * sub_5);
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    const float sub_5_2 = half_bf16(x_held[((c_4 * 8) + i_5) / 2], ((c_4 * 8) + i_5) & 1) - div_4;
                    const bool inside_2 = (0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols);
                    sum_7 = sum_7 + (inside_2 ? (sub_5_2 * sub_5_2) : 0.0f);
                }
            }
        }
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)16);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)8);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)4);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)2);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_7_of_warp[warp_2] = sum_7;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_7 = sum_7_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 4; w_2++) {
            sum_7 = sum_7 + sum_7_of_warp[w_2];
        }
        const float div_8 = sum_7 / f32_3;
        if (tid == 0) {
            out[base] = f32_to_bf16(div_8);
        }
    }
}

struct zmlx_var_vjp_f32_args {
    int cols;
    int rows;
    int x_row_stride_0;
    int g_out_row_stride_0;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_var_vjp_f32(device const float* x [[buffer(0)]],
    device const float* g_out [[buffer(1)]],
    device float* d_x [[buffer(2)]],
    constant zmlx_var_vjp_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_2_of_warp[8];
    const long cols = (long)args.cols;
    const float f32_4 = (float)cols;
    const float recip_5 = 1.0f / f32_4;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int g_out_row = base * args.g_out_row_stride_0;
        const int d_x_row = base * args.cols;
        const int shift = d_x_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
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
        const float g_out_2 = g_out[g_out_row];
        const float mul_8 = g_out_2 * recip_5;
        const float mul_10 = mul_8 * 2.0f;
        float sum_2 = 0.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    sum_2 = sum_2 + x_held[(c_3 * 4) + i_2];
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    sum_2 = sum_2 + (inside ? x_held[(c_3 * 4) + i_3] : 0.0f);
                }
            }
        }
        sum_2 = sum_2 + simd_shuffle_xor(sum_2, (ushort)16);
        sum_2 = sum_2 + simd_shuffle_xor(sum_2, (ushort)8);
        sum_2 = sum_2 + simd_shuffle_xor(sum_2, (ushort)4);
        sum_2 = sum_2 + simd_shuffle_xor(sum_2, (ushort)2);
        sum_2 = sum_2 + simd_shuffle_xor(sum_2, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_2_of_warp[warp] = sum_2;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_2 = sum_2_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            sum_2 = sum_2 + sum_2_of_warp[w];
        }
        const float mul_6 = sum_2 * recip_5;
        const float mul_12 = mul_6 * 0.0f;
        const float mul_13 = mul_10 * mul_12;
        const float mul_14 = recip_5 * mul_13;
        const float neg_15 = -mul_14;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float d_x_chunk[4];
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                const float fma_16 = metal::fma((x_held[(c_4 * 4) + i_4] - mul_6), mul_10, neg_15);
                d_x_chunk[i_4] = fma_16;
            }
            if (full_3) {
                store_f32x4(&d_x[d_x_row + col_4], &d_x_chunk[0]);
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    if ((0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols)) {
                        d_x[d_x_row + (col_4 + i_5)] = d_x_chunk[i_5];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
