//! CUDA C++ for NVRTC: no header is included. Conversions of 16-bit floats are one instruction where the text is compiled
//! for a device; the other branch is for compilers of the host, which check and run the same text.

use crate::backend::c_like::Dialect;
use zmlx_ir::{DType, Op};

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
        _ => return None,
    })
}

fn entry(name: &str, params: &[String], args: Option<&str>, threads: u32) -> String {
    let mut list: Vec<String> = params.iter().map(|p| p.replace("* ", "* __restrict__ ")).collect();
    list.extend(args.map(|a| format!("const {a} args")));
    format!("extern \"C\" __global__ __launch_bounds__({threads}) void {name}({})", list.join(", "))
}
