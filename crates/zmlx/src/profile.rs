//! What an operation costs on given inputs, and what it was compiled to.

use crate::{Inputs, Op, Result};
use candle_core::Tensor;
use std::time::Instant;

/// Time, memory and source of one operation on given inputs.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Median time of a call, in µs.
    pub median_us: f64,
    /// Fastest and slowest call, in µs.
    pub range_us: (f64, f64),
    /// Bytes of the inputs.
    pub input_bytes: usize,
    /// Bytes of the results.
    pub output_bytes: usize,
    /// The Program.
    pub program: String,
    /// The passes that the CPU runs.
    pub kernel: String,
}

/// Runs the operation `calls` times after a warm-up and looks at it.
///
/// # Errors
/// As [`Op::call`].
pub fn profile(op: &Op, inputs: &[&Tensor], calls: usize) -> Result<Profile> {
    let outputs = op.call_all(inputs)?;
    let mut times = vec![];
    for _ in 0..calls.max(1) {
        let start = Instant::now();
        std::hint::black_box(op.call_all(inputs)?);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
    let program = op.program(inputs)?;
    let kernel = zmlx_runtime::backend::cpu::compile(&program)?;
    Ok(Profile {
        median_us: times[times.len() / 2],
        range_us: (times[0], times[times.len() - 1]),
        input_bytes: inputs.with(|t| t.iter().map(|t| bytes(t)).sum()),
        output_bytes: outputs.iter().map(bytes).sum(),
        program: program.compact().to_string(),
        kernel: kernel.text(),
    })
}
