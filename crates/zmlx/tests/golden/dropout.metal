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

static inline float mulz_f32(float a, float b) {
    return a == 0.0f ? 0.0f : a * b;
}

// Philox4x32-7: word index % 4 of block index / 4
static inline float rand_unit(long seed, long index) {
    uint c0 = (uint)(index >> 2), c1 = (uint)(index >> 34), c2 = 0, c3 = 0;
    uint k0 = (uint)seed, k1 = (uint)((ulong)seed >> 32);
#pragma unroll
    for (int round = 0; round < 7; round++) {
        const ulong p0 = (ulong)0xD2511F53u * c0, p1 = (ulong)0xCD9E8D57u * c2;
        c0 = (uint)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint)p1;
        c2 = (uint)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const int word = (int)(index & 3);
    const uint bits = word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
    return (float)(bits >> 8) * 5.9604645e-8f;
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

struct dropout_f32__args {
    float p;
    long seed;
    int chunks;
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void dropout_f32_(device const float* x [[buffer(0)]],
    device float* out [[buffer(1)]],
    constant dropout_f32__args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const float sub_6 = 1.0f - args.p;
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
            const float v_3 = rand_unit(args.seed, (((long)row) * ((long)args.cols)) + ((long)(col + i_2)));
            out_chunk[i_2] = (v_3 < args.p) ? 0.0f : (x_chunk[i_2] / sub_6);
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

struct dropout_bf16__args {
    float p;
    long seed;
    int chunks;
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void dropout_bf16_(device const ushort* x [[buffer(0)]],
    device ushort* out [[buffer(1)]],
    constant dropout_bf16__args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const float sub_6 = 1.0f - args.p;
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
            const float v_3 = rand_unit(args.seed, (((long)row) * ((long)args.cols)) + ((long)(col + i_2)));
            out_chunk[i_2] = (v_3 < args.p) ? 0.0f : (x_chunk[i_2] / sub_6);
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

struct dropout_vjp_f32__args {
    float p;
    long seed;
    int chunks;
    int rows;
    int g_out_row_stride_0;
    int cols;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void dropout_vjp_f32_(device const float* g_out [[buffer(0)]],
    device float* d_x [[buffer(1)]],
    constant dropout_vjp_f32__args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const float sub_6 = 1.0f - args.p;
    const float recip_7 = 1.0f / sub_6;
    const int total = args.rows * args.chunks;
    for (int chunk = (bid * 256) + tid; chunk < total; chunk += blocks * 256) {
        const int row = chunk / args.chunks;
        const int g_out_row = row * args.g_out_row_stride_0;
        const int d_x_row = row * args.cols;
        const int shift = d_x_row & 3;
        const bool g_out_vectors = ((((g_out_row + args.g_out_shift) - shift) & 3) == 0) && (args.g_out_col == 1);
        const int col = ((chunk % args.chunks) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        float g_out_chunk[4];
        if (full && g_out_vectors) {
            load_f32x4(&g_out[g_out_row + col], &g_out_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                g_out_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? g_out[g_out_row + ((col + i) * args.g_out_col)] : 0.0f;
            }
        }
        float d_x_chunk[4];
#pragma unroll
        for (int i_2 = 0; i_2 < 4; i_2++) {
            const float v_3 = rand_unit(args.seed, (((long)row) * ((long)args.cols)) + ((long)(col + i_2)));
            d_x_chunk[i_2] = mulz_f32(((v_3 < args.p) ? 0.0f : g_out_chunk[i_2]), recip_7);
        }
        if (full) {
            store_f32x4(&d_x[d_x_row + col], &d_x_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                if ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) {
                    d_x[d_x_row + (col + i_3)] = d_x_chunk[i_3];
                }
            }
        }
    }
}
