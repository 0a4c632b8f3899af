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

static inline float unorder_f32(int x) {
    return as_type<float>((uint)(x ^ ((x >> 31) & 2147483647)));
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

struct zmlx_top_k_gating_f32_args {
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_f32(device const float* x [[buffer(0)]],
    device float* weights [[buffer(1)]],
    device uint* experts [[buffer(2)]],
    constant zmlx_top_k_gating_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_1_of_warp[32];
    threadgroup uint found_col_1_of_warp[32];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int shift = (x_row + args.x_shift) & 3;
        const bool x_vectors = args.x_col == 1;
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
        int found_1[8];
        uint found_col_1[8];
        int best_1[8];
        uint best_col_1[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_1[j] = -2147483647 - 1;
            best_col_1[j] = 4294967295u;
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 8; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    const int key = order_f32(x_held[(c_3 * 4) + i_2]);
                    const uint key_col = (uint)(col_3 + i_2);
                    if (key > best_1[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 4) + i_2)) && (key > best_1[7 - j_2])) {
                                const bool passes = key > best_1[(7 - j_2) - 1];
                                best_1[7 - j_2] = passes ? best_1[(7 - j_2) - 1] : key;
                                best_col_1[7 - j_2] = passes ? best_col_1[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_1[0]) {
                            best_1[0] = key;
                            best_col_1[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    const int key_2 = order_f32(x_held[(c_3 * 4) + i_3]);
                    const uint key_col_2 = (uint)(col_3 + i_3);
                    if (inside && (key_2 > best_1[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 4) + i_3)) && (key_2 > best_1[7 - j_3])) {
                                const bool passes_2 = key_2 > best_1[(7 - j_3) - 1];
                                best_1[7 - j_3] = passes_2 ? best_1[(7 - j_3) - 1] : key_2;
                                best_col_1[7 - j_3] = passes_2 ? best_col_1[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_1[0]) {
                            best_1[0] = key_2;
                            best_col_1[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_1[0];
            uint won_2 = best_col_1[0];
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
            found_1[r] = won;
            found_col_1[r] = won_2;
            if (won_2 == best_col_1[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_1[7 - (7 - j_4)] = best_1[(7 - (7 - j_4)) + 1];
                        best_col_1[7 - (7 - j_4)] = best_col_1[(7 - (7 - j_4)) + 1];
                    }
                }
                best_1[7] = -2147483647 - 1;
                best_col_1[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_1_of_warp[(warp * 8) + r_2] = found_1[r_2];
                found_col_1_of_warp[(warp * 8) + r_2] = found_col_1[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 128) * 4) + (tid & 3)) * 8;
        int next = 0;
        int head = found_1_of_warp[list];
        uint head_2 = found_col_1_of_warp[list];
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
            found_1[r_3] = won_3;
            found_col_1[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_1_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_1_of_warp[list + next] : 4294967295u;
            }
        }
        const float top_1 = (found_col_1[1] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[1]);
        const float top_2 = (found_col_1[0] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[0]);
        const float top_5 = (found_col_1[2] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[2]);
        const float top_8 = (found_col_1[3] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[3]);
        const float top_11 = (found_col_1[4] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[4]);
        const float top_14 = (found_col_1[5] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[5]);
        const float top_17 = (found_col_1[6] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[6]);
        const float top_20 = (found_col_1[7] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[7]);
        const uint argtop_39 = (found_col_1[0] == 4294967295u) ? 0u : found_col_1[0];
        const uint argtop_40 = (found_col_1[1] == 4294967295u) ? 0u : found_col_1[1];
        const uint argtop_41 = (found_col_1[2] == 4294967295u) ? 0u : found_col_1[2];
        const uint argtop_42 = (found_col_1[3] == 4294967295u) ? 0u : found_col_1[3];
        const uint argtop_43 = (found_col_1[4] == 4294967295u) ? 0u : found_col_1[4];
        const uint argtop_44 = (found_col_1[5] == 4294967295u) ? 0u : found_col_1[5];
        const uint argtop_45 = (found_col_1[6] == 4294967295u) ? 0u : found_col_1[6];
        const uint argtop_46 = (found_col_1[7] == 4294967295u) ? 0u : found_col_1[7];
        const float sub_3 = top_1 - top_2;
        const float exp_4 = metal::precise::exp(sub_3);
        const float sub_6 = top_5 - top_2;
        const float exp_7 = metal::precise::exp(sub_6);
        const float sub_9 = top_8 - top_2;
        const float exp_10 = metal::precise::exp(sub_9);
        const float sub_12 = top_11 - top_2;
        const float exp_13 = metal::precise::exp(sub_12);
        const float sub_15 = top_14 - top_2;
        const float exp_16 = metal::precise::exp(sub_15);
        const float sub_18 = top_17 - top_2;
        const float exp_19 = metal::precise::exp(sub_18);
        const float sub_21 = top_20 - top_2;
        const float exp_22 = metal::precise::exp(sub_21);
        const float add_24 = exp_4 + 1.0f;
        const float add_25 = exp_7 + add_24;
        const float add_26 = exp_10 + add_25;
        const float add_27 = exp_13 + add_26;
        const float add_28 = exp_16 + add_27;
        const float add_29 = exp_19 + add_28;
        const float add_30 = exp_22 + add_29;
        const float recip_31 = 1.0f / add_30;
        const float div_32 = exp_4 / add_30;
        const float div_33 = exp_7 / add_30;
        const float div_34 = exp_10 / add_30;
        const float div_35 = exp_13 / add_30;
        const float div_36 = exp_16 / add_30;
        const float div_37 = exp_19 / add_30;
        const float div_38 = exp_22 / add_30;
        if (tid == 0) {
            weights[base * 8] = recip_31;
            weights[(base * 8) + 1] = div_32;
            weights[(base * 8) + 2] = div_33;
            weights[(base * 8) + 3] = div_34;
            weights[(base * 8) + 4] = div_35;
            weights[(base * 8) + 5] = div_36;
            weights[(base * 8) + 6] = div_37;
            weights[(base * 8) + 7] = div_38;
            experts[base * 8] = argtop_39;
            experts[(base * 8) + 1] = argtop_40;
            experts[(base * 8) + 2] = argtop_41;
            experts[(base * 8) + 3] = argtop_42;
            experts[(base * 8) + 4] = argtop_43;
            experts[(base * 8) + 5] = argtop_44;
            experts[(base * 8) + 6] = argtop_45;
            experts[(base * 8) + 7] = argtop_46;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_gating_bf16_args {
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_bf16(device const ushort* x [[buffer(0)]],
    device ushort* weights [[buffer(1)]],
    device uint* experts [[buffer(2)]],
    constant zmlx_top_k_gating_bf16_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_1_of_warp[32];
    threadgroup uint found_col_1_of_warp[32];
    const int lane = tid & 63;
    const int sub = tid / 64;
    for (int base = bid * 2; base < args.rows; base += blocks * 2) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int x_row = row_2 * args.x_row_stride_0;
        const int shift = (x_row + args.x_shift) & 7;
        const bool x_vectors = args.x_col == 1;
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
        int found_1[8];
        uint found_col_1[8];
        int best_1[8];
        uint best_col_1[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_1[j] = -2147483647 - 1;
            best_col_1[j] = 4294967295u;
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 8; c_3++) {
            const int col_3 = ((lane_2 + (c_3 * 64)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    const int key = order_f32(half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1));
                    const uint key_col = (uint)(col_3 + i_2);
                    if (key > best_1[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 8) + i_2)) && (key > best_1[7 - j_2])) {
                                const bool passes = key > best_1[(7 - j_2) - 1];
                                best_1[7 - j_2] = passes ? best_1[(7 - j_2) - 1] : key;
                                best_col_1[7 - j_2] = passes ? best_col_1[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_1[0]) {
                            best_1[0] = key;
                            best_col_1[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    const int key_2 = order_f32(half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1));
                    const uint key_col_2 = (uint)(col_3 + i_3);
                    if (inside && (key_2 > best_1[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 8) + i_3)) && (key_2 > best_1[7 - j_3])) {
                                const bool passes_2 = key_2 > best_1[(7 - j_3) - 1];
                                best_1[7 - j_3] = passes_2 ? best_1[(7 - j_3) - 1] : key_2;
                                best_col_1[7 - j_3] = passes_2 ? best_col_1[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_1[0]) {
                            best_1[0] = key_2;
                            best_col_1[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_1[0];
            uint won_2 = best_col_1[0];
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
            found_1[r] = won;
            found_col_1[r] = won_2;
            if (won_2 == best_col_1[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_1[7 - (7 - j_4)] = best_1[(7 - (7 - j_4)) + 1];
                        best_col_1[7 - (7 - j_4)] = best_col_1[(7 - (7 - j_4)) + 1];
                    }
                }
                best_1[7] = -2147483647 - 1;
                best_col_1[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_1_of_warp[(warp * 8) + r_2] = found_1[r_2];
                found_col_1_of_warp[(warp * 8) + r_2] = found_col_1[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 64) * 2) + (tid & 1)) * 8;
        int next = 0;
        int head = found_1_of_warp[list];
        uint head_2 = found_col_1_of_warp[list];
#pragma unroll
        for (int r_3 = 0; r_3 < 8; r_3++) {
            int won_3 = head;
            uint won_4 = head_2;
            const int other_11 = simd_shuffle_xor(won_3, (ushort)1);
            const uint other_12 = simd_shuffle_xor(won_4, (ushort)1);
            const bool better_6 = (other_11 > won_3) || ((other_11 == won_3) && (other_12 < won_4));
            won_3 = better_6 ? other_11 : won_3;
            won_4 = better_6 ? other_12 : won_4;
            found_1[r_3] = won_3;
            found_col_1[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_1_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_1_of_warp[list + next] : 4294967295u;
            }
        }
        const float top_1 = (found_col_1[1] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[1]);
        const float top_2 = (found_col_1[0] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[0]);
        const float top_5 = (found_col_1[2] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[2]);
        const float top_8 = (found_col_1[3] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[3]);
        const float top_11 = (found_col_1[4] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[4]);
        const float top_14 = (found_col_1[5] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[5]);
        const float top_17 = (found_col_1[6] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[6]);
        const float top_20 = (found_col_1[7] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[7]);
        const uint argtop_39 = (found_col_1[0] == 4294967295u) ? 0u : found_col_1[0];
        const uint argtop_40 = (found_col_1[1] == 4294967295u) ? 0u : found_col_1[1];
        const uint argtop_41 = (found_col_1[2] == 4294967295u) ? 0u : found_col_1[2];
        const uint argtop_42 = (found_col_1[3] == 4294967295u) ? 0u : found_col_1[3];
        const uint argtop_43 = (found_col_1[4] == 4294967295u) ? 0u : found_col_1[4];
        const uint argtop_44 = (found_col_1[5] == 4294967295u) ? 0u : found_col_1[5];
        const uint argtop_45 = (found_col_1[6] == 4294967295u) ? 0u : found_col_1[6];
        const uint argtop_46 = (found_col_1[7] == 4294967295u) ? 0u : found_col_1[7];
        const float sub_3 = top_1 - top_2;
        const float exp_4 = metal::precise::exp(sub_3);
        const float sub_6 = top_5 - top_2;
        const float exp_7 = metal::precise::exp(sub_6);
        const float sub_9 = top_8 - top_2;
        const float exp_10 = metal::precise::exp(sub_9);
        const float sub_12 = top_11 - top_2;
        const float exp_13 = metal::precise::exp(sub_12);
        const float sub_15 = top_14 - top_2;
        const float exp_16 = metal::precise::exp(sub_15);
        const float sub_18 = top_17 - top_2;
        const float exp_19 = metal::precise::exp(sub_18);
        const float sub_21 = top_20 - top_2;
        const float exp_22 = metal::precise::exp(sub_21);
        const float add_24 = exp_4 + 1.0f;
        const float add_25 = exp_7 + add_24;
        const float add_26 = exp_10 + add_25;
        const float add_27 = exp_13 + add_26;
        const float add_28 = exp_16 + add_27;
        const float add_29 = exp_19 + add_28;
        const float add_30 = exp_22 + add_29;
        const float recip_31 = 1.0f / add_30;
        const float div_32 = exp_4 / add_30;
        const float div_33 = exp_7 / add_30;
        const float div_34 = exp_10 / add_30;
        const float div_35 = exp_13 / add_30;
        const float div_36 = exp_16 / add_30;
        const float div_37 = exp_19 / add_30;
        const float div_38 = exp_22 / add_30;
        if ((lane == 0) && lives) {
            weights[row_2 * 8] = f32_to_bf16(recip_31);
            weights[(row_2 * 8) + 1] = f32_to_bf16(div_32);
            weights[(row_2 * 8) + 2] = f32_to_bf16(div_33);
            weights[(row_2 * 8) + 3] = f32_to_bf16(div_34);
            weights[(row_2 * 8) + 4] = f32_to_bf16(div_35);
            weights[(row_2 * 8) + 5] = f32_to_bf16(div_36);
            weights[(row_2 * 8) + 6] = f32_to_bf16(div_37);
            weights[(row_2 * 8) + 7] = f32_to_bf16(div_38);
            experts[row_2 * 8] = argtop_39;
            experts[(row_2 * 8) + 1] = argtop_40;
            experts[(row_2 * 8) + 2] = argtop_41;
            experts[(row_2 * 8) + 3] = argtop_42;
            experts[(row_2 * 8) + 4] = argtop_43;
            experts[(row_2 * 8) + 5] = argtop_44;
            experts[(row_2 * 8) + 6] = argtop_45;
            experts[(row_2 * 8) + 7] = argtop_46;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_gating_vjp_f32_args {
    int cols;
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
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_gating_vjp_f32(device const float* x [[buffer(0)]],
    device const float* g_weights_0 [[buffer(1)]],
    device const float* g_weights_1 [[buffer(2)]],
    device const float* g_weights_2 [[buffer(3)]],
    device const float* g_weights_3 [[buffer(4)]],
    device const float* g_weights_4 [[buffer(5)]],
    device const float* g_weights_5 [[buffer(6)]],
    device const float* g_weights_6 [[buffer(7)]],
    device const float* g_weights_7 [[buffer(8)]],
    device float* d_x [[buffer(9)]],
    constant zmlx_top_k_gating_vjp_f32_args& args [[buffer(10)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_9_of_warp[32];
    threadgroup uint found_col_9_of_warp[32];
    const long cols = (long)args.cols;
    const bool lt_77 = 7L < cols;
    const bool lt_87 = 6L < cols;
    const bool lt_95 = 5L < cols;
    const bool lt_103 = 4L < cols;
    const bool lt_111 = 3L < cols;
    const bool lt_119 = 2L < cols;
    const bool lt_136 = 1L < cols;
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
        int found_9[8];
        uint found_col_9[8];
        int best_9[8];
        uint best_col_9[8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            best_9[j] = -2147483647 - 1;
            best_col_9[j] = 4294967295u;
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 8; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    const int key = order_f32(x_held[(c_3 * 4) + i_2]);
                    const uint key_col = (uint)(col_3 + i_2);
                    if (key > best_9[7]) {
#pragma unroll
                        for (int j_2 = 0; j_2 < 7; j_2++) {
                            if (((7 - j_2) <= ((c_3 * 4) + i_2)) && (key > best_9[7 - j_2])) {
                                const bool passes = key > best_9[(7 - j_2) - 1];
                                best_9[7 - j_2] = passes ? best_9[(7 - j_2) - 1] : key;
                                best_col_9[7 - j_2] = passes ? best_col_9[(7 - j_2) - 1] : key_col;
                            }
                        }
                        if (key > best_9[0]) {
                            best_9[0] = key;
                            best_col_9[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    const int key_2 = order_f32(x_held[(c_3 * 4) + i_3]);
                    const uint key_col_2 = (uint)(col_3 + i_3);
                    if (inside && (key_2 > best_9[7])) {
#pragma unroll
                        for (int j_3 = 0; j_3 < 7; j_3++) {
                            if (((7 - j_3) <= ((c_3 * 4) + i_3)) && (key_2 > best_9[7 - j_3])) {
                                const bool passes_2 = key_2 > best_9[(7 - j_3) - 1];
                                best_9[7 - j_3] = passes_2 ? best_9[(7 - j_3) - 1] : key_2;
                                best_col_9[7 - j_3] = passes_2 ? best_col_9[(7 - j_3) - 1] : key_col_2;
                            }
                        }
                        if (key_2 > best_9[0]) {
                            best_9[0] = key_2;
                            best_col_9[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 8; r++) {
            int won = best_9[0];
            uint won_2 = best_col_9[0];
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
            found_9[r] = won;
            found_col_9[r] = won_2;
            if (won_2 == best_col_9[0]) {
#pragma unroll
                for (int j_4 = 0; j_4 < 7; j_4++) {
                    if ((7 - (7 - j_4)) < (7 - r)) {
                        best_9[7 - (7 - j_4)] = best_9[(7 - (7 - j_4)) + 1];
                        best_col_9[7 - (7 - j_4)] = best_col_9[(7 - (7 - j_4)) + 1];
                    }
                }
                best_9[7] = -2147483647 - 1;
                best_col_9[7] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 8; r_2++) {
                found_9_of_warp[(warp * 8) + r_2] = found_9[r_2];
                found_col_9_of_warp[(warp * 8) + r_2] = found_col_9[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 128) * 4) + (tid & 3)) * 8;
        int next = 0;
        int head = found_9_of_warp[list];
        uint head_2 = found_col_9_of_warp[list];
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
            found_9[r_3] = won_3;
            found_col_9[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 8;
                head = more ? found_9_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_9_of_warp[list + next] : 4294967295u;
            }
        }
        const float top_9 = (found_col_9[1] == 4294967295u) ? (-INFINITY) : unorder_f32(found_9[1]);
        const float top_10 = (found_col_9[0] == 4294967295u) ? (-INFINITY) : unorder_f32(found_9[0]);
        const float top_13 = (found_col_9[2] == 4294967295u) ? (-INFINITY) : unorder_f32(found_9[2]);
        const float top_16 = (found_col_9[3] == 4294967295u) ? (-INFINITY) : unorder_f32(found_9[3]);
        const float top_19 = (found_col_9[4] == 4294967295u) ? (-INFINITY) : unorder_f32(found_9[4]);
        const float top_22 = (found_col_9[5] == 4294967295u) ? (-INFINITY) : unorder_f32(found_9[5]);
        const float top_25 = (found_col_9[6] == 4294967295u) ? (-INFINITY) : unorder_f32(found_9[6]);
        const float top_28 = (found_col_9[7] == 4294967295u) ? (-INFINITY) : unorder_f32(found_9[7]);
        const uint argtop_47 = (found_col_9[0] == 4294967295u) ? 0u : found_col_9[0];
        const uint argtop_48 = (found_col_9[1] == 4294967295u) ? 0u : found_col_9[1];
        const uint argtop_49 = (found_col_9[2] == 4294967295u) ? 0u : found_col_9[2];
        const uint argtop_50 = (found_col_9[3] == 4294967295u) ? 0u : found_col_9[3];
        const uint argtop_51 = (found_col_9[4] == 4294967295u) ? 0u : found_col_9[4];
        const uint argtop_52 = (found_col_9[5] == 4294967295u) ? 0u : found_col_9[5];
        const uint argtop_53 = (found_col_9[6] == 4294967295u) ? 0u : found_col_9[6];
        const uint argtop_54 = (found_col_9[7] == 4294967295u) ? 0u : found_col_9[7];
        const float sub_11 = top_9 - top_10;
        const float exp_12 = metal::precise::exp(sub_11);
        const float sub_14 = top_13 - top_10;
        const float exp_15 = metal::precise::exp(sub_14);
        const float sub_17 = top_16 - top_10;
        const float exp_18 = metal::precise::exp(sub_17);
        const float sub_20 = top_19 - top_10;
        const float exp_21 = metal::precise::exp(sub_20);
        const float sub_23 = top_22 - top_10;
        const float exp_24 = metal::precise::exp(sub_23);
        const float sub_26 = top_25 - top_10;
        const float exp_27 = metal::precise::exp(sub_26);
        const float sub_29 = top_28 - top_10;
        const float exp_30 = metal::precise::exp(sub_29);
        const float add_32 = exp_12 + 1.0f;
        const float add_33 = exp_15 + add_32;
        const float add_34 = exp_18 + add_33;
        const float add_35 = exp_21 + add_34;
        const float add_36 = exp_24 + add_35;
        const float add_37 = exp_27 + add_36;
        const float add_38 = exp_30 + add_37;
        const float recip_39 = 1.0f / add_38;
        const float div_40 = exp_12 / add_38;
        const float div_41 = exp_15 / add_38;
        const float div_42 = exp_18 / add_38;
        const float div_43 = exp_21 / add_38;
        const float div_44 = exp_24 / add_38;
        const float div_45 = exp_27 / add_38;
        const float div_46 = exp_30 / add_38;
        const float mul_55 = g_weights_7_2 * div_46;
        const float neg_56 = -mul_55;
        const float mul_57 = g_weights_6_2 * div_45;
        const float sub_58 = neg_56 - mul_57;
        const float mul_59 = g_weights_5_2 * div_44;
        const float sub_60 = sub_58 - mul_59;
        const float mul_61 = g_weights_4_2 * div_43;
        const float sub_62 = sub_60 - mul_61;
        const float mul_63 = g_weights_3_2 * div_42;
        const float sub_64 = sub_62 - mul_63;
        const float mul_65 = g_weights_2_2 * div_41;
        const float sub_66 = sub_64 - mul_65;
        const float mul_67 = g_weights_1_2 * div_40;
        const float sub_68 = sub_66 - mul_67;
        const float mul_69 = g_weights_0_2 * recip_39;
        const float sub_70 = sub_68 - mul_69;
        const float mul_71 = recip_39 * sub_70;
        const float fma_72 = metal::fma(g_weights_7_2, recip_39, mul_71);
        const float mul_73 = exp_30 * fma_72;
        const float neg_74 = -mul_73;
        const float where_79 = lt_77 ? mul_73 : 0.0f;
        const long i64_81 = (long)argtop_54;
        const float fma_84 = metal::fma(g_weights_6_2, recip_39, mul_71);
        const float mul_85 = exp_27 * fma_84;
        const float where_88 = lt_87 ? mul_85 : 0.0f;
        const long i64_89 = (long)argtop_53;
        const float fma_92 = metal::fma(g_weights_5_2, recip_39, mul_71);
        const float mul_93 = exp_24 * fma_92;
        const float where_96 = lt_95 ? mul_93 : 0.0f;
        const long i64_97 = (long)argtop_52;
        const float fma_100 = metal::fma(g_weights_4_2, recip_39, mul_71);
        const float mul_101 = exp_21 * fma_100;
        const float where_104 = lt_103 ? mul_101 : 0.0f;
        const long i64_105 = (long)argtop_51;
        const float fma_108 = metal::fma(g_weights_3_2, recip_39, mul_71);
        const float mul_109 = exp_18 * fma_108;
        const float where_112 = lt_111 ? mul_109 : 0.0f;
        const long i64_113 = (long)argtop_50;
        const float fma_116 = metal::fma(g_weights_2_2, recip_39, mul_71);
        const float mul_117 = exp_15 * fma_116;
        const float where_120 = lt_119 ? mul_117 : 0.0f;
        const long i64_121 = (long)argtop_49;
        const float fma_124 = metal::fma(g_weights_1_2, recip_39, mul_71);
        const float mul_125 = exp_12 * fma_124;
        const float sub_126 = neg_74 - mul_85;
        const float sub_127 = sub_126 - mul_93;
        const float sub_128 = sub_127 - mul_101;
        const float sub_129 = sub_128 - mul_109;
        const float sub_130 = sub_129 - mul_117;
        const float sub_131 = sub_130 - mul_125;
        const long i64_132 = (long)argtop_47;
        const float where_137 = lt_136 ? mul_125 : 0.0f;
        const long i64_138 = (long)argtop_48;
#pragma unroll
        for (int c_4 = 0; c_4 < 8; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float d_x_chunk[4];
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                const long col_5 = (long)(col_4 + i_4);
                const float add_141 = ((col_5 == i64_81) ? where_79 : 0.0f) + ((col_5 == i64_89) ? where_88 : 0.0f);
                const float add_143 = ((col_5 == i64_105) ? where_104 : 0.0f) + (((col_5 == i64_97) ? where_96 : 0.0f) + add_141);
                const float add_145 = ((col_5 == i64_121) ? where_120 : 0.0f) + (((col_5 == i64_113) ? where_112 : 0.0f) + add_143);
                const float add_147 = ((col_5 == i64_138) ? where_137 : 0.0f) + (((col_5 == i64_132) ? sub_131 : 0.0f) + add_145);
                d_x_chunk[i_4] = add_147;
            }
            if (full_3) {
                store_f32x4(&d_x[d_x_row + col_4], &d_x_chunk[0]);
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    if ((0 <= (col_4 + i_5)) && ((col_4 + i_5) < args.cols)) {
                        d_x[d_x_row + (col_4 + i_5)] = d_x_chunk[i_5];
                    }
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
