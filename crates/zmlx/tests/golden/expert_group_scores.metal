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

static inline void copy_bf16x8(device const ushort* p, thread uint* w) {
    const uint4 t = *(device const uint4*)p;
    w[0] = t.x;
    w[1] = t.y;
    w[2] = t.z;
    w[3] = t.w;
}

struct zmlx_expert_group_scores_f32_args {
    int rows;
    int x_row_stride_0;
    int b_row_stride_0;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_expert_group_scores_f32(device const float* x [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device float* y [[buffer(2)]],
    constant zmlx_expert_group_scores_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_4_of_warp[8];
    threadgroup uint found_col_4_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int b_row = base * args.b_row_stride_0;
        const int shift = (x_row + args.x_shift) & 3;
        const bool x_vectors = args.x_col == 1;
        const bool b_vectors = ((((b_row + args.b_shift) - shift) & 3) == 0) && (args.b_col == 1);
        const int lane = tid;
        float x_held[32];
        float b_held[32];
        if ((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3588) <= args.cols)) && x_vectors) && b_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 8; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
                load_f32x4(&b[b_row + col_2], &b_held[c_2 * 4]);
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
        int found_4[2];
        uint found_col_4[2];
        int best_4[2];
        uint best_col_4[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            best_4[j] = -2147483647 - 1;
            best_col_4[j] = 4294967295u;
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 8; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float term_3[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const float add_3 = b_held[(c_3 * 4) + i_3] + sigmoid_f32(x_held[(c_3 * 4) + i_3]);
                term_3[i_3] = add_3;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const int key = order_f32(term_3[i_4]);
                    const uint key_col = (uint)(col_3 + i_4);
                    if (key > best_4[1]) {
                        if ((1 <= ((c_3 * 4) + i_4)) && (key > best_4[1])) {
                            const bool passes = key > best_4[1 - 1];
                            best_4[1] = passes ? best_4[1 - 1] : key;
                            best_col_4[1] = passes ? best_col_4[1 - 1] : key_col;
                        }
                        if (key > best_4[0]) {
                            best_4[0] = key;
                            best_col_4[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    const int key_2 = order_f32(term_3[i_5]);
                    const uint key_col_2 = (uint)(col_3 + i_5);
                    if (inside && (key_2 > best_4[1])) {
                        if ((1 <= ((c_3 * 4) + i_5)) && (key_2 > best_4[1])) {
                            const bool passes_2 = key_2 > best_4[1 - 1];
                            best_4[1] = passes_2 ? best_4[1 - 1] : key_2;
                            best_col_4[1] = passes_2 ? best_col_4[1 - 1] : key_col_2;
                        }
                        if (key_2 > best_4[0]) {
                            best_4[0] = key_2;
                            best_col_4[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int won = best_4[0];
            uint won_2 = best_col_4[0];
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
            found_4[r] = won;
            found_col_4[r] = won_2;
            if (won_2 == best_col_4[0]) {
                if ((1 - 1) < (1 - r)) {
                    best_4[1 - 1] = best_4[(1 - 1) + 1];
                    best_col_4[1 - 1] = best_col_4[(1 - 1) + 1];
                }
                best_4[1] = -2147483647 - 1;
                best_col_4[1] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 2; r_2++) {
                found_4_of_warp[(warp * 2) + r_2] = found_4[r_2];
                found_col_4_of_warp[(warp * 2) + r_2] = found_col_4[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 128) * 4) + (tid & 3)) * 2;
        int next = 0;
        int head = found_4_of_warp[list];
        uint head_2 = found_col_4_of_warp[list];
#pragma unroll
        for (int r_3 = 0; r_3 < 2; r_3++) {
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
            found_4[r_3] = won_3;
            found_col_4[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 2;
                head = more ? found_4_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_4_of_warp[list + next] : 4294967295u;
            }
        }
        const float top_4 = (found_col_4[0] == 4294967295u) ? (-INFINITY) : unorder_f32(found_4[0]);
        const float top_5 = (found_col_4[1] == 4294967295u) ? (-INFINITY) : unorder_f32(found_4[1]);
        const float add_6 = top_4 + top_5;
        if (tid == 0) {
            y[base] = add_6;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_expert_group_scores_bf16_args {
    int rows;
    int x_row_stride_0;
    int b_row_stride_0;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_expert_group_scores_bf16(device const ushort* x [[buffer(0)]],
    device const ushort* b [[buffer(1)]],
    device float* y [[buffer(2)]],
    constant zmlx_expert_group_scores_bf16_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup int found_4_of_warp[8];
    threadgroup uint found_col_4_of_warp[8];
    const int lane = tid & 63;
    const int sub = tid / 64;
    for (int base = bid * 2; base < args.rows; base += blocks * 2) {
        const int row = base + sub;
        const bool lives = row < args.rows;
        const int row_2 = min_i32(row, (args.rows - 1));
        const int x_row = row_2 * args.x_row_stride_0;
        const int b_row = row_2 * args.b_row_stride_0;
        const int shift = (x_row + args.x_shift) & 7;
        const bool x_vectors = args.x_col == 1;
        const bool b_vectors = ((((b_row + args.b_shift) - shift) & 7) == 0) && (args.b_col == 1);
        const int lane_2 = lane;
        uint x_held[32];
        uint b_held[32];
        if ((((0 <= ((lane_2 * 8) - shift)) && ((((lane_2 * 8) - shift) + 3592) <= args.cols)) && x_vectors) && b_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 8; c_2++) {
                const int col_2 = ((lane_2 + (c_2 * 64)) * 8) - shift;
                copy_bf16x8(&x[x_row + col_2], &x_held[(c_2 * 8) / 2]);
                copy_bf16x8(&b[b_row + col_2], &b_held[(c_2 * 8) / 2]);
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
        int found_4[2];
        uint found_col_4[2];
        int best_4[2];
        uint best_col_4[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            best_4[j] = -2147483647 - 1;
            best_col_4[j] = 4294967295u;
        }
#pragma unroll
        for (int c_3 = 0; c_3 < 8; c_3++) {
            const int col_3 = ((lane_2 + (c_3 * 64)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            float term_3[8];
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                const float add_3 = half_bf16(b_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1) + sigmoid_f32(half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1));
                term_3[i_3] = add_3;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    const int key = order_f32(term_3[i_4]);
                    const uint key_col = (uint)(col_3 + i_4);
                    if (key > best_4[1]) {
                        if ((1 <= ((c_3 * 8) + i_4)) && (key > best_4[1])) {
                            const bool passes = key > best_4[1 - 1];
                            best_4[1] = passes ? best_4[1 - 1] : key;
                            best_col_4[1] = passes ? best_col_4[1 - 1] : key_col;
                        }
                        if (key > best_4[0]) {
                            best_4[0] = key;
                            best_col_4[0] = key_col;
                        }
                    }
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    const int key_2 = order_f32(term_3[i_5]);
                    const uint key_col_2 = (uint)(col_3 + i_5);
                    if (inside && (key_2 > best_4[1])) {
                        if ((1 <= ((c_3 * 8) + i_5)) && (key_2 > best_4[1])) {
                            const bool passes_2 = key_2 > best_4[1 - 1];
                            best_4[1] = passes_2 ? best_4[1 - 1] : key_2;
                            best_col_4[1] = passes_2 ? best_col_4[1 - 1] : key_col_2;
                        }
                        if (key_2 > best_4[0]) {
                            best_4[0] = key_2;
                            best_col_4[0] = key_col_2;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int won = best_4[0];
            uint won_2 = best_col_4[0];
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
            found_4[r] = won;
            found_col_4[r] = won_2;
            if (won_2 == best_col_4[0]) {
                if ((1 - 1) < (1 - r)) {
                    best_4[1 - 1] = best_4[(1 - 1) + 1];
                    best_col_4[1 - 1] = best_col_4[(1 - 1) + 1];
                }
                best_4[1] = -2147483647 - 1;
                best_col_4[1] = 4294967295u;
            }
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
#pragma unroll
            for (int r_2 = 0; r_2 < 2; r_2++) {
                found_4_of_warp[(warp * 2) + r_2] = found_4[r_2];
                found_col_4_of_warp[(warp * 2) + r_2] = found_col_4[r_2];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        const int list = (((tid / 64) * 2) + (tid & 1)) * 2;
        int next = 0;
        int head = found_4_of_warp[list];
        uint head_2 = found_col_4_of_warp[list];
#pragma unroll
        for (int r_3 = 0; r_3 < 2; r_3++) {
            int won_3 = head;
            uint won_4 = head_2;
            const int other_11 = simd_shuffle_xor(won_3, (ushort)1);
            const uint other_12 = simd_shuffle_xor(won_4, (ushort)1);
            const bool better_6 = (other_11 > won_3) || ((other_11 == won_3) && (other_12 < won_4));
            won_3 = better_6 ? other_11 : won_3;
            won_4 = better_6 ? other_12 : won_4;
            found_4[r_3] = won_3;
            found_col_4[r_3] = won_4;
            if (won_4 == head_2) {
                next = next + 1;
                const bool more = next < 2;
                head = more ? found_4_of_warp[list + next] : (-2147483647 - 1);
                head_2 = more ? found_col_4_of_warp[list + next] : 4294967295u;
            }
        }
        const float top_4 = (found_col_4[0] == 4294967295u) ? (-INFINITY) : unorder_f32(found_4[0]);
        const float top_5 = (found_col_4[1] == 4294967295u) ? (-INFINITY) : unorder_f32(found_4[1]);
        const float add_6 = top_4 + top_5;
        if ((lane == 0) && lives) {
            y[row_2] = add_6;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
