//! The stand-in itself: that right kernels give right results in every order, and that planted mistakes are caught.

#[path = "../standin/mod.rs"]
mod standin;

mod bugs;
mod cluster;
mod cuda;
mod metal;

use standin::{Dialect, Unit, compiler};

/// The unit, or `None` with a note on a machine without a compiler. Text that does not compile is a failure.
fn unit(dialect: Dialect, text: &str, entries: &[&str]) -> Option<Unit> {
    if compiler(dialect).is_none() {
        println!("not run: no C++ compiler for {dialect:?}");
        return None;
    }
    Some(Unit::compile(dialect, text, entries).unwrap_or_else(|e| panic!("{e}")))
}

/// Numbers without a pattern, between −2 and 2.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..count).map(|_| next()).collect()
}

fn assert_close(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (n, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= 1e-6 + 1e-6 * expected.abs(), "[{n}]: got {got}, expected {expected}");
    }
}

fn args(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

/// Softmax of rows in f64.
fn softmax(x: &[f32], cols: usize) -> Vec<f64> {
    x.chunks(cols)
        .flat_map(|row| {
            let max = row.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v.into()));
            let sum: f64 = row.iter().map(|&v| (f64::from(v) - max).exp()).sum();
            row.iter().map(move |&v| (f64::from(v) - max).exp() / sum)
        })
        .collect()
}

/// Sums of columns in f64.
fn column_sums(x: &[f32], cols: usize) -> Vec<f64> {
    (0..cols).map(|c| x.chunks(cols).map(|row| f64::from(row[c])).sum()).collect()
}
