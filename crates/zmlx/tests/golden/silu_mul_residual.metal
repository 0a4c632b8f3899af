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

static inline float sigmoid_f32(float x) {
    const float e = metal::precise::exp(-metal::fabs(x));
    const float r = 1.0f / (1.0f + e);
    return x >= 0.0f ? r : e * r;
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

struct zmlx_silu_mul_residual_f32_args {
    int chunks;
    int rows;
    int gate_row_stride_0;
    int up_row_stride_0;
    int r_row_stride_0;
    int cols;
    int gate_shift;
    int gate_col;
    int up_shift;
    int up_col;
    int r_shift;
    int r_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_silu_mul_residual_f32(device const float* gate [[buffer(0)]],
    device const float* up [[buffer(1)]],
    device const float* r [[buffer(2)]],
    device float* out [[buffer(3)]],
    constant zmlx_silu_mul_residual_f32_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        float gate_chunk[4];
        float up_chunk[4];
        float r_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int gate_row = row * args.gate_row_stride_0;
        const int up_row = row * args.up_row_stride_0;
        const int r_row = row * args.r_row_stride_0;
        const int out_row = row * args.cols;
        const int shift = out_row & 3;
        const bool gate_vectors = ((((gate_row + args.gate_shift) - shift) & 3) == 0) && (args.gate_col == 1);
        const bool up_vectors = ((((up_row + args.up_shift) - shift) & 3) == 0) && (args.up_col == 1);
        const bool r_vectors = ((((r_row + args.r_shift) - shift) & 3) == 0) && (args.r_col == 1);
        const int col = ((first - (row * args.chunks)) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        if (full && gate_vectors) {
            load_f32x4(&gate[gate_row + col], &gate_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                gate_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? gate[gate_row + ((col + i) * args.gate_col)] : 0.0f;
            }
        }
        if (full && up_vectors) {
            load_f32x4(&up[up_row + col], &up_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                up_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? up[up_row + ((col + i_2) * args.up_col)] : 0.0f;
            }
        }
        if (full && r_vectors) {
            load_f32x4(&r[r_row + col], &r_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                r_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? r[r_row + ((col + i_3) * args.r_col)] : 0.0f;
            }
        }
        float out_chunk[4];
#pragma unroll
        for (int i_4 = 0; i_4 < 4; i_4++) {
            const float add_6 = r_chunk[i_4] + (up_chunk[i_4] * (gate_chunk[i_4] * sigmoid_f32(gate_chunk[i_4])));
            out_chunk[i_4] = add_6;
        }
        if (full) {
            store_f32x4(&out[out_row + col], &out_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                if ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) {
                    out[out_row + (col + i_5)] = out_chunk[i_5];
                }
            }
        }
    }
}

struct zmlx_silu_mul_residual_bf16_args {
    int chunks;
    int rows;
    int gate_row_stride_0;
    int up_row_stride_0;
    int r_row_stride_0;
    int cols;
    int gate_shift;
    int gate_col;
    int up_shift;
    int up_col;
    int r_shift;
    int r_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_silu_mul_residual_bf16(device const ushort* gate [[buffer(0)]],
    device const ushort* up [[buffer(1)]],
    device const ushort* r [[buffer(2)]],
    device ushort* out [[buffer(3)]],
    constant zmlx_silu_mul_residual_bf16_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        uint gate_chunk[4];
        uint up_chunk[4];
        uint r_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int gate_row = row * args.gate_row_stride_0;
        const int up_row = row * args.up_row_stride_0;
        const int r_row = row * args.r_row_stride_0;
        const int out_row = row * args.cols;
        const int shift = out_row & 7;
        const bool gate_vectors = ((((gate_row + args.gate_shift) - shift) & 7) == 0) && (args.gate_col == 1);
        const bool up_vectors = ((((up_row + args.up_shift) - shift) & 7) == 0) && (args.up_col == 1);
        const bool r_vectors = ((((r_row + args.r_shift) - shift) & 7) == 0) && (args.r_col == 1);
        const int col = ((first - (row * args.chunks)) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        if (full && gate_vectors) {
            copy_bf16x8(&gate[gate_row + col], &gate_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                gate_chunk[i / 2] = put_bf16(gate_chunk[i / 2], i & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(gate[gate_row + ((col + i) * args.gate_col)]) : 0.0f);
            }
        }
        if (full && up_vectors) {
            copy_bf16x8(&up[up_row + col], &up_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                up_chunk[i_2 / 2] = put_bf16(up_chunk[i_2 / 2], i_2 & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(up[up_row + ((col + i_2) * args.up_col)]) : 0.0f);
            }
        }
        if (full && r_vectors) {
            copy_bf16x8(&r[r_row + col], &r_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                r_chunk[i_3 / 2] = put_bf16(r_chunk[i_3 / 2], i_3 & 1, ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? bf16_to_f32(r[r_row + ((col + i_3) * args.r_col)]) : 0.0f);
            }
        }
        float out_chunk[8];
#pragma unroll
        for (int i_4 = 0; i_4 < 8; i_4++) {
            const float add_6 = half_bf16(r_chunk[i_4 / 2], i_4 & 1) + (half_bf16(up_chunk[i_4 / 2], i_4 & 1) * (half_bf16(gate_chunk[i_4 / 2], i_4 & 1) * sigmoid_f32(half_bf16(gate_chunk[i_4 / 2], i_4 & 1))));
            out_chunk[i_4] = add_6;
        }
        if (full) {
            store_bf16x8(&out[out_row + col], &out_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                if ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) {
                    out[out_row + (col + i_5)] = f32_to_bf16(out_chunk[i_5]);
                }
            }
        }
    }
}

struct zmlx_silu_mul_residual_vjp_f32_args {
    int chunks;
    int rows;
    int gate_row_stride_0;
    int up_row_stride_0;
    int g_out_row_stride_0;
    int cols;
    int gate_shift;
    int gate_col;
    int up_shift;
    int up_col;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_silu_mul_residual_vjp_f32(device const float* gate [[buffer(0)]],
    device const float* up [[buffer(1)]],
    device const float* g_out [[buffer(2)]],
    device float* d_gate [[buffer(3)]],
    device float* d_up [[buffer(4)]],
    device float* d_r [[buffer(5)]],
    constant zmlx_silu_mul_residual_vjp_f32_args& args [[buffer(6)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        float gate_chunk[4];
        float up_chunk[4];
        float g_out_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int gate_row = row * args.gate_row_stride_0;
        const int up_row = row * args.up_row_stride_0;
        const int g_out_row = row * args.g_out_row_stride_0;
        const int d_gate_row = row * args.cols;
        const int d_up_row = row * args.cols;
        const int d_r_row = row * args.cols;
        const int shift = d_gate_row & 3;
        const bool gate_vectors = ((((gate_row + args.gate_shift) - shift) & 3) == 0) && (args.gate_col == 1);
        const bool up_vectors = ((((up_row + args.up_shift) - shift) & 3) == 0) && (args.up_col == 1);
        const bool g_out_vectors = ((((g_out_row + args.g_out_shift) - shift) & 3) == 0) && (args.g_out_col == 1);
        const bool d_up_vectors = ((d_up_row - shift) & 3) == 0;
        const bool d_r_vectors = ((d_r_row - shift) & 3) == 0;
        const int col = ((first - (row * args.chunks)) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        if (full && gate_vectors) {
            load_f32x4(&gate[gate_row + col], &gate_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                gate_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? gate[gate_row + ((col + i) * args.gate_col)] : 0.0f;
            }
        }
        if (full && up_vectors) {
            load_f32x4(&up[up_row + col], &up_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                up_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? up[up_row + ((col + i_2) * args.up_col)] : 0.0f;
            }
        }
        if (full && g_out_vectors) {
            load_f32x4(&g_out[g_out_row + col], &g_out_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                g_out_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? g_out[g_out_row + ((col + i_3) * args.g_out_col)] : 0.0f;
            }
        }
        float d_gate_chunk[4];
        float d_up_chunk[4];
        float d_r_chunk[4];
#pragma unroll
        for (int i_4 = 0; i_4 < 4; i_4++) {
            const float sigmoid_3 = sigmoid_f32(gate_chunk[i_4]);
            const float mul_11 = (sigmoid_3 * (up_chunk[i_4] * g_out_chunk[i_4])) * metal::fma(gate_chunk[i_4], (1.0f - sigmoid_3), 1.0f);
            d_gate_chunk[i_4] = mul_11;
            d_up_chunk[i_4] = g_out_chunk[i_4] * (gate_chunk[i_4] * sigmoid_3);
            d_r_chunk[i_4] = g_out_chunk[i_4];
        }
        if (full) {
            store_f32x4(&d_gate[d_gate_row + col], &d_gate_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                if ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) {
                    d_gate[d_gate_row + (col + i_5)] = d_gate_chunk[i_5];
                }
            }
        }
        if (full && d_up_vectors) {
            store_f32x4(&d_up[d_up_row + col], &d_up_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                if ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) {
                    d_up[d_up_row + (col + i_6)] = d_up_chunk[i_6];
                }
            }
        }
        if (full && d_r_vectors) {
            store_f32x4(&d_r[d_r_row + col], &d_r_chunk[0]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 4; i_7++) {
                if ((0 <= (col + i_7)) && ((col + i_7) < args.cols)) {
                    d_r[d_r_row + (col + i_7)] = d_r_chunk[i_7];
                }
            }
        }
    }
}
