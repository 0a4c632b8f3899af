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

struct zmlx_depthwise_conv_3x3_f32_args {
    int chunks;
    int rows;
    int s_row_stride_0;
    int xl_row_stride_0;
    int xm_row_stride_0;
    int xr_row_stride_0;
    int cols;
    int s_shift;
    int s_col;
    int xl_shift;
    int xl_col;
    int xm_shift;
    int xm_col;
    int xr_shift;
    int xr_col;
    int l_shift;
    int l_col;
    int m_shift;
    int m_col;
    int r_shift;
    int r_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_depthwise_conv_3x3_f32(device const float* s [[buffer(0)]],
    device const float* xl [[buffer(1)]],
    device const float* xm [[buffer(2)]],
    device const float* xr [[buffer(3)]],
    device const float* l [[buffer(4)]],
    device const float* m [[buffer(5)]],
    device const float* r [[buffer(6)]],
    device float* out [[buffer(7)]],
    constant zmlx_depthwise_conv_3x3_f32_args& args [[buffer(8)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        float s_chunk[4];
        float xl_chunk[4];
        float xm_chunk[4];
        float xr_chunk[4];
        float l_chunk[4];
        float m_chunk[4];
        float r_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int s_row = row * args.s_row_stride_0;
        const int xl_row = row * args.xl_row_stride_0;
        const int xm_row = row * args.xm_row_stride_0;
        const int xr_row = row * args.xr_row_stride_0;
        const int out_row = row * args.cols;
        const int shift = out_row & 3;
        const bool s_vectors = ((((s_row + args.s_shift) - shift) & 3) == 0) && (args.s_col == 1);
        const bool xl_vectors = ((((xl_row + args.xl_shift) - shift) & 3) == 0) && (args.xl_col == 1);
        const bool xm_vectors = ((((xm_row + args.xm_shift) - shift) & 3) == 0) && (args.xm_col == 1);
        const bool xr_vectors = ((((xr_row + args.xr_shift) - shift) & 3) == 0) && (args.xr_col == 1);
        const bool l_vectors = (((args.l_shift - shift) & 3) == 0) && (args.l_col == 1);
        const bool m_vectors = (((args.m_shift - shift) & 3) == 0) && (args.m_col == 1);
        const bool r_vectors = (((args.r_shift - shift) & 3) == 0) && (args.r_col == 1);
        const int col = ((first - (row * args.chunks)) * 4) - shift;
        const bool full = (0 <= col) && ((col + 4) <= args.cols);
        if (full && s_vectors) {
            load_f32x4(&s[s_row + col], &s_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? s[s_row + ((col + i) * args.s_col)] : 0.0f;
            }
        }
        if (full && xl_vectors) {
            load_f32x4(&xl[xl_row + col], &xl_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                xl_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? xl[xl_row + ((col + i_2) * args.xl_col)] : 0.0f;
            }
        }
        if (full && xm_vectors) {
            load_f32x4(&xm[xm_row + col], &xm_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                xm_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? xm[xm_row + ((col + i_3) * args.xm_col)] : 0.0f;
            }
        }
        if (full && xr_vectors) {
            load_f32x4(&xr[xr_row + col], &xr_chunk[0]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                xr_chunk[i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? xr[xr_row + ((col + i_4) * args.xr_col)] : 0.0f;
            }
        }
        if (full && l_vectors) {
            load_f32x4(&l[col], &l_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                l_chunk[i_5] = ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) ? l[(col + i_5) * args.l_col] : 0.0f;
            }
        }
        if (full && m_vectors) {
            load_f32x4(&m[col], &m_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                m_chunk[i_6] = ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) ? m[(col + i_6) * args.m_col] : 0.0f;
            }
        }
        if (full && r_vectors) {
            load_f32x4(&r[col], &r_chunk[0]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 4; i_7++) {
                r_chunk[i_7] = ((0 <= (col + i_7)) && ((col + i_7) < args.cols)) ? r[(col + i_7) * args.r_col] : 0.0f;
            }
        }
        float out_chunk[4];
#pragma unroll
        for (int i_8 = 0; i_8 < 4; i_8++) {
            const float add_10 = (s_chunk[i_8] + (xl_chunk[i_8] * l_chunk[i_8])) + (xm_chunk[i_8] * m_chunk[i_8]);
            out_chunk[i_8] = add_10 + (xr_chunk[i_8] * r_chunk[i_8]);
        }
        if (full) {
            store_f32x4(&out[out_row + col], &out_chunk[0]);
        } else {
#pragma unroll
            for (int i_9 = 0; i_9 < 4; i_9++) {
                if ((0 <= (col + i_9)) && ((col + i_9) < args.cols)) {
                    out[out_row + (col + i_9)] = out_chunk[i_9];
                }
            }
        }
    }
}

struct zmlx_depthwise_conv_3x3_bf16_args {
    int chunks;
    int rows;
    int s_row_stride_0;
    int xl_row_stride_0;
    int xm_row_stride_0;
    int xr_row_stride_0;
    int cols;
    int s_shift;
    int s_col;
    int xl_shift;
    int xl_col;
    int xm_shift;
    int xm_col;
    int xr_shift;
    int xr_col;
    int l_shift;
    int l_col;
    int m_shift;
    int m_col;
    int r_shift;
    int r_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_depthwise_conv_3x3_bf16(device const ushort* s [[buffer(0)]],
    device const ushort* xl [[buffer(1)]],
    device const ushort* xm [[buffer(2)]],
    device const ushort* xr [[buffer(3)]],
    device const ushort* l [[buffer(4)]],
    device const ushort* m [[buffer(5)]],
    device const ushort* r [[buffer(6)]],
    device ushort* out [[buffer(7)]],
    constant zmlx_depthwise_conv_3x3_bf16_args& args [[buffer(8)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        uint s_chunk[4];
        uint xl_chunk[4];
        uint xm_chunk[4];
        uint xr_chunk[4];
        uint l_chunk[4];
        uint m_chunk[4];
        uint r_chunk[4];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int s_row = row * args.s_row_stride_0;
        const int xl_row = row * args.xl_row_stride_0;
        const int xm_row = row * args.xm_row_stride_0;
        const int xr_row = row * args.xr_row_stride_0;
        const int out_row = row * args.cols;
        const int shift = out_row & 7;
        const bool s_vectors = ((((s_row + args.s_shift) - shift) & 7) == 0) && (args.s_col == 1);
        const bool xl_vectors = ((((xl_row + args.xl_shift) - shift) & 7) == 0) && (args.xl_col == 1);
        const bool xm_vectors = ((((xm_row + args.xm_shift) - shift) & 7) == 0) && (args.xm_col == 1);
        const bool xr_vectors = ((((xr_row + args.xr_shift) - shift) & 7) == 0) && (args.xr_col == 1);
        const bool l_vectors = (((args.l_shift - shift) & 7) == 0) && (args.l_col == 1);
        const bool m_vectors = (((args.m_shift - shift) & 7) == 0) && (args.m_col == 1);
        const bool r_vectors = (((args.r_shift - shift) & 7) == 0) && (args.r_col == 1);
        const int col = ((first - (row * args.chunks)) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        if (full && s_vectors) {
            copy_bf16x8(&s[s_row + col], &s_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                s_chunk[i / 2] = put_bf16(s_chunk[i / 2], i & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(s[s_row + ((col + i) * args.s_col)]) : 0.0f);
            }
        }
        if (full && xl_vectors) {
            copy_bf16x8(&xl[xl_row + col], &xl_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                xl_chunk[i_2 / 2] = put_bf16(xl_chunk[i_2 / 2], i_2 & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(xl[xl_row + ((col + i_2) * args.xl_col)]) : 0.0f);
            }
        }
        if (full && xm_vectors) {
            copy_bf16x8(&xm[xm_row + col], &xm_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                xm_chunk[i_3 / 2] = put_bf16(xm_chunk[i_3 / 2], i_3 & 1, ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? bf16_to_f32(xm[xm_row + ((col + i_3) * args.xm_col)]) : 0.0f);
            }
        }
        if (full && xr_vectors) {
            copy_bf16x8(&xr[xr_row + col], &xr_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                xr_chunk[i_4 / 2] = put_bf16(xr_chunk[i_4 / 2], i_4 & 1, ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? bf16_to_f32(xr[xr_row + ((col + i_4) * args.xr_col)]) : 0.0f);
            }
        }
        if (full && l_vectors) {
            copy_bf16x8(&l[col], &l_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                l_chunk[i_5 / 2] = put_bf16(l_chunk[i_5 / 2], i_5 & 1, ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) ? bf16_to_f32(l[(col + i_5) * args.l_col]) : 0.0f);
            }
        }
        if (full && m_vectors) {
            copy_bf16x8(&m[col], &m_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                m_chunk[i_6 / 2] = put_bf16(m_chunk[i_6 / 2], i_6 & 1, ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) ? bf16_to_f32(m[(col + i_6) * args.m_col]) : 0.0f);
            }
        }
        if (full && r_vectors) {
            copy_bf16x8(&r[col], &r_chunk[0 / 2]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 8; i_7++) {
                r_chunk[i_7 / 2] = put_bf16(r_chunk[i_7 / 2], i_7 & 1, ((0 <= (col + i_7)) && ((col + i_7) < args.cols)) ? bf16_to_f32(r[(col + i_7) * args.r_col]) : 0.0f);
            }
        }
        float out_chunk[8];
#pragma unroll
        for (int i_8 = 0; i_8 < 8; i_8++) {
            const float add_10 = (half_bf16(s_chunk[i_8 / 2], i_8 & 1) + (half_bf16(xl_chunk[i_8 / 2], i_8 & 1) * half_bf16(l_chunk[i_8 / 2], i_8 & 1))) + (half_bf16(xm_chunk[i_8 / 2], i_8 & 1) * half_bf16(m_chunk[i_8 / 2], i_8 & 1));
            out_chunk[i_8] = add_10 + (half_bf16(xr_chunk[i_8 / 2], i_8 & 1) * half_bf16(r_chunk[i_8 / 2], i_8 & 1));
        }
        if (full) {
            store_bf16x8(&out[out_row + col], &out_chunk[0]);
        } else {
#pragma unroll
            for (int i_9 = 0; i_9 < 8; i_9++) {
                if ((0 <= (col + i_9)) && ((col + i_9) < args.cols)) {
                    out[out_row + (col + i_9)] = f32_to_bf16(out_chunk[i_9]);
                }
            }
        }
    }
}

struct zmlx_depthwise_conv_3x3_vjp_f32_args {
    int pitch;
    int l_shift;
    int l_col;
    int m_shift;
    int m_col;
    int r_shift;
    int r_col;
    int cols;
    int rows;
    int xl_row_stride_0;
    int xm_row_stride_0;
    int xr_row_stride_0;
    int g_out_row_stride_0;
    int xl_shift;
    int xl_col;
    int xm_shift;
    int xm_col;
    int xr_shift;
    int xr_col;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_depthwise_conv_3x3_vjp_f32(device const float* xl [[buffer(0)]],
    device const float* xm [[buffer(1)]],
    device const float* xr [[buffer(2)]],
    device const float* l [[buffer(3)]],
    device const float* m [[buffer(4)]],
    device const float* r [[buffer(5)]],
    device const float* g_out [[buffer(6)]],
    device float* d_s [[buffer(7)]],
    device float* d_xl [[buffer(8)]],
    device float* d_xm [[buffer(9)]],
    device float* d_xr [[buffer(10)]],
    device float* parts_9 [[buffer(11)]],
    device float* parts_12 [[buffer(12)]],
    device float* parts_15 [[buffer(13)]],
    constant zmlx_depthwise_conv_3x3_vjp_f32_args& args [[buffer(14)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float meeting[1024];
    const int lane = tid & 127;
    const int sub = tid / 128;
    float sum_9[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum_9[i] = 0.0f;
    }
    float sum_12[4];
#pragma unroll
    for (int i_2 = 0; i_2 < 4; i_2++) {
        sum_12[i_2] = 0.0f;
    }
    float sum_15[4];
#pragma unroll
    for (int i_3 = 0; i_3 < 4; i_3++) {
        sum_15[i_3] = 0.0f;
    }
    const int tiles = args.pitch / 512;
    const int first_chunk = ((bid % tiles) * 128) + lane;
    const int part = bid / tiles;
    const int parts = blocks / tiles;
    float l_held[4];
    float m_held[4];
    float r_held[4];
    const bool l_vectors = ((args.l_shift & 3) == 0) && (args.l_col == 1);
    const bool m_vectors = ((args.m_shift & 3) == 0) && (args.m_col == 1);
    const bool r_vectors = ((args.r_shift & 3) == 0) && (args.r_col == 1);
    const int col = first_chunk * 4;
    const bool full = (col + 4) <= args.cols;
    if (full && l_vectors) {
        load_f32x4(&l[col], &l_held[0]);
    } else {
#pragma unroll
        for (int i_4 = 0; i_4 < 4; i_4++) {
            l_held[i_4] = ((col + i_4) < args.cols) ? l[(col + i_4) * args.l_col] : 0.0f;
        }
    }
    if (full && m_vectors) {
        load_f32x4(&m[col], &m_held[0]);
    } else {
#pragma unroll
        for (int i_5 = 0; i_5 < 4; i_5++) {
            m_held[i_5] = ((col + i_5) < args.cols) ? m[(col + i_5) * args.m_col] : 0.0f;
        }
    }
    if (full && r_vectors) {
        load_f32x4(&r[col], &r_held[0]);
    } else {
#pragma unroll
        for (int i_6 = 0; i_6 < 4; i_6++) {
            r_held[i_6] = ((col + i_6) < args.cols) ? r[(col + i_6) * args.r_col] : 0.0f;
        }
    }
    for (int base = part * 2; base < args.rows; base += parts * 2) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int xl_row = row_2 * args.xl_row_stride_0;
        const int xm_row = row_2 * args.xm_row_stride_0;
        const int xr_row = row_2 * args.xr_row_stride_0;
        const int g_out_row = row_2 * args.g_out_row_stride_0;
        const int d_s_row = row_2 * args.cols;
        const int d_xl_row = row_2 * args.cols;
        const int d_xm_row = row_2 * args.cols;
        const int d_xr_row = row_2 * args.cols;
        const bool xl_vectors = (((xl_row + args.xl_shift) & 3) == 0) && (args.xl_col == 1);
        const bool xm_vectors = (((xm_row + args.xm_shift) & 3) == 0) && (args.xm_col == 1);
        const bool xr_vectors = (((xr_row + args.xr_shift) & 3) == 0) && (args.xr_col == 1);
        const bool g_out_vectors = (((g_out_row + args.g_out_shift) & 3) == 0) && (args.g_out_col == 1);
        const bool d_s_vectors = (d_s_row & 3) == 0;
        const bool d_xl_vectors = (d_xl_row & 3) == 0;
        const bool d_xm_vectors = (d_xm_row & 3) == 0;
        const bool d_xr_vectors = (d_xr_row & 3) == 0;
        const int lane_2 = first_chunk;
        const int col_2 = lane_2 * 4;
        const bool full_2 = (col_2 + 4) <= args.cols;
        float xl_chunk[4];
        float xm_chunk[4];
        float xr_chunk[4];
        float g_out_chunk[4];
        if (full_2 && xl_vectors) {
            load_f32x4(&xl[xl_row + col_2], &xl_chunk[0]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 4; i_7++) {
                xl_chunk[i_7] = ((col_2 + i_7) < args.cols) ? xl[xl_row + ((col_2 + i_7) * args.xl_col)] : 0.0f;
            }
        }
        if (full_2 && xm_vectors) {
            load_f32x4(&xm[xm_row + col_2], &xm_chunk[0]);
        } else {
#pragma unroll
            for (int i_8 = 0; i_8 < 4; i_8++) {
                xm_chunk[i_8] = ((col_2 + i_8) < args.cols) ? xm[xm_row + ((col_2 + i_8) * args.xm_col)] : 0.0f;
            }
        }
        if (full_2 && xr_vectors) {
            load_f32x4(&xr[xr_row + col_2], &xr_chunk[0]);
        } else {
#pragma unroll
            for (int i_9 = 0; i_9 < 4; i_9++) {
                xr_chunk[i_9] = ((col_2 + i_9) < args.cols) ? xr[xr_row + ((col_2 + i_9) * args.xr_col)] : 0.0f;
            }
        }
        if (full_2 && g_out_vectors) {
            load_f32x4(&g_out[g_out_row + col_2], &g_out_chunk[0]);
        } else {
#pragma unroll
            for (int i_10 = 0; i_10 < 4; i_10++) {
                g_out_chunk[i_10] = ((col_2 + i_10) < args.cols) ? g_out[g_out_row + ((col_2 + i_10) * args.g_out_col)] : 0.0f;
            }
        }
        float d_s_chunk[4];
        float d_xl_chunk[4];
        float d_xm_chunk[4];
        float d_xr_chunk[4];
#pragma unroll
        for (int i_11 = 0; i_11 < 4; i_11++) {
            d_s_chunk[i_11] = g_out_chunk[i_11];
            d_xl_chunk[i_11] = l_held[i_11] * g_out_chunk[i_11];
            d_xm_chunk[i_11] = m_held[i_11] * g_out_chunk[i_11];
            d_xr_chunk[i_11] = r_held[i_11] * g_out_chunk[i_11];
            sum_9[i_11] = sum_9[i_11] + (lives ? (xr_chunk[i_11] * g_out_chunk[i_11]) : 0.0f);
            sum_12[i_11] = sum_12[i_11] + (lives ? (xm_chunk[i_11] * g_out_chunk[i_11]) : 0.0f);
            sum_15[i_11] = sum_15[i_11] + (lives ? (xl_chunk[i_11] * g_out_chunk[i_11]) : 0.0f);
        }
        if (lives) {
            if (full_2 && d_s_vectors) {
                store_f32x4(&d_s[d_s_row + col_2], &d_s_chunk[0]);
            } else {
#pragma unroll
                for (int i_12 = 0; i_12 < 4; i_12++) {
                    if ((col_2 + i_12) < args.cols) {
                        d_s[d_s_row + (col_2 + i_12)] = d_s_chunk[i_12];
                    }
                }
            }
            if (full_2 && d_xl_vectors) {
                store_f32x4(&d_xl[d_xl_row + col_2], &d_xl_chunk[0]);
            } else {
#pragma unroll
                for (int i_13 = 0; i_13 < 4; i_13++) {
                    if ((col_2 + i_13) < args.cols) {
                        d_xl[d_xl_row + (col_2 + i_13)] = d_xl_chunk[i_13];
                    }
                }
            }
            if (full_2 && d_xm_vectors) {
                store_f32x4(&d_xm[d_xm_row + col_2], &d_xm_chunk[0]);
            } else {
#pragma unroll
                for (int i_14 = 0; i_14 < 4; i_14++) {
                    if ((col_2 + i_14) < args.cols) {
                        d_xm[d_xm_row + (col_2 + i_14)] = d_xm_chunk[i_14];
                    }
                }
            }
            if (full_2 && d_xr_vectors) {
                store_f32x4(&d_xr[d_xr_row + col_2], &d_xr_chunk[0]);
            } else {
#pragma unroll
                for (int i_15 = 0; i_15 < 4; i_15++) {
                    if ((col_2 + i_15) < args.cols) {
                        d_xr[d_xr_row + (col_2 + i_15)] = d_xr_chunk[i_15];
                    }
                }
            }
        }
    }
#pragma unroll
    for (int i_16 = 0; i_16 < 4; i_16++) {
        meeting[(i_16 * 256) + tid] = sum_9[i_16];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (sub == 0) {
#pragma unroll
        for (int i_17 = 0; i_17 < 4; i_17++) {
            sum_9[i_17] = sum_9[i_17] + meeting[(i_17 * 256) + (tid + 128)];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (int i_18 = 0; i_18 < 4; i_18++) {
        meeting[(i_18 * 256) + tid] = sum_12[i_18];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (sub == 0) {
#pragma unroll
        for (int i_19 = 0; i_19 < 4; i_19++) {
            sum_12[i_19] = sum_12[i_19] + meeting[(i_19 * 256) + (tid + 128)];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (int i_20 = 0; i_20 < 4; i_20++) {
        meeting[(i_20 * 256) + tid] = sum_15[i_20];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (sub == 0) {
#pragma unroll
        for (int i_21 = 0; i_21 < 4; i_21++) {
            sum_15[i_21] = sum_15[i_21] + meeting[(i_21 * 256) + (tid + 128)];
        }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int part_start = part * args.pitch;
    if (sub == 0) {
        const int at = part_start + (first_chunk * 4);
        store_f32x4(&parts_9[at], &sum_9[0]);
        store_f32x4(&parts_12[at], &sum_12[0]);
        store_f32x4(&parts_15[at], &sum_15[0]);
    }
}

struct zmlx_depthwise_conv_3x3_vjp_f32_1_args {
    int cols;
    int pitch;
    int parts;
};

[[max_total_threads_per_threadgroup(1024)]]
kernel void zmlx_depthwise_conv_3x3_vjp_f32_1(device float* d_l [[buffer(0)]],
    device float* d_m [[buffer(1)]],
    device float* d_r [[buffer(2)]],
    device const float* parts_9 [[buffer(3)]],
    device const float* parts_12 [[buffer(4)]],
    device const float* parts_15 [[buffer(5)]],
    constant zmlx_depthwise_conv_3x3_vjp_f32_1_args& args [[buffer(6)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    threadgroup float sum_9_of_group[1024];
    threadgroup float sum_12_of_group[1024];
    threadgroup float sum_15_of_group[1024];
    const int lane = tid & 31;
    const int group = tid / 32;
    const int col = (bid * 32) + lane;
    const bool inside = col < args.cols;
    float sum_9 = 0.0f;
    float sum_12 = 0.0f;
    float sum_15 = 0.0f;
    if (inside) {
        for (int part = group; part < args.parts; part += 32) {
            sum_9 = sum_9 + parts_9[(part * args.pitch) + col];
            sum_12 = sum_12 + parts_12[(part * args.pitch) + col];
            sum_15 = sum_15 + parts_15[(part * args.pitch) + col];
        }
    }
    sum_9_of_group[tid] = sum_9;
    sum_12_of_group[tid] = sum_12;
    sum_15_of_group[tid] = sum_15;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if ((group == 0) && inside) {
#pragma unroll
        for (int g = 1; g < 32; g++) {
            sum_9 = sum_9 + sum_9_of_group[(g * 32) + lane];
        }
#pragma unroll
        for (int g_2 = 1; g_2 < 32; g_2++) {
            sum_12 = sum_12 + sum_12_of_group[(g_2 * 32) + lane];
        }
#pragma unroll
        for (int g_3 = 1; g_3 < 32; g_3++) {
            sum_15 = sum_15 + sum_15_of_group[(g_3 * 32) + lane];
        }
        d_l[col] = sum_15;
        d_m[col] = sum_12;
        d_r[col] = sum_9;
    }
}
