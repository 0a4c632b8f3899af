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

struct zmlx_rms_norm_residual_f32_args {
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
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_rms_norm_residual_f32(device const float* x [[buffer(0)]],
    device const float* r [[buffer(1)]],
    device const float* w [[buffer(2)]],
    device float* y [[buffer(3)]],
    device float* residual [[buffer(4)]],
    constant zmlx_rms_norm_residual_f32_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_6_of_warp[8];
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
        float v_4_held[16];
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float residual_chunk[4];
            float term_5[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const float add_4 = x_held[(c_3 * 4) + i_3] + r_held[(c_3 * 4) + i_3];
                v_4_held[(c_3 * 4) + i_3] = add_4;
                residual_chunk[i_3] = add_4;
                term_5[i_3] = add_4 * add_4;
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
        const float add_10 = args.eps + div_9;
        const float rsqrt_11 = metal::precise::rsqrt(add_10);
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float w_chunk[4];
            if (full_3 && w_vectors) {
                load_f32x4(&w[col_4], &w_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    w_chunk[i_7] = ((0 <= (col_4 + i_7)) && ((col_4 + i_7) < args.cols)) ? w[(col_4 + i_7) * args.w_col] : 0.0f;
                }
            }
            float y_chunk[4];
#pragma unroll
            for (int i_8 = 0; i_8 < 4; i_8++) {
                const float mul_13 = w_chunk[i_8] * (v_4_held[(c_4 * 4) + i_8] * rsqrt_11);
                y_chunk[i_8] = mul_13;
            }
            if (full_3) {
                store_f32x4(&y[y_row + col_4], &y_chunk[0]);
            } else {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    if ((0 <= (col_4 + i_9)) && ((col_4 + i_9) < args.cols)) {
                        y[y_row + (col_4 + i_9)] = y_chunk[i_9];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_rms_norm_residual_bf16_args {
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
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_rms_norm_residual_bf16(device const ushort* x [[buffer(0)]],
    device const ushort* r [[buffer(1)]],
    device const ushort* w [[buffer(2)]],
    device ushort* y [[buffer(3)]],
    device ushort* residual [[buffer(4)]],
    constant zmlx_rms_norm_residual_bf16_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_6_of_warp[4];
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
                const float add_4 = half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1) + half_bf16(r_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1);
                residual_chunk[i_3] = add_4;
                term_5[i_3] = add_4 * add_4;
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
        const float add_10 = args.eps + div_9;
        const float rsqrt_11 = metal::precise::rsqrt(add_10);
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            float w_chunk[8];
            if (full_3 && w_vectors) {
                load_bf16x8(&w[col_4], &w_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 8; i_7++) {
                    w_chunk[i_7] = ((0 <= (col_4 + i_7)) && ((col_4 + i_7) < args.cols)) ? bf16_to_f32(w[(col_4 + i_7) * args.w_col]) : 0.0f;
                }
            }
            float y_chunk[8];
#pragma unroll
            for (int i_8 = 0; i_8 < 8; i_8++) {
                const float add_4_2 = half_bf16(x_held[((c_4 * 8) + i_8) / 2], ((c_4 * 8) + i_8) & 1) + half_bf16(r_held[((c_4 * 8) + i_8) / 2], ((c_4 * 8) + i_8) & 1);
                y_chunk[i_8] = w_chunk[i_8] * (add_4_2 * rsqrt_11);
            }
            if (full_3) {
                store_bf16x8(&y[y_row + col_4], &y_chunk[0]);
            } else {
#pragma unroll
                for (int i_9 = 0; i_9 < 8; i_9++) {
                    if ((0 <= (col_4 + i_9)) && ((col_4 + i_9) < args.cols)) {
                        y[y_row + (col_4 + i_9)] = f32_to_bf16(y_chunk[i_9]);
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_rms_norm_residual_vjp_f32_args {
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
kernel void zmlx_rms_norm_residual_vjp_f32(device const float* x [[buffer(0)]],
    device const float* r [[buffer(1)]],
    device const float* w [[buffer(2)]],
    device const float* g_y [[buffer(3)]],
    device const float* g_residual [[buffer(4)]],
    device float* d_x [[buffer(5)]],
    device float* d_r [[buffer(6)]],
    device float* parts_17 [[buffer(7)]],
    constant zmlx_rms_norm_residual_vjp_f32_args& args [[buffer(8)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_8_of_warp[16];
    threadgroup float sum_19_of_warp[16];
    const long cols = (long)args.cols;
    const float f32_10 = (float)cols;
    const float recip_11 = 1.0f / f32_10;
    float sum_17[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sum_17[i] = 0.0f;
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
            for (int i_2 = 0; i_2 < 4; i_2++) {
                w_held[(c * 4) + i_2] = ((col + i_2) < args.cols) ? w[(col + i_2) * args.w_col] : 0.0f;
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
                    for (int i_3 = 0; i_3 < 4; i_3++) {
                        x_held[(c_2 * 4) + i_3] = ((col_2 + i_3) < args.cols) ? x[x_row + ((col_2 + i_3) * args.x_col)] : 0.0f;
                    }
                }
                if (full_2 && r_vectors) {
                    load_f32x4(&r[r_row + col_2], &r_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        r_held[(c_2 * 4) + i_4] = ((col_2 + i_4) < args.cols) ? r[r_row + ((col_2 + i_4) * args.r_col)] : 0.0f;
                    }
                }
                if (full_2 && g_y_vectors) {
                    load_f32x4(&g_y[g_y_row + col_2], &g_y_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 4; i_5++) {
                        g_y_held[(c_2 * 4) + i_5] = ((col_2 + i_5) < args.cols) ? g_y[g_y_row + ((col_2 + i_5) * args.g_y_col)] : 0.0f;
                    }
                }
                if (full_2 && g_residual_vectors) {
                    load_f32x4(&g_residual[g_residual_row + col_2], &g_residual_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_6 = 0; i_6 < 4; i_6++) {
                        g_residual_held[(c_2 * 4) + i_6] = ((col_2 + i_6) < args.cols) ? g_residual[g_residual_row + ((col_2 + i_6) * args.g_residual_col)] : 0.0f;
                    }
                }
            }
        }
        float sum_8 = 0.0f;
        float sum_19 = 0.0f;
        float v_6_held[8];
#pragma unroll
        for (int c_4 = 0; c_4 < 2; c_4++) {
            const int col_4 = (lane + (c_4 * 512)) * 4;
            const bool full_3 = (col_4 + 4) <= args.cols;
            float term_7[4];
            float term_18[4];
#pragma unroll
            for (int i_7 = 0; i_7 < 4; i_7++) {
                const float add_6 = x_held[(c_4 * 4) + i_7] + r_held[(c_4 * 4) + i_7];
                const float mul_16 = w_held[(c_4 * 4) + i_7] * g_y_held[(c_4 * 4) + i_7];
                v_6_held[(c_4 * 4) + i_7] = add_6;
                term_7[i_7] = add_6 * add_6;
                term_18[i_7] = add_6 * mul_16;
            }
            if (full_3) {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    sum_8 = sum_8 + term_7[i_8];
                    sum_19 = sum_19 + term_18[i_8];
                }
            } else {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    const bool inside = (col_4 + i_9) < args.cols;
                    sum_8 = sum_8 + (inside ? term_7[i_9] : 0.0f);
                    sum_19 = sum_19 + (inside ? term_18[i_9] : 0.0f);
                }
            }
        }
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)16);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)16);
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)8);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)8);
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)4);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)4);
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)2);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)2);
        sum_8 = sum_8 + simd_shuffle_xor(sum_8, (ushort)1);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_8_of_warp[warp] = sum_8;
            sum_19_of_warp[warp] = sum_19;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_8 = sum_8_of_warp[0];
        sum_19 = sum_19_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 16; w_2++) {
            sum_8 = sum_8 + sum_8_of_warp[w_2];
            sum_19 = sum_19 + sum_19_of_warp[w_2];
        }
        const float fma_12 = metal::fma(sum_8, recip_11, args.eps);
        const float rsqrt_13 = metal::precise::rsqrt(fma_12);
        const float mul_20 = rsqrt_13 * rsqrt_13;
        const float mul_21 = rsqrt_13 * mul_20;
        const float mul_23 = mul_21 * (-0.5f);
        const float mul_24 = sum_19 * mul_23;
        const float mul_25 = recip_11 * mul_24;
        const float mul_27 = mul_25 * 2.0f;
#pragma unroll
        for (int c_5 = 0; c_5 < 2; c_5++) {
            const int col_5 = (lane + (c_5 * 512)) * 4;
            const bool full_4 = (col_5 + 4) <= args.cols;
            float d_x_chunk[4];
            float d_r_chunk[4];
#pragma unroll
            for (int i_10 = 0; i_10 < 4; i_10++) {
                const float mul_15 = g_y_held[(c_5 * 4) + i_10] * (v_6_held[(c_5 * 4) + i_10] * rsqrt_13);
                const float mul_16_2 = w_held[(c_5 * 4) + i_10] * g_y_held[(c_5 * 4) + i_10];
                const float fma_29 = metal::fma(v_6_held[(c_5 * 4) + i_10], mul_27, metal::fma(rsqrt_13, mul_16_2, g_residual_held[(c_5 * 4) + i_10]));
                d_x_chunk[i_10] = fma_29;
                d_r_chunk[i_10] = fma_29;
                sum_17[(c_5 * 4) + i_10] = sum_17[(c_5 * 4) + i_10] + mul_15;
            }
            if (full_4 && d_x_vectors) {
                store_f32x4(&d_x[d_x_row + col_5], &d_x_chunk[0]);
            } else {
#pragma unroll
                for (int i_11 = 0; i_11 < 4; i_11++) {
                    if ((col_5 + i_11) < args.cols) {
                        d_x[d_x_row + (col_5 + i_11)] = d_x_chunk[i_11];
                    }
                }
            }
            if (full_4 && d_r_vectors) {
                store_f32x4(&d_r[d_r_row + col_5], &d_r_chunk[0]);
            } else {
#pragma unroll
                for (int i_12 = 0; i_12 < 4; i_12++) {
                    if ((col_5 + i_12) < args.cols) {
                        d_r[d_r_row + (col_5 + i_12)] = d_r_chunk[i_12];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    const int part_start = bid * args.pitch;
#pragma unroll
    for (int c_6 = 0; c_6 < 2; c_6++) {
        const int at = part_start + ((tid + (c_6 * 512)) * 4);
        store_f32x4(&parts_17[at], &sum_17[c_6 * 4]);
    }
}

struct zmlx_rms_norm_residual_vjp_f32_1_args {
    int cols;
    int pitch;
    int parts;
};

[[max_total_threads_per_threadgroup(1024)]]
kernel void zmlx_rms_norm_residual_vjp_f32_1(device float* d_w [[buffer(0)]],
    device const float* parts_17 [[buffer(1)]],
    constant zmlx_rms_norm_residual_vjp_f32_1_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    threadgroup float sum_17_of_group[1024];
    const int lane = tid & 31;
    const int group = tid / 32;
    const int col = (bid * 32) + lane;
    const bool inside = col < args.cols;
    float sum_17 = 0.0f;
    if (inside) {
        for (int part = group; part < args.parts; part += 32) {
            sum_17 = sum_17 + parts_17[(part * args.pitch) + col];
        }
    }
    sum_17_of_group[tid] = sum_17;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if ((group == 0) && inside) {
#pragma unroll
        for (int g = 1; g < 32; g++) {
            sum_17 = sum_17 + sum_17_of_group[(g * 32) + lane];
        }
        d_w[col] = sum_17;
    }
}
