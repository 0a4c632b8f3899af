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

static inline float half_bf16(uint w, int i) {
    return as_type<float>(i != 0 ? w & 4294901760u : w << 16);
}

static inline uint put_bf16(uint w, int i, float x) {
    const uint bits = f32_to_bf16(x);
    return i != 0 ? (w & 65535u) | (bits << 16) : (w & 4294901760u) | bits;
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

struct zmlx_layer_norm_residual_f32_args {
    float eps;
    int cols;
    int rows;
    int x_row_stride_0;
    int r_row_stride_0;
    int x_shift;
    int x_col;
    int r_shift;
    int r_col;
    int w_shift;
    int w_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_layer_norm_residual_f32(device const float* x [[buffer(0)]],
    device const float* r [[buffer(1)]],
    device const float* w [[buffer(2)]],
    device const float* b [[buffer(3)]],
    device float* y [[buffer(4)]],
    device float* residual [[buffer(5)]],
    constant zmlx_layer_norm_residual_f32_args& args [[buffer(6)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_6_of_warp[8];
    threadgroup float sum_12_of_warp[8];
    const long cols = (long)args.cols;
    const float f32_8 = (float)cols;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int r_row = base * args.r_row_stride_0;
        const int y_row = base * args.cols;
        const int residual_row = base * args.cols;
        const int shift = y_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const bool r_vectors = ((((r_row + args.r_shift) - shift) & 3) == 0) && (args.r_col == 1);
        const bool w_vectors = (((args.w_shift - shift) & 3) == 0) && (args.w_col == 1);
        const bool b_vectors = (((args.b_shift - shift) & 3) == 0) && (args.b_col == 1);
        const bool residual_vectors = ((residual_row - shift) & 3) == 0;
        const int lane = tid;
        float x_held[16];
        float r_held[16];
        if ((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && x_vectors) && r_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
                load_f32x4(&r[r_row + col_2], &r_held[c_2 * 4]);
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
                if (full && r_vectors) {
                    load_f32x4(&r[r_row + col], &r_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 4; i_2++) {
                        r_held[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? r[r_row + ((col + i_2) * args.r_col)] : 0.0f;
                    }
                }
            }
        }
        float sum_6 = 0.0f;
        float v_5_held[16];
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float residual_chunk[4];
            float term_5[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const float add_5 = x_held[(c_3 * 4) + i_3] + r_held[(c_3 * 4) + i_3];
                v_5_held[(c_3 * 4) + i_3] = add_5;
                residual_chunk[i_3] = add_5;
                term_5[i_3] = add_5;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    sum_6 = sum_6 + term_5[i_4];
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    sum_6 = sum_6 + (inside ? term_5[i_5] : 0.0f);
                }
            }
            if (full_2 && residual_vectors) {
                store_f32x4(&residual[residual_row + col_3], &residual_chunk[0]);
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 4; i_6++) {
                    if ((0 <= (col_3 + i_6)) && ((col_3 + i_6) < args.cols)) {
                        residual[residual_row + (col_3 + i_6)] = residual_chunk[i_6];
                    }
                }
            }
        }
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)16);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)8);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)4);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)2);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_6_of_warp[warp] = sum_6;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_6 = sum_6_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_6 = sum_6 + sum_6_of_warp[w_2];
        }
        const float div_9 = sum_6 / f32_8;
        float sum_12 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            if (full_3) {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    const float sub_10 = v_5_held[(c_4 * 4) + i_7] - div_9;
                    sum_12 = sum_12 + (sub_10 * sub_10);
                }
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    const float sub_10_2 = v_5_held[(c_4 * 4) + i_8] - div_9;
                    const bool inside_2 = (0 <= (col_4 + i_8)) && ((col_4 + i_8) < args.cols);
                    sum_12 = sum_12 + (inside_2 ? (sub_10_2 * sub_10_2) : 0.0f);
                }
            }
        }
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)16);
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)8);
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)4);
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)2);
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_12_of_warp[warp_2] = sum_12;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_12 = sum_12_of_warp[0];
#pragma unroll
        for (int w_3 = 1; w_3 < 8; w_3++) {
            sum_12 = sum_12 + sum_12_of_warp[w_3];
        }
        const float div_13 = sum_12 / f32_8;
        const float add_14 = args.eps + div_13;
        const float rsqrt_15 = metal::precise::rsqrt(add_14);
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
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    w_chunk[i_9] = ((0 <= (col_5 + i_9)) && ((col_5 + i_9) < args.cols)) ? w[(col_5 + i_9) * args.w_col] : 0.0f;
                }
            }
            if (full_4 && b_vectors) {
                load_f32x4(&b[col_5], &b_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    b_chunk[i_10] = ((0 <= (col_5 + i_10)) && ((col_5 + i_10) < args.cols)) ? b[(col_5 + i_10) * args.b_col] : 0.0f;
                }
            }
            float y_chunk[4];
#pragma unroll
            for (int i_11 = 0; i_11 < 4; i_11++) {
                const float mul_17 = w_chunk[i_11] * ((v_5_held[(c_5 * 4) + i_11] - div_9) * rsqrt_15);
                y_chunk[i_11] = b_chunk[i_11] + mul_17;
            }
            if (full_4) {
                store_f32x4(&y[y_row + col_5], &y_chunk[0]);
            } else {
#pragma unroll
                for (int i_12 = 0; i_12 < 4; i_12++) {
                    if ((0 <= (col_5 + i_12)) && ((col_5 + i_12) < args.cols)) {
                        y[y_row + (col_5 + i_12)] = y_chunk[i_12];
                    }
                }
            }
        }
    }
}

struct zmlx_layer_norm_residual_bf16_args {
    float eps;
    int cols;
    int rows;
    int x_row_stride_0;
    int r_row_stride_0;
    int x_shift;
    int x_col;
    int r_shift;
    int r_col;
    int w_shift;
    int w_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_layer_norm_residual_bf16(device const ushort* x [[buffer(0)]],
    device const ushort* r [[buffer(1)]],
    device const ushort* w [[buffer(2)]],
    device const ushort* b [[buffer(3)]],
    device ushort* y [[buffer(4)]],
    device ushort* residual [[buffer(5)]],
    constant zmlx_layer_norm_residual_bf16_args& args [[buffer(6)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_6_of_warp[4];
    threadgroup float sum_12_of_warp[4];
    const long cols = (long)args.cols;
    const float f32_8 = (float)cols;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int r_row = base * args.r_row_stride_0;
        const int y_row = base * args.cols;
        const int residual_row = base * args.cols;
        const int shift = y_row & 7;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 7) == 0) && (args.x_col == 1);
        const bool r_vectors = ((((r_row + args.r_shift) - shift) & 7) == 0) && (args.r_col == 1);
        const bool w_vectors = (((args.w_shift - shift) & 7) == 0) && (args.w_col == 1);
        const bool b_vectors = (((args.b_shift - shift) & 7) == 0) && (args.b_col == 1);
        const bool residual_vectors = ((residual_row - shift) & 7) == 0;
        const int lane = tid;
        uint x_held[16];
        uint r_held[16];
        if ((((0 <= ((lane * 8) - shift)) && ((((lane * 8) - shift) + 3080) <= args.cols)) && x_vectors) && r_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 8) - shift;
                copy_bf16x8(&x[x_row + col_2], &x_held[(c_2 * 8) / 2]);
                copy_bf16x8(&r[r_row + col_2], &r_held[(c_2 * 8) / 2]);
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
                if (full && r_vectors) {
                    copy_bf16x8(&r[r_row + col], &r_held[(c * 8) / 2]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 8; i_2++) {
                        r_held[((c * 8) + i_2) / 2] = put_bf16(r_held[((c * 8) + i_2) / 2], ((c * 8) + i_2) & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(r[r_row + ((col + i_2) * args.r_col)]) : 0.0f);
                    }
                }
            }
        }
        float sum_6 = 0.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            float residual_chunk[8];
            float term_5[8];
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                const float add_5 = half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1) + half_bf16(r_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1);
                residual_chunk[i_3] = add_5;
                term_5[i_3] = add_5;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    sum_6 = sum_6 + term_5[i_4];
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    sum_6 = sum_6 + (inside ? term_5[i_5] : 0.0f);
                }
            }
            if (full_2 && residual_vectors) {
                store_bf16x8(&residual[residual_row + col_3], &residual_chunk[0]);
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 8; i_6++) {
                    if ((0 <= (col_3 + i_6)) && ((col_3 + i_6) < args.cols)) {
                        residual[residual_row + (col_3 + i_6)] = f32_to_bf16(residual_chunk[i_6]);
                    }
                }
            }
        }
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)16);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)8);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)4);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)2);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_6_of_warp[warp] = sum_6;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_6 = sum_6_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 4; w_2++) {
            sum_6 = sum_6 + sum_6_of_warp[w_2];
        }
        const float div_9 = sum_6 / f32_8;
        float sum_12 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            if (full_3) {
#pragma unroll
                for (int i_7 = 0; i_7 < 8; i_7++) {
                    const float add_5_2 = half_bf16(x_held[((c_4 * 8) + i_7) / 2], ((c_4 * 8) + i_7) & 1) + half_bf16(r_held[((c_4 * 8) + i_7) / 2], ((c_4 * 8) + i_7) & 1);
                    const float sub_10 = add_5_2 - div_9;
                    sum_12 = sum_12 + (sub_10 * sub_10);
                }
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 8; i_8++) {
                    const float add_5_3 = half_bf16(x_held[((c_4 * 8) + i_8) / 2], ((c_4 * 8) + i_8) & 1) + half_bf16(r_held[((c_4 * 8) + i_8) / 2], ((c_4 * 8) + i_8) & 1);
                    const float sub_10_2 = add_5_3 - div_9;
                    const bool inside_2 = (0 <= (col_4 + i_8)) && ((col_4 + i_8) < args.cols);
                    sum_12 = sum_12 + (inside_2 ? (sub_10_2 * sub_10_2) : 0.0f);
                }
            }
        }
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)16);
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)8);
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)4);
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)2);
        sum_12 = sum_12 + simd_shuffle_xor(sum_12, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_12_of_warp[warp_2] = sum_12;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_12 = sum_12_of_warp[0];
#pragma unroll
        for (int w_3 = 1; w_3 < 4; w_3++) {
            sum_12 = sum_12 + sum_12_of_warp[w_3];
        }
        const float div_13 = sum_12 / f32_8;
        const float add_14 = args.eps + div_13;
        const float rsqrt_15 = metal::precise::rsqrt(add_14);
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
                for (int i_9 = 0; i_9 < 8; i_9++) {
                    w_chunk[i_9] = ((0 <= (col_5 + i_9)) && ((col_5 + i_9) < args.cols)) ? bf16_to_f32(w[(col_5 + i_9) * args.w_col]) : 0.0f;
                }
            }
            if (full_4 && b_vectors) {
                load_bf16x8(&b[col_5], &b_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 8; i_10++) {
                    b_chunk[i_10] = ((0 <= (col_5 + i_10)) && ((col_5 + i_10) < args.cols)) ? bf16_to_f32(b[(col_5 + i_10) * args.b_col]) : 0.0f;
                }
            }
            float y_chunk[8];
#pragma unroll
            for (int i_11 = 0; i_11 < 8; i_11++) {
                const float add_5_4 = half_bf16(x_held[((c_5 * 8) + i_11) / 2], ((c_5 * 8) + i_11) & 1) + half_bf16(r_held[((c_5 * 8) + i_11) / 2], ((c_5 * 8) + i_11) & 1);
                const float add_18 = b_chunk[i_11] + (w_chunk[i_11] * ((add_5_4 - div_9) * rsqrt_15));
                y_chunk[i_11] = add_18;
            }
            if (full_4) {
                store_bf16x8(&y[y_row + col_5], &y_chunk[0]);
            } else {
#pragma unroll
                for (int i_12 = 0; i_12 < 8; i_12++) {
                    if ((0 <= (col_5 + i_12)) && ((col_5 + i_12) < args.cols)) {
                        y[y_row + (col_5 + i_12)] = f32_to_bf16(y_chunk[i_12]);
                    }
                }
            }
        }
    }
}

struct zmlx_layer_norm_residual_vjp_f32_args {
    float eps;
    int cols;
    int w_shift;
    int w_col;
    int rows;
    int x_row_stride_0;
    int r_row_stride_0;
    int g_y_row_stride_0;
    int g_residual_row_stride_0;
    int x_shift;
    int x_col;
    int r_shift;
    int r_col;
    int g_y_shift;
    int g_y_col;
    int g_residual_shift;
    int g_residual_col;
    int pitch;
};

[[max_total_threads_per_threadgroup(512)]]
kernel void zmlx_layer_norm_residual_vjp_f32(device const float* x [[buffer(0)]],
    device const float* r [[buffer(1)]],
    device const float* w [[buffer(2)]],
    device const float* g_y [[buffer(3)]],
    device const float* g_residual [[buffer(4)]],
    device float* d_x [[buffer(5)]],
    device float* d_r [[buffer(6)]],
    device float* parts_18 [[buffer(7)]],
    device float* parts_21 [[buffer(8)]],
    constant zmlx_layer_norm_residual_vjp_f32_args& args [[buffer(9)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_7_of_warp[16];
    threadgroup float sum_34_of_warp[16];
    threadgroup float sum_14_of_warp[16];
    threadgroup float sum_24_of_warp[16];
    const long cols = (long)args.cols;
    const float f32_9 = (float)cols;
    const float recip_10 = 1.0f / f32_9;
    float sum_18[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sum_18[i] = 0.0f;
    }
    float sum_21[8];
#pragma unroll
    for (int i_2 = 0; i_2 < 8; i_2++) {
        sum_21[i_2] = 0.0f;
    }
    float w_held[8];
    const bool w_vectors = ((args.w_shift & 3) == 0) && (args.w_col == 1);
#pragma unroll
    for (int c = 0; c < 2; c++) {
        const int col = (tid + (c * 512)) * 4;
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
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int r_row = base * args.r_row_stride_0;
        const int g_y_row = base * args.g_y_row_stride_0;
        const int g_residual_row = base * args.g_residual_row_stride_0;
        const int d_x_row = base * args.cols;
        const int d_r_row = base * args.cols;
        const bool x_vectors = (((x_row + args.x_shift) & 3) == 0) && (args.x_col == 1);
        const bool r_vectors = (((r_row + args.r_shift) & 3) == 0) && (args.r_col == 1);
        const bool g_y_vectors = (((g_y_row + args.g_y_shift) & 3) == 0) && (args.g_y_col == 1);
        const bool g_residual_vectors = (((g_residual_row + args.g_residual_shift) & 3) == 0) && (args.g_residual_col == 1);
        const bool d_x_vectors = (d_x_row & 3) == 0;
        const bool d_r_vectors = (d_r_row & 3) == 0;
        const int lane = tid;
        float x_held[8];
        float r_held[8];
        float g_y_held[8];
        float g_residual_held[8];
        if (((((((lane * 4) + 2052) <= args.cols) && x_vectors) && r_vectors) && g_y_vectors) && g_residual_vectors) {
#pragma unroll
            for (int c_3 = 0; c_3 < 2; c_3++) {
                const int col_3 = (lane + (c_3 * 512)) * 4;
                load_f32x4(&x[x_row + col_3], &x_held[c_3 * 4]);
                load_f32x4(&r[r_row + col_3], &r_held[c_3 * 4]);
                load_f32x4(&g_y[g_y_row + col_3], &g_y_held[c_3 * 4]);
                load_f32x4(&g_residual[g_residual_row + col_3], &g_residual_held[c_3 * 4]);
            }
        } else {
#pragma unroll
            for (int c_2 = 0; c_2 < 2; c_2++) {
                const int col_2 = (lane + (c_2 * 512)) * 4;
                const bool full_2 = (col_2 + 4) <= args.cols;
                if (full_2 && x_vectors) {
                    load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        x_held[(c_2 * 4) + i_4] = ((col_2 + i_4) < args.cols) ? x[x_row + ((col_2 + i_4) * args.x_col)] : 0.0f;
                    }
                }
                if (full_2 && r_vectors) {
                    load_f32x4(&r[r_row + col_2], &r_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 4; i_5++) {
                        r_held[(c_2 * 4) + i_5] = ((col_2 + i_5) < args.cols) ? r[r_row + ((col_2 + i_5) * args.r_col)] : 0.0f;
                    }
                }
                if (full_2 && g_y_vectors) {
                    load_f32x4(&g_y[g_y_row + col_2], &g_y_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_6 = 0; i_6 < 4; i_6++) {
                        g_y_held[(c_2 * 4) + i_6] = ((col_2 + i_6) < args.cols) ? g_y[g_y_row + ((col_2 + i_6) * args.g_y_col)] : 0.0f;
                    }
                }
                if (full_2 && g_residual_vectors) {
                    load_f32x4(&g_residual[g_residual_row + col_2], &g_residual_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_7 = 0; i_7 < 4; i_7++) {
                        g_residual_held[(c_2 * 4) + i_7] = ((col_2 + i_7) < args.cols) ? g_residual[g_residual_row + ((col_2 + i_7) * args.g_residual_col)] : 0.0f;
                    }
                }
            }
        }
        float sum_7 = 0.0f;
        float sum_34 = 0.0f;
        float v_6_held[8];
#pragma unroll
        for (int c_4 = 0; c_4 < 2; c_4++) {
            const int col_4 = (lane + (c_4 * 512)) * 4;
            const bool full_3 = (col_4 + 4) <= args.cols;
            float term_6[4];
            float term_20[4];
#pragma unroll
            for (int i_8 = 0; i_8 < 4; i_8++) {
                const float add_6 = x_held[(c_4 * 4) + i_8] + r_held[(c_4 * 4) + i_8];
                const float mul_20 = w_held[(c_4 * 4) + i_8] * g_y_held[(c_4 * 4) + i_8];
                v_6_held[(c_4 * 4) + i_8] = add_6;
                term_6[i_8] = add_6;
                term_20[i_8] = mul_20;
                sum_18[(c_4 * 4) + i_8] = sum_18[(c_4 * 4) + i_8] + g_y_held[(c_4 * 4) + i_8];
            }
            if (full_3) {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    sum_7 = sum_7 + term_6[i_9];
                    sum_34 = sum_34 + term_20[i_9];
                }
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    const bool inside = (col_4 + i_10) < args.cols;
                    sum_7 = sum_7 + (inside ? term_6[i_10] : 0.0f);
                    sum_34 = sum_34 + (inside ? term_20[i_10] : 0.0f);
                }
            }
        }
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)16);
        sum_34 = sum_34 + simd_shuffle_xor(sum_34, (ushort)16);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)8);
        sum_34 = sum_34 + simd_shuffle_xor(sum_34, (ushort)8);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)4);
        sum_34 = sum_34 + simd_shuffle_xor(sum_34, (ushort)4);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)2);
        sum_34 = sum_34 + simd_shuffle_xor(sum_34, (ushort)2);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)1);
        sum_34 = sum_34 + simd_shuffle_xor(sum_34, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_7_of_warp[warp] = sum_7;
            sum_34_of_warp[warp] = sum_34;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_7 = sum_7_of_warp[0];
        sum_34 = sum_34_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 16; w_2++) {
            sum_7 = sum_7 + sum_7_of_warp[w_2];
            sum_34 = sum_34 + sum_34_of_warp[w_2];
        }
        const float mul_11 = sum_7 * recip_10;
        const float mul_37 = mul_11 * 0.0f;
        float sum_14 = 0.0f;
        float sum_24 = 0.0f;
#pragma unroll
        for (int c_5 = 0; c_5 < 2; c_5++) {
            const int col_5 = (lane + (c_5 * 512)) * 4;
            const bool full_4 = (col_5 + 4) <= args.cols;
            if (full_4) {
#pragma unroll
                for (int i_11 = 0; i_11 < 4; i_11++) {
                    const float sub_12 = v_6_held[(c_5 * 4) + i_11] - mul_11;
                    const float mul_20_2 = w_held[(c_5 * 4) + i_11] * g_y_held[(c_5 * 4) + i_11];
                    sum_14 = sum_14 + (sub_12 * sub_12);
                    sum_24 = sum_24 + (sub_12 * mul_20_2);
                }
            } else {
#pragma unroll
                for (int i_12 = 0; i_12 < 4; i_12++) {
                    const float sub_12_2 = v_6_held[(c_5 * 4) + i_12] - mul_11;
                    const float mul_20_3 = w_held[(c_5 * 4) + i_12] * g_y_held[(c_5 * 4) + i_12];
                    const bool inside_2 = (col_5 + i_12) < args.cols;
                    sum_14 = sum_14 + (inside_2 ? (sub_12_2 * sub_12_2) : 0.0f);
                    sum_24 = sum_24 + (inside_2 ? (sub_12_2 * mul_20_3) : 0.0f);
                }
            }
        }
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)16);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)16);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)8);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)8);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)4);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)4);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)2);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)2);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)1);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_14_of_warp[warp_2] = sum_14;
            sum_24_of_warp[warp_2] = sum_24;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_14 = sum_14_of_warp[0];
        sum_24 = sum_24_of_warp[0];
#pragma unroll
        for (int w_3 = 1; w_3 < 16; w_3++) {
            sum_14 = sum_14 + sum_14_of_warp[w_3];
            sum_24 = sum_24 + sum_24_of_warp[w_3];
        }
        const float fma_15 = metal::fma(recip_10, sum_14, args.eps);
        const float rsqrt_16 = metal::precise::rsqrt(fma_15);
        const float mul_25 = rsqrt_16 * rsqrt_16;
        const float mul_26 = rsqrt_16 * mul_25;
        const float mul_28 = mul_26 * (-0.5f);
        const float mul_29 = sum_24 * mul_28;
        const float mul_30 = recip_10 * mul_29;
        const float mul_32 = mul_30 * 2.0f;
        const float mul_35 = rsqrt_16 * sum_34;
        const float fma_38 = metal::fma(mul_32, mul_37, mul_35);
        const float mul_39 = recip_10 * fma_38;
#pragma unroll
        for (int c_6 = 0; c_6 < 2; c_6++) {
            const int col_6 = (lane + (c_6 * 512)) * 4;
            const bool full_5 = (col_6 + 4) <= args.cols;
            float d_x_chunk[4];
            float d_r_chunk[4];
#pragma unroll
            for (int i_13 = 0; i_13 < 4; i_13++) {
                const float sub_12_3 = v_6_held[(c_6 * 4) + i_13] - mul_11;
                const float mul_20_4 = w_held[(c_6 * 4) + i_13] * g_y_held[(c_6 * 4) + i_13];
                const float add_41 = metal::fma(sub_12_3, mul_32, (rsqrt_16 * mul_20_4)) + (g_residual_held[(c_6 * 4) + i_13] - mul_39);
                d_x_chunk[i_13] = add_41;
                d_r_chunk[i_13] = add_41;
                sum_21[(c_6 * 4) + i_13] = sum_21[(c_6 * 4) + i_13] + (g_y_held[(c_6 * 4) + i_13] * (sub_12_3 * rsqrt_16));
            }
            if (full_5 && d_x_vectors) {
                store_f32x4(&d_x[d_x_row + col_6], &d_x_chunk[0]);
            } else {
#pragma unroll
                for (int i_14 = 0; i_14 < 4; i_14++) {
                    if ((col_6 + i_14) < args.cols) {
                        d_x[d_x_row + (col_6 + i_14)] = d_x_chunk[i_14];
                    }
                }
            }
            if (full_5 && d_r_vectors) {
                store_f32x4(&d_r[d_r_row + col_6], &d_r_chunk[0]);
            } else {
#pragma unroll
                for (int i_15 = 0; i_15 < 4; i_15++) {
                    if ((col_6 + i_15) < args.cols) {
                        d_r[d_r_row + (col_6 + i_15)] = d_r_chunk[i_15];
                    }
                }
            }
        }
    }
    const int part_start = bid * args.pitch;
#pragma unroll
    for (int c_7 = 0; c_7 < 2; c_7++) {
        const int at = part_start + ((tid + (c_7 * 512)) * 4);
        store_f32x4(&parts_18[at], &sum_18[c_7 * 4]);
        store_f32x4(&parts_21[at], &sum_21[c_7 * 4]);
    }
}

struct zmlx_layer_norm_residual_vjp_f32_1_args {
    int cols;
    int pitch;
    int parts;
};

[[max_total_threads_per_threadgroup(1024)]]
kernel void zmlx_layer_norm_residual_vjp_f32_1(device float* d_w [[buffer(0)]],
    device float* d_b [[buffer(1)]],
    device const float* parts_18 [[buffer(2)]],
    device const float* parts_21 [[buffer(3)]],
    constant zmlx_layer_norm_residual_vjp_f32_1_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    threadgroup float sum_18_of_group[1024];
    threadgroup float sum_21_of_group[1024];
    const int lane = tid & 31;
    const int group = tid / 32;
    const int col = (bid * 32) + lane;
    const bool inside = col < args.cols;
    float sum_18 = 0.0f;
    float sum_21 = 0.0f;
    if (inside) {
        for (int part = group; part < args.parts; part += 32) {
            sum_18 = sum_18 + parts_18[(part * args.pitch) + col];
            sum_21 = sum_21 + parts_21[(part * args.pitch) + col];
        }
    }
    sum_18_of_group[tid] = sum_18;
    sum_21_of_group[tid] = sum_21;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if ((group == 0) && inside) {
#pragma unroll
        for (int g = 1; g < 32; g++) {
            sum_18 = sum_18 + sum_18_of_group[(g * 32) + lane];
        }
#pragma unroll
        for (int g_2 = 1; g_2 < 32; g_2++) {
            sum_21 = sum_21 + sum_21_of_group[(g_2 * 32) + lane];
        }
        d_w[col] = sum_21;
        d_b[col] = sum_18;
    }
}
