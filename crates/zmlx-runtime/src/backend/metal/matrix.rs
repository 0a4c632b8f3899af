//! Metal's words for matrix units: fragments of 16 × 16 as four `simdgroup_matrix` of 8 × 8, all of f32. Copies are plain loads and
//! stores. Not yet run on Apple hardware.
//!
//! Which elements a lane has of an 8 × 8 matrix is what MLX's kernels rely on (`steel/gemm/mma.h`): two neighbours of a row. So a
//! lane reads its own elements of a tile, of any type and either way around.

/// See `c_like/raw.rs`.
pub const WORDS: &str = "\
template <class T> struct fragment_a { simdgroup_matrix<float, 8, 8> at[4]; };
template <class T> struct fragment_b { simdgroup_matrix<float, 8, 8> at[4]; };
struct fragment_c { simdgroup_matrix<float, 8, 8> at[4]; };
function i32 fragment_row(i32 i, i32 lane) { return (lane / 4 & 4) + lane / 2 % 4 + i / 4 * 8; }
function i32 fragment_col(i32 i, i32 lane) { return (lane / 4 & 2) * 2 + lane % 2 * 2 + i % 2 + i / 2 % 2 * 8; }
template <bool turned, class T> function fragment_a<T> load_a(threadgroup const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_a<T> a;
    for (i32 i = 0; i < 8; i++) {
        const i32 row = fragment_row(i, lane), col = fragment_col(i, lane);
        a.at[i / 2].thread_elements()[i % 2] = wide(turned ? tile[at + col * pitch + row] : tile[at + row * pitch + col]);
    }
    return a;
}
template <bool turned, class T> function fragment_b<T> load_b(threadgroup const T* tile, i32 at, i32 pitch, i32 lane) {
    fragment_b<T> b;
    for (i32 i = 0; i < 8; i++) {
        const i32 row = fragment_row(i, lane), col = fragment_col(i, lane);
        b.at[i / 2].thread_elements()[i % 2] = wide(turned ? tile[at + row * pitch + col] : tile[at + col * pitch + row]);
    }
    return b;
}
template <class T> function void multiply_add(thread fragment_c& c, thread fragment_a<T>& a, thread fragment_b<T>& b) {
    for (i32 row = 0; row < 2; row++) {
        for (i32 col = 0; col < 2; col++) {
            for (i32 k = 0; k < 2; k++) {
                simdgroup_multiply_accumulate(c.at[row * 2 + col], a.at[row * 2 + k], b.at[k * 2 + col], c.at[row * 2 + col]);
            }
        }
    }
}
function void clear(thread fragment_c& c) {
    for (i32 i = 0; i < 4; i++) {
        c.at[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }
}
function f32 element(thread fragment_c& c, i32 i) { return c.at[i / 2].thread_elements()[i % 2]; }
function void set_element(thread fragment_c& c, i32 i, f32 x) { c.at[i / 2].thread_elements()[i % 2] = x; }
constant constexpr i32 FRAGMENT_HALF = 4;
template <class F> function f32 across_row(f32 x) {
    x = F::join(x, shuffle_xor(x, 1));
    return F::join(x, shuffle_xor(x, 8));
}
template <class T> function fragment_a<T> as_a(thread fragment_c& c) {
    fragment_a<T> a;
    for (i32 i = 0; i < 4; i++) {
        a.at[i] = c.at[i];
    }
    return a;
}
template <class T> function void copy_async(threadgroup T* to, device const T* from, bool there) {
    for (i32 i = 0; i < 8; i++) {
        to[i] = there ? from[i] : (T)0;
    }
}
function f32 sigmoid(f32 x) { return 1.0f / (1.0f + metal::exp(-x)); }
template <class T> function void store4(threadgroup T* to, four<T> x) {
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
}
function void copy_commit() {}
template <i32 n> function void copy_wait() {}
template <class T> function u32 pair_of(f32 low, f32 high) {
    return (u32)narrow<T>(low) | (u32)narrow<T>(high) << 16;
}
";
