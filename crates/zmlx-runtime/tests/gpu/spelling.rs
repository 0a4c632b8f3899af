//! Second spellings, for Programs whose results are stored in 16 bits: as exact as the op table says on every 16-bit
//! input. The stand-in computes the instructions that approximate exactly; what a device loses there is left room for.

use crate::{
    case::{Case, Tensor},
    formulas::program,
    launch::{compile, run},
    standin::{Dialect, Order, compiler},
};
use half::{bf16, f16};
use zmlx_ir::{
    DType, Extent, Op, Program,
    op::Value,
    schedule::{Config, Device, Schedule, schedule},
};
use zmlx_runtime::{
    Buffer,
    backend::{c_like, cuda::dialect::CUDA},
};

/// Every number of a type.
fn all(dtype: DType) -> (Buffer, Vec<f64>) {
    let bits = || 0..=u16::MAX;
    match dtype {
        DType::F16 => {
            let v: Vec<f16> = bits().map(f16::from_bits).collect();
            (Buffer::F16(v.clone()), v.iter().map(|x| x.to_f64()).collect())
        }
        _ => {
            let v: Vec<bf16> = bits().map(bf16::from_bits).collect();
            (Buffer::BF16(v.clone()), v.iter().map(|x| x.to_f64()).collect())
        }
    }
}

/// A schedule whose ops take their second spelling, though what comes out is f32.
fn spelled(p: &Program, rows: u64) -> Schedule {
    let cfg = Config::pick(p, rows, 1 << 16, 1, rows << 16, Device { processors: 3, shared: 0, cluster: 1 });
    let mut made = schedule(p, &cfg).unwrap_or_else(|e| panic!("{}: {e}", p.name));
    made.steps.iter_mut().for_each(|s| s.kernel.half = true);
    made
}

/// Compares f32 results with values in f64, within so many units in the last place.
fn agree(name: &str, got: &Buffer, want: impl Iterator<Item = (String, f64)>, units: f64) {
    let Buffer::F32(got) = got else { panic!("{name}: no f32") };
    for (got, (at, want)) in got.iter().zip(want) {
        let (near, got) = (want as f32, f64::from(*got));
        let off = (got - want).abs();
        let fits = got == f64::from(near) || (near.is_nan() && got.is_nan());
        let close = off <= units * 2f64.powi(-23) * want.abs() + 2f64.powi(-149);
        // at the end of the numbers a result that is off may be infinite
        let last = near.is_finite() && want.abs() >= 3.4e38 && got.is_infinite();
        assert!(fits || close || last, "{name} of {at}: {got:e}, expected {want:e} within {units} units");
    }
}

/// What approximating instructions lose on a device: PTX promises 2 units for ex2 and 1 for rcp.
fn lost(op: Op) -> f64 {
    match op {
        Op::Exp | Op::Exp2 => 4.0,
        Op::Sigmoid => 6.0,
        _ => 1.0,
    }
}

fn stated(op: Op) -> f64 {
    op.row().half.unwrap_or_else(|| panic!("{} has no second spelling", op.name()))
}

#[test]
fn second_spellings_are_as_exact_as_stated_on_every_16_bit_number() {
    if compiler(Dialect::Cuda).is_none() {
        return println!("not run: no C++ compiler");
    }
    let ops = [Op::Exp, Op::Exp2, Op::Sigmoid, Op::Recip];
    let listed = Op::ALL.iter().filter(|op| op.row().half.is_some());
    assert_eq!(listed.count(), ops.len() + 1, "an op without a test");
    assert!(ops.iter().all(|op| stated(*op) <= 2048.0));
    for dtype in [DType::F16, DType::BF16] {
        let (buffer, numbers) = all(dtype);
        let programs: Vec<Program> = ops
            .iter()
            .map(|op| {
                program(
                    &format!("half_{}_{dtype}", op.name()),
                    &format!("out y: f32 = {}(x)", op.name()),
                    &[Extent::ELEM],
                    dtype,
                )
            })
            .collect();
        let schedules: Vec<Schedule> = programs.iter().map(|p| spelled(p, 1)).collect();
        let unit = compile(Dialect::Cuda, &schedules.iter().collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"));
        for ((op, p), schedule) in ops.iter().zip(&programs).zip(&schedules) {
            let text = c_like::print(&schedule.steps[0].kernel, &CUDA).expect("text");
            assert!(text.contains(&format!("{}_half_f32(", op.name())), "{text}");
            let x =
                Tensor { buffer: buffer.clone(), offset: 0, row_strides: vec![1 << 16], col_stride: 1, table: None };
            let case =
                Case { program: p.clone(), row_dims: vec![1], cols: 1 << 16, tensors: vec![x], uniforms: vec![] };
            let got = run(&unit, schedule, &case, Order::Forward).unwrap_or_else(|e| panic!("{e}"));
            let Value::Unary(f) = op.row().value else { panic!("{} takes one number", op.name()) };
            let want = numbers.iter().map(|x| (format!("{x:e}"), f(*x)));
            agree(op.name(), &got.outputs[0], want, stated(*op) - lost(*op));
        }
    }
}

#[test]
fn a_quotient_by_every_16_bit_number_is_as_exact_as_stated() {
    if compiler(Dialect::Cuda).is_none() {
        return println!("not run: no C++ compiler");
    }
    let dividends = [1.0, -3.25, 0.0, f64::INFINITY, f64::NAN, 1e-38, -3e38, 1e-40, 65504.0];
    let a: Vec<bf16> = dividends.iter().map(|x| bf16::from_f64(*x)).collect();
    let (buffer, numbers) = all(DType::BF16);
    let p = program("half_div", "out y: f32 = a / b", &[Extent::ELEM, Extent::ELEM], DType::BF16);
    let schedule = spelled(&p, a.len() as u64);
    let unit = compile(Dialect::Cuda, &[&schedule]).unwrap_or_else(|e| panic!("{e}"));
    let tensors = vec![
        Tensor { buffer: Buffer::BF16(a.clone()), offset: 0, row_strides: vec![1], col_stride: 0, table: None },
        Tensor { buffer, offset: 0, row_strides: vec![0], col_stride: 1, table: None },
    ];
    let case = Case { program: p, row_dims: vec![a.len()], cols: 1 << 16, tensors, uniforms: vec![] };
    let got = run(&unit, &schedule, &case, Order::Forward).unwrap_or_else(|e| panic!("{e}"));
    let pairs = a.iter().flat_map(|a| numbers.iter().map(move |b| (a.to_f64(), *b)));
    agree(
        "div",
        &got.outputs[0],
        pairs.map(|(a, b)| (format!("{a:e}, {b:e}"), a / b)),
        stated(Op::Div) - lost(Op::Div),
    );
}

#[test]
fn a_wide_result_keeps_the_first_spelling() {
    let text = |formula: &str| {
        let p = program("spelling", formula, &[Extent::ELEM], DType::BF16);
        let cfg = Config::pick(&p, 8, 1024, 1, 8192, Device::default());
        c_like::print(&schedule(&p, &cfg).expect("a schedule").steps[0].kernel, &CUDA).expect("text")
    };
    assert!(text("exp(x)").contains("exp_half_f32("));
    assert!(!text("out y = exp(x); out z: f32 = x").contains("exp_half_f32("));
}
