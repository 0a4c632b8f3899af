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

struct zmlx_resize_bilinear_f32_args {
    int chunks;
    int rows;
    int at_a_row_stride_0;
    int at_b_row_stride_0;
    int at_c_row_stride_0;
    int at_d_row_stride_0;
    int u_row_stride_0;
    int v_row_stride_0;
    int cols;
    int a_rows;
    int a_pitch;
    int b_rows;
    int b_pitch;
    int c_rows;
    int c_pitch;
    int d_rows;
    int d_pitch;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
    int c_shift;
    int c_col;
    int d_shift;
    int d_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_resize_bilinear_f32(device const float* a [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device const float* c [[buffer(2)]],
    device const float* d [[buffer(3)]],
    device const uint* at_a [[buffer(4)]],
    device const uint* at_b [[buffer(5)]],
    device const uint* at_c [[buffer(6)]],
    device const uint* at_d [[buffer(7)]],
    device const float* u [[buffer(8)]],
    device const float* v [[buffer(9)]],
    device float* out [[buffer(10)]],
    device uint* flag [[buffer(11)]],
    constant zmlx_resize_bilinear_f32_args& args [[buffer(12)]],
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
        float c_chunk[4];
        float d_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int at_a_row = row * args.at_a_row_stride_0;
        const int at_b_row = row * args.at_b_row_stride_0;
        const int at_c_row = row * args.at_c_row_stride_0;
        const int at_d_row = row * args.at_d_row_stride_0;
        const int u_row = row * args.u_row_stride_0;
        const int v_row = row * args.v_row_stride_0;
        const int out_row = row * args.cols;
        const long a_index = (long)at_a[at_a_row];
        const bool a_found = (0L <= a_index) && (a_index < ((long)args.a_rows));
        if (!a_found) {
            flag[0] = 1u;
        }
        const int a_row = ((int)(a_found ? a_index : 0L)) * args.a_pitch;
        const long b_index = (long)at_b[at_b_row];
        const bool b_found = (0L <= b_index) && (b_index < ((long)args.b_rows));
        if (!b_found) {
            flag[0] = 1u;
        }
        const int b_row = ((int)(b_found ? b_index : 0L)) * args.b_pitch;
        const long c_index = (long)at_c[at_c_row];
        const bool c_found = (0L <= c_index) && (c_index < ((long)args.c_rows));
        if (!c_found) {
            flag[0] = 1u;
        }
        const int c_row = ((int)(c_found ? c_index : 0L)) * args.c_pitch;
        const long d_index = (long)at_d[at_d_row];
        const bool d_found = (0L <= d_index) && (d_index < ((long)args.d_rows));
        if (!d_found) {
            flag[0] = 1u;
        }
        const int d_row = ((int)(d_found ? d_index : 0L)) * args.d_pitch;
        const int shift = out_row & 3;
        const bool a_vectors = a_found && (((((a_row + args.a_shift) - shift) & 3) == 0) && (args.a_col == 1));
        const bool b_vectors = b_found && (((((b_row + args.b_shift) - shift) & 3) == 0) && (args.b_col == 1));
        const bool c_vectors = c_found && (((((c_row + args.c_shift) - shift) & 3) == 0) && (args.c_col == 1));
        const bool d_vectors = d_found && (((((d_row + args.d_shift) - shift) & 3) == 0) && (args.d_col == 1));
        const int col = ((first - (row * args.chunks)) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        const float u_2 = u[u_row];
        const float v_2 = v[v_row];
        const float sub_7 = 1.0f - u_2;
        const float sub_11 = 1.0f - v_2;
        if (full && a_vectors) {
            load_f32x4(&a[a_row + col], &a_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                a_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? (a_found ? a[a_row + ((col + i) * args.a_col)] : NAN) : 0.0f;
            }
        }
        if (full && b_vectors) {
            load_f32x4(&b[b_row + col], &b_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                b_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? (b_found ? b[b_row + ((col + i_2) * args.b_col)] : NAN) : 0.0f;
            }
        }
        if (full && c_vectors) {
            load_f32x4(&c[c_row + col], &c_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                c_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? (c_found ? c[c_row + ((col + i_3) * args.c_col)] : NAN) : 0.0f;
            }
        }
        if (full && d_vectors) {
            load_f32x4(&d[d_row + col], &d_chunk[0]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                d_chunk[i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? (d_found ? d[d_row + ((col + i_4) * args.d_col)] : NAN) : 0.0f;
            }
        }
        float out_chunk[4];
#pragma unroll
        for (int i_5 = 0; i_5 < 4; i_5++) {
            const float mul_12 = ((a_chunk[i_5] * sub_7) + (b_chunk[i_5] * u_2)) * sub_11;
            const float mul_16 = v_2 * ((c_chunk[i_5] * sub_7) + (d_chunk[i_5] * u_2));
            out_chunk[i_5] = mul_12 + mul_16;
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

struct zmlx_resize_bilinear_bf16_args {
    int chunks;
    int rows;
    int at_a_row_stride_0;
    int at_b_row_stride_0;
    int at_c_row_stride_0;
    int at_d_row_stride_0;
    int u_row_stride_0;
    int v_row_stride_0;
    int cols;
    int a_rows;
    int a_pitch;
    int b_rows;
    int b_pitch;
    int c_rows;
    int c_pitch;
    int d_rows;
    int d_pitch;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
    int c_shift;
    int c_col;
    int d_shift;
    int d_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_resize_bilinear_bf16(device const ushort* a [[buffer(0)]],
    device const ushort* b [[buffer(1)]],
    device const ushort* c [[buffer(2)]],
    device const ushort* d [[buffer(3)]],
    device const uint* at_a [[buffer(4)]],
    device const uint* at_b [[buffer(5)]],
    device const uint* at_c [[buffer(6)]],
    device const uint* at_d [[buffer(7)]],
    device const ushort* u [[buffer(8)]],
    device const ushort* v [[buffer(9)]],
    device ushort* out [[buffer(10)]],
    device uint* flag [[buffer(11)]],
    constant zmlx_resize_bilinear_bf16_args& args [[buffer(12)]],
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
        uint c_chunk[4];
        uint d_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int at_a_row = row * args.at_a_row_stride_0;
        const int at_b_row = row * args.at_b_row_stride_0;
        const int at_c_row = row * args.at_c_row_stride_0;
        const int at_d_row = row * args.at_d_row_stride_0;
        const int u_row = row * args.u_row_stride_0;
        const int v_row = row * args.v_row_stride_0;
        const int out_row = row * args.cols;
        const long a_index = (long)at_a[at_a_row];
        const bool a_found = (0L <= a_index) && (a_index < ((long)args.a_rows));
        if (!a_found) {
            flag[0] = 1u;
        }
        const int a_row = ((int)(a_found ? a_index : 0L)) * args.a_pitch;
        const long b_index = (long)at_b[at_b_row];
        const bool b_found = (0L <= b_index) && (b_index < ((long)args.b_rows));
        if (!b_found) {
            flag[0] = 1u;
        }
        const int b_row = ((int)(b_found ? b_index : 0L)) * args.b_pitch;
        const long c_index = (long)at_c[at_c_row];
        const bool c_found = (0L <= c_index) && (c_index < ((long)args.c_rows));
        if (!c_found) {
            flag[0] = 1u;
        }
        const int c_row = ((int)(c_found ? c_index : 0L)) * args.c_pitch;
        const long d_index = (long)at_d[at_d_row];
        const bool d_found = (0L <= d_index) && (d_index < ((long)args.d_rows));
        if (!d_found) {
            flag[0] = 1u;
        }
        const int d_row = ((int)(d_found ? d_index : 0L)) * args.d_pitch;
        const int shift = out_row & 7;
        const bool a_vectors = a_found && (((((a_row + args.a_shift) - shift) & 7) == 0) && (args.a_col == 1));
        const bool b_vectors = b_found && (((((b_row + args.b_shift) - shift) & 7) == 0) && (args.b_col == 1));
        const bool c_vectors = c_found && (((((c_row + args.c_shift) - shift) & 7) == 0) && (args.c_col == 1));
        const bool d_vectors = d_found && (((((d_row + args.d_shift) - shift) & 7) == 0) && (args.d_col == 1));
        const int col = ((first - (row * args.chunks)) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        const float u_2 = bf16_to_f32(u[u_row]);
        const float v_2 = bf16_to_f32(v[v_row]);
        const float sub_7 = 1.0f - u_2;
        const float sub_11 = 1.0f - v_2;
        if (full && a_vectors) {
            copy_bf16x8(&a[a_row + col], &a_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                a_chunk[i / 2] = put_bf16(a_chunk[i / 2], i & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? (a_found ? bf16_to_f32(a[a_row + ((col + i) * args.a_col)]) : NAN) : 0.0f);
            }
        }
        if (full && b_vectors) {
            copy_bf16x8(&b[b_row + col], &b_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                b_chunk[i_2 / 2] = put_bf16(b_chunk[i_2 / 2], i_2 & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? (b_found ? bf16_to_f32(b[b_row + ((col + i_2) * args.b_col)]) : NAN) : 0.0f);
            }
        }
        if (full && c_vectors) {
            copy_bf16x8(&c[c_row + col], &c_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                c_chunk[i_3 / 2] = put_bf16(c_chunk[i_3 / 2], i_3 & 1, ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? (c_found ? bf16_to_f32(c[c_row + ((col + i_3) * args.c_col)]) : NAN) : 0.0f);
            }
        }
        if (full && d_vectors) {
            copy_bf16x8(&d[d_row + col], &d_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                d_chunk[i_4 / 2] = put_bf16(d_chunk[i_4 / 2], i_4 & 1, ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? (d_found ? bf16_to_f32(d[d_row + ((col + i_4) * args.d_col)]) : NAN) : 0.0f);
            }
        }
        float out_chunk[8];
#pragma unroll
        for (int i_5 = 0; i_5 < 8; i_5++) {
            const float mul_12 = ((half_bf16(a_chunk[i_5 / 2], i_5 & 1) * sub_7) + (half_bf16(b_chunk[i_5 / 2], i_5 & 1) * u_2)) * sub_11;
            const float mul_16 = v_2 * ((half_bf16(c_chunk[i_5 / 2], i_5 & 1) * sub_7) + (half_bf16(d_chunk[i_5 / 2], i_5 & 1) * u_2));
            out_chunk[i_5] = mul_12 + mul_16;
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

struct zmlx_resize_bilinear_vjp_f32_args {
    int rows;
    int at_a_row_stride_0;
    int at_b_row_stride_0;
    int at_c_row_stride_0;
    int at_d_row_stride_0;
    int u_row_stride_0;
    int v_row_stride_0;
    int g_out_row_stride_0;
    int cols;
    int a_rows;
    int a_pitch;
    int b_rows;
    int b_pitch;
    int c_rows;
    int c_pitch;
    int d_rows;
    int d_pitch;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
    int c_shift;
    int c_col;
    int d_shift;
    int d_col;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_resize_bilinear_vjp_f32(device const float* a [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device const float* c [[buffer(2)]],
    device const float* d [[buffer(3)]],
    device const uint* at_a [[buffer(4)]],
    device const uint* at_b [[buffer(5)]],
    device const uint* at_c [[buffer(6)]],
    device const uint* at_d [[buffer(7)]],
    device const float* u [[buffer(8)]],
    device const float* v [[buffer(9)]],
    device const float* g_out [[buffer(10)]],
    device float* d_a [[buffer(11)]],
    device float* d_b [[buffer(12)]],
    device float* d_c [[buffer(13)]],
    device float* d_d [[buffer(14)]],
    device float* d_u [[buffer(15)]],
    device float* d_v [[buffer(16)]],
    device uint* flag [[buffer(17)]],
    constant zmlx_resize_bilinear_vjp_f32_args& args [[buffer(18)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float sum_15_of_warp[8];
    threadgroup float sum_19_of_warp[8];
    threadgroup float sum_24_of_warp[8];
    threadgroup float sum_27_of_warp[8];
    threadgroup float sum_31_of_warp[8];
    threadgroup float sum_35_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int at_a_row = base * args.at_a_row_stride_0;
        const int at_b_row = base * args.at_b_row_stride_0;
        const int at_c_row = base * args.at_c_row_stride_0;
        const int at_d_row = base * args.at_d_row_stride_0;
        const int u_row = base * args.u_row_stride_0;
        const int v_row = base * args.v_row_stride_0;
        const int g_out_row = base * args.g_out_row_stride_0;
        const int d_a_row = base * args.cols;
        const int d_b_row = base * args.cols;
        const int d_c_row = base * args.cols;
        const int d_d_row = base * args.cols;
        const long a_index = (long)at_a[at_a_row];
        const bool a_found = (0L <= a_index) && (a_index < ((long)args.a_rows));
        if (!a_found) {
            flag[0] = 1u;
        }
        const int a_row = ((int)(a_found ? a_index : 0L)) * args.a_pitch;
        const long b_index = (long)at_b[at_b_row];
        const bool b_found = (0L <= b_index) && (b_index < ((long)args.b_rows));
        if (!b_found) {
            flag[0] = 1u;
        }
        const int b_row = ((int)(b_found ? b_index : 0L)) * args.b_pitch;
        const long c_index = (long)at_c[at_c_row];
        const bool c_found = (0L <= c_index) && (c_index < ((long)args.c_rows));
        if (!c_found) {
            flag[0] = 1u;
        }
        const int c_row = ((int)(c_found ? c_index : 0L)) * args.c_pitch;
        const long d_index = (long)at_d[at_d_row];
        const bool d_found = (0L <= d_index) && (d_index < ((long)args.d_rows));
        if (!d_found) {
            flag[0] = 1u;
        }
        const int d_row = ((int)(d_found ? d_index : 0L)) * args.d_pitch;
        const int shift = d_a_row & 3;
        const bool a_vectors = a_found && (((((a_row + args.a_shift) - shift) & 3) == 0) && (args.a_col == 1));
        const bool b_vectors = b_found && (((((b_row + args.b_shift) - shift) & 3) == 0) && (args.b_col == 1));
        const bool c_vectors = c_found && (((((c_row + args.c_shift) - shift) & 3) == 0) && (args.c_col == 1));
        const bool d_vectors = d_found && (((((d_row + args.d_shift) - shift) & 3) == 0) && (args.d_col == 1));
        const bool g_out_vectors = ((((g_out_row + args.g_out_shift) - shift) & 3) == 0) && (args.g_out_col == 1);
        const bool d_b_vectors = ((d_b_row - shift) & 3) == 0;
        const bool d_c_vectors = ((d_c_row - shift) & 3) == 0;
        const bool d_d_vectors = ((d_d_row - shift) & 3) == 0;
        const int lane = tid;
        float a_held[16];
        float b_held[16];
        float c_held[16];
        float d_held[16];
        float g_out_held[16];
        if (((((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && a_vectors) && b_vectors) && c_vectors) && d_vectors) && g_out_vectors) {
#pragma unroll
            for (int c_3 = 0; c_3 < 4; c_3++) {
                const int col_2 = ((lane + (c_3 * 256)) * 4) - shift;
                load_f32x4(&a[a_row + col_2], &a_held[c_3 * 4]);
                load_f32x4(&b[b_row + col_2], &b_held[c_3 * 4]);
                load_f32x4(&c[c_row + col_2], &c_held[c_3 * 4]);
                load_f32x4(&d[d_row + col_2], &d_held[c_3 * 4]);
                load_f32x4(&g_out[g_out_row + col_2], &g_out_held[c_3 * 4]);
            }
        } else {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col = ((lane + (c_2 * 256)) * 4) - shift;
                const bool full = (0 <= col) && ((col + 4) <= args.cols);
                if (full && a_vectors) {
                    load_f32x4(&a[a_row + col], &a_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        a_held[(c_2 * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? (a_found ? a[a_row + ((col + i) * args.a_col)] : NAN) : 0.0f;
                    }
                }
                if (full && b_vectors) {
                    load_f32x4(&b[b_row + col], &b_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 4; i_2++) {
                        b_held[(c_2 * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? (b_found ? b[b_row + ((col + i_2) * args.b_col)] : NAN) : 0.0f;
                    }
                }
                if (full && c_vectors) {
                    load_f32x4(&c[c_row + col], &c_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_3 = 0; i_3 < 4; i_3++) {
                        c_held[(c_2 * 4) + i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? (c_found ? c[c_row + ((col + i_3) * args.c_col)] : NAN) : 0.0f;
                    }
                }
                if (full && d_vectors) {
                    load_f32x4(&d[d_row + col], &d_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        d_held[(c_2 * 4) + i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? (d_found ? d[d_row + ((col + i_4) * args.d_col)] : NAN) : 0.0f;
                    }
                }
                if (full && g_out_vectors) {
                    load_f32x4(&g_out[g_out_row + col], &g_out_held[c_2 * 4]);
                } else {
#pragma unroll
                    for (int i_5 = 0; i_5 < 4; i_5++) {
                        g_out_held[(c_2 * 4) + i_5] = ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) ? g_out[g_out_row + ((col + i_5) * args.g_out_col)] : 0.0f;
                    }
                }
            }
        }
        const float u_2 = u[u_row];
        const float v_2 = v[v_row];
        const float sub_8 = 1.0f - u_2;
        const float sub_11 = 1.0f - v_2;
        const float mul_16 = u_2 * v_2;
        const float mul_21 = v_2 * sub_8;
        const float mul_28 = u_2 * sub_11;
        const float mul_32 = sub_8 * sub_11;
        float sum_15 = 0.0f;
        float sum_19 = 0.0f;
        float sum_24 = 0.0f;
        float sum_27 = 0.0f;
        float sum_31 = 0.0f;
        float sum_35 = 0.0f;
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_3 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float d_a_chunk[4];
            float d_b_chunk[4];
            float d_c_chunk[4];
            float d_d_chunk[4];
            float term_14[4];
            float term_18[4];
            float term_23[4];
            float term_26[4];
            float term_30[4];
            float term_34[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const float fma_10 = metal::fma(b_held[(c_4 * 4) + i_6], u_2, (a_held[(c_4 * 4) + i_6] * sub_8));
                const float fma_13 = metal::fma(d_held[(c_4 * 4) + i_6], u_2, (c_held[(c_4 * 4) + i_6] * sub_8));
                const float mul_18 = d_held[(c_4 * 4) + i_6] * g_out_held[(c_4 * 4) + i_6];
                const float mul_23 = c_held[(c_4 * 4) + i_6] * g_out_held[(c_4 * 4) + i_6];
                const float mul_30 = b_held[(c_4 * 4) + i_6] * g_out_held[(c_4 * 4) + i_6];
                const float mul_34 = a_held[(c_4 * 4) + i_6] * g_out_held[(c_4 * 4) + i_6];
                d_a_chunk[i_6] = g_out_held[(c_4 * 4) + i_6] * mul_32;
                d_b_chunk[i_6] = g_out_held[(c_4 * 4) + i_6] * mul_28;
                d_c_chunk[i_6] = g_out_held[(c_4 * 4) + i_6] * mul_21;
                d_d_chunk[i_6] = g_out_held[(c_4 * 4) + i_6] * mul_16;
                term_14[i_6] = g_out_held[(c_4 * 4) + i_6] * fma_13;
                term_18[i_6] = mul_18;
                term_23[i_6] = mul_23;
                term_26[i_6] = g_out_held[(c_4 * 4) + i_6] * fma_10;
                term_30[i_6] = mul_30;
                term_34[i_6] = mul_34;
            }
            if (full_2) {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    sum_15 = sum_15 + term_14[i_7];
                    sum_19 = sum_19 + term_18[i_7];
                    sum_24 = sum_24 + term_23[i_7];
                    sum_27 = sum_27 + term_26[i_7];
                    sum_31 = sum_31 + term_30[i_7];
                    sum_35 = sum_35 + term_34[i_7];
                }
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    const bool inside = (0 <= (col_3 + i_8)) && ((col_3 + i_8) < args.cols);
                    sum_15 = sum_15 + (inside ? term_14[i_8] : 0.0f);
                    sum_19 = sum_19 + (inside ? term_18[i_8] : 0.0f);
                    sum_24 = sum_24 + (inside ? term_23[i_8] : 0.0f);
                    sum_27 = sum_27 + (inside ? term_26[i_8] : 0.0f);
                    sum_31 = sum_31 + (inside ? term_30[i_8] : 0.0f);
                    sum_35 = sum_35 + (inside ? term_34[i_8] : 0.0f);
                }
            }
            if (full_2) {
                store_f32x4(&d_a[d_a_row + col_3], &d_a_chunk[0]);
            } else {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    if ((0 <= (col_3 + i_9)) && ((col_3 + i_9) < args.cols)) {
                        d_a[d_a_row + (col_3 + i_9)] = d_a_chunk[i_9];
                    }
                }
            }
            if (full_2 && d_b_vectors) {
                store_f32x4(&d_b[d_b_row + col_3], &d_b_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    if ((0 <= (col_3 + i_10)) && ((col_3 + i_10) < args.cols)) {
                        d_b[d_b_row + (col_3 + i_10)] = d_b_chunk[i_10];
                    }
                }
            }
            if (full_2 && d_c_vectors) {
                store_f32x4(&d_c[d_c_row + col_3], &d_c_chunk[0]);
            } else {
#pragma unroll
                for (int i_11 = 0; i_11 < 4; i_11++) {
                    if ((0 <= (col_3 + i_11)) && ((col_3 + i_11) < args.cols)) {
                        d_c[d_c_row + (col_3 + i_11)] = d_c_chunk[i_11];
                    }
                }
            }
            if (full_2 && d_d_vectors) {
                store_f32x4(&d_d[d_d_row + col_3], &d_d_chunk[0]);
            } else {
#pragma unroll
                for (int i_12 = 0; i_12 < 4; i_12++) {
                    if ((0 <= (col_3 + i_12)) && ((col_3 + i_12) < args.cols)) {
                        d_d[d_d_row + (col_3 + i_12)] = d_d_chunk[i_12];
                    }
                }
            }
        }
        sum_15 = sum_15 + simd_shuffle_xor(sum_15, (ushort)16);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)16);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)16);
        sum_27 = sum_27 + simd_shuffle_xor(sum_27, (ushort)16);
        sum_31 = sum_31 + simd_shuffle_xor(sum_31, (ushort)16);
        sum_35 = sum_35 + simd_shuffle_xor(sum_35, (ushort)16);
        sum_15 = sum_15 + simd_shuffle_xor(sum_15, (ushort)8);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)8);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)8);
        sum_27 = sum_27 + simd_shuffle_xor(sum_27, (ushort)8);
        sum_31 = sum_31 + simd_shuffle_xor(sum_31, (ushort)8);
        sum_35 = sum_35 + simd_shuffle_xor(sum_35, (ushort)8);
        sum_15 = sum_15 + simd_shuffle_xor(sum_15, (ushort)4);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)4);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)4);
        sum_27 = sum_27 + simd_shuffle_xor(sum_27, (ushort)4);
        sum_31 = sum_31 + simd_shuffle_xor(sum_31, (ushort)4);
        sum_35 = sum_35 + simd_shuffle_xor(sum_35, (ushort)4);
        sum_15 = sum_15 + simd_shuffle_xor(sum_15, (ushort)2);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)2);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)2);
        sum_27 = sum_27 + simd_shuffle_xor(sum_27, (ushort)2);
        sum_31 = sum_31 + simd_shuffle_xor(sum_31, (ushort)2);
        sum_35 = sum_35 + simd_shuffle_xor(sum_35, (ushort)2);
        sum_15 = sum_15 + simd_shuffle_xor(sum_15, (ushort)1);
        sum_19 = sum_19 + simd_shuffle_xor(sum_19, (ushort)1);
        sum_24 = sum_24 + simd_shuffle_xor(sum_24, (ushort)1);
        sum_27 = sum_27 + simd_shuffle_xor(sum_27, (ushort)1);
        sum_31 = sum_31 + simd_shuffle_xor(sum_31, (ushort)1);
        sum_35 = sum_35 + simd_shuffle_xor(sum_35, (ushort)1);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            sum_15_of_warp[warp] = sum_15;
            sum_19_of_warp[warp] = sum_19;
            sum_24_of_warp[warp] = sum_24;
            sum_27_of_warp[warp] = sum_27;
            sum_31_of_warp[warp] = sum_31;
            sum_35_of_warp[warp] = sum_35;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_15 = sum_15_of_warp[0];
        sum_19 = sum_19_of_warp[0];
        sum_24 = sum_24_of_warp[0];
        sum_27 = sum_27_of_warp[0];
        sum_31 = sum_31_of_warp[0];
        sum_35 = sum_35_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            sum_15 = sum_15 + sum_15_of_warp[w];
            sum_19 = sum_19 + sum_19_of_warp[w];
            sum_24 = sum_24 + sum_24_of_warp[w];
            sum_27 = sum_27 + sum_27_of_warp[w];
            sum_31 = sum_31 + sum_31_of_warp[w];
            sum_35 = sum_35 + sum_35_of_warp[w];
        }
        const float mul_20 = v_2 * sum_19;
        const float mul_25 = v_2 * sum_24;
        const float fma_36 = metal::fma(sub_11, sum_35, mul_25);
        const float sub_37 = sum_15 - sum_27;
        const float fma_38 = metal::fma(sub_11, sum_31, mul_20);
        const float sub_39 = fma_38 - fma_36;
        if (tid == 0) {
            d_u[base] = sub_39;
            d_v[base] = sub_37;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
