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

static inline void load_i64x2(device const long* p, thread long* v) {
    const long2 t = *(device const long2*)p;
    v[0] = t.x;
    v[1] = t.y;
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

struct zmlx_rope_turns_f32_args {
    int chunks;
    int rows;
    int a_row_stride_0;
    int b_row_stride_0;
    int at_row_stride_0;
    int cols;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
    int turns_shift;
    int turns_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_rope_turns_f32(device const float* a [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device const uchar* at [[buffer(2)]],
    device const long* turns [[buffer(3)]],
    device float* out [[buffer(4)]],
    constant zmlx_rope_turns_f32_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 512) + tid; first < total; first += blocks * 512) {
        float a_chunk[8];
        float b_chunk[8];
        long turns_chunk[8];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int a_row = row * args.a_row_stride_0;
            const int b_row = row * args.b_row_stride_0;
            const int at_row = row * args.at_row_stride_0;
            const int out_0_row = row * (args.cols * 2);
            const int out_1_row = (row * (args.cols * 2)) + args.cols;
            const int shift = out_0_row & 3;
            const bool a_vectors = ((((a_row + args.a_shift) - shift) & 3) == 0) && (args.a_col == 1);
            const bool b_vectors = ((((b_row + args.b_shift) - shift) & 3) == 0) && (args.b_col == 1);
            const bool turns_vectors = (((args.turns_shift - shift) & 1) == 0) && (args.turns_col == 1);
            const bool out_1_vectors = ((out_1_row - shift) & 3) == 0;
            const int col = ((chunk - (row * args.chunks)) * 4) - shift;
            const bool full = (0 <= col) && ((col + 4) <= args.cols);
            if (full && a_vectors) {
                load_f32x4(&a[a_row + col], &a_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    a_chunk[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? a[a_row + ((col + i) * args.a_col)] : 0.0f;
                }
            }
            if (full && b_vectors) {
                load_f32x4(&b[b_row + col], &b_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    b_chunk[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? b[b_row + ((col + i_2) * args.b_col)] : 0.0f;
                }
            }
            if (full && turns_vectors) {
                load_i64x2(&turns[col], &turns_chunk[c * 4]);
                load_i64x2(&turns[col + 2], &turns_chunk[(c * 4) + 2]);
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    turns_chunk[(c * 4) + i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? turns[(col + i_3) * args.turns_col] : 0L;
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 2; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int a_row_2 = row_2 * args.a_row_stride_0;
            const int b_row_2 = row_2 * args.b_row_stride_0;
            const int at_row_2 = row_2 * args.at_row_stride_0;
            const int out_0_row_2 = row_2 * (args.cols * 2);
            const int out_1_row_2 = (row_2 * (args.cols * 2)) + args.cols;
            const int shift_2 = out_0_row_2 & 3;
            const bool a_vectors_2 = ((((a_row_2 + args.a_shift) - shift_2) & 3) == 0) && (args.a_col == 1);
            const bool b_vectors_2 = ((((b_row_2 + args.b_shift) - shift_2) & 3) == 0) && (args.b_col == 1);
            const bool turns_vectors_2 = (((args.turns_shift - shift_2) & 1) == 0) && (args.turns_col == 1);
            const bool out_1_vectors_2 = ((out_1_row_2 - shift_2) & 3) == 0;
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 4) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 4) <= args.cols);
            const uchar at_2 = at[at_row_2];
            const long i64_4 = (long)at_2;
            float out_0_chunk[4];
            float out_1_chunk[4];
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                const float mul_8 = ((float)((long)(((ulong)turns_chunk[(c_2 * 4) + i_4] * (ulong)i64_4)))) * 3.4061217e-19f;
                const float cos_9 = metal::precise::cos(mul_8);
                const float sin_10 = metal::precise::sin(mul_8);
                const float sub_13 = (a_chunk[(c_2 * 4) + i_4] * cos_9) - (b_chunk[(c_2 * 4) + i_4] * sin_10);
                const float add_16 = (a_chunk[(c_2 * 4) + i_4] * sin_10) + (b_chunk[(c_2 * 4) + i_4] * cos_9);
                out_0_chunk[i_4] = sub_13;
                out_1_chunk[i_4] = add_16;
            }
            if (lives_2) {
                if (full_2) {
                    store_f32x4(&out[out_0_row_2 + col_2], &out_0_chunk[0]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 4; i_5++) {
                        if ((0 <= (col_2 + i_5)) && ((col_2 + i_5) < args.cols)) {
                            out[out_0_row_2 + (col_2 + i_5)] = out_0_chunk[i_5];
                        }
                    }
                }
                if (full_2 && out_1_vectors_2) {
                    store_f32x4(&out[out_1_row_2 + col_2], &out_1_chunk[0]);
                } else {
#pragma unroll
                    for (int i_6 = 0; i_6 < 4; i_6++) {
                        if ((0 <= (col_2 + i_6)) && ((col_2 + i_6) < args.cols)) {
                            out[out_1_row_2 + (col_2 + i_6)] = out_1_chunk[i_6];
                        }
                    }
                }
            }
        }
    }
}

struct zmlx_rope_turns_bf16_args {
    int chunks;
    int rows;
    int a_row_stride_0;
    int b_row_stride_0;
    int at_row_stride_0;
    int cols;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
    int turns_shift;
    int turns_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_rope_turns_bf16(device const ushort* a [[buffer(0)]],
    device const ushort* b [[buffer(1)]],
    device const uchar* at [[buffer(2)]],
    device const long* turns [[buffer(3)]],
    device ushort* out [[buffer(4)]],
    constant zmlx_rope_turns_bf16_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 512) + tid; first < total; first += blocks * 512) {
        uint a_chunk[8];
        uint b_chunk[8];
        long turns_chunk[16];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int a_row = row * args.a_row_stride_0;
            const int b_row = row * args.b_row_stride_0;
            const int at_row = row * args.at_row_stride_0;
            const int out_0_row = row * (args.cols * 2);
            const int out_1_row = (row * (args.cols * 2)) + args.cols;
            const int shift = out_0_row & 7;
            const bool a_vectors = ((((a_row + args.a_shift) - shift) & 7) == 0) && (args.a_col == 1);
            const bool b_vectors = ((((b_row + args.b_shift) - shift) & 7) == 0) && (args.b_col == 1);
            const bool turns_vectors = (((args.turns_shift - shift) & 1) == 0) && (args.turns_col == 1);
            const bool out_1_vectors = ((out_1_row - shift) & 7) == 0;
            const int col = ((chunk - (row * args.chunks)) * 8) - shift;
            const bool full = (0 <= col) && ((col + 8) <= args.cols);
            if (full && a_vectors) {
                copy_bf16x8(&a[a_row + col], &a_chunk[(c * 8) / 2]);
            } else {
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    a_chunk[((c * 8) + i) / 2] = put_bf16(a_chunk[((c * 8) + i) / 2], ((c * 8) + i) & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(a[a_row + ((col + i) * args.a_col)]) : 0.0f);
                }
            }
            if (full && b_vectors) {
                copy_bf16x8(&b[b_row + col], &b_chunk[(c * 8) / 2]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    b_chunk[((c * 8) + i_2) / 2] = put_bf16(b_chunk[((c * 8) + i_2) / 2], ((c * 8) + i_2) & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(b[b_row + ((col + i_2) * args.b_col)]) : 0.0f);
                }
            }
            if (full && turns_vectors) {
                load_i64x2(&turns[col], &turns_chunk[c * 8]);
                load_i64x2(&turns[col + 2], &turns_chunk[(c * 8) + 2]);
                load_i64x2(&turns[col + 4], &turns_chunk[(c * 8) + 4]);
                load_i64x2(&turns[col + 6], &turns_chunk[(c * 8) + 6]);
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    turns_chunk[(c * 8) + i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? turns[(col + i_3) * args.turns_col] : 0L;
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 2; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int a_row_2 = row_2 * args.a_row_stride_0;
            const int b_row_2 = row_2 * args.b_row_stride_0;
            const int at_row_2 = row_2 * args.at_row_stride_0;
            const int out_0_row_2 = row_2 * (args.cols * 2);
            const int out_1_row_2 = (row_2 * (args.cols * 2)) + args.cols;
            const int shift_2 = out_0_row_2 & 7;
            const bool a_vectors_2 = ((((a_row_2 + args.a_shift) - shift_2) & 7) == 0) && (args.a_col == 1);
            const bool b_vectors_2 = ((((b_row_2 + args.b_shift) - shift_2) & 7) == 0) && (args.b_col == 1);
            const bool turns_vectors_2 = (((args.turns_shift - shift_2) & 1) == 0) && (args.turns_col == 1);
            const bool out_1_vectors_2 = ((out_1_row_2 - shift_2) & 7) == 0;
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 8) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 8) <= args.cols);
            const uchar at_2 = at[at_row_2];
            const long i64_4 = (long)at_2;
            float out_0_chunk[8];
            float out_1_chunk[8];
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                const float mul_8 = ((float)((long)(((ulong)turns_chunk[(c_2 * 8) + i_4] * (ulong)i64_4)))) * 3.4061217e-19f;
                const float cos_9 = metal::precise::cos(mul_8);
                const float sin_10 = metal::precise::sin(mul_8);
                const float sub_13 = (half_bf16(a_chunk[((c_2 * 8) + i_4) / 2], ((c_2 * 8) + i_4) & 1) * cos_9) - (half_bf16(b_chunk[((c_2 * 8) + i_4) / 2], ((c_2 * 8) + i_4) & 1) * sin_10);
                const float add_16 = (half_bf16(a_chunk[((c_2 * 8) + i_4) / 2], ((c_2 * 8) + i_4) & 1) * sin_10) + (half_bf16(b_chunk[((c_2 * 8) + i_4) / 2], ((c_2 * 8) + i_4) & 1) * cos_9);
                out_0_chunk[i_4] = sub_13;
                out_1_chunk[i_4] = add_16;
            }
            if (lives_2) {
                if (full_2) {
                    store_bf16x8(&out[out_0_row_2 + col_2], &out_0_chunk[0]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 8; i_5++) {
                        if ((0 <= (col_2 + i_5)) && ((col_2 + i_5) < args.cols)) {
                            out[out_0_row_2 + (col_2 + i_5)] = f32_to_bf16(out_0_chunk[i_5]);
                        }
                    }
                }
                if (full_2 && out_1_vectors_2) {
                    store_bf16x8(&out[out_1_row_2 + col_2], &out_1_chunk[0]);
                } else {
#pragma unroll
                    for (int i_6 = 0; i_6 < 8; i_6++) {
                        if ((0 <= (col_2 + i_6)) && ((col_2 + i_6) < args.cols)) {
                            out[out_1_row_2 + (col_2 + i_6)] = f32_to_bf16(out_1_chunk[i_6]);
                        }
                    }
                }
            }
        }
    }
}

struct zmlx_rope_turns_vjp_f32_args {
    int chunks;
    int rows;
    int at_row_stride_0;
    int g_out_0_row_stride_0;
    int g_out_1_row_stride_0;
    int cols;
    int turns_shift;
    int turns_col;
    int g_out_0_shift;
    int g_out_0_col;
    int g_out_1_shift;
    int g_out_1_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_rope_turns_vjp_f32(device const uchar* at [[buffer(0)]],
    device const long* turns [[buffer(1)]],
    device const float* g_out_0 [[buffer(2)]],
    device const float* g_out_1 [[buffer(3)]],
    device float* d_a [[buffer(4)]],
    device float* d_b [[buffer(5)]],
    constant zmlx_rope_turns_vjp_f32_args& args [[buffer(6)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 512) + tid; first < total; first += blocks * 512) {
        long turns_chunk[8];
        float g_out_0_chunk[8];
        float g_out_1_chunk[8];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int at_row = row * args.at_row_stride_0;
            const int g_out_0_row = row * args.g_out_0_row_stride_0;
            const int g_out_1_row = row * args.g_out_1_row_stride_0;
            const int d_a_row = row * args.cols;
            const int d_b_row = row * args.cols;
            const int shift = d_a_row & 3;
            const bool turns_vectors = (((args.turns_shift - shift) & 1) == 0) && (args.turns_col == 1);
            const bool g_out_0_vectors = ((((g_out_0_row + args.g_out_0_shift) - shift) & 3) == 0) && (args.g_out_0_col == 1);
            const bool g_out_1_vectors = ((((g_out_1_row + args.g_out_1_shift) - shift) & 3) == 0) && (args.g_out_1_col == 1);
            const bool d_b_vectors = ((d_b_row - shift) & 3) == 0;
            const int col = ((chunk - (row * args.chunks)) * 4) - shift;
            const bool full = (0 <= col) && ((col + 4) <= args.cols);
            if (full && turns_vectors) {
                load_i64x2(&turns[col], &turns_chunk[c * 4]);
                load_i64x2(&turns[col + 2], &turns_chunk[(c * 4) + 2]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    turns_chunk[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? turns[(col + i) * args.turns_col] : 0L;
                }
            }
            if (full && g_out_0_vectors) {
                load_f32x4(&g_out_0[g_out_0_row + col], &g_out_0_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    g_out_0_chunk[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? g_out_0[g_out_0_row + ((col + i_2) * args.g_out_0_col)] : 0.0f;
                }
            }
            if (full && g_out_1_vectors) {
                load_f32x4(&g_out_1[g_out_1_row + col], &g_out_1_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    g_out_1_chunk[(c * 4) + i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? g_out_1[g_out_1_row + ((col + i_3) * args.g_out_1_col)] : 0.0f;
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 2; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int at_row_2 = row_2 * args.at_row_stride_0;
            const int g_out_0_row_2 = row_2 * args.g_out_0_row_stride_0;
            const int g_out_1_row_2 = row_2 * args.g_out_1_row_stride_0;
            const int d_a_row_2 = row_2 * args.cols;
            const int d_b_row_2 = row_2 * args.cols;
            const int shift_2 = d_a_row_2 & 3;
            const bool turns_vectors_2 = (((args.turns_shift - shift_2) & 1) == 0) && (args.turns_col == 1);
            const bool g_out_0_vectors_2 = ((((g_out_0_row_2 + args.g_out_0_shift) - shift_2) & 3) == 0) && (args.g_out_0_col == 1);
            const bool g_out_1_vectors_2 = ((((g_out_1_row_2 + args.g_out_1_shift) - shift_2) & 3) == 0) && (args.g_out_1_col == 1);
            const bool d_b_vectors_2 = ((d_b_row_2 - shift_2) & 3) == 0;
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 4) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 4) <= args.cols);
            const uchar at_2 = at[at_row_2];
            const long i64_4 = (long)at_2;
            float d_a_chunk[4];
            float d_b_chunk[4];
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                const float mul_8 = ((float)((long)(((ulong)turns_chunk[(c_2 * 4) + i_4] * (ulong)i64_4)))) * 3.4061217e-19f;
                const float cos_9 = metal::precise::cos(mul_8);
                const float sin_10 = metal::precise::sin(mul_8);
                const float sub_14 = (g_out_1_chunk[(c_2 * 4) + i_4] * cos_9) - (g_out_0_chunk[(c_2 * 4) + i_4] * sin_10);
                const float fma_15 = metal::fma(g_out_0_chunk[(c_2 * 4) + i_4], cos_9, (g_out_1_chunk[(c_2 * 4) + i_4] * sin_10));
                d_a_chunk[i_4] = fma_15;
                d_b_chunk[i_4] = sub_14;
            }
            if (lives_2) {
                if (full_2) {
                    store_f32x4(&d_a[d_a_row_2 + col_2], &d_a_chunk[0]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 4; i_5++) {
                        if ((0 <= (col_2 + i_5)) && ((col_2 + i_5) < args.cols)) {
                            d_a[d_a_row_2 + (col_2 + i_5)] = d_a_chunk[i_5];
                        }
                    }
                }
                if (full_2 && d_b_vectors_2) {
                    store_f32x4(&d_b[d_b_row_2 + col_2], &d_b_chunk[0]);
                } else {
#pragma unroll
                    for (int i_6 = 0; i_6 < 4; i_6++) {
                        if ((0 <= (col_2 + i_6)) && ((col_2 + i_6) < args.cols)) {
                            d_b[d_b_row_2 + (col_2 + i_6)] = d_b_chunk[i_6];
                        }
                    }
                }
            }
        }
    }
}
