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

struct zmlx_recurrent_step_f32_args {
    float alpha;
    float eps;
    int cols;
    int rows;
    int h_row_stride_0;
    int gate_row_stride_0;
    int h_shift;
    int h_col;
    int w_shift;
    int w_col;
    int gate_shift;
    int gate_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_recurrent_step_f32(device const float* h [[buffer(0)]],
    device const float* w [[buffer(1)]],
    device const float* gate [[buffer(2)]],
    device float* out [[buffer(3)]],
    constant zmlx_recurrent_step_f32_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_6_of_warp[8];
    const long cols = (long)args.cols;
    const float f32_8 = (float)cols;
    for (int base = bid; base < args.rows; base += blocks) {
        const int h_row = base * args.h_row_stride_0;
        const int gate_row = base * args.gate_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 3;
        const bool h_vectors = ((((h_row + args.h_shift) - shift) & 3) == 0) && (args.h_col == 1);
        const bool w_vectors = (((args.w_shift - shift) & 3) == 0) && (args.w_col == 1);
        const bool gate_vectors = ((((gate_row + args.gate_shift) - shift) & 3) == 0) && (args.gate_col == 1);
        const int lane = tid;
        float h_held[16];
        float gate_held[16];
        if ((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && h_vectors) && gate_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&h[h_row + col_2], &h_held[c_2 * 4]);
                load_f32x4(&gate[gate_row + col_2], &gate_held[c_2 * 4]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 256)) * 4) - shift;
                const bool full = (0 <= col) && ((col + 4) <= args.cols);
                if (full && h_vectors) {
                    load_f32x4(&h[h_row + col], &h_held[c * 4]);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        h_held[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? h[h_row + ((col + i) * args.h_col)] : 0.0f;
                    }
                }
                if (full && gate_vectors) {
                    load_f32x4(&gate[gate_row + col], &gate_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 4; i_2++) {
                        gate_held[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? gate[gate_row + ((col + i_2) * args.gate_col)] : 0.0f;
                    }
                }
            }
        }
        float sum_6 = 0.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const float mul_5 = h_held[(c_3 * 4) + i_3] * h_held[(c_3 * 4) + i_3];
                    sum_6 = sum_6 + mul_5;
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const float mul_5_2 = h_held[(c_3 * 4) + i_4] * h_held[(c_3 * 4) + i_4];
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    sum_6 = sum_6 + (inside ? mul_5_2 : 0.0f);
                }
            }
        }
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)16);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)8);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)4);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)2);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_6_of_warp[warp] = sum_6;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_6 = sum_6_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_6 = sum_6 + sum_6_of_warp[w_2];
        }
        const float div_9 = sum_6 / f32_8;
        const float add_10 = args.eps + div_9;
        const float rsqrt_11 = metal::precise::rsqrt(add_10);
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float w_chunk[4];
            if (full_3 && w_vectors) {
                load_f32x4(&w[col_4], &w_chunk[0]);
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    w_chunk[i_5] = ((0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols)) ? w[(col_4 + i_5) * args.w_col] : 0.0f;
                }
            }
            float out_chunk[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const float mul_13 = w_chunk[i_6] * (h_held[(c_4 * 4) + i_6] * rsqrt_11);
                const float mul_17 = gate_held[(c_4 * 4) + i_6] * (args.alpha * (mul_13 * sigmoid_f32(mul_13)));
                out_chunk[i_6] = h_held[(c_4 * 4) + i_6] + mul_17;
            }
            if (full_3) {
                store_f32x4(&out[out_row + col_4], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    if ((0 <= (col_4 + i_7)) && ((col_4 + i_7) < args.cols)) {
                        out[out_row + (col_4 + i_7)] = out_chunk[i_7];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_recurrent_step_bf16_args {
    float alpha;
    float eps;
    int cols;
    int rows;
    int h_row_stride_0;
    int gate_row_stride_0;
    int h_shift;
    int h_col;
    int w_shift;
    int w_col;
    int gate_shift;
    int gate_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_recurrent_step_bf16(device const ushort* h [[buffer(0)]],
    device const ushort* w [[buffer(1)]],
    device const ushort* gate [[buffer(2)]],
    device ushort* out [[buffer(3)]],
    constant zmlx_recurrent_step_bf16_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_6_of_warp[4];
    const long cols = (long)args.cols;
    const float f32_8 = (float)cols;
    for (int base = bid; base < args.rows; base += blocks) {
        const int h_row = base * args.h_row_stride_0;
        const int gate_row = base * args.gate_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 7;
        const bool h_vectors = ((((h_row + args.h_shift) - shift) & 7) == 0) && (args.h_col == 1);
        const bool w_vectors = (((args.w_shift - shift) & 7) == 0) && (args.w_col == 1);
        const bool gate_vectors = ((((gate_row + args.gate_shift) - shift) & 7) == 0) && (args.gate_col == 1);
        const int lane = tid;
        uint h_held[16];
        uint gate_held[16];
        if ((((0 <= ((lane * 8) - shift)) && ((((lane * 8) - shift) + 3080) <= args.cols)) && h_vectors) && gate_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 8) - shift;
                copy_bf16x8(&h[h_row + col_2], &h_held[(c_2 * 8) / 2]);
                copy_bf16x8(&gate[gate_row + col_2], &gate_held[(c_2 * 8) / 2]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 128)) * 8) - shift;
                const bool full = (0 <= col) && ((col + 8) <= args.cols);
                if (full && h_vectors) {
                    copy_bf16x8(&h[h_row + col], &h_held[(c * 8) / 2]);
                } else {
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        h_held[((c * 8) + i) / 2] = put_bf16(h_held[((c * 8) + i) / 2], ((c * 8) + i) & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(h[h_row + ((col + i) * args.h_col)]) : 0.0f);
                    }
                }
                if (full && gate_vectors) {
                    copy_bf16x8(&gate[gate_row + col], &gate_held[(c * 8) / 2]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 8; i_2++) {
                        gate_held[((c * 8) + i_2) / 2] = put_bf16(gate_held[((c * 8) + i_2) / 2], ((c * 8) + i_2) & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(gate[gate_row + ((col + i_2) * args.gate_col)]) : 0.0f);
                    }
                }
            }
        }
        float sum_6 = 0.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    const float mul_5 = half_bf16(h_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1) * half_bf16(h_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1);
                    sum_6 = sum_6 + mul_5;
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const float mul_5_2 = half_bf16(h_held[((c_3 * 8) + i_4) / 2], ((c_3 * 8) + i_4) & 1) * half_bf16(h_held[((c_3 * 8) + i_4) / 2], ((c_3 * 8) + i_4) & 1);
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    sum_6 = sum_6 + (inside ? mul_5_2 : 0.0f);
                }
            }
        }
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)16);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)8);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)4);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)2);
        sum_6 = sum_6 + simd_shuffle_xor(sum_6, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_6_of_warp[warp] = sum_6;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_6 = sum_6_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 4; w_2++) {
            sum_6 = sum_6 + sum_6_of_warp[w_2];
        }
        const float div_9 = sum_6 / f32_8;
        const float add_10 = args.eps + div_9;
        const float rsqrt_11 = metal::precise::rsqrt(add_10);
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            float w_chunk[8];
            if (full_3 && w_vectors) {
                load_bf16x8(&w[col_4], &w_chunk[0]);
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    w_chunk[i_5] = ((0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols)) ? bf16_to_f32(w[(col_4 + i_5) * args.w_col]) : 0.0f;
                }
            }
            float out_chunk[8];
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                const float mul_13 = w_chunk[i_6] * (half_bf16(h_held[((c_4 * 8) + i_6) / 2], ((c_4 * 8) + i_6) & 1) * rsqrt_11);
                const float mul_17 = half_bf16(gate_held[((c_4 * 8) + i_6) / 2], ((c_4 * 8) + i_6) & 1) * (args.alpha * (mul_13 * sigmoid_f32(mul_13)));
                out_chunk[i_6] = half_bf16(h_held[((c_4 * 8) + i_6) / 2], ((c_4 * 8) + i_6) & 1) + mul_17;
            }
            if (full_3) {
                store_bf16x8(&out[out_row + col_4], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 8; i_7++) {
                    if ((0 <= (col_4 + i_7)) && ((col_4 + i_7) < args.cols)) {
                        out[out_row + (col_4 + i_7)] = f32_to_bf16(out_chunk[i_7]);
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_recurrent_step_vjp_f32_args {
    float alpha;
    float eps;
    int cols;
    int w_shift;
    int w_col;
    int rows;
    int h_row_stride_0;
    int gate_row_stride_0;
    int g_out_row_stride_0;
    int h_shift;
    int h_col;
    int gate_shift;
    int gate_col;
    int g_out_shift;
    int g_out_col;
    int pitch;
};

[[max_total_threads_per_threadgroup(512)]]
kernel void zmlx_recurrent_step_vjp_f32(device const float* h [[buffer(0)]],
    device const float* w [[buffer(1)]],
    device const float* gate [[buffer(2)]],
    device const float* g_out [[buffer(3)]],
    device float* d_h [[buffer(4)]],
    device float* d_gate [[buffer(5)]],
    device float* parts_30 [[buffer(6)]],
    constant zmlx_recurrent_step_vjp_f32_args& args [[buffer(7)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_7_of_warp[16];
    threadgroup float sum_32_of_warp[16];
    threadgroup float meeting[2048];
    const long cols = (long)args.cols;
    const float f32_9 = (float)cols;
    const float recip_10 = 1.0f / f32_9;
    const int lane = tid & 255;
    const int sub = tid / 256;
    float sum_30[16];
#pragma unroll
    for (int i = 0; i < 16; i++) {
        sum_30[i] = 0.0f;
    }
    float w_held[16];
    const bool w_vectors = ((args.w_shift & 3) == 0) && (args.w_col == 1);
#pragma unroll
    for (int c = 0; c < 4; c++) {
        const int col = (lane + (c * 256)) * 4;
        const bool full = (col + 4) <= args.cols;
        if (full && w_vectors) {
            load_f32x4(&w[col], &w_held[c * 4]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                w_held[(c * 4) + i_2] = ((col + i_2) < args.cols) ? w[(col + i_2) * args.w_col] : 0.0f;
            }
        }
    }
    for (int base = bid * 2; base < args.rows; base += blocks * 2) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int h_row = row_2 * args.h_row_stride_0;
        const int gate_row = row_2 * args.gate_row_stride_0;
        const int g_out_row = row_2 * args.g_out_row_stride_0;
        const int d_h_row = row_2 * args.cols;
        const int d_gate_row = row_2 * args.cols;
        const bool h_vectors = (((h_row + args.h_shift) & 3) == 0) && (args.h_col == 1);
        const bool gate_vectors = (((gate_row + args.gate_shift) & 3) == 0) && (args.gate_col == 1);
        const bool g_out_vectors = (((g_out_row + args.g_out_shift) & 3) == 0) && (args.g_out_col == 1);
        const bool d_h_vectors = (d_h_row & 3) == 0;
        const bool d_gate_vectors = (d_gate_row & 3) == 0;
        const int lane_2 = lane;
        float h_held[16];
        float gate_held[16];
        float g_out_held[16];
        if ((((((lane_2 * 4) + 3076) <= args.cols) && h_vectors) && gate_vectors) && g_out_vectors) {
#pragma unroll
            for (int c_3 = 0; c_3 < 4; c_3++) {
                const int col_3 = (lane_2 + (c_3 * 256)) * 4;
                load_f32x4(&h[h_row + col_3], &h_held[c_3 * 4]);
                load_f32x4(&gate[gate_row + col_3], &gate_held[c_3 * 4]);
                load_f32x4(&g_out[g_out_row + col_3], &g_out_held[c_3 * 4]);
            }
        } else {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = (lane_2 + (c_2 * 256)) * 4;
                const bool full_2 = (col_2 + 4) <= args.cols;
                if (full_2 && h_vectors) {
                    load_f32x4(&h[h_row + col_2], &h_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_3 = 0; i_3 < 4; i_3++) {
                        h_held[(c_2 * 4) + i_3] = ((col_2 + i_3) < args.cols) ? h[h_row + ((col_2 + i_3) * args.h_col)] : 0.0f;
                    }
                }
                if (full_2 && gate_vectors) {
                    load_f32x4(&gate[gate_row + col_2], &gate_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        gate_held[(c_2 * 4) + i_4] = ((col_2 + i_4) < args.cols) ? gate[gate_row + ((col_2 + i_4) * args.gate_col)] : 0.0f;
                    }
                }
                if (full_2 && g_out_vectors) {
                    load_f32x4(&g_out[g_out_row + col_2], &g_out_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 4; i_5++) {
                        g_out_held[(c_2 * 4) + i_5] = ((col_2 + i_5) < args.cols) ? g_out[g_out_row + ((col_2 + i_5) * args.g_out_col)] : 0.0f;
                    }
                }
            }
        }
        float sum_7 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = (lane_2 + (c_4 * 256)) * 4;
            const bool full_3 = (col_4 + 4) <= args.cols;
            if (full_3) {
#pragma unroll
                for (int i_6 = 0; i_6 < 4; i_6++) {
                    const float mul_6 = h_held[(c_4 * 4) + i_6] * h_held[(c_4 * 4) + i_6];
                    sum_7 = sum_7 + mul_6;
                }
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    const float mul_6_2 = h_held[(c_4 * 4) + i_7] * h_held[(c_4 * 4) + i_7];
                    const bool inside = (col_4 + i_7) < args.cols;
                    sum_7 = sum_7 + (inside ? mul_6_2 : 0.0f);
                }
            }
        }
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)16);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)8);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)4);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)2);
        sum_7 = sum_7 + simd_shuffle_xor(sum_7, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_7_of_warp[warp] = sum_7;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int first_warp = (tid / 256) * 8;
        sum_7 = sum_7_of_warp[first_warp];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_7 = sum_7 + sum_7_of_warp[first_warp + w_2];
        }
        const float fma_11 = metal::fma(sum_7, recip_10, args.eps);
        const float rsqrt_12 = metal::precise::rsqrt(fma_11);
        const float mul_33 = rsqrt_12 * rsqrt_12;
        const float mul_34 = rsqrt_12 * mul_33;
        const float mul_36 = mul_34 * (-0.5f);
        float sum_32 = 0.0f;
        float v_41_held[16];
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = (lane_2 + (c_5 * 256)) * 4;
            const bool full_4 = (col_5 + 4) <= args.cols;
            float d_gate_chunk[4];
            float term_31[4];
#pragma unroll
            for (int i_8 = 0; i_8 < 4; i_8++) {
                const float mul_13 = h_held[(c_5 * 4) + i_8] * rsqrt_12;
                const float mul_14 = w_held[(c_5 * 4) + i_8] * mul_13;
                const float sigmoid_15 = sigmoid_f32(mul_14);
                const float mul_18 = g_out_held[(c_5 * 4) + i_8] * (args.alpha * (mul_14 * sigmoid_15));
                const float mul_19 = gate_held[(c_5 * 4) + i_8] * g_out_held[(c_5 * 4) + i_8];
                const float fma_25 = metal::fma((w_held[(c_5 * 4) + i_8] * args.alpha), (mul_13 * (1.0f - sigmoid_15)), args.alpha);
                const float mul_27 = fma_25 * (sigmoid_15 * mul_19);
                const float mul_31 = h_held[(c_5 * 4) + i_8] * (w_held[(c_5 * 4) + i_8] * mul_27);
                const float fma_41 = metal::fma((w_held[(c_5 * 4) + i_8] * rsqrt_12), mul_27, g_out_held[(c_5 * 4) + i_8]);
                v_41_held[(c_5 * 4) + i_8] = fma_41;
                d_gate_chunk[i_8] = mul_18;
                term_31[i_8] = mul_31;
                sum_30[(c_5 * 4) + i_8] = sum_30[(c_5 * 4) + i_8] + (lives ? (mul_13 * mul_27) : 0.0f);
            }
            if (full_4) {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    sum_32 = sum_32 + term_31[i_9];
                }
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    const bool inside_2 = (col_5 + i_10) < args.cols;
                    sum_32 = sum_32 + (inside_2 ? term_31[i_10] : 0.0f);
                }
            }
            if (lives) {
                if (full_4 && d_gate_vectors) {
                    store_f32x4(&d_gate[d_gate_row + col_5], &d_gate_chunk[0]);
                } else {
#pragma unroll
                    for (int i_11 = 0; i_11 < 4; i_11++) {
                        if ((col_5 + i_11) < args.cols) {
                            d_gate[d_gate_row + (col_5 + i_11)] = d_gate_chunk[i_11];
                        }
                    }
                }
            }
        }
        sum_32 = sum_32 + simd_shuffle_xor(sum_32, (ushort)16);
        sum_32 = sum_32 + simd_shuffle_xor(sum_32, (ushort)8);
        sum_32 = sum_32 + simd_shuffle_xor(sum_32, (ushort)4);
        sum_32 = sum_32 + simd_shuffle_xor(sum_32, (ushort)2);
        sum_32 = sum_32 + simd_shuffle_xor(sum_32, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_32_of_warp[warp_2] = sum_32;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int first_warp_2 = (tid / 256) * 8;
        sum_32 = sum_32_of_warp[first_warp_2];
#pragma unroll
        for (int w_3 = 1; w_3 < 8; w_3++) {
            sum_32 = sum_32 + sum_32_of_warp[first_warp_2 + w_3];
        }
        const float mul_37 = sum_32 * mul_36;
        const float mul_38 = recip_10 * mul_37;
        const float mul_40 = mul_38 * 2.0f;
#pragma unroll
        for (int c_6 = 0; c_6 < 4; c_6++) {
            const int col_6 = (lane_2 + (c_6 * 256)) * 4;
            const bool full_5 = (col_6 + 4) <= args.cols;
            float d_h_chunk[4];
#pragma unroll
            for (int i_12 = 0; i_12 < 4; i_12++) {
                const float fma_42 = metal::fma(h_held[(c_6 * 4) + i_12], mul_40, v_41_held[(c_6 * 4) + i_12]);
                d_h_chunk[i_12] = fma_42;
            }
            if (lives) {
                if (full_5 && d_h_vectors) {
                    store_f32x4(&d_h[d_h_row + col_6], &d_h_chunk[0]);
                } else {
#pragma unroll
                    for (int i_13 = 0; i_13 < 4; i_13++) {
                        if ((col_6 + i_13) < args.cols) {
                            d_h[d_h_row + (col_6 + i_13)] = d_h_chunk[i_13];
                        }
                    }
                }
            }
        }
    }
#pragma unroll
    for (int c_7 = 0; c_7 < 4; c_7++) {
#pragma unroll
        for (int i_14 = 0; i_14 < 4; i_14++) {
            meeting[(i_14 * 512) + tid] = sum_30[(c_7 * 4) + i_14];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sub == 0) {
#pragma unroll
            for (int i_15 = 0; i_15 < 4; i_15++) {
                sum_30[(c_7 * 4) + i_15] = sum_30[(c_7 * 4) + i_15] + meeting[(i_15 * 512) + (tid + 256)];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    const int part_start = bid * args.pitch;
    if (sub == 0) {
#pragma unroll
        for (int c_8 = 0; c_8 < 4; c_8++) {
            const int at = part_start + ((lane + (c_8 * 256)) * 4);
            store_f32x4(&parts_30[at], &sum_30[c_8 * 4]);
        }
    }
}

struct zmlx_recurrent_step_vjp_f32_1_args {
    int cols;
    int pitch;
    int parts;
};

[[max_total_threads_per_threadgroup(1024)]]
kernel void zmlx_recurrent_step_vjp_f32_1(device float* d_w [[buffer(0)]],
    device const float* parts_30 [[buffer(1)]],
    constant zmlx_recurrent_step_vjp_f32_1_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    threadgroup float sum_30_of_group[1024];
    const int lane = tid & 31;
    const int group = tid / 32;
    const int col = (bid * 32) + lane;
    const bool inside = col < args.cols;
    float sum_30 = 0.0f;
    if (inside) {
        for (int part = group; part < args.parts; part += 32) {
            sum_30 = sum_30 + parts_30[(part * args.pitch) + col];
        }
    }
    sum_30_of_group[tid] = sum_30;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if ((group == 0) && inside) {
#pragma unroll
        for (int g = 1; g < 32; g++) {
            sum_30 = sum_30 + sum_30_of_group[(g * 32) + lane];
        }
        d_w[col] = sum_30;
    }
}
