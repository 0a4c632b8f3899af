//! Where the operands of products lie: what a thread says of its part of a tile once, and how it copies it.

use super::Operand;

/// Rows of A as `rows_of` says. Those that are none are not read: one row in their place would be read by all blocks at once.
pub(crate) const OF_ROWS: Operand<'_> = Operand {
    turned: false,
    once: "constexpr u32 none = 0xffffffffu;
    u32 a_from[A_TURNS];
    #pragma unroll
    for (i32 t = 0; t < A_TURNS; t++) {
        const i32 row = rows_of[a_row + t * A_STEP];
        a_from[t] = row < 0 ? none : (u32)row;
    }",
    copy: "copy_async(to, $X + (from + a_col) + (u64)a_from[t] * (u32)depth, a_from[t] != none && from + a_col < depth);",
};

/// Rows of matrices.
pub(crate) const OF_MATRIX: Operand<'_> = Operand {
    turned: false,
    once: "const i64 of_group = group * $ACROSS * depth;
    u32 b_from[B_TURNS];
    #pragma unroll
    for (i32 t = 0; t < B_TURNS; t++) {
        const i64 row = left + b_row + t * B_STEP % WIDE;
        b_from[t] = (u32)(row < $ACROSS ? row : 0);
    }",
    copy: "const i32 r = t * B_STEP;
                copy_async(to, $W + of_group + (from + b_col) + (u64)b_from[t] * (u32)depth, from + b_col < depth);",
};

/// Rows of codes, 32 codes a thread and turn: where they begin. A code q of b bits is put into the highest bits of a float, which is
/// 1 + q/2ᵇ then, and scale · q + bias is one multiply-add of it: what the bias loses is 2⁻²⁴⁺ᵇ of the scale.
pub(crate) const OF_CODES: Operand<'_> = Operand {
    turned: false,
    once: "constexpr i32 HIGH = 23 - $BITS;
    constexpr u32 ONES = (1u << $BITS) - 1;
    constexpr i32 PARTS = DEPTH / 32, TURNS = COLS * PARTS / THREADS;
    const i32 part = thread_index % PARTS * 32, size = depth / (i32)$GROUPS, shift = size == 32 ? 5 : size == 64 ? 6 : 7;
    i64 words_at[TURNS], scales_at[TURNS];
    #pragma unroll
    for (i32 t = 0; t < TURNS; t++) {
        const i64 row = left + (thread_index / PARTS + t * (THREADS / PARTS)) % WIDE;
        const i64 at = group * $ACROSS + (row < $ACROSS ? row : 0);
        words_at[t] = at * $WORDS;
        scales_at[t] = at * $GROUPS;
    }",
    copy: "",
};

/// They are loaded a step before, and put into the tile beside the product.
pub(crate) const CODES: [&str; 2] = [
    "four<u32> held[TURNS][$BITS / 4];
        f32 scale[TURNS], bias[TURNS];
        const bool coming = step >= -1 && step + 1 < steps;
        if (coming) {
            const i32 k = (step + 1) * DEPTH + part;
            #pragma unroll
            for (i32 t = 0; t < TURNS; t++) {
                const i32 r = thread_index / PARTS + t * (THREADS / PARTS);
                const bool there = k < depth;
                #pragma unroll
                for (i32 q = 0; q < $BITS / 4; q++) {
                    held[t][q] = load4($W + words_at[t] + (there ? k * $BITS / 32 : 0) + q * 4);
                }
                const i64 g = scales_at[t] + (there ? k >> shift : 0);
                scale[t] = there ? wide($W_SCALES[g]) * (f32)(1 << $BITS) : 0.0f;
                bias[t] = there ? wide($W_BIASES[g]) - scale[t] : 0.0f;
            }
        }",
    "if (coming) {
            shared y_t* b = tiles + (step + 1) % STAGES * STAGE + A_ROWS * A_PITCH + thread_index / PARTS * B_PITCH + part;
            #pragma unroll
            for (i32 t = 0; t < TURNS; t++) {
                shared y_t* to = b + t * (THREADS / PARTS) * B_PITCH;
                #pragma unroll
                for (i32 q = 0; q < $BITS / 4; q++) {
                    const u32 word[4] = {held[t][q].x, held[t][q].y, held[t][q].z, held[t][q].w};
                    #pragma unroll
                    for (i32 s = 0; s < 16 / $BITS; s++) {
                        f32 v[8];
                        #pragma unroll
                        for (i32 j = 0; j < 8; j++) {
                            const i32 bit = (s * 8 + j) * $BITS;
                            const u32 code = bit % 32 < HIGH ? word[bit / 32] << (HIGH - bit % 32) : word[bit / 32] >> (bit % 32 - HIGH);
                            v[j] = fmaf(as_f32((code & ONES << HIGH) | 0x3f800000u), scale[t], bias[t]);
                        }
                        four<u32> out;
                        out.x = pair_of<y_t>(v[0], v[1]);
                        out.y = pair_of<y_t>(v[2], v[3]);
                        out.z = pair_of<y_t>(v[4], v[5]);
                        out.w = pair_of<y_t>(v[6], v[7]);
                        store4((shared u32*)(to + (q * (16 / $BITS) + s) * 8), out);
                    }
                }
            }
        }",
];
