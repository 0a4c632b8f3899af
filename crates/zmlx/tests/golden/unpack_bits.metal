#include <metal_stdlib>
using namespace metal;

static inline int min_i32(int a, int b) {
    return a <= b ? a : b;
}

static inline void load_u8x8(device const uchar* p, thread uchar* v) {
    const uint2 t = *(device const uint2*)p;
    const uint w[2] = {t.x, t.y};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        v[i] = (uchar)(w[i / 4] >> (8 * (i % 4)));
    }
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

struct zmlx_unpack_bits_f32_args {
    int chunks;
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int shift_shift;
    int shift_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_unpack_bits_f32(device const uchar* x [[buffer(0)]],
    device const uchar* shift [[buffer(1)]],
    device uchar* y [[buffer(2)]],
    constant zmlx_unpack_bits_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 1024) + tid; first < total; first += blocks * 1024) {
        uchar x_chunk[32];
        uchar shift_chunk[32];
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int x_row = row * args.x_row_stride_0;
            const int y_row = row * args.cols;
            const int shift_2 = y_row & 7;
            const bool x_vectors = ((((x_row + args.x_shift) - shift_2) & 7) == 0) && (args.x_col == 1);
            const bool shift_vectors = (((args.shift_shift - shift_2) & 7) == 0) && (args.shift_col == 1);
            const int col = ((chunk - (row * args.chunks)) * 8) - shift_2;
            const bool full = (0 <= col) && ((col + 8) <= args.cols);
            if (full && x_vectors) {
                load_u8x8(&x[x_row + col], &x_chunk[c * 8]);
            } else {
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    x_chunk[(c * 8) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : ((uchar)(0));
                }
            }
            if (full && shift_vectors) {
                load_u8x8(&shift[col], &shift_chunk[c * 8]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    shift_chunk[(c * 8) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? shift[(col + i_2) * args.shift_col] : ((uchar)(0));
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 4; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int x_row_2 = row_2 * args.x_row_stride_0;
            const int y_row_2 = row_2 * args.cols;
            const int shift_3 = y_row_2 & 7;
            const bool x_vectors_2 = ((((x_row_2 + args.x_shift) - shift_3) & 7) == 0) && (args.x_col == 1);
            const bool shift_vectors_2 = (((args.shift_shift - shift_3) & 7) == 0) && (args.shift_col == 1);
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 8) - shift_3;
            const bool full_2 = (0 <= col_2) && ((col_2 + 8) <= args.cols);
            uchar y_chunk[8];
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                const uchar shr_2 = (uchar)(x_chunk[(c_2 * 8) + i_3] >> (shift_chunk[(c_2 * 8) + i_3] & 7));
                y_chunk[i_3] = (uchar)(shr_2 & ((uchar)(1)));
            }
            if (lives_2) {
                if (full_2) {
                    store_u8x8(&y[y_row_2 + col_2], &y_chunk[0]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 8; i_4++) {
                        if ((0 <= (col_2 + i_4)) && ((col_2 + i_4) < args.cols)) {
                            y[y_row_2 + (col_2 + i_4)] = y_chunk[i_4];
                        }
                    }
                }
            }
        }
    }
}

struct zmlx_unpack_bits_bf16_args {
    int chunks;
    int rows;
    int x_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int shift_shift;
    int shift_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_unpack_bits_bf16(device const uchar* x [[buffer(0)]],
    device const uchar* shift [[buffer(1)]],
    device uchar* y [[buffer(2)]],
    constant zmlx_unpack_bits_bf16_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 1024) + tid; first < total; first += blocks * 1024) {
        uchar x_chunk[32];
        uchar shift_chunk[32];
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int x_row = row * args.x_row_stride_0;
            const int y_row = row * args.cols;
            const int shift_2 = y_row & 7;
            const bool x_vectors = ((((x_row + args.x_shift) - shift_2) & 7) == 0) && (args.x_col == 1);
            const bool shift_vectors = (((args.shift_shift - shift_2) & 7) == 0) && (args.shift_col == 1);
            const int col = ((chunk - (row * args.chunks)) * 8) - shift_2;
            const bool full = (0 <= col) && ((col + 8) <= args.cols);
            if (full && x_vectors) {
                load_u8x8(&x[x_row + col], &x_chunk[c * 8]);
            } else {
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    x_chunk[(c * 8) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : ((uchar)(0));
                }
            }
            if (full && shift_vectors) {
                load_u8x8(&shift[col], &shift_chunk[c * 8]);
            } else {
#pragma unroll
                for (int i_2 = 0; i_2 < 8; i_2++) {
                    shift_chunk[(c * 8) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? shift[(col + i_2) * args.shift_col] : ((uchar)(0));
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 4; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int x_row_2 = row_2 * args.x_row_stride_0;
            const int y_row_2 = row_2 * args.cols;
            const int shift_3 = y_row_2 & 7;
            const bool x_vectors_2 = ((((x_row_2 + args.x_shift) - shift_3) & 7) == 0) && (args.x_col == 1);
            const bool shift_vectors_2 = (((args.shift_shift - shift_3) & 7) == 0) && (args.shift_col == 1);
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 8) - shift_3;
            const bool full_2 = (0 <= col_2) && ((col_2 + 8) <= args.cols);
            uchar y_chunk[8];
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                const uchar shr_2 = (uchar)(x_chunk[(c_2 * 8) + i_3] >> (shift_chunk[(c_2 * 8) + i_3] & 7));
                y_chunk[i_3] = (uchar)(shr_2 & ((uchar)(1)));
            }
            if (lives_2) {
                if (full_2) {
                    store_u8x8(&y[y_row_2 + col_2], &y_chunk[0]);
                } else {
#pragma unroll
                    for (int i_4 = 0; i_4 < 8; i_4++) {
                        if ((0 <= (col_2 + i_4)) && ((col_2 + i_4) < args.cols)) {
                            y[y_row_2 + (col_2 + i_4)] = y_chunk[i_4];
                        }
                    }
                }
            }
        }
    }
}
