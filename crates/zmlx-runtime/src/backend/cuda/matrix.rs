//! CUDA's words for matrix units, from compute capability 8.0 on: fragments of 16 × 16, their product, and copies to shared memory
//! that run on beside it. Sums are in f32.
//!
//! A lane has two neighbours along the depth in a word. `ldmatrix` reads four 8 × 8 matrices, of which a lane names a row, in the order
//! in which `mma` takes those of A, and of B, whose columns are rows here, in two halves: its registers have to be neighbours.

/// See `c_like/raw.rs`.
pub const WORDS: &str = "\
template <class T> struct fragment_a { u32 at[4]; };
template <class T> struct fragment_b { u32 at[4]; };
struct fragment_c { f32 at[8]; };
function void load_matrices(u32* at, u64 row) {
    asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\"
        : \"=r\"(at[0]), \"=r\"(at[1]), \"=r\"(at[2]), \"=r\"(at[3]) : \"l\"(row) : \"memory\");
}
function void load_turned_matrices(u32* at, u64 row) {
    asm volatile(\"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\"
        : \"=r\"(at[0]), \"=r\"(at[1]), \"=r\"(at[2]), \"=r\"(at[3]) : \"l\"(row) : \"memory\");
}
template <bool turned, class T> function fragment_a<T> load_a(const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_a<T> a;
    if (turned) {
        const T* row = tile + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8;
        load_turned_matrices(a.at, __cvta_generic_to_shared(row) + at * sizeof(T));
    } else {
        const T* row = tile + lane % 16 * pitch + lane / 16 * 8;
        load_matrices(a.at, __cvta_generic_to_shared(row) + at * sizeof(T));
    }
    return a;
}
template <bool turned, class T> function fragment_b<T> load_b(const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_b<T> b;
    if (turned) {
        const T* row = tile + lane % 16 * pitch + lane / 16 * 8;
        load_turned_matrices(b.at, __cvta_generic_to_shared(row) + at * sizeof(T));
    } else {
        const T* row = tile + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 8;
        load_matrices(b.at, __cvta_generic_to_shared(row) + at * sizeof(T));
    }
    return b;
}
function void multiply_half(f32* c, const fragment_a<bf16>& a, u32 b0, u32 b1) {
    asm(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\"
        : \"+f\"(c[0]), \"+f\"(c[1]), \"+f\"(c[2]), \"+f\"(c[3])
        : \"r\"(a.at[0]), \"r\"(a.at[1]), \"r\"(a.at[2]), \"r\"(a.at[3]), \"r\"(b0), \"r\"(b1));
}
function void multiply_half(f32* c, const fragment_a<f16>& a, u32 b0, u32 b1) {
    asm(\"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\"
        : \"+f\"(c[0]), \"+f\"(c[1]), \"+f\"(c[2]), \"+f\"(c[3])
        : \"r\"(a.at[0]), \"r\"(a.at[1]), \"r\"(a.at[2]), \"r\"(a.at[3]), \"r\"(b0), \"r\"(b1));
}
template <class T> function void multiply_add(fragment_c& c, const fragment_a<T>& a, const fragment_b<T>& b) {
    multiply_half(c.at, a, b.at[0], b.at[1]);
    multiply_half(c.at + 4, a, b.at[2], b.at[3]);
}
function void clear(fragment_c& c) {
    for (i32 i = 0; i < 8; i++) {
        c.at[i] = 0.0f;
    }
}
function f32 element(const fragment_c& c, i32 i) { return c.at[i]; }
function void set_element(fragment_c& c, i32 i, f32 x) { c.at[i] = x; }
constexpr i32 FRAGMENT_HALF = 2;
template <class F> function f32 across_row(f32 x) {
    x = F::join(x, shuffle_xor(x, 1));
    return F::join(x, shuffle_xor(x, 2));
}
function i32 fragment_row(i32 i, i32 lane) { return lane / 4 + (i & 2) * 4; }
function i32 fragment_col(i32 i, i32 lane) { return lane % 4 * 2 + (i & 1) + (i & 4) * 2; }
template <class T> function void copy_async(T* to, const T* from, bool there) {
    asm volatile(\"cp.async.cg.shared.global [%0], [%1], 16, %2;\"
        : : \"l\"(__cvta_generic_to_shared(to)), \"l\"(from), \"r\"(there ? 16 : 0) : \"memory\");
}
function f32 sigmoid(f32 x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }
template <class T> function void store4(T* to, const four<T>& x) { *(four<T>*)to = x; }
function void copy_commit() { asm volatile(\"cp.async.commit_group;\" : : : \"memory\"); }
template <i32 n> function void copy_wait() { asm volatile(\"cp.async.wait_group %0;\" : : \"n\"(n) : \"memory\"); }
template <class T> function u32 pair_of(f32 low, f32 high);
template <> function u32 pair_of<bf16>(f32 low, f32 high) {
    u32 w;
    asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(w) : \"f\"(high), \"f\"(low));
    return w;
}
template <> function u32 pair_of<f16>(f32 low, f32 high) {
    u32 w;
    asm(\"cvt.rn.f16x2.f32 %0, %1, %2;\" : \"=r\"(w) : \"f\"(high), \"f\"(low));
    return w;
}
template <class T> function fragment_a<T> as_a(const fragment_c& c) {
    fragment_a<T> a;
    for (i32 i = 0; i < 4; i++) {
        a.at[i] = pair_of<T>(c.at[2 * i], c.at[2 * i + 1]);
    }
    return a;
}
";
