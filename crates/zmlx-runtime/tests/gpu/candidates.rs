//! What a tuner may choose, executed: every candidate's text gives the results of the oracle.

use crate::{
    case::Case,
    formulas::program,
    launch::{check, compile},
    standin::{Dialect, Order, compiler},
};
use zmlx_ir::{
    DType, Extent, Program,
    grad::vjp,
    program::random::Random,
    schedule::{Chooser, Config, Device, Geometry, Schedule, Strides, schedule},
};
use zmlx_runtime::Buffer;

/// Calls `f` with the geometry of a case.
fn with_geometry<R>(case: &Case, f: impl FnOnce(&Geometry<'_>) -> R) -> R {
    fn stride(t: &crate::case::Tensor) -> Strides<'_> {
        let size = t.buffer.as_slice().dtype().size_bytes();
        Strides { rows: &t.row_strides, col: t.col_stride, shift: t.offset * size % 16 / size, table: t.table }
    }
    let inputs: Vec<Strides<'_>> = case.tensors.iter().map(stride).collect();
    let device = Device { processors: 3, shared: 232_448, cluster: 4 };
    f(&Geometry { row_dims: &case.row_dims, cols: case.cols, inputs: &inputs, uniforms: &case.uniforms, device })
}

/// Runs a case under these Configs.
fn run(case: &mut Case, configs: &[Config]) {
    let name = case.program.name.clone();
    let made = configs.iter().enumerate().map(|(k, c)| {
        let mut p = case.program.clone();
        p.name = format!("{name}_{k}");
        schedule(&p, c).unwrap_or_else(|e| panic!("{p}{c}: {e}"))
    });
    let made: Vec<Schedule> = made.collect();
    let unit = compile(Dialect::Cuda, &made.iter().collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"));
    for (schedule, config) in made.iter().zip(configs) {
        let counts = check(&unit, schedule, case, &[Order::Forward]);
        let counts = counts.unwrap_or_else(|e| panic!("{config}: {}", e.chars().take(6000).collect::<String>()));
        assert!(counts.elements > 0 && counts.skipped * 4 < counts.elements, "{config}: {counts:?}");
    }
}

#[test]
fn every_fourth_candidate_matches_the_oracle() {
    if compiler(Dialect::Cuda).is_none() {
        return println!("not run: no C++ compiler");
    }
    let mut r = Random::new(11);
    let norm = program("norm", "x * rsqrt(mean(x * x) + 1e-6) * w", &[Extent::ELEM, Extent::COL], DType::BF16);
    let mut gradient = vjp(&norm, &[0, 1]).expect("a gradient");
    gradient.name = "norm_vjp".into();
    let programs = [
        program("gated", "silu(x) * u", &[Extent::ELEM, Extent::ELEM], DType::F32),
        program("softmax", "softmax(x)", &[Extent::ELEM], DType::F32),
        program("cumsum", "cumsum(x)", &[Extent::ELEM], DType::F32),
        norm,
        gradient,
    ];
    for (k, p) in programs.into_iter().enumerate() {
        let mut case = Case::draw(p, (7, 1021), false, &mut r);
        let all = with_geometry(&case, |g| Chooser::of(&case.program).candidates(g));
        let some: Vec<Config> = all.iter().copied().skip(k % 4).step_by(4).collect();
        println!("{}: {} of {} candidates", case.program.name, some.len(), all.len());
        run(&mut case, &some);
    }
}

#[test]
fn a_sum_of_rows_that_start_off_a_boundary_misses_no_element() {
    if compiler(Dialect::Cuda).is_none() {
        return println!("not run: no C++ compiler");
    }
    let p: Program = program("off", "sum(x)", &[Extent::ELEM], DType::F32);
    let mut case = Case::draw(p, (2, 64), false, &mut Random::new(1));
    // 16 chunks of 4 elements hold a row; from 3 elements past a boundary it is 17
    case.row_dims = vec![2];
    case.tensors[0].buffer = Buffer::F32((0..200).map(|i| i as f32).collect());
    (case.tensors[0].offset, case.tensors[0].row_strides, case.tensors[0].col_stride) = (3, vec![68], 1);
    let config = with_geometry(&case, |g| Chooser::of(&case.program).choose(g));
    run(&mut case, &[config]);
}
