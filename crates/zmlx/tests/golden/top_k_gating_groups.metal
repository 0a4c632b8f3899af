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

static inline long div_i64(long a, long b) {
    return b == 0 ? 0 : b == -1 ? (long)(0 - (ulong)a) : (long)(a / b);
}

static inline int min_i32(int a, int b) {
    return a <= b ? a : b;
}

static inline int order_f32(float x) {
    const int bits = (int)as_type<uint>(x + 0.0f);
    return x != x ? 2147483647 : bits ^ ((bits >> 31) & 2147483647);
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

struct zmlx_top_k_gating_groups_f32_args {
    float scale;
    int cols;
    int rows;
    int x_row_stride_0;
    int g0_row_stride_0;
    int g1_row_stride_0;
    int g2_row_stride_0;
    int g3_row_stride_0;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_groups_f32(device const float* x [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device const float* g0 [[buffer(2)]],
    device const float* g1 [[buffer(3)]],
    device const float* g2 [[buffer(4)]],
    device const float* g3 [[buffer(5)]],
    device float* weights [[buffer(6)]],
    device uint* experts [[buffer(7)]],
    device uint* flag [[buffer(8)]],
    constant zmlx_top_k_gating_groups_f32_args& args [[buffer(9)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_80_of_warp[32];
    threadgroup uint found_col_80_of_warp[32];
    const long cols = (long)args.cols;
    const long div_70 = div_i64(cols, 4L);
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int g0_row = base * args.g0_row_stride_0;
        const int g1_row = base * args.g1_row_stride_0;
        const int g2_row = base * args.g2_row_stride_0;
        const int g3_row = base * args.g3_row_stride_0;
        const int shift = (x_row + args.x_shift) & 3;
        const bool x_vectors = args.x_col == 1;
        const bool b_vectors = (((args.b_shift - shift) & 3) == 0) && (args.b_col == 1);
        const int lane = tid;
        float x_held[32];
        if (((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3588) <= args.cols)) && x_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 8; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 8; c++) {
                const int col = ((lane + (c * 128)) * 4) - shift;
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
        const float g0_2 = g0[g0_row];
        const float g1_2 = g1[g1_row];
        const float g2_2 = g2[g2_row];
        const float g3_2 = g3[g3_row];
        const bool isnan_7 = g0_2 != g0_2;
        const float where_9 = isnan_7 ? INFINITY : g0_2;
        const bool isnan_10 = g1_2 != g1_2;
        const float where_11 = isnan_10 ? INFINITY : g1_2;
        const bool isnan_12 = g2_2 != g2_2;
        const float where_13 = isnan_12 ? INFINITY : g2_2;
        const bool isnan_14 = g3_2 != g3_2;
        const float where_15 = isnan_14 ? INFINITY : g3_2;
        const bool gt_16 = where_11 > where_9;
        const int i32_17 = (int)gt_16;
        const bool gt_18 = where_13 > where_9;
        const int i32_19 = (int)gt_18;
        const int add_20 = (int)(((uint)i32_17 + (uint)i32_19));
        const bool gt_21 = where_15 > where_9;
        const int i32_22 = (int)gt_21;
        const int add_23 = (int)(((uint)add_20 + (uint)i32_22));
        const bool lt_25 = add_23 < 2;
        const int i32_26 = (int)lt_25;
        const int shl_28 = (int)((uint)i32_26 << (0 & 31));
        const bool ge_29 = where_9 >= where_11;
        const int i32_30 = (int)ge_29;
        const bool gt_31 = where_13 > where_11;
        const int i32_32 = (int)gt_31;
        const int add_33 = (int)(((uint)i32_30 + (uint)i32_32));
        const bool gt_34 = where_15 > where_11;
        const int i32_35 = (int)gt_34;
        const int add_36 = (int)(((uint)add_33 + (uint)i32_35));
        const bool lt_37 = add_36 < 2;
        const int i32_38 = (int)lt_37;
        const int shl_40 = (int)((uint)i32_38 << (1 & 31));
        const int or_41 = (int)(shl_28 | shl_40);
        const bool ge_42 = where_9 >= where_13;
        const int i32_43 = (int)ge_42;
        const bool ge_44 = where_11 >= where_13;
        const int i32_45 = (int)ge_44;
        const int add_46 = (int)(((uint)i32_43 + (uint)i32_45));
        const bool gt_47 = where_15 > where_13;
        const int i32_48 = (int)gt_47;
        const int add_49 = (int)(((uint)add_46 + (uint)i32_48));
        const bool lt_50 = add_49 < 2;
        const int i32_51 = (int)lt_50;
        const int shl_52 = (int)((uint)i32_51 << (2 & 31));
        const int or_53 = (int)(or_41 | shl_52);
        const bool ge_54 = where_9 >= where_15;
        const int i32_55 = (int)ge_54;
        const bool ge_56 = where_11 >= where_15;
        const int i32_57 = (int)ge_56;
        const int add_58 = (int)(((uint)i32_55 + (uint)i32_57));
        const bool ge_59 = where_13 >= where_15;
        const int i32_60 = (int)ge_59;
        const int add_61 = (int)(((uint)add_58 + (uint)i32_60));
        const bool lt_62 = add_61 < 2;
        const int i32_63 = (int)lt_62;
        const int shl_65 = (int)((uint)i32_63 << (3 & 31));
        const int or_66 = (int)(or_53 | shl_65);
        int found_80[8];
        uint found_col_80[8];
        int best_80[8];
        uint best_col_80[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_80[j] = -2147483647 - 1;
            best_col_80[j] = 4294967295u;
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 8; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float b_chunk[4];
            if (full_2 && b_vectors) {
                load_f32x4(&b[col_3], &b_chunk[0]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    b_chunk[i_2] = ((0 <= (col_3 + i_2)) && ((col_3 + i_2) < args.cols)) ? b[(col_3 + i_2) * args.b_col] : 0.0f;
                }
            }
            float term_79[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const int and_74 = (int)(1 & ((int)(or_66 >> (((int)div_i64(((long)(col_3 + i_3)), div_70)) & 31))));
                const float add_77 = b_chunk[i_3] + sigmoid_f32(x_held[(c_3 * 4) + i_3]);
                const float where_79 = (0 != and_74) ? add_77 : (-INFINITY);
                term_79[i_3] = where_79;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const int key = order_f32(term_79[i_4]);
                    const uint key_col = (uint)(col_3 + i_4);
                    if (key > best_80[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 4) + i_4)) && (key > best_80[7 - j_2])) {
                                const bool passes = key > best_80[(7 - j_2) - 1];
                                best_80[7 - j_2] = passes ? best_80[(7 - j_2) - 1] : key;
                                best_col_80[7 - j_2] = passes ? best_col_80[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_80[0]) {
                            best_80[0] = key;
                            best_col_80[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    const int key_2 = order_f32(term_79[i_5]);
                    const uint key_col_2 = (uint)(col_3 + i_5);
                    if (inside && (key_2 > best_80[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 4) + i_5)) && (key_2 > best_80[7 - j_3])) {
                                const bool passes_2 = key_2 > best_80[(7 - j_3) - 1];
                                best_80[7 - j_3] = passes_2 ? best_80[(7 - j_3) - 1] : key_2;
                                best_col_80[7 - j_3] = passes_2 ? best_col_80[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_80[0]) {
                            best_80[0] = key_2;
                            best_col_80[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_80[0];
            uint won_2 = best_col_80[0];
            const int other = simd_shuffle_xor(won, (ushort)16);
            const uint other_2 = simd_shuffle_xor(won_2, (ushort)16);
            const bool better = (other > won) || ((other == won) && (other_2 < won_2));
            won = better ? other : won;
            won_2 = better ? other_2 : won_2;
            const int other_3 = simd_shuffle_xor(won, (ushort)8);
            const uint other_4 = simd_shuffle_xor(won_2, (ushort)8);
            const bool better_2 = (other_3 > won) || ((other_3 == won) && (other_4 < won_2));
            won = better_2 ? other_3 : won;
            won_2 = better_2 ? other_4 : won_2;
            const int other_5 = simd_shuffle_xor(won, (ushort)4);
            const uint other_6 = simd_shuffle_xor(won_2, (ushort)4);
            const bool better_3 = (other_5 > won) || ((other_5 == won) && (other_6 < won_2));
            won = better_3 ? other_5 : won;
            won_2 = better_3 ? other_6 : won_2;
            const int other_7 = simd_shuffle_xor(won, (ushort)2);
            const uint other_8 = simd_shuffle_xor(won_2, (ushort)2);
            const bool better_4 = (other_7 > won) || ((other_7 == won) && (other_8 < won_2));
            won = better_4 ? other_7 : won;
            won_2 = better_4 ? other_8 : won_2;
            const int other_9 = simd_shuffle_xor(won, (ushort)1);
            const uint other_10 = simd_shuffle_xor(won_2, (ushort)1);
            const bool better_5 = (other_9 > won) || ((other_9 == won) && (other_10 < won_2));
            won = better_5 ? other_9 : won;
            won_2 = better_5 ? other_10 : won_2;
            found_80[r] = won;
            found_col_80[r] = won_2;
            if (won_2 == best_col_80[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_80[7 - (7 - j_4)] = best_80[(7 - (7 - j_4)) + 1];
                        best_col_80[7 - (7 - j_4)] = best_col_80[(7 - (7 - j_4)) + 1];
                    }
                }
                best_80[7] = -2147483647 - 1;
                best_col_80[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_80_of_warp[(warp * 8) + r_2] = found_80[r_2];
                found_col_80_of_warp[(warp * 8) + r_2] = found_col_80[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 128) * 4) + (tid & 3)) * 8;
        int next = 0;
        int head = found_80_of_warp[list];
        uint head_2 = found_col_80_of_warp[list];
#pragma unroll
        for (int r_3 = 0; r_3 < 8; r_3++) {
            int won_3 = head;
            uint won_4 = head_2;
            const int other_11 = simd_shuffle_xor(won_3, (ushort)2);
            const uint other_12 = simd_shuffle_xor(won_4, (ushort)2);
            const bool better_6 = (other_11 > won_3) || ((other_11 == won_3) && (other_12 < won_4));
            won_3 = better_6 ? other_11 : won_3;
            won_4 = better_6 ? other_12 : won_4;
            const int other_13 = simd_shuffle_xor(won_3, (ushort)1);
            const uint other_14 = simd_shuffle_xor(won_4, (ushort)1);
            const bool better_7 = (other_13 > won_3) || ((other_13 == won_3) && (other_14 < won_4));
            won_3 = better_7 ? other_13 : won_3;
            won_4 = better_7 ? other_14 : won_4;
            found_80[r_3] = won_3;
            found_col_80[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_80_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_80_of_warp[list + next] : 4294967295u;
            }
        }
        const uint argtop_80 = (found_col_80[0] == 4294967295u) ? 0u : found_col_80[0];
        const uint argtop_84 = (found_col_80[1] == 4294967295u) ? 0u : found_col_80[1];
        const uint argtop_88 = (found_col_80[2] == 4294967295u) ? 0u : found_col_80[2];
        const uint argtop_92 = (found_col_80[3] == 4294967295u) ? 0u : found_col_80[3];
        const uint argtop_96 = (found_col_80[4] == 4294967295u) ? 0u : found_col_80[4];
        const uint argtop_100 = (found_col_80[5] == 4294967295u) ? 0u : found_col_80[5];
        const uint argtop_104 = (found_col_80[6] == 4294967295u) ? 0u : found_col_80[6];
        const uint argtop_108 = (found_col_80[7] == 4294967295u) ? 0u : found_col_80[7];
        const long i64_81 = (long)argtop_80;
        const bool inside_2 = (0L <= i64_81) && (i64_81 < ((long)args.cols));
        if (!inside_2) {
            flag[0] = 1u;
        }
        const float x_at = inside_2 ? x[x_row + (((int)i64_81) * args.x_col)] : NAN;
        const float sigmoid_83 = sigmoid_f32(x_at);
        const long i64_85 = (long)argtop_84;
        const bool inside_3 = (0L <= i64_85) && (i64_85 < ((long)args.cols));
        if (!inside_3) {
            flag[0] = 1u;
        }
        const float x_at_2 = inside_3 ? x[x_row + (((int)i64_85) * args.x_col)] : NAN;
        const float sigmoid_87 = sigmoid_f32(x_at_2);
        const long i64_89 = (long)argtop_88;
        const bool inside_4 = (0L <= i64_89) && (i64_89 < ((long)args.cols));
        if (!inside_4) {
            flag[0] = 1u;
        }
        const float x_at_3 = inside_4 ? x[x_row + (((int)i64_89) * args.x_col)] : NAN;
        const float sigmoid_91 = sigmoid_f32(x_at_3);
        const long i64_93 = (long)argtop_92;
        const bool inside_5 = (0L <= i64_93) && (i64_93 < ((long)args.cols));
        if (!inside_5) {
            flag[0] = 1u;
        }
        const float x_at_4 = inside_5 ? x[x_row + (((int)i64_93) * args.x_col)] : NAN;
        const float sigmoid_95 = sigmoid_f32(x_at_4);
        const long i64_97 = (long)argtop_96;
        const bool inside_6 = (0L <= i64_97) && (i64_97 < ((long)args.cols));
        if (!inside_6) {
            flag[0] = 1u;
        }
        const float x_at_5 = inside_6 ? x[x_row + (((int)i64_97) * args.x_col)] : NAN;
        const float sigmoid_99 = sigmoid_f32(x_at_5);
        const long i64_101 = (long)argtop_100;
        const bool inside_7 = (0L <= i64_101) && (i64_101 < ((long)args.cols));
        if (!inside_7) {
            flag[0] = 1u;
        }
        const float x_at_6 = inside_7 ? x[x_row + (((int)i64_101) * args.x_col)] : NAN;
        const float sigmoid_103 = sigmoid_f32(x_at_6);
        const long i64_105 = (long)argtop_104;
        const bool inside_8 = (0L <= i64_105) && (i64_105 < ((long)args.cols));
        if (!inside_8) {
            flag[0] = 1u;
        }
        const float x_at_7 = inside_8 ? x[x_row + (((int)i64_105) * args.x_col)] : NAN;
        const float sigmoid_107 = sigmoid_f32(x_at_7);
        const long i64_109 = (long)argtop_108;
        const bool inside_9 = (0L <= i64_109) && (i64_109 < ((long)args.cols));
        if (!inside_9) {
            flag[0] = 1u;
        }
        const float x_at_8 = inside_9 ? x[x_row + (((int)i64_109) * args.x_col)] : NAN;
        const float sigmoid_111 = sigmoid_f32(x_at_8);
        const float add_112 = sigmoid_83 + sigmoid_87;
        const float add_113 = sigmoid_91 + add_112;
        const float add_114 = sigmoid_95 + add_113;
        const float add_115 = sigmoid_99 + add_114;
        const float add_116 = sigmoid_103 + add_115;
        const float add_117 = sigmoid_107 + add_116;
        const float add_118 = sigmoid_111 + add_117;
        const float add_120 = add_118 + 1e-20f;
        const float div_121 = add_120 / args.scale;
        const float div_122 = sigmoid_83 / div_121;
        const float div_123 = sigmoid_87 / div_121;
        const float div_124 = sigmoid_91 / div_121;
        const float div_125 = sigmoid_95 / div_121;
        const float div_126 = sigmoid_99 / div_121;
        const float div_127 = sigmoid_103 / div_121;
        const float div_128 = sigmoid_107 / div_121;
        const float div_129 = sigmoid_111 / div_121;
        if (tid == 0) {
            weights[base * 8] = div_122;
            weights[(base * 8) + 1] = div_123;
            weights[(base * 8) + 2] = div_124;
            weights[(base * 8) + 3] = div_125;
            weights[(base * 8) + 4] = div_126;
            weights[(base * 8) + 5] = div_127;
            weights[(base * 8) + 6] = div_128;
            weights[(base * 8) + 7] = div_129;
            experts[base * 8] = argtop_80;
            experts[(base * 8) + 1] = argtop_84;
            experts[(base * 8) + 2] = argtop_88;
            experts[(base * 8) + 3] = argtop_92;
            experts[(base * 8) + 4] = argtop_96;
            experts[(base * 8) + 5] = argtop_100;
            experts[(base * 8) + 6] = argtop_104;
            experts[(base * 8) + 7] = argtop_108;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_gating_groups_bf16_args {
    float scale;
    int cols;
    int rows;
    int x_row_stride_0;
    int g0_row_stride_0;
    int g1_row_stride_0;
    int g2_row_stride_0;
    int g3_row_stride_0;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_groups_bf16(device const ushort* x [[buffer(0)]],
    device const ushort* b [[buffer(1)]],
    device const ushort* g0 [[buffer(2)]],
    device const ushort* g1 [[buffer(3)]],
    device const ushort* g2 [[buffer(4)]],
    device const ushort* g3 [[buffer(5)]],
    device float* weights [[buffer(6)]],
    device uint* experts [[buffer(7)]],
    device uint* flag [[buffer(8)]],
    constant zmlx_top_k_gating_groups_bf16_args& args [[buffer(9)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_80_of_warp[32];
    threadgroup uint found_col_80_of_warp[32];
    const long cols = (long)args.cols;
    const long div_70 = div_i64(cols, 4L);
    const int lane = tid & 63;
    const int sub = tid / 64;
    for (int base = bid * 2; base < args.rows; base += blocks * 2) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int x_row = row_2 * args.x_row_stride_0;
        const int g0_row = row_2 * args.g0_row_stride_0;
        const int g1_row = row_2 * args.g1_row_stride_0;
        const int g2_row = row_2 * args.g2_row_stride_0;
        const int g3_row = row_2 * args.g3_row_stride_0;
        const int shift = (x_row + args.x_shift) & 7;
        const bool x_vectors = args.x_col == 1;
        const bool b_vectors = (((args.b_shift - shift) & 7) == 0) && (args.b_col == 1);
        const int lane_2 = lane;
        uint x_held[32];
        if (((0 <= ((lane_2 * 8) - shift)) && ((((lane_2 * 8) - shift) + 3592) <= args.cols)) && x_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 8; c_2++) {
                const int col_2 = ((lane_2 + (c_2 * 64)) * 8) - shift;
                copy_bf16x8(&x[x_row + col_2], &x_held[(c_2 * 8) / 2]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 8; c++) {
                const int col = ((lane_2 + (c * 64)) * 8) - shift;
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
        const float g0_2 = bf16_to_f32(g0[g0_row]);
        const float g1_2 = bf16_to_f32(g1[g1_row]);
        const float g2_2 = bf16_to_f32(g2[g2_row]);
        const float g3_2 = bf16_to_f32(g3[g3_row]);
        const bool isnan_7 = g0_2 != g0_2;
        const float where_9 = isnan_7 ? INFINITY : g0_2;
        const bool isnan_10 = g1_2 != g1_2;
        const float where_11 = isnan_10 ? INFINITY : g1_2;
        const bool isnan_12 = g2_2 != g2_2;
        const float where_13 = isnan_12 ? INFINITY : g2_2;
        const bool isnan_14 = g3_2 != g3_2;
        const float where_15 = isnan_14 ? INFINITY : g3_2;
        const bool gt_16 = where_11 > where_9;
        const int i32_17 = (int)gt_16;
        const bool gt_18 = where_13 > where_9;
        const int i32_19 = (int)gt_18;
        const int add_20 = (int)(((uint)i32_17 + (uint)i32_19));
        const bool gt_21 = where_15 > where_9;
        const int i32_22 = (int)gt_21;
        const int add_23 = (int)(((uint)add_20 + (uint)i32_22));
        const bool lt_25 = add_23 < 2;
        const int i32_26 = (int)lt_25;
        const int shl_28 = (int)((uint)i32_26 << (0 & 31));
        const bool ge_29 = where_9 >= where_11;
        const int i32_30 = (int)ge_29;
        const bool gt_31 = where_13 > where_11;
        const int i32_32 = (int)gt_31;
        const int add_33 = (int)(((uint)i32_30 + (uint)i32_32));
        const bool gt_34 = where_15 > where_11;
        const int i32_35 = (int)gt_34;
        const int add_36 = (int)(((uint)add_33 + (uint)i32_35));
        const bool lt_37 = add_36 < 2;
        const int i32_38 = (int)lt_37;
        const int shl_40 = (int)((uint)i32_38 << (1 & 31));
        const int or_41 = (int)(shl_28 | shl_40);
        const bool ge_42 = where_9 >= where_13;
        const int i32_43 = (int)ge_42;
        const bool ge_44 = where_11 >= where_13;
        const int i32_45 = (int)ge_44;
        const int add_46 = (int)(((uint)i32_43 + (uint)i32_45));
        const bool gt_47 = where_15 > where_13;
        const int i32_48 = (int)gt_47;
        const int add_49 = (int)(((uint)add_46 + (uint)i32_48));
        const bool lt_50 = add_49 < 2;
        const int i32_51 = (int)lt_50;
        const int shl_52 = (int)((uint)i32_51 << (2 & 31));
        const int or_53 = (int)(or_41 | shl_52);
        const bool ge_54 = where_9 >= where_15;
        const int i32_55 = (int)ge_54;
        const bool ge_56 = where_11 >= where_15;
        const int i32_57 = (int)ge_56;
        const int add_58 = (int)(((uint)i32_55 + (uint)i32_57));
        const bool ge_59 = where_13 >= where_15;
        const int i32_60 = (int)ge_59;
        const int add_61 = (int)(((uint)add_58 + (uint)i32_60));
        const bool lt_62 = add_61 < 2;
        const int i32_63 = (int)lt_62;
        const int shl_65 = (int)((uint)i32_63 << (3 & 31));
        const int or_66 = (int)(or_53 | shl_65);
        int found_80[8];
        uint found_col_80[8];
        int best_80[8];
        uint best_col_80[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_80[j] = -2147483647 - 1;
            best_col_80[j] = 4294967295u;
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 8; c_3++) {
            const int col_3 = ((lane_2 + (c_3 * 64)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            float b_chunk[8];
            if (full_2 && b_vectors) {
                load_bf16x8(&b[col_3], &b_chunk[0]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    b_chunk[i_2] = ((0 <= (col_3 + i_2)) && ((col_3 + i_2) < args.cols)) ? bf16_to_f32(b[(col_3 + i_2) * args.b_col]) : 0.0f;
                }
            }
            float term_79[8];
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                const int and_74 = (int)(1 & ((int)(or_66 >> (((int)div_i64(((long)(col_3 + i_3)), div_70)) & 31))));
                const float add_77 = b_chunk[i_3] + sigmoid_f32(half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1));
                const float where_79 = (0 != and_74) ? add_77 : (-INFINITY);
                term_79[i_3] = where_79;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const int key = order_f32(term_79[i_4]);
                    const uint key_col = (uint)(col_3 + i_4);
                    if (key > best_80[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 8) + i_4)) && (key > best_80[7 - j_2])) {
                                const bool passes = key > best_80[(7 - j_2) - 1];
                                best_80[7 - j_2] = passes ? best_80[(7 - j_2) - 1] : key;
                                best_col_80[7 - j_2] = passes ? best_col_80[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_80[0]) {
                            best_80[0] = key;
                            best_col_80[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    const int key_2 = order_f32(term_79[i_5]);
                    const uint key_col_2 = (uint)(col_3 + i_5);
                    if (inside && (key_2 > best_80[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 8) + i_5)) && (key_2 > best_80[7 - j_3])) {
                                const bool passes_2 = key_2 > best_80[(7 - j_3) - 1];
                                best_80[7 - j_3] = passes_2 ? best_80[(7 - j_3) - 1] : key_2;
                                best_col_80[7 - j_3] = passes_2 ? best_col_80[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_80[0]) {
                            best_80[0] = key_2;
                            best_col_80[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_80[0];
            uint won_2 = best_col_80[0];
            const int other = simd_shuffle_xor(won, (ushort)16);
            const uint other_2 = simd_shuffle_xor(won_2, (ushort)16);
            const bool better = (other > won) || ((other == won) && (other_2 < won_2));
            won = better ? other : won;
            won_2 = better ? other_2 : won_2;
            const int other_3 = simd_shuffle_xor(won, (ushort)8);
            const uint other_4 = simd_shuffle_xor(won_2, (ushort)8);
            const bool better_2 = (other_3 > won) || ((other_3 == won) && (other_4 < won_2));
            won = better_2 ? other_3 : won;
            won_2 = better_2 ? other_4 : won_2;
            const int other_5 = simd_shuffle_xor(won, (ushort)4);
            const uint other_6 = simd_shuffle_xor(won_2, (ushort)4);
            const bool better_3 = (other_5 > won) || ((other_5 == won) && (other_6 < won_2));
            won = better_3 ? other_5 : won;
            won_2 = better_3 ? other_6 : won_2;
            const int other_7 = simd_shuffle_xor(won, (ushort)2);
            const uint other_8 = simd_shuffle_xor(won_2, (ushort)2);
            const bool better_4 = (other_7 > won) || ((other_7 == won) && (other_8 < won_2));
            won = better_4 ? other_7 : won;
            won_2 = better_4 ? other_8 : won_2;
            const int other_9 = simd_shuffle_xor(won, (ushort)1);
            const uint other_10 = simd_shuffle_xor(won_2, (ushort)1);
            const bool better_5 = (other_9 > won) || ((other_9 == won) && (other_10 < won_2));
            won = better_5 ? other_9 : won;
            won_2 = better_5 ? other_10 : won_2;
            found_80[r] = won;
            found_col_80[r] = won_2;
            if (won_2 == best_col_80[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_80[7 - (7 - j_4)] = best_80[(7 - (7 - j_4)) + 1];
                        best_col_80[7 - (7 - j_4)] = best_col_80[(7 - (7 - j_4)) + 1];
                    }
                }
                best_80[7] = -2147483647 - 1;
                best_col_80[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_80_of_warp[(warp * 8) + r_2] = found_80[r_2];
                found_col_80_of_warp[(warp * 8) + r_2] = found_col_80[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 64) * 2) + (tid & 1)) * 8;
        int next = 0;
        int head = found_80_of_warp[list];
        uint head_2 = found_col_80_of_warp[list];
#pragma unroll
        for (int r_3 = 0; r_3 < 8; r_3++) {
            int won_3 = head;
            uint won_4 = head_2;
            const int other_11 = simd_shuffle_xor(won_3, (ushort)1);
            const uint other_12 = simd_shuffle_xor(won_4, (ushort)1);
            const bool better_6 = (other_11 > won_3) || ((other_11 == won_3) && (other_12 < won_4));
            won_3 = better_6 ? other_11 : won_3;
            won_4 = better_6 ? other_12 : won_4;
            found_80[r_3] = won_3;
            found_col_80[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_80_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_80_of_warp[list + next] : 4294967295u;
            }
        }
        const uint argtop_80 = (found_col_80[0] == 4294967295u) ? 0u : found_col_80[0];
        const uint argtop_84 = (found_col_80[1] == 4294967295u) ? 0u : found_col_80[1];
        const uint argtop_88 = (found_col_80[2] == 4294967295u) ? 0u : found_col_80[2];
        const uint argtop_92 = (found_col_80[3] == 4294967295u) ? 0u : found_col_80[3];
        const uint argtop_96 = (found_col_80[4] == 4294967295u) ? 0u : found_col_80[4];
        const uint argtop_100 = (found_col_80[5] == 4294967295u) ? 0u : found_col_80[5];
        const uint argtop_104 = (found_col_80[6] == 4294967295u) ? 0u : found_col_80[6];
        const uint argtop_108 = (found_col_80[7] == 4294967295u) ? 0u : found_col_80[7];
        const long i64_81 = (long)argtop_80;
        const bool inside_2 = (0L <= i64_81) && (i64_81 < ((long)args.cols));
        if (!inside_2) {
            flag[0] = 1u;
        }
        const float x_at = inside_2 ? bf16_to_f32(x[x_row + (((int)i64_81) * args.x_col)]) : NAN;
        const float sigmoid_83 = sigmoid_f32(x_at);
        const long i64_85 = (long)argtop_84;
        const bool inside_3 = (0L <= i64_85) && (i64_85 < ((long)args.cols));
        if (!inside_3) {
            flag[0] = 1u;
        }
        const float x_at_2 = inside_3 ? bf16_to_f32(x[x_row + (((int)i64_85) * args.x_col)]) : NAN;
        const float sigmoid_87 = sigmoid_f32(x_at_2);
        const long i64_89 = (long)argtop_88;
        const bool inside_4 = (0L <= i64_89) && (i64_89 < ((long)args.cols));
        if (!inside_4) {
            flag[0] = 1u;
        }
        const float x_at_3 = inside_4 ? bf16_to_f32(x[x_row + (((int)i64_89) * args.x_col)]) : NAN;
        const float sigmoid_91 = sigmoid_f32(x_at_3);
        const long i64_93 = (long)argtop_92;
        const bool inside_5 = (0L <= i64_93) && (i64_93 < ((long)args.cols));
        if (!inside_5) {
            flag[0] = 1u;
        }
        const float x_at_4 = inside_5 ? bf16_to_f32(x[x_row + (((int)i64_93) * args.x_col)]) : NAN;
        const float sigmoid_95 = sigmoid_f32(x_at_4);
        const long i64_97 = (long)argtop_96;
        const bool inside_6 = (0L <= i64_97) && (i64_97 < ((long)args.cols));
        if (!inside_6) {
            flag[0] = 1u;
        }
        const float x_at_5 = inside_6 ? bf16_to_f32(x[x_row + (((int)i64_97) * args.x_col)]) : NAN;
        const float sigmoid_99 = sigmoid_f32(x_at_5);
        const long i64_101 = (long)argtop_100;
        const bool inside_7 = (0L <= i64_101) && (i64_101 < ((long)args.cols));
        if (!inside_7) {
            flag[0] = 1u;
        }
        const float x_at_6 = inside_7 ? bf16_to_f32(x[x_row + (((int)i64_101) * args.x_col)]) : NAN;
        const float sigmoid_103 = sigmoid_f32(x_at_6);
        const long i64_105 = (long)argtop_104;
        const bool inside_8 = (0L <= i64_105) && (i64_105 < ((long)args.cols));
        if (!inside_8) {
            flag[0] = 1u;
        }
        const float x_at_7 = inside_8 ? bf16_to_f32(x[x_row + (((int)i64_105) * args.x_col)]) : NAN;
        const float sigmoid_107 = sigmoid_f32(x_at_7);
        const long i64_109 = (long)argtop_108;
        const bool inside_9 = (0L <= i64_109) && (i64_109 < ((long)args.cols));
        if (!inside_9) {
            flag[0] = 1u;
        }
        const float x_at_8 = inside_9 ? bf16_to_f32(x[x_row + (((int)i64_109) * args.x_col)]) : NAN;
        const float sigmoid_111 = sigmoid_f32(x_at_8);
        const float add_112 = sigmoid_83 + sigmoid_87;
        const float add_113 = sigmoid_91 + add_112;
        const float add_114 = sigmoid_95 + add_113;
        const float add_115 = sigmoid_99 + add_114;
        const float add_116 = sigmoid_103 + add_115;
        const float add_117 = sigmoid_107 + add_116;
        const float add_118 = sigmoid_111 + add_117;
        const float add_120 = add_118 + 1e-20f;
        const float div_121 = add_120 / args.scale;
        const float div_122 = sigmoid_83 / div_121;
        const float div_123 = sigmoid_87 / div_121;
        const float div_124 = sigmoid_91 / div_121;
        const float div_125 = sigmoid_95 / div_121;
        const float div_126 = sigmoid_99 / div_121;
        const float div_127 = sigmoid_103 / div_121;
        const float div_128 = sigmoid_107 / div_121;
        const float div_129 = sigmoid_111 / div_121;
        if ((lane == 0) && lives) {
            weights[row_2 * 8] = div_122;
            weights[(row_2 * 8) + 1] = div_123;
            weights[(row_2 * 8) + 2] = div_124;
            weights[(row_2 * 8) + 3] = div_125;
            weights[(row_2 * 8) + 4] = div_126;
            weights[(row_2 * 8) + 5] = div_127;
            weights[(row_2 * 8) + 6] = div_128;
            weights[(row_2 * 8) + 7] = div_129;
            experts[row_2 * 8] = argtop_80;
            experts[(row_2 * 8) + 1] = argtop_84;
            experts[(row_2 * 8) + 2] = argtop_88;
            experts[(row_2 * 8) + 3] = argtop_92;
            experts[(row_2 * 8) + 4] = argtop_96;
            experts[(row_2 * 8) + 5] = argtop_100;
            experts[(row_2 * 8) + 6] = argtop_104;
            experts[(row_2 * 8) + 7] = argtop_108;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_gating_groups_vjp_f32_args {
    float scale;
    int cols;
    int rows;
    int x_row_stride_0;
    int g0_row_stride_0;
    int g1_row_stride_0;
    int g2_row_stride_0;
    int g3_row_stride_0;
    int g_weights_0_row_stride_0;
    int g_weights_1_row_stride_0;
    int g_weights_2_row_stride_0;
    int g_weights_3_row_stride_0;
    int g_weights_4_row_stride_0;
    int g_weights_5_row_stride_0;
    int g_weights_6_row_stride_0;
    int g_weights_7_row_stride_0;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_groups_vjp_f32(device const float* x [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device const float* g0 [[buffer(2)]],
    device const float* g1 [[buffer(3)]],
    device const float* g2 [[buffer(4)]],
    device const float* g3 [[buffer(5)]],
    device const float* g_weights_0 [[buffer(6)]],
    device const float* g_weights_1 [[buffer(7)]],
    device const float* g_weights_2 [[buffer(8)]],
    device const float* g_weights_3 [[buffer(9)]],
    device const float* g_weights_4 [[buffer(10)]],
    device const float* g_weights_5 [[buffer(11)]],
    device const float* g_weights_6 [[buffer(12)]],
    device const float* g_weights_7 [[buffer(13)]],
    device float* d_x [[buffer(14)]],
    device uint* flag [[buffer(15)]],
    constant zmlx_top_k_gating_groups_vjp_f32_args& args [[buffer(16)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_88_of_warp[32];
    threadgroup uint found_col_88_of_warp[32];
    const long cols = (long)args.cols;
    const long div_78 = div_i64(cols, 4L);
    const float recip_129 = 1.0f / args.scale;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int g0_row = base * args.g0_row_stride_0;
        const int g1_row = base * args.g1_row_stride_0;
        const int g2_row = base * args.g2_row_stride_0;
        const int g3_row = base * args.g3_row_stride_0;
        const int g_weights_0_row = base * args.g_weights_0_row_stride_0;
        const int g_weights_1_row = base * args.g_weights_1_row_stride_0;
        const int g_weights_2_row = base * args.g_weights_2_row_stride_0;
        const int g_weights_3_row = base * args.g_weights_3_row_stride_0;
        const int g_weights_4_row = base * args.g_weights_4_row_stride_0;
        const int g_weights_5_row = base * args.g_weights_5_row_stride_0;
        const int g_weights_6_row = base * args.g_weights_6_row_stride_0;
        const int g_weights_7_row = base * args.g_weights_7_row_stride_0;
        const int d_x_row = base * args.cols;
        const int shift = d_x_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const bool b_vectors = (((args.b_shift - shift) & 3) == 0) && (args.b_col == 1);
        const int lane = tid;
        float x_held[32];
        if (((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3588) <= args.cols)) && x_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 8; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 8; c++) {
                const int col = ((lane + (c * 128)) * 4) - shift;
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
        const float g0_2 = g0[g0_row];
        const float g1_2 = g1[g1_row];
        const float g2_2 = g2[g2_row];
        const float g3_2 = g3[g3_row];
        const float g_weights_0_2 = g_weights_0[g_weights_0_row];
        const float g_weights_1_2 = g_weights_1[g_weights_1_row];
        const float g_weights_2_2 = g_weights_2[g_weights_2_row];
        const float g_weights_3_2 = g_weights_3[g_weights_3_row];
        const float g_weights_4_2 = g_weights_4[g_weights_4_row];
        const float g_weights_5_2 = g_weights_5[g_weights_5_row];
        const float g_weights_6_2 = g_weights_6[g_weights_6_row];
        const float g_weights_7_2 = g_weights_7[g_weights_7_row];
        const bool isnan_15 = g0_2 != g0_2;
        const float where_17 = isnan_15 ? INFINITY : g0_2;
        const bool isnan_18 = g1_2 != g1_2;
        const float where_19 = isnan_18 ? INFINITY : g1_2;
        const bool isnan_20 = g2_2 != g2_2;
        const float where_21 = isnan_20 ? INFINITY : g2_2;
        const bool isnan_22 = g3_2 != g3_2;
        const float where_23 = isnan_22 ? INFINITY : g3_2;
        const bool gt_24 = where_19 > where_17;
        const int i32_25 = (int)gt_24;
        const bool gt_26 = where_21 > where_17;
        const int i32_27 = (int)gt_26;
        const int add_28 = (int)(((uint)i32_25 + (uint)i32_27));
        const bool gt_29 = where_23 > where_17;
        const int i32_30 = (int)gt_29;
        const int add_31 = (int)(((uint)add_28 + (uint)i32_30));
        const bool lt_33 = add_31 < 2;
        const int i32_34 = (int)lt_33;
        const int shl_36 = (int)((uint)i32_34 << (0 & 31));
        const bool ge_37 = where_17 >= where_19;
        const int i32_38 = (int)ge_37;
        const bool gt_39 = where_21 > where_19;
        const int i32_40 = (int)gt_39;
        const int add_41 = (int)(((uint)i32_38 + (uint)i32_40));
        const bool gt_42 = where_23 > where_19;
        const int i32_43 = (int)gt_42;
        const int add_44 = (int)(((uint)add_41 + (uint)i32_43));
        const bool lt_45 = add_44 < 2;
        const int i32_46 = (int)lt_45;
        const int shl_48 = (int)((uint)i32_46 << (1 & 31));
        const int or_49 = (int)(shl_36 | shl_48);
        const bool ge_50 = where_17 >= where_21;
        const int i32_51 = (int)ge_50;
        const bool ge_52 = where_19 >= where_21;
        const int i32_53 = (int)ge_52;
        const int add_54 = (int)(((uint)i32_51 + (uint)i32_53));
        const bool gt_55 = where_23 > where_21;
        const int i32_56 = (int)gt_55;
        const int add_57 = (int)(((uint)add_54 + (uint)i32_56));
        const bool lt_58 = add_57 < 2;
        const int i32_59 = (int)lt_58;
        const int shl_60 = (int)((uint)i32_59 << (2 & 31));
        const int or_61 = (int)(or_49 | shl_60);
        const bool ge_62 = where_17 >= where_23;
        const int i32_63 = (int)ge_62;
        const bool ge_64 = where_19 >= where_23;
        const int i32_65 = (int)ge_64;
        const int add_66 = (int)(((uint)i32_63 + (uint)i32_65));
        const bool ge_67 = where_21 >= where_23;
        const int i32_68 = (int)ge_67;
        const int add_69 = (int)(((uint)add_66 + (uint)i32_68));
        const bool lt_70 = add_69 < 2;
        const int i32_71 = (int)lt_70;
        const int shl_73 = (int)((uint)i32_71 << (3 & 31));
        const int or_74 = (int)(or_61 | shl_73);
        int found_88[8];
        uint found_col_88[8];
        int best_88[8];
        uint best_col_88[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_88[j] = -2147483647 - 1;
            best_col_88[j] = 4294967295u;
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 8; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float b_chunk[4];
            if (full_2 && b_vectors) {
                load_f32x4(&b[col_3], &b_chunk[0]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    b_chunk[i_2] = ((0 <= (col_3 + i_2)) && ((col_3 + i_2) < args.cols)) ? b[(col_3 + i_2) * args.b_col] : 0.0f;
                }
            }
            float term_87[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const int and_82 = (int)(1 & ((int)(or_74 >> (((int)div_i64(((long)(col_3 + i_3)), div_78)) & 31))));
                const float add_85 = b_chunk[i_3] + sigmoid_f32(x_held[(c_3 * 4) + i_3]);
                const float where_87 = (0 != and_82) ? add_85 : (-INFINITY);
                term_87[i_3] = where_87;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const int key = order_f32(term_87[i_4]);
                    const uint key_col = (uint)(col_3 + i_4);
                    if (key > best_88[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 4) + i_4)) && (key > best_88[7 - j_2])) {
                                const bool passes = key > best_88[(7 - j_2) - 1];
                                best_88[7 - j_2] = passes ? best_88[(7 - j_2) - 1] : key;
                                best_col_88[7 - j_2] = passes ? best_col_88[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_88[0]) {
                            best_88[0] = key;
                            best_col_88[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    const int key_2 = order_f32(term_87[i_5]);
                    const uint key_col_2 = (uint)(col_3 + i_5);
                    if (inside && (key_2 > best_88[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 4) + i_5)) && (key_2 > best_88[7 - j_3])) {
                                const bool passes_2 = key_2 > best_88[(7 - j_3) - 1];
                                best_88[7 - j_3] = passes_2 ? best_88[(7 - j_3) - 1] : key_2;
                                best_col_88[7 - j_3] = passes_2 ? best_col_88[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_88[0]) {
                            best_88[0] = key_2;
                            best_col_88[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_88[0];
            uint won_2 = best_col_88[0];
            const int other = simd_shuffle_xor(won, (ushort)16);
            const uint other_2 = simd_shuffle_xor(won_2, (ushort)16);
            const bool better = (other > won) || ((other == won) && (other_2 < won_2));
            won = better ? other : won;
            won_2 = better ? other_2 : won_2;
            const int other_3 = simd_shuffle_xor(won, (ushort)8);
            const uint other_4 = simd_shuffle_xor(won_2, (ushort)8);
            const bool better_2 = (other_3 > won) || ((other_3 == won) && (other_4 < won_2));
            won = better_2 ? other_3 : won;
            won_2 = better_2 ? other_4 : won_2;
            const int other_5 = simd_shuffle_xor(won, (ushort)4);
            const uint other_6 = simd_shuffle_xor(won_2, (ushort)4);
            const bool better_3 = (other_5 > won) || ((other_5 == won) && (other_6 < won_2));
            won = better_3 ? other_5 : won;
            won_2 = better_3 ? other_6 : won_2;
            const int other_7 = simd_shuffle_xor(won, (ushort)2);
            const uint other_8 = simd_shuffle_xor(won_2, (ushort)2);
            const bool better_4 = (other_7 > won) || ((other_7 == won) && (other_8 < won_2));
            won = better_4 ? other_7 : won;
            won_2 = better_4 ? other_8 : won_2;
            const int other_9 = simd_shuffle_xor(won, (ushort)1);
            const uint other_10 = simd_shuffle_xor(won_2, (ushort)1);
            const bool better_5 = (other_9 > won) || ((other_9 == won) && (other_10 < won_2));
            won = better_5 ? other_9 : won;
            won_2 = better_5 ? other_10 : won_2;
            found_88[r] = won;
            found_col_88[r] = won_2;
            if (won_2 == best_col_88[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_88[7 - (7 - j_4)] = best_88[(7 - (7 - j_4)) + 1];
                        best_col_88[7 - (7 - j_4)] = best_col_88[(7 - (7 - j_4)) + 1];
                    }
                }
                best_88[7] = -2147483647 - 1;
                best_col_88[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_88_of_warp[(warp * 8) + r_2] = found_88[r_2];
                found_col_88_of_warp[(warp * 8) + r_2] = found_col_88[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 128) * 4) + (tid & 3)) * 8;
        int next = 0;
        int head = found_88_of_warp[list];
        uint head_2 = found_col_88_of_warp[list];
#pragma unroll
        for (int r_3 = 0; r_3 < 8; r_3++) {
            int won_3 = head;
            uint won_4 = head_2;
            const int other_11 = simd_shuffle_xor(won_3, (ushort)2);
            const uint other_12 = simd_shuffle_xor(won_4, (ushort)2);
            const bool better_6 = (other_11 > won_3) || ((other_11 == won_3) && (other_12 < won_4));
            won_3 = better_6 ? other_11 : won_3;
            won_4 = better_6 ? other_12 : won_4;
            const int other_13 = simd_shuffle_xor(won_3, (ushort)1);
            const uint other_14 = simd_shuffle_xor(won_4, (ushort)1);
            const bool better_7 = (other_13 > won_3) || ((other_13 == won_3) && (other_14 < won_4));
            won_3 = better_7 ? other_13 : won_3;
            won_4 = better_7 ? other_14 : won_4;
            found_88[r_3] = won_3;
            found_col_88[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_88_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_88_of_warp[list + next] : 4294967295u;
            }
        }
        const uint argtop_88 = (found_col_88[0] == 4294967295u) ? 0u : found_col_88[0];
        const uint argtop_92 = (found_col_88[1] == 4294967295u) ? 0u : found_col_88[1];
        const uint argtop_96 = (found_col_88[2] == 4294967295u) ? 0u : found_col_88[2];
        const uint argtop_100 = (found_col_88[3] == 4294967295u) ? 0u : found_col_88[3];
        const uint argtop_104 = (found_col_88[4] == 4294967295u) ? 0u : found_col_88[4];
        const uint argtop_108 = (found_col_88[5] == 4294967295u) ? 0u : found_col_88[5];
        const uint argtop_112 = (found_col_88[6] == 4294967295u) ? 0u : found_col_88[6];
        const uint argtop_116 = (found_col_88[7] == 4294967295u) ? 0u : found_col_88[7];
        const long i64_89 = (long)argtop_88;
        const bool inside_2 = (0L <= i64_89) && (i64_89 < ((long)args.cols));
        if (!inside_2) {
            flag[0] = 1u;
        }
        const float x_at = inside_2 ? x[x_row + (((int)i64_89) * args.x_col)] : NAN;
        const float sigmoid_91 = sigmoid_f32(x_at);
        const long i64_93 = (long)argtop_92;
        const bool inside_3 = (0L <= i64_93) && (i64_93 < ((long)args.cols));
        if (!inside_3) {
            flag[0] = 1u;
        }
        const float x_at_2 = inside_3 ? x[x_row + (((int)i64_93) * args.x_col)] : NAN;
        const float sigmoid_95 = sigmoid_f32(x_at_2);
        const long i64_97 = (long)argtop_96;
        const bool inside_4 = (0L <= i64_97) && (i64_97 < ((long)args.cols));
        if (!inside_4) {
            flag[0] = 1u;
        }
        const float x_at_3 = inside_4 ? x[x_row + (((int)i64_97) * args.x_col)] : NAN;
        const float sigmoid_99 = sigmoid_f32(x_at_3);
        const long i64_101 = (long)argtop_100;
        const bool inside_5 = (0L <= i64_101) && (i64_101 < ((long)args.cols));
        if (!inside_5) {
            flag[0] = 1u;
        }
        const float x_at_4 = inside_5 ? x[x_row + (((int)i64_101) * args.x_col)] : NAN;
        const float sigmoid_103 = sigmoid_f32(x_at_4);
        const long i64_105 = (long)argtop_104;
        const bool inside_6 = (0L <= i64_105) && (i64_105 < ((long)args.cols));
        if (!inside_6) {
            flag[0] = 1u;
        }
        const float x_at_5 = inside_6 ? x[x_row + (((int)i64_105) * args.x_col)] : NAN;
        const float sigmoid_107 = sigmoid_f32(x_at_5);
        const long i64_109 = (long)argtop_108;
        const bool inside_7 = (0L <= i64_109) && (i64_109 < ((long)args.cols));
        if (!inside_7) {
            flag[0] = 1u;
        }
        const float x_at_6 = inside_7 ? x[x_row + (((int)i64_109) * args.x_col)] : NAN;
        const float sigmoid_111 = sigmoid_f32(x_at_6);
        const long i64_113 = (long)argtop_112;
        const bool inside_8 = (0L <= i64_113) && (i64_113 < ((long)args.cols));
        if (!inside_8) {
            flag[0] = 1u;
        }
        const float x_at_7 = inside_8 ? x[x_row + (((int)i64_113) * args.x_col)] : NAN;
        const float sigmoid_115 = sigmoid_f32(x_at_7);
        const long i64_117 = (long)argtop_116;
        const bool inside_9 = (0L <= i64_117) && (i64_117 < ((long)args.cols));
        if (!inside_9) {
            flag[0] = 1u;
        }
        const float x_at_8 = inside_9 ? x[x_row + (((int)i64_117) * args.x_col)] : NAN;
        const float sigmoid_119 = sigmoid_f32(x_at_8);
        const float add_120 = sigmoid_91 + sigmoid_95;
        const float add_121 = sigmoid_99 + add_120;
        const float add_122 = sigmoid_103 + add_121;
        const float add_123 = sigmoid_107 + add_122;
        const float add_124 = sigmoid_111 + add_123;
        const float add_125 = sigmoid_115 + add_124;
        const float add_126 = sigmoid_119 + add_125;
        const float add_128 = add_126 + 1e-20f;
        const float mul_130 = add_128 * recip_129;
        const float div_131 = sigmoid_91 / mul_130;
        const float div_132 = sigmoid_95 / mul_130;
        const float div_133 = sigmoid_99 / mul_130;
        const float div_134 = sigmoid_103 / mul_130;
        const float div_135 = sigmoid_107 / mul_130;
        const float div_136 = sigmoid_111 / mul_130;
        const float div_137 = sigmoid_115 / mul_130;
        const float div_138 = sigmoid_119 / mul_130;
        const float recip_139 = 1.0f / mul_130;
        const float mul_140 = g_weights_7_2 * div_138;
        const float neg_141 = -mul_140;
        const float mul_142 = g_weights_6_2 * div_137;
        const float sub_143 = neg_141 - mul_142;
        const float mul_144 = g_weights_5_2 * div_136;
        const float sub_145 = sub_143 - mul_144;
        const float mul_146 = g_weights_4_2 * div_135;
        const float sub_147 = sub_145 - mul_146;
        const float mul_148 = g_weights_3_2 * div_134;
        const float sub_149 = sub_147 - mul_148;
        const float mul_150 = g_weights_2_2 * div_133;
        const float sub_151 = sub_149 - mul_150;
        const float mul_152 = g_weights_1_2 * div_132;
        const float sub_153 = sub_151 - mul_152;
        const float mul_154 = g_weights_0_2 * div_131;
        const float sub_155 = sub_153 - mul_154;
        const float mul_156 = recip_129 * sub_155;
        const float add_157 = g_weights_7_2 + mul_156;
        const float mul_158 = recip_139 * add_157;
        const float sub_160 = 1.0f - sigmoid_119;
        const float mul_161 = sigmoid_119 * sub_160;
        const float mul_162 = mul_158 * mul_161;
        const float add_166 = g_weights_6_2 + mul_156;
        const float mul_167 = recip_139 * add_166;
        const float sub_168 = 1.0f - sigmoid_115;
        const float mul_169 = sigmoid_115 * sub_168;
        const float mul_170 = mul_167 * mul_169;
        const float add_173 = g_weights_5_2 + mul_156;
        const float mul_174 = recip_139 * add_173;
        const float sub_175 = 1.0f - sigmoid_111;
        const float mul_176 = sigmoid_111 * sub_175;
        const float mul_177 = mul_174 * mul_176;
        const float add_180 = g_weights_4_2 + mul_156;
        const float mul_181 = recip_139 * add_180;
        const float sub_182 = 1.0f - sigmoid_107;
        const float mul_183 = sigmoid_107 * sub_182;
        const float mul_184 = mul_181 * mul_183;
        const float add_187 = g_weights_3_2 + mul_156;
        const float mul_188 = recip_139 * add_187;
        const float sub_189 = 1.0f - sigmoid_103;
        const float mul_190 = sigmoid_103 * sub_189;
        const float mul_191 = mul_188 * mul_190;
        const float add_194 = g_weights_2_2 + mul_156;
        const float mul_195 = recip_139 * add_194;
        const float sub_196 = 1.0f - sigmoid_99;
        const float mul_197 = sigmoid_99 * sub_196;
        const float mul_198 = mul_195 * mul_197;
        const float add_201 = g_weights_1_2 + mul_156;
        const float mul_202 = recip_139 * add_201;
        const float sub_203 = 1.0f - sigmoid_95;
        const float mul_204 = sigmoid_95 * sub_203;
        const float mul_205 = mul_202 * mul_204;
        const float add_208 = g_weights_0_2 + mul_156;
        const float mul_209 = recip_139 * add_208;
        const float sub_210 = 1.0f - sigmoid_91;
        const float mul_211 = sigmoid_91 * sub_210;
        const float mul_212 = mul_209 * mul_211;
#pragma unroll
        for (int c_4 = 0; c_4 < 8; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float d_x_chunk[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const long col_5 = (long)(col_4 + i_6);
                const float add_215 = ((col_5 == i64_117) ? mul_162 : 0.0f) + ((col_5 == i64_113) ? mul_170 : 0.0f);
                const float add_217 = ((col_5 == i64_105) ? mul_184 : 0.0f) + (((col_5 == i64_109) ? mul_177 : 0.0f) + add_215);
                const float add_219 = ((col_5 == i64_97) ? mul_198 : 0.0f) + (((col_5 == i64_101) ? mul_191 : 0.0f) + add_217);
                const float add_221 = ((col_5 == i64_89) ? mul_212 : 0.0f) + (((col_5 == i64_93) ? mul_205 : 0.0f) + add_219);
                d_x_chunk[i_6] = add_221;
            }
            if (full_3) {
                store_f32x4(&d_x[d_x_row + col_4], &d_x_chunk[0]);
            } else {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    if ((0 <= (col_4 + i_7)) && ((col_4 + i_7) < args.cols)) {
                        d_x[d_x_row + (col_4 + i_7)] = d_x_chunk[i_7];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_gating_groups_vjp_f32_1_args {
    float scale;
    int cols;
    int blocks_;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_top_k_gating_groups_vjp_f32_1(device float* d_b [[buffer(0)]],
    device float* d_g0 [[buffer(1)]],
    device float* d_g1 [[buffer(2)]],
    device float* d_g2 [[buffer(3)]],
    device float* d_g3 [[buffer(4)]],
    constant zmlx_top_k_gating_groups_vjp_f32_1_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const long cols = (long)args.cols;
    const long div_78 = div_i64(cols, 4L);
    const float recip_129 = 1.0f / args.scale;
    if (tid == 0) {
        d_b[0] = 0.0f;
        d_g0[0] = 0.0f;
        d_g1[0] = 0.0f;
        d_g2[0] = 0.0f;
        d_g3[0] = 0.0f;
    }
}
