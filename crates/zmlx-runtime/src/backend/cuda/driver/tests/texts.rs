//! CUDA texts written by hand, in the ways that generated kernels use the language: no header, 16-bit floats through
//! PTX and bits, sums by shuffles.

/// y = a · x over f32, any grid.
pub const SCALE: &str = r#"
extern "C" __global__ void scale(const float* x, float* y, float a, unsigned n) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = a * x[i];
}
"#;

/// The sum of each row of f32: a block a row.
pub const ROW_SUM: &str = r#"
__device__ float warp_sum(float v) {
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
extern "C" __global__ void __launch_bounds__(1024) row_sum(const float* x, float* y, unsigned cols) {
  __shared__ float sums[32];
  const float* row = x + (unsigned long long)blockIdx.x * cols;
  float sum = 0.0f;
  for (unsigned i = threadIdx.x; i < cols; i += blockDim.x) sum += row[i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = warp_sum(threadIdx.x < (blockDim.x + 31) / 32 ? sums[threadIdx.x] : 0.0f);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
  }
}
"#;

/// y = x + 1 over f16, computed in f32.
pub const HALF: &str = r#"
__device__ float from_half(unsigned short h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
__device__ unsigned short to_half(float f) {
  unsigned short h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
extern "C" __global__ void half_add(const unsigned short* x, unsigned short* y, unsigned n) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = to_half(from_half(x[i]) + 1.0f);
}
"#;

/// y = x + 1 over bf16, computed in f32, rounded to nearest, ties to even.
pub const BFLOAT: &str = r#"
__device__ float from_bfloat(unsigned short b) { return __uint_as_float((unsigned)b << 16); }
__device__ unsigned short to_bfloat(float f) {
  unsigned bits = __float_as_uint(f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(bits >> 16 | 64u);
  return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
extern "C" __global__ void bfloat_add(const unsigned short* x, unsigned short* y, unsigned n) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = to_bfloat(from_bfloat(x[i]) + 1.0f);
}
"#;

/// Each block's elements in reverse, through dynamic shared memory: `per` of them a block.
pub const REVERSE: &str = r#"
extern "C" __global__ void reverse(const float* x, float* y, unsigned per) {
  extern __shared__ float kept[];
  const float* from = x + (unsigned long long)blockIdx.x * per;
  for (unsigned i = threadIdx.x; i < per; i += blockDim.x) kept[i] = from[i];
  __syncthreads();
  float* to = y + (unsigned long long)blockIdx.x * per;
  for (unsigned i = threadIdx.x; i < per; i += blockDim.x) to[i] = kept[per - 1 - i];
}
"#;

/// Name of the entry, and the text.
pub const ALL: [(&str, &str); 5] =
    [("scale", SCALE), ("row_sum", ROW_SUM), ("half_add", HALF), ("bfloat_add", BFLOAT), ("reverse", REVERSE)];
