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

static inline int min_i32(int a, int b) {
    return a <= b ? a : b;
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

static inline void copy_bf16x8(device const ushort* p, thread uint* w) {
    const uint4 t = *(device const uint4*)p;
    w[0] = t.x;
    w[1] = t.y;
    w[2] = t.z;
    w[3] = t.w;
}

struct zmlx_sum_f32_args {
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_sum_f32(device const float* x [[buffer(0)]],
    device float* out [[buffer(1)]],
    constant zmlx_sum_f32_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_1_of_warp[8];
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
        if (tid == 0) {
            out[base] = sum_1;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_sum_bf16_args {
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_sum_bf16(device const ushort* x [[buffer(0)]],
    device ushort* out [[buffer(1)]],
    constant zmlx_sum_bf16_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_1_of_warp[4];
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
        if (tid == 0) {
            out[base] = f32_to_bf16(sum_1);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_sum_vjp_f32_args {
    int rows;
    int g_out_row_stride_0;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_sum_vjp_f32(device const float* g_out [[buffer(0)]],
    device float* d_x [[buffer(1)]],
    constant zmlx_sum_vjp_f32_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int sub = tid;
    for (int base = bid * 256; base < args.rows; base += blocks * 256) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int g_out_row = row_2 * args.g_out_row_stride_0;
        const int lane = 0;
        const float g_out_2 = g_out[g_out_row];
        if (lives) {
            d_x[row_2] = g_out_2;
        }
    }
}
