//! Runs a schedule's text on the stand-in, as a driver would on a device.

use crate::{
    case::{Case, Counts, bits},
    standin::{Bytes, Dialect, Order, Unit},
};
use half::{bf16, f16};
use zmlx_ir::{
    DType,
    schedule::{Device, Geometry, Schedule, Source, Strides},
};
use zmlx_runtime::{
    Buffer,
    backend::{c_like, cuda::dialect::CUDA, metal::dialect::METAL},
};

pub fn table(dialect: Dialect) -> &'static c_like::Dialect {
    match dialect {
        Dialect::Cuda => &CUDA,
        Dialect::Metal => &METAL,
    }
}

/// One unit of all kernels of these schedules.
pub fn compile(dialect: Dialect, schedules: &[&Schedule]) -> Result<Unit, String> {
    let kernels: Vec<_> = schedules.iter().flat_map(|s| &s.steps).map(|s| &s.kernel).collect();
    let table = table(dialect);
    let text = c_like::unit(&kernels, table).map_err(|e| e.to_string())?;
    let names: Vec<String> = kernels.iter().map(|k| c_like::entry_name(k)).collect();
    let names: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    Unit::compile(dialect, &text, &names).map_err(|e| format!("{e}\n{text}"))
}

/// Runs a case with its threads in these orders, which must not matter, and compares its outputs with the oracle.
pub fn check(unit: &Unit, schedule: &Schedule, case: &Case, orders: &[Order]) -> Result<Counts, String> {
    let mut counts = Counts { programs: 1, ..Counts::default() };
    let want = match case.oracle() {
        Ok(want) => want,
        // out of range on a device gives NaN and sets a flag, where the oracle refuses
        Err(_) => {
            let run = run(unit, schedule, case, orders[0]).map_err(|e| case.report(&e))?;
            return match run.flag {
                true => Ok(Counts { refused: 1, ..counts }),
                false => Err(case.report("an index is out of range and no flag is set")),
            };
        }
    };
    let mut got: Vec<Buffer> = vec![];
    for (k, order) in orders.iter().enumerate() {
        let Run { outputs: again, flag } = run(unit, schedule, case, *order).map_err(|e| case.report(&e))?;
        if flag {
            return Err(case.report("a flag is set, and no index is out of range"));
        }
        if k > 0 && got.iter().map(bits).ne(again.iter().map(bits)) {
            return Err(case.report(&format!("{order:?} gives other bits than {:?}", orders[0])));
        }
        got = again;
    }
    for (k, (got, want)) in got.iter().zip(&want).enumerate() {
        case.agree(k, got, want, &mut counts)?;
    }
    Ok(counts)
}

/// What a case leaves.
pub struct Run {
    pub outputs: Vec<Buffer>,
    /// Was an index out of range?
    pub flag: bool,
}

/// Runs a case.
pub fn run(unit: &Unit, schedule: &Schedule, case: &Case, order: Order) -> Result<Run, String> {
    let (rows, cols) = (case.rows(), case.cols);
    let inputs: Vec<Bytes> = case
        .tensors
        .iter()
        .map(|t| {
            let size = t.buffer.as_slice().dtype().size_bytes();
            Bytes::new(bytes(&t.buffer).split_off(t.offset * size)).shifted(t.offset * size % 16)
        })
        .collect();
    let strides: Vec<Strides<'_>> = case
        .tensors
        .iter()
        .map(|t| {
            let size = t.buffer.as_slice().dtype().size_bytes();
            Strides { rows: &t.row_strides, col: t.col_stride, shift: t.offset * size % 16 / size, table: t.table }
        })
        .collect();
    let geometry = Geometry {
        row_dims: &case.row_dims,
        cols,
        inputs: &strides,
        uniforms: &case.uniforms,
        device: Device { processors: 3, cluster: 8, ..Device::default() },
    };
    schedule.admits(&geometry).map_err(|(what, most, got)| format!("{got} {what}, at most {most}"))?;
    let memory = case.program.stored().map(|o| Bytes::poisoned(o.len(rows, cols) * o.dtype.size_bytes()));
    let mut outputs: Vec<Bytes> = memory.collect();
    let of = |k: usize| schedule.scratch_len(k, &geometry) as usize * schedule.scratch[k].dtype.size_bytes();
    let mut scratch: Vec<Bytes> = (0..schedule.scratch.len()).map(|k| Bytes::poisoned(of(k))).collect();
    let mut flag = 0i32;
    for step in &schedule.steps {
        let mut buffers: Vec<Bytes> = step
            .buffers
            .iter()
            .map(|s| match *s {
                Source::Input(k) => inputs[k as usize].clone(),
                Source::Output(k) => outputs[k as usize].clone(),
                Source::Scratch(k) => scratch[k as usize].clone(),
                Source::Flag => Bytes::new(flag.to_ne_bytes().to_vec()),
            })
            .collect();
        let mut args = vec![0; step.kernel.layout().size];
        schedule.pack(step, &geometry, &mut args);
        let name = c_like::entry_name(&step.kernel);
        let (grid, block) = ([schedule.blocks(step, &geometry), 1, 1], [step.kernel.threads, 1, 1]);
        unit.run(&name, grid, block, step.kernel.aside_bytes(), &mut buffers, &args, order)
            .map_err(|e| format!("{e}\n{}", step.kernel))?;
        for (source, made) in step.buffers.iter().zip(buffers) {
            match *source {
                Source::Input(_) => {}
                Source::Output(k) => outputs[k as usize] = made,
                Source::Scratch(k) => scratch[k as usize] = made,
                Source::Flag => flag = made.to_i32()[0],
            }
        }
    }
    let outputs = outputs.iter().zip(case.program.stored()).map(|(b, o)| buffer(o.dtype, &b.data));
    Ok(Run { outputs: outputs.collect(), flag: flag == 1 })
}

fn bytes(b: &Buffer) -> Vec<u8> {
    match b {
        Buffer::U8(v) => v.clone(),
        Buffer::I16(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Buffer::I32(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Buffer::U32(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Buffer::I64(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Buffer::F16(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Buffer::BF16(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Buffer::F32(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Buffer::F64(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
    }
}

fn buffer(dtype: DType, data: &[u8]) -> Buffer {
    fn list<const N: usize, T>(data: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        data.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
    }
    match dtype {
        DType::Bool | DType::U8 => Buffer::U8(data.to_vec()),
        DType::I16 => Buffer::I16(list(data, i16::from_ne_bytes)),
        DType::I32 => Buffer::I32(list(data, i32::from_ne_bytes)),
        DType::U32 => Buffer::U32(list(data, u32::from_ne_bytes)),
        DType::I64 => Buffer::I64(list(data, i64::from_ne_bytes)),
        DType::F16 => Buffer::F16(list(data, f16::from_ne_bytes)),
        DType::BF16 => Buffer::BF16(list(data, bf16::from_ne_bytes)),
        DType::F32 => Buffer::F32(list(data, f32::from_ne_bytes)),
        DType::F64 => Buffer::F64(list(data, f64::from_ne_bytes)),
    }
}
