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

struct zmlx_bias_swiglu_f32_args {
    int chunks;
    int rows;
    int gate_row_stride_0;
    int up_row_stride_0;
    int cols;
    int gate_shift;
    int gate_col;
    int up_shift;
    int up_col;
    int b_shift;
    int b_col;
    int c_shift;
    int c_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_bias_swiglu_f32(device const float* gate [[buffer(0)]],
    device const float* up [[buffer(1)]],
    device const float* b [[buffer(2)]],
    device const float* c [[buffer(3)]],
    device float* out [[buffer(4)]],
    constant zmlx_bias_swiglu_f32_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 512) + tid; first < total; first += blocks * 512) {
        float gate_chunk[8];
        float up_chunk[8];
        float b_chunk[8];
        float c_chunk[8];
#pragma unroll
        for (int c_2 = 0; c_2 < 2; c_2++) {
            const bool lives = (first + (c_2 * 256)) < total;
            const int chunk = min_i32((first + (c_2 * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int gate_row = row * args.gate_row_stride_0;
            const int up_row = row * args.up_row_stride_0;
            const int out_row = row * args.cols;
            const int shift = out_row & 3;
            const bool gate_vectors = ((((gate_row + args.gate_shift) - shift) & 3) == 0) && (args.gate_col == 1);
            const bool up_vectors = ((((up_row + args.up_shift) - shift) & 3) == 0) && (args.up_col == 1);
            const bool b_vectors = (((args.b_shift - shift) & 3) == 0) && (args.b_col == 1);
            const bool c_vectors = (((args.c_shift - shift) & 3) == 0) && (args.c_col == 1);
            const int col = ((chunk - (row * args.chunks)) * 4) - shift;
            const bool full = (0 <= col) && ((col + 4) <= args.cols);
            if (full && gate_vectors) {
                load_f32x4(&gate[gate_row + col], &gate_chunk[c_2 * 4]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    gate_chunk[(c_2 * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? gate[gate_row + ((col + i) * args.gate_col)] : 0.0f;
                }
            }
            if (full && up_vectors) {
                load_f32x4(&up[up_row + col], &up_chunk[c_2 * 4]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    up_chunk[(c_2 * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? up[up_row + ((col + i_2) * args.up_col)] : 0.0f;
                }
            }
            if (full && b_vectors) {
                load_f32x4(&b[col], &b_chunk[c_2 * 4]);
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    b_chunk[(c_2 * 4) + i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? b[(col + i_3) * args.b_col] : 0.0f;
                }
            }
            if (full && c_vectors) {
                load_f32x4(&c[col], &c_chunk[c_2 * 4]);
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    c_chunk[(c_2 * 4) + i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? c[(col + i_4) * args.c_col] : 0.0f;
                }
            }
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 2; c_3++) {
            const bool lives_2 = (first + (c_3 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_3 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int gate_row_2 = row_2 * args.gate_row_stride_0;
            const int up_row_2 = row_2 * args.up_row_stride_0;
            const int out_row_2 = row_2 * args.cols;
            const int shift_2 = out_row_2 & 3;
            const bool gate_vectors_2 = ((((gate_row_2 + args.gate_shift) - shift_2) & 3) == 0) && (args.gate_col == 1);
            const bool up_vectors_2 = ((((up_row_2 + args.up_shift) - shift_2) & 3) == 0) && (args.up_col == 1);
            const bool b_vectors_2 = (((args.b_shift - shift_2) & 3) == 0) && (args.b_col == 1);
            const bool c_vectors_2 = (((args.c_shift - shift_2) & 3) == 0) && (args.c_col == 1);
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 4) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 4) <= args.cols);
            float out_chunk[4];
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                const float add_4 = gate_chunk[(c_3 * 4) + i_5] + b_chunk[(c_3 * 4) + i_5];
                const float add_7 = up_chunk[(c_3 * 4) + i_5] + c_chunk[(c_3 * 4) + i_5];
                out_chunk[i_5] = (add_4 * sigmoid_f32(add_4)) * add_7;
            }
            if (lives_2) {
                if (full_2) {
                    store_f32x4(&out[out_row_2 + col_2], &out_chunk[0]);
                } else {
#pragma unroll
                    for (int i_6 = 0; i_6 < 4; i_6++) {
                        if ((0 <= (col_2 + i_6)) && ((col_2 + i_6) < args.cols)) {
                            out[out_row_2 + (col_2 + i_6)] = out_chunk[i_6];
                        }
                    }
                }
            }
        }
    }
}

struct zmlx_bias_swiglu_bf16_args {
    int chunks;
    int rows;
    int gate_row_stride_0;
    int up_row_stride_0;
    int cols;
    int gate_shift;
    int gate_col;
    int up_shift;
    int up_col;
    int b_shift;
    int b_col;
    int c_shift;
    int c_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_bias_swiglu_bf16(device const ushort* gate [[buffer(0)]],
    device const ushort* up [[buffer(1)]],
    device const ushort* b [[buffer(2)]],
    device const ushort* c [[buffer(3)]],
    device ushort* out [[buffer(4)]],
    constant zmlx_bias_swiglu_bf16_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 512) + tid; first < total; first += blocks * 512) {
        uint gate_chunk[8];
        uint up_chunk[8];
        uint b_chunk[8];
        uint c_chunk[8];
#pragma unroll
        for (int c_2 = 0; c_2 < 2; c_2++) {
            const bool lives = (first + (c_2 * 256)) < total;
            const int chunk = min_i32((first + (c_2 * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int gate_row = row * args.gate_row_stride_0;
            const int up_row = row * args.up_row_stride_0;
            const int out_row = row * args.cols;
            const int shift = out_row & 7;
            const bool gate_vectors = ((((gate_row + args.gate_shift) - shift) & 7) == 0) && (args.gate_col == 1);
            const bool up_vectors = ((((up_row + args.up_shift) - shift) & 7) == 0) && (args.up_col == 1);
            const bool b_vectors = (((args.b_shift - shift) & 7) == 0) && (args.b_col == 1);
            const bool c_vectors = (((args.c_shift - shift) & 7) == 0) && (args.c_col == 1);
            const int col = ((chunk - (row * args.chunks)) * 8) - shift;
            const bool full = (0 <= col) && ((col + 8) <= args.cols);
            if (full && gate_vectors) {
                copy_bf16x8(&gate[gate_row + col], &gate_chunk[(c_2 * 8) / 2]);
            } else {
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    gate_chunk[((c_2 * 8) + i) / 2] = put_bf16(gate_chunk[((c_2 * 8) + i) / 2], ((c_2 * 8) + i) & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(gate[gate_row + ((col + i) * args.gate_col)]) : 0.0f);
                }
            }
            if (full && up_vectors) {
                copy_bf16x8(&up[up_row + col], &up_chunk[(c_2 * 8) / 2]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    up_chunk[((c_2 * 8) + i_2) / 2] = put_bf16(up_chunk[((c_2 * 8) + i_2) / 2], ((c_2 * 8) + i_2) & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(up[up_row + ((col + i_2) * args.up_col)]) : 0.0f);
                }
            }
            if (full && b_vectors) {
                copy_bf16x8(&b[col], &b_chunk[(c_2 * 8) / 2]);
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    b_chunk[((c_2 * 8) + i_3) / 2] = put_bf16(b_chunk[((c_2 * 8) + i_3) / 2], ((c_2 * 8) + i_3) & 1, ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? bf16_to_f32(b[(col + i_3) * args.b_col]) : 0.0f);
                }
            }
            if (full && c_vectors) {
                copy_bf16x8(&c[col], &c_chunk[(c_2 * 8) / 2]);
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    c_chunk[((c_2 * 8) + i_4) / 2] = put_bf16(c_chunk[((c_2 * 8) + i_4) / 2], ((c_2 * 8) + i_4) & 1, ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? bf16_to_f32(c[(col + i_4) * args.c_col]) : 0.0f);
                }
            }
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 2; c_3++) {
            const bool lives_2 = (first + (c_3 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_3 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int gate_row_2 = row_2 * args.gate_row_stride_0;
            const int up_row_2 = row_2 * args.up_row_stride_0;
            const int out_row_2 = row_2 * args.cols;
            const int shift_2 = out_row_2 & 7;
            const bool gate_vectors_2 = ((((gate_row_2 + args.gate_shift) - shift_2) & 7) == 0) && (args.gate_col == 1);
            const bool up_vectors_2 = ((((up_row_2 + args.up_shift) - shift_2) & 7) == 0) && (args.up_col == 1);
            const bool b_vectors_2 = (((args.b_shift - shift_2) & 7) == 0) && (args.b_col == 1);
            const bool c_vectors_2 = (((args.c_shift - shift_2) & 7) == 0) && (args.c_col == 1);
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 8) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 8) <= args.cols);
            float out_chunk[8];
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                const float add_4 = half_bf16(gate_chunk[((c_3 * 8) + i_5) / 2], ((c_3 * 8) + i_5) & 1) + half_bf16(b_chunk[((c_3 * 8) + i_5) / 2], ((c_3 * 8) + i_5) & 1);
                const float add_7 = half_bf16(up_chunk[((c_3 * 8) + i_5) / 2], ((c_3 * 8) + i_5) & 1) + half_bf16(c_chunk[((c_3 * 8) + i_5) / 2], ((c_3 * 8) + i_5) & 1);
                out_chunk[i_5] = (add_4 * sigmoid_f32(add_4)) * add_7;
            }
            if (lives_2) {
                if (full_2) {
                    store_bf16x8(&out[out_row_2 + col_2], &out_chunk[0]);
                } else {
#pragma unroll
                    for (int i_6 = 0; i_6 < 8; i_6++) {
                        if ((0 <= (col_2 + i_6)) && ((col_2 + i_6) < args.cols)) {
                            out[out_row_2 + (col_2 + i_6)] = f32_to_bf16(out_chunk[i_6]);
                        }
                    }
                }
            }
        }
    }
}

struct zmlx_bias_swiglu_vjp_f32_args {
    int pitch;
    int b_shift;
    int b_col;
    int c_shift;
    int c_col;
    int cols;
    int rows;
    int gate_row_stride_0;
    int up_row_stride_0;
    int g_out_row_stride_0;
    int gate_shift;
    int gate_col;
    int up_shift;
    int up_col;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_bias_swiglu_vjp_f32(device const float* gate [[buffer(0)]],
    device const float* up [[buffer(1)]],
    device const float* b [[buffer(2)]],
    device const float* c [[buffer(3)]],
    device const float* g_out [[buffer(4)]],
    device float* d_gate [[buffer(5)]],
    device float* d_up [[buffer(6)]],
    device float* parts_11 [[buffer(7)]],
    device float* parts_17 [[buffer(8)]],
    constant zmlx_bias_swiglu_vjp_f32_args& args [[buffer(9)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float meeting[1024];
    const int lane = tid & 127;
    const int sub = tid / 128;
    float sum_11[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum_11[i] = 0.0f;
    }
    float sum_17[4];
#pragma unroll
    for (int i_2 = 0; i_2 < 4; i_2++) {
        sum_17[i_2] = 0.0f;
    }
    const int tiles = args.pitch / 512;
    const int first_chunk = ((bid % tiles) * 128) + lane;
    const int part = bid / tiles;
    const int parts = blocks / tiles;
    float b_held[4];
    float c_held[4];
    const bool b_vectors = ((args.b_shift & 3) == 0) && (args.b_col == 1);
    const bool c_vectors = ((args.c_shift & 3) == 0) && (args.c_col == 1);
    const int col = first_chunk * 4;
    const bool full = (col + 4) <= args.cols;
    if (full && b_vectors) {
        load_f32x4(&b[col], &b_held[0]);
    } else {
#pragma unroll
        for (int i_3 = 0; i_3 < 4; i_3++) {
            b_held[i_3] = ((col + i_3) < args.cols) ? b[(col + i_3) * args.b_col] : 0.0f;
        }
    }
    if (full && c_vectors) {
        load_f32x4(&c[col], &c_held[0]);
    } else {
#pragma unroll
        for (int i_4 = 0; i_4 < 4; i_4++) {
            c_held[i_4] = ((col + i_4) < args.cols) ? c[(col + i_4) * args.c_col] : 0.0f;
        }
    }
    for (int base = part * 2; base < args.rows; base += parts * 2) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int gate_row = row_2 * args.gate_row_stride_0;
        const int up_row = row_2 * args.up_row_stride_0;
        const int g_out_row = row_2 * args.g_out_row_stride_0;
        const int d_gate_row = row_2 * args.cols;
        const int d_up_row = row_2 * args.cols;
        const bool gate_vectors = (((gate_row + args.gate_shift) & 3) == 0) && (args.gate_col == 1);
        const bool up_vectors = (((up_row + args.up_shift) & 3) == 0) && (args.up_col == 1);
        const bool g_out_vectors = (((g_out_row + args.g_out_shift) & 3) == 0) && (args.g_out_col == 1);
        const bool d_gate_vectors = (d_gate_row & 3) == 0;
        const bool d_up_vectors = (d_up_row & 3) == 0;
        const int lane_2 = first_chunk;
        const int col_2 = lane_2 * 4;
        const bool full_2 = (col_2 + 4) <= args.cols;
        float gate_chunk[4];
        float up_chunk[4];
        float g_out_chunk[4];
        if (full_2 && gate_vectors) {
            load_f32x4(&gate[gate_row + col_2], &gate_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                gate_chunk[i_5] = ((col_2 + i_5) < args.cols) ? gate[gate_row + ((col_2 + i_5) * args.gate_col)] : 0.0f;
            }
        }
        if (full_2 && up_vectors) {
            load_f32x4(&up[up_row + col_2], &up_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                up_chunk[i_6] = ((col_2 + i_6) < args.cols) ? up[up_row + ((col_2 + i_6) * args.up_col)] : 0.0f;
            }
        }
        if (full_2 && g_out_vectors) {
            load_f32x4(&g_out[g_out_row + col_2], &g_out_chunk[0]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 4; i_7++) {
                g_out_chunk[i_7] = ((col_2 + i_7) < args.cols) ? g_out[g_out_row + ((col_2 + i_7) * args.g_out_col)] : 0.0f;
            }
        }
        float d_gate_chunk[4];
        float d_up_chunk[4];
#pragma unroll
        for (int i_8 = 0; i_8 < 4; i_8++) {
            const float add_5 = gate_chunk[i_8] + b_held[i_8];
            const float sigmoid_6 = sigmoid_f32(add_5);
            const float mul_10 = g_out_chunk[i_8] * (add_5 * sigmoid_6);
            const float mul_16 = (sigmoid_6 * (g_out_chunk[i_8] * (up_chunk[i_8] + c_held[i_8]))) * metal::fma(add_5, (1.0f - sigmoid_6), 1.0f);
            d_gate_chunk[i_8] = mul_16;
            d_up_chunk[i_8] = mul_10;
            sum_11[i_8] = sum_11[i_8] + (lives ? mul_10 : 0.0f);
            sum_17[i_8] = sum_17[i_8] + (lives ? mul_16 : 0.0f);
        }
        if (lives) {
            if (full_2 && d_gate_vectors) {
                store_f32x4(&d_gate[d_gate_row + col_2], &d_gate_chunk[0]);
            } else {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    if ((col_2 + i_9) < args.cols) {
                        d_gate[d_gate_row + (col_2 + i_9)] = d_gate_chunk[i_9];
                    }
                }
            }
            if (full_2 && d_up_vectors) {
                store_f32x4(&d_up[d_up_row + col_2], &d_up_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    if ((col_2 + i_10) < args.cols) {
                        d_up[d_up_row + (col_2 + i_10)] = d_up_chunk[i_10];
                    }
                }
            }
        }
    }
#pragma unroll
    for (int i_11 = 0; i_11 < 4; i_11++) {
        meeting[(i_11 * 256) + tid] = sum_11[i_11];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (sub == 0) {
#pragma unroll
        for (int i_12 = 0; i_12 < 4; i_12++) {
            sum_11[i_12] = sum_11[i_12] + meeting[(i_12 * 256) + (tid + 128)];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (int i_13 = 0; i_13 < 4; i_13++) {
        meeting[(i_13 * 256) + tid] = sum_17[i_13];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (sub == 0) {
#pragma unroll
        for (int i_14 = 0; i_14 < 4; i_14++) {
            sum_17[i_14] = sum_17[i_14] + meeting[(i_14 * 256) + (tid + 128)];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int part_start = part * args.pitch;
    if (sub == 0) {
        const int at = part_start + (first_chunk * 4);
        store_f32x4(&parts_11[at], &sum_11[0]);
        store_f32x4(&parts_17[at], &sum_17[0]);
    }
}

struct zmlx_bias_swiglu_vjp_f32_1_args {
    int cols;
    int pitch;
    int parts;
};

[[max_total_threads_per_threadgroup(1024)]]
kernel void zmlx_bias_swiglu_vjp_f32_1(device float* d_b [[buffer(0)]],
    device float* d_c [[buffer(1)]],
    device const float* parts_11 [[buffer(2)]],
    device const float* parts_17 [[buffer(3)]],
    constant zmlx_bias_swiglu_vjp_f32_1_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    threadgroup float sum_11_of_group[1024];
    threadgroup float sum_17_of_group[1024];
    const int lane = tid & 31;
    const int group = tid / 32;
    const int col = (bid * 32) + lane;
    const bool inside = col < args.cols;
    float sum_11 = 0.0f;
    float sum_17 = 0.0f;
    if (inside) {
        for (int part = group; part < args.parts; part += 32) {
            sum_11 = sum_11 + parts_11[(part * args.pitch) + col];
            sum_17 = sum_17 + parts_17[(part * args.pitch) + col];
        }
    }
    sum_11_of_group[tid] = sum_11;
    sum_17_of_group[tid] = sum_17;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if ((group == 0) && inside) {
#pragma unroll
        for (int g = 1; g < 32; g++) {
            sum_11 = sum_11 + sum_11_of_group[(g * 32) + lane];
        }
#pragma unroll
        for (int g_2 = 1; g_2 < 32; g_2++) {
            sum_17 = sum_17 + sum_17_of_group[(g_2 * 32) + lane];
        }
        d_b[col] = sum_17;
        d_c[col] = sum_11;
    }
}
