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

static inline uchar f32_to_u8(float x) {
    return x != x ? 0 : x <= 0.0f ? (uchar)0 : x >= 256.0f ? (uchar)255 : (uchar)x;
}

static inline float max_f32(float a, float b) {
    return a >= b || a != a ? a : b;
}

static inline float min_f32(float a, float b) {
    return a <= b || a != a ? a : b;
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

static inline void store_u8x4(device uchar* p, const thread uchar* v) {
    uint w[1] = {0};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        w[i / 4] |= (uint)(uchar)v[i] << (8 * (i % 4));
    }
    uint t;
    t = w[0];
    *(device uint*)p = t;
}

static inline void store_u8x8(device uchar* p, const thread uchar* v) {
    uint w[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        w[i / 4] |= (uint)(uchar)v[i] << (8 * (i % 4));
    }
    uint2 t;
    t.x = w[0];
    t.y = w[1];
    *(device uint2*)p = t;
}

static inline void copy_bf16x8(device const ushort* p, thread uint* w) {
    const uint4 t = *(device const uint4*)p;
    w[0] = t.x;
    w[1] = t.y;
    w[2] = t.z;
    w[3] = t.w;
}

struct zmlx_quantize_fp8_e4m3_f32_args {
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_quantize_fp8_e4m3_f32(device const float* x [[buffer(0)]],
    device uchar* codes [[buffer(1)]],
    device float* scale [[buffer(2)]],
    constant zmlx_quantize_fp8_e4m3_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_2_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int codes_row = base * args.cols;
        const int shift = codes_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const int lane = tid;
        float x_held[16];
        if (((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && x_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 256)) * 4) - shift;
                const bool full = (0 <= col) && ((col + 4) <= args.cols);
                if (full && x_vectors) {
                    load_f32x4(&x[x_row + col], &x_held[c * 4]);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        x_held[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : 0.0f;
                    }
                }
            }
        }
        float max_2 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    max_2 = max_f32(max_2, metal::fabs(x_held[(c_3 * 4) + i_2]));
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    max_2 = max_f32(max_2, (inside ? metal::fabs(x_held[(c_3 * 4) + i_3]) : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_2, (ushort)16);
        max_2 = max_f32(max_2, other);
        const float other_2 = simd_shuffle_xor(max_2, (ushort)8);
        max_2 = max_f32(max_2, other_2);
        const float other_3 = simd_shuffle_xor(max_2, (ushort)4);
        max_2 = max_f32(max_2, other_3);
        const float other_4 = simd_shuffle_xor(max_2, (ushort)2);
        max_2 = max_f32(max_2, other_4);
        const float other_5 = simd_shuffle_xor(max_2, (ushort)1);
        max_2 = max_f32(max_2, other_5);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_2_of_warp[warp] = max_2;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_2 = max_2_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            max_2 = max_f32(max_2, max_2_of_warp[w]);
        }
        const float div_4 = max_2 / 448.0f;
        const bool gt_6 = div_4 > 0.0f;
        if (tid == 0) {
            scale[base] = div_4;
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            uchar codes_chunk[4];
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                const float min_8 = min_f32((metal::fabs(x_held[(c_4 * 4) + i_4]) / div_4), 448.0f);
                const float where_11 = gt_6 ? (min_8 * 64.0f) : 0.0f;
                const bool ge_13 = where_11 >= 256.0f;
                const float where_16 = ge_13 ? (where_11 * 0.00390625f) : where_11;
                const bool ge_18 = where_16 >= 16.0f;
                const float where_21 = ge_18 ? (where_16 * 0.0625f) : where_16;
                const bool ge_23 = where_21 >= 4.0f;
                const float where_26 = ge_23 ? (where_21 * 0.25f) : where_21;
                const bool ge_28 = where_26 >= 2.0f;
                const float add_37 = ((ge_13 ? 64.0f : 0.0f) + (ge_18 ? 32.0f : 0.0f)) + (ge_23 ? 16.0f : 0.0f);
                const float mul_41 = (ge_28 ? (where_26 * 0.5f) : where_26) * 8.0f;
                const float abs_47 = metal::fabs((mul_41 - ((mul_41 < 0.0f) ? metal::ceil(mul_41) : metal::floor(mul_41))));
                const float where_53 = (0.5f == abs_47) ? (2.0f * metal::round((0.5f * mul_41))) : metal::round(mul_41);
                const float where_57 = (x_held[(c_4 * 4) + i_4] < 0.0f) ? 128.0f : 0.0f;
                const uchar u8_59 = f32_to_u8((((add_37 + (ge_28 ? 8.0f : 0.0f)) + where_53) + where_57));
                codes_chunk[i_4] = u8_59;
            }
            if (full_3) {
                store_u8x4(&codes[codes_row + col_4], &codes_chunk[0]);
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    if ((0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols)) {
                        codes[codes_row + (col_4 + i_5)] = codes_chunk[i_5];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_quantize_fp8_e4m3_bf16_args {
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_quantize_fp8_e4m3_bf16(device const ushort* x [[buffer(0)]],
    device uchar* codes [[buffer(1)]],
    device float* scale [[buffer(2)]],
    constant zmlx_quantize_fp8_e4m3_bf16_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_2_of_warp[4];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int codes_row = base * args.cols;
        const int shift = codes_row & 7;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 7) == 0) && (args.x_col == 1);
        const int lane = tid;
        uint x_held[16];
        if (((0 <= ((lane * 8) - shift)) && ((((lane * 8) - shift) + 3080) <= args.cols)) && x_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 8) - shift;
                copy_bf16x8(&x[x_row + col_2], &x_held[(c_2 * 8) / 2]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 128)) * 8) - shift;
                const bool full = (0 <= col) && ((col + 8) <= args.cols);
                if (full && x_vectors) {
                    copy_bf16x8(&x[x_row + col], &x_held[(c * 8) / 2]);
                } else {
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        x_held[((c * 8) + i) / 2] = put_bf16(x_held[((c * 8) + i) / 2], ((c * 8) + i) & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(x[x_row + ((col + i) * args.x_col)]) : 0.0f);
                    }
                }
            }
        }
        float max_2 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    max_2 = max_f32(max_2, metal::fabs(half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1)));
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    max_2 = max_f32(max_2, (inside ? metal::fabs(half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1)) : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_2, (ushort)16);
        max_2 = max_f32(max_2, other);
        const float other_2 = simd_shuffle_xor(max_2, (ushort)8);
        max_2 = max_f32(max_2, other_2);
        const float other_3 = simd_shuffle_xor(max_2, (ushort)4);
        max_2 = max_f32(max_2, other_3);
        const float other_4 = simd_shuffle_xor(max_2, (ushort)2);
        max_2 = max_f32(max_2, other_4);
        const float other_5 = simd_shuffle_xor(max_2, (ushort)1);
        max_2 = max_f32(max_2, other_5);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_2_of_warp[warp] = max_2;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_2 = max_2_of_warp[0];
#pragma unroll
        for (int w = 1; w < 4; w++) {
            max_2 = max_f32(max_2, max_2_of_warp[w]);
        }
        const float div_4 = max_2 / 448.0f;
        const bool gt_6 = div_4 > 0.0f;
        if (tid == 0) {
            scale[base] = div_4;
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            uchar codes_chunk[8];
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                const float min_8 = min_f32((metal::fabs(half_bf16(x_held[((c_4 * 8) + i_4) / 2], ((c_4 * 8) + i_4) & 1)) / div_4), 448.0f);
                const float where_11 = gt_6 ? (min_8 * 64.0f) : 0.0f;
                const bool ge_13 = where_11 >= 256.0f;
                const float where_16 = ge_13 ? (where_11 * 0.00390625f) : where_11;
                const bool ge_18 = where_16 >= 16.0f;
                const float where_21 = ge_18 ? (where_16 * 0.0625f) : where_16;
                const bool ge_23 = where_21 >= 4.0f;
                const float where_26 = ge_23 ? (where_21 * 0.25f) : where_21;
                const bool ge_28 = where_26 >= 2.0f;
                const float add_37 = ((ge_13 ? 64.0f : 0.0f) + (ge_18 ? 32.0f : 0.0f)) + (ge_23 ? 16.0f : 0.0f);
                const float mul_41 = (ge_28 ? (where_26 * 0.5f) : where_26) * 8.0f;
                const float abs_47 = metal::fabs((mul_41 - ((mul_41 < 0.0f) ? metal::ceil(mul_41) : metal::floor(mul_41))));
                const float where_53 = (0.5f == abs_47) ? (2.0f * metal::round((0.5f * mul_41))) : metal::round(mul_41);
                const float where_57 = (half_bf16(x_held[((c_4 * 8) + i_4) / 2], ((c_4 * 8) + i_4) & 1) < 0.0f) ? 128.0f : 0.0f;
                const uchar u8_59 = f32_to_u8((((add_37 + (ge_28 ? 8.0f : 0.0f)) + where_53) + where_57));
                codes_chunk[i_4] = u8_59;
            }
            if (full_3) {
                store_u8x8(&codes[codes_row + col_4], &codes_chunk[0]);
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    if ((0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols)) {
                        codes[codes_row + (col_4 + i_5)] = codes_chunk[i_5];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
