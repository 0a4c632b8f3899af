//! CUDA C++ for NVRTC: no header is included. Conversions of 16-bit floats are one instruction where the text is compiled
//! for a device; the other branch is for compilers of the host, which check and run the same text.

use crate::backend::c_like::Dialect;
use zmlx_ir::{DType, Op, kernel::Kernel};

/// What differs from C.
pub static CUDA: Dialect = Dialect {
    target: "cuda",
    opening: "",
    types: [
        "bool",
        "unsigned char",
        "short",
        "int",
        "unsigned int",
        "long long",
        "unsigned short",
        "unsigned short",
        "float",
        "double",
    ],
    u64: "unsigned long long",
    long_suffix: "LL",
    i64x2: "longlong2",
    device: "",
    local: "",
    shared: "__shared__ ",
    function: "__device__ __forceinline__ ",
    barrier: "__syncthreads();",
    cluster: Some([
        "asm volatile(\"barrier.cluster.arrive.release.aligned;\" ::: \"memory\");",
        "asm volatile(\"barrier.cluster.wait.acquire.aligned;\" ::: \"memory\");",
    ]),
    specials: ["threadIdx.x", "blockIdx.x", "gridDim.x"],
    not_numbers: [
        "__int_as_float(0x7f800000)",
        "__longlong_as_double(0x7ff0000000000000LL)",
        "__int_as_float(0x7fc00000)",
        "__longlong_as_double(0x7ff8000000000000LL)",
    ],
    call,
    own,
    shuffles: [
        "__shfl_xor_sync(0xffffffffu, $0, $1)",
        "__shfl_up_sync(0xffffffffu, $0, $1, $2)",
        "__shfl_down_sync(0xffffffffu, $0, $1, $2)",
        "__shfl_sync(0xffffffffu, $0, $1, $2)",
    ],
    group_lane: None,
    launch_shared: "extern __shared__ __align__(16) unsigned char aside[];",
    shuffles_words: false,
    buffers: 256,
    entry,
    raw: &super::raw::WORDS,
    // what is declared without a header, functions of mathematics among it
    reserved: &[
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "cbrt",
        "ceil",
        "copysign",
        "cos",
        "cosh",
        "cospi",
        "erf",
        "erfc",
        "erfcinv",
        "erfcx",
        "erfinv",
        "exp",
        "exp10",
        "exp2",
        "expm1",
        "fabs",
        "fdim",
        "floor",
        "fma",
        "fmax",
        "fmin",
        "fmod",
        "frexp",
        "hypot",
        "ilogb",
        "isfinite",
        "isinf",
        "isnan",
        "ldexp",
        "lgamma",
        "log",
        "log10",
        "log1p",
        "log2",
        "logb",
        "max",
        "min",
        "modf",
        "nan",
        "nearbyint",
        "nextafter",
        "norm",
        "normcdf",
        "pow",
        "remainder",
        "remquo",
        "rhypot",
        "rint",
        "round",
        "rsqrt",
        "scalbn",
        "signbit",
        "sin",
        "sincos",
        "sinh",
        "sinpi",
        "sqrt",
        "tan",
        "tanh",
        "tgamma",
        "trunc",
        "clock",
        "free",
        "malloc",
        "memcpy",
        "memset",
        "printf",
        "blockDim",
        "blockIdx",
        "dim3",
        "gridDim",
        "threadIdx",
        "warpSize",
        "float2",
        "float4",
        "int2",
        "int4",
        "uint2",
        "uint4",
        "double2",
        "longlong2",
        "uint",
        "ushort",
        "uchar",
        "ulong",
    ],
};

fn call(op: Op, dtype: DType) -> Option<&'static str> {
    let [single, double] = match op {
        Op::Abs => ["fabsf", "fabs"],
        Op::Floor => ["floorf", "floor"],
        Op::Ceil => ["ceilf", "ceil"],
        Op::Round => ["roundf", "round"],
        Op::Exp => ["expf", "exp"],
        Op::Exp2 => ["exp2f", "exp2"],
        Op::Expm1 => ["expm1f", "expm1"],
        Op::Log => ["logf", "log"],
        Op::Log2 => ["log2f", "log2"],
        Op::Log1p => ["log1pf", "log1p"],
        Op::Sqrt => ["sqrtf", "sqrt"],
        Op::Rsqrt => ["rsqrtf", "rsqrt"],
        Op::Sin => ["sinf", "sin"],
        Op::Cos => ["cosf", "cos"],
        Op::Tan => ["tanf", "tan"],
        Op::Tanh => ["tanhf", "tanh"],
        Op::Erf => ["erff", "erf"],
        Op::Rem => ["fmodf", "fmod"],
        Op::Pow => ["powf", "pow"],
        Op::Fma => ["fmaf", "fma"],
        _ => return None,
    };
    Some(if dtype == DType::F64 { double } else { single })
}

fn own(name: &str) -> Option<&'static str> {
    Some(match name {
        "bits" => "__uint_as_float __float_as_uint",
        "f16_to_f32" => {
            "\
$fnfloat f16_to_f32($u16 x) {
#ifdef __CUDA_ARCH__
    float y;
    asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(y) : \"h\"(x));
    return y;
#else
    _Float16 h;
    __builtin_memcpy(&h, &x, 2);
    return (float)h;
#endif
}
"
        }
        "f32_to_f16" => {
            "\
$fn$u16 f32_to_f16(float x) {
    $u16 y;
#ifdef __CUDA_ARCH__
    asm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(y) : \"f\"(x));
#else
    const _Float16 h = (_Float16)x;
    __builtin_memcpy(&y, &h, 2);
#endif
    return y;
}
"
        }
        "f32_to_bf16" => {
            "\
$fn$u16 f32_to_bf16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    $u16 y;
    asm(\"cvt.rn.bf16.f32 %0, %1;\" : \"=h\"(y) : \"f\"(x));
    return y;
#else
    const $u32 u = $as_u32(x);
    return ($u16)(x != x ? (u >> 16) | 64 : (u + 32767 + ((u >> 16) & 1)) >> 16);
#endif
}
"
        }
        "pack_bf16" => {
            "\
$fn$u32 pack_bf16(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    $u32 w;
    asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(w) : \"f\"(high), \"f\"(low));
    return w;
#else
    return ($u32)f32_to_bf16(low) | ($u32)f32_to_bf16(high) << 16;
#endif
}
"
        }
        "pack_f16" => {
            "\
$fn$u32 pack_f16(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    $u32 w;
    asm(\"cvt.rn.f16x2.f32 %0, %1, %2;\" : \"=r\"(w) : \"f\"(high), \"f\"(low));
    return w;
#else
    return ($u32)f32_to_f16(low) | ($u32)f32_to_f16(high) << 16;
#endif
}
"
        }
        "most_f32" => {
            "\
$fnfloat most_f32(float a, float b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    float y;
    asm(\"max.NaN.f32 %0, %1, %2;\" : \"=f\"(y) : \"f\"(a), \"f\"(b));
    return y;
#else
    return a >= b || a != a ? a : b;
#endif
}
"
        }
        "least_f32" => {
            "\
$fnfloat least_f32(float a, float b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    float y;
    asm(\"min.NaN.f32 %0, %1, %2;\" : \"=f\"(y) : \"f\"(a), \"f\"(b));
    return y;
#else
    return a <= b || a != a ? a : b;
#endif
}
"
        }
        "order_f64" => {
            "\
$fn$i64 order_f64(double x) {
    const $i64 bits = __double_as_longlong(x + 0.0);
    return x != x ? 9223372036854775807ll : bits ^ ((bits >> 63) & 9223372036854775807ll);
}
"
        }
        "unorder_f64" => {
            "\
$fndouble unorder_f64($i64 x) {
    return __longlong_as_double(x ^ ((x >> 63) & 9223372036854775807ll));
}
"
        }
        "fresh_i32" => {
            "\
$fnint fresh_i32(int x) {
    int y;
    asm volatile(\"mov.b32 %0, %1;\" : \"=r\"(y) : \"r\"(x));
    return y;
}
"
        }
        "fresh_i64" => {
            "\
$fn$i64 fresh_i64($i64 x) {
    $i64 y;
    asm volatile(\"mov.b64 %0, %1;\" : \"=l\"(y) : \"l\"(x));
    return y;
}
"
        }
        // the same place in another block, by its generic address; from compute capability 9.0 on
        "remote" => {
            "\
$fn$T $name(const $T* p, int rank) {
    $u64 q;
    asm(\"mapa.u64 %0, %1, %2;\" : \"=l\"(q) : \"l\"(p), \"r\"(rank));
    return *(const $T*)q;
}
"
        }
        _ => return half(name),
    })
}

/// Second spellings, around an instruction that approximates. Those that flush subnormal numbers get none and give none.
fn half(name: &str) -> Option<&'static str> {
    Some(match name {
        // the square of a root, which is never subnormal
        "exp_half_f32" => {
            "\
$fnfloat exp_half_f32(float x) {
    float e;
    asm(\"ex2.approx.ftz.f32 %0, %1;\" : \"=f\"(e) : \"f\"(x * 0.72134752f));
    return e * e;
}
"
        }
        "exp2_half_f32" => {
            "\
$fnfloat exp2_half_f32(float x) {
    float e;
    asm(\"ex2.approx.ftz.f32 %0, %1;\" : \"=f\"(e) : \"f\"(x * 0.5f));
    return e * e;
}
"
        }
        // scaled to where the reciprocal is a normal number; of a divisor that a row shares all but two products are too
        "div_half_f32" => {
            "\
$fnfloat div_half_f32(float a, float b) {
    const float size = fabsf(b);
    const float scale = size < 1e-30f ? 1.8446744e19f : size > 1e30f ? 5.421011e-20f : 1.0f;
    float r;
    asm(\"rcp.approx.ftz.f32 %0, %1;\" : \"=f\"(r) : \"f\"(b * scale));
    return a * scale * r;
}
"
        }
        "recip_half_f32" => "$fnfloat recip_half_f32(float x) {\n    return div_half_f32(1.0f, x);\n}\n",
        "sigmoid_half_f32" => {
            "\
$fnfloat sigmoid_half_f32(float x) {
    const float e = exp_half_f32(-fabsf(x));
    float r;
    asm(\"rcp.approx.ftz.f32 %0, %1;\" : \"=f\"(r) : \"f\"(1.0f + e));
    return x >= 0.0f ? r : e * r;
}
"
        }
        _ => return None,
    })
}

fn entry(name: &str, params: &[String], args: Option<&str>, k: &Kernel) -> String {
    let mut list: Vec<String> = params.iter().map(|p| p.replace("* ", "* __restrict__ ")).collect();
    list.extend(args.map(|a| format!("const {a} args")));
    let cluster = if k.cluster > 1 { format!("__cluster_dims__({}, 1, 1) ", k.cluster) } else { String::new() };
    let resident = if k.resident > 1 { format!(", {}", k.resident) } else { String::new() };
    let bounds = format!("__launch_bounds__({}{resident})", k.threads);
    format!("extern \"C\" __global__ {cluster}{bounds} void {name}({})", list.join(", "))
}
