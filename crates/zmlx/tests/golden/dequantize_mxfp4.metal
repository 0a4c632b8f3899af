#include <metal_stdlib>
using namespace metal;

static inline int min_i32(int a, int b) {
    return a <= b ? a : b;
}

static inline void load_u8x4(device const uchar* p, thread uchar* v) {
    const uint t = *(device const uint*)p;
    const uint w[1] = {t};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = (uchar)(w[i / 4] >> (8 * (i % 4)));
    }
}

struct zmlx_dequantize_mxfp4_f32_args {
    int chunks;
    int rows;
    int x_row_stride_0;
    int scale_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_dequantize_mxfp4_f32(device const uchar* x [[buffer(0)]],
    device const uchar* scale [[buffer(1)]],
    device float* y [[buffer(2)]],
    constant zmlx_dequantize_mxfp4_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 1024) + tid; first < total; first += blocks * 1024) {
        uchar x_chunk[16];
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int x_row = row * args.x_row_stride_0;
            const int scale_row = row * args.scale_row_stride_0;
            const int y_0_row = row * (args.cols * 2);
            const int y_1_row = (row * (args.cols * 2)) + 1;
            const int shift = (x_row + args.x_shift) & 3;
            const bool x_vectors = args.x_col == 1;
            const int col = ((chunk - (row * args.chunks)) * 4) - shift;
            const bool full = (0 <= col) && ((col + 4) <= args.cols);
            if (full && x_vectors) {
                load_u8x4(&x[x_row + col], &x_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    x_chunk[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : ((uchar)(0));
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 4; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int x_row_2 = row_2 * args.x_row_stride_0;
            const int scale_row_2 = row_2 * args.scale_row_stride_0;
            const int y_0_row_2 = row_2 * (args.cols * 2);
            const int y_1_row_2 = (row_2 * (args.cols * 2)) + 1;
            const int shift_2 = (x_row_2 + args.x_shift) & 3;
            const bool x_vectors_2 = args.x_col == 1;
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 4) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 4) <= args.cols);
            const uchar scale_2 = scale[scale_row_2];
            const int i32_2 = (int)scale_2;
            const int and_4 = (int)(i32_2 & 1);
            const int add_5 = (int)(((uint)1 + (uint)and_4));
            const float f32_6 = (float)add_5;
            const int and_9 = (int)(i32_2 & 2);
            const bool ne_11 = and_9 != 0;
            const long where_14 = ne_11 ? 4L : 1L;
            const float f32_15 = (float)where_14;
            const float mul_16 = f32_6 * f32_15;
            const int and_18 = (int)(i32_2 & 4);
            const bool ne_19 = 0 != and_18;
            const long where_21 = ne_19 ? 16L : 1L;
            const float f32_22 = (float)where_21;
            const float mul_23 = mul_16 * f32_22;
            const int and_25 = (int)(i32_2 & 8);
            const bool ne_26 = 0 != and_25;
            const long where_28 = ne_26 ? 256L : 1L;
            const float f32_29 = (float)where_28;
            const float mul_30 = mul_23 * f32_29;
            const int and_32 = (int)(i32_2 & 16);
            const bool ne_33 = 0 != and_32;
            const long where_35 = ne_33 ? 65536L : 1L;
            const float f32_36 = (float)where_35;
            const float mul_37 = mul_30 * f32_36;
            const int and_39 = (int)(i32_2 & 32);
            const bool ne_40 = 0 != and_39;
            const long where_42 = ne_40 ? 4294967296L : 1L;
            const float f32_43 = (float)where_42;
            const float mul_44 = mul_37 * f32_43;
            const int and_46 = (int)(i32_2 & 64);
            const bool ne_47 = 0 != and_46;
            const float where_49 = ne_47 ? 1.8446744e19f : 1.0f;
            const float mul_50 = mul_44 * where_49;
            const int and_52 = (int)(i32_2 & 128);
            const bool ne_53 = 0 != and_52;
            const float where_56 = ne_53 ? 2.0f : 5.877472e-39f;
            const float mul_57 = mul_50 * where_56;
            const bool eq_59 = i32_2 == 255;
            const float where_61 = eq_59 ? NAN : mul_57;
            float y_0_chunk[4];
            float y_1_chunk[4];
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                const float f32_64 = (float)((uchar)(x_chunk[(c_2 * 4) + i_2] & ((uchar)(7))));
                const float f32_68 = (float)((uchar)(((uchar)(7)) & ((uchar)(x_chunk[(c_2 * 4) + i_2] >> (((uchar)(4)) & 7)))));
                const float where_79 = (f32_64 < 6.0f) ? (f32_64 - 2.0f) : ((2.0f * f32_64) - 8.0f);
                const float where_80 = (f32_64 < 4.0f) ? (f32_64 * 0.5f) : where_79;
                const float where_87 = (f32_68 < 6.0f) ? (f32_68 - 2.0f) : ((2.0f * f32_68) - 8.0f);
                const float where_88 = (f32_68 < 4.0f) ? (f32_68 * 0.5f) : where_87;
                const float where_94 = (((uchar)(x_chunk[(c_2 * 4) + i_2] & ((uchar)(8)))) != ((uchar)(0))) ? (-where_80) : where_80;
                const float where_99 = (x_chunk[(c_2 * 4) + i_2] > ((uchar)(127))) ? (-where_88) : where_88;
                y_0_chunk[i_2] = where_61 * where_94;
                y_1_chunk[i_2] = where_61 * where_99;
            }
            if (lives_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    if ((0 <= (col_2 + i_3)) && ((col_2 + i_3) < args.cols)) {
                        y[y_0_row_2 + ((col_2 + i_3) * 2)] = y_0_chunk[i_3];
                    }
                }
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    if ((0 <= (col_2 + i_4)) && ((col_2 + i_4) < args.cols)) {
                        y[y_1_row_2 + ((col_2 + i_4) * 2)] = y_1_chunk[i_4];
                    }
                }
            }
        }
    }
}

struct zmlx_dequantize_mxfp4_bf16_args {
    int chunks;
    int rows;
    int x_row_stride_0;
    int scale_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_dequantize_mxfp4_bf16(device const uchar* x [[buffer(0)]],
    device const uchar* scale [[buffer(1)]],
    device float* y [[buffer(2)]],
    constant zmlx_dequantize_mxfp4_bf16_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    const int total = args.rows * args.chunks;
    for (int first = (bid * 1024) + tid; first < total; first += blocks * 1024) {
        uchar x_chunk[16];
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const bool lives = (first + (c * 256)) < total;
            const int chunk = min_i32((first + (c * 256)), (total - 1));
            const int row = (args.rows == 1) ? 0 : (chunk / args.chunks);
            const int x_row = row * args.x_row_stride_0;
            const int scale_row = row * args.scale_row_stride_0;
            const int y_0_row = row * (args.cols * 2);
            const int y_1_row = (row * (args.cols * 2)) + 1;
            const int shift = (x_row + args.x_shift) & 3;
            const bool x_vectors = args.x_col == 1;
            const int col = ((chunk - (row * args.chunks)) * 4) - shift;
            const bool full = (0 <= col) && ((col + 4) <= args.cols);
            if (full && x_vectors) {
                load_u8x4(&x[x_row + col], &x_chunk[c * 4]);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    x_chunk[(c * 4) + i] = ((0 <= (col + i)) && ((col + i) < args.cols)) ? x[x_row + ((col + i) * args.x_col)] : ((uchar)(0));
                }
            }
        }
#pragma unroll
        for (int c_2 = 0; c_2 < 4; c_2++) {
            const bool lives_2 = (first + (c_2 * 256)) < total;
            const int chunk_2 = min_i32((first + (c_2 * 256)), (total - 1));
            const int row_2 = (args.rows == 1) ? 0 : (chunk_2 / args.chunks);
            const int x_row_2 = row_2 * args.x_row_stride_0;
            const int scale_row_2 = row_2 * args.scale_row_stride_0;
            const int y_0_row_2 = row_2 * (args.cols * 2);
            const int y_1_row_2 = (row_2 * (args.cols * 2)) + 1;
            const int shift_2 = (x_row_2 + args.x_shift) & 3;
            const bool x_vectors_2 = args.x_col == 1;
            const int col_2 = ((chunk_2 - (row_2 * args.chunks)) * 4) - shift_2;
            const bool full_2 = (0 <= col_2) && ((col_2 + 4) <= args.cols);
            const uchar scale_2 = scale[scale_row_2];
            const int i32_2 = (int)scale_2;
            const int and_4 = (int)(i32_2 & 1);
            const int add_5 = (int)(((uint)1 + (uint)and_4));
            const float f32_6 = (float)add_5;
            const int and_9 = (int)(i32_2 & 2);
            const bool ne_11 = and_9 != 0;
            const long where_14 = ne_11 ? 4L : 1L;
            const float f32_15 = (float)where_14;
            const float mul_16 = f32_6 * f32_15;
            const int and_18 = (int)(i32_2 & 4);
            const bool ne_19 = 0 != and_18;
            const long where_21 = ne_19 ? 16L : 1L;
            const float f32_22 = (float)where_21;
            const float mul_23 = mul_16 * f32_22;
            const int and_25 = (int)(i32_2 & 8);
            const bool ne_26 = 0 != and_25;
            const long where_28 = ne_26 ? 256L : 1L;
            const float f32_29 = (float)where_28;
            const float mul_30 = mul_23 * f32_29;
            const int and_32 = (int)(i32_2 & 16);
            const bool ne_33 = 0 != and_32;
            const long where_35 = ne_33 ? 65536L : 1L;
            const float f32_36 = (float)where_35;
            const float mul_37 = mul_30 * f32_36;
            const int and_39 = (int)(i32_2 & 32);
            const bool ne_40 = 0 != and_39;
            const long where_42 = ne_40 ? 4294967296L : 1L;
            const float f32_43 = (float)where_42;
            const float mul_44 = mul_37 * f32_43;
            const int and_46 = (int)(i32_2 & 64);
            const bool ne_47 = 0 != and_46;
            const float where_49 = ne_47 ? 1.8446744e19f : 1.0f;
            const float mul_50 = mul_44 * where_49;
            const int and_52 = (int)(i32_2 & 128);
            const bool ne_53 = 0 != and_52;
            const float where_56 = ne_53 ? 2.0f : 5.877472e-39f;
            const float mul_57 = mul_50 * where_56;
            const bool eq_59 = i32_2 == 255;
            const float where_61 = eq_59 ? NAN : mul_57;
            float y_0_chunk[4];
            float y_1_chunk[4];
#pragma unroll
            for (int i_2 = 0; i_2 < 4; i_2++) {
                const float f32_64 = (float)((uchar)(x_chunk[(c_2 * 4) + i_2] & ((uchar)(7))));
                const float f32_68 = (float)((uchar)(((uchar)(7)) & ((uchar)(x_chunk[(c_2 * 4) + i_2] >> (((uchar)(4)) & 7)))));
                const float where_79 = (f32_64 < 6.0f) ? (f32_64 - 2.0f) : ((2.0f * f32_64) - 8.0f);
                const float where_80 = (f32_64 < 4.0f) ? (f32_64 * 0.5f) : where_79;
                const float where_87 = (f32_68 < 6.0f) ? (f32_68 - 2.0f) : ((2.0f * f32_68) - 8.0f);
                const float where_88 = (f32_68 < 4.0f) ? (f32_68 * 0.5f) : where_87;
                const float where_94 = (((uchar)(x_chunk[(c_2 * 4) + i_2] & ((uchar)(8)))) != ((uchar)(0))) ? (-where_80) : where_80;
                const float where_99 = (x_chunk[(c_2 * 4) + i_2] > ((uchar)(127))) ? (-where_88) : where_88;
                y_0_chunk[i_2] = where_61 * where_94;
                y_1_chunk[i_2] = where_61 * where_99;
            }
            if (lives_2) {
#pragma unroll
                for (int i_3 = 0; i_3 < 4; i_3++) {
                    if ((0 <= (col_2 + i_3)) && ((col_2 + i_3) < args.cols)) {
                        y[y_0_row_2 + ((col_2 + i_3) * 2)] = y_0_chunk[i_3];
                    }
                }
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    if ((0 <= (col_2 + i_4)) && ((col_2 + i_4) < args.cols)) {
                        y[y_1_row_2 + ((col_2 + i_4) * 2)] = y_1_chunk[i_4];
                    }
                }
            }
        }
    }
}
