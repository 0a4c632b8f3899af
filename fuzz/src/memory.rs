//! Tensors for a Program: memory of every type, filled with values that include the awkward ones.

use crate::Draw;
use half::{bf16, f16};
use zmlx_ir::{DType, Extent, Program, Scalar, program::oracle::Data};
use zmlx_runtime::{Buffer, Launch, Slice, View};

/// The inputs of one call.
pub struct Memory {
    rows: usize,
    cols: usize,
    buffers: Vec<Buffer>,
    strides: Vec<(usize, usize)>,
    uniforms: Vec<Scalar>,
}

impl Memory {
    /// Contiguous inputs for every view of `program`.
    pub fn draw(program: &Program, rows: usize, cols: usize, draw: &mut Draw) -> Memory {
        let mut memory = Memory { rows, cols, buffers: vec![], strides: vec![], uniforms: vec![] };
        for input in &program.inputs {
            memory.push(input.dtype, input.extent, draw);
        }
        for uniform in &program.uniforms {
            let integer = !uniform.dtype.is_float();
            memory.uniforms.push(if integer { Scalar::Int(3) } else { Scalar::Float(0.75) });
        }
        memory
    }

    /// One more input of this type.
    pub fn push(&mut self, dtype: DType, extent: Extent, draw: &mut Draw) {
        // Never empty, so that a view always has memory to point at.
        let len = extent.len(self.rows, self.cols).max(1);
        self.buffers.push(buffer(dtype, len, draw));
        let along = if extent.has_cols() { self.cols } else { 1 };
        self.strides.push((if extent.has_rows() { along } else { 0 }, usize::from(extent.has_cols())));
    }

    /// Runs a kernel on them.
    pub fn run(&self, kernel: &zmlx_runtime::backend::cpu::Kernel) -> Result<Vec<Buffer>, zmlx_runtime::Error> {
        let views: Vec<View<'_>> = self
            .buffers
            .iter()
            .zip(&self.strides)
            .map(|(buffer, (row, col))| View {
                data: buffer.as_slice(),
                offset: 0,
                row_strides: std::slice::from_ref(row),
                col_stride: *col,
            })
            .collect();
        let row_dims = [self.rows];
        kernel.run(&Launch { row_dims: &row_dims, cols: self.cols, inputs: &views, uniforms: &self.uniforms })
    }

    /// The same inputs and launch arguments for the oracle.
    pub fn for_oracle(&self, program: &Program) -> (Vec<Data>, &[Scalar]) {
        let data = self.buffers.iter().zip(&program.inputs).map(|(buffer, input)| {
            let len = input.extent.len(self.rows, self.cols);
            oracle_data(buffer, len)
        });
        (data.collect(), &self.uniforms)
    }
}

/// The first `len` elements as the oracle reads them: exact in f64, or integers.
pub fn oracle_data(buffer: &Buffer, len: usize) -> Data {
    fn ints<T: Copy + Into<i64>>(v: &[T]) -> Data {
        Data::Int(v.iter().map(|x| (*x).into()).collect())
    }
    fn floats<T: Copy + Into<f64>>(v: &[T]) -> Data {
        Data::exact(v.iter().map(|x| (*x).into()).collect())
    }
    match buffer.as_slice() {
        Slice::U8(v) => ints(&v[..len]),
        Slice::I16(v) => ints(&v[..len]),
        Slice::I32(v) => ints(&v[..len]),
        Slice::U32(v) => ints(&v[..len]),
        Slice::I64(v) => ints(&v[..len]),
        Slice::F16(v) => floats(&v[..len]),
        Slice::BF16(v) => floats(&v[..len]),
        Slice::F32(v) => floats(&v[..len]),
        Slice::F64(v) => floats(&v[..len]),
    }
}

fn buffer(dtype: DType, len: usize, draw: &mut Draw) -> Buffer {
    macro_rules! filled {
        ($value:expr) => {{
            #[allow(clippy::redundant_closure_call)]
            (0..len).map(|_| $value(&mut *draw)).collect()
        }};
    }
    match dtype {
        DType::Bool => Buffer::U8(filled!(|d: &mut Draw| (d.bits() & 1) as u8)),
        DType::U8 => Buffer::U8(filled!(|d: &mut Draw| int(d) as u8)),
        DType::I16 => Buffer::I16(filled!(|d: &mut Draw| int(d) as i16)),
        DType::I32 => Buffer::I32(filled!(|d: &mut Draw| int(d) as i32)),
        DType::U32 => Buffer::U32(filled!(|d: &mut Draw| int(d) as u32)),
        DType::I64 => Buffer::I64(filled!(int)),
        DType::F16 => Buffer::F16(filled!(|d: &mut Draw| f16::from_f64(float(d)))),
        DType::BF16 => Buffer::BF16(filled!(|d: &mut Draw| bf16::from_f64(float(d)))),
        DType::F32 => Buffer::F32(filled!(|d: &mut Draw| float(d) as f32)),
        DType::F64 => Buffer::F64(filled!(float)),
    }
}

/// Mostly ordinary, sometimes at an edge.
fn float(draw: &mut Draw) -> f64 {
    const EDGES: [f64; 12] =
        [0.0, -0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-40, 88.8, -104.0, 65504.0, 1e30];
    match draw.once_in(8) {
        true => draw.pick(&EDGES),
        false => (draw.bits() >> 11) as f64 / (1u64 << 53) as f64 * 8.0 - 4.0,
    }
}

fn int(draw: &mut Draw) -> i64 {
    const EDGES: [i64; 8] = [0, 1, -1, 127, 255, i32::MIN as i64, i64::MAX, i64::MIN];
    match draw.once_in(8) {
        true => draw.pick(&EDGES),
        false => (draw.bits() % 7) as i64,
    }
}
