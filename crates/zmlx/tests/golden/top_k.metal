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

struct zmlx_top_k_f32_args {
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_f32(device const float* x [[buffer(0)]],
    device float* values [[buffer(1)]],
    device uint* indices [[buffer(2)]],
    constant zmlx_top_k_f32_args& args [[buffer(3)]],
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
        const float top_1 = (found_col_1[0] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[0]);
        const float top_2 = (found_col_1[1] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[1]);
        const float top_3 = (found_col_1[2] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[2]);
        const float top_4 = (found_col_1[3] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[3]);
        const float top_5 = (found_col_1[4] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[4]);
        const float top_6 = (found_col_1[5] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[5]);
        const float top_7 = (found_col_1[6] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[6]);
        const float top_8 = (found_col_1[7] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[7]);
        const uint argtop_9 = (found_col_1[0] == 4294967295u) ? 0u : found_col_1[0];
        const uint argtop_10 = (found_col_1[1] == 4294967295u) ? 0u : found_col_1[1];
        const uint argtop_11 = (found_col_1[2] == 4294967295u) ? 0u : found_col_1[2];
        const uint argtop_12 = (found_col_1[3] == 4294967295u) ? 0u : found_col_1[3];
        const uint argtop_13 = (found_col_1[4] == 4294967295u) ? 0u : found_col_1[4];
        const uint argtop_14 = (found_col_1[5] == 4294967295u) ? 0u : found_col_1[5];
        const uint argtop_15 = (found_col_1[6] == 4294967295u) ? 0u : found_col_1[6];
        const uint argtop_16 = (found_col_1[7] == 4294967295u) ? 0u : found_col_1[7];
        if (tid == 0) {
            values[base * 8] = top_1;
            values[(base * 8) + 1] = top_2;
            values[(base * 8) + 2] = top_3;
            values[(base * 8) + 3] = top_4;
            values[(base * 8) + 4] = top_5;
            values[(base * 8) + 5] = top_6;
            values[(base * 8) + 6] = top_7;
            values[(base * 8) + 7] = top_8;
            indices[base * 8] = argtop_9;
            indices[(base * 8) + 1] = argtop_10;
            indices[(base * 8) + 2] = argtop_11;
            indices[(base * 8) + 3] = argtop_12;
            indices[(base * 8) + 4] = argtop_13;
            indices[(base * 8) + 5] = argtop_14;
            indices[(base * 8) + 6] = argtop_15;
            indices[(base * 8) + 7] = argtop_16;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_bf16_args {
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_bf16(device const ushort* x [[buffer(0)]],
    device ushort* values [[buffer(1)]],
    device uint* indices [[buffer(2)]],
    constant zmlx_top_k_bf16_args& args [[buffer(3)]],
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
        const float top_1 = (found_col_1[0] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[0]);
        const float top_2 = (found_col_1[1] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[1]);
        const float top_3 = (found_col_1[2] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[2]);
        const float top_4 = (found_col_1[3] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[3]);
        const float top_5 = (found_col_1[4] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[4]);
        const float top_6 = (found_col_1[5] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[5]);
        const float top_7 = (found_col_1[6] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[6]);
        const float top_8 = (found_col_1[7] == 4294967295u) ? (-INFINITY) : unorder_f32(found_1[7]);
        const uint argtop_9 = (found_col_1[0] == 4294967295u) ? 0u : found_col_1[0];
        const uint argtop_10 = (found_col_1[1] == 4294967295u) ? 0u : found_col_1[1];
        const uint argtop_11 = (found_col_1[2] == 4294967295u) ? 0u : found_col_1[2];
        const uint argtop_12 = (found_col_1[3] == 4294967295u) ? 0u : found_col_1[3];
        const uint argtop_13 = (found_col_1[4] == 4294967295u) ? 0u : found_col_1[4];
        const uint argtop_14 = (found_col_1[5] == 4294967295u) ? 0u : found_col_1[5];
        const uint argtop_15 = (found_col_1[6] == 4294967295u) ? 0u : found_col_1[6];
        const uint argtop_16 = (found_col_1[7] == 4294967295u) ? 0u : found_col_1[7];
        if ((lane == 0) && lives) {
            values[row_2 * 8] = f32_to_bf16(top_1);
            values[(row_2 * 8) + 1] = f32_to_bf16(top_2);
            values[(row_2 * 8) + 2] = f32_to_bf16(top_3);
            values[(row_2 * 8) + 3] = f32_to_bf16(top_4);
            values[(row_2 * 8) + 4] = f32_to_bf16(top_5);
            values[(row_2 * 8) + 5] = f32_to_bf16(top_6);
            values[(row_2 * 8) + 6] = f32_to_bf16(top_7);
            values[(row_2 * 8) + 7] = f32_to_bf16(top_8);
            indices[row_2 * 8] = argtop_9;
            indices[(row_2 * 8) + 1] = argtop_10;
            indices[(row_2 * 8) + 2] = argtop_11;
            indices[(row_2 * 8) + 3] = argtop_12;
            indices[(row_2 * 8) + 4] = argtop_13;
            indices[(row_2 * 8) + 5] = argtop_14;
            indices[(row_2 * 8) + 6] = argtop_15;
            indices[(row_2 * 8) + 7] = argtop_16;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_top_k_vjp_f32_args {
    int cols;
    int rows;
    int x_row_stride_0;
    int g_values_0_row_stride_0;
    int g_values_1_row_stride_0;
    int g_values_2_row_stride_0;
    int g_values_3_row_stride_0;
    int g_values_4_row_stride_0;
    int g_values_5_row_stride_0;
    int g_values_6_row_stride_0;
    int g_values_7_row_stride_0;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_top_k_vjp_f32(device const float* x [[buffer(0)]],
    device const float* g_values_0 [[buffer(1)]],
    device const float* g_values_1 [[buffer(2)]],
    device const float* g_values_2 [[buffer(3)]],
    device const float* g_values_3 [[buffer(4)]],
    device const float* g_values_4 [[buffer(5)]],
    device const float* g_values_5 [[buffer(6)]],
    device const float* g_values_6 [[buffer(7)]],
    device const float* g_values_7 [[buffer(8)]],
    device float* d_x [[buffer(9)]],
    constant zmlx_top_k_vjp_f32_args& args [[buffer(10)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_9_of_warp[32];
    threadgroup uint found_col_9_of_warp[32];
    const long cols = (long)args.cols;
    const bool lt_19 = 7L < cols;
    const bool lt_27 = 6L < cols;
    const bool lt_33 = 5L < cols;
    const bool lt_39 = 4L < cols;
    const bool lt_45 = 3L < cols;
    const bool lt_51 = 2L < cols;
    const bool lt_57 = 1L < cols;
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int g_values_0_row = base * args.g_values_0_row_stride_0;
        const int g_values_1_row = base * args.g_values_1_row_stride_0;
        const int g_values_2_row = base * args.g_values_2_row_stride_0;
        const int g_values_3_row = base * args.g_values_3_row_stride_0;
        const int g_values_4_row = base * args.g_values_4_row_stride_0;
        const int g_values_5_row = base * args.g_values_5_row_stride_0;
        const int g_values_6_row = base * args.g_values_6_row_stride_0;
        const int g_values_7_row = base * args.g_values_7_row_stride_0;
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
        const float g_values_0_2 = g_values_0[g_values_0_row];
        const float g_values_1_2 = g_values_1[g_values_1_row];
        const float g_values_2_2 = g_values_2[g_values_2_row];
        const float g_values_3_2 = g_values_3[g_values_3_row];
        const float g_values_4_2 = g_values_4[g_values_4_row];
        const float g_values_5_2 = g_values_5[g_values_5_row];
        const float g_values_6_2 = g_values_6[g_values_6_row];
        const float g_values_7_2 = g_values_7[g_values_7_row];
        const float where_21 = lt_19 ? g_values_7_2 : 0.0f;
        const float where_28 = lt_27 ? g_values_6_2 : 0.0f;
        const float where_34 = lt_33 ? g_values_5_2 : 0.0f;
        const float where_40 = lt_39 ? g_values_4_2 : 0.0f;
        const float where_46 = lt_45 ? g_values_3_2 : 0.0f;
        const float where_52 = lt_51 ? g_values_2_2 : 0.0f;
        const float where_58 = lt_57 ? g_values_1_2 : 0.0f;
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
        const uint argtop_9 = (found_col_9[0] == 4294967295u) ? 0u : found_col_9[0];
        const uint argtop_10 = (found_col_9[1] == 4294967295u) ? 0u : found_col_9[1];
        const uint argtop_11 = (found_col_9[2] == 4294967295u) ? 0u : found_col_9[2];
        const uint argtop_12 = (found_col_9[3] == 4294967295u) ? 0u : found_col_9[3];
        const uint argtop_13 = (found_col_9[4] == 4294967295u) ? 0u : found_col_9[4];
        const uint argtop_14 = (found_col_9[5] == 4294967295u) ? 0u : found_col_9[5];
        const uint argtop_15 = (found_col_9[6] == 4294967295u) ? 0u : found_col_9[6];
        const uint argtop_16 = (found_col_9[7] == 4294967295u) ? 0u : found_col_9[7];
        const long i64_23 = (long)argtop_16;
        const long i64_29 = (long)argtop_15;
        const long i64_35 = (long)argtop_14;
        const long i64_41 = (long)argtop_13;
        const long i64_47 = (long)argtop_12;
        const long i64_53 = (long)argtop_11;
        const long i64_59 = (long)argtop_10;
        const long i64_62 = (long)argtop_9;
#pragma unroll
        for (int c_4 = 0; c_4 < 8; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float d_x_chunk[4];
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                const long col_5 = (long)(col_4 + i_4);
                const float add_65 = ((col_5 == i64_23) ? where_21 : 0.0f) + ((col_5 == i64_29) ? where_28 : 0.0f);
                const float add_67 = ((col_5 == i64_41) ? where_40 : 0.0f) + (((col_5 == i64_35) ? where_34 : 0.0f) + add_65);
                const float add_69 = ((col_5 == i64_53) ? where_52 : 0.0f) + (((col_5 == i64_47) ? where_46 : 0.0f) + add_67);
                const float add_71 = ((col_5 == i64_62) ? g_values_0_2 : 0.0f) + (((col_5 == i64_59) ? where_58 : 0.0f) + add_69);
                d_x_chunk[i_4] = add_71;
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
