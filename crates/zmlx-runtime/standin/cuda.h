// What CUDA text for NVRTC uses without a header, as C++ for the machine of gpu.h.
//
// There is no inline PTX: the test driver turns an `asm` of one instruction into a call of the `ptx_…` functions at the
// foot of this file. `extern __shared__ T name[];` in a function becomes a pointer to gpu::dynamic_shared().
#pragma once
#include "gpu.h"

#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __shared__ GPU_SHARED
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

typedef decltype(sizeof(0)) size_t;

#define threadIdx (gpu::self->index)
#define blockIdx (gpu::block_index)
#define blockDim (gpu::block_size)
#define gridDim (gpu::grid_size)
#define warpSize 32

// --- barriers and warps ----------------------------------------------------------------------------------------------

inline void __syncthreads(int line = __builtin_LINE()) { gpu::barrier(line); }
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  gpu::exchange("__syncwarp", mask, {0, 0}, line);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, int line = __builtin_LINE()) {
  return gpu::shuffle("__shfl_sync", mask, value, gpu::from_index(lane, width), line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  return gpu::shuffle("__shfl_up_sync", mask, value, gpu::from_up(delta, width), line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  return gpu::shuffle("__shfl_down_sync", mask, value, gpu::from_down(delta, width), line);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, int line = __builtin_LINE()) {
  return gpu::shuffle("__shfl_xor_sync", mask, value, gpu::from_xor(unsigned(lanes), width), line);
}
inline unsigned __ballot_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
  return gpu::ballot("__ballot_sync", mask, vote != 0, line);
}
inline int __any_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
  return gpu::ballot("__any_sync", mask, vote != 0, line) != 0;
}
inline int __all_sync(unsigned mask, int vote, int line = __builtin_LINE()) {
  return gpu::ballot("__all_sync", mask, vote == 0, line) == 0;
}
inline unsigned __activemask() { return ~0u; }

#define GPU_REDUCE(name, T, expression)                                         \
  inline T name(unsigned mask, T value, int line = __builtin_LINE()) {          \
    gpu::Lanes lanes = gpu::exchange(#name, mask, gpu::pack(value), line);      \
    T a = value;                                                                \
    bool first = true;                                                          \
    for (unsigned lane = 0; lane < 32; ++lane) {                                \
      if (!(lanes.members >> lane & 1)) continue;                               \
      T b = gpu::unpack<T>(lanes, lane);                                        \
      a = first ? b : (expression);                                             \
      first = false;                                                            \
    }                                                                           \
    return a;                                                                   \
  }
GPU_REDUCE(__reduce_add_sync, unsigned, a + b)
GPU_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
GPU_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
GPU_REDUCE(__reduce_and_sync, unsigned, a & b)
GPU_REDUCE(__reduce_or_sync, unsigned, a | b)
GPU_REDUCE(__reduce_add_sync, int, int(unsigned(a) + unsigned(b)))
GPU_REDUCE(__reduce_max_sync, int, a > b ? a : b)
GPU_REDUCE(__reduce_min_sync, int, a < b ? a : b)
#undef GPU_REDUCE

// --- vectors ---------------------------------------------------------------------------------------------------------

// Copies are written out, as the sanitizer looks at the address of a copy only if a constructor makes it. So a union
// with a vector in it cannot be copied as a whole.
#define GPU_VECTORS(T, name, align2, align4)                                                                      \
  struct name##1 { T x; };                                                                                        \
  struct name##3 { T x, y, z; };                                                                                  \
  struct __align__(align2) name##2 {                                                                              \
    T x, y;                                                                                                       \
    name##2() = default;                                                                                          \
    explicit name##2(T x) : x(x), y(0) {}                                                                         \
    name##2(T x, T y) : x(x), y(y) {}                                                                             \
    name##2(const name##2& v) : x(v.x), y(v.y) {}                                                                 \
    name##2& operator=(const name##2& v) { x = v.x, y = v.y; return *this; }                                      \
  };                                                                                                              \
  struct __align__(align4) name##4 {                                                                              \
    T x, y, z, w;                                                                                                 \
    name##4() = default;                                                                                          \
    explicit name##4(T x) : x(x), y(0), z(0), w(0) {}                                                             \
    name##4(T x, T y, T z = 0, T w = 0) : x(x), y(y), z(z), w(w) {}                                               \
    name##4(const name##4& v) : x(v.x), y(v.y), z(v.z), w(v.w) {}                                                 \
    name##4& operator=(const name##4& v) { x = v.x, y = v.y, z = v.z, w = v.w; return *this; }                    \
  };                                                                                                              \
  inline name##1 make_##name##1(T x) { return {x}; }                                                              \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                      \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                              \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
GPU_VECTORS(signed char, char, 2, 4)
GPU_VECTORS(unsigned char, uchar, 2, 4)
GPU_VECTORS(short, short, 4, 8)
GPU_VECTORS(unsigned short, ushort, 4, 8)
GPU_VECTORS(int, int, 8, 16)
GPU_VECTORS(unsigned, uint, 8, 16)
GPU_VECTORS(long long, longlong, 16, 16)
GPU_VECTORS(unsigned long long, ulonglong, 16, 16)
GPU_VECTORS(float, float, 8, 16)
GPU_VECTORS(double, double, 16, 16)
#undef GPU_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Loads and stores with cache hints.
template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldca(const T* p) { return *p; }
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline T __ldlu(const T* p) { return *p; }
template <class T> inline T __ldcv(const T* p) { return *p; }
template <class T> inline void __stwb(T* p, T value) { *p = value; }
template <class T> inline void __stcg(T* p, T value) { *p = value; }
template <class T> inline void __stcs(T* p, T value) { *p = value; }
template <class T> inline void __stwt(T* p, T value) { *p = value; }

// Blocks run one after the other and fibres give way at barriers only, so plain memory is atomic.
template <class T> inline T atomicAdd(T* p, T value) { T old = *p; *p = T(old + value); return old; }
template <class T> inline T atomicMax(T* p, T value) { T old = *p; if (value > old) *p = value; return old; }
template <class T> inline T atomicMin(T* p, T value) { T old = *p; if (value < old) *p = value; return old; }
template <class T> inline T atomicOr(T* p, T value) { T old = *p; *p = T(old | value); return old; }
template <class T> inline T atomicExch(T* p, T value) { T old = *p; *p = value; return old; }
template <class T> inline T atomicCAS(T* p, T expected, T value) { T old = *p; if (old == expected) *p = value; return old; }

// --- mathematics -----------------------------------------------------------------------------------------------------

#define GPU_MATH1(name)                                                \
  extern "C" double name(double);                                      \
  extern "C" float name##f(float);                                     \
  inline float name(float x) { return name##f(x); }
#define GPU_MATH2(name)                                                \
  extern "C" double name(double, double);                              \
  extern "C" float name##f(float, float);                              \
  inline float name(float x, float y) { return name##f(x, y); }
GPU_MATH1(acos) GPU_MATH1(acosh) GPU_MATH1(asin) GPU_MATH1(asinh) GPU_MATH1(atan) GPU_MATH1(atanh) GPU_MATH1(cbrt)
GPU_MATH1(ceil) GPU_MATH1(cos) GPU_MATH1(cosh) GPU_MATH1(erf) GPU_MATH1(erfc) GPU_MATH1(exp) GPU_MATH1(exp2)
GPU_MATH1(expm1) GPU_MATH1(fabs) GPU_MATH1(floor) GPU_MATH1(lgamma) GPU_MATH1(log) GPU_MATH1(log10) GPU_MATH1(log1p)
GPU_MATH1(log2) GPU_MATH1(nearbyint) GPU_MATH1(rint) GPU_MATH1(round) GPU_MATH1(sin) GPU_MATH1(sinh) GPU_MATH1(sqrt)
GPU_MATH1(tan) GPU_MATH1(tanh) GPU_MATH1(tgamma) GPU_MATH1(trunc)
GPU_MATH2(atan2) GPU_MATH2(copysign) GPU_MATH2(fdim) GPU_MATH2(fmax) GPU_MATH2(fmin) GPU_MATH2(fmod) GPU_MATH2(hypot)
GPU_MATH2(nextafter) GPU_MATH2(pow) GPU_MATH2(remainder)
#undef GPU_MATH1
#undef GPU_MATH2
extern "C" double fma(double, double, double);
extern "C" float fmaf(float, float, float);
inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
extern "C" double ldexp(double, int);
extern "C" float ldexpf(float, int);
inline float ldexp(float x, int n) { return ldexpf(x, n); }
extern "C" double frexp(double, int*);
extern "C" float frexpf(float, int*);

inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrtf(float x) { return float(1.0 / sqrt(double(x))); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float exp10f(float x) { return float(pow(10.0, double(x))); }
inline void sincosf(float x, float* s, float* c) { *s = sinf(x); *c = cosf(x); }
inline void sincos(double x, double* s, double* c) { *s = sin(x); *c = cos(x); }
inline float saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

template <class T> inline bool isnan(T x) { return __builtin_isnan(x); }
template <class T> inline bool isinf(T x) { return __builtin_isinf(x); }
template <class T> inline bool isfinite(T x) { return __builtin_isfinite(x); }
template <class T> inline bool signbit(T x) { return __builtin_signbit(x); }

inline int abs(int x) { return x < 0 ? -x : x; }
inline long long llabs(long long x) { return x < 0 ? -x : x; }
inline long long abs(long long x) { return llabs(x); }
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }

#define GPU_EXTREMA(T)                                   \
  inline T min(T a, T b) { return b < a ? b : a; }       \
  inline T max(T a, T b) { return a < b ? b : a; }
GPU_EXTREMA(int) GPU_EXTREMA(unsigned) GPU_EXTREMA(long) GPU_EXTREMA(unsigned long)
GPU_EXTREMA(long long) GPU_EXTREMA(unsigned long long)
#undef GPU_EXTREMA
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// The fast versions are computed in the way that the hardware does, and are as inexact for large arguments.
inline float __expf(float x) { return exp2f(x * 1.4426950408889634f); }
inline float __exp10f(float x) { return exp2f(x * 3.3219280948873623f); }
inline float __logf(float x) { return log2f(x) * 0.6931471805599453f; }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log2f(x) * 0.30102999566398120f; }
inline float __powf(float x, float y) { return exp2f(y * log2f(x)); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return sinf(x) / cosf(x); }
inline float __fdividef(float x, float y) { return fabsf(y) > 0x1p126f && fabsf(y) < __builtin_inff() ? 0.0f * x : x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline float __saturatef(float x) { return saturatef(x); }

// --- bits and conversions --------------------------------------------------------------------------------------------

inline unsigned __float_as_uint(float x) { return gpu::bits<unsigned>(x); }
inline int __float_as_int(float x) { return gpu::bits<int>(x); }
inline float __uint_as_float(unsigned x) { return gpu::bits<float>(x); }
inline float __int_as_float(int x) { return gpu::bits<float>(x); }
inline long long __double_as_longlong(double x) { return gpu::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return gpu::bits<double>(x); }
inline int __double2hiint(double x) { return int(gpu::bits<gpu::u64>(x) >> 32); }
inline int __double2loint(double x) { return int(gpu::bits<gpu::u64>(x)); }
inline double __hiloint2double(int high, int low) {
  return gpu::bits<double>(gpu::u64(unsigned(high)) << 32 | unsigned(low));
}

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((gpu::u64(a) * b) >> 32); }
inline int __mulhi(int a, int b) { return int((static_cast<long long>(a) * b) >> 32); }
inline gpu::u64 __umul64hi(gpu::u64 a, gpu::u64 b) { return gpu::u64((static_cast<unsigned __int128>(a) * b) >> 64); }
inline long long __mul64hi(long long a, long long b) { return static_cast<long long>((static_cast<__int128>(a) * b) >> 64); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(gpu::u64 x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(gpu::u64(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n) {
  return unsigned(((gpu::u64(high) << 32 | low) << (n & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n) {
  return unsigned((gpu::u64(high) << 32 | low) >> (n & 31));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  gpu::u64 bytes = gpu::u64(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= (unsigned(bytes >> (selector >> (4 * i) & 7) * 8) & 255) << (8 * i);
  return result;
}

namespace gpu {
// Floats to integers as the hardware does it: saturating, NaN to 0 (64 bits: to the sign bit).
template <class I, class F>
inline I saturate(F x, double low, double high, I least, I most, I nan) {
  if (x != x) return nan;
  return x < low ? least : x >= high ? most : I(x);
}
}  // namespace gpu
inline int __float2int_rz(float x) { return gpu::saturate<int>(x, -0x1p31, 0x1p31, -2147483647 - 1, 2147483647, 0); }
inline int __float2int_rn(float x) { return __float2int_rz(rintf(x)); }
inline int __float2int_rd(float x) { return __float2int_rz(floorf(x)); }
inline int __float2int_ru(float x) { return __float2int_rz(ceilf(x)); }
inline unsigned __float2uint_rz(float x) { return gpu::saturate<unsigned>(x, 0, 0x1p32, 0u, ~0u, 0u); }
inline unsigned __float2uint_rn(float x) { return __float2uint_rz(rintf(x)); }
inline long long __float2ll_rz(float x) {
  return gpu::saturate<long long>(x, -0x1p63, 0x1p63, -__LONG_LONG_MAX__ - 1, __LONG_LONG_MAX__, -__LONG_LONG_MAX__ - 1);
}
inline gpu::u64 __float2ull_rz(float x) { return gpu::saturate<gpu::u64>(x, 0, 0x1p64, 0, ~0ull, 1ull << 63); }
inline int __double2int_rz(double x) { return gpu::saturate<int>(x, -0x1p31, 0x1p31, -2147483647 - 1, 2147483647, 0); }
inline unsigned __double2uint_rz(double x) { return gpu::saturate<unsigned>(x, 0, 0x1p32, 0u, ~0u, 0u); }
inline long long __double2ll_rz(double x) {
  return gpu::saturate<long long>(x, -0x1p63, 0x1p63, -__LONG_LONG_MAX__ - 1, __LONG_LONG_MAX__, -__LONG_LONG_MAX__ - 1);
}
inline gpu::u64 __double2ull_rz(double x) { return gpu::saturate<gpu::u64>(x, 0, 0x1p64, 0, ~0ull, 1ull << 63); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __ull2float_rn(gpu::u64 x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }

// --- instructions that text may write as inline PTX ------------------------------------------------------------------

inline void ptx_barrier_cluster_arrive_release_aligned(int line = __builtin_LINE()) { gpu::arrive(line); }
inline void ptx_barrier_cluster_wait_acquire_aligned(int line = __builtin_LINE()) { gpu::await(line); }
inline gpu::u64 ptx_mapa_u64(const void* p, int rank) {
  return reinterpret_cast<gpu::u64>(gpu::remote(p, unsigned(rank)));
}
inline float ptx_cvt_f32_f16(unsigned short x) { return gpu::from_f16(x); }
inline unsigned short ptx_cvt_rn_f16_f32(float x) { return gpu::to_f16(x); }
inline float ptx_cvt_f32_bf16(unsigned short x) { return gpu::from_bf16(x); }
inline unsigned short ptx_cvt_rn_bf16_f32(float x) { return gpu::to_bf16(x); }
inline unsigned ptx_cvt_rn_bf16x2_f32(float high, float low) { return unsigned(gpu::to_bf16(high)) << 16 | gpu::to_bf16(low); }
inline unsigned ptx_cvt_rn_f16x2_f32(float high, float low) { return unsigned(gpu::to_f16(high)) << 16 | gpu::to_f16(low); }
inline int ptx_cvt_rzi_s32_f32(float x) { return __float2int_rz(x); }
inline unsigned ptx_cvt_rzi_u32_f32(float x) { return __float2uint_rz(x); }
inline long long ptx_cvt_rzi_s64_f32(float x) { return __float2ll_rz(x); }
inline gpu::u64 ptx_cvt_rzi_u64_f32(float x) { return __float2ull_rz(x); }
inline int ptx_cvt_rzi_s32_f64(double x) { return __double2int_rz(x); }
inline unsigned ptx_cvt_rzi_u32_f64(double x) { return __double2uint_rz(x); }
inline int ptx_mov_b32(int x) { return x; }
inline long long ptx_mov_b64(long long x) { return x; }
inline float ptx_max_NaN_f32(float a, float b) { return a != a ? a : b != b ? b : fmaxf(a, b); }
inline float ptx_min_NaN_f32(float a, float b) { return a != a ? a : b != b ? b : fminf(a, b); }
inline float ptx_ex2_approx_f32(float x) { return exp2f(x); }
inline float ptx_ex2_approx_ftz_f32(float x) { return exp2f(x); }
inline float ptx_lg2_approx_f32(float x) { return log2f(x); }
inline float ptx_lg2_approx_ftz_f32(float x) { return log2f(x); }
inline float ptx_rcp_approx_f32(float x) { return 1.0f / x; }
inline float ptx_rcp_approx_ftz_f32(float x) { return 1.0f / x; }
inline float ptx_rsqrt_approx_f32(float x) { return rsqrtf(x); }
inline float ptx_rsqrt_approx_ftz_f32(float x) { return rsqrtf(x); }
inline float ptx_sqrt_approx_f32(float x) { return sqrtf(x); }
inline float ptx_tanh_approx_f32(float x) { return gpu::from_f16(gpu::to_f16(tanhf(x))); }

// --- matrix units: every lane does its own elements, from what the others hand over ----------------------------------

inline gpu::u64 __cvta_generic_to_shared(const void* p) { return reinterpret_cast<gpu::u64>(p); }

namespace gpu {
struct Quad {
  unsigned at[4];
};
// Four 8 x 8 matrices of 16 bits: lane 8 j + r has the address of row r of the j-th.
inline void load_matrices(unsigned* out[4], u64 row, bool turned, int line) {
  Lanes lanes = exchange("ldmatrix", ~0u, pack(row), line);
  for (unsigned j = 0; j < 4; ++j) {
    unsigned short pair[2];
    for (unsigned i = 0; i < 2; ++i) {
      unsigned row_of = self->lane / 4, col = self->lane % 4 * 2 + i;
      if (turned) {
        unsigned swap = row_of;
        row_of = col, col = swap;
      }
      u64 address = unpack<u64>(lanes, 8 * j + row_of);
      if (address % 16) fail("ldmatrix of an address that is no multiple of 16");
      pair[i] = reinterpret_cast<const unsigned short*>(address)[col];
    }
    *out[j] = unsigned(pair[1]) << 16 | pair[0];
  }
}
// D = A B + C, 16 x 8 x 16, A by rows and B by columns.
template <float (*wide)(unsigned short)>
inline void mma(float* c[4], Quad a, unsigned b0, unsigned b1, int line) {
  Lanes of_a = exchange("mma of A", ~0u, pack(a), line);
  Word as[32];
  for (unsigned lane = 0; lane < 32; ++lane) as[lane] = of_a.values[lane];
  Lanes of_b = exchange("mma of B", ~0u, pack(u64(b1) << 32 | b0), line);
  for (unsigned i = 0; i < 4; ++i) {
    unsigned row = self->lane / 4 + i / 2 * 8, col = self->lane % 4 * 2 + i % 2;
    float sum = *c[i];
    for (unsigned k = 0; k < 16; ++k) {
      unsigned from = k % 8 / 2, shift = k % 2 * 16;
      Quad own;
      __builtin_memcpy(&own, &as[row % 8 * 4 + from], sizeof own);
      unsigned x = own.at[row / 8 + k / 8 * 2] >> shift & 0xffff;
      u64 y = unpack<u64>(of_b, col * 4 + from) >> (k / 8 * 32 + shift) & 0xffff;
      sum = fmaf(wide(static_cast<unsigned short>(x)), wide(static_cast<unsigned short>(y)), sum);
    }
    *c[i] = sum;
  }
}
// Copies of a thread that it has not waited for: nothing has arrived before it does.
struct Copies {
  struct {
    u64 to, from;
    int bytes;
  } at[512];
  unsigned count, groups, group[512];
};
inline Copies copies[1024];
}  // namespace gpu

inline void ptx_ldmatrix_sync_aligned_m8n8_x4_shared_b16(unsigned& a, unsigned& b, unsigned& c, unsigned& d, gpu::u64 row,
                                                         int line = __builtin_LINE()) {
  unsigned* out[4] = {&a, &b, &c, &d};
  gpu::load_matrices(out, row, false, line);
}
inline void ptx_ldmatrix_sync_aligned_m8n8_x4_trans_shared_b16(unsigned& a, unsigned& b, unsigned& c, unsigned& d,
                                                               gpu::u64 row, int line = __builtin_LINE()) {
  unsigned* out[4] = {&a, &b, &c, &d};
  gpu::load_matrices(out, row, true, line);
}
#define GPU_MMA(name, wide)                                                                                            \
  inline void name(float& c0, float& c1, float& c2, float& c3, unsigned a0, unsigned a1, unsigned a2, unsigned a3,      \
                   unsigned b0, unsigned b1, int line = __builtin_LINE()) {                                             \
    float* c[4] = {&c0, &c1, &c2, &c3};                                                                                 \
    gpu::mma<wide>(c, gpu::Quad{{a0, a1, a2, a3}}, b0, b1, line);                                                       \
  }
GPU_MMA(ptx_mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32, gpu::from_bf16)
GPU_MMA(ptx_mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32, gpu::from_f16)
#undef GPU_MMA

inline void ptx_cp_async_cg_shared_global(gpu::u64 to, const void* from, int bytes) {
  gpu::Copies& all = gpu::copies[gpu::self->linear];
  gpu::u64 source = reinterpret_cast<gpu::u64>(from);
  if (to % 16 || source % 16) gpu::fail("cp.async of an address that is no multiple of 16");
  if (all.count == 512) gpu::fail("more than 512 copies that were not waited for");
  all.group[all.count] = all.groups;
  all.at[all.count++] = {to, source, bytes};
}
inline void ptx_cp_async_commit_group() { ++gpu::copies[gpu::self->linear].groups; }
inline void ptx_cp_async_wait_group(int most) {
  gpu::Copies& all = gpu::copies[gpu::self->linear];
  unsigned left = 0;
  for (unsigned i = 0; i < all.count; ++i) {
    auto copy = all.at[i];
    if (all.group[i] + unsigned(most) >= all.groups) {
      all.group[left] = all.group[i];
      all.at[left++] = copy;
      continue;
    }
    for (int byte = 0; byte < 16; ++byte) {
      auto to = reinterpret_cast<unsigned char*>(copy.to);
      to[byte] = byte < copy.bytes ? reinterpret_cast<const unsigned char*>(copy.from)[byte] : 0;
    }
  }
  all.count = left;
}
