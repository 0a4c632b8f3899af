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

static inline float mulz_f32(float a, float b) {
    return a == 0.0f ? 0.0f : a * b;
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

struct zmlx_cumprod_f32_args {
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_cumprod_f32(device const float* x [[buffer(0)]],
    device float* out [[buffer(1)]],
    constant zmlx_cumprod_f32_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float scan_1_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 3;
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
        float terms_1_0[16];
        float scan_1[16];
        float carry_1 = 1.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                const bool inside = (0 <= (col_3 + i_2)) && ((col_3 + i_2) < args.cols);
                terms_1_0[(c_3 * 4) + i_2] = inside ? x_held[(c_3 * 4) + i_2] : 1.0f;
            }
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            float total = 1.0f;
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                total = total * terms_1_0[(c_4 * 4) + i_3];
            }
            const int place = tid & 31;
            const float other = simd_shuffle_up(total, (ushort)1);
            total = (1 <= place) ? (other * total) : total;
            const float other_2 = simd_shuffle_up(total, (ushort)2);
            total = (2 <= place) ? (other_2 * total) : total;
            const float other_3 = simd_shuffle_up(total, (ushort)4);
            total = (4 <= place) ? (other_3 * total) : total;
            const float other_4 = simd_shuffle_up(total, (ushort)8);
            total = (8 <= place) ? (other_4 * total) : total;
            const float other_5 = simd_shuffle_up(total, (ushort)16);
            total = (16 <= place) ? (other_5 * total) : total;
            const float above = simd_shuffle_up(total, (ushort)1);
            const float above_2 = (1 <= place) ? above : 1.0f;
            const int warp = tid / 32;
            if (place == 31) {
                scan_1_of_warp[warp] = total;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            const int mine = tid / 32;
            float run = carry_1;
#pragma unroll
            for (int w = 0; w < 8; w++) {
                const float value = scan_1_of_warp[(warp - mine) + w];
                run = (w < mine) ? (run * value) : run;
                carry_1 = carry_1 * value;
            }
            run = run * above_2;
            threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                run = run * terms_1_0[(c_4 * 4) + i_4];
                scan_1[(c_4 * 4) + i_4] = run;
            }
        }
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_4 = ((lane + (c_5 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float out_chunk[4];
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                out_chunk[i_5] = scan_1[(c_5 * 4) + i_5];
            }
            if (full_3) {
                store_f32x4(&out[out_row + col_4], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 4; i_6++) {
                    if ((0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols)) {
                        out[out_row + (col_4 + i_6)] = out_chunk[i_6];
                    }
                }
            }
        }
    }
}

struct zmlx_cumprod_bf16_args {
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_cumprod_bf16(device const ushort* x [[buffer(0)]],
    device ushort* out [[buffer(1)]],
    constant zmlx_cumprod_bf16_args& args [[buffer(2)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float scan_1_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 7;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 7) == 0) && (args.x_col == 1);
        const int lane = tid;
        uint x_held[8];
        if (((0 <= ((lane * 8) - shift)) && ((((lane * 8) - shift) + 2056) <= args.cols)) && x_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 2; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 8) - shift;
                copy_bf16x8(&x[x_row + col_2], &x_held[(c_2 * 8) / 2]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const int col = ((lane + (c * 256)) * 8) - shift;
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
        float terms_1_0[16];
        float scan_1[16];
        float carry_1 = 1.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 2; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                const bool inside = (0 <= (col_3 + i_2)) && ((col_3 + i_2) < args.cols);
                terms_1_0[(c_3 * 8) + i_2] = inside ? half_bf16(x_held[((c_3 * 8) + i_2) / 2], ((c_3 * 8) + i_2) & 1) : 1.0f;
            }
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 2; c_4++) {
            float total = 1.0f;
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                total = total * terms_1_0[(c_4 * 8) + i_3];
            }
            const int place = tid & 31;
            const float other = simd_shuffle_up(total, (ushort)1);
            total = (1 <= place) ? (other * total) : total;
            const float other_2 = simd_shuffle_up(total, (ushort)2);
            total = (2 <= place) ? (other_2 * total) : total;
            const float other_3 = simd_shuffle_up(total, (ushort)4);
            total = (4 <= place) ? (other_3 * total) : total;
            const float other_4 = simd_shuffle_up(total, (ushort)8);
            total = (8 <= place) ? (other_4 * total) : total;
            const float other_5 = simd_shuffle_up(total, (ushort)16);
            total = (16 <= place) ? (other_5 * total) : total;
            const float above = simd_shuffle_up(total, (ushort)1);
            const float above_2 = (1 <= place) ? above : 1.0f;
            const int warp = tid / 32;
            if (place == 31) {
                scan_1_of_warp[warp] = total;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            const int mine = tid / 32;
            float run = carry_1;
#pragma unroll
            for (int w = 0; w < 8; w++) {
                const float value = scan_1_of_warp[(warp - mine) + w];
                run = (w < mine) ? (run * value) : run;
                carry_1 = carry_1 * value;
            }
            run = run * above_2;
            threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                run = run * terms_1_0[(c_4 * 8) + i_4];
                scan_1[(c_4 * 8) + i_4] = run;
            }
        }
#pragma unroll
        for (int c_5 = 0; c_5 < 2; c_5++) {
            const int col_4 = ((lane + (c_5 * 256)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            float out_chunk[8];
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                out_chunk[i_5] = scan_1[(c_5 * 8) + i_5];
            }
            if (full_3) {
                store_bf16x8(&out[out_row + col_4], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_6 = 0; i_6 < 8; i_6++) {
                    if ((0 <= (col_4 + i_6)) && ((col_4 + i_6) < args.cols)) {
                        out[out_row + (col_4 + i_6)] = f32_to_bf16(out_chunk[i_6]);
                    }
                }
            }
        }
    }
}

struct zmlx_cumprod_vjp_f32_args {
    int rows;
    int x_row_stride_0;
    int g_out_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_cumprod_vjp_f32(device const float* x [[buffer(0)]],
    device const float* g_out [[buffer(1)]],
    device float* d_x [[buffer(2)]],
    constant zmlx_cumprod_vjp_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float scan_2_of_warp[8];
    threadgroup float scan_2_of_warp_2[8];
    threadgroup float scan_3_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int g_out_row = base * args.g_out_row_stride_0;
        const int d_x_row = base * args.cols;
        const int shift = d_x_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const bool g_out_vectors = ((((g_out_row + args.g_out_shift) - shift) & 3) == 0) && (args.g_out_col == 1);
        const int lane = tid;
        float x_held[16];
        float g_out_held[16];
        if ((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && x_vectors) && g_out_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
                load_f32x4(&g_out[g_out_row + col_2], &g_out_held[c_2 * 4]);
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
                if (full && g_out_vectors) {
                    load_f32x4(&g_out[g_out_row + col], &g_out_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 4; i_2++) {
                        g_out_held[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? g_out[g_out_row + ((col + i_2) * args.g_out_col)] : 0.0f;
                    }
                }
            }
        }
        float terms_2_0[16];
        float terms_2_1[16];
        float scan_2[16];
        float carry_2 = 0.0f;
        float terms_3_0[16];
        float scan_3[16];
        float carry_3 = 1.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const bool inside = (0 <= (col_3 + i_3)) && ((col_3 + i_3) < args.cols);
                terms_2_0[(c_3 * 4) + i_3] = inside ? x_held[(c_3 * 4) + i_3] : 1.0f;
                terms_2_1[(c_3 * 4) + i_3] = inside ? g_out_held[(c_3 * 4) + i_3] : 0.0f;
                terms_3_0[(c_3 * 4) + i_3] = inside ? x_held[(c_3 * 4) + i_3] : 1.0f;
            }
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            float total = 1.0f;
            float total_2 = 0.0f;
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                const float next = total * terms_2_0[((3 - c_4) * 4) + (3 - i_4)];
                const float next_2 = terms_2_0[((3 - c_4) * 4) + (3 - i_4)] * (terms_2_1[((3 - c_4) * 4) + (3 - i_4)] + total_2);
                total = next;
                total_2 = next_2;
            }
            const int place = tid & 31;
            const float other = simd_shuffle_down(total, (ushort)1);
            const float other_2 = simd_shuffle_down(total_2, (ushort)1);
            const float next_3 = (place < 31) ? (other * total) : total;
            const float next_4 = (place < 31) ? (mulz_f32(other_2, total) + total_2) : total_2;
            total = next_3;
            total_2 = next_4;
            const float other_3 = simd_shuffle_down(total, (ushort)2);
            const float other_4 = simd_shuffle_down(total_2, (ushort)2);
            const float next_5 = (place < 30) ? (other_3 * total) : total;
            const float next_6 = (place < 30) ? (mulz_f32(other_4, total) + total_2) : total_2;
            total = next_5;
            total_2 = next_6;
            const float other_5 = simd_shuffle_down(total, (ushort)4);
            const float other_6 = simd_shuffle_down(total_2, (ushort)4);
            const float next_7 = (place < 28) ? (other_5 * total) : total;
            const float next_8 = (place < 28) ? (mulz_f32(other_6, total) + total_2) : total_2;
            total = next_7;
            total_2 = next_8;
            const float other_7 = simd_shuffle_down(total, (ushort)8);
            const float other_8 = simd_shuffle_down(total_2, (ushort)8);
            const float next_9 = (place < 24) ? (other_7 * total) : total;
            const float next_10 = (place < 24) ? (mulz_f32(other_8, total) + total_2) : total_2;
            total = next_9;
            total_2 = next_10;
            const float other_9 = simd_shuffle_down(total, (ushort)16);
            const float other_10 = simd_shuffle_down(total_2, (ushort)16);
            const float next_11 = (place < 16) ? (other_9 * total) : total;
            const float next_12 = (place < 16) ? (mulz_f32(other_10, total) + total_2) : total_2;
            total = next_11;
            total_2 = next_12;
            const float above = simd_shuffle_down(total, (ushort)1);
            const float above_2 = simd_shuffle_down(total_2, (ushort)1);
            const float above_3 = (place < 31) ? above : 1.0f;
            const float above_4 = (place < 31) ? above_2 : 0.0f;
            const int warp = tid / 32;
            if (place == 0) {
                scan_2_of_warp[warp] = total;
                scan_2_of_warp_2[warp] = total_2;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            const int mine = tid / 32;
            float run = carry_2;
#pragma unroll
            for (int w = 0; w < 8; w++) {
                const int of = 7 - w;
                const float value = scan_2_of_warp[(warp - mine) + of];
                const float value_2 = scan_2_of_warp_2[(warp - mine) + of];
                run = (mine < of) ? (mulz_f32(run, value) + value_2) : run;
                carry_2 = mulz_f32(carry_2, value) + value_2;
            }
            run = mulz_f32(run, above_3) + above_4;
            threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
            for (int i_5 = 0; i_5 < 4; i_5++) {
                const float h = terms_2_1[((3 - c_4) * 4) + (3 - i_5)] + run;
                scan_2[((3 - c_4) * 4) + (3 - i_5)] = h;
                run = terms_2_0[((3 - c_4) * 4) + (3 - i_5)] * h;
            }
        }
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            float total_3 = 1.0f;
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                total_3 = total_3 * terms_3_0[(c_5 * 4) + i_6];
            }
            const int place_2 = tid & 31;
            const float other_11 = simd_shuffle_up(total_3, (ushort)1);
            total_3 = (1 <= place_2) ? (other_11 * total_3) : total_3;
            const float other_12 = simd_shuffle_up(total_3, (ushort)2);
            total_3 = (2 <= place_2) ? (other_12 * total_3) : total_3;
            const float other_13 = simd_shuffle_up(total_3, (ushort)4);
            total_3 = (4 <= place_2) ? (other_13 * total_3) : total_3;
            const float other_14 = simd_shuffle_up(total_3, (ushort)8);
            total_3 = (8 <= place_2) ? (other_14 * total_3) : total_3;
            const float other_15 = simd_shuffle_up(total_3, (ushort)16);
            total_3 = (16 <= place_2) ? (other_15 * total_3) : total_3;
            const float above_5 = simd_shuffle_up(total_3, (ushort)1);
            const float above_6 = (1 <= place_2) ? above_5 : 1.0f;
            const int warp_2 = tid / 32;
            if (place_2 == 31) {
                scan_3_of_warp[warp_2] = total_3;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            const int mine_2 = tid / 32;
            float run_2 = carry_3;
#pragma unroll
            for (int w_2 = 0; w_2 < 8; w_2++) {
                const float value_3 = scan_3_of_warp[(warp_2 - mine_2) + w_2];
                run_2 = (w_2 < mine_2) ? (run_2 * value_3) : run_2;
                carry_3 = carry_3 * value_3;
            }
            run_2 = run_2 * above_6;
            threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
            for (int i_7 = 0; i_7 < 4; i_7++) {
                scan_3[(c_5 * 4) + i_7] = run_2;
                run_2 = run_2 * terms_3_0[(c_5 * 4) + i_7];
            }
        }
#pragma unroll
        for (int c_6 = 0; c_6 < 4; c_6++) {
            const int col_4 = ((lane + (c_6 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float d_x_chunk[4];
#pragma unroll
            for (int i_8 = 0; i_8 < 4; i_8++) {
                const float mul_4 = scan_2[(c_6 * 4) + i_8] * scan_3[(c_6 * 4) + i_8];
                d_x_chunk[i_8] = mul_4;
            }
            if (full_3) {
                store_f32x4(&d_x[d_x_row + col_4], &d_x_chunk[0]);
            } else {
#pragma unroll
                for (int i_9 = 0; i_9 < 4; i_9++) {
                    if ((0 <= (col_4 + i_9)) && ((col_4 + i_9) < args.cols)) {
                        d_x[d_x_row + (col_4 + i_9)] = d_x_chunk[i_9];
                    }
                }
            }
        }
    }
}
