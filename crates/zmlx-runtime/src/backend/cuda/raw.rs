//! CUDA's words of the prelude of kernels written by hand.

use crate::backend::c_like::raw::Words;

/// See `c_like/raw.rs`.
pub static WORDS: Words = Words {
    text: "\
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;
enum class f16 : u16 {};
enum class bf16 : u16 {};
#define local
#define function __device__ __forceinline__
#define shared_array(T, name, n) __shared__ T name[n];
#define barrier() __syncthreads()
#define warp_barrier() __syncwarp()
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fc00000)
#endif
function f32 as_f32(u32 x) { return __uint_as_float(x); }
function u32 as_u32(f32 x) { return __float_as_uint(x); }
template <class T> struct alignas(4 * sizeof(T)) four { T x, y, z, w; };
template <class T> function four<T> load4(const T* p) { return *(const four<T>*)p; }
template <class T> function T shuffle(T x, i32 n) { return __shfl_sync(0xffffffffu, x, n, 32); }
template <class T> function T shuffle_xor(T x, i32 n) { return __shfl_xor_sync(0xffffffffu, x, n, 32); }
template <class T> function T shuffle_up(T x, i32 n) { return __shfl_up_sync(0xffffffffu, x, n, 32); }
template <class T> function T shuffle_down(T x, i32 n) { return __shfl_down_sync(0xffffffffu, x, n, 32); }
",
    matrix: super::matrix::WORDS,
    memory: |_| "    extern __shared__ __align__(16) u8 memory[];\n".into(),
    entry,
    pointers: ["", ""],
    places: "\
    const i32 thread_index = threadIdx.x, block_threads = blockDim.x, grid_blocks = gridDim.x;
    const i32 block_index = blockIdx.x, block_index_y = blockIdx.y, block_index_z = blockIdx.z;
    const i32 lane = thread_index & 31, warp = thread_index / 32, warps = block_threads / 32;
",
};

fn entry(name: &str, params: &[String], args: &str, threads: u32) -> String {
    let mut list: Vec<String> = params.iter().map(|p| p.replace("* ", "* __restrict__ ")).collect();
    list.push(format!("const {args} args"));
    format!("extern \"C\" __global__ __launch_bounds__({threads}) void {name}({})", list.join(", "))
}
