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

struct zmlx_sgd_step_f32_args {
    float wd;
    float momentum;
    float rest;
    float lr;
    float now;
    float later;
    int chunks;
    int rows;
    int p_row_stride_0;
    int g_row_stride_0;
    int m0_row_stride_0;
    int cols;
    int p_shift;
    int p_col;
    int g_shift;
    int g_col;
    int m0_shift;
    int m0_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_sgd_step_f32(device const float* p [[buffer(0)]],
    device const float* g [[buffer(1)]],
    device const float* m0 [[buffer(2)]],
    device float* param [[buffer(3)]],
    device float* m1 [[buffer(4)]],
    constant zmlx_sgd_step_f32_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        float p_chunk[4];
        float g_chunk[4];
        float m0_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int p_row = row * args.p_row_stride_0;
        const int g_row = row * args.g_row_stride_0;
        const int m0_row = row * args.m0_row_stride_0;
        const int param_row = row * args.cols;
        const int m1_row = row * args.cols;
        const int shift = param_row & 3;
        const bool p_vectors = ((((p_row + args.p_shift) - shift) & 3) == 0) && (args.p_col == 1);
        const bool g_vectors = ((((g_row + args.g_shift) - shift) & 3) == 0) && (args.g_col == 1);
        const bool m0_vectors = ((((m0_row + args.m0_shift) - shift) & 3) == 0) && (args.m0_col == 1);
        const bool m1_vectors = ((m1_row - shift) & 3) == 0;
        const int col = ((first - (row * args.chunks)) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        if (full && p_vectors) {
            load_f32x4(&p[p_row + col], &p_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? p[p_row + ((col + i) * args.p_col)] : 0.0f;
            }
        }
        if (full && g_vectors) {
            load_f32x4(&g[g_row + col], &g_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                g_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? g[g_row + ((col + i_2) * args.g_col)] : 0.0f;
            }
        }
        if (full && m0_vectors) {
            load_f32x4(&m0[m0_row + col], &m0_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                m0_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? m0[m0_row + ((col + i_3) * args.m0_col)] : 0.0f;
            }
        }
        float param_chunk[4];
        float m1_chunk[4];
#pragma unroll
        for (int i_4 = 0; i_4 < 4; i_4++) {
            const float add_10 = g_chunk[i_4] + (p_chunk[i_4] * args.wd);
            const float add_13 = (m0_chunk[i_4] * args.momentum) + (args.rest * add_10);
            const float sub_18 = p_chunk[i_4] - (args.lr * ((args.now * add_10) + (args.later * add_13)));
            param_chunk[i_4] = sub_18;
            m1_chunk[i_4] = add_13;
        }
        if (full) {
            store_f32x4(&param[param_row + col], &param_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                if ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) {
                    param[param_row + (col + i_5)] = param_chunk[i_5];
                }
            }
        }
        if (full && m1_vectors) {
            store_f32x4(&m1[m1_row + col], &m1_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                if ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) {
                    m1[m1_row + (col + i_6)] = m1_chunk[i_6];
                }
            }
        }
    }
}

struct zmlx_sgd_step_bf16_args {
    float wd;
    float momentum;
    float rest;
    float lr;
    float now;
    float later;
    int chunks;
    int rows;
    int p_row_stride_0;
    int g_row_stride_0;
    int m0_row_stride_0;
    int cols;
    int p_shift;
    int p_col;
    int g_shift;
    int g_col;
    int m0_shift;
    int m0_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_sgd_step_bf16(device const ushort* p [[buffer(0)]],
    device const ushort* g [[buffer(1)]],
    device const ushort* m0 [[buffer(2)]],
    device ushort* param [[buffer(3)]],
    device ushort* m1 [[buffer(4)]],
    constant zmlx_sgd_step_bf16_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        uint p_chunk[4];
        uint g_chunk[4];
        uint m0_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int p_row = row * args.p_row_stride_0;
        const int g_row = row * args.g_row_stride_0;
        const int m0_row = row * args.m0_row_stride_0;
        const int param_row = row * args.cols;
        const int m1_row = row * args.cols;
        const int shift = param_row & 7;
        const bool p_vectors = ((((p_row + args.p_shift) - shift) & 7) == 0) && (args.p_col == 1);
        const bool g_vectors = ((((g_row + args.g_shift) - shift) & 7) == 0) && (args.g_col == 1);
        const bool m0_vectors = ((((m0_row + args.m0_shift) - shift) & 7) == 0) && (args.m0_col == 1);
        const bool m1_vectors = ((m1_row - shift) & 7) == 0;
        const int col = ((first - (row * args.chunks)) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        if (full && p_vectors) {
            copy_bf16x8(&p[p_row + col], &p_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                p_chunk[i / 2] = put_bf16(p_chunk[i / 2], i & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(p[p_row + ((col + i) * args.p_col)]) : 0.0f);
            }
        }
        if (full && g_vectors) {
            copy_bf16x8(&g[g_row + col], &g_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                g_chunk[i_2 / 2] = put_bf16(g_chunk[i_2 / 2], i_2 & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(g[g_row + ((col + i_2) * args.g_col)]) : 0.0f);
            }
        }
        if (full && m0_vectors) {
            copy_bf16x8(&m0[m0_row + col], &m0_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                m0_chunk[i_3 / 2] = put_bf16(m0_chunk[i_3 / 2], i_3 & 1, ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? bf16_to_f32(m0[m0_row + ((col + i_3) * args.m0_col)]) : 0.0f);
            }
        }
        float param_chunk[8];
        float m1_chunk[8];
#pragma unroll
        for (int i_4 = 0; i_4 < 8; i_4++) {
            const float add_10 = half_bf16(g_chunk[i_4 / 2], i_4 & 1) + (half_bf16(p_chunk[i_4 / 2], i_4 & 1) * args.wd);
            const float add_13 = (half_bf16(m0_chunk[i_4 / 2], i_4 & 1) * args.momentum) + (args.rest * add_10);
            const float sub_18 = half_bf16(p_chunk[i_4 / 2], i_4 & 1) - (args.lr * ((args.now * add_10) + (args.later * add_13)));
            param_chunk[i_4] = sub_18;
            m1_chunk[i_4] = add_13;
        }
        if (full) {
            store_bf16x8(&param[param_row + col], &param_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                if ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) {
                    param[param_row + (col + i_5)] = f32_to_bf16(param_chunk[i_5]);
                }
            }
        }
        if (full && m1_vectors) {
            store_bf16x8(&m1[m1_row + col], &m1_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                if ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) {
                    m1[m1_row + (col + i_6)] = f32_to_bf16(m1_chunk[i_6]);
                }
            }
        }
    }
}
