//! Formulas as users write them.

use crate::*;
use zmlx_ir::{Formula, Scalar, Signature};

/// Binds a formula in f64: names of one upper-case letter W, B are columns, T is one integer a row, k, l and eps
/// are launch arguments, anything else is elements.
fn bind(text: &str) -> Program {
    let mut f = Formula::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let mut signature = Signature::default();
    for name in &mut f.names {
        match name.name.as_str() {
            "k" | "l" | "eps" => {
                name.uniform = Some(Scalar::Float(0.5));
                continue;
            }
            "seed" => {
                name.uniform = Some(Scalar::Int(3));
                continue;
            }
            "W" | "B" => signature.inputs.push((DType::F64, Extent::COL)),
            "T" => signature.inputs.push((DType::U32, Extent::ROW)),
            "r" => signature.inputs.push((DType::F64, Extent::ROW)),
            _ => signature.inputs.push((DType::F64, Extent::ELEM)),
        }
    }
    let mut p = f.bind(text, &signature).unwrap_or_else(|e| panic!("{text}: {e}"));
    for o in p.outputs.iter_mut().filter(|o| o.dtype.is_float()) {
        o.dtype = DType::F64;
    }
    p
}

#[test]
fn formulas_agree_with_central_differences() {
    for text in [
        "x * tanh(log(1 + exp(x)))",
        "silu(gate) * up",
        "gelu(gate) * up",
        "gelu_erf(x)",
        "exp(x - max(x)) / sum(exp(x - max(x)))",
        "let e = exp(x - max(x)); e / sum(e)",
        "softmax(x * k) * z",
        "log_softmax(x / l)",
        "logsumexp(x) - x[T]",
        "-log(softmax(x)) * z",
        "softmax(softmax(x))",
        "let d = x - mean(x); d * rsqrt(mean(d * d) + eps) * W + B",
        "out h = x + z; out y = h * rsqrt(mean(h * h) + eps) * W",
        "let m = max(x); let n = min(x); (x - n) / (m - n + eps)",
        "x > 0 ? x : k * (exp(x) - 1)",
        "where(x > 0, sqrt(x + 0.1), x * x) * z",
        "let keep = z > 0; let m = max(keep ? x : -INFINITY); let e = keep ? exp(x - m) : 0; any(keep) ? e / sum(e) : 0",
        "let n = rand(seed); n < k ? 0 : x / (1 - k)",
        "var(x) * z + std(z)",
        "cumsum(x * z) / sum(x * x)",
        "cumprod(1 + x * k)",
        "cummax(sin(3 * x) + z)",
        "prod(1 + x) * W",
        "max(x * W + B) + min(x, z)",
        "x * sum(W * W)",
        "x * softmax(W) + cumsum(B)",
        "pow(abs(x) + 1, z) / (1 + r * r)",
        "clamp(x, -k, k) * r",
        "fma(x, z, r) * sigmoid(W)",
        "sum(x) / cols + mean(W) * r",
        "x[argmax(z)] * W",
        "x[T] * r + x",
        "relu(x) + softplus(z) * floor(x)",
        "(x - mean(x)) / max(abs(x))",
        "x / sqrt(sum(x * x)) * sum(x / sqrt(sum(x * x)))",
    ] {
        let p = bind(text);
        let uniforms: Vec<f64> = p.uniforms.iter().map(|u| if u.dtype.is_float() { 0.5 } else { 3.0 }).collect();
        for (seed, (rows, cols)) in [(3, 5), (1, 1), (2, 8)].into_iter().enumerate() {
            // a variance of one column is 0, where roots have no slope
            if cols == 1 && (text.contains("std") || text.contains("m - n")) {
                continue;
            }
            let (inputs, g) = sample(&p, rows, cols, (-1.5, 1.5), seed as u64 + 11);
            check_at(&p, rows, cols, &inputs, &g, &uniforms);
        }
    }
}

#[test]
fn a_row_of_infinities_leaves_the_other_rows_alone() {
    let inf = f64::INFINITY;
    let p = bind("logsumexp(x)");
    let x = vec![-inf, -inf, 0.0, 0.0, inf, 1.0];
    let d = gradients(&p, 3, 2, &[x], &[vec![1.0, 1.0, 1.0]], &[]);
    assert_eq!(d[0].1[2..4], [0.5, 0.5]);
    // a masked row gets zeros, not NaN
    let p = bind("let keep = z > 0; let e = keep ? exp(x - max(keep ? x : -INFINITY)) : 0; any(keep) ? e / sum(e) : 0");
    let d = gradients(&p, 1, 2, &[vec![-1.0, 0.0], vec![1.0, 2.0]], &[vec![1.0, 2.0]], &[]);
    assert!(d.iter().all(|(_, d)| d == &[0.0, 0.0]), "{d:?}");
}
