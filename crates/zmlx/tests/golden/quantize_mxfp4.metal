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

static inline int f32_to_i32(float x) {
    return x != x ? 0 : x <= -2147483648.0f ? (int)(-2147483647 - 1) : x >= 2147483648.0f ? (int)2147483647 : (int)x;
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

struct zmlx_quantize_mxfp4_f32_args {
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
kernel void zmlx_quantize_mxfp4_f32(device const float* a [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device uchar* codes [[buffer(2)]],
    device uchar* scales [[buffer(3)]],
    constant zmlx_quantize_mxfp4_f32_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_3_of_warp[8];
    threadgroup float max_5_of_warp[8];
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
        float max_3 = -INFINITY;
        float max_5 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    max_3 = max_f32(max_3, metal::fabs(a_held[(c_3 * 4) + i_3]));
                    max_5 = max_f32(max_5, metal::fabs(b_held[(c_3 * 4) + i_3]));
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    max_3 = max_f32(max_3, (inside ? metal::fabs(a_held[(c_3 * 4) + i_4]) : (-INFINITY)));
                    max_5 = max_f32(max_5, (inside ? metal::fabs(b_held[(c_3 * 4) + i_4]) : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_3, (ushort)16);
        max_3 = max_f32(max_3, other);
        const float other_2 = simd_shuffle_xor(max_5, (ushort)16);
        max_5 = max_f32(max_5, other_2);
        const float other_3 = simd_shuffle_xor(max_3, (ushort)8);
        max_3 = max_f32(max_3, other_3);
        const float other_4 = simd_shuffle_xor(max_5, (ushort)8);
        max_5 = max_f32(max_5, other_4);
        const float other_5 = simd_shuffle_xor(max_3, (ushort)4);
        max_3 = max_f32(max_3, other_5);
        const float other_6 = simd_shuffle_xor(max_5, (ushort)4);
        max_5 = max_f32(max_5, other_6);
        const float other_7 = simd_shuffle_xor(max_3, (ushort)2);
        max_3 = max_f32(max_3, other_7);
        const float other_8 = simd_shuffle_xor(max_5, (ushort)2);
        max_5 = max_f32(max_5, other_8);
        const float other_9 = simd_shuffle_xor(max_3, (ushort)1);
        max_3 = max_f32(max_3, other_9);
        const float other_10 = simd_shuffle_xor(max_5, (ushort)1);
        max_5 = max_f32(max_5, other_10);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_3_of_warp[warp] = max_3;
            max_5_of_warp[warp] = max_5;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_3 = max_3_of_warp[0];
        max_5 = max_5_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            max_3 = max_f32(max_3, max_3_of_warp[w]);
            max_5 = max_f32(max_5, max_5_of_warp[w]);
        }
        const float max_6 = max_f32(max_3, max_5);
        const bool lt_8 = max_6 < 1.0f;
        const float mul_10 = max_6 * 1.7014118e38f;
        const float where_11 = lt_8 ? mul_10 : max_6;
        const bool ge_13 = where_11 >= 1.8446744e19f;
        const float mul_15 = where_11 * 5.421011e-20f;
        const float where_16 = ge_13 ? mul_15 : where_11;
        const bool ge_18 = where_16 >= 4294967300.0f;
        const float mul_20 = where_16 * 2.3283064e-10f;
        const float where_21 = ge_18 ? mul_20 : where_16;
        const bool ge_23 = where_21 >= 65536.0f;
        const float mul_25 = where_21 * 1.5258789e-5f;
        const float where_26 = ge_23 ? mul_25 : where_21;
        const bool ge_28 = where_26 >= 256.0f;
        const float mul_30 = where_26 * 0.00390625f;
        const float where_31 = ge_28 ? mul_30 : where_26;
        const bool ge_33 = where_31 >= 16.0f;
        const float mul_35 = where_31 * 0.0625f;
        const float where_36 = ge_33 ? mul_35 : where_31;
        const bool ge_38 = where_36 >= 4.0f;
        const float mul_40 = where_36 * 0.25f;
        const float where_41 = ge_38 ? mul_40 : where_36;
        const bool ge_43 = where_41 >= 2.0f;
        const float where_46 = lt_8 ? 0.0f : 127.0f;
        const float where_48 = ge_13 ? 64.0f : 0.0f;
        const float add_49 = where_46 + where_48;
        const float where_51 = ge_18 ? 32.0f : 0.0f;
        const float add_52 = add_49 + where_51;
        const float where_53 = ge_23 ? 16.0f : 0.0f;
        const float add_54 = add_52 + where_53;
        const float where_56 = ge_28 ? 8.0f : 0.0f;
        const float add_57 = add_54 + where_56;
        const float where_58 = ge_33 ? 4.0f : 0.0f;
        const float add_59 = add_57 + where_58;
        const float where_60 = ge_38 ? 2.0f : 0.0f;
        const float add_61 = add_59 + where_60;
        const float where_62 = ge_43 ? 1.0f : 0.0f;
        const float add_63 = add_61 + where_62;
        const bool lt_65 = max_6 < INFINITY;
        const float sub_66 = add_63 - 2.0f;
        const float max_67 = max_f32(sub_66, 0.0f);
        const float where_69 = lt_65 ? max_67 : 255.0f;
        const float sub_71 = 254.0f - where_69;
        const int i32_72 = f32_to_i32(sub_71);
        const int and_74 = (int)(i32_72 & 1);
        const int add_75 = (int)(((uint)1 + (uint)and_74));
        const float f32_76 = (float)add_75;
        const int and_78 = (int)(i32_72 & 2);
        const bool ne_80 = and_78 != 0;
        const float where_81 = ne_80 ? 4.0f : 1.0f;
        const float mul_82 = f32_76 * where_81;
        const int and_84 = (int)(i32_72 & 4);
        const bool ne_85 = 0 != and_84;
        const float where_86 = ne_85 ? 16.0f : 1.0f;
        const float mul_87 = mul_82 * where_86;
        const int and_89 = (int)(i32_72 & 8);
        const bool ne_90 = 0 != and_89;
        const float where_91 = ne_90 ? 256.0f : 1.0f;
        const float mul_92 = mul_87 * where_91;
        const int and_94 = (int)(i32_72 & 16);
        const bool ne_95 = 0 != and_94;
        const float where_96 = ne_95 ? 65536.0f : 1.0f;
        const float mul_97 = mul_92 * where_96;
        const int and_99 = (int)(i32_72 & 32);
        const bool ne_100 = 0 != and_99;
        const float where_101 = ne_100 ? 4294967300.0f : 1.0f;
        const float mul_102 = mul_97 * where_101;
        const int and_104 = (int)(i32_72 & 64);
        const bool ne_105 = 0 != and_104;
        const float where_106 = ne_105 ? 1.8446744e19f : 1.0f;
        const float mul_107 = mul_102 * where_106;
        const int and_109 = (int)(i32_72 & 128);
        const bool ne_110 = 0 != and_109;
        const float where_112 = ne_110 ? 2.0f : 5.877472e-39f;
        const float mul_113 = mul_107 * where_112;
        const uchar u8_165 = f32_to_u8(where_69);
        if (tid == 0) {
            scales[base] = u8_165;
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            uchar codes_chunk[4];
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                const float min_116 = min_f32((metal::fabs(a_held[(c_4 * 4) + i_5]) * mul_113), 6.0f);
                const bool ge_117 = min_116 >= 4.0f;
                const bool ge_120 = min_116 >= 2.0f;
                const float where_123 = ge_117 ? (min_116 * 0.5f) : (ge_120 ? min_116 : (2.0f * min_116));
                const float where_131 = (0.5f == (where_123 - metal::floor(where_123))) ? (2.0f * metal::round((0.5f * where_123))) : metal::round(where_123);
                const float where_136 = (a_held[(c_4 * 4) + i_5] < 0.0f) ? 8.0f : 0.0f;
                const float add_137 = (where_131 + (ge_117 ? 4.0f : (ge_120 ? 2.0f : 0.0f))) + where_136;
                const float min_139 = min_f32((metal::fabs(b_held[(c_4 * 4) + i_5]) * mul_113), 6.0f);
                const bool ge_140 = min_139 >= 4.0f;
                const bool ge_142 = min_139 >= 2.0f;
                const float where_145 = ge_140 ? (0.5f * min_139) : (ge_142 ? min_139 : (2.0f * min_139));
                const float where_153 = (0.5f == (where_145 - metal::floor(where_145))) ? (2.0f * metal::round((0.5f * where_145))) : metal::round(where_145);
                const float where_158 = (b_held[(c_4 * 4) + i_5] < 0.0f) ? 8.0f : 0.0f;
                const float add_159 = (where_153 + (ge_140 ? 4.0f : (ge_142 ? 2.0f : 0.0f))) + where_158;
                codes_chunk[i_5] = (uchar)(f32_to_u8(add_137) | ((uchar)(f32_to_u8(add_159) << (((uchar)(4)) & 7))));
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

struct zmlx_quantize_mxfp4_bf16_args {
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
kernel void zmlx_quantize_mxfp4_bf16(device const ushort* a [[buffer(0)]],
    device const ushort* b [[buffer(1)]],
    device uchar* codes [[buffer(2)]],
    device uchar* scales [[buffer(3)]],
    constant zmlx_quantize_mxfp4_bf16_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_3_of_warp[4];
    threadgroup float max_5_of_warp[4];
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
        float max_3 = -INFINITY;
        float max_5 = -INFINITY;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    max_3 = max_f32(max_3, metal::fabs(half_bf16(a_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1)));
                    max_5 = max_f32(max_5, metal::fabs(half_bf16(b_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1)));
                }
            } else {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const bool inside = (0 <= (col_3 + i_4)) && ((col_3 + i_4) < args.cols);
                    max_3 = max_f32(max_3, (inside ? metal::fabs(half_bf16(a_held[((c_3 * 8) + i_4) / 2], ((c_3 * 8) + i_4) & 1)) : (-INFINITY)));
                    max_5 = max_f32(max_5, (inside ? metal::fabs(half_bf16(b_held[((c_3 * 8) + i_4) / 2], ((c_3 * 8) + i_4) & 1)) : (-INFINITY)));
                }
            }
        }
        const float other = simd_shuffle_xor(max_3, (ushort)16);
        max_3 = max_f32(max_3, other);
        const float other_2 = simd_shuffle_xor(max_5, (ushort)16);
        max_5 = max_f32(max_5, other_2);
        const float other_3 = simd_shuffle_xor(max_3, (ushort)8);
        max_3 = max_f32(max_3, other_3);
        const float other_4 = simd_shuffle_xor(max_5, (ushort)8);
        max_5 = max_f32(max_5, other_4);
        const float other_5 = simd_shuffle_xor(max_3, (ushort)4);
        max_3 = max_f32(max_3, other_5);
        const float other_6 = simd_shuffle_xor(max_5, (ushort)4);
        max_5 = max_f32(max_5, other_6);
        const float other_7 = simd_shuffle_xor(max_3, (ushort)2);
        max_3 = max_f32(max_3, other_7);
        const float other_8 = simd_shuffle_xor(max_5, (ushort)2);
        max_5 = max_f32(max_5, other_8);
        const float other_9 = simd_shuffle_xor(max_3, (ushort)1);
        max_3 = max_f32(max_3, other_9);
        const float other_10 = simd_shuffle_xor(max_5, (ushort)1);
        max_5 = max_f32(max_5, other_10);
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_3_of_warp[warp] = max_3;
            max_5_of_warp[warp] = max_5;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_3 = max_3_of_warp[0];
        max_5 = max_5_of_warp[0];
#pragma unroll
        for (int w = 1; w < 4; w++) {
            max_3 = max_f32(max_3, max_3_of_warp[w]);
            max_5 = max_f32(max_5, max_5_of_warp[w]);
        }
        const float max_6 = max_f32(max_3, max_5);
        const bool lt_8 = max_6 < 1.0f;
        const float mul_10 = max_6 * 1.7014118e38f;
        const float where_11 = lt_8 ? mul_10 : max_6;
        const bool ge_13 = where_11 >= 1.8446744e19f;
        const float mul_15 = where_11 * 5.421011e-20f;
        const float where_16 = ge_13 ? mul_15 : where_11;
        const bool ge_18 = where_16 >= 4294967300.0f;
        const float mul_20 = where_16 * 2.3283064e-10f;
        const float where_21 = ge_18 ? mul_20 : where_16;
        const bool ge_23 = where_21 >= 65536.0f;
        const float mul_25 = where_21 * 1.5258789e-5f;
        const float where_26 = ge_23 ? mul_25 : where_21;
        const bool ge_28 = where_26 >= 256.0f;
        const float mul_30 = where_26 * 0.00390625f;
        const float where_31 = ge_28 ? mul_30 : where_26;
        const bool ge_33 = where_31 >= 16.0f;
        const float mul_35 = where_31 * 0.0625f;
        const float where_36 = ge_33 ? mul_35 : where_31;
        const bool ge_38 = where_36 >= 4.0f;
        const float mul_40 = where_36 * 0.25f;
        const float where_41 = ge_38 ? mul_40 : where_36;
        const bool ge_43 = where_41 >= 2.0f;
        const float where_46 = lt_8 ? 0.0f : 127.0f;
        const float where_48 = ge_13 ? 64.0f : 0.0f;
        const float add_49 = where_46 + where_48;
        const float where_51 = ge_18 ? 32.0f : 0.0f;
        const float add_52 = add_49 + where_51;
        const float where_53 = ge_23 ? 16.0f : 0.0f;
        const float add_54 = add_52 + where_53;
        const float where_56 = ge_28 ? 8.0f : 0.0f;
        const float add_57 = add_54 + where_56;
        const float where_58 = ge_33 ? 4.0f : 0.0f;
        const float add_59 = add_57 + where_58;
        const float where_60 = ge_38 ? 2.0f : 0.0f;
        const float add_61 = add_59 + where_60;
        const float where_62 = ge_43 ? 1.0f : 0.0f;
        const float add_63 = add_61 + where_62;
        const bool lt_65 = max_6 < INFINITY;
        const float sub_66 = add_63 - 2.0f;
        const float max_67 = max_f32(sub_66, 0.0f);
        const float where_69 = lt_65 ? max_67 : 255.0f;
        const float sub_71 = 254.0f - where_69;
        const int i32_72 = f32_to_i32(sub_71);
        const int and_74 = (int)(i32_72 & 1);
        const int add_75 = (int)(((uint)1 + (uint)and_74));
        const float f32_76 = (float)add_75;
        const int and_78 = (int)(i32_72 & 2);
        const bool ne_80 = and_78 != 0;
        const float where_81 = ne_80 ? 4.0f : 1.0f;
        const float mul_82 = f32_76 * where_81;
        const int and_84 = (int)(i32_72 & 4);
        const bool ne_85 = 0 != and_84;
        const float where_86 = ne_85 ? 16.0f : 1.0f;
        const float mul_87 = mul_82 * where_86;
        const int and_89 = (int)(i32_72 & 8);
        const bool ne_90 = 0 != and_89;
        const float where_91 = ne_90 ? 256.0f : 1.0f;
        const float mul_92 = mul_87 * where_91;
        const int and_94 = (int)(i32_72 & 16);
        const bool ne_95 = 0 != and_94;
        const float where_96 = ne_95 ? 65536.0f : 1.0f;
        const float mul_97 = mul_92 * where_96;
        const int and_99 = (int)(i32_72 & 32);
        const bool ne_100 = 0 != and_99;
        const float where_101 = ne_100 ? 4294967300.0f : 1.0f;
        const float mul_102 = mul_97 * where_101;
        const int and_104 = (int)(i32_72 & 64);
        const bool ne_105 = 0 != and_104;
        const float where_106 = ne_105 ? 1.8446744e19f : 1.0f;
        const float mul_107 = mul_102 * where_106;
        const int and_109 = (int)(i32_72 & 128);
        const bool ne_110 = 0 != and_109;
        const float where_112 = ne_110 ? 2.0f : 5.877472e-39f;
        const float mul_113 = mul_107 * where_112;
        const uchar u8_165 = f32_to_u8(where_69);
        if (tid == 0) {
            scales[base] = u8_165;
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            uchar codes_chunk[8];
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                const float min_116 = min_f32((metal::fabs(half_bf16(a_held[((c_4 * 8) + i_5) / 2], ((c_4 * 8) + i_5) & 1)) * mul_113), 6.0f);
                const bool ge_117 = min_116 >= 4.0f;
                const bool ge_120 = min_116 >= 2.0f;
                const float where_123 = ge_117 ? (min_116 * 0.5f) : (ge_120 ? min_116 : (2.0f * min_116));
                const float where_131 = (0.5f == (where_123 - metal::floor(where_123))) ? (2.0f * metal::round((0.5f * where_123))) : metal::round(where_123);
                const float where_136 = (half_bf16(a_held[((c_4 * 8) + i_5) / 2], ((c_4 * 8) + i_5) & 1) < 0.0f) ? 8.0f : 0.0f;
                const float add_137 = (where_131 + (ge_117 ? 4.0f : (ge_120 ? 2.0f : 0.0f))) + where_136;
                const float min_139 = min_f32((metal::fabs(half_bf16(b_held[((c_4 * 8) + i_5) / 2], ((c_4 * 8) + i_5) & 1)) * mul_113), 6.0f);
                const bool ge_140 = min_139 >= 4.0f;
                const bool ge_142 = min_139 >= 2.0f;
                const float where_145 = ge_140 ? (0.5f * min_139) : (ge_142 ? min_139 : (2.0f * min_139));
                const float where_153 = (0.5f == (where_145 - metal::floor(where_145))) ? (2.0f * metal::round((0.5f * where_145))) : metal::round(where_145);
                const float where_158 = (half_bf16(b_held[((c_4 * 8) + i_5) / 2], ((c_4 * 8) + i_5) & 1) < 0.0f) ? 8.0f : 0.0f;
                const float add_159 = (where_153 + (ge_140 ? 4.0f : (ge_142 ? 2.0f : 0.0f))) + where_158;
                codes_chunk[i_5] = (uchar)(f32_to_u8(add_137) | ((uchar)(f32_to_u8(add_159) << (((uchar)(4)) & 7))));
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
