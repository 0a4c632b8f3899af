//! Sums of exponentials that are found beside their maximum, in one pass: rows with numbers that are not finite, rows whose
//! maximum rises with every chunk, rows far from 0.

use crate::{
    case::{Case, Tensor},
    formulas::program,
    launch::{compile, run},
    standin::{Dialect, Order, compiler},
};
use zmlx_ir::{
    DType, Extent,
    schedule::{Config, Device, Strategy, schedule},
};
use zmlx_runtime::Buffer;

const COLS: usize = 3001;

/// Rows by what is special of them.
fn rows() -> Vec<Vec<f32>> {
    const INF: f32 = f32::INFINITY;
    let plain: Vec<f32> = (0..COLS).map(|i| ((i * 7919) % 613) as f32 * 0.01 - 3.0).collect();
    let with = |at: &[(usize, f32)]| {
        let mut row = plain.clone();
        at.iter().for_each(|(i, v)| row[*i] = *v);
        row
    };
    vec![
        plain.clone(),
        vec![-INF; COLS],
        vec![INF; COLS],
        with(&[(0, -INF), (1500, -INF), (COLS - 1, -INF)]),
        (0..COLS).map(|i| if i == 2000 { -400.0 } else { -INF }).collect(),
        with(&[(1700, INF)]),
        with(&[(3, INF), (4, f32::NAN)]),
        with(&[(COLS - 1, f32::NAN)]),
        (0..COLS).map(|i| i as f32 * 0.3).collect(),
        (0..COLS).map(|i| i as f32 * -0.3).collect(),
        plain.iter().map(|x| x - 2000.0).collect(),
        plain.iter().map(|x| x + 3000.0).collect(),
        with(&[(0, f32::MAX), (COLS / 2, f32::MIN)]),
    ]
}

/// A row's sums: relative to its maximum, and to 0 where that is not finite; the latter's logarithm added to its shift.
fn expected(row: &[f32]) -> [f64; 3] {
    let max = row.iter().map(|x| f64::from(*x)).fold(f64::NEG_INFINITY, |m, x| if x.is_nan() || x > m { x } else { m });
    let max = if row.iter().any(|x| x.is_nan()) { f64::NAN } else { max };
    let shift = if max.abs() < f64::INFINITY { max } else { 0.0 };
    let sum = |shift: f64| row.iter().map(|x| (f64::from(*x) - shift).exp()).sum::<f64>();
    [sum(max), max, shift + sum(shift).ln()]
}

fn check(dialect: Dialect) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    let p = program(
        "online",
        "out sum = sum(exp(x - max(x))); out most = max(x); out all = logsumexp(x)",
        &[Extent::ELEM],
        DType::F32,
    );
    let rows = rows();
    let picked = Config::pick(&p, rows.len() as u64, COLS as u64, 1, 1 << 20, Device::default());
    let clusters: &[u32] = if dialect == Dialect::Cuda { &[1, 4] } else { &[1] };
    for &(row_threads, threads) in &[(1, 64), (8, 64), (128, 128)] {
        for &cluster in clusters.iter().filter(|c| **c == 1 || row_threads == threads) {
            let cfg = Config { strategy: Strategy::Looped, row_threads, threads, cluster, chunks: 1, ..picked };
            let made = schedule(&p, &cfg).expect("a schedule");
            let unit = compile(dialect, &[&made]).unwrap_or_else(|e| panic!("{e}"));
            let x = Buffer::F32(rows.concat());
            let x = Tensor { buffer: x, offset: 0, row_strides: vec![COLS], col_stride: 1, table: None };
            let case =
                Case { program: p.clone(), row_dims: vec![rows.len()], cols: COLS, tensors: vec![x], uniforms: vec![] };
            let got = run(&unit, &made, &case, Order::Random(3)).unwrap_or_else(|e| panic!("{e}"));
            for (r, row) in rows.iter().enumerate() {
                for (out, want) in got.outputs.iter().zip(expected(row)) {
                    let Buffer::F32(values) = out else { panic!("{out:?}") };
                    let (got, want) = (f64::from(values[r]), want as f32 as f64);
                    let fits =
                        got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= 2e-5 * want.abs();
                    assert!(fits, "row {r}, {cfg:?}: {got:e}, expected {want:e}");
                }
            }
        }
    }
    // a sum of nothing, whose maximum is -inf, is 0
    let cfg = Config { strategy: Strategy::Looped, row_threads: 8, threads: 64, chunks: 1, cluster: 1, ..picked };
    let made = schedule(&p, &cfg).expect("a schedule");
    let unit = compile(dialect, &[&made]).unwrap_or_else(|e| panic!("{e}"));
    let x = Tensor { buffer: Buffer::F32(vec![]), offset: 0, row_strides: vec![0], col_stride: 1, table: None };
    let case = Case { program: p, row_dims: vec![2], cols: 0, tensors: vec![x], uniforms: vec![] };
    let got = run(&unit, &made, &case, Order::Random(3)).unwrap_or_else(|e| panic!("{e}"));
    let both = |v: f32| Buffer::F32(vec![v; 2]);
    assert_eq!(got.outputs, [both(0.0), both(f32::NEG_INFINITY), both(f32::NEG_INFINITY)]);
}

#[test]
fn sums_of_exponentials_in_one_pass_treat_numbers_that_are_not_finite_as_two_do_in_cuda_text() {
    check(Dialect::Cuda);
}

#[test]
fn sums_of_exponentials_in_one_pass_treat_numbers_that_are_not_finite_as_two_do_in_metal_text() {
    check(Dialect::Metal);
}
