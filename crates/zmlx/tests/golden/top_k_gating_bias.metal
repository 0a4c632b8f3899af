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

struct zmlx_top_k_gating_bias_f32_args {
    float scale;
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_bias_f32(device const float* x [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device float* weights [[buffer(2)]],
    device uint* experts [[buffer(3)]],
    device uint* flag [[buffer(4)]],
    constant zmlx_top_k_gating_bias_f32_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_5_of_warp[32];
    threadgroup uint found_col_5_of_warp[32];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
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
        int found_5[8];
        uint found_col_5[8];
        int best_5[8];
        uint best_col_5[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_5[j] = -2147483647 - 1;
            best_col_5[j] = 4294967295u;
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
            float term_4[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const float add_4 = b_chunk[i_3] + sigmoid_f32(x_held[(c_3 * 4) + i_3]);
                term_4[i_3] = add_4;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const int key = order_f32(term_4[i_4]);
                    const uint key_col = (uint)(col_3 + i_4);
                    if (key > best_5[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 4) + i_4)) && (key > best_5[7 - j_2])) {
                                const bool passes = key > best_5[(7 - j_2) - 1];
                                best_5[7 - j_2] = passes ? best_5[(7 - j_2) - 1] : key;
                                best_col_5[7 - j_2] = passes ? best_col_5[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_5[0]) {
                            best_5[0] = key;
                            best_col_5[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    const int key_2 = order_f32(term_4[i_5]);
                    const uint key_col_2 = (uint)(col_3 + i_5);
                    if (inside && (key_2 > best_5[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 4) + i_5)) && (key_2 > best_5[7 - j_3])) {
                                const bool passes_2 = key_2 > best_5[(7 - j_3) - 1];
                                best_5[7 - j_3] = passes_2 ? best_5[(7 - j_3) - 1] : key_2;
                                best_col_5[7 - j_3] = passes_2 ? best_col_5[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_5[0]) {
                            best_5[0] = key_2;
                            best_col_5[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_5[0];
            uint won_2 = best_col_5[0];
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
            found_5[r] = won;
            found_col_5[r] = won_2;
            if (won_2 == best_col_5[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_5[7 - (7 - j_4)] = best_5[(7 - (7 - j_4)) + 1];
                        best_col_5[7 - (7 - j_4)] = best_col_5[(7 - (7 - j_4)) + 1];
                    }
                }
                best_5[7] = -2147483647 - 1;
                best_col_5[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_5_of_warp[(warp * 8) + r_2] = found_5[r_2];
                found_col_5_of_warp[(warp * 8) + r_2] = found_col_5[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 128) * 4) + (tid & 3)) * 8;
        int next = 0;
        int head = found_5_of_warp[list];
        uint head_2 = found_col_5_of_warp[list];
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
            found_5[r_3] = won_3;
            found_col_5[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_5_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_5_of_warp[list + next] : 4294967295u;
            }
        }
        const uint argtop_5 = (found_col_5[0] == 4294967295u) ? 0u : found_col_5[0];
        const uint argtop_9 = (found_col_5[1] == 4294967295u) ? 0u : found_col_5[1];
        const uint argtop_13 = (found_col_5[2] == 4294967295u) ? 0u : found_col_5[2];
        const uint argtop_17 = (found_col_5[3] == 4294967295u) ? 0u : found_col_5[3];
        const uint argtop_21 = (found_col_5[4] == 4294967295u) ? 0u : found_col_5[4];
        const uint argtop_25 = (found_col_5[5] == 4294967295u) ? 0u : found_col_5[5];
        const uint argtop_29 = (found_col_5[6] == 4294967295u) ? 0u : found_col_5[6];
        const uint argtop_33 = (found_col_5[7] == 4294967295u) ? 0u : found_col_5[7];
        const long i64_6 = (long)argtop_5;
        const bool inside_2 = (0L <= i64_6) && (i64_6 < ((long)args.cols));
        if (!inside_2) {
            flag[0] = 1u;
        }
        const float x_at = inside_2 ? x[x_row + (((int)i64_6) * args.x_col)] : NAN;
        const float sigmoid_8 = sigmoid_f32(x_at);
        const long i64_10 = (long)argtop_9;
        const bool inside_3 = (0L <= i64_10) && (i64_10 < ((long)args.cols));
        if (!inside_3) {
            flag[0] = 1u;
        }
        const float x_at_2 = inside_3 ? x[x_row + (((int)i64_10) * args.x_col)] : NAN;
        const float sigmoid_12 = sigmoid_f32(x_at_2);
        const long i64_14 = (long)argtop_13;
        const bool inside_4 = (0L <= i64_14) && (i64_14 < ((long)args.cols));
        if (!inside_4) {
            flag[0] = 1u;
        }
        const float x_at_3 = inside_4 ? x[x_row + (((int)i64_14) * args.x_col)] : NAN;
        const float sigmoid_16 = sigmoid_f32(x_at_3);
        const long i64_18 = (long)argtop_17;
        const bool inside_5 = (0L <= i64_18) && (i64_18 < ((long)args.cols));
        if (!inside_5) {
            flag[0] = 1u;
        }
        const float x_at_4 = inside_5 ? x[x_row + (((int)i64_18) * args.x_col)] : NAN;
        const float sigmoid_20 = sigmoid_f32(x_at_4);
        const long i64_22 = (long)argtop_21;
        const bool inside_6 = (0L <= i64_22) && (i64_22 < ((long)args.cols));
        if (!inside_6) {
            flag[0] = 1u;
        }
        const float x_at_5 = inside_6 ? x[x_row + (((int)i64_22) * args.x_col)] : NAN;
        const float sigmoid_24 = sigmoid_f32(x_at_5);
        const long i64_26 = (long)argtop_25;
        const bool inside_7 = (0L <= i64_26) && (i64_26 < ((long)args.cols));
        if (!inside_7) {
            flag[0] = 1u;
        }
        const float x_at_6 = inside_7 ? x[x_row + (((int)i64_26) * args.x_col)] : NAN;
        const float sigmoid_28 = sigmoid_f32(x_at_6);
        const long i64_30 = (long)argtop_29;
        const bool inside_8 = (0L <= i64_30) && (i64_30 < ((long)args.cols));
        if (!inside_8) {
            flag[0] = 1u;
        }
        const float x_at_7 = inside_8 ? x[x_row + (((int)i64_30) * args.x_col)] : NAN;
        const float sigmoid_32 = sigmoid_f32(x_at_7);
        const long i64_34 = (long)argtop_33;
        const bool inside_9 = (0L <= i64_34) && (i64_34 < ((long)args.cols));
        if (!inside_9) {
            flag[0] = 1u;
        }
        const float x_at_8 = inside_9 ? x[x_row + (((int)i64_34) * args.x_col)] : NAN;
        const float sigmoid_36 = sigmoid_f32(x_at_8);
        const float add_37 = sigmoid_8 + sigmoid_12;
        const float add_38 = sigmoid_16 + add_37;
        const float add_39 = sigmoid_20 + add_38;
        const float add_40 = sigmoid_24 + add_39;
        const float add_41 = sigmoid_28 + add_40;
        const float add_42 = sigmoid_32 + add_41;
        const float add_43 = sigmoid_36 + add_42;
        const float add_45 = add_43 + 1e-20f;
        const float div_46 = add_45 / args.scale;
        const float div_47 = sigmoid_8 / div_46;
        const float div_48 = sigmoid_12 / div_46;
        const float div_49 = sigmoid_16 / div_46;
        const float div_50 = sigmoid_20 / div_46;
        const float div_51 = sigmoid_24 / div_46;
        const float div_52 = sigmoid_28 / div_46;
        const float div_53 = sigmoid_32 / div_46;
        const float div_54 = sigmoid_36 / div_46;
        if (tid == 0) {
            weights[base * 8] = div_47;
            weights[(base * 8) + 1] = div_48;
            weights[(base * 8) + 2] = div_49;
            weights[(base * 8) + 3] = div_50;
            weights[(base * 8) + 4] = div_51;
            weights[(base * 8) + 5] = div_52;
            weights[(base * 8) + 6] = div_53;
            weights[(base * 8) + 7] = div_54;
            experts[base * 8] = argtop_5;
            experts[(base * 8) + 1] = argtop_9;
            experts[(base * 8) + 2] = argtop_13;
            experts[(base * 8) + 3] = argtop_17;
            experts[(base * 8) + 4] = argtop_21;
            experts[(base * 8) + 5] = argtop_25;
            experts[(base * 8) + 6] = argtop_29;
            experts[(base * 8) + 7] = argtop_33;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_gating_bias_bf16_args {
    float scale;
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_bias_bf16(device const ushort* x [[buffer(0)]],
    device const ushort* b [[buffer(1)]],
    device float* weights [[buffer(2)]],
    device uint* experts [[buffer(3)]],
    device uint* flag [[buffer(4)]],
    constant zmlx_top_k_gating_bias_bf16_args& args [[buffer(5)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_5_of_warp[32];
    threadgroup uint found_col_5_of_warp[32];
    const int lane = tid & 63;
    const int sub = tid / 64;
    for (int base = bid * 2; base < args.rows; base += blocks * 2) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int x_row = row_2 * args.x_row_stride_0;
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
        int found_5[8];
        uint found_col_5[8];
        int best_5[8];
        uint best_col_5[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_5[j] = -2147483647 - 1;
            best_col_5[j] = 4294967295u;
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
            float term_4[8];
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                const float add_4 = b_chunk[i_3] + sigmoid_f32(half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1));
                term_4[i_3] = add_4;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const int key = order_f32(term_4[i_4]);
                    const uint key_col = (uint)(col_3 + i_4);
                    if (key > best_5[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 8) + i_4)) && (key > best_5[7 - j_2])) {
                                const bool passes = key > best_5[(7 - j_2) - 1];
                                best_5[7 - j_2] = passes ? best_5[(7 - j_2) - 1] : key;
                                best_col_5[7 - j_2] = passes ? best_col_5[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_5[0]) {
                            best_5[0] = key;
                            best_col_5[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    const int key_2 = order_f32(term_4[i_5]);
                    const uint key_col_2 = (uint)(col_3 + i_5);
                    if (inside && (key_2 > best_5[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 8) + i_5)) && (key_2 > best_5[7 - j_3])) {
                                const bool passes_2 = key_2 > best_5[(7 - j_3) - 1];
                                best_5[7 - j_3] = passes_2 ? best_5[(7 - j_3) - 1] : key_2;
                                best_col_5[7 - j_3] = passes_2 ? best_col_5[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_5[0]) {
                            best_5[0] = key_2;
                            best_col_5[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_5[0];
            uint won_2 = best_col_5[0];
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
            found_5[r] = won;
            found_col_5[r] = won_2;
            if (won_2 == best_col_5[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_5[7 - (7 - j_4)] = best_5[(7 - (7 - j_4)) + 1];
                        best_col_5[7 - (7 - j_4)] = best_col_5[(7 - (7 - j_4)) + 1];
                    }
                }
                best_5[7] = -2147483647 - 1;
                best_col_5[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_5_of_warp[(warp * 8) + r_2] = found_5[r_2];
                found_col_5_of_warp[(warp * 8) + r_2] = found_col_5[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 64) * 2) + (tid & 1)) * 8;
        int next = 0;
        int head = found_5_of_warp[list];
        uint head_2 = found_col_5_of_warp[list];
#pragma unroll
        for (int r_3 = 0; r_3 < 8; r_3++) {
            int won_3 = head;
            uint won_4 = head_2;
            const int other_11 = simd_shuffle_xor(won_3, (ushort)1);
            const uint other_12 = simd_shuffle_xor(won_4, (ushort)1);
            const bool better_6 = (other_11 > won_3) || ((other_11 == won_3) && (other_12 < won_4));
            won_3 = better_6 ? other_11 : won_3;
            won_4 = better_6 ? other_12 : won_4;
            found_5[r_3] = won_3;
            found_col_5[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_5_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_5_of_warp[list + next] : 4294967295u;
            }
        }
        const uint argtop_5 = (found_col_5[0] == 4294967295u) ? 0u : found_col_5[0];
        const uint argtop_9 = (found_col_5[1] == 4294967295u) ? 0u : found_col_5[1];
        const uint argtop_13 = (found_col_5[2] == 4294967295u) ? 0u : found_col_5[2];
        const uint argtop_17 = (found_col_5[3] == 4294967295u) ? 0u : found_col_5[3];
        const uint argtop_21 = (found_col_5[4] == 4294967295u) ? 0u : found_col_5[4];
        const uint argtop_25 = (found_col_5[5] == 4294967295u) ? 0u : found_col_5[5];
        const uint argtop_29 = (found_col_5[6] == 4294967295u) ? 0u : found_col_5[6];
        const uint argtop_33 = (found_col_5[7] == 4294967295u) ? 0u : found_col_5[7];
        const long i64_6 = (long)argtop_5;
        const bool inside_2 = (0L <= i64_6) && (i64_6 < ((long)args.cols));
        if (!inside_2) {
            flag[0] = 1u;
        }
        const float x_at = inside_2 ? bf16_to_f32(x[x_row + (((int)i64_6) * args.x_col)]) : NAN;
        const float sigmoid_8 = sigmoid_f32(x_at);
        const long i64_10 = (long)argtop_9;
        const bool inside_3 = (0L <= i64_10) && (i64_10 < ((long)args.cols));
        if (!inside_3) {
            flag[0] = 1u;
        }
        const float x_at_2 = inside_3 ? bf16_to_f32(x[x_row + (((int)i64_10) * args.x_col)]) : NAN;
        const float sigmoid_12 = sigmoid_f32(x_at_2);
        const long i64_14 = (long)argtop_13;
        const bool inside_4 = (0L <= i64_14) && (i64_14 < ((long)args.cols));
        if (!inside_4) {
            flag[0] = 1u;
        }
        const float x_at_3 = inside_4 ? bf16_to_f32(x[x_row + (((int)i64_14) * args.x_col)]) : NAN;
        const float sigmoid_16 = sigmoid_f32(x_at_3);
        const long i64_18 = (long)argtop_17;
        const bool inside_5 = (0L <= i64_18) && (i64_18 < ((long)args.cols));
        if (!inside_5) {
            flag[0] = 1u;
        }
        const float x_at_4 = inside_5 ? bf16_to_f32(x[x_row + (((int)i64_18) * args.x_col)]) : NAN;
        const float sigmoid_20 = sigmoid_f32(x_at_4);
        const long i64_22 = (long)argtop_21;
        const bool inside_6 = (0L <= i64_22) && (i64_22 < ((long)args.cols));
        if (!inside_6) {
            flag[0] = 1u;
        }
        const float x_at_5 = inside_6 ? bf16_to_f32(x[x_row + (((int)i64_22) * args.x_col)]) : NAN;
        const float sigmoid_24 = sigmoid_f32(x_at_5);
        const long i64_26 = (long)argtop_25;
        const bool inside_7 = (0L <= i64_26) && (i64_26 < ((long)args.cols));
        if (!inside_7) {
            flag[0] = 1u;
        }
        const float x_at_6 = inside_7 ? bf16_to_f32(x[x_row + (((int)i64_26) * args.x_col)]) : NAN;
        const float sigmoid_28 = sigmoid_f32(x_at_6);
        const long i64_30 = (long)argtop_29;
        const bool inside_8 = (0L <= i64_30) && (i64_30 < ((long)args.cols));
        if (!inside_8) {
            flag[0] = 1u;
        }
        const float x_at_7 = inside_8 ? bf16_to_f32(x[x_row + (((int)i64_30) * args.x_col)]) : NAN;
        const float sigmoid_32 = sigmoid_f32(x_at_7);
        const long i64_34 = (long)argtop_33;
        const bool inside_9 = (0L <= i64_34) && (i64_34 < ((long)args.cols));
        if (!inside_9) {
            flag[0] = 1u;
        }
        const float x_at_8 = inside_9 ? bf16_to_f32(x[x_row + (((int)i64_34) * args.x_col)]) : NAN;
        const float sigmoid_36 = sigmoid_f32(x_at_8);
        const float add_37 = sigmoid_8 + sigmoid_12;
        const float add_38 = sigmoid_16 + add_37;
        const float add_39 = sigmoid_20 + add_38;
        const float add_40 = sigmoid_24 + add_39;
        const float add_41 = sigmoid_28 + add_40;
        const float add_42 = sigmoid_32 + add_41;
        const float add_43 = sigmoid_36 + add_42;
        const float add_45 = add_43 + 1e-20f;
        const float div_46 = add_45 / args.scale;
        const float div_47 = sigmoid_8 / div_46;
        const float div_48 = sigmoid_12 / div_46;
        const float div_49 = sigmoid_16 / div_46;
        const float div_50 = sigmoid_20 / div_46;
        const float div_51 = sigmoid_24 / div_46;
        const float div_52 = sigmoid_28 / div_46;
        const float div_53 = sigmoid_32 / div_46;
        const float div_54 = sigmoid_36 / div_46;
        if ((lane == 0) && lives) {
            weights[row_2 * 8] = div_47;
            weights[(row_2 * 8) + 1] = div_48;
            weights[(row_2 * 8) + 2] = div_49;
            weights[(row_2 * 8) + 3] = div_50;
            weights[(row_2 * 8) + 4] = div_51;
            weights[(row_2 * 8) + 5] = div_52;
            weights[(row_2 * 8) + 6] = div_53;
            weights[(row_2 * 8) + 7] = div_54;
            experts[row_2 * 8] = argtop_5;
            experts[(row_2 * 8) + 1] = argtop_9;
            experts[(row_2 * 8) + 2] = argtop_13;
            experts[(row_2 * 8) + 3] = argtop_17;
            experts[(row_2 * 8) + 4] = argtop_21;
            experts[(row_2 * 8) + 5] = argtop_25;
            experts[(row_2 * 8) + 6] = argtop_29;
            experts[(row_2 * 8) + 7] = argtop_33;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_gating_bias_vjp_f32_args {
    float scale;
    int rows;
    int x_row_stride_0;
    int g_weights_0_row_stride_0;
    int g_weights_1_row_stride_0;
    int g_weights_2_row_stride_0;
    int g_weights_3_row_stride_0;
    int g_weights_4_row_stride_0;
    int g_weights_5_row_stride_0;
    int g_weights_6_row_stride_0;
    int g_weights_7_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_bias_vjp_f32(device const float* x [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device const float* g_weights_0 [[buffer(2)]],
    device const float* g_weights_1 [[buffer(3)]],
    device const float* g_weights_2 [[buffer(4)]],
    device const float* g_weights_3 [[buffer(5)]],
    device const float* g_weights_4 [[buffer(6)]],
    device const float* g_weights_5 [[buffer(7)]],
    device const float* g_weights_6 [[buffer(8)]],
    device const float* g_weights_7 [[buffer(9)]],
    device float* d_x [[buffer(10)]],
    device uint* flag [[buffer(11)]],
    constant zmlx_top_k_gating_bias_vjp_f32_args& args [[buffer(12)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_13_of_warp[32];
    threadgroup uint found_col_13_of_warp[32];
    const float recip_54 = 1.0f / args.scale;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
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
        const float g_weights_0_2 = g_weights_0[g_weights_0_row];
        const float g_weights_1_2 = g_weights_1[g_weights_1_row];
        const float g_weights_2_2 = g_weights_2[g_weights_2_row];
        const float g_weights_3_2 = g_weights_3[g_weights_3_row];
        const float g_weights_4_2 = g_weights_4[g_weights_4_row];
        const float g_weights_5_2 = g_weights_5[g_weights_5_row];
        const float g_weights_6_2 = g_weights_6[g_weights_6_row];
        const float g_weights_7_2 = g_weights_7[g_weights_7_row];
        int found_13[8];
        uint found_col_13[8];
        int best_13[8];
        uint best_col_13[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_13[j] = -2147483647 - 1;
            best_col_13[j] = 4294967295u;
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
            float term_12[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const float add_12 = b_chunk[i_3] + sigmoid_f32(x_held[(c_3 * 4) + i_3]);
                term_12[i_3] = add_12;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const int key = order_f32(term_12[i_4]);
                    const uint key_col = (uint)(col_3 + i_4);
                    if (key > best_13[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 4) + i_4)) && (key > best_13[7 - j_2])) {
                                const bool passes = key > best_13[(7 - j_2) - 1];
                                best_13[7 - j_2] = passes ? best_13[(7 - j_2) - 1] : key;
                                best_col_13[7 - j_2] = passes ? best_col_13[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_13[0]) {
                            best_13[0] = key;
                            best_col_13[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    const int key_2 = order_f32(term_12[i_5]);
                    const uint key_col_2 = (uint)(col_3 + i_5);
                    if (inside && (key_2 > best_13[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 4) + i_5)) && (key_2 > best_13[7 - j_3])) {
                                const bool passes_2 = key_2 > best_13[(7 - j_3) - 1];
                                best_13[7 - j_3] = passes_2 ? best_13[(7 - j_3) - 1] : key_2;
                                best_col_13[7 - j_3] = passes_2 ? best_col_13[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_13[0]) {
                            best_13[0] = key_2;
                            best_col_13[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_13[0];
            uint won_2 = best_col_13[0];
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
            found_13[r] = won;
            found_col_13[r] = won_2;
            if (won_2 == best_col_13[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_13[7 - (7 - j_4)] = best_13[(7 - (7 - j_4)) + 1];
                        best_col_13[7 - (7 - j_4)] = best_col_13[(7 - (7 - j_4)) + 1];
                    }
                }
                best_13[7] = -2147483647 - 1;
                best_col_13[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_13_of_warp[(warp * 8) + r_2] = found_13[r_2];
                found_col_13_of_warp[(warp * 8) + r_2] = found_col_13[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 128) * 4) + (tid & 3)) * 8;
        int next = 0;
        int head = found_13_of_warp[list];
        uint head_2 = found_col_13_of_warp[list];
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
            found_13[r_3] = won_3;
            found_col_13[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_13_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_13_of_warp[list + next] : 4294967295u;
            }
        }
        const uint argtop_13 = (found_col_13[0] == 4294967295u) ? 0u : found_col_13[0];
        const uint argtop_17 = (found_col_13[1] == 4294967295u) ? 0u : found_col_13[1];
        const uint argtop_21 = (found_col_13[2] == 4294967295u) ? 0u : found_col_13[2];
        const uint argtop_25 = (found_col_13[3] == 4294967295u) ? 0u : found_col_13[3];
        const uint argtop_29 = (found_col_13[4] == 4294967295u) ? 0u : found_col_13[4];
        const uint argtop_33 = (found_col_13[5] == 4294967295u) ? 0u : found_col_13[5];
        const uint argtop_37 = (found_col_13[6] == 4294967295u) ? 0u : found_col_13[6];
        const uint argtop_41 = (found_col_13[7] == 4294967295u) ? 0u : found_col_13[7];
        const long i64_14 = (long)argtop_13;
        const bool inside_2 = (0L <= i64_14) && (i64_14 < ((long)args.cols));
        if (!inside_2) {
            flag[0] = 1u;
        }
        const float x_at = inside_2 ? x[x_row + (((int)i64_14) * args.x_col)] : NAN;
        const float sigmoid_16 = sigmoid_f32(x_at);
        const long i64_18 = (long)argtop_17;
        const bool inside_3 = (0L <= i64_18) && (i64_18 < ((long)args.cols));
        if (!inside_3) {
            flag[0] = 1u;
        }
        const float x_at_2 = inside_3 ? x[x_row + (((int)i64_18) * args.x_col)] : NAN;
        const float sigmoid_20 = sigmoid_f32(x_at_2);
        const long i64_22 = (long)argtop_21;
        const bool inside_4 = (0L <= i64_22) && (i64_22 < ((long)args.cols));
        if (!inside_4) {
            flag[0] = 1u;
        }
        const float x_at_3 = inside_4 ? x[x_row + (((int)i64_22) * args.x_col)] : NAN;
        const float sigmoid_24 = sigmoid_f32(x_at_3);
        const long i64_26 = (long)argtop_25;
        const bool inside_5 = (0L <= i64_26) && (i64_26 < ((long)args.cols));
        if (!inside_5) {
            flag[0] = 1u;
        }
        const float x_at_4 = inside_5 ? x[x_row + (((int)i64_26) * args.x_col)] : NAN;
        const float sigmoid_28 = sigmoid_f32(x_at_4);
        const long i64_30 = (long)argtop_29;
        const bool inside_6 = (0L <= i64_30) && (i64_30 < ((long)args.cols));
        if (!inside_6) {
            flag[0] = 1u;
        }
        const float x_at_5 = inside_6 ? x[x_row + (((int)i64_30) * args.x_col)] : NAN;
        const float sigmoid_32 = sigmoid_f32(x_at_5);
        const long i64_34 = (long)argtop_33;
        const bool inside_7 = (0L <= i64_34) && (i64_34 < ((long)args.cols));
        if (!inside_7) {
            flag[0] = 1u;
        }
        const float x_at_6 = inside_7 ? x[x_row + (((int)i64_34) * args.x_col)] : NAN;
        const float sigmoid_36 = sigmoid_f32(x_at_6);
        const long i64_38 = (long)argtop_37;
        const bool inside_8 = (0L <= i64_38) && (i64_38 < ((long)args.cols));
        if (!inside_8) {
            flag[0] = 1u;
        }
        const float x_at_7 = inside_8 ? x[x_row + (((int)i64_38) * args.x_col)] : NAN;
        const float sigmoid_40 = sigmoid_f32(x_at_7);
        const long i64_42 = (long)argtop_41;
        const bool inside_9 = (0L <= i64_42) && (i64_42 < ((long)args.cols));
        if (!inside_9) {
            flag[0] = 1u;
        }
        const float x_at_8 = inside_9 ? x[x_row + (((int)i64_42) * args.x_col)] : NAN;
        const float sigmoid_44 = sigmoid_f32(x_at_8);
        const float add_45 = sigmoid_16 + sigmoid_20;
        const float add_46 = sigmoid_24 + add_45;
        const float add_47 = sigmoid_28 + add_46;
        const float add_48 = sigmoid_32 + add_47;
        const float add_49 = sigmoid_36 + add_48;
        const float add_50 = sigmoid_40 + add_49;
        const float add_51 = sigmoid_44 + add_50;
        const float add_53 = add_51 + 1e-20f;
        const float mul_55 = add_53 * recip_54;
        const float div_56 = sigmoid_16 / mul_55;
        const float div_57 = sigmoid_20 / mul_55;
        const float div_58 = sigmoid_24 / mul_55;
        const float div_59 = sigmoid_28 / mul_55;
        const float div_60 = sigmoid_32 / mul_55;
        const float div_61 = sigmoid_36 / mul_55;
        const float div_62 = sigmoid_40 / mul_55;
        const float div_63 = sigmoid_44 / mul_55;
        const float recip_64 = 1.0f / mul_55;
        const float mul_65 = g_weights_7_2 * div_63;
        const float neg_66 = -mul_65;
        const float mul_67 = g_weights_6_2 * div_62;
        const float sub_68 = neg_66 - mul_67;
        const float mul_69 = g_weights_5_2 * div_61;
        const float sub_70 = sub_68 - mul_69;
        const float mul_71 = g_weights_4_2 * div_60;
        const float sub_72 = sub_70 - mul_71;
        const float mul_73 = g_weights_3_2 * div_59;
        const float sub_74 = sub_72 - mul_73;
        const float mul_75 = g_weights_2_2 * div_58;
        const float sub_76 = sub_74 - mul_75;
        const float mul_77 = g_weights_1_2 * div_57;
        const float sub_78 = sub_76 - mul_77;
        const float mul_79 = g_weights_0_2 * div_56;
        const float sub_80 = sub_78 - mul_79;
        const float mul_81 = recip_54 * sub_80;
        const float add_82 = g_weights_7_2 + mul_81;
        const float mul_83 = recip_64 * add_82;
        const float sub_85 = 1.0f - sigmoid_44;
        const float mul_86 = sigmoid_44 * sub_85;
        const float mul_87 = mul_83 * mul_86;
        const float add_92 = g_weights_6_2 + mul_81;
        const float mul_93 = recip_64 * add_92;
        const float sub_94 = 1.0f - sigmoid_40;
        const float mul_95 = sigmoid_40 * sub_94;
        const float mul_96 = mul_93 * mul_95;
        const float add_99 = g_weights_5_2 + mul_81;
        const float mul_100 = recip_64 * add_99;
        const float sub_101 = 1.0f - sigmoid_36;
        const float mul_102 = sigmoid_36 * sub_101;
        const float mul_103 = mul_100 * mul_102;
        const float add_106 = g_weights_4_2 + mul_81;
        const float mul_107 = recip_64 * add_106;
        const float sub_108 = 1.0f - sigmoid_32;
        const float mul_109 = sigmoid_32 * sub_108;
        const float mul_110 = mul_107 * mul_109;
        const float add_113 = g_weights_3_2 + mul_81;
        const float mul_114 = recip_64 * add_113;
        const float sub_115 = 1.0f - sigmoid_28;
        const float mul_116 = sigmoid_28 * sub_115;
        const float mul_117 = mul_114 * mul_116;
        const float add_120 = g_weights_2_2 + mul_81;
        const float mul_121 = recip_64 * add_120;
        const float sub_122 = 1.0f - sigmoid_24;
        const float mul_123 = sigmoid_24 * sub_122;
        const float mul_124 = mul_121 * mul_123;
        const float add_127 = g_weights_1_2 + mul_81;
        const float mul_128 = recip_64 * add_127;
        const float sub_129 = 1.0f - sigmoid_20;
        const float mul_130 = sigmoid_20 * sub_129;
        const float mul_131 = mul_128 * mul_130;
        const float add_134 = g_weights_0_2 + mul_81;
        const float mul_135 = recip_64 * add_134;
        const float sub_136 = 1.0f - sigmoid_16;
        const float mul_137 = sigmoid_16 * sub_136;
        const float mul_138 = mul_135 * mul_137;
#pragma unroll
        for (int c_4 = 0; c_4 < 8; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float d_x_chunk[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const long col_5 = (long)(col_4 + i_6);
                const float add_141 = ((i64_42 == col_5) ? mul_87 : 0.0f) + ((i64_38 == col_5) ? mul_96 : 0.0f);
                const float add_143 = ((i64_30 == col_5) ? mul_110 : 0.0f) + (((i64_34 == col_5) ? mul_103 : 0.0f) + add_141);
                const float add_145 = ((i64_22 == col_5) ? mul_124 : 0.0f) + (((i64_26 == col_5) ? mul_117 : 0.0f) + add_143);
                const float add_147 = ((i64_14 == col_5) ? mul_138 : 0.0f) + (((i64_18 == col_5) ? mul_131 : 0.0f) + add_145);
                d_x_chunk[i_6] = add_147;
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

struct zmlx_top_k_gating_bias_vjp_f32_1_args {
    float scale;
    int blocks_;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_top_k_gating_bias_vjp_f32_1(device float* d_b [[buffer(0)]],
    constant zmlx_top_k_gating_bias_vjp_f32_1_args& args [[buffer(1)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const float recip_54 = 1.0f / args.scale;
    if (tid == 0) {
        d_b[0] = 0.0f;
    }
}
