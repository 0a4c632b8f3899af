#include <metal_stdlib>
using namespace metal;

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

struct zmlx_pack_bits_f32_args {
    int chunks;
    int rows;
    int b0_row_stride_0;
    int b1_row_stride_0;
    int b2_row_stride_0;
    int b3_row_stride_0;
    int b4_row_stride_0;
    int b5_row_stride_0;
    int b6_row_stride_0;
    int b7_row_stride_0;
    int cols;
    int b0_shift;
    int b0_col;
    int b1_shift;
    int b1_col;
    int b2_shift;
    int b2_col;
    int b3_shift;
    int b3_col;
    int b4_shift;
    int b4_col;
    int b5_shift;
    int b5_col;
    int b6_shift;
    int b6_col;
    int b7_shift;
    int b7_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_pack_bits_f32(device const uchar* b0 [[buffer(0)]],
    device const uchar* b1 [[buffer(1)]],
    device const uchar* b2 [[buffer(2)]],
    device const uchar* b3 [[buffer(3)]],
    device const uchar* b4 [[buffer(4)]],
    device const uchar* b5 [[buffer(5)]],
    device const uchar* b6 [[buffer(6)]],
    device const uchar* b7 [[buffer(7)]],
    device uchar* y [[buffer(8)]],
    constant zmlx_pack_bits_f32_args& args [[buffer(9)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        uchar b0_chunk[8];
        uchar b1_chunk[8];
        uchar b2_chunk[8];
        uchar b3_chunk[8];
        uchar b4_chunk[8];
        uchar b5_chunk[8];
        uchar b6_chunk[8];
        uchar b7_chunk[8];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int b0_row = row * args.b0_row_stride_0;
        const int b1_row = row * args.b1_row_stride_0;
        const int b2_row = row * args.b2_row_stride_0;
        const int b3_row = row * args.b3_row_stride_0;
        const int b4_row = row * args.b4_row_stride_0;
        const int b5_row = row * args.b5_row_stride_0;
        const int b6_row = row * args.b6_row_stride_0;
        const int b7_row = row * args.b7_row_stride_0;
        const int y_row = row * args.cols;
        const int shift = y_row & 7;
        const bool b0_vectors = ((((b0_row + args.b0_shift) - shift) & 7) == 0) && (args.b0_col == 1);
        const bool b1_vectors = ((((b1_row + args.b1_shift) - shift) & 7) == 0) && (args.b1_col == 1);
        const bool b2_vectors = ((((b2_row + args.b2_shift) - shift) & 7) == 0) && (args.b2_col == 1);
        const bool b3_vectors = ((((b3_row + args.b3_shift) - shift) & 7) == 0) && (args.b3_col == 1);
        const bool b4_vectors = ((((b4_row + args.b4_shift) - shift) & 7) == 0) && (args.b4_col == 1);
        const bool b5_vectors = ((((b5_row + args.b5_shift) - shift) & 7) == 0) && (args.b5_col == 1);
        const bool b6_vectors = ((((b6_row + args.b6_shift) - shift) & 7) == 0) && (args.b6_col == 1);
        const bool b7_vectors = ((((b7_row + args.b7_shift) - shift) & 7) == 0) && (args.b7_col == 1);
        const int col = ((first - (row * args.chunks)) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        if (full && b0_vectors) {
            load_u8x8(&b0[b0_row + col], &b0_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                b0_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? b0[b0_row + ((col + i) * args.b0_col)] : ((uchar)(0));
            }
        }
        if (full && b1_vectors) {
            load_u8x8(&b1[b1_row + col], &b1_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                b1_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? b1[b1_row + ((col + i_2) * args.b1_col)] : ((uchar)(0));
            }
        }
        if (full && b2_vectors) {
            load_u8x8(&b2[b2_row + col], &b2_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                b2_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? b2[b2_row + ((col + i_3) * args.b2_col)] : ((uchar)(0));
            }
        }
        if (full && b3_vectors) {
            load_u8x8(&b3[b3_row + col], &b3_chunk[0]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                b3_chunk[i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? b3[b3_row + ((col + i_4) * args.b3_col)] : ((uchar)(0));
            }
        }
        if (full && b4_vectors) {
            load_u8x8(&b4[b4_row + col], &b4_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                b4_chunk[i_5] = ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) ? b4[b4_row + ((col + i_5) * args.b4_col)] : ((uchar)(0));
            }
        }
        if (full && b5_vectors) {
            load_u8x8(&b5[b5_row + col], &b5_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                b5_chunk[i_6] = ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) ? b5[b5_row + ((col + i_6) * args.b5_col)] : ((uchar)(0));
            }
        }
        if (full && b6_vectors) {
            load_u8x8(&b6[b6_row + col], &b6_chunk[0]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 8; i_7++) {
                b6_chunk[i_7] = ((0 <= (col + i_7)) && ((col + i_7) < args.cols)) ? b6[b6_row + ((col + i_7) * args.b6_col)] : ((uchar)(0));
            }
        }
        if (full && b7_vectors) {
            load_u8x8(&b7[b7_row + col], &b7_chunk[0]);
        } else {
#pragma unroll
            for (int i_8 = 0; i_8 < 8; i_8++) {
                b7_chunk[i_8] = ((0 <= (col + i_8)) && ((col + i_8) < args.cols)) ? b7[b7_row + ((col + i_8) * args.b7_col)] : ((uchar)(0));
            }
        }
        uchar y_chunk[8];
#pragma unroll
        for (int i_9 = 0; i_9 < 8; i_9++) {
            const long add_16 = (long)(((ulong)((b0_chunk[i_9] != ((uchar)(0))) ? 1L : 0L) + (ulong)((b1_chunk[i_9] != ((uchar)(0))) ? 2L : 0L)));
            const long add_24 = (long)(((ulong)((long)(((ulong)add_16 + (ulong)((b2_chunk[i_9] != ((uchar)(0))) ? 4L : 0L)))) + (ulong)((b3_chunk[i_9] != ((uchar)(0))) ? 8L : 0L)));
            const long add_31 = (long)(((ulong)((b4_chunk[i_9] != ((uchar)(0))) ? 16L : 0L) + (ulong)((b5_chunk[i_9] != ((uchar)(0))) ? 32L : 0L)));
            const long add_39 = (long)(((ulong)((long)(((ulong)add_31 + (ulong)((b6_chunk[i_9] != ((uchar)(0))) ? 64L : 0L)))) + (ulong)((b7_chunk[i_9] != ((uchar)(0))) ? 128L : 0L)));
            y_chunk[i_9] = (uchar)((long)(((ulong)add_24 + (ulong)add_39)));
        }
        if (full) {
            store_u8x8(&y[y_row + col], &y_chunk[0]);
        } else {
#pragma unroll
            for (int i_10 = 0; i_10 < 8; i_10++) {
                if ((0 <= (col + i_10)) && ((col + i_10) < args.cols)) {
                    y[y_row + (col + i_10)] = y_chunk[i_10];
                }
            }
        }
    }
}

struct zmlx_pack_bits_bf16_args {
    int chunks;
    int rows;
    int b0_row_stride_0;
    int b1_row_stride_0;
    int b2_row_stride_0;
    int b3_row_stride_0;
    int b4_row_stride_0;
    int b5_row_stride_0;
    int b6_row_stride_0;
    int b7_row_stride_0;
    int cols;
    int b0_shift;
    int b0_col;
    int b1_shift;
    int b1_col;
    int b2_shift;
    int b2_col;
    int b3_shift;
    int b3_col;
    int b4_shift;
    int b4_col;
    int b5_shift;
    int b5_col;
    int b6_shift;
    int b6_col;
    int b7_shift;
    int b7_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_pack_bits_bf16(device const uchar* b0 [[buffer(0)]],
    device const uchar* b1 [[buffer(1)]],
    device const uchar* b2 [[buffer(2)]],
    device const uchar* b3 [[buffer(3)]],
    device const uchar* b4 [[buffer(4)]],
    device const uchar* b5 [[buffer(5)]],
    device const uchar* b6 [[buffer(6)]],
    device const uchar* b7 [[buffer(7)]],
    device uchar* y [[buffer(8)]],
    constant zmlx_pack_bits_bf16_args& args [[buffer(9)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 256) + tid; first < total; first += blocks * 256) {
        uchar b0_chunk[8];
        uchar b1_chunk[8];
        uchar b2_chunk[8];
        uchar b3_chunk[8];
        uchar b4_chunk[8];
        uchar b5_chunk[8];
        uchar b6_chunk[8];
        uchar b7_chunk[8];
        const int row = (args.rows == 1) ? 0 : (first / args.chunks);
        const int b0_row = row * args.b0_row_stride_0;
        const int b1_row = row * args.b1_row_stride_0;
        const int b2_row = row * args.b2_row_stride_0;
        const int b3_row = row * args.b3_row_stride_0;
        const int b4_row = row * args.b4_row_stride_0;
        const int b5_row = row * args.b5_row_stride_0;
        const int b6_row = row * args.b6_row_stride_0;
        const int b7_row = row * args.b7_row_stride_0;
        const int y_row = row * args.cols;
        const int shift = y_row & 7;
        const bool b0_vectors = ((((b0_row + args.b0_shift) - shift) & 7) == 0) && (args.b0_col == 1);
        const bool b1_vectors = ((((b1_row + args.b1_shift) - shift) & 7) == 0) && (args.b1_col == 1);
        const bool b2_vectors = ((((b2_row + args.b2_shift) - shift) & 7) == 0) && (args.b2_col == 1);
        const bool b3_vectors = ((((b3_row + args.b3_shift) - shift) & 7) == 0) && (args.b3_col == 1);
        const bool b4_vectors = ((((b4_row + args.b4_shift) - shift) & 7) == 0) && (args.b4_col == 1);
        const bool b5_vectors = ((((b5_row + args.b5_shift) - shift) & 7) == 0) && (args.b5_col == 1);
        const bool b6_vectors = ((((b6_row + args.b6_shift) - shift) & 7) == 0) && (args.b6_col == 1);
        const bool b7_vectors = ((((b7_row + args.b7_shift) - shift) & 7) == 0) && (args.b7_col == 1);
        const int col = ((first - (row * args.chunks)) * 8) - shift;
        const bool full = (0 <= col) && ((col + 8) <= args.cols);
        if (full && b0_vectors) {
            load_u8x8(&b0[b0_row + col], &b0_chunk[0]);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                b0_chunk[i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? b0[b0_row + ((col + i) * args.b0_col)] : ((uchar)(0));
            }
        }
        if (full && b1_vectors) {
            load_u8x8(&b1[b1_row + col], &b1_chunk[0]);
        } else {
#pragma unroll
            for (int i_2 = 0; i_2 < 8; i_2++) {
                b1_chunk[i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? b1[b1_row + ((col + i_2) * args.b1_col)] : ((uchar)(0));
            }
        }
        if (full && b2_vectors) {
            load_u8x8(&b2[b2_row + col], &b2_chunk[0]);
        } else {
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                b2_chunk[i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? b2[b2_row + ((col + i_3) * args.b2_col)] : ((uchar)(0));
            }
        }
        if (full && b3_vectors) {
            load_u8x8(&b3[b3_row + col], &b3_chunk[0]);
        } else {
#pragma unroll
            for (int i_4 = 0; i_4 < 8; i_4++) {
                b3_chunk[i_4] = ((0 <= (col + i_4)) && ((col + i_4) < args.cols)) ? b3[b3_row + ((col + i_4) * args.b3_col)] : ((uchar)(0));
            }
        }
        if (full && b4_vectors) {
            load_u8x8(&b4[b4_row + col], &b4_chunk[0]);
        } else {
#pragma unroll
            for (int i_5 = 0; i_5 < 8; i_5++) {
                b4_chunk[i_5] = ((0 <= (col + i_5)) && ((col + i_5) < args.cols)) ? b4[b4_row + ((col + i_5) * args.b4_col)] : ((uchar)(0));
            }
        }
        if (full && b5_vectors) {
            load_u8x8(&b5[b5_row + col], &b5_chunk[0]);
        } else {
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                b5_chunk[i_6] = ((0 <= (col + i_6)) && ((col + i_6) < args.cols)) ? b5[b5_row + ((col + i_6) * args.b5_col)] : ((uchar)(0));
            }
        }
        if (full && b6_vectors) {
            load_u8x8(&b6[b6_row + col], &b6_chunk[0]);
        } else {
#pragma unroll
            for (int i_7 = 0; i_7 < 8; i_7++) {
                b6_chunk[i_7] = ((0 <= (col + i_7)) && ((col + i_7) < args.cols)) ? b6[b6_row + ((col + i_7) * args.b6_col)] : ((uchar)(0));
            }
        }
        if (full && b7_vectors) {
            load_u8x8(&b7[b7_row + col], &b7_chunk[0]);
        } else {
#pragma unroll
            for (int i_8 = 0; i_8 < 8; i_8++) {
                b7_chunk[i_8] = ((0 <= (col + i_8)) && ((col + i_8) < args.cols)) ? b7[b7_row + ((col + i_8) * args.b7_col)] : ((uchar)(0));
            }
        }
        uchar y_chunk[8];
#pragma unroll
        for (int i_9 = 0; i_9 < 8; i_9++) {
            const long add_16 = (long)(((ulong)((b0_chunk[i_9] != ((uchar)(0))) ? 1L : 0L) + (ulong)((b1_chunk[i_9] != ((uchar)(0))) ? 2L : 0L)));
            const long add_24 = (long)(((ulong)((long)(((ulong)add_16 + (ulong)((b2_chunk[i_9] != ((uchar)(0))) ? 4L : 0L)))) + (ulong)((b3_chunk[i_9] != ((uchar)(0))) ? 8L : 0L)));
            const long add_31 = (long)(((ulong)((b4_chunk[i_9] != ((uchar)(0))) ? 16L : 0L) + (ulong)((b5_chunk[i_9] != ((uchar)(0))) ? 32L : 0L)));
            const long add_39 = (long)(((ulong)((long)(((ulong)add_31 + (ulong)((b6_chunk[i_9] != ((uchar)(0))) ? 64L : 0L)))) + (ulong)((b7_chunk[i_9] != ((uchar)(0))) ? 128L : 0L)));
            y_chunk[i_9] = (uchar)((long)(((ulong)add_24 + (ulong)add_39)));
        }
        if (full) {
            store_u8x8(&y[y_row + col], &y_chunk[0]);
        } else {
#pragma unroll
            for (int i_10 = 0; i_10 < 8; i_10++) {
                if ((0 <= (col + i_10)) && ((col + i_10) < args.cols)) {
                    y[y_row + (col + i_10)] = y_chunk[i_10];
                }
            }
        }
    }
}
