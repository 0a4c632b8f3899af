//! Mistakes planted in kernels of both dialects. Each must be caught, by a report or by a wrong result in some order,
//! and its correction must pass.

use crate::{
    args, numbers,
    standin::{
        Bytes,
        Dialect::{self, Cuda, Metal},
        Unit,
    },
    unit,
};

const THREADS: usize = 64;

/// Kernels of one block in which thread `t` of 64 makes `out[t]` of `x`: `bug` and `right`.
fn text(dialect: Dialect, bodies: [(&str, &str); 2]) -> String {
    let names = ["SHARED", "BARRIER", "XOR(", "DEVICE"];
    let (head, parameters, words) = match dialect {
        Cuda => (
            "#define kernel extern \"C\" __global__\n#define id threadIdx.x",
            "const float* x, float* out, const bug_args args",
            ["__shared__", "__syncthreads()", "__shfl_xor_sync(0xffffffffu, ", ""],
        ),
        Metal => (
            "#include <metal_stdlib>\nusing namespace metal;",
            "device const float* x [[buffer(0)]], device float* out [[buffer(1)]], constant bug_args& args [[buffer(2)]], \
             uint id [[thread_index_in_threadgroup]]",
            ["threadgroup", "threadgroup_barrier(mem_flags::mem_threadgroup)", "simd_shuffle_xor(", "device"],
        ),
    };
    let mut text = format!("{head}\nstruct bug_args {{ int n; }};\n");
    for (name, body) in bodies {
        let body = names.iter().zip(words).fold(body.to_owned(), |body, (name, word)| body.replace(name, word));
        text += &format!("kernel void {name}({parameters}) {{\nint t = id, n = args.n; (void)n;\n{body}\n}}\n");
    }
    text
}

/// What is wrong with a kernel, if anything is.
fn fault(unit: &Unit, entry: &str, x: &[f32], expected: &[f32]) -> Option<String> {
    let mut buffers = [Bytes::of_f32(x), Bytes::poisoned(4 * THREADS)];
    let (block, args) = ([THREADS as u32, 1, 1], args(&[THREADS as i32]));
    if let Err(report) = unit.run_in_every_order(entry, [1, 1, 1], block, 0, &mut buffers, &args) {
        return Some(report);
    }
    let out = buffers[1].to_f32();
    let wrong = out.iter().zip(expected).position(|(a, b)| a != b)?;
    Some(format!("wrong result: out[{wrong}] is {}, expected {}", out[wrong], expected[wrong]))
}

/// `bug` is caught in both dialects with a message that has `sign` in it, and `right` gives `expected`.
fn caught(bug: &str, right: &str, sign: &str, expected: impl Fn(&[f32], usize) -> f32) {
    let x = numbers(THREADS);
    let expected: Vec<f32> = (0..THREADS).map(|t| expected(&x, t)).collect();
    for dialect in [Cuda, Metal] {
        let text = text(dialect, [("bug", bug), ("right", right)]);
        let Some(unit) = unit(dialect, &text, &["bug", "right"]) else { continue };
        assert_eq!(fault(&unit, "right", &x, &expected), None, "{dialect:?}: the correction");
        let report = fault(&unit, "bug", &x, &expected).unwrap_or_else(|| panic!("{dialect:?}: not caught"));
        assert!(report.contains(sign), "{dialect:?}: {report}");
    }
}

const REVERSED: fn(&[f32], usize) -> f32 = |x, t| x[THREADS - 1 - t];
const SAME: fn(&[f32], usize) -> f32 = |x, t| x[t];

#[test]
fn a_missing_barrier_is_caught() {
    let right = "SHARED float s[64]; s[t] = x[t]; BARRIER; out[t] = s[n - 1 - t];";
    caught(&right.replace("BARRIER;", ""), right, "differ", REVERSED);
}

#[test]
fn a_missing_barrier_behind_an_exchange_of_lanes_is_caught() {
    let right = "SHARED float s[2]; float v = x[t]; for (int k = 16; k > 0; k /= 2) v = v + 0.0f * XOR(v, k);\n\
                 if (t % 32 == 0) s[t / 32] = v; BARRIER; out[t] = s[1 - t / 32];";
    caught(&right.replace("BARRIER;", ""), right, "differ", |x, t| x[32 - t / 32 * 32]);
}

#[test]
fn memory_that_is_used_again_too_soon_is_caught() {
    let right = "SHARED float s[64]; s[t] = x[t]; BARRIER;\nfloat v = s[n - 1 - t]; BARRIER; s[t] = v; BARRIER;\nout[t] = s[t];";
    let bug = right.replace("BARRIER; s[t] = v", "s[t] = v");
    caught(&bug, right, "differ", REVERSED);
}

#[test]
fn a_barrier_in_divergent_code_is_caught() {
    let bug = "if (t < 32) BARRIER;\nout[t] = x[t];";
    caught(bug, "BARRIER; out[t] = x[t];", "ended: (32, 0, 0) (33, 0, 0) (34, 0, 0) (35, 0, 0) … 32 threads", SAME);
}

#[test]
fn barriers_of_different_lines_are_caught() {
    let bug = "if (t % 2)\nBARRIER; else\nBARRIER;\nout[t] = x[t];";
    caught(bug, "BARRIER; out[t] = x[t];", "do not come to the same barrier", SAME);
}

#[test]
fn a_return_before_a_barrier_is_caught() {
    let bug = "out[t] = x[t]; if (t == 63) return; BARRIER;";
    caught(bug, "out[t] = x[t]; BARRIER;", "ended: (63, 0, 0) 1 threads", SAME);
}

#[test]
fn an_exchange_of_lanes_in_divergent_code_is_caught() {
    let bug = "float v = x[t]; if (t % 32 < 16) v = XOR(v, 1); out[t] = v;";
    let right = "float v = XOR(x[t], 1); out[t] = t % 32 < 16 ? v : x[t];";
    caught(bug, right, "do not come to the same exchange", |x, t| if t % 32 < 16 { x[t ^ 1] } else { x[t] });
}

#[test]
fn a_read_past_the_end_is_caught() {
    let bug = "float next = x[t + 1]; out[t] = next * 0.0f + x[t];";
    caught(bug, "out[t] = x[t];", "READ of size 4", SAME);
}

#[test]
fn a_read_before_the_beginning_is_caught() {
    let bug = "float next = x[t - 1]; out[t] = next * 0.0f + x[t];";
    caught(bug, "out[t] = x[t];", "READ of size 4", SAME);
}

#[test]
fn a_write_past_the_end_is_caught() {
    let bug = "out[t] = x[t]; if (t == 63) out[t + 1] = 0.0f;";
    caught(bug, "out[t] = x[t];", "thread (63, 0, 0)", SAME);
    caught(bug, "out[t] = x[t];", "WRITE of size 4", SAME);
}

#[test]
fn an_index_past_the_end_of_block_memory_is_caught() {
    let bug = "SHARED float s[64]; s[t] = x[t]; BARRIER; out[t] = s[t]; if (s[t + 1] > 9.0f) out[t] = 0.0f;";
    caught(bug, "out[t] = x[t];", "out of bounds", SAME);
    let bug =
        "SHARED float s[64]; s[t] = x[t]; BARRIER; auto p = s + t; out[t] = p[0]; if (p[1] > 9.0f) out[t] = 0.0f;";
    caught(bug, "out[t] = x[t];", "global-buffer-overflow", SAME);
}

#[test]
fn a_wrong_index_is_caught() {
    caught("out[t] = x[(t + 1) % n];", "out[t] = x[t];", "wrong result: out[0]", SAME);
}

#[test]
fn block_memory_that_was_not_set_is_caught() {
    let right = "SHARED float s[64]; s[t] = x[t]; BARRIER; out[t] = s[t];";
    let bug = right.replace("s[t] = x[t];", "if (t) s[t] = x[t];");
    caught(&bug, right, "wrong result: out[0] is NaN", SAME);
}

#[test]
fn a_variable_that_was_not_set_is_caught() {
    let bug = "float v[4]; for (int k = 1; k < 4; ++k) v[k] = x[t]; out[t] = v[t % 4];";
    caught(bug, "out[t] = x[t];", "wrong result: out[0] is", SAME);
}

#[test]
fn a_result_that_was_not_written_is_caught() {
    caught("if (t < 63) out[t] = x[t];", "out[t] = x[t];", "wrong result: out[63] is NaN", SAME);
}

#[test]
fn a_misaligned_vector_is_caught() {
    let bug = "if (t < 16) { float4 v = *(DEVICE const float4*)(x + (4 * t + 1) % 60); out[t] = v.x; } out[t] = x[t];";
    let right = "float4 v = *(DEVICE const float4*)(x + t / 4 * 4);\nout[t] = t % 4 == 0 ? v.x : t % 4 == 1 ? v.y : t % 4 == 2 ? v.z : v.w;";
    caught(bug, right, "misaligned address", SAME);
}
