//! An index `x[t]` out of range: NaN or 0 in its row, and a flag that says so.

use crate::{
    case::{Case, Tensor},
    formulas::program,
    launch::{Run, compile, run},
    standin::{Dialect, Order, compiler},
};
use zmlx_ir::{
    DType, Extent,
    program::Table,
    schedule::{Config, Device, schedule},
};
use zmlx_runtime::Buffer;

const COLS: usize = 21;

/// x[t] of 21 columns, one row for each index.
fn picked(dialect: Dialect, dtype: DType, indices: &[u32]) -> Run {
    let p = program("pick", "x[t]", &[Extent::ELEM, Extent::ROW], dtype);
    let rows = indices.len();
    let device = Device { processors: 3, shared: 0, cluster: 1 };
    let cfg = Config::pick(&p, rows as u64, COLS as u64, 1, (rows * COLS) as u64, device);
    let schedule = schedule(&p, &cfg).expect("a schedule");
    let unit = compile(dialect, &[&schedule]).unwrap_or_else(|e| panic!("{e}"));
    let x = (0..rows * COLS).map(|i| i as f32 + 1.0);
    let x = if dtype == DType::F32 { Buffer::F32(x.collect()) } else { Buffer::I32(x.map(|v| v as i32).collect()) };
    let x = Tensor { buffer: x, offset: 0, row_strides: vec![COLS], col_stride: 1, table: None };
    let t =
        Tensor { buffer: Buffer::U32(indices.to_vec()), offset: 0, row_strides: vec![1], col_stride: 0, table: None };
    let case = Case { program: p, row_dims: vec![rows], cols: COLS, tensors: vec![x, t], uniforms: vec![] };
    run(&unit, &schedule, &case, Order::Random(3)).unwrap_or_else(|e| panic!("{e}"))
}

/// table + 1 of 4 rows, one row for each index.
fn found(dialect: Dialect, cols: usize, indices: &[u32]) -> Run {
    let mut p = program("found", "x + 1", &[Extent::ELEM], DType::F32);
    p.input("at", DType::U32, Extent::ROW);
    p.inputs[0].by = Some(1);
    let rows = indices.len();
    let device = Device { processors: 3, shared: 0, cluster: 1 };
    let cfg = Config::pick(&p, rows as u64, cols as u64, 1, (rows * cols) as u64, device);
    let schedule = schedule(&p, &cfg).expect("a schedule");
    let unit = compile(dialect, &[&schedule]).unwrap_or_else(|e| panic!("{e}"));
    let x = Buffer::F32((0..4 * cols).map(|i| (i / cols) as f32).collect());
    let table = Some(Table { by: 1, pitch: cols, rows: 4 });
    let x = Tensor { buffer: x, offset: 0, row_strides: vec![0], col_stride: 1, table };
    let at = Buffer::U32(indices.to_vec());
    let at = Tensor { buffer: at, offset: 0, row_strides: vec![1], col_stride: 0, table: None };
    let case = Case { program: p, row_dims: vec![rows], cols, tensors: vec![x, at], uniforms: vec![] };
    run(&unit, &schedule, &case, Order::Random(3)).unwrap_or_else(|e| panic!("{e}"))
}

fn check(dialect: Dialect) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    let inside = picked(dialect, DType::F32, &[0, 20, 3]);
    assert!(!inside.flag);
    assert_eq!(inside.outputs, [Buffer::F32(vec![1.0, 42.0, 46.0])]);
    let outside = picked(dialect, DType::F32, &[0, 21, 3]);
    assert!(outside.flag);
    let Buffer::F32(values) = &outside.outputs[0] else { panic!("{:?}", outside.outputs) };
    assert!(values[0] == 1.0 && values[1].is_nan() && values[2] == 46.0, "{values:?}");
    // rows of a table: by vectors, and where chunks do not lie on boundaries
    for cols in [64, 7] {
        let inside = found(dialect, cols, &[3, 0, 3]);
        let row = |v: f32| vec![v; cols];
        assert!(!inside.flag && inside.outputs == [Buffer::F32([row(4.0), row(1.0), row(4.0)].concat())]);
        let outside = found(dialect, cols, &[1, 4, 2]);
        let Buffer::F32(values) = &outside.outputs[0] else { panic!("{:?}", outside.outputs) };
        let (first, rest) = values.split_at(cols);
        let (nan, last) = rest.split_at(cols);
        assert!(outside.flag && first == row(2.0) && nan.iter().all(|v| v.is_nan()) && last == row(3.0), "{values:?}");
    }
    let integers = picked(dialect, DType::I32, &[u32::MAX, 20]);
    assert!(integers.flag);
    assert_eq!(integers.outputs, [Buffer::I32(vec![0, 42])]);
}

#[test]
fn an_index_out_of_range_gives_nan_or_0_and_sets_the_flag_in_cuda_text() {
    check(Dialect::Cuda);
}

#[test]
fn an_index_out_of_range_gives_nan_or_0_and_sets_the_flag_in_metal_text() {
    check(Dialect::Metal);
}
