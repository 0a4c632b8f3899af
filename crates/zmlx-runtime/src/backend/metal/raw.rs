//! Metal's words of the prelude of kernels written by hand. Not yet run on Apple hardware.

use crate::backend::c_like::raw::Words;

/// See `c_like/raw.rs`.
pub static WORDS: Words = Words {
    text: "\
typedef uchar u8;
typedef short i16;
typedef ushort u16;
typedef int i32;
typedef uint u32;
typedef long i64;
typedef ulong u64;
typedef float f32;
enum class f16 : ushort {};
enum class bf16 : ushort {};
#define local thread
#define function inline
#define shared_array(T, name, n) threadgroup T name[n];
#define barrier() threadgroup_barrier(mem_flags::mem_threadgroup)
#define warp_barrier() simdgroup_barrier(mem_flags::mem_threadgroup)
function f32 as_f32(u32 x) { return as_type<f32>(x); }
function u32 as_u32(f32 x) { return as_type<u32>(x); }
template <class T> struct four { T x, y, z, w; };
template <class T> function four<T> four_of(T x, T y, T z, T w) { return four<T>{x, y, z, w}; }
template <class P> function auto load4(P p) { return four_of(p[0], p[1], p[2], p[3]); }
template <class T> function T shuffle(T x, i32 n) { return simd_shuffle(x, (ushort)n); }
template <class T> function T shuffle_xor(T x, i32 n) { return simd_shuffle_xor(x, (ushort)n); }
template <class T> function T shuffle_up(T x, i32 n) { return simd_shuffle_up(x, (ushort)n); }
template <class T> function T shuffle_down(T x, i32 n) { return simd_shuffle_down(x, (ushort)n); }
function f32 expf(f32 x) { return metal::precise::exp(x); }
function f32 exp2f(f32 x) { return metal::precise::exp2(x); }
function f32 logf(f32 x) { return metal::precise::log(x); }
function f32 log2f(f32 x) { return metal::precise::log2(x); }
function f32 sqrtf(f32 x) { return metal::precise::sqrt(x); }
function f32 rsqrtf(f32 x) { return metal::precise::rsqrt(x); }
function f32 tanhf(f32 x) { return metal::precise::tanh(x); }
function f32 sinf(f32 x) { return metal::precise::sin(x); }
function f32 cosf(f32 x) { return metal::precise::cos(x); }
function f32 powf(f32 x, f32 y) { return metal::precise::pow(x, y); }
function f32 fabsf(f32 x) { return metal::fabs(x); }
function f32 floorf(f32 x) { return metal::floor(x); }
function f32 ceilf(f32 x) { return metal::ceil(x); }
function f32 fminf(f32 x, f32 y) { return metal::fmin(x, y); }
function f32 fmaxf(f32 x, f32 y) { return metal::fmax(x, y); }
function f32 fmaf(f32 x, f32 y, f32 z) { return metal::fma(x, y, z); }
",
    matrix: super::matrix::WORDS,
    memory: |bytes| format!("    alignas(16) threadgroup u8 memory[{bytes}];\n"),
    entry,
    pointers: ["device", "threadgroup"],
    places: "\
    const i32 thread_index = (i32)thread_of_group.x, block_threads = (i32)threads_of_group.x;
    const i32 block_index = (i32)group_of_grid.x, block_index_y = (i32)group_of_grid.y;
    const i32 block_index_z = (i32)group_of_grid.z, grid_blocks = (i32)groups_of_grid.x;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
",
};

fn entry(name: &str, params: &[String], args: &str, threads: u32) -> String {
    let mut list: Vec<String> = params.iter().enumerate().map(|(k, p)| format!("{p} [[buffer({k})]]")).collect();
    list.push(format!("constant {args}& args [[buffer({})]]", params.len()));
    list.push("uint3 thread_of_group [[thread_position_in_threadgroup]]".into());
    list.push("uint3 threads_of_group [[threads_per_threadgroup]]".into());
    list.push("uint3 group_of_grid [[threadgroup_position_in_grid]]".into());
    list.push("uint3 groups_of_grid [[threadgroups_per_grid]]".into());
    format!("[[max_total_threads_per_threadgroup({threads})]]\nkernel void {name}({})", list.join(",\n    "))
}
