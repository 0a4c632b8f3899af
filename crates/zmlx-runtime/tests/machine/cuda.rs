//! Kernels in CUDA C++, written by hand.

use crate::{
    args, assert_close, column_sums, numbers, softmax,
    standin::{Bytes, Dialect::Cuda, Order},
    unit,
};

const ADD: &str = r#"
struct add_args { int n; };
extern "C" __global__ void __launch_bounds__(64) add(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ out, const add_args args) {
  int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= args.n) {
    float4 x = *reinterpret_cast<const float4*>(a + i), y = *reinterpret_cast<const float4*>(b + i);
    *reinterpret_cast<float4*>(out + i) = make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
  } else {
    for (; i < args.n; ++i) out[i] = a[i] + b[i];
  }
}
"#;

#[test]
fn a_sum_of_vectors_of_odd_length_is_exact() {
    let Some(unit) = unit(Cuda, ADD, &["add"]) else { return };
    for n in [1, 3, 4, 255, 256, 1001] {
        let (a, b) = (numbers(n), numbers(2 * n).split_off(n));
        let mut buffers = [Bytes::of_f32(&a), Bytes::of_f32(&b), Bytes::poisoned(4 * n)];
        let blocks = n.div_ceil(256) as u32;
        unit.run_in_every_order("add", [blocks, 1, 1], [64, 1, 1], 0, &mut buffers, &args(&[n as i32])).unwrap();
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(buffers[2].to_f32(), expected);
    }
}

const SOFTMAX: &str = r#"
struct softmax_args { int cols; };
__device__ __forceinline__ float block_sum(float value, float* part) {
  for (int s = 16; s > 0; s /= 2) value += __shfl_xor_sync(0xffffffffu, value, s);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
  __syncthreads();
  value = threadIdx.x % 32 < blockDim.x / 32 ? part[threadIdx.x % 32] : 0.0f;
  for (int s = 16; s > 0; s /= 2) value += __shfl_xor_sync(0xffffffffu, value, s);
  __syncthreads();
  return value;
}
extern "C" __global__ void softmax(const float* x, float* out, const softmax_args args) {
  __shared__ float part[32];
  const float* row = x + (long long)blockIdx.x * args.cols;
  float m = -__int_as_float(0x7f800000);
  for (int c = threadIdx.x; c < args.cols; c += blockDim.x) m = fmaxf(m, row[c]);
  for (int s = 16; s > 0; s /= 2) m = fmaxf(m, __shfl_down_sync(0xffffffffu, m, s));
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = m;
  __syncthreads();
  for (int w = 0; w < blockDim.x / 32; ++w) m = fmaxf(m, part[w]);
  __syncthreads();
  float sum = 0.0f;
  for (int c = threadIdx.x; c < args.cols; c += blockDim.x) sum += expf(row[c] - m);
  sum = block_sum(sum, part);
  for (int c = threadIdx.x; c < args.cols; c += blockDim.x)
    out[(long long)blockIdx.x * args.cols + c] = __fdividef(__expf(row[c] - m), sum);
}
"#;

#[test]
fn softmax_by_block_reduction_is_that_of_the_oracle() {
    let Some(unit) = unit(Cuda, SOFTMAX, &["softmax"]) else { return };
    for (rows, cols, threads) in [(3, 1, 32), (5, 1001, 256), (2, 4099, 1024)] {
        let x = numbers(rows * cols);
        let mut buffers = [Bytes::of_f32(&x), Bytes::poisoned(4 * x.len())];
        let grid = [rows as u32, 1, 1];
        unit.run_in_every_order("softmax", grid, [threads, 1, 1], 0, &mut buffers, &args(&[cols as i32])).unwrap();
        assert_close(&buffers[1].to_f32(), &softmax(&x, cols));
    }
}

const COLUMNS: &str = r#"
struct sizes { int rows; int cols; };
extern "C" __global__ void parts(const float* x, float* part, const sizes args) {
  extern __shared__ float sums[];
  int c = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = 0.0f;
  for (int r = blockIdx.y * blockDim.y + threadIdx.y; r < args.rows && c < args.cols; r += gridDim.y * blockDim.y)
    sum += x[r * args.cols + c];
  sums[threadIdx.y * blockDim.x + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && c < args.cols) {
    for (int k = 1; k < blockDim.y; ++k) sum += sums[k * blockDim.x + threadIdx.x];
    part[blockIdx.y * args.cols + c] = sum;
  }
}
extern "C" __global__ void finish(const float* part, float* out, const sizes args) {
  int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= args.cols) return;
  float sum = 0.0f;
  for (int r = 0; r < args.rows; ++r) sum += part[r * args.cols + c];
  out[c] = sum;
}
"#;

#[test]
fn sums_of_columns_in_two_steps_are_those_of_the_oracle() {
    let Some(unit) = unit(Cuda, COLUMNS, &["parts", "finish"]) else { return };
    let (rows, cols, parts) = (37, 45, 3);
    let x = numbers(rows * cols);
    let mut first = [Bytes::of_f32(&x), Bytes::poisoned(4 * parts * cols)];
    let sizes = args(&[rows as i32, cols as i32]);
    unit.run_in_every_order("parts", [3, parts as u32, 1], [16, 4, 1], 4 * 64, &mut first, &sizes).unwrap();
    let [_, part] = first;
    let mut second = [part, Bytes::poisoned(4 * cols)];
    let sizes = args(&[parts as i32, cols as i32]);
    unit.run_in_every_order("finish", [2, 1, 1], [32, 1, 1], 0, &mut second, &sizes).unwrap();
    assert_close(&second[1].to_f32(), &column_sums(&x, cols));
}

const WARPS: &str = r#"
struct warps_args { int width; };
extern "C" __global__ void warps(int* out, const warps_args args) {
  int lane = threadIdx.x, w = args.width;
  int* mine = out + 8 * lane;
  mine[0] = __shfl_sync(0xffffffffu, lane, 5, w);
  mine[1] = __shfl_up_sync(0xffffffffu, lane, 3u, w);
  mine[2] = __shfl_down_sync(0xffffffffu, lane, 3u, w);
  mine[3] = __shfl_xor_sync(0xffffffffu, lane, 5, w);
  mine[4] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
  mine[5] = __any_sync(0xffffffffu, lane == 7) + 2 * __all_sync(0xffffffffu, lane < 31);
  if (lane < 16) mine[6] = __shfl_xor_sync(0xffffu, lane, 1);
  else mine[6] = (int)__ballot_sync(0xffff0000u, lane % 2);
  unsigned short h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(lane + 0.5f));
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  mine[7] = (int)(2.0f * f);
}
"#;

#[test]
fn warp_operations_follow_ptx_in_segments_and_parts_of_a_warp() {
    let Some(unit) = unit(Cuda, WARPS, &["warps"]) else { return };
    for width in [32, 8] {
        let mut buffers = [Bytes::poisoned(32 * 8 * 4)];
        unit.run_in_every_order("warps", [1, 1, 1], [32, 1, 1], 0, &mut buffers, &args(&[width])).unwrap();
        let multiples = (0..32).filter(|lane| lane % 3 == 0).fold(0u32, |mask, lane| mask | 1 << lane) as i32;
        let odd = 0xaaaa_0000u32 as i32;
        for (lane, row) in buffers[0].to_i32().chunks(8).enumerate() {
            let lane = lane as i32;
            let segment = lane & !(width - 1);
            let up = if lane - 3 >= segment { lane - 3 } else { lane };
            let down = if lane + 3 < segment + width { lane + 3 } else { lane };
            let half = if lane < 16 { lane ^ 1 } else { odd };
            assert_eq!(row, [segment | 5, up, down, lane ^ 5, multiples, 1, half, 2 * lane + 1]);
        }
    }
}

#[test]
fn an_argument_block_of_another_size_is_refused() {
    let Some(unit) = unit(Cuda, ADD, &["add"]) else { return };
    let mut buffers = [Bytes::default(), Bytes::default(), Bytes::default()];
    let wrong = unit.run("add", [1, 1, 1], [1, 1, 1], 0, &mut buffers, &[0; 8], Order::Forward);
    assert!(wrong.unwrap_err().contains("argument block"));
    let wrong = unit.run("add", [1, 1, 1], [1, 1, 1], 0, &mut buffers[..2], &[0; 4], Order::Forward);
    assert!(wrong.unwrap_err().contains("takes 3 buffers, got 2"));
}

#[test]
fn conversions_to_half_floats_are_those_of_the_library() {
    let text = r#"
      extern "C" __global__ void to(const float* x, unsigned short* h, unsigned short* b) {
        int i = blockIdx.x * 256 + threadIdx.x;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h[i]) : "f"(x[i]));
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(b[i]) : "f"(x[i]));
      }
      extern "C" __global__ void from(const unsigned short* h, float* x) {
        int i = blockIdx.x * 256 + threadIdx.x;
        asm("cvt.f32.f16 %0, %1;" : "=f"(x[i]) : "h"(h[i]));
      }"#;
    let Some(unit) = unit(Cuda, text, &["to", "from"]) else { return };
    let x: Vec<f32> = (0..1u32 << 16).map(|i| f32::from_bits(i.wrapping_mul(0x1_0001).wrapping_add(i << 14))).collect();
    let mut buffers = [Bytes::of_f32(&x), Bytes::poisoned(2 * x.len()), Bytes::poisoned(2 * x.len())];
    unit.run("to", [256, 1, 1], [256, 1, 1], 0, &mut buffers, &[], Order::Forward).unwrap();
    for ((x, h), b) in x.iter().zip(buffers[1].to_u16()).zip(buffers[2].to_u16()) {
        let (got, expected) = (half::f16::from_bits(h), half::f16::from_f32(*x));
        assert!(got == expected || x.is_nan() && got.is_nan(), "{x:e}: {got}, {expected}");
        let (got, expected) = (half::bf16::from_bits(b), half::bf16::from_f32(*x));
        assert!(got == expected || x.is_nan() && got.is_nan(), "{x:e}: {got}, {expected}");
    }
    let h: Vec<u16> = (0..=u16::MAX).collect();
    let mut buffers = [Bytes::of_u16(&h), Bytes::poisoned(4 * h.len())];
    unit.run("from", [256, 1, 1], [256, 1, 1], 0, &mut buffers, &[], Order::Forward).unwrap();
    for (h, got) in h.iter().zip(buffers[1].to_f32()) {
        let expected = half::f16::from_bits(*h).to_f32();
        assert!(got == expected || got.is_nan() && expected.is_nan(), "{h:x}: {got}, {expected}");
    }
}
