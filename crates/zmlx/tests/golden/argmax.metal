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

struct zmlx_argmax_f32_args {
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_argmax_f32(device const float* x [[buffer(0)]],
    device uint* out [[buffer(1)]],
    constant zmlx_argmax_f32_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float argmax_1_of_warp[8];
    threadgroup uint argmax_1_col_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int shift = (x_row + args.x_shift) & 3;
        const bool x_vectors = args.x_col == 1;
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
        float argmax_1 = 0.0f;
        uint argmax_1_col = 4294967295u;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    const float candidate = x_held[(c_3 * 4) + i_2];
                    if (((candidate > argmax_1) || ((candidate != candidate) && (!(argmax_1 != argmax_1)))) || (argmax_1_col == 4294967295u)) {
                        argmax_1 = candidate;
                        argmax_1_col = (uint)(col_3 + i_2);
                    }
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    const float candidate_2 = x_held[(c_3 * 4) + i_3];
                    if (inside && (((candidate_2 > argmax_1) || ((candidate_2 != candidate_2) && (!(argmax_1 != argmax_1)))) || (argmax_1_col == 4294967295u))) {
                        argmax_1 = candidate_2;
                        argmax_1_col = (uint)(col_3 + i_3);
                    }
                }
            }
        }
        const float other = simd_shuffle_xor(argmax_1, (ushort)16);
        const uint other_2 = simd_shuffle_xor(argmax_1_col, (ushort)16);
        if ((other_2 != 4294967295u) && ((((other > argmax_1) || ((other != other) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other) || ((argmax_1 != argmax_1) && (!(other != other))))) && (other_2 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other;
            argmax_1_col = other_2;
        }
        const float other_3 = simd_shuffle_xor(argmax_1, (ushort)8);
        const uint other_4 = simd_shuffle_xor(argmax_1_col, (ushort)8);
        if ((other_4 != 4294967295u) && ((((other_3 > argmax_1) || ((other_3 != other_3) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other_3) || ((argmax_1 != argmax_1) && (!(other_3 != other_3))))) && (other_4 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other_3;
            argmax_1_col = other_4;
        }
        const float other_5 = simd_shuffle_xor(argmax_1, (ushort)4);
        const uint other_6 = simd_shuffle_xor(argmax_1_col, (ushort)4);
        if ((other_6 != 4294967295u) && ((((other_5 > argmax_1) || ((other_5 != other_5) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other_5) || ((argmax_1 != argmax_1) && (!(other_5 != other_5))))) && (other_6 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other_5;
            argmax_1_col = other_6;
        }
        const float other_7 = simd_shuffle_xor(argmax_1, (ushort)2);
        const uint other_8 = simd_shuffle_xor(argmax_1_col, (ushort)2);
        if ((other_8 != 4294967295u) && ((((other_7 > argmax_1) || ((other_7 != other_7) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other_7) || ((argmax_1 != argmax_1) && (!(other_7 != other_7))))) && (other_8 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other_7;
            argmax_1_col = other_8;
        }
        const float other_9 = simd_shuffle_xor(argmax_1, (ushort)1);
        const uint other_10 = simd_shuffle_xor(argmax_1_col, (ushort)1);
        if ((other_10 != 4294967295u) && ((((other_9 > argmax_1) || ((other_9 != other_9) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other_9) || ((argmax_1 != argmax_1) && (!(other_9 != other_9))))) && (other_10 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other_9;
            argmax_1_col = other_10;
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            argmax_1_of_warp[warp] = argmax_1;
            argmax_1_col_of_warp[warp] = argmax_1_col;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        argmax_1 = argmax_1_of_warp[0];
        argmax_1_col = argmax_1_col_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            if ((argmax_1_col_of_warp[w] != 4294967295u) && ((((argmax_1_of_warp[w] > argmax_1) || ((argmax_1_of_warp[w] != argmax_1_of_warp[w]) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > argmax_1_of_warp[w]) || ((argmax_1 != argmax_1) && (!(argmax_1_of_warp[w] != argmax_1_of_warp[w]))))) && (argmax_1_col_of_warp[w] < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
                argmax_1 = argmax_1_of_warp[w];
                argmax_1_col = argmax_1_col_of_warp[w];
            }
        }
        const uint found = (argmax_1_col == 4294967295u) ? 0u : argmax_1_col;
        if (tid == 0) {
            out[base] = found;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}

struct zmlx_argmax_bf16_args {
    int rows;
    int x_row_stride_0;
    int x_shift;
    int x_col;
    int cols;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_argmax_bf16(device const ushort* x [[buffer(0)]],
    device uint* out [[buffer(1)]],
    constant zmlx_argmax_bf16_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float argmax_1_of_warp[4];
    threadgroup uint argmax_1_col_of_warp[4];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int shift = (x_row + args.x_shift) & 7;
        const bool x_vectors = args.x_col == 1;
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
        float argmax_1 = 0.0f;
        uint argmax_1_col = 4294967295u;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    const float candidate = half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1);
                    if (((candidate > argmax_1) || ((candidate != candidate) && (!(argmax_1 != argmax_1)))) || (argmax_1_col == 4294967295u)) {
                        argmax_1 = candidate;
                        argmax_1_col = (uint)(col_3 + i_2);
                    }
                }
            } else {
#pragma unroll
                for (int i_3 = 0; i_3 < 8; i_3++) {
                    const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                    const float candidate_2 = half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1);
                    if (inside && (((candidate_2 > argmax_1) || ((candidate_2 != candidate_2) && (!(argmax_1 != argmax_1)))) || (argmax_1_col == 4294967295u))) {
                        argmax_1 = candidate_2;
                        argmax_1_col = (uint)(col_3 + i_3);
                    }
                }
            }
        }
        const float other = simd_shuffle_xor(argmax_1, (ushort)16);
        const uint other_2 = simd_shuffle_xor(argmax_1_col, (ushort)16);
        if ((other_2 != 4294967295u) && ((((other > argmax_1) || ((other != other) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other) || ((argmax_1 != argmax_1) && (!(other != other))))) && (other_2 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other;
            argmax_1_col = other_2;
        }
        const float other_3 = simd_shuffle_xor(argmax_1, (ushort)8);
        const uint other_4 = simd_shuffle_xor(argmax_1_col, (ushort)8);
        if ((other_4 != 4294967295u) && ((((other_3 > argmax_1) || ((other_3 != other_3) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other_3) || ((argmax_1 != argmax_1) && (!(other_3 != other_3))))) && (other_4 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other_3;
            argmax_1_col = other_4;
        }
        const float other_5 = simd_shuffle_xor(argmax_1, (ushort)4);
        const uint other_6 = simd_shuffle_xor(argmax_1_col, (ushort)4);
        if ((other_6 != 4294967295u) && ((((other_5 > argmax_1) || ((other_5 != other_5) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other_5) || ((argmax_1 != argmax_1) && (!(other_5 != other_5))))) && (other_6 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other_5;
            argmax_1_col = other_6;
        }
        const float other_7 = simd_shuffle_xor(argmax_1, (ushort)2);
        const uint other_8 = simd_shuffle_xor(argmax_1_col, (ushort)2);
        if ((other_8 != 4294967295u) && ((((other_7 > argmax_1) || ((other_7 != other_7) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other_7) || ((argmax_1 != argmax_1) && (!(other_7 != other_7))))) && (other_8 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other_7;
            argmax_1_col = other_8;
        }
        const float other_9 = simd_shuffle_xor(argmax_1, (ushort)1);
        const uint other_10 = simd_shuffle_xor(argmax_1_col, (ushort)1);
        if ((other_10 != 4294967295u) && ((((other_9 > argmax_1) || ((other_9 != other_9) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > other_9) || ((argmax_1 != argmax_1) && (!(other_9 != other_9))))) && (other_10 < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
            argmax_1 = other_9;
            argmax_1_col = other_10;
        }
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            argmax_1_of_warp[warp] = argmax_1;
            argmax_1_col_of_warp[warp] = argmax_1_col;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        argmax_1 = argmax_1_of_warp[0];
        argmax_1_col = argmax_1_col_of_warp[0];
#pragma unroll
        for (int w = 1; w < 4; w++) {
            if ((argmax_1_col_of_warp[w] != 4294967295u) && ((((argmax_1_of_warp[w] > argmax_1) || ((argmax_1_of_warp[w] != argmax_1_of_warp[w]) && (!(argmax_1 != argmax_1)))) || ((!((argmax_1 > argmax_1_of_warp[w]) || ((argmax_1 != argmax_1) && (!(argmax_1_of_warp[w] != argmax_1_of_warp[w]))))) && (argmax_1_col_of_warp[w] < argmax_1_col))) || (argmax_1_col == 4294967295u))) {
                argmax_1 = argmax_1_of_warp[w];
                argmax_1_col = argmax_1_col_of_warp[w];
            }
        }
        const uint found = (argmax_1_col == 4294967295u) ? 0u : argmax_1_col;
        if (tid == 0) {
            out[base] = found;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
}
