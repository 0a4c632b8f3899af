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

static inline float sigmoid_f32(float x) {
    const float e = metal::precise::exp(-metal::fabs(x));
    const float r = 1.0f / (1.0f + e);
    return x >= 0.0f ? r : e * r;
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
    uint w[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        w[i / 2] |= (uint)f32_to_bf16(v[i]) << (16 * (i % 2));
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

struct gelu_f32__args {
    int chunks;
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void gelu_f32_(device const float* x [[buffer(0)]],
    device float* out [[buffer(1)]],
    constant gelu_f32__args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int chunk = (bid * 256) + tid; chunk < total; chunk += blocks * 256) {
        const int row = chunk / args.chunks;
        const int x_row = row * args.x_row_stride_0;
        const int out_row = row * args.cols;
        const int shift = out_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const int col = ((chunk % args.chunks) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        float x_chunk[4];
        if (full && x_vectors) {
            load_f32x4(&x[x_row + col], &x_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : 0.0f;
            }
        }
        float out_chunk[4];
#pragma unroll
        for (int i_2 = 0; i_2 < 4; i_2++) {
            const float add_5 = x_chunk[i_2] + ((x_chunk[i_2] * (x_chunk[i_2] * x_chunk[i_2])) * 0.044715f);
            out_chunk[i_2] = x_chunk[i_2] * sigmoid_f32((add_5 * 1.5957692f));
        }
        if (full) {
            store_f32x4(&out[out_row + col], &out_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                if ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) {
                    out[out_row + (col + i_3)] = out_chunk[i_3];
                }
            }
        }
    }
}

struct gelu_bf16__args {
    int chunks;
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void gelu_bf16_(device const ushort* x [[buffer(0)]],
    device ushort* out [[buffer(1)]],
    constant gelu_bf16__args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int chunk = (bid * 256) + tid; chunk < total; chunk += blocks * 256) {
        const int row = chunk / args.chunks;
        const int x_row = row * args.x_row_stride_0;
        const int out_row = row * args.cols;
        const int shift = out_row & 7;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 7) == 0) && (args.x_col == 1);
        const int col = ((chunk % args.chunks) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        float x_chunk[8];
        if (full && x_vectors) {
            load_bf16x8(&x[x_row + col], &x_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                x_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(x[x_row + ((col + i) * args.x_col)]) : 0.0f;
            }
        }
        float out_chunk[8];
#pragma unroll
        for (int i_2 = 0; i_2 < 8; i_2++) {
            const float add_5 = x_chunk[i_2] + ((x_chunk[i_2] * (x_chunk[i_2] * x_chunk[i_2])) * 0.044715f);
            out_chunk[i_2] = x_chunk[i_2] * sigmoid_f32((add_5 * 1.5957692f));
        }
        if (full) {
            store_bf16x8(&out[out_row + col], &out_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                if ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) {
                    out[out_row + (col + i_3)] = f32_to_bf16(out_chunk[i_3]);
                }
            }
        }
    }
}

struct gelu_vjp_f32__args {
    int chunks;
    int rows;
    int x_row_stride_0;
    int g_out_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void gelu_vjp_f32_(device const float* x [[buffer(0)]],
    device const float* g_out [[buffer(1)]],
    device float* d_x [[buffer(2)]],
    constant gelu_vjp_f32__args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int chunk = (bid * 256) + tid; chunk < total; chunk += blocks * 256) {
        const int row = chunk / args.chunks;
        const int x_row = row * args.x_row_stride_0;
        const int g_out_row = row * args.g_out_row_stride_0;
        const int d_x_row = row * args.cols;
        const int shift = d_x_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const bool g_out_vectors = ((((g_out_row + args.g_out_shift) - shift) & 3) == 0) && (args.g_out_col == 1);
        const int col = ((chunk % args.chunks) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        float x_chunk[4];
        if (full && x_vectors) {
            load_f32x4(&x[x_row + col], &x_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : 0.0f;
            }
        }
        float g_out_chunk[4];
        if (full && g_out_vectors) {
            load_f32x4(&g_out[g_out_row + col], &g_out_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                g_out_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? g_out[g_out_row + ((col + i_2) * args.g_out_col)] : 0.0f;
            }
        }
        float d_x_chunk[4];
#pragma unroll
        for (int i_3 = 0; i_3 < 4; i_3++) {
            const float mul_2 = x_chunk[i_3] * x_chunk[i_3];
            const float sigmoid_8 = sigmoid_f32((metal::fma((x_chunk[i_3] * mul_2), 0.044715f, x_chunk[i_3]) * 1.5957692f));
            const float fma_15 = metal::fma(metal::fma(mul_2, 0.21406445f, 1.5957692f), (x_chunk[i_3] * (1.0f - sigmoid_8)), 1.0f);
            d_x_chunk[i_3] = (g_out_chunk[i_3] * sigmoid_8) * fma_15;
        }
        if (full) {
            store_f32x4(&d_x[d_x_row + col], &d_x_chunk[0]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                if ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) {
                    d_x[d_x_row + (col + i_4)] = d_x_chunk[i_4];
                }
            }
        }
    }
}
