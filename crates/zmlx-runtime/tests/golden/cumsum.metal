#include <metal_stdlib>
using namespace metal;

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

struct zmlx_cumsum_args {
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_cumsum(device const float* x [[buffer(0)]],
    device float* out [[buffer(1)]],
    constant zmlx_cumsum_args& args [[buffer(2)]],
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
        float carry_1 = 0.0f;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                const bool inside = (0 <= (col_3 + i_2)) && ((col_3 + i_2) < args.cols);
                terms_1_0[(c_3 * 4) + i_2] = inside ? x_held[(c_3 * 4) + i_2] : 0.0f;
            }
        }
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            float total = 0.0f;
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                total = total + terms_1_0[(c_4 * 4) + i_3];
            }
            const int place = tid & 31;
            const float other = simd_shuffle_up(total, (ushort)1);
            total = (1 <= place) ? (other + total) : total;
            const float other_2 = simd_shuffle_up(total, (ushort)2);
            total = (2 <= place) ? (other_2 + total) : total;
            const float other_3 = simd_shuffle_up(total, (ushort)4);
            total = (4 <= place) ? (other_3 + total) : total;
            const float other_4 = simd_shuffle_up(total, (ushort)8);
            total = (8 <= place) ? (other_4 + total) : total;
            const float other_5 = simd_shuffle_up(total, (ushort)16);
            total = (16 <= place) ? (other_5 + total) : total;
            const float above = simd_shuffle_up(total, (ushort)1);
            const float above_2 = (1 <= place) ? above : 0.0f;
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
                run = (w < mine) ? (run + value) : run;
                carry_1 = carry_1 + value;
            }
            run = run + above_2;
            threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
            for (int i_4 = 0; i_4 < 4; i_4++) {
                run = run + terms_1_0[(c_4 * 4) + i_4];
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
