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

struct zmlx_moe_combine_f32_args {
    int chunks;
    int rows;
    int x0_row_stride_0;
    int x1_row_stride_0;
    int x2_row_stride_0;
    int x3_row_stride_0;
    int w0_row_stride_0;
    int w1_row_stride_0;
    int w2_row_stride_0;
    int w3_row_stride_0;
    int cols;
    int x0_shift;
    int x0_col;
    int x1_shift;
    int x1_col;
    int x2_shift;
    int x2_col;
    int x3_shift;
    int x3_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_moe_combine_f32(device const float* x0 [[buffer(0)]],
    device const float* x1 [[buffer(1)]],
    device const float* x2 [[buffer(2)]],
    device const float* x3 [[buffer(3)]],
    device const float* w0 [[buffer(4)]],
    device const float* w1 [[buffer(5)]],
    device const float* w2 [[buffer(6)]],
    device const float* w3 [[buffer(7)]],
    device float* out [[buffer(8)]],
    constant zmlx_moe_combine_f32_args& args [[buffer(9)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        float x0_chunk[4];
        float x1_chunk[4];
        float x2_chunk[4];
        float x3_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int x0_row = row * args.x0_row_stride_0;
        const int x1_row = row * args.x1_row_stride_0;
        const int x2_row = row * args.x2_row_stride_0;
        const int x3_row = row * args.x3_row_stride_0;
        const int w0_row = row * args.w0_row_stride_0;
        const int w1_row = row * args.w1_row_stride_0;
        const int w2_row = row * args.w2_row_stride_0;
        const int w3_row = row * args.w3_row_stride_0;
        const int out_row = row * args.cols;
        const int shift = out_row & 3;
        const bool x0_vectors = ((((x0_row + args.x0_shift) - shift) & 3) == 0) && (args.x0_col == 1);
        const bool x1_vectors = ((((x1_row + args.x1_shift) - shift) & 3) == 0) && (args.x1_col == 1);
        const bool x2_vectors = ((((x2_row + args.x2_shift) - shift) & 3) == 0) && (args.x2_col == 1);
        const bool x3_vectors = ((((x3_row + args.x3_shift) - shift) & 3) == 0) && (args.x3_col == 1);
        const int col = ((first - (row * args.chunks)) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        const float w0_2 = w0[w0_row];
        const float w1_2 = w1[w1_row];
        const float w2_2 = w2[w2_row];
        const float w3_2 = w3[w3_row];
        if (full && x0_vectors) {
            load_f32x4(&x0[x0_row + col], &x0_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x0_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x0[x0_row + ((col + i) * args.x0_col)] : 0.0f;
            }
        }
        if (full && x1_vectors) {
            load_f32x4(&x1[x1_row + col], &x1_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                x1_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? x1[x1_row + ((col + i_2) * args.x1_col)] : 0.0f;
            }
        }
        if (full && x2_vectors) {
            load_f32x4(&x2[x2_row + col], &x2_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                x2_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? x2[x2_row + ((col + i_3) * args.x2_col)] : 0.0f;
            }
        }
        if (full && x3_vectors) {
            load_f32x4(&x3[x3_row + col], &x3_chunk[0]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                x3_chunk[i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? x3[x3_row + ((col + i_4) * args.x3_col)] : 0.0f;
            }
        }
        float out_chunk[4];
#pragma unroll
        for (int i_5 = 0; i_5 < 4; i_5++) {
            const float add_12 = ((x0_chunk[i_5] * w0_2) + (x1_chunk[i_5] * w1_2)) + (x2_chunk[i_5] * w2_2);
            out_chunk[i_5] = add_12 + (x3_chunk[i_5] * w3_2);
        }
        if (full) {
            store_f32x4(&out[out_row + col], &out_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                if ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) {
                    out[out_row + (col + i_6)] = out_chunk[i_6];
                }
            }
        }
    }
}

struct zmlx_moe_combine_bf16_args {
    int chunks;
    int rows;
    int x0_row_stride_0;
    int x1_row_stride_0;
    int x2_row_stride_0;
    int x3_row_stride_0;
    int w0_row_stride_0;
    int w1_row_stride_0;
    int w2_row_stride_0;
    int w3_row_stride_0;
    int cols;
    int x0_shift;
    int x0_col;
    int x1_shift;
    int x1_col;
    int x2_shift;
    int x2_col;
    int x3_shift;
    int x3_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_moe_combine_bf16(device const ushort* x0 [[buffer(0)]],
    device const ushort* x1 [[buffer(1)]],
    device const ushort* x2 [[buffer(2)]],
    device const ushort* x3 [[buffer(3)]],
    device const ushort* w0 [[buffer(4)]],
    device const ushort* w1 [[buffer(5)]],
    device const ushort* w2 [[buffer(6)]],
    device const ushort* w3 [[buffer(7)]],
    device ushort* out [[buffer(8)]],
    constant zmlx_moe_combine_bf16_args& args [[buffer(9)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        uint x0_chunk[4];
        uint x1_chunk[4];
        uint x2_chunk[4];
        uint x3_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int x0_row = row * args.x0_row_stride_0;
        const int x1_row = row * args.x1_row_stride_0;
        const int x2_row = row * args.x2_row_stride_0;
        const int x3_row = row * args.x3_row_stride_0;
        const int w0_row = row * args.w0_row_stride_0;
        const int w1_row = row * args.w1_row_stride_0;
        const int w2_row = row * args.w2_row_stride_0;
        const int w3_row = row * args.w3_row_stride_0;
        const int out_row = row * args.cols;
        const int shift = out_row & 7;
        const bool x0_vectors = ((((x0_row + args.x0_shift) - shift) & 7) == 0) && (args.x0_col == 1);
        const bool x1_vectors = ((((x1_row + args.x1_shift) - shift) & 7) == 0) && (args.x1_col == 1);
        const bool x2_vectors = ((((x2_row + args.x2_shift) - shift) & 7) == 0) && (args.x2_col == 1);
        const bool x3_vectors = ((((x3_row + args.x3_shift) - shift) & 7) == 0) && (args.x3_col == 1);
        const int col = ((first - (row * args.chunks)) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        const float w0_2 = bf16_to_f32(w0[w0_row]);
        const float w1_2 = bf16_to_f32(w1[w1_row]);
        const float w2_2 = bf16_to_f32(w2[w2_row]);
        const float w3_2 = bf16_to_f32(w3[w3_row]);
        if (full && x0_vectors) {
            copy_bf16x8(&x0[x0_row + col], &x0_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                x0_chunk[i / 2] = put_bf16(x0_chunk[i / 2], i & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(x0[x0_row + ((col + i) * args.x0_col)]) : 0.0f);
            }
        }
        if (full && x1_vectors) {
            copy_bf16x8(&x1[x1_row + col], &x1_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                x1_chunk[i_2 / 2] = put_bf16(x1_chunk[i_2 / 2], i_2 & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(x1[x1_row + ((col + i_2) * args.x1_col)]) : 0.0f);
            }
        }
        if (full && x2_vectors) {
            copy_bf16x8(&x2[x2_row + col], &x2_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                x2_chunk[i_3 / 2] = put_bf16(x2_chunk[i_3 / 2], i_3 & 1, ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? bf16_to_f32(x2[x2_row + ((col + i_3) * args.x2_col)]) : 0.0f);
            }
        }
        if (full && x3_vectors) {
            copy_bf16x8(&x3[x3_row + col], &x3_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                x3_chunk[i_4 / 2] = put_bf16(x3_chunk[i_4 / 2], i_4 & 1, ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? bf16_to_f32(x3[x3_row + ((col + i_4) * args.x3_col)]) : 0.0f);
            }
        }
        float out_chunk[8];
#pragma unroll
        for (int i_5 = 0; i_5 < 8; i_5++) {
            const float add_12 = ((half_bf16(x0_chunk[i_5 / 2], i_5 & 1) * w0_2) + (half_bf16(x1_chunk[i_5 / 2], i_5 & 1) * w1_2)) + (half_bf16(x2_chunk[i_5 / 2], i_5 & 1) * w2_2);
            out_chunk[i_5] = add_12 + (half_bf16(x3_chunk[i_5 / 2], i_5 & 1) * w3_2);
        }
        if (full) {
            store_bf16x8(&out[out_row + col], &out_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                if ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) {
                    out[out_row + (col + i_6)] = f32_to_bf16(out_chunk[i_6]);
                }
            }
        }
    }
}

struct zmlx_moe_combine_vjp_f32_args {
    int rows;
    int x0_row_stride_0;
    int x1_row_stride_0;
    int x2_row_stride_0;
    int x3_row_stride_0;
    int w0_row_stride_0;
    int w1_row_stride_0;
    int w2_row_stride_0;
    int w3_row_stride_0;
    int g_out_row_stride_0;
    int cols;
    int x0_shift;
    int x0_col;
    int x1_shift;
    int x1_col;
    int x2_shift;
    int x2_col;
    int x3_shift;
    int x3_col;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_moe_combine_vjp_f32(device const float* x0 [[buffer(0)]],
    device const float* x1 [[buffer(1)]],
    device const float* x2 [[buffer(2)]],
    device const float* x3 [[buffer(3)]],
    device const float* w0 [[buffer(4)]],
    device const float* w1 [[buffer(5)]],
    device const float* w2 [[buffer(6)]],
    device const float* w3 [[buffer(7)]],
    device const float* g_out [[buffer(8)]],
    device float* d_x0 [[buffer(9)]],
    device float* d_x1 [[buffer(10)]],
    device float* d_x2 [[buffer(11)]],
    device float* d_x3 [[buffer(12)]],
    device float* d_w0 [[buffer(13)]],
    device float* d_w1 [[buffer(14)]],
    device float* d_w2 [[buffer(15)]],
    device float* d_w3 [[buffer(16)]],
    constant zmlx_moe_combine_vjp_f32_args& args [[buffer(17)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_11_of_warp[8];
    threadgroup float sum_14_of_warp[8];
    threadgroup float sum_17_of_warp[8];
    threadgroup float sum_20_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x0_row = base * args.x0_row_stride_0;
        const int x1_row = base * args.x1_row_stride_0;
        const int x2_row = base * args.x2_row_stride_0;
        const int x3_row = base * args.x3_row_stride_0;
        const int w0_row = base * args.w0_row_stride_0;
        const int w1_row = base * args.w1_row_stride_0;
        const int w2_row = base * args.w2_row_stride_0;
        const int w3_row = base * args.w3_row_stride_0;
        const int g_out_row = base * args.g_out_row_stride_0;
        const int d_x0_row = base * args.cols;
        const int d_x1_row = base * args.cols;
        const int d_x2_row = base * args.cols;
        const int d_x3_row = base * args.cols;
        const int shift = d_x0_row & 3;
        const bool x0_vectors = ((((x0_row + args.x0_shift) - shift) & 3) == 0) && (args.x0_col == 1);
        const bool x1_vectors = ((((x1_row + args.x1_shift) - shift) & 3) == 0) && (args.x1_col == 1);
        const bool x2_vectors = ((((x2_row + args.x2_shift) - shift) & 3) == 0) && (args.x2_col == 1);
        const bool x3_vectors = ((((x3_row + args.x3_shift) - shift) & 3) == 0) && (args.x3_col == 1);
        const bool g_out_vectors = ((((g_out_row + args.g_out_shift) - shift) & 3) == 0) && (args.g_out_col == 1);
        const bool d_x1_vectors = ((d_x1_row - shift) & 3) == 0;
        const bool d_x2_vectors = ((d_x2_row - shift) & 3) == 0;
        const bool d_x3_vectors = ((d_x3_row - shift) & 3) == 0;
        const int lane = tid;
        float x0_held[16];
        float x1_held[16];
        float x2_held[16];
        float x3_held[16];
        float g_out_held[16];
        if (((((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && x0_vectors) && x1_vectors) && x2_vectors) && x3_vectors) && g_out_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&x0[x0_row + col_2], &x0_held[c_2 * 4]);
                load_f32x4(&x1[x1_row + col_2], &x1_held[c_2 * 4]);
                load_f32x4(&x2[x2_row + col_2], &x2_held[c_2 * 4]);
                load_f32x4(&x3[x3_row + col_2], &x3_held[c_2 * 4]);
                load_f32x4(&g_out[g_out_row + col_2], &g_out_held[c_2 * 4]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 256)) * 4) - shift;
                const bool full = (0 <= col) && ((col + 4) <= args.cols);
                if (full && x0_vectors) {
                    load_f32x4(&x0[x0_row + col], &x0_held[c * 4]);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        x0_held[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x0[x0_row + ((col + i) * args.x0_col)] : 0.0f;
                    }
                }
                if (full && x1_vectors) {
                    load_f32x4(&x1[x1_row + col], &x1_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 4; i_2++) {
                        x1_held[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? x1[x1_row + ((col + i_2) * args.x1_col)] : 0.0f;
                    }
                }
                if (full && x2_vectors) {
                    load_f32x4(&x2[x2_row + col], &x2_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_3 = 0; i_3 < 4; i_3++) {
                        x2_held[(c * 4) + i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? x2[x2_row + ((col + i_3) * args.x2_col)] : 0.0f;
                    }
                }
                if (full && x3_vectors) {
                    load_f32x4(&x3[x3_row + col], &x3_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        x3_held[(c * 4) + i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? x3[x3_row + ((col + i_4) * args.x3_col)] : 0.0f;
                    }
                }
                if (full && g_out_vectors) {
                    load_f32x4(&g_out[g_out_row + col], &g_out_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 4; i_5++) {
                        g_out_held[(c * 4) + i_5] = ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) ? g_out[g_out_row + ((col + i_5) * args.g_out_col)] : 0.0f;
                    }
                }
            }
        }
        const float w0_2 = w0[w0_row];
        const float w1_2 = w1[w1_row];
        const float w2_2 = w2[w2_row];
        const float w3_2 = w3[w3_row];
        float sum_11 = 0.0f;
        float sum_14 = 0.0f;
        float sum_17 = 0.0f;
        float sum_20 = 0.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float d_x0_chunk[4];
            float d_x1_chunk[4];
            float d_x2_chunk[4];
            float d_x3_chunk[4];
            float term_10[4];
            float term_13[4];
            float term_16[4];
            float term_19[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const float mul_10 = x3_held[(c_3 * 4) + i_6] * g_out_held[(c_3 * 4) + i_6];
                const float mul_13 = x2_held[(c_3 * 4) + i_6] * g_out_held[(c_3 * 4) + i_6];
                const float mul_16 = x1_held[(c_3 * 4) + i_6] * g_out_held[(c_3 * 4) + i_6];
                const float mul_19 = x0_held[(c_3 * 4) + i_6] * g_out_held[(c_3 * 4) + i_6];
                d_x0_chunk[i_6] = w0_2 * g_out_held[(c_3 * 4) + i_6];
                d_x1_chunk[i_6] = w1_2 * g_out_held[(c_3 * 4) + i_6];
                d_x2_chunk[i_6] = w2_2 * g_out_held[(c_3 * 4) + i_6];
                d_x3_chunk[i_6] = w3_2 * g_out_held[(c_3 * 4) + i_6];
                term_10[i_6] = mul_10;
                term_13[i_6] = mul_13;
                term_16[i_6] = mul_16;
                term_19[i_6] = mul_19;
            }
            if (full_2) {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    sum_11 = sum_11 + term_10[i_7];
                    sum_14 = sum_14 + term_13[i_7];
                    sum_17 = sum_17 + term_16[i_7];
                    sum_20 = sum_20 + term_19[i_7];
                }
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    const bool inside = (0 <= (col_3 + i_8)) && ((col_3 + i_8) < args.cols);
                    sum_11 = sum_11 + (inside ? term_10[i_8] : 0.0f);
                    sum_14 = sum_14 + (inside ? term_13[i_8] : 0.0f);
                    sum_17 = sum_17 + (inside ? term_16[i_8] : 0.0f);
                    sum_20 = sum_20 + (inside ? term_19[i_8] : 0.0f);
                }
            }
            if (full_2) {
                store_f32x4(&d_x0[d_x0_row + col_3], &d_x0_chunk[0]);
            } else {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    if ((0 <= (col_3 + i_9)) && ((col_3 + i_9) < args.cols)) {
                        d_x0[d_x0_row + (col_3 + i_9)] = d_x0_chunk[i_9];
                    }
                }
            }
            if (full_2 && d_x1_vectors) {
                store_f32x4(&d_x1[d_x1_row + col_3], &d_x1_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    if ((0 <= (col_3 + i_10)) && ((col_3 + i_10) < args.cols)) {
                        d_x1[d_x1_row + (col_3 + i_10)] = d_x1_chunk[i_10];
                    }
                }
            }
            if (full_2 && d_x2_vectors) {
                store_f32x4(&d_x2[d_x2_row + col_3], &d_x2_chunk[0]);
            } else {
#pragma unroll
                for (int i_11 = 0; i_11 < 4; i_11++) {
                    if ((0 <= (col_3 + i_11)) && ((col_3 + i_11) < args.cols)) {
                        d_x2[d_x2_row + (col_3 + i_11)] = d_x2_chunk[i_11];
                    }
                }
            }
            if (full_2 && d_x3_vectors) {
                store_f32x4(&d_x3[d_x3_row + col_3], &d_x3_chunk[0]);
            } else {
#pragma unroll
                for (int i_12 = 0; i_12 < 4; i_12++) {
                    if ((0 <= (col_3 + i_12)) && ((col_3 + i_12) < args.cols)) {
                        d_x3[d_x3_row + (col_3 + i_12)] = d_x3_chunk[i_12];
                    }
                }
            }
        }
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)16);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)16);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)16);
        sum_20 = sum_20 + simd_shuffle_xor(sum_20, (ushort)16);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)8);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)8);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)8);
        sum_20 = sum_20 + simd_shuffle_xor(sum_20, (ushort)8);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)4);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)4);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)4);
        sum_20 = sum_20 + simd_shuffle_xor(sum_20, (ushort)4);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)2);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)2);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)2);
        sum_20 = sum_20 + simd_shuffle_xor(sum_20, (ushort)2);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)1);
        sum_14 = sum_14 + simd_shuffle_xor(sum_14, (ushort)1);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)1);
        sum_20 = sum_20 + simd_shuffle_xor(sum_20, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_11_of_warp[warp] = sum_11;
            sum_14_of_warp[warp] = sum_14;
            sum_17_of_warp[warp] = sum_17;
            sum_20_of_warp[warp] = sum_20;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_11 = sum_11_of_warp[0];
        sum_14 = sum_14_of_warp[0];
        sum_17 = sum_17_of_warp[0];
        sum_20 = sum_20_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            sum_11 = sum_11 + sum_11_of_warp[w];
            sum_14 = sum_14 + sum_14_of_warp[w];
            sum_17 = sum_17 + sum_17_of_warp[w];
            sum_20 = sum_20 + sum_20_of_warp[w];
        }
        if (tid == 0) {
            d_w0[base] = sum_20;
            d_w1[base] = sum_17;
            d_w2[base] = sum_14;
            d_w3[base] = sum_11;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
