//! Kernels in MSL, written by hand, and what its two readings reject.

use crate::{
    args, assert_close, column_sums, numbers, softmax,
    standin::{Bytes, Dialect::Metal, Order, Unit, compiler},
    unit,
};

const ADD: &str = r#"
#include <metal_stdlib>
using namespace metal;
struct add_args { int n; };
kernel void add(device const float* a [[buffer(0)]], device const float* b [[buffer(1)]], device float* out [[buffer(2)]],
                constant add_args& args [[buffer(3)]], uint thread_id [[thread_position_in_grid]]) {
  int i = 4 * thread_id;
  if (i + 4 <= args.n) {
    *(device float4*)(out + i) = *(device const float4*)(a + i) + *(device const float4*)(b + i);
  } else {
    for (; i < args.n; ++i) out[i] = a[i] + b[i];
  }
}
"#;

#[test]
fn a_sum_of_vectors_of_odd_length_is_exact() {
    let Some(unit) = unit(Metal, ADD, &["add"]) else { return };
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
#include <metal_stdlib>
using namespace metal;
struct softmax_args { int cols; };
inline float block_sum(float value, threadgroup float* part, uint lane, uint warp, uint warps) {
  for (ushort s = 16; s > 0; s /= 2) value += simd_shuffle_xor(value, s);
  if (lane == 0) part[warp] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  value = simd_sum(lane < warps ? part[lane] : 0.0f);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return value;
}
kernel void softmax(device const float* x [[buffer(0)]], device float* out [[buffer(1)]],
                    constant softmax_args& args [[buffer(2)]], uint3 group [[threadgroup_position_in_grid]],
                    uint3 t [[thread_position_in_threadgroup]], uint3 n [[threads_per_threadgroup]],
                    uint lane [[thread_index_in_simdgroup]], uint warp [[simdgroup_index_in_threadgroup]]) {
  threadgroup float part[32];
  device const float* row = x + group.x * (uint)args.cols;
  float m = -INFINITY;
  for (int c = t.x; c < args.cols; c += n.x) m = max(m, row[c]);
  m = simd_max(m);
  if (lane == 0) part[warp] = m;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint w = 0; w < n.x / 32; ++w) m = fmax(m, part[w]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0;
  for (int c = t.x; c < args.cols; c += n.x) sum += metal::precise::exp(row[c] - m);
  sum = block_sum(sum, part, lane, warp, n.x / 32);
  for (int c = t.x; c < args.cols; c += n.x) out[group.x * (uint)args.cols + c] = fast::exp(row[c] - m) / sum;
}
"#;

#[test]
fn softmax_by_block_reduction_is_that_of_the_oracle() {
    let Some(unit) = unit(Metal, SOFTMAX, &["softmax"]) else { return };
    for (rows, cols, threads) in [(3, 1, 32), (5, 1001, 256), (2, 4099, 1024)] {
        let x = numbers(rows * cols);
        let mut buffers = [Bytes::of_f32(&x), Bytes::poisoned(4 * x.len())];
        let grid = [rows as u32, 1, 1];
        unit.run_in_every_order("softmax", grid, [threads, 1, 1], 0, &mut buffers, &args(&[cols as i32])).unwrap();
        assert_close(&buffers[1].to_f32(), &softmax(&x, cols));
    }
}

const COLUMNS: &str = r#"
#include <metal_stdlib>
using namespace metal;
struct sizes { int rows; int cols; };
kernel void parts(device const float* x [[buffer(0)]], device float* part [[buffer(1)]],
                  constant sizes& args [[buffer(2)]], threadgroup float* sums [[threadgroup(0)]],
                  uint2 b [[threadgroup_position_in_grid]], uint2 t [[thread_position_in_threadgroup]],
                  uint2 n [[threads_per_threadgroup]], uint2 g [[threadgroups_per_grid]]) {
  int c = b.x * n.x + t.x;
  float sum = 0.0f;
  for (int r = b.y * n.y + t.y; r < args.rows && c < args.cols; r += g.y * n.y) sum += x[r * args.cols + c];
  sums[t.y * n.x + t.x] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t.y == 0 && c < args.cols) {
    for (uint k = 1; k < n.y; ++k) sum += sums[k * n.x + t.x];
    part[int(b.y) * args.cols + c] = sum;
  }
}
kernel void finish(device const float* part [[buffer(0)]], device float* out [[buffer(1)]],
                   constant sizes& args [[buffer(2)]], uint c [[thread_position_in_grid]]) {
  if (c >= uint(args.cols)) return;
  float sum = 0.0f;
  for (int r = 0; r < args.rows; ++r) sum += part[r * args.cols + c];
  out[c] = sum;
}
"#;

#[test]
fn sums_of_columns_in_two_steps_are_those_of_the_oracle() {
    let Some(unit) = unit(Metal, COLUMNS, &["parts", "finish"]) else { return };
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

const LANGUAGE: &str = r#"
#include <metal_stdlib>
using namespace metal;
constant float third = 1.0 / 3.0;
kernel void language(device const half* h [[buffer(0)]], device const bfloat* b [[buffer(1)]],
                     device float* out [[buffer(2)]], device half4* halves [[buffer(3)]], device bfloat* bf [[buffer(4)]],
                     ushort t [[thread_index_in_threadgroup]]) {
  bf[t] = bfloat(float(b[t]) * 3.0);
  if (simd_any(t == 40)) out[t] = 1.0; else out[t] = 2.0;
  threadgroup_barrier(mem_flags::mem_device);
  if (t != 0) return;
  out[2] = float(h[0]) + float(b[0]);
  half4 v = half4(float4(0.1, 1.0, float2(2.0)));
  halves[0] = v * half4(2.0);
  float4 w = float4(halves[0]);
  out[3] = w.w + w.xy.y;
  uint4 bits = uint4(as_type<uint>(1.0f), mulhi(0x80000000u, 6u), popcount(255u), select(1u, 2u, true));
  out[4] = bits.x == 0x3f800000u && bits.y == 3 && bits.z == 8 && bits.w == 2;
  out[5] = clamp(third, 0.0, 0.25) + sign(-3.0) + round(2.5) + fma(2.0, 3.0, 1.0);
  out[6] = dot(float4(1, 2, 3, 4), float4(1)) + (isnan(NAN) ? 1 : 0) + max(1, 2) + ctz(8u);
  packed_float4 p = *(device packed_float4*)(out + 3);
  out[7] = p.x + sizeof(1.0);
}
"#;

#[test]
fn types_and_functions_of_metal_mean_what_its_specification_says() {
    let Some(unit) = unit(Metal, LANGUAGE, &["language"]) else { return };
    let h: Vec<u16> = (0..64).map(|n| half::f16::from_f32(n as f32 + 0.5).to_bits()).collect();
    let b: Vec<u16> = (0..64).map(|n| half::bf16::from_f32(n as f32 + 0.25).to_bits()).collect();
    let mut buffers =
        [Bytes::of_u16(&h), Bytes::of_u16(&b), Bytes::poisoned(256), Bytes::poisoned(8), Bytes::poisoned(128)];
    unit.run("language", [1, 1, 1], [64, 1, 1], 0, &mut buffers, &[], Order::Forward).unwrap();
    let out = buffers[2].to_f32();
    assert_eq!(out[2..8], [0.75, 6.0, 1.0, 0.25 - 1.0 + 3.0 + 7.0, 10.0 + 1.0 + 2.0 + 3.0, 6.0 + 4.0]);
    assert_eq!((out[8], out[40]), (2.0, 1.0));
    let tenth = half::f16::from_f32(2.0 * half::f16::from_f32(0.1).to_f32()).to_bits();
    assert_eq!(buffers[3].to_u16(), [tenth, 0x4000, 0x4400, 0x4400]);
    let tripled: Vec<u16> = (0..64).map(|n| half::bf16::from_f32(3.0 * (n as f32 + 0.25)).to_bits()).collect();
    assert_eq!(buffers[4].to_u16(), tripled);
}

/// The error of a kernel whose body is `body`, or of one whose body is `right`.
fn error(body: &str, right: &str) -> Option<String> {
    compiler(Metal)?;
    let compile = |body: &str| {
        let text = format!(
            "#include <metal_stdlib>\nusing namespace metal;\nfloat first(device const float* p) {{ return p[0]; }}\n\
             kernel void k(device const float* x [[buffer(0)]], device float* out [[buffer(1)]], \
             device bfloat* b [[buffer(2)]], uint t [[thread_position_in_grid]]) {{\n{body}\n}}"
        );
        Unit::compile(Metal, &text, &["k"])
    };
    if let Err(message) = compile(right) {
        panic!("{message}");
    }
    Some(compile(body).err().expect("the mistake is found"))
}

#[test]
fn memory_of_the_block_is_no_device_memory() {
    let body = "threadgroup float s[4]; out[0] = first(s);";
    let Some(message) = error(body, "threadgroup float s[4]; out[0] = first(x) + s[0];") else { return };
    assert!(message.contains("address spaces") && message.contains("kernel.metal:5"), "{message}");
}

#[test]
fn a_pointer_without_an_address_space_does_not_point_to_a_buffer() {
    let Some(message) = error("const float* p = x; out[0] = *p;", "device const float* p = x; out[0] = *p;") else {
        return;
    };
    assert!(message.contains("address spaces"), "{message}");
}

#[test]
fn there_is_no_double() {
    let Some(message) = error("out[0] = double(x[0]);", "out[0] = x[0] * 2.0;") else { return };
    assert!(message.contains("poisoned"), "{message}");
}

#[test]
fn bfloat_is_converted_where_it_is_said() {
    let Some(message) = error("b[0] = x[0];", "b[0] = bfloat(x[0]); out[0] = float(b[0]);") else { return };
    assert!(message.contains("explicit bfloat"), "{message}");
    let message = error("out[0] = b[0] * 2.0f;", "out[0] = 0;").unwrap();
    assert!(message.contains("explicit bfloat"), "{message}");
}
