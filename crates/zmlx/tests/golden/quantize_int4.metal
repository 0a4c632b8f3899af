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

struct zmlx_quantize_int4_f32_args {
    int rows;
    int a_row_stride_0;
    int b_row_stride_0;
    int cols;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_quantize_int4_f32(device const float* a [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device uchar* codes [[buffer(2)]],
    device float* scale [[buffer(3)]],
    constant zmlx_quantize_int4_f32_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_2_of_warp[8];
    threadgroup float max_3_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int a_row = base * args.a_row_stride_0;
        const int b_row = base * args.b_row_stride_0;
        const int codes_row = base * args.cols;
        const int shift = codes_row & 3;
        const bool a_vectors = ((((a_row + args.a_shift) - shift) & 3) == 0) && (args.a_col == 1);
        const bool b_vectors = ((((b_row + args.b_shift) - shift) & 3) == 0) && (args.b_col == 1);
        const int lane = tid;
        float a_held[16];
        float b_held[16];
        if ((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && a_vectors) && b_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&a[a_row + col_2], &a_held[c_2 * 4]);
                load_f32x4(&b[b_row + col_2], &b_held[c_2 * 4]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 256)) * 4) - shift;
                const bool full = (0 <= col) && ((col + 4) <= args.cols);
                if (full && a_vectors) {
                    load_f32x4(&a[a_row + col], &a_held[c * 4]);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        a_held[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? a[a_row + ((col + i) * args.a_col)] : 0.0f;
                    }
                }
                if (full && b_vectors) {
                    load_f32x4(&b[b_row + col], &b_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 4; i_2++) {
                        b_held[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? b[b_row + ((col + i_2) * args.b_col)] : 0.0f;
                    }
                }
            }
        }
        float max_2 = -INFINITY;
        float max_3 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    max_2 = max_f32(max_2, a_held[(c_3 * 4) + i_3]);
                    max_3 = max_f32(max_3, b_held[(c_3 * 4) + i_3]);
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    max_2 = max_f32(max_2, (inside ? a_held[(c_3 * 4) + i_4] : (-INFINITY)));
                    max_3 = max_f32(max_3, (inside ? b_held[(c_3 * 4) + i_4] : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_2, (ushort)16);
        max_2 = max_f32(max_2, other);
        const float other_2 = simd_shuffle_xor(max_3, (ushort)16);
        max_3 = max_f32(max_3, other_2);
        const float other_3 = simd_shuffle_xor(max_2, (ushort)8);
        max_2 = max_f32(max_2, other_3);
        const float other_4 = simd_shuffle_xor(max_3, (ushort)8);
        max_3 = max_f32(max_3, other_4);
        const float other_5 = simd_shuffle_xor(max_2, (ushort)4);
        max_2 = max_f32(max_2, other_5);
        const float other_6 = simd_shuffle_xor(max_3, (ushort)4);
        max_3 = max_f32(max_3, other_6);
        const float other_7 = simd_shuffle_xor(max_2, (ushort)2);
        max_2 = max_f32(max_2, other_7);
        const float other_8 = simd_shuffle_xor(max_3, (ushort)2);
        max_3 = max_f32(max_3, other_8);
        const float other_9 = simd_shuffle_xor(max_2, (ushort)1);
        max_2 = max_f32(max_2, other_9);
        const float other_10 = simd_shuffle_xor(max_3, (ushort)1);
        max_3 = max_f32(max_3, other_10);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_2_of_warp[warp] = max_2;
            max_3_of_warp[warp] = max_3;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_2 = max_2_of_warp[0];
        max_3 = max_3_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            max_2 = max_f32(max_2, max_2_of_warp[w]);
            max_3 = max_f32(max_3, max_3_of_warp[w]);
        }
        const float max_4 = max_f32(max_2, max_3);
        const float div_6 = max_4 / 15.0f;
        const bool gt_8 = div_6 > 0.0f;
        if (tid == 0) {
            scale[base] = div_6;
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            uchar codes_chunk[4];
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                const float div_9 = a_held[(c_4 * 4) + i_5] / div_6;
                const float where_10 = gt_8 ? div_9 : 0.0f;
                const float div_11 = b_held[(c_4 * 4) + i_5] / div_6;
                const float where_12 = gt_8 ? div_11 : 0.0f;
                const float abs_18 = metal::fabs((where_10 - ((where_10 < 0.0f) ? metal::ceil(where_10) : metal::floor(where_10))));
                const float where_26 = (abs_18 == 0.5f) ? (2.0f * metal::round((where_10 * 0.5f))) : metal::round(where_10);
                const float abs_32 = metal::fabs((where_12 - ((where_12 < 0.0f) ? metal::ceil(where_12) : metal::floor(where_12))));
                const float where_38 = (0.5f == abs_32) ? (2.0f * metal::round((where_12 * 0.5f))) : metal::round(where_12);
                codes_chunk[i_5] = (uchar)(f32_to_u8(where_26) | ((uchar)(f32_to_u8(where_38) << (((uchar)(4)) & 7))));
            }
            if (full_3) {
                store_u8x4(&codes[codes_row + col_4], &codes_chunk[0]);
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 4; i_6++) {
                    if ((0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols)) {
                        codes[codes_row + (col_4 + i_6)] = codes_chunk[i_6];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_quantize_int4_bf16_args {
    int rows;
    int a_row_stride_0;
    int b_row_stride_0;
    int cols;
    int a_shift;
    int a_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_quantize_int4_bf16(device const ushort* a [[buffer(0)]],
    device const ushort* b [[buffer(1)]],
    device uchar* codes [[buffer(2)]],
    device float* scale [[buffer(3)]],
    constant zmlx_quantize_int4_bf16_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_2_of_warp[4];
    threadgroup float max_3_of_warp[4];
    for (int base = bid; base < args.rows; base += blocks) {
        const int a_row = base * args.a_row_stride_0;
        const int b_row = base * args.b_row_stride_0;
        const int codes_row = base * args.cols;
        const int shift = codes_row & 7;
        const bool a_vectors = ((((a_row + args.a_shift) - shift) & 7) == 0) && (args.a_col == 1);
        const bool b_vectors = ((((b_row + args.b_shift) - shift) & 7) == 0) && (args.b_col == 1);
        const int lane = tid;
        uint a_held[16];
        uint b_held[16];
        if ((((0 <= ((lane * 8) - shift)) && ((((lane * 8) - shift) + 3080) <= args.cols)) && a_vectors) && b_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 8) - shift;
                copy_bf16x8(&a[a_row + col_2], &a_held[(c_2 * 8) / 2]);
                copy_bf16x8(&b[b_row + col_2], &b_held[(c_2 * 8) / 2]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int col = ((lane + (c * 128)) * 8) - shift;
                const bool full = (0 <= col) && ((col + 8) <= args.cols);
                if (full && a_vectors) {
                    copy_bf16x8(&a[a_row + col], &a_held[(c * 8) / 2]);
                } else {
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        a_held[((c * 8) + i) / 2] = put_bf16(a_held[((c * 8) + i) / 2], ((c * 8) + i) & 1, ((0 <= (col + i)) && ((col + i) < args.cols)) ? bf16_to_f32(a[a_row + ((col + i) * args.a_col)]) : 0.0f);
                    }
                }
                if (full && b_vectors) {
                    copy_bf16x8(&b[b_row + col], &b_held[(c * 8) / 2]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 8; i_2++) {
                        b_held[((c * 8) + i_2) / 2] = put_bf16(b_held[((c * 8) + i_2) / 2], ((c * 8) + i_2) & 1, ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? bf16_to_f32(b[b_row + ((col + i_2) * args.b_col)]) : 0.0f);
                    }
                }
            }
        }
        float max_2 = -INFINITY;
        float max_3 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    max_2 = max_f32(max_2, half_bf16(a_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1));
                    max_3 = max_f32(max_3, half_bf16(b_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1));
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    max_2 = max_f32(max_2, (inside ? half_bf16(a_held[((c_3 * 8) + i_4) / 2], ((c_3 * 8) + i_4) & 1) : (-INFINITY)));
                    max_3 = max_f32(max_3, (inside ? half_bf16(b_held[((c_3 * 8) + i_4) / 2], ((c_3 * 8) + i_4) & 1) : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_2, (ushort)16);
        max_2 = max_f32(max_2, other);
        const float other_2 = simd_shuffle_xor(max_3, (ushort)16);
        max_3 = max_f32(max_3, other_2);
        const float other_3 = simd_shuffle_xor(max_2, (ushort)8);
        max_2 = max_f32(max_2, other_3);
        const float other_4 = simd_shuffle_xor(max_3, (ushort)8);
        max_3 = max_f32(max_3, other_4);
        const float other_5 = simd_shuffle_xor(max_2, (ushort)4);
        max_2 = max_f32(max_2, other_5);
        const float other_6 = simd_shuffle_xor(max_3, (ushort)4);
        max_3 = max_f32(max_3, other_6);
        const float other_7 = simd_shuffle_xor(max_2, (ushort)2);
        max_2 = max_f32(max_2, other_7);
        const float other_8 = simd_shuffle_xor(max_3, (ushort)2);
        max_3 = max_f32(max_3, other_8);
        const float other_9 = simd_shuffle_xor(max_2, (ushort)1);
        max_2 = max_f32(max_2, other_9);
        const float other_10 = simd_shuffle_xor(max_3, (ushort)1);
        max_3 = max_f32(max_3, other_10);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_2_of_warp[warp] = max_2;
            max_3_of_warp[warp] = max_3;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_2 = max_2_of_warp[0];
        max_3 = max_3_of_warp[0];
#pragma unroll
        for (int w = 1; w < 4; w++) {
            max_2 = max_f32(max_2, max_2_of_warp[w]);
            max_3 = max_f32(max_3, max_3_of_warp[w]);
        }
        const float max_4 = max_f32(max_2, max_3);
        const float div_6 = max_4 / 15.0f;
        const bool gt_8 = div_6 > 0.0f;
        if (tid == 0) {
            scale[base] = div_6;
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            uchar codes_chunk[8];
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                const float div_9 = half_bf16(a_held[((c_4 * 8) + i_5) / 2], ((c_4 * 8) + i_5) & 1) / div_6;
                const float where_10 = gt_8 ? div_9 : 0.0f;
                const float div_11 = half_bf16(b_held[((c_4 * 8) + i_5) / 2], ((c_4 * 8) + i_5) & 1) / div_6;
                const float where_12 = gt_8 ? div_11 : 0.0f;
                const float abs_18 = metal::fabs((where_10 - ((where_10 < 0.0f) ? metal::ceil(where_10) : metal::floor(where_10))));
                const float where_26 = (abs_18 == 0.5f) ? (2.0f * metal::round((where_10 * 0.5f))) : metal::round(where_10);
                const float abs_32 = metal::fabs((where_12 - ((where_12 < 0.0f) ? metal::ceil(where_12) : metal::floor(where_12))));
                const float where_38 = (0.5f == abs_32) ? (2.0f * metal::round((where_12 * 0.5f))) : metal::round(where_12);
                codes_chunk[i_5] = (uchar)(f32_to_u8(where_26) | ((uchar)(f32_to_u8(where_38) << (((uchar)(4)) & 7))));
            }
            if (full_3) {
                store_u8x8(&codes[codes_row + col_4], &codes_chunk[0]);
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 8; i_6++) {
                    if ((0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols)) {
                        codes[codes_row + (col_4 + i_6)] = codes_chunk[i_6];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
