//! The one harness of the catalog: checks an entry, value and gradient, against the f64 oracle (with the error bound
//! that it carries) and against plain candle ops in f64, over dtypes, shapes and layouts.

use crate::{
    Result,
    entry::{Arg, ArgShape, Entry, Gradient, Values},
};
use candle_core::{Device, Tensor, Var};
use zmlx_ir::{
    DType, Extent, Program, Scalar, Signature,
    grad::vjp,
    program::{
        Uniform,
        oracle::{Data, Precision, evaluate},
    },
};

/// Shapes `[.., C]` that every entry is checked on: one element, odd, long, short rows, empty either way, rank 4.
const SHAPES: &[&[usize]] = &[
    &[1, 1],
    &[7],
    &[3, 7],
    &[2, 3, 5],
    &[5, 1000],
    &[33, 257],
    &[2, 1, 3, 64],
    &[2, 5000],
    &[0, 4],
    &[4, 0],
    &[300, 3],
];

/// How the full arguments of a case lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    Contiguous,
    /// The first two dimensions swapped in memory.
    Strided,
    /// Part of a larger tensor.
    Offset,
    /// One row, repeated.
    Broadcast,
}

/// What came of checking an entry in one dtype.
#[derive(Clone, Debug)]
pub struct Report {
    /// The entry.
    pub name: &'static str,
    /// The dtype of its float arguments.
    pub dtype: DType,
    /// Cases run.
    pub cases: usize,
    /// Elements compared.
    pub elements: usize,
    /// Elements whose bound is unknown (ties, kinks, overflow).
    pub skipped: usize,
    /// Largest error of a value, as a fraction of its bound.
    pub value: f64,
    /// Largest error of a gradient, as a fraction of its bound; None where there is no gradient.
    pub gradient: Option<f64>,
    /// What went wrong, a line each.
    pub failures: Vec<String>,
}

impl Report {
    /// Did all cases pass?
    pub fn ok(&self) -> bool {
        self.failures.is_empty()
    }
}

/// The candle dtype of this name.
fn candle(dtype: DType) -> candle_core::DType {
    match dtype {
        DType::F16 => candle_core::DType::F16,
        DType::BF16 => candle_core::DType::BF16,
        DType::F64 => candle_core::DType::F64,
        DType::U8 | DType::Bool => candle_core::DType::U8,
        DType::U32 => candle_core::DType::U32,
        DType::I64 => candle_core::DType::I64,
        DType::I32 => candle_core::DType::I32,
        DType::I16 => candle_core::DType::I16,
        DType::F32 => candle_core::DType::F32,
    }
}

/// A small deterministic generator (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The dtype an argument has when floats are `dtype`.
fn arg_dtype(arg: &Arg, dtype: DType) -> DType {
    match arg.values {
        Values::Mask => DType::U8,
        Values::Column => DType::U32,
        _ => dtype,
    }
}

fn extent(arg: &Arg) -> Extent {
    match arg.shape {
        ArgShape::Full => Extent::ELEM,
        ArgShape::Col => Extent::COL,
        ArgShape::Row => Extent::ROW,
    }
}

fn arg_shape(arg: &Arg, shape: &[usize]) -> Vec<usize> {
    match arg.shape {
        ArgShape::Full => shape.to_vec(),
        ArgShape::Col => shape[shape.len() - 1..].to_vec(),
        ArgShape::Row => shape[..shape.len() - 1].to_vec(),
    }
}

/// One argument of a case: the tensor as it lies in memory, and the values it holds, dense.
struct Given {
    tensor: Tensor,
    values: Vec<f64>,
}

fn give(
    arg: &Arg,
    shape: &[usize],
    dtype: DType,
    memory: Memory,
    random: &mut Random,
    device: &Device,
) -> Result<Given> {
    let dims = arg_shape(arg, shape);
    let (n, cols) = (dims.iter().product::<usize>(), *shape.last().unwrap_or(&1));
    let cd = candle(arg_dtype(arg, dtype));
    let mut values: Vec<f64> = (0..n).map(|_| arg.values.draw(cols, &mut || random.unit())).collect();
    if memory == Memory::Broadcast && arg.shape == ArgShape::Full && cols > 0 {
        for i in cols..n {
            values[i] = values[i % cols];
        }
    }
    // what the tensor holds is what the storage type can hold
    let dense = Tensor::from_vec(values, dims.clone(), &Device::Cpu)?.to_dtype(cd)?;
    let values = dense.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let full = arg.shape == ArgShape::Full && n > 0;
    let tensor = match memory {
        Memory::Strided if full && dims.len() >= 2 => dense.transpose(0, 1)?.contiguous()?.transpose(0, 1)?,
        Memory::Offset if full => {
            let last = dims.len() - 1;
            let padded = dense.pad_with_zeros(last, 3, 2)?;
            padded.narrow(last, 3, cols)?
        }
        Memory::Broadcast if full => {
            let row = dense.flatten_all()?.narrow(0, 0, cols)?;
            row.broadcast_as(dims)?
        }
        _ => dense,
    };
    Ok(Given { tensor: tensor.to_device(device)?, values })
}

fn data(values: &[f64], dtype: DType) -> Data {
    if dtype.is_float() { Data::exact(values.to_vec()) } else { Data::Int(values.iter().map(|v| *v as i64).collect()) }
}

fn flat(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1::<f64>()?)
}

/// Compares, and gives the largest error as a fraction of its bound.
fn compare(report: &mut Report, what: &str, got: &[f64], want: &Data) -> f64 {
    let ints;
    let (value, error) = match want {
        Data::Float { value, error } => (value, Some(error)),
        Data::Int(v) => {
            ints = v.iter().map(|v| *v as f64).collect::<Vec<_>>();
            (&ints, None)
        }
    };
    if got.len() != value.len() {
        report.failures.push(format!("{what}: {} elements, expected {}", got.len(), value.len()));
        return f64::INFINITY;
    }
    let mut worst = 0f64;
    for (i, (g, v)) in got.iter().zip(value).enumerate() {
        let bound = error.map_or(0.0, |e| e[i]);
        report.elements += 1;
        if bound.is_infinite() || bound.is_nan() {
            report.skipped += 1;
            continue;
        }
        let same = g == v || (g.is_nan() && v.is_nan());
        let ratio = if same { 0.0 } else { (g - v).abs() / bound };
        if ratio > 1.0 || ratio.is_nan() {
            let more = report.failures.len();
            if more < 8 {
                report.failures.push(format!("{what}[{i}]: {g:e}, expected {v:e} within {bound:.1e}"));
            }
        }
        worst = if ratio.is_nan() { f64::INFINITY } else { worst.max(ratio) };
    }
    worst
}

/// The Program of an entry whose float arguments have this dtype, and that of its gradient by all of them, if it has one.
/// The gradient's inputs are the arguments and then a cotangent for each result.
///
/// # Errors
/// A formula that is wrong or cannot be differentiated: a fault of the entry.
pub fn programs(entry: &Entry, dtype: DType) -> Result<(Program, Option<Program>)> {
    let mut formula = entry.parsed()?;
    for name in &mut formula.names {
        name.uniform = entry.uniforms.iter().find(|u| u.0 == name.name).map(|u| u.1);
    }
    let inputs = entry.args.iter().map(|a| (arg_dtype(a, dtype), extent(a))).collect();
    let program = formula.bind(entry.name, &Signature { inputs })?;
    let wrt: Vec<usize> = (0..entry.args.len()).filter(|k| entry.args[*k].is_float()).collect();
    let backward = match entry.gradient {
        Gradient::Derived => Some(vjp(&program, &wrt).map_err(|e| crate::Error::internal(&e.to_string()))?),
        Gradient::None(_) => None,
    };
    Ok((program, backward))
}

/// Checks an entry in one dtype on a device.
pub fn verify(entry: &Entry, dtype: DType, device: &Device) -> Result<Report> {
    let gradient = (entry.gradient == Gradient::Derived).then_some(0.0);
    let mut report =
        Report { name: entry.name, dtype, cases: 0, elements: 0, skipped: 0, value: 0.0, gradient, failures: vec![] };
    let (program, backward) = programs(entry, dtype)?;
    let mut random = Random(0x5eed);
    for shape in SHAPES {
        for memory in [Memory::Contiguous, Memory::Strided, Memory::Offset, Memory::Broadcast] {
            if memory != Memory::Contiguous && (shape.len() < 2 || shape.iter().product::<usize>() > 2000) {
                continue;
            }
            report.cases += 1;
            let before = report.failures.len();
            let case = Case { shape, memory, dtype, device };
            check(entry, case, &program, backward.as_ref(), &mut random, &mut report)?;
            if report.failures.len() > before {
                report.failures.push(format!("  in case {shape:?} {memory:?}"));
            }
        }
    }
    Ok(report)
}

fn scalars(program: &Program, entry: &Entry) -> Vec<Scalar> {
    let value = |u: &Uniform| entry.uniforms.iter().find(|e| e.0 == u.name).map(|e| e.1);
    program.uniforms.iter().filter_map(value).collect()
}

#[derive(Clone, Copy)]
struct Case<'a> {
    shape: &'a [usize],
    memory: Memory,
    dtype: DType,
    device: &'a Device,
}

/// Memory that a device gives out next holds NaN: what a kernel does not write is seen.
fn poison(device: &Device, elements: usize) -> Result<()> {
    if !matches!(device, Device::Cpu) {
        drop(Tensor::full(f32::NAN, elements + 64, device)?);
        drop(Tensor::full(f64::NAN, elements + 64, device)?);
    }
    Ok(())
}

fn check(
    entry: &Entry,
    case: Case<'_>,
    program: &Program,
    backward: Option<&Program>,
    random: &mut Random,
    report: &mut Report,
) -> Result<()> {
    let Case { shape, memory, dtype, device } = case;
    let on_cpu = matches!(device, Device::Cpu);
    let cols = *shape.last().unwrap_or(&1);
    let rows = shape[..shape.len() - 1].iter().product::<usize>();
    let given: Vec<Given> =
        entry.args.iter().map(|a| give(a, shape, dtype, memory, random, device)).collect::<Result<_>>()?;
    let tensors: Vec<&Tensor> = given.iter().map(|g| &g.tensor).collect();
    let mut inputs: Vec<Data> =
        entry.args.iter().zip(&given).map(|(a, g)| data(&g.values, arg_dtype(a, dtype))).collect();
    if entry.args.iter().any(|a| a.values == Values::Column) && cols == 0 {
        return Ok(()); // there is no column to point at
    }
    let uniforms: Vec<Scalar> = entry.uniforms.iter().map(|u| u.1).collect();
    let oracle = |p: &Program, inputs: &[Data]| {
        evaluate(p, rows, cols, inputs, &scalars(p, entry), Precision::Bounded)
            .map_err(|e| crate::Error::internal(&e.to_string()))
    };
    // values: against the oracle, and plain candle in f64 within the same bound
    poison(device, rows * cols)?;
    let got = entry.run(&tensors, &uniforms)?;
    let want = oracle(program, &inputs)?;
    for (k, (g, w)) in got.iter().zip(&want).enumerate() {
        let ratio = compare(report, &format!("output {k}"), &flat(g)?, w);
        report.value = report.value.max(ratio);
    }
    // plain candle is held against the oracle once, on the CPU
    let compares_plain = on_cpu && rows * cols > 0 && dtype != DType::F64;
    let exact: Vec<Tensor> = match compares_plain {
        true => entry
            .args
            .iter()
            .zip(&given)
            .map(|(a, g)| if a.is_float() { g.tensor.to_dtype(candle_core::DType::F64) } else { Ok(g.tensor.clone()) })
            .map(|t| t.and_then(|t| t.contiguous()))
            .collect::<candle_core::Result<_>>()?,
        false => vec![],
    };
    if compares_plain {
        for (k, (g, w)) in (entry.fallback)(&exact, &uniforms)?.iter().zip(&want).enumerate() {
            compare(report, &format!("plain candle, output {k}"), &flat(g)?, w);
        }
    }
    let Some(backward) = backward else { return Ok(()) };
    // gradients: the oracle of the derived Program, and candle's own backward in f64
    let cotangents: Vec<Given> = got
        .iter()
        .zip(&program.outputs)
        .map(|(t, o)| {
            let shape_of = if o.extent == Extent::ROW { ArgShape::Row } else { ArgShape::Full };
            let arg = Arg { name: "g", shape: shape_of, values: Values::Normal(1.0) };
            debug_assert_eq!(t.dims(), arg_shape(&arg, shape));
            give(&arg, shape, o.dtype, Memory::Contiguous, random, device)
        })
        .collect::<Result<_>>()?;
    let g: Vec<&Tensor> = cotangents.iter().map(|c| &c.tensor).collect();
    let named = entry.uniforms.iter().zip(&uniforms).map(|(u, v)| (u.0, *v));
    poison(device, rows * cols)?;
    let grads = entry.op()?.with_all(named).vjp(&tensors[..], &g[..])?;
    let grads: Vec<Tensor> = grads.into_iter().flatten().collect();
    inputs.extend(cotangents.iter().zip(&program.outputs).map(|(c, o)| data(&c.values, o.dtype)));
    let want = oracle(backward, &inputs)?;
    let mut worst = 0f64;
    for ((g, w), o) in grads.iter().zip(&want).zip(&backward.outputs) {
        worst = worst.max(compare(report, &o.name, &flat(g)?, w));
    }
    report.gradient = report.gradient.map(|r| r.max(worst));
    if grads.len() != want.len() {
        report.failures.push(format!("{} gradients, expected {}", grads.len(), want.len()));
    }
    if compares_plain {
        let vars: Vec<Var> = exact.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>()?;
        let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let outputs = (entry.fallback)(&inputs, &uniforms)?;
        let mut loss = Tensor::zeros((), candle_core::DType::F64, &Device::Cpu)?;
        for (o, c) in outputs.iter().zip(&cotangents) {
            let c = Tensor::from_slice(&c.values, o.shape(), &Device::Cpu)?;
            loss = (loss + (o.to_dtype(candle_core::DType::F64)? * c)?.sum_all()?)?;
        }
        let store = loss.backward()?;
        let floats = vars.iter().zip(entry.args).filter(|(_, a)| a.is_float());
        for ((v, w), o) in floats.map(|(v, _)| v).zip(&want).zip(&backward.outputs) {
            let zero = v.zeros_like()?;
            compare(report, &format!("plain candle, {}", o.name), &flat(store.get(v).unwrap_or(&zero))?, w);
        }
    }
    Ok(())
}
