//! The Metal shading language. It has no double; shuffles move 32 bits. Not yet run on Apple hardware.
//!
//! bf16 is converted by its bits, so that no `bfloat` is needed, which older chips lack. Functions are those of
//! `metal::precise`, so that a fast-math setting changes nothing.

use crate::backend::c_like::Dialect;
use zmlx_ir::{DType, Op, kernel::Kernel};

/// What differs from C.
pub static METAL: Dialect = Dialect {
    target: "metal",
    opening: "#include <metal_stdlib>\nusing namespace metal;\n",
    types: ["bool", "uchar", "short", "int", "uint", "long", "ushort", "ushort", "float", ""],
    u64: "ulong",
    long_suffix: "L",
    i64x2: "long2",
    device: "device ",
    local: "thread ",
    shared: "threadgroup ",
    function: "static inline ",
    barrier: "threadgroup_barrier(mem_flags::mem_threadgroup);",
    cluster: None,
    specials: ["(int)thread_of_group", "(int)group_of_grid", "(int)groups_of_grid"],
    not_numbers: ["INFINITY", "", "NAN", ""],
    call,
    own,
    // what a lane without a neighbour in its group gets is not used
    shuffles: [
        "simd_shuffle_xor($0, (ushort)$1)",
        "simd_shuffle_up($0, (ushort)$1)",
        "simd_shuffle_down($0, (ushort)$1)",
        "simd_shuffle($0, (ushort)$1)",
    ],
    launch_shared: "",
    group_lane: Some("(thread_of_group & (32 - $2)) | $1"),
    shuffles_words: true,
    buffers: 30,
    entry,
    raw: &super::raw::WORDS,
    reserved: &[
        "atomic",
        "bfloat",
        "buffer",
        "constant",
        "coord",
        "device",
        "fragment",
        "kernel",
        "level",
        "metal",
        "precise",
        "fast",
        "sampler",
        "simdgroup",
        "stage_in",
        "texture",
        "thread",
        "thread_of_group",
        "group_of_grid",
        "groups_of_grid",
        "threadgroup",
        "uchar",
        "uint",
        "ulong",
        "ushort",
        "vec",
        "vertex",
        "visible",
        "as_type",
        "float2",
        "float4",
        "int2",
        "int4",
        "uint2",
        "uint4",
        "long2",
        "half2",
        "half4",
        "ushort2",
        "ushort4",
        "select",
        "abs",
        "clamp",
        "sign",
        "saturate",
        "mix",
        "step",
        "min",
        "max",
        "exp",
        "log",
        "fma",
        "all",
        "any",
        "mad24",
    ],
};

fn call(op: Op, dtype: DType) -> Option<&'static str> {
    if dtype == DType::F64 {
        return None;
    }
    Some(match op {
        Op::Abs => "metal::fabs",
        Op::Floor => "metal::floor",
        Op::Ceil => "metal::ceil",
        Op::Round => "metal::round",
        Op::Exp => "metal::precise::exp",
        Op::Exp2 => "metal::precise::exp2",
        Op::Log => "metal::precise::log",
        Op::Log2 => "metal::precise::log2",
        Op::Sqrt => "metal::precise::sqrt",
        Op::Rsqrt => "metal::precise::rsqrt",
        Op::Sin => "metal::precise::sin",
        Op::Cos => "metal::precise::cos",
        Op::Tan => "metal::precise::tan",
        Op::Tanh => "metal::precise::tanh",
        Op::Rem => "metal::fmod",
        Op::Pow => "metal::precise::pow",
        Op::Fma => "metal::fma",
        _ => return None,
    })
}

fn own(name: &str) -> Option<&'static str> {
    Some(match name {
        "bits" => "as_type<float> as_type<uint>",
        "f16_to_f32" => "$fnfloat f16_to_f32($u16 x) {\n    return (float)as_type<half>(x);\n}\n",
        "f32_to_f16" => "$fn$u16 f32_to_f16(float x) {\n    return as_type<ushort>((half)x);\n}\n",
        "shuffle_xor_i64" => {
            "\
$fn$T shuffle_xor_i64($T x, ushort n) {
    const uint low = simd_shuffle_xor((uint)x, n), high = simd_shuffle_xor((uint)((ulong)x >> 32), n);
    return ($T)((ulong)high << 32 | low);
}
"
        }
        "shuffle_up_i64" => {
            "\
$fn$T shuffle_up_i64($T x, ushort n) {
    const uint low = simd_shuffle_up((uint)x, n), high = simd_shuffle_up((uint)((ulong)x >> 32), n);
    return ($T)((ulong)high << 32 | low);
}
"
        }
        "shuffle_down_i64" => {
            "\
$fn$T shuffle_down_i64($T x, ushort n) {
    const uint low = simd_shuffle_down((uint)x, n), high = simd_shuffle_down((uint)((ulong)x >> 32), n);
    return ($T)((ulong)high << 32 | low);
}
"
        }
        "shuffle_i64" => {
            "\
$fn$T shuffle_i64($T x, ushort n) {
    const uint low = simd_shuffle((uint)x, n), high = simd_shuffle((uint)((ulong)x >> 32), n);
    return ($T)((ulong)high << 32 | low);
}
"
        }
        _ => return None,
    })
}

fn entry(name: &str, params: &[String], args: Option<&str>, k: &Kernel) -> String {
    let mut list: Vec<String> = params.iter().enumerate().map(|(k, p)| format!("{p} [[buffer({k})]]")).collect();
    list.extend(args.map(|a| format!("constant {a}& args [[buffer({})]]", params.len())));
    list.push("uint thread_of_group [[thread_position_in_threadgroup]]".into());
    list.push("uint group_of_grid [[threadgroup_position_in_grid]]".into());
    list.push("uint groups_of_grid [[threadgroups_per_grid]]".into());
    format!("[[max_total_threads_per_threadgroup({})]]\nkernel void {name}({})", k.threads, list.join(",\n    "))
}
