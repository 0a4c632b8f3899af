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

static inline float max_f32(float a, float b) {
    return a >= b || a != a ? a : b;
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

struct zmlx_cross_entropy_f32_args {
    int rows;
    int x_row_stride_0;
    int t_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_cross_entropy_f32(device const float* x [[buffer(0)]],
    device const uint* t [[buffer(1)]],
    device float* loss [[buffer(2)]],
    device uint* flag [[buffer(3)]],
    constant zmlx_cross_entropy_f32_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_2_of_warp[8];
    threadgroup float sum_10_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int t_row = base * args.t_row_stride_0;
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
        const uint t_2 = t[t_row];
        const long i64_13 = (long)t_2;
        const bool inside = (0L <= i64_13) && (i64_13 < ((long)args.cols));
        if (!inside) {
            flag[0] = 1u;
        }
        const float x_at = inside ? x[x_row + (((int)i64_13) * args.x_col)] : NAN;
        float max_2 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    max_2 = max_f32(max_2, x_held[(c_3 * 4) + i_2]);
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const bool inside_2 = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    max_2 = max_f32(max_2, (inside_2 ? x_held[(c_3 * 4) + i_3] : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_2, (ushort)16);
        max_2 = max_f32(max_2, other);
        const float other_2 = simd_shuffle_xor(max_2, (ushort)8);
        max_2 = max_f32(max_2, other_2);
        const float other_3 = simd_shuffle_xor(max_2, (ushort)4);
        max_2 = max_f32(max_2, other_3);
        const float other_4 = simd_shuffle_xor(max_2, (ushort)2);
        max_2 = max_f32(max_2, other_4);
        const float other_5 = simd_shuffle_xor(max_2, (ushort)1);
        max_2 = max_f32(max_2, other_5);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_2_of_warp[warp] = max_2;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_2 = max_2_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            max_2 = max_f32(max_2, max_2_of_warp[w]);
        }
        const float abs_3 = metal::fabs(max_2);
        const bool lt_5 = abs_3 < INFINITY;
        const float where_7 = lt_5 ? max_2 : 0.0f;
        float sum_10 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float term_9[4];
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                term_9[i_4] = metal::precise::exp((x_held[(c_4 * 4) + i_4] - where_7));
            }
            if (full_3) {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    sum_10 = sum_10 + term_9[i_5];
                }
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 4; i_6++) {
                    const bool inside_3 = (0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols);
                    sum_10 = sum_10 + (inside_3 ? term_9[i_6] : 0.0f);
                }
            }
        }
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)16);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)8);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)4);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)2);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_10_of_warp[warp_2] = sum_10;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_10 = sum_10_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_10 = sum_10 + sum_10_of_warp[w_2];
        }
        const float log_11 = metal::precise::log(sum_10);
        const float add_12 = where_7 + log_11;
        const float sub_15 = add_12 - x_at;
        if (tid == 0) {
            loss[base] = sub_15;
        }
    }
}

struct zmlx_cross_entropy_bf16_args {
    int rows;
    int x_row_stride_0;
    int t_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_cross_entropy_bf16(device const ushort* x [[buffer(0)]],
    device const uint* t [[buffer(1)]],
    device float* loss [[buffer(2)]],
    device uint* flag [[buffer(3)]],
    constant zmlx_cross_entropy_bf16_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_2_of_warp[4];
    threadgroup float sum_10_of_warp[4];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int t_row = base * args.t_row_stride_0;
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
        const uint t_2 = t[t_row];
        const long i64_13 = (long)t_2;
        const bool inside = (0L <= i64_13) && (i64_13 < ((long)args.cols));
        if (!inside) {
            flag[0] = 1u;
        }
        const float x_at = inside ? bf16_to_f32(x[x_row + (((int)i64_13) * args.x_col)]) : NAN;
        float max_2 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    max_2 = max_f32(max_2, half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1));
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    const bool inside_2 = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    max_2 = max_f32(max_2, (inside_2 ? half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1) : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_2, (ushort)16);
        max_2 = max_f32(max_2, other);
        const float other_2 = simd_shuffle_xor(max_2, (ushort)8);
        max_2 = max_f32(max_2, other_2);
        const float other_3 = simd_shuffle_xor(max_2, (ushort)4);
        max_2 = max_f32(max_2, other_3);
        const float other_4 = simd_shuffle_xor(max_2, (ushort)2);
        max_2 = max_f32(max_2, other_4);
        const float other_5 = simd_shuffle_xor(max_2, (ushort)1);
        max_2 = max_f32(max_2, other_5);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_2_of_warp[warp] = max_2;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_2 = max_2_of_warp[0];
#pragma unroll
        for (int w = 1; w < 4; w++) {
            max_2 = max_f32(max_2, max_2_of_warp[w]);
        }
        const float abs_3 = metal::fabs(max_2);
        const bool lt_5 = abs_3 < INFINITY;
        const float where_7 = lt_5 ? max_2 : 0.0f;
        float sum_10 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            float term_9[8];
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                term_9[i_4] = metal::precise::exp((half_bf16(x_held[((c_4 * 8) + i_4) / 2], ((c_4 * 8) + i_4) & 1) - where_7));
            }
            if (full_3) {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    sum_10 = sum_10 + term_9[i_5];
                }
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 8; i_6++) {
                    const bool inside_3 = (0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols);
                    sum_10 = sum_10 + (inside_3 ? term_9[i_6] : 0.0f);
                }
            }
        }
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)16);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)8);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)4);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)2);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_10_of_warp[warp_2] = sum_10;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_10 = sum_10_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 4; w_2++) {
            sum_10 = sum_10 + sum_10_of_warp[w_2];
        }
        const float log_11 = metal::precise::log(sum_10);
        const float add_12 = where_7 + log_11;
        const float sub_15 = add_12 - x_at;
        if (tid == 0) {
            loss[base] = sub_15;
        }
    }
}

struct zmlx_cross_entropy_vjp_f32_args {
    int rows;
    int x_row_stride_0;
    int t_row_stride_0;
    int g_loss_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_cross_entropy_vjp_f32(device const float* x [[buffer(0)]],
    device const uint* t [[buffer(1)]],
    device const float* g_loss [[buffer(2)]],
    device float* d_x [[buffer(3)]],
    constant zmlx_cross_entropy_vjp_f32_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_3_of_warp[8];
    threadgroup float sum_11_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int t_row = base * args.t_row_stride_0;
        const int g_loss_row = base * args.g_loss_row_stride_0;
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
        const uint t_2 = t[t_row];
        const float g_loss_2 = g_loss[g_loss_row];
        const long i64_12 = (long)t_2;
        const float neg_13 = -g_loss_2;
        float max_3 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    max_3 = max_f32(max_3, x_held[(c_3 * 4) + i_2]);
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    max_3 = max_f32(max_3, (inside ? x_held[(c_3 * 4) + i_3] : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_3, (ushort)16);
        max_3 = max_f32(max_3, other);
        const float other_2 = simd_shuffle_xor(max_3, (ushort)8);
        max_3 = max_f32(max_3, other_2);
        const float other_3 = simd_shuffle_xor(max_3, (ushort)4);
        max_3 = max_f32(max_3, other_3);
        const float other_4 = simd_shuffle_xor(max_3, (ushort)2);
        max_3 = max_f32(max_3, other_4);
        const float other_5 = simd_shuffle_xor(max_3, (ushort)1);
        max_3 = max_f32(max_3, other_5);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_3_of_warp[warp] = max_3;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_3 = max_3_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            max_3 = max_f32(max_3, max_3_of_warp[w]);
        }
        const float abs_4 = metal::fabs(max_3);
        const bool lt_6 = abs_4 < INFINITY;
        const float where_8 = lt_6 ? max_3 : 0.0f;
        float sum_11 = 0.0f;
        float v_10_held[16];
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float term_10[4];
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                const float exp_10 = metal::precise::exp((x_held[(c_4 * 4) + i_4] - where_8));
                v_10_held[(c_4 * 4) + i_4] = exp_10;
                term_10[i_4] = exp_10;
            }
            if (full_3) {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    sum_11 = sum_11 + term_10[i_5];
                }
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 4; i_6++) {
                    const bool inside_2 = (0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols);
                    sum_11 = sum_11 + (inside_2 ? term_10[i_6] : 0.0f);
                }
            }
        }
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)16);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)8);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)4);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)2);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_11_of_warp[warp_2] = sum_11;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_11 = sum_11_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_11 = sum_11 + sum_11_of_warp[w_2];
        }
        const float div_17 = g_loss_2 / sum_11;
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = ((lane + (c_5 * 256)) * 4) - shift;
            const bool full_4 = (0 <= col_5) && ((col_5 + 4) <= args.cols);
            float d_x_chunk[4];
#pragma unroll
            for (int i_7 = 0; i_7 < 4; i_7++) {
                const float fma_18 = metal::fma(v_10_held[(c_5 * 4) + i_7], div_17, ((i64_12 == ((long)(col_5 + i_7))) ? neg_13 : 0.0f));
                d_x_chunk[i_7] = fma_18;
            }
            if (full_4) {
                store_f32x4(&d_x[d_x_row + col_5], &d_x_chunk[0]);
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    if ((0 <= (col_5 + i_8)) && ((col_5 + i_8) < args.cols)) {
                        d_x[d_x_row + (col_5 + i_8)] = d_x_chunk[i_8];
                    }
                }
            }
        }
    }
}
