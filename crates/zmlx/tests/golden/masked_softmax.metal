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

static inline float max_f32(float a, float b) {
    return a >= b || a != a ? a : b;
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

static inline void load_u8x4(device const uchar* p, thread uchar* v) {
    const uint t = *(device const uint*)p;
    const uint w[1] = {t};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = (uchar)(w[i / 4] >> (8 * (i % 4)));
    }
}

static inline void load_u8x8(device const uchar* p, thread uchar* v) {
    const uint2 t = *(device const uint2*)p;
    const uint w[2] = {t.x, t.y};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        v[i] = (uchar)(w[i / 4] >> (8 * (i % 4)));
    }
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

struct zmlx_masked_softmax_f32_args {
    int rows;
    int x_row_stride_0;
    int mask_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int mask_shift;
    int mask_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_masked_softmax_f32(device const float* x [[buffer(0)]],
    device const uchar* mask [[buffer(1)]],
    device float* out [[buffer(2)]],
    constant zmlx_masked_softmax_f32_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_6_of_warp[8];
    threadgroup bool any_9_of_warp[8];
    threadgroup float sum_10_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int mask_row = base * args.mask_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const bool mask_vectors = ((((mask_row + args.mask_shift) - shift) & 3) == 0) && (args.mask_col == 1);
        const int lane = tid;
        float x_held[16];
        uchar mask_held[16];
        if ((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && x_vectors) && mask_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
                load_u8x4(&mask[mask_row + col_2], &mask_held[c_2 * 4]);
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
                if (full && mask_vectors) {
                    load_u8x4(&mask[mask_row + col], &mask_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 4; i_2++) {
                        mask_held[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? mask[mask_row + ((col + i_2) * args.mask_col)] : ((uchar)(0));
                    }
                }
            }
        }
        float max_6 = -INFINITY;
        bool any_9 = false;
        float v_5_held[16];
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            float term_5[4];
            bool term_3[4];
#pragma unroll
            for (int i_3 = 0; i_3 < 4; i_3++) {
                const bool ne_3 = mask_held[(c_3 * 4) + i_3] != ((uchar)(0));
                const float where_5 = ne_3 ? x_held[(c_3 * 4) + i_3] : (-INFINITY);
                v_5_held[(c_3 * 4) + i_3] = where_5;
                term_5[i_3] = where_5;
                term_3[i_3] = ne_3;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    max_6 = max_f32(max_6, term_5[i_4]);
                    any_9 = any_9 || term_3[i_4];
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    max_6 = max_f32(max_6, (inside ? term_5[i_5] : (-INFINITY)));
                    any_9 = any_9 || (inside ? term_3[i_5] : false);
                }
            }
        }
        const float other = simd_shuffle_xor(max_6, (ushort)16);
        max_6 = max_f32(max_6, other);
        const bool other_2 = simd_shuffle_xor((int)any_9, (ushort)16) != 0;
        any_9 = any_9 || other_2;
        const float other_3 = simd_shuffle_xor(max_6, (ushort)8);
        max_6 = max_f32(max_6, other_3);
        const bool other_4 = simd_shuffle_xor((int)any_9, (ushort)8) != 0;
        any_9 = any_9 || other_4;
        const float other_5 = simd_shuffle_xor(max_6, (ushort)4);
        max_6 = max_f32(max_6, other_5);
        const bool other_6 = simd_shuffle_xor((int)any_9, (ushort)4) != 0;
        any_9 = any_9 || other_6;
        const float other_7 = simd_shuffle_xor(max_6, (ushort)2);
        max_6 = max_f32(max_6, other_7);
        const bool other_8 = simd_shuffle_xor((int)any_9, (ushort)2) != 0;
        any_9 = any_9 || other_8;
        const float other_9 = simd_shuffle_xor(max_6, (ushort)1);
        max_6 = max_f32(max_6, other_9);
        const bool other_10 = simd_shuffle_xor((int)any_9, (ushort)1) != 0;
        any_9 = any_9 || other_10;
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_6_of_warp[warp] = max_6;
            any_9_of_warp[warp] = any_9;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_6 = max_6_of_warp[0];
        any_9 = any_9_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            max_6 = max_f32(max_6, max_6_of_warp[w]);
            any_9 = any_9 || any_9_of_warp[w];
        }
        float sum_10 = 0.0f;
        float v_8_held[16];
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float term_8[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const float exp_8 = metal::precise::exp((v_5_held[(c_4 * 4) + i_6] - max_6));
                v_8_held[(c_4 * 4) + i_6] = exp_8;
                term_8[i_6] = exp_8;
            }
            if (full_3) {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    sum_10 = sum_10 + term_8[i_7];
                }
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    const bool inside_2 = (0 <= (col_4 + i_8)) && ((col_4 + i_8) < args.cols);
                    sum_10 = sum_10 + (inside_2 ? term_8[i_8] : 0.0f);
                }
            }
        }
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)16);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)8);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)4);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)2);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_10_of_warp[warp_2] = sum_10;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_10 = sum_10_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_10 = sum_10 + sum_10_of_warp[w_2];
        }
        const float recip_11 = 1.0f / sum_10;
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = ((lane + (c_5 * 256)) * 4) - shift;
            const bool full_4 = (0 <= col_5) && ((col_5 + 4) <= args.cols);
            float out_chunk[4];
#pragma unroll
            for (int i_9 = 0; i_9 < 4; i_9++) {
                const float where_14 = any_9 ? (v_8_held[(c_5 * 4) + i_9] * recip_11) : 0.0f;
                out_chunk[i_9] = where_14;
            }
            if (full_4) {
                store_f32x4(&out[out_row + col_5], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    if ((0 <= (col_5 + i_10)) && ((col_5 + i_10) < args.cols)) {
                        out[out_row + (col_5 + i_10)] = out_chunk[i_10];
                    }
                }
            }
        }
    }
}

struct zmlx_masked_softmax_bf16_args {
    int rows;
    int x_row_stride_0;
    int mask_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int mask_shift;
    int mask_col;
};

[[max_total_threads_per_threadgroup(128)]]
kernel void zmlx_masked_softmax_bf16(device const ushort* x [[buffer(0)]],
    device const uchar* mask [[buffer(1)]],
    device ushort* out [[buffer(2)]],
    constant zmlx_masked_softmax_bf16_args& args [[buffer(3)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_6_of_warp[4];
    threadgroup bool any_9_of_warp[4];
    threadgroup float sum_10_of_warp[4];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int mask_row = base * args.mask_row_stride_0;
        const int out_row = base * args.cols;
        const int shift = out_row & 7;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 7) == 0) && (args.x_col == 1);
        const bool mask_vectors = ((((mask_row + args.mask_shift) - shift) & 7) == 0) && (args.mask_col == 1);
        const int lane = tid;
        uint x_held[16];
        uchar mask_held[32];
        if ((((0 <= ((lane * 8) - shift)) && ((((lane * 8) - shift) + 3080) <= args.cols)) && x_vectors) && mask_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 128)) * 8) - shift;
                copy_bf16x8(&x[x_row + col_2], &x_held[(c_2 * 8) / 2]);
                load_u8x8(&mask[mask_row + col_2], &mask_held[c_2 * 8]);
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
                if (full && mask_vectors) {
                    load_u8x8(&mask[mask_row + col], &mask_held[c * 8]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 8; i_2++) {
                        mask_held[(c * 8) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? mask[mask_row + ((col + i_2) * args.mask_col)] : ((uchar)(0));
                    }
                }
            }
        }
        float max_6 = -INFINITY;
        bool any_9 = false;
        uint v_5_held[16];
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 128)) * 8) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 8) <= args.cols);
            float term_5[8];
            bool term_3[8];
#pragma unroll
            for (int i_3 = 0; i_3 < 8; i_3++) {
                const bool ne_3 = mask_held[(c_3 * 8) + i_3] != ((uchar)(0));
                const float where_5 = ne_3 ? half_bf16(x_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1) : (-INFINITY);
                v_5_held[((c_3 * 8) + i_3) / 2] = put_bf16(v_5_held[((c_3 * 8) + i_3) / 2], ((c_3 * 8) + i_3) & 1, where_5);
                term_5[i_3] = where_5;
                term_3[i_3] = ne_3;
            }
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 8; i_4++) {
                    max_6 = max_f32(max_6, term_5[i_4]);
                    any_9 = any_9 || term_3[i_4];
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 8; i_5++) {
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    max_6 = max_f32(max_6, (inside ? term_5[i_5] : (-INFINITY)));
                    any_9 = any_9 || (inside ? term_3[i_5] : false);
                }
            }
        }
        const float other = simd_shuffle_xor(max_6, (ushort)16);
        max_6 = max_f32(max_6, other);
        const bool other_2 = simd_shuffle_xor((int)any_9, (ushort)16) != 0;
        any_9 = any_9 || other_2;
        const float other_3 = simd_shuffle_xor(max_6, (ushort)8);
        max_6 = max_f32(max_6, other_3);
        const bool other_4 = simd_shuffle_xor((int)any_9, (ushort)8) != 0;
        any_9 = any_9 || other_4;
        const float other_5 = simd_shuffle_xor(max_6, (ushort)4);
        max_6 = max_f32(max_6, other_5);
        const bool other_6 = simd_shuffle_xor((int)any_9, (ushort)4) != 0;
        any_9 = any_9 || other_6;
        const float other_7 = simd_shuffle_xor(max_6, (ushort)2);
        max_6 = max_f32(max_6, other_7);
        const bool other_8 = simd_shuffle_xor((int)any_9, (ushort)2) != 0;
        any_9 = any_9 || other_8;
        const float other_9 = simd_shuffle_xor(max_6, (ushort)1);
        max_6 = max_f32(max_6, other_9);
        const bool other_10 = simd_shuffle_xor((int)any_9, (ushort)1) != 0;
        any_9 = any_9 || other_10;
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_6_of_warp[warp] = max_6;
            any_9_of_warp[warp] = any_9;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_6 = max_6_of_warp[0];
        any_9 = any_9_of_warp[0];
#pragma unroll
        for (int w = 1; w < 4; w++) {
            max_6 = max_f32(max_6, max_6_of_warp[w]);
            any_9 = any_9 || any_9_of_warp[w];
        }
        float sum_10 = 0.0f;
        float v_8_held[32];
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 128)) * 8) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 8) <= args.cols);
            float term_8[8];
#pragma unroll
            for (int i_6 = 0; i_6 < 8; i_6++) {
                const float exp_8 = metal::precise::exp((half_bf16(v_5_held[((c_4 * 8) + i_6) / 2], ((c_4 * 8) + i_6) & 1) - max_6));
                v_8_held[(c_4 * 8) + i_6] = exp_8;
                term_8[i_6] = exp_8;
            }
            if (full_3) {
#pragma unroll
                for (int i_7 = 0; i_7 < 8; i_7++) {
                    sum_10 = sum_10 + term_8[i_7];
                }
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 8; i_8++) {
                    const bool inside_2 = (0 <= (col_4 + i_8)) && ((col_4 + i_8) < args.cols);
                    sum_10 = sum_10 + (inside_2 ? term_8[i_8] : 0.0f);
                }
            }
        }
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)16);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)8);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)4);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)2);
        sum_10 = sum_10 + simd_shuffle_xor(sum_10, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_10_of_warp[warp_2] = sum_10;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_10 = sum_10_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 4; w_2++) {
            sum_10 = sum_10 + sum_10_of_warp[w_2];
        }
        const float recip_11 = 1.0f / sum_10;
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = ((lane + (c_5 * 128)) * 8) - shift;
            const bool full_4 = (0 <= col_5) && ((col_5 + 8) <= args.cols);
            float out_chunk[8];
#pragma unroll
            for (int i_9 = 0; i_9 < 8; i_9++) {
                const float where_14 = any_9 ? (v_8_held[(c_5 * 8) + i_9] * recip_11) : 0.0f;
                out_chunk[i_9] = where_14;
            }
            if (full_4) {
                store_bf16x8(&out[out_row + col_5], &out_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 8; i_10++) {
                    if ((0 <= (col_5 + i_10)) && ((col_5 + i_10) < args.cols)) {
                        out[out_row + (col_5 + i_10)] = f32_to_bf16(out_chunk[i_10]);
                    }
                }
            }
        }
    }
}

struct zmlx_masked_softmax_vjp_f32_args {
    int rows;
    int x_row_stride_0;
    int mask_row_stride_0;
    int g_out_row_stride_0;
    int cols;
    int x_shift;
    int x_col;
    int mask_shift;
    int mask_col;
    int g_out_shift;
    int g_out_col;
};

[[max_total_threads_per_threadgroup(256)]]
kernel void zmlx_masked_softmax_vjp_f32(device const float* x [[buffer(0)]],
    device const uchar* mask [[buffer(1)]],
    device const float* g_out [[buffer(2)]],
    device float* d_x [[buffer(3)]],
    constant zmlx_masked_softmax_vjp_f32_args& args [[buffer(4)]],
    uint thread_of_group [[thread_position_in_threadgroup]],
    uint group_of_grid [[threadgroup_position_in_grid]],
    uint groups_of_grid [[threadgroups_per_grid]]) {
    const int tid = (int)thread_of_group;
    const int bid = (int)group_of_grid;
    const int blocks = (int)groups_of_grid;
    threadgroup float max_7_of_warp[8];
    threadgroup bool any_10_of_warp[8];
    threadgroup float sum_11_of_warp[8];
    threadgroup float sum_17_of_warp[8];
    for (int base = bid; base < args.rows; base += blocks) {
        const int x_row = base * args.x_row_stride_0;
        const int mask_row = base * args.mask_row_stride_0;
        const int g_out_row = base * args.g_out_row_stride_0;
        const int d_x_row = base * args.cols;
        const int shift = d_x_row & 3;
        const bool x_vectors = ((((x_row + args.x_shift) - shift) & 3) == 0) && (args.x_col == 1);
        const bool mask_vectors = ((((mask_row + args.mask_shift) - shift) & 3) == 0) && (args.mask_col == 1);
        const bool g_out_vectors = ((((g_out_row + args.g_out_shift) - shift) & 3) == 0) && (args.g_out_col == 1);
        const int lane = tid;
        float x_held[16];
        uchar mask_held[16];
        float g_out_held[16];
        if (((((0 <= ((lane * 4) - shift)) && ((((lane * 4) - shift) + 3076) <= args.cols)) && x_vectors) && mask_vectors) && g_out_vectors) {
#pragma unroll
            for (int c_2 = 0; c_2 < 4; c_2++) {
                const int col_2 = ((lane + (c_2 * 256)) * 4) - shift;
                load_f32x4(&x[x_row + col_2], &x_held[c_2 * 4]);
                load_u8x4(&mask[mask_row + col_2], &mask_held[c_2 * 4]);
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
                if (full && mask_vectors) {
                    load_u8x4(&mask[mask_row + col], &mask_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_2 = 0; i_2 < 4; i_2++) {
                        mask_held[(c * 4) + i_2] = ((0 <= (col + i_2)) && ((col + i_2) < args.cols)) ? mask[mask_row + ((col + i_2) * args.mask_col)] : ((uchar)(0));
                    }
                }
                if (full && g_out_vectors) {
                    load_f32x4(&g_out[g_out_row + col], &g_out_held[c * 4]);
                } else {
#pragma unroll
                    for (int i_3 = 0; i_3 < 4; i_3++) {
                        g_out_held[(c * 4) + i_3] = ((0 <= (col + i_3)) && ((col + i_3) < args.cols)) ? g_out[g_out_row + ((col + i_3) * args.g_out_col)] : 0.0f;
                    }
                }
            }
        }
        float max_7 = -INFINITY;
        bool any_10 = false;
#pragma unroll
        for (int c_3 = 0; c_3 < 4; c_3++) {
            const int col_3 = ((lane + (c_3 * 256)) * 4) - shift;
            const bool full_2 = (0 <= col_3) && ((col_3 + 4) <= args.cols);
            if (full_2) {
#pragma unroll
                for (int i_4 = 0; i_4 < 4; i_4++) {
                    const bool ne_4 = mask_held[(c_3 * 4) + i_4] != ((uchar)(0));
                    max_7 = max_f32(max_7, (ne_4 ? x_held[(c_3 * 4) + i_4] : (-INFINITY)));
                    any_10 = any_10 || ne_4;
                }
            } else {
#pragma unroll
                for (int i_5 = 0; i_5 < 4; i_5++) {
                    const bool ne_4_2 = mask_held[(c_3 * 4) + i_5] != ((uchar)(0));
                    const bool inside = (0 <= (col_3 + i_5)) && ((col_3 + i_5) < args.cols);
                    max_7 = max_f32(max_7, (inside ? (ne_4_2 ? x_held[(c_3 * 4) + i_5] : (-INFINITY)) : (-INFINITY)));
                    any_10 = any_10 || (inside ? ne_4_2 : false);
                }
            }
        }
        const float other = simd_shuffle_xor(max_7, (ushort)16);
        max_7 = max_f32(max_7, other);
        const bool other_2 = simd_shuffle_xor((int)any_10, (ushort)16) != 0;
        any_10 = any_10 || other_2;
        const float other_3 = simd_shuffle_xor(max_7, (ushort)8);
        max_7 = max_f32(max_7, other_3);
        const bool other_4 = simd_shuffle_xor((int)any_10, (ushort)8) != 0;
        any_10 = any_10 || other_4;
        const float other_5 = simd_shuffle_xor(max_7, (ushort)4);
        max_7 = max_f32(max_7, other_5);
        const bool other_6 = simd_shuffle_xor((int)any_10, (ushort)4) != 0;
        any_10 = any_10 || other_6;
        const float other_7 = simd_shuffle_xor(max_7, (ushort)2);
        max_7 = max_f32(max_7, other_7);
        const bool other_8 = simd_shuffle_xor((int)any_10, (ushort)2) != 0;
        any_10 = any_10 || other_8;
        const float other_9 = simd_shuffle_xor(max_7, (ushort)1);
        max_7 = max_f32(max_7, other_9);
        const bool other_10 = simd_shuffle_xor((int)any_10, (ushort)1) != 0;
        any_10 = any_10 || other_10;
        const int warp = tid / 32;
        if ((tid & 31) == 0) {
            max_7_of_warp[warp] = max_7;
            any_10_of_warp[warp] = any_10;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        max_7 = max_7_of_warp[0];
        any_10 = any_10_of_warp[0];
#pragma unroll
        for (int w = 1; w < 8; w++) {
            max_7 = max_f32(max_7, max_7_of_warp[w]);
            any_10 = any_10 || any_10_of_warp[w];
        }
        float sum_11 = 0.0f;
        float sum_17 = 0.0f;
        float v_9_held[16];
#pragma unroll
        for (int c_4 = 0; c_4 < 4; c_4++) {
            const int col_4 = ((lane + (c_4 * 256)) * 4) - shift;
            const bool full_3 = (0 <= col_4) && ((col_4 + 4) <= args.cols);
            float term_9[4];
            float term_16[4];
#pragma unroll
            for (int i_6 = 0; i_6 < 4; i_6++) {
                const float where_6 = (mask_held[(c_4 * 4) + i_6] != ((uchar)(0))) ? x_held[(c_4 * 4) + i_6] : (-INFINITY);
                const float exp_9 = metal::precise::exp((where_6 - max_7));
                const float mulz_16 = mulz_f32((any_10 ? g_out_held[(c_4 * 4) + i_6] : 0.0f), exp_9);
                v_9_held[(c_4 * 4) + i_6] = exp_9;
                term_9[i_6] = exp_9;
                term_16[i_6] = mulz_16;
            }
            if (full_3) {
#pragma unroll
                for (int i_7 = 0; i_7 < 4; i_7++) {
                    sum_11 = sum_11 + term_9[i_7];
                    sum_17 = sum_17 + term_16[i_7];
                }
            } else {
#pragma unroll
                for (int i_8 = 0; i_8 < 4; i_8++) {
                    const bool inside_2 = (0 <= (col_4 + i_8)) && ((col_4 + i_8) < args.cols);
                    sum_11 = sum_11 + (inside_2 ? term_9[i_8] : 0.0f);
                    sum_17 = sum_17 + (inside_2 ? term_16[i_8] : 0.0f);
                }
            }
        }
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)16);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)16);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)8);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)8);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)4);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)4);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)2);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)2);
        sum_11 = sum_11 + simd_shuffle_xor(sum_11, (ushort)1);
        sum_17 = sum_17 + simd_shuffle_xor(sum_17, (ushort)1);
        const int warp_2 = tid / 32;
        if ((tid & 31) == 0) {
            sum_11_of_warp[warp_2] = sum_11;
            sum_17_of_warp[warp_2] = sum_17;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sum_11 = sum_11_of_warp[0];
        sum_17 = sum_17_of_warp[0];
#pragma unroll
        for (int w_2 = 1; w_2 < 8; w_2++) {
            sum_11 = sum_11 + sum_11_of_warp[w_2];
            sum_17 = sum_17 + sum_17_of_warp[w_2];
        }
        const float recip_12 = 1.0f / sum_11;
        const float mul_18 = recip_12 * recip_12;
        const float neg_19 = -mul_18;
        const float mulz_20 = mulz_f32(sum_17, neg_19);
#pragma unroll
        for (int c_5 = 0; c_5 < 4; c_5++) {
            const int col_5 = ((lane + (c_5 * 256)) * 4) - shift;
            const bool full_4 = (0 <= col_5) && ((col_5 + 4) <= args.cols);
            float d_x_chunk[4];
#pragma unroll
            for (int i_9 = 0; i_9 < 4; i_9++) {
                const float mulz_15 = mulz_f32((any_10 ? g_out_held[(c_5 * 4) + i_9] : 0.0f), recip_12);
                const float where_23 = (mask_held[(c_5 * 4) + i_9] != ((uchar)(0))) ? mulz_f32((mulz_15 + mulz_20), v_9_held[(c_5 * 4) + i_9]) : 0.0f;
                d_x_chunk[i_9] = where_23;
            }
            if (full_4) {
                store_f32x4(&d_x[d_x_row + col_5], &d_x_chunk[0]);
            } else {
#pragma unroll
                for (int i_10 = 0; i_10 < 4; i_10++) {
                    if ((0 <= (col_5 + i_10)) && ((col_5 + i_10) < args.cols)) {
                        d_x[d_x_row + (col_5 + i_10)] = d_x_chunk[i_10];
                    }
                }
            }
        }
    }
}
