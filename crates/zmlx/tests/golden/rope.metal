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

struct zmlx_rope_f32_args {
    int chunks;
    int rows;
    int a_row_stride_0;
    int b_row_stride_0;
    int cos_row_stride_0;
    int sin_row_stride_0;
    int cols;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
    int cos_shift;
    int cos_col;
    int sin_shift;
    int sin_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_rope_f32(device const float* a [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device const float* cos [[buffer(2)]],
    device const float* sin [[buffer(3)]],
    device float* out [[buffer(4)]],
    constant zmlx_rope_f32_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        float a_chunk[4];
        float b_chunk[4];
        float cos_chunk[4];
        float sin_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int a_row = row * args.a_row_stride_0;
        const int b_row = row * args.b_row_stride_0;
        const int cos_row = row * args.cos_row_stride_0;
        const int sin_row = row * args.sin_row_stride_0;
        const int out_0_row = row * (args.cols * 2);
        const int out_1_row = (row * (args.cols * 2)) + args.cols;
        const int shift = out_0_row & 3;
        const bool a_vectors = ((((a_row + args.a_shift) - shift) & 3) == 0) && (args.a_col == 1);
        const bool b_vectors = ((((b_row + args.b_shift) - shift) & 3) == 0) && (args.b_col == 1);
        const bool cos_vectors = ((((cos_row + args.cos_shift) - shift) & 3) == 0) && (args.cos_col == 1);
        const bool sin_vectors = ((((sin_row + args.sin_shift) - shift) & 3) == 0) && (args.sin_col == 1);
        const bool out_1_vectors = ((out_1_row - shift) & 3) == 0;
        const int col = ((first - (row * args.chunks)) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        if (full && a_vectors) {
            load_f32x4(&a[a_row + col], &a_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                a_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? a[a_row + ((col + i) * args.a_col)] : 0.0f;
            }
        }
        if (full && b_vectors) {
            load_f32x4(&b[b_row + col], &b_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                b_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? b[b_row + ((col + i_2) * args.b_col)] : 0.0f;
            }
        }
        if (full && cos_vectors) {
            load_f32x4(&cos[cos_row + col], &cos_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                cos_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? cos[cos_row + ((col + i_3) * args.cos_col)] : 0.0f;
            }
        }
        if (full && sin_vectors) {
            load_f32x4(&sin[sin_row + col], &sin_chunk[0]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                sin_chunk[i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? sin[sin_row + ((col + i_4) * args.sin_col)] : 0.0f;
            }
        }
        float out_0_chunk[4];
        float out_1_chunk[4];
#pragma unroll
        for (int i_5 = 0; i_5 < 4; i_5++) {
            const float sub_6 = (a_chunk[i_5] * cos_chunk[i_5]) - (b_chunk[i_5] * sin_chunk[i_5]);
            const float add_9 = (a_chunk[i_5] * sin_chunk[i_5]) + (b_chunk[i_5] * cos_chunk[i_5]);
            out_0_chunk[i_5] = sub_6;
            out_1_chunk[i_5] = add_9;
        }
        if (full) {
            store_f32x4(&out[out_0_row + col], &out_0_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                if ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) {
                    out[out_0_row + (col + i_6)] = out_0_chunk[i_6];
                }
            }
        }
        if (full && out_1_vectors) {
            store_f32x4(&out[out_1_row + col], &out_1_chunk[0]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 4; i_7++) {
                if ((0 <= (col + i_7)) && ((col + i_7) < args.cols)) {
                    out[out_1_row + (col + i_7)] = out_1_chunk[i_7];
                }
            }
        }
    }
}

struct zmlx_rope_bf16_args {
    int chunks;
    int rows;
    int a_row_stride_0;
    int b_row_stride_0;
    int cos_row_stride_0;
    int sin_row_stride_0;
    int cols;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
    int cos_shift;
    int cos_col;
    int sin_shift;
    int sin_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_rope_bf16(device const ushort* a [[buffer(0)]],
    device const ushort* b [[buffer(1)]],
    device const ushort* cos [[buffer(2)]],
    device const ushort* sin [[buffer(3)]],
    device ushort* out [[buffer(4)]],
    constant zmlx_rope_bf16_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        uint a_chunk[4];
        uint b_chunk[4];
        uint cos_chunk[4];
        uint sin_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int a_row = row * args.a_row_stride_0;
        const int b_row = row * args.b_row_stride_0;
        const int cos_row = row * args.cos_row_stride_0;
        const int sin_row = row * args.sin_row_stride_0;
        const int out_0_row = row * (args.cols * 2);
        const int out_1_row = (row * (args.cols * 2)) + args.cols;
        const int shift = out_0_row & 7;
        const bool a_vectors = ((((a_row + args.a_shift) - shift) & 7) == 0) && (args.a_col == 1);
        const bool b_vectors = ((((b_row + args.b_shift) - shift) & 7) == 0) && (args.b_col == 1);
        const bool cos_vectors = ((((cos_row + args.cos_shift) - shift) & 7) == 0) && (args.cos_col == 1);
        const bool sin_vectors = ((((sin_row + args.sin_shift) - shift) & 7) == 0) && (args.sin_col == 1);
        const bool out_1_vectors = ((out_1_row - shift) & 7) == 0;
        const int col = ((first - (row * args.chunks)) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        if (full && a_vectors) {
            copy_bf16x8(&a[a_row + col], &a_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                a_chunk[i / 2] = put_bf16(a_chunk[i / 2], i & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(a[a_row + ((col + i) * args.a_col)]) : 0.0f);
            }
        }
        if (full && b_vectors) {
            copy_bf16x8(&b[b_row + col], &b_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                b_chunk[i_2 / 2] = put_bf16(b_chunk[i_2 / 2], i_2 & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(b[b_row + ((col + i_2) * args.b_col)]) : 0.0f);
            }
        }
        if (full && cos_vectors) {
            copy_bf16x8(&cos[cos_row + col], &cos_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                cos_chunk[i_3 / 2] = put_bf16(cos_chunk[i_3 / 2], i_3 & 1, ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? bf16_to_f32(cos[cos_row + ((col + i_3) * args.cos_col)]) : 0.0f);
            }
        }
        if (full && sin_vectors) {
            copy_bf16x8(&sin[sin_row + col], &sin_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                sin_chunk[i_4 / 2] = put_bf16(sin_chunk[i_4 / 2], i_4 & 1, ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? bf16_to_f32(sin[sin_row + ((col + i_4) * args.sin_col)]) : 0.0f);
            }
        }
        float out_0_chunk[8];
        float out_1_chunk[8];
#pragma unroll
        for (int i_5 = 0; i_5 < 8; i_5++) {
            const float sub_6 = (half_bf16(a_chunk[i_5 / 2], i_5 & 1) * half_bf16(cos_chunk[i_5 / 2], i_5 & 1)) - (half_bf16(b_chunk[i_5 / 2], i_5 & 1) * half_bf16(sin_chunk[i_5 / 2], i_5 & 1));
            const float add_9 = (half_bf16(a_chunk[i_5 / 2], i_5 & 1) * half_bf16(sin_chunk[i_5 / 2], i_5 & 1)) + (half_bf16(b_chunk[i_5 / 2], i_5 & 1) * half_bf16(cos_chunk[i_5 / 2], i_5 & 1));
            out_0_chunk[i_5] = sub_6;
            out_1_chunk[i_5] = add_9;
        }
        if (full) {
            store_bf16x8(&out[out_0_row + col], &out_0_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                if ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) {
                    out[out_0_row + (col + i_6)] = f32_to_bf16(out_0_chunk[i_6]);
                }
            }
        }
        if (full && out_1_vectors) {
            store_bf16x8(&out[out_1_row + col], &out_1_chunk[0]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 8; i_7++) {
                if ((0 <= (col + i_7)) && ((col + i_7) < args.cols)) {
                    out[out_1_row + (col + i_7)] = f32_to_bf16(out_1_chunk[i_7]);
                }
            }
        }
    }
}

struct zmlx_rope_vjp_f32_args {
    int chunks;
    int rows;
    int a_row_stride_0;
    int b_row_stride_0;
    int cos_row_stride_0;
    int sin_row_stride_0;
    int g_out_0_row_stride_0;
    int g_out_1_row_stride_0;
    int cols;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
    int cos_shift;
    int cos_col;
    int sin_shift;
    int sin_col;
    int g_out_0_shift;
    int g_out_0_col;
    int g_out_1_shift;
    int g_out_1_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_rope_vjp_f32(device const float* a [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device const float* cos [[buffer(2)]],
    device const float* sin [[buffer(3)]],
    device const float* g_out_0 [[buffer(4)]],
    device const float* g_out_1 [[buffer(5)]],
    device float* d_a [[buffer(6)]],
    device float* d_b [[buffer(7)]],
    device float* d_cos [[buffer(8)]],
    device float* d_sin [[buffer(9)]],
    constant zmlx_rope_vjp_f32_args& args [[buffer(10)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        float a_chunk[4];
        float b_chunk[4];
        float cos_chunk[4];
        float sin_chunk[4];
        float g_out_0_chunk[4];
        float g_out_1_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int a_row = row * args.a_row_stride_0;
        const int b_row = row * args.b_row_stride_0;
        const int cos_row = row * args.cos_row_stride_0;
        const int sin_row = row * args.sin_row_stride_0;
        const int g_out_0_row = row * args.g_out_0_row_stride_0;
        const int g_out_1_row = row * args.g_out_1_row_stride_0;
        const int d_a_row = row * args.cols;
        const int d_b_row = row * args.cols;
        const int d_cos_row = row * args.cols;
        const int d_sin_row = row * args.cols;
        const int shift = d_a_row & 3;
        const bool a_vectors = ((((a_row + args.a_shift) - shift) & 3) == 0) && (args.a_col == 1);
        const bool b_vectors = ((((b_row + args.b_shift) - shift) & 3) == 0) && (args.b_col == 1);
        const bool cos_vectors = ((((cos_row + args.cos_shift) - shift) & 3) == 0) && (args.cos_col == 1);
        const bool sin_vectors = ((((sin_row + args.sin_shift) - shift) & 3) == 0) && (args.sin_col == 1);
        const bool g_out_0_vectors = ((((g_out_0_row + args.g_out_0_shift) - shift) & 3) == 0) && (args.g_out_0_col == 1);
        const bool g_out_1_vectors = ((((g_out_1_row + args.g_out_1_shift) - shift) & 3) == 0) && (args.g_out_1_col == 1);
        const bool d_b_vectors = ((d_b_row - shift) & 3) == 0;
        const bool d_cos_vectors = ((d_cos_row - shift) & 3) == 0;
        const bool d_sin_vectors = ((d_sin_row - shift) & 3) == 0;
        const int col = ((first - (row * args.chunks)) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        if (full && a_vectors) {
            load_f32x4(&a[a_row + col], &a_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                a_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? a[a_row + ((col + i) * args.a_col)] : 0.0f;
            }
        }
        if (full && b_vectors) {
            load_f32x4(&b[b_row + col], &b_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                b_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? b[b_row + ((col + i_2) * args.b_col)] : 0.0f;
            }
        }
        if (full && cos_vectors) {
            load_f32x4(&cos[cos_row + col], &cos_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                cos_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? cos[cos_row + ((col + i_3) * args.cos_col)] : 0.0f;
            }
        }
        if (full && sin_vectors) {
            load_f32x4(&sin[sin_row + col], &sin_chunk[0]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                sin_chunk[i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? sin[sin_row + ((col + i_4) * args.sin_col)] : 0.0f;
            }
        }
        if (full && g_out_0_vectors) {
            load_f32x4(&g_out_0[g_out_0_row + col], &g_out_0_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                g_out_0_chunk[i_5] = ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) ? g_out_0[g_out_0_row + ((col + i_5) * args.g_out_0_col)] : 0.0f;
            }
        }
        if (full && g_out_1_vectors) {
            load_f32x4(&g_out_1[g_out_1_row + col], &g_out_1_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                g_out_1_chunk[i_6] = ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) ? g_out_1[g_out_1_row + ((col + i_6) * args.g_out_1_col)] : 0.0f;
            }
        }
        float d_a_chunk[4];
        float d_b_chunk[4];
        float d_cos_chunk[4];
        float d_sin_chunk[4];
#pragma unroll
        for (int i_7 = 0; i_7 < 4; i_7++) {
            const float sub_12 = (a_chunk[i_7] * g_out_1_chunk[i_7]) - (b_chunk[i_7] * g_out_0_chunk[i_7]);
            const float sub_14 = (cos_chunk[i_7] * g_out_1_chunk[i_7]) - (sin_chunk[i_7] * g_out_0_chunk[i_7]);
            d_a_chunk[i_7] = metal::fma(cos_chunk[i_7], g_out_0_chunk[i_7], (sin_chunk[i_7] * g_out_1_chunk[i_7]));
            d_b_chunk[i_7] = sub_14;
            d_cos_chunk[i_7] = metal::fma(a_chunk[i_7], g_out_0_chunk[i_7], (b_chunk[i_7] * g_out_1_chunk[i_7]));
            d_sin_chunk[i_7] = sub_12;
        }
        if (full) {
            store_f32x4(&d_a[d_a_row + col], &d_a_chunk[0]);
        } else {
#pragma unroll
            for (int i_8 = 0; i_8 < 4; i_8++) {
                if ((0 <= (col + i_8)) && ((col + i_8) < args.cols)) {
                    d_a[d_a_row + (col + i_8)] = d_a_chunk[i_8];
                }
            }
        }
        if (full && d_b_vectors) {
            store_f32x4(&d_b[d_b_row + col], &d_b_chunk[0]);
        } else {
#pragma unroll
            for (int i_9 = 0; i_9 < 4; i_9++) {
                if ((0 <= (col + i_9)) && ((col + i_9) < args.cols)) {
                    d_b[d_b_row + (col + i_9)] = d_b_chunk[i_9];
                }
            }
        }
        if (full && d_cos_vectors) {
            store_f32x4(&d_cos[d_cos_row + col], &d_cos_chunk[0]);
        } else {
#pragma unroll
            for (int i_10 = 0; i_10 < 4; i_10++) {
                if ((0 <= (col + i_10)) && ((col + i_10) < args.cols)) {
                    d_cos[d_cos_row + (col + i_10)] = d_cos_chunk[i_10];
                }
            }
        }
        if (full && d_sin_vectors) {
            store_f32x4(&d_sin[d_sin_row + col], &d_sin_chunk[0]);
        } else {
#pragma unroll
            for (int i_11 = 0; i_11 < 4; i_11++) {
                if ((0 <= (col + i_11)) && ((col + i_11) < args.cols)) {
                    d_sin[d_sin_row + (col + i_11)] = d_sin_chunk[i_11];
                }
            }
        }
    }
}
