//! One case of an entry: a shape, a layout in memory, a dtype and a device. Inputs are drawn, the kernel and its gradient run
//! twice into poisoned memory, and what comes is compared.

use super::Report;
use crate::{
    Result, bridge,
    entry::{Arg, ArgShape, Entry, TABLE_ROWS, Values},
};
use candle_core::{Device, Tensor, Var};
use zmlx_ir::{
    DType, Program, Scalar,
    program::{
        Stored, Uniform,
        oracle::{Data, Precision, evaluate, side_by_side},
    },
};

/// How the full arguments of a case lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Contiguous,
    /// The first two dimensions swapped in memory.
    Strided,
    /// Part of a larger tensor.
    Offset,
    /// One row, repeated.
    Broadcast,
}

/// A small deterministic generator (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        Random(0x5eed)
    }
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

fn arg_shape(arg: &Arg, shape: &[usize]) -> Vec<usize> {
    match arg.shape {
        ArgShape::Full => shape.to_vec(),
        ArgShape::Col => shape[shape.len() - 1..].to_vec(),
        ArgShape::Row => shape[..shape.len() - 1].to_vec(),
        ArgShape::Table(_) => vec![TABLE_ROWS, shape[shape.len() - 1]],
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
    let cd = bridge::candle_dtype(arg.dtype(dtype));
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

pub fn data(values: &[f64], dtype: DType) -> Data {
    if dtype.is_float() { Data::exact(values.to_vec()) } else { Data::Int(values.iter().map(|v| *v as i64).collect()) }
}

/// The value of this number of those side by side in a tensor, for rows of so many columns.
pub fn beside(values: &[f64], o: Stored, cols: usize, k: usize) -> Vec<f64> {
    let own = if o.extent.has_cols() { cols } else { 1 };
    let place = |i: usize| i / own * own * o.width + if o.woven { i % own * o.width + k } else { k * own + i % own };
    (0..values.len() / o.width).map(|i| values[place(i)]).collect()
}

pub fn flat(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1::<f64>()?)
}

/// Compares, and gives the largest error as a fraction of its bound.
pub fn compare(report: &mut Report, what: &str, got: &[f64], want: &Data) -> f64 {
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

pub fn scalars(program: &Program, entry: &Entry) -> Vec<Scalar> {
    let value = |u: &Uniform| entry.uniforms.iter().find(|e| e.0 == u.name).map(|e| e.1);
    program.uniforms.iter().filter_map(value).collect()
}

/// What is run.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub shape: &'a [usize],
    pub memory: Memory,
    pub dtype: DType,
    pub device: &'a Device,
}

/// The same call again gives the same bits.
fn same_bits(report: &mut Report, what: &str, first: &[Tensor], again: &[Tensor]) -> Result<()> {
    for (k, (a, b)) in first.iter().zip(again).enumerate() {
        let (a, b) = (flat(a)?, flat(b)?);
        if let Some(i) =
            (0..a.len()).find(|i| a[*i].to_bits() != b[*i].to_bits() && !(a[*i].is_nan() && b[*i].is_nan()))
        {
            report.failures.push(format!("{what} {k}[{i}]: {:e}, the second run gave {:e}", a[i], b[i]));
        }
    }
    Ok(())
}

/// Of an argument that is a table: the row of it that each row reads.
fn found(arg: &Arg, entry: &Entry, given: &[Given]) -> Option<Vec<usize>> {
    let ArgShape::Table(by) = arg.shape else { return None };
    let by = entry.args.iter().position(|a| a.name == by)?;
    Some(given[by].values.iter().map(|v| *v as usize).collect())
}

/// The rows that were read of a table, added to its rows.
fn added(read: &Data, places: &[usize], cols: usize) -> Data {
    let (mut value, mut error) = (vec![0.0; TABLE_ROWS * cols], vec![0.0; TABLE_ROWS * cols]);
    let Data::Float { value: v, error: e } = read else { return read.clone() };
    for (row, place) in places.iter().enumerate() {
        for c in 0..cols {
            let (from, to) = (row * cols + c, place * cols + c);
            value[to] += v[from];
            // the sum is made in f32, and rounded with each addition
            error[to] += e[from] + f64::from(f32::EPSILON) * (value[to].abs() + v[from].abs());
        }
    }
    Data::Float { value, error }
}

/// Runs it and puts into the report what came.
pub fn check(
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
    // the oracle reads a table as the rows that are found
    let places: Vec<Option<Vec<usize>>> = entry.args.iter().map(|a| found(a, entry, &given)).collect();
    let read = |(g, places): (&Given, &Option<Vec<usize>>)| match places {
        None => g.values.clone(),
        Some(places) => places.iter().flat_map(|p| &g.values[p * cols..(p + 1) * cols]).copied().collect(),
    };
    let read = given.iter().zip(&places).map(read);
    let mut inputs: Vec<Data> = entry.args.iter().zip(read).map(|(a, v)| data(&v, a.dtype(dtype))).collect();
    if entry.args.iter().any(|a| a.values == Values::Column) && cols == 0 {
        return Ok(()); // there is no column to point at
    }
    if program.stored().any(|o| o.stacked) && cols < program.ranks() {
        return Ok(()); // it is refused
    }
    let uniforms: Vec<Scalar> = entry.uniforms.iter().map(|u| u.1).collect();
    let oracle = |p: &Program, inputs: &[Data]| {
        evaluate(p, rows, cols, inputs, &scalars(p, entry), Precision::Bounded)
            .map(|outputs| side_by_side(p, cols, &outputs))
            .map_err(|e| crate::Error::internal(&e.to_string()))
    };
    // values: against the oracle, and plain candle in f64 within the same bound
    let got = entry.run(&tensors, &uniforms)?;
    same_bits(report, "output", &got, &entry.run(&tensors, &uniforms)?)?;
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
        .zip(program.stored())
        .map(|(t, o)| {
            let arg = Arg { name: "g", shape: ArgShape::Full, values: Values::Normal(1.0) };
            give(&arg, t.dims(), o.dtype, Memory::Contiguous, random, device)
        })
        .collect::<Result<_>>()?;
    let g: Vec<&Tensor> = cotangents.iter().map(|c| &c.tensor).collect();
    let named = entry.uniforms.iter().zip(&uniforms).map(|(u, v)| (u.0, *v));
    let op = entry.op()?.with_all(named);
    let run = || -> Result<Vec<Tensor>> { Ok(op.vjp(&tensors[..], &g[..])?.into_iter().flatten().collect()) };
    let grads = run()?;
    same_bits(report, "gradient", &grads, &run()?)?;
    for (c, o) in cotangents.iter().zip(program.stored()).filter(|(_, o)| o.dtype.is_float()) {
        inputs.extend((0..o.width).map(|k| data(&beside(&c.values, o, cols, k), o.dtype)));
    }
    let mut want = oracle(backward, &inputs)?;
    let floats = entry.args.iter().zip(&places).filter(|(a, _)| a.is_float());
    for (w, (_, places)) in want.iter_mut().zip(floats) {
        if let Some(places) = places {
            *w = added(w, places, cols);
        }
    }
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
