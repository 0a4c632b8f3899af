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

struct zmlx_gather_add_f32_args {
    int chunks;
    int rows;
    int idx_row_stride_0;
    int other_row_stride_0;
    int cols;
    int src_rows;
    int src_pitch;
    int src_shift;
    int src_col;
    int other_shift;
    int other_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_gather_add_f32(device const float* src [[buffer(0)]],
    device const uint* idx [[buffer(1)]],
    device const float* other [[buffer(2)]],
    device float* out [[buffer(3)]],
    device uint* flag [[buffer(4)]],
    constant zmlx_gather_add_f32_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 512) + tid; first < total; first += blocks * 512) {
        float src_chunk[8];
        float other_chunk[8];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int idx_row = row * args.idx_row_stride_0;
            const int other_row = row * args.other_row_stride_0;
            const int out_row = row * args.cols;
            const long src_index = (long)idx[idx_row];
            const bool src_found = (0L <= src_index) && (src_index < ((long)args.src_rows));
            if (!src_found) {
                flag[0] = 1u;
            }
            const int src_row = ((int)(src_found ? src_index : 0L)) * args.src_pitch;
            const int shift = out_row & 3;
            const bool src_vectors = src_found && (((((src_row + args.src_shift) - shift) & 3) == 0) && (args.src_col == 1));
            const bool other_vectors = ((((other_row + args.other_shift) - shift) & 3) == 0) && (args.other_col == 1);
            const int col = ((chunk - (row * args.chunks)) * 4) - shift;
            const bool full = (0 <= col) && ((col + 4) <= args.cols);
            if (full && src_vectors) {
                load_f32x4(&src[src_row + col], &src_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    src_chunk[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? (src_found ? src[src_row + ((col + i) * args.src_col)] : NAN) : 0.0f;
                }
            }
            if (full && other_vectors) {
                load_f32x4(&other[other_row + col], &other_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    other_chunk[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? other[other_row + ((col + i_2) * args.other_col)] : 0.0f;
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 2; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int idx_row_2 = row_2 * args.idx_row_stride_0;
            const int other_row_2 = row_2 * args.other_row_stride_0;
            const int out_row_2 = row_2 * args.cols;
            const long src_index_2 = (long)idx[idx_row_2];
            const bool src_found_2 = (0L <= src_index_2) && (src_index_2 < ((long)args.src_rows));
            if (!src_found_2) {
                flag[0] = 1u;
            }
            const int src_row_2 = ((int)(src_found_2 ? src_index_2 : 0L)) * args.src_pitch;
            const int shift_2 = out_row_2 & 3;
            const bool src_vectors_2 = src_found_2 && (((((src_row_2 + args.src_shift) - shift_2) & 3) == 0) && (args.src_col == 1));
            const bool other_vectors_2 = ((((other_row_2 + args.other_shift) - shift_2) & 3) == 0) && (args.other_col == 1);
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 4) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 4) <= args.cols);
            float out_chunk[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const float add_2 = src_chunk[(c_2 * 4) + i_3] + other_chunk[(c_2 * 4) + i_3];
                out_chunk[i_3] = add_2;
            }
            if (lives_2) {
                if (full_2) {
                    store_f32x4(&out[out_row_2 + col_2], &out_chunk[0]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        if ((0 <= (col_2 + i_4)) && ((col_2 + i_4) < args.cols)) {
                            out[out_row_2 + (col_2 + i_4)] = out_chunk[i_4];
                        }
                    }
                }
            }
        }
    }
}

struct zmlx_gather_add_bf16_args {
    int chunks;
    int rows;
    int idx_row_stride_0;
    int other_row_stride_0;
    int cols;
    int src_rows;
    int src_pitch;
    int src_shift;
    int src_col;
    int other_shift;
    int other_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_gather_add_bf16(device const ushort* src [[buffer(0)]],
    device const uint* idx [[buffer(1)]],
    device const ushort* other [[buffer(2)]],
    device ushort* out [[buffer(3)]],
    device uint* flag [[buffer(4)]],
    constant zmlx_gather_add_bf16_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 512) + tid; first < total; first += blocks * 512) {
        uint src_chunk[8];
        uint other_chunk[8];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int idx_row = row * args.idx_row_stride_0;
            const int other_row = row * args.other_row_stride_0;
            const int out_row = row * args.cols;
            const long src_index = (long)idx[idx_row];
            const bool src_found = (0L <= src_index) && (src_index < ((long)args.src_rows));
            if (!src_found) {
                flag[0] = 1u;
            }
            const int src_row = ((int)(src_found ? src_index : 0L)) * args.src_pitch;
            const int shift = out_row & 7;
            const bool src_vectors = src_found && (((((src_row + args.src_shift) - shift) & 7) == 0) && (args.src_col == 1));
            const bool other_vectors = ((((other_row + args.other_shift) - shift) & 7) == 0) && (args.other_col == 1);
            const int col = ((chunk - (row * args.chunks)) * 8) - shift;
            const bool full = (0 <= col) && ((col + 8) <= args.cols);
            if (full && src_vectors) {
                copy_bf16x8(&src[src_row + col], &src_chunk[(c * 8) / 2]);
            } else {
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    src_chunk[((c * 8) + i) / 2] = put_bf16(src_chunk[((c * 8) + i) / 2], ((c * 8) + i) & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? (src_found ? bf16_to_f32(src[src_row + ((col + i) * args.src_col)]) : NAN) : 0.0f);
                }
            }
            if (full && other_vectors) {
                copy_bf16x8(&other[other_row + col], &other_chunk[(c * 8) / 2]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    other_chunk[((c * 8) + i_2) / 2] = put_bf16(other_chunk[((c * 8) + i_2) / 2], ((c * 8) + i_2) & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(other[other_row + ((col + i_2) * args.other_col)]) : 0.0f);
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 2; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int idx_row_2 = row_2 * args.idx_row_stride_0;
            const int other_row_2 = row_2 * args.other_row_stride_0;
            const int out_row_2 = row_2 * args.cols;
            const long src_index_2 = (long)idx[idx_row_2];
            const bool src_found_2 = (0L <= src_index_2) && (src_index_2 < ((long)args.src_rows));
            if (!src_found_2) {
                flag[0] = 1u;
            }
            const int src_row_2 = ((int)(src_found_2 ? src_index_2 : 0L)) * args.src_pitch;
            const int shift_2 = out_row_2 & 7;
            const bool src_vectors_2 = src_found_2 && (((((src_row_2 + args.src_shift) - shift_2) & 7) == 0) && (args.src_col == 1));
            const bool other_vectors_2 = ((((other_row_2 + args.other_shift) - shift_2) & 7) == 0) && (args.other_col == 1);
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 8) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 8) <= args.cols);
            float out_chunk[8];
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                const float add_2 = half_bf16(src_chunk[((c_2 * 8) + i_3) / 2], ((c_2 * 8) + i_3) & 1) + half_bf16(other_chunk[((c_2 * 8) + i_3) / 2], ((c_2 * 8) + i_3) & 1);
                out_chunk[i_3] = add_2;
            }
            if (lives_2) {
                if (full_2) {
                    store_bf16x8(&out[out_row_2 + col_2], &out_chunk[0]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 8; i_4++) {
                        if ((0 <= (col_2 + i_4)) && ((col_2 + i_4) < args.cols)) {
                            out[out_row_2 + (col_2 + i_4)] = f32_to_bf16(out_chunk[i_4]);
                        }
                    }
                }
            }
        }
    }
}

struct zmlx_gather_add_vjp_f32_args {
    int chunks;
    int rows;
    int g_out_row_stride_0;
    int cols;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_gather_add_vjp_f32(device const float* g_out [[buffer(0)]],
    device float* d_src [[buffer(1)]],
    device float* d_other [[buffer(2)]],
    constant zmlx_gather_add_vjp_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 1024) + tid; first < total; first += blocks * 1024) {
        float g_out_chunk[16];
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int g_out_row = row * args.g_out_row_stride_0;
            const int d_src_row = row * args.cols;
            const int d_other_row = row * args.cols;
            const int shift = d_src_row & 3;
            const bool g_out_vectors = ((((g_out_row + args.g_out_shift) - shift) & 3) == 0) && (args.g_out_col == 1);
            const bool d_other_vectors = ((d_other_row - shift) & 3) == 0;
            const int col = ((chunk - (row * args.chunks)) * 4) - shift;
            const bool full = (0 <= col) && ((col + 4) <= args.cols);
            if (full && g_out_vectors) {
                load_f32x4(&g_out[g_out_row + col], &g_out_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    g_out_chunk[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? g_out[g_out_row + ((col + i) * args.g_out_col)] : 0.0f;
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 4; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int g_out_row_2 = row_2 * args.g_out_row_stride_0;
            const int d_src_row_2 = row_2 * args.cols;
            const int d_other_row_2 = row_2 * args.cols;
            const int shift_2 = d_src_row_2 & 3;
            const bool g_out_vectors_2 = ((((g_out_row_2 + args.g_out_shift) - shift_2) & 3) == 0) && (args.g_out_col == 1);
            const bool d_other_vectors_2 = ((d_other_row_2 - shift_2) & 3) == 0;
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 4) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 4) <= args.cols);
            float d_src_chunk[4];
            float d_other_chunk[4];
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                d_src_chunk[i_2] = g_out_chunk[(c_2 * 4) + i_2];
                d_other_chunk[i_2] = g_out_chunk[(c_2 * 4) + i_2];
            }
            if (lives_2) {
                if (full_2) {
                    store_f32x4(&d_src[d_src_row_2 + col_2], &d_src_chunk[0]);
                } else {
#pragma unroll
                    for (int i_3 = 0; i_3 < 4; i_3++) {
                        if ((0 <= (col_2 + i_3)) && ((col_2 + i_3) < args.cols)) {
                            d_src[d_src_row_2 + (col_2 + i_3)] = d_src_chunk[i_3];
                        }
                    }
                }
                if (full_2 && d_other_vectors_2) {
                    store_f32x4(&d_other[d_other_row_2 + col_2], &d_other_chunk[0]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        if ((0 <= (col_2 + i_4)) && ((col_2 + i_4) < args.cols)) {
                            d_other[d_other_row_2 + (col_2 + i_4)] = d_other_chunk[i_4];
                        }
                    }
                }
            }
        }
    }
}
