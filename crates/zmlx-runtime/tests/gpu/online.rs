//! Sums that are found beside what they are relative to, in one pass: of exponentials beside the maximum, of squares beside
//! the mean. Rows with numbers that are not finite, rows whose maximum rises with every chunk, rows far from 0.

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
fn exponentials(row: &[f32]) -> Vec<(f64, f64)> {
    let max = row.iter().map(|x| f64::from(*x)).fold(f64::NEG_INFINITY, |m, x| if x.is_nan() || x > m { x } else { m });
    let max = if row.iter().any(|x| x.is_nan()) { f64::NAN } else { max };
    let shift = if max.abs() < f64::INFINITY { max } else { 0.0 };
    let sum = |shift: f64| row.iter().map(|x| (f64::from(*x) - shift).exp()).sum::<f64>();
    [sum(max), max, shift + sum(shift).ln()].map(|v| (v, 2e-5 * v.abs())).to_vec()
}

/// The sum of the squares of a row relative to its mean, and its mean. Means of parts of the row are rounded as numbers of
/// their size are, which their differences feel.
fn squares(row: &[f32]) -> Vec<(f64, f64)> {
    let n = row.len() as f64;
    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let squares: f64 = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
    let rounded = mean.abs() * f64::from(f32::EPSILON) / 2.0;
    vec![(squares, 2e-5 * squares + rounded * (squares * n).sqrt()), (mean, 2e-5 * mean.abs())]
}

/// A formula's outputs, walking along the rows in several ways, beside what is expected of each row.
fn check(dialect: Dialect, formula: &str, rows: &[Vec<f32>], expected: impl Fn(&[f32]) -> Vec<(f64, f64)>) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    let p = program("online", formula, &[Extent::ELEM], DType::F32);
    let cols = rows[0].len();
    let picked = Config::pick(&p, rows.len() as u64, cols as u64, 1, 1 << 20, Device::default());
    let clusters: &[u32] = if dialect == Dialect::Cuda { &[1, 4] } else { &[1] };
    for &(row_threads, threads, chunks) in &[(1, 64, 2), (8, 64, 1), (128, 128, 4)] {
        for &cluster in clusters.iter().filter(|c| **c == 1 || row_threads == threads) {
            let cfg = Config { strategy: Strategy::Looped, row_threads, threads, cluster, chunks, ..picked };
            let made = schedule(&p, &cfg).expect("a schedule");
            let unit = compile(dialect, &[&made]).unwrap_or_else(|e| panic!("{e}"));
            let x = Buffer::F32(rows.concat());
            let x = Tensor { buffer: x, offset: 0, row_strides: vec![cols], col_stride: 1, table: None };
            let case =
                Case { program: p.clone(), row_dims: vec![rows.len()], cols, tensors: vec![x], uniforms: vec![] };
            let got = run(&unit, &made, &case, Order::Random(3)).unwrap_or_else(|e| panic!("{e}"));
            for (r, row) in rows.iter().enumerate() {
                for (out, (want, error)) in got.outputs.iter().zip(expected(row)) {
                    let Buffer::F32(values) = out else { panic!("{out:?}") };
                    let (got, want) = (f64::from(values[r]), want as f32 as f64);
                    let fits = got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= error;
                    assert!(fits, "row {r}, {cfg:?}: {got:e}, expected {want:e}");
                }
            }
        }
    }
}

const EXPONENTIALS: &str = "out sum = sum(exp(x - max(x))); out most = max(x); out all = logsumexp(x)";
const SQUARES: &str = "let m = mean(x); out squares = sum((x - m) * (x - m)); out mean = m";

/// Rows whose mean is far from 0, or from that of most chunks, or that have fewer elements than threads.
fn rows_with_a_mean() -> Vec<Vec<f32>> {
    let plain: Vec<f32> = (0..COLS).map(|i| ((i * 7919) % 613) as f32 * 0.01 + 1.0).collect();
    let mut outlier = plain.clone();
    outlier[0] = 1e4;
    let mut late = plain.clone();
    late[COLS - 1] = 1e5;
    let finite = [
        plain.clone(),
        vec![1.0; COLS],
        (0..COLS).map(|i| 1e4 + ((i * 7919) % 613) as f32 * 0.0078125).collect(),
        (0..COLS).map(|i| i as f32 * 100.0).collect(),
        plain.iter().map(|x| x * 1e15).collect(),
        outlier,
        late,
    ];
    let special = rows().into_iter().filter(|row| row.iter().any(|x| !x.is_finite()) && !row.contains(&f32::MAX));
    // a row of infinities alone has a mean; its squares are NaN
    finite.into_iter().chain(special).collect()
}

fn nothing(dialect: Dialect, formula: &str, expected: &[f32]) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    let p = program("online", formula, &[Extent::ELEM], DType::F32);
    let picked = Config::pick(&p, 2, 0, 1, 1 << 20, Device::default());
    let cfg = Config { strategy: Strategy::Looped, row_threads: 8, threads: 64, chunks: 1, cluster: 1, ..picked };
    let made = schedule(&p, &cfg).expect("a schedule");
    let unit = compile(dialect, &[&made]).unwrap_or_else(|e| panic!("{e}"));
    let x = Tensor { buffer: Buffer::F32(vec![]), offset: 0, row_strides: vec![0], col_stride: 1, table: None };
    let case = Case { program: p, row_dims: vec![2], cols: 0, tensors: vec![x], uniforms: vec![] };
    let got = run(&unit, &made, &case, Order::Random(3)).unwrap_or_else(|e| panic!("{e}"));
    for (out, want) in got.outputs.iter().zip(expected) {
        assert_eq!(*out, Buffer::F32(vec![*want; 2]));
    }
}

fn check_exponentials(dialect: Dialect) {
    check(dialect, EXPONENTIALS, &rows(), exponentials);
    // a sum of nothing, whose maximum is -inf, is 0
    nothing(dialect, EXPONENTIALS, &[0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
}

fn check_squares(dialect: Dialect) {
    check(dialect, SQUARES, &rows_with_a_mean(), squares);
    check(dialect, SQUARES, &[vec![3.5, -1.0, 2.0], vec![1e4, 1e4 + 1.0, 1e4 + 2.0]], squares);
    nothing(dialect, SQUARES, &[0.0]);
}

#[test]
fn sums_of_exponentials_in_one_pass_treat_numbers_that_are_not_finite_as_two_do_in_cuda_text() {
    check_exponentials(Dialect::Cuda);
}

#[test]
fn sums_of_exponentials_in_one_pass_treat_numbers_that_are_not_finite_as_two_do_in_metal_text() {
    check_exponentials(Dialect::Metal);
}

#[test]
fn squares_in_one_pass_keep_the_digits_that_their_mean_leaves_in_cuda_text() {
    check_squares(Dialect::Cuda);
}

#[test]
fn squares_in_one_pass_keep_the_digits_that_their_mean_leaves_in_metal_text() {
    check_squares(Dialect::Metal);
}
