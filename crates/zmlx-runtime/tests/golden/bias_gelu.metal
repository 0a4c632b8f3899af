#include <metal_stdlib>
using namespace metal;

static inline int min_i32(int a, int b) {
    return a <= b ? a : b;
}

static inline float sigmoid_f32(float x) {
    const float e = metal::precise::exp(-metal::fabs(x));
    const float r = 1.0f / (1.0f + e);
    return x >= 0.0f ? r : e * r;
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

struct zmlx_bias_gelu_args {
    int chunks;
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int b_shift;
    int b_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_bias_gelu(device const float* x [[buffer(0)]],
    device const float* b [[buffer(1)]],
    device float* out [[buffer(2)]],
    constant zmlx_bias_gelu_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 1024) + tid; first < total; first += blocks * 1024) {
        float x_chunk[16];
        float b_chunk[16];
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int x_row = row * args.x_row_stride_0;
            const int out_row = row * args.cols;
            const int shift = out_row & 3;
            const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
            const bool b_vectors = (((args.b_shift - shift) & 3) == 0) && (args.b_col == 1);
            const int col = ((chunk - (row * args.chunks)) * 4) - shift;
            const bool full = (0 <= col) && ((col + 4) <= args.cols);
            if (full && x_vectors) {
                load_f32x4(&x[x_row + col], &x_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    x_chunk[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : 0.0f;
                }
            }
            if (full && b_vectors) {
                load_f32x4(&b[col], &b_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 4; i_2++) {
                    b_chunk[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? b[(col + i_2) * args.b_col] : 0.0f;
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 4; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int x_row_2 = row_2 * args.x_row_stride_0;
            const int out_row_2 = row_2 * args.cols;
            const int shift_2 = out_row_2 & 3;
            const bool x_vectors_2 = ((((x_row_2 + args.x_shift) - shift_2) & 3) == 0) && (args.x_col == 1);
            const bool b_vectors_2 = (((args.b_shift - shift_2) & 3) == 0) && (args.b_col == 1);
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 4) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 4) <= args.cols);
            float out_chunk[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const float add_2 = x_chunk[(c_2 * 4) + i_3] + b_chunk[(c_2 * 4) + i_3];
                const float mul_9 = (add_2 + ((add_2 * (add_2 * add_2)) * 0.044715f)) * 1.5957692f;
                out_chunk[i_3] = add_2 * sigmoid_f32(mul_9);
            }
            if (lives_2) {
                if (full_2) {
                    store_f32x4(&out[out_row_2 + col_2], &out_chunk[0]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 4; i_4++) {
                        if ((0 <= (col_2 + i_4)) && ((col_2 + i_4) < args.cols)) {
                            out[out_row_2 + (col_2 + i_4)] = out_chunk[i_4];
                        }
                    }
                }
            }
        }
    }
}
