//! One launch of a Program on drawn memory: shapes, strides and values that a caller may bring.

use half::{bf16, f16};
use zmlx_ir::{
    DType, Program, Scalar,
    program::{
        Table,
        oracle::{self, Data, Precision},
        random::Random,
    },
};
use zmlx_runtime::{Buffer, Buffers, Error, Launch, Pool, View, backend::cpu, pool::Caller};

/// Memory of one input.
pub struct Tensor {
    pub buffer: Buffer,
    pub offset: usize,
    pub row_strides: Vec<usize>,
    pub col_stride: usize,
    pub table: Option<Table>,
}

/// A Program with everything that a launch takes.
pub struct Case {
    pub program: Program,
    pub row_dims: Vec<usize>,
    pub cols: usize,
    pub tensors: Vec<Tensor>,
    pub uniforms: Vec<Scalar>,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub programs: usize,
    pub elements: usize,
    /// Elements whose bound says nothing.
    pub skipped: usize,
    /// Launches that the executor and the oracle refuse alike, for an index out of range.
    pub refused: usize,
    /// Launches with a pass that ran as one loop.
    pub chained: usize,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.programs += other.programs;
        self.elements += other.elements;
        self.skipped += other.skipped;
        self.refused += other.refused;
        self.chained += other.chained;
    }

    pub fn skipped_share(&self) -> f64 {
        self.skipped as f64 / self.elements.max(1) as f64
    }
}

/// Rows and columns, small ones more often.
pub fn small_shape(r: &mut Random) -> (usize, usize) {
    const COLS: [usize; 20] = [0, 1, 1, 2, 2, 3, 3, 5, 5, 5, 8, 8, 8, 31, 31, 33, 33, 100, 1000, 1025];
    let cols = if r.chance(1, 200) { 5000 } else { r.pick(&COLS) };
    let most = if cols > 50 { 4000 / cols + 1 } else { 40 };
    (r.below(most.min(41) + 1), cols)
}

/// Rows of tables.
const TABLE_ROWS: usize = 6;

impl Case {
    /// A launch of this many rows and columns; `wild` for values at the edges of their types.
    pub fn draw(program: Program, (rows, cols): (usize, usize), wild: bool, r: &mut Random) -> Case {
        let row_dims = split(rows, r);
        let mut case = Case { row_dims, cols, tensors: vec![], uniforms: vec![], program };
        for k in 0..case.program.inputs.len() {
            let tensor = case.tensor(k, wild, r);
            case.tensors.push(tensor);
        }
        for u in &case.program.uniforms {
            let float = u.dtype.is_float() && !r.chance(1, 8);
            case.uniforms.push(if float { Scalar::Float(number(wild, r)) } else { Scalar::Int(r.below(9) as i64 - 3) });
        }
        case
    }

    pub fn rows(&self) -> usize {
        self.row_dims.iter().product()
    }

    fn tensor(&self, slot: usize, wild: bool, r: &mut Random) -> Tensor {
        let input = &self.program.inputs[slot];
        let rows = if input.extent.has_rows() { self.rows() } else { 1 };
        let cols = if input.extent.has_cols() { self.cols } else { 1 };
        let offset = if r.chance(1, 4) { r.below(9) } else { 0 };
        let layout = r.below(8);
        let mut row_strides = vec![0; self.row_dims.len()];
        let col_stride = match layout {
            0 => rows.max(1),
            1 => 2,
            2 => 0,
            _ => 1,
        };
        let mut size = match layout {
            0 => 1,
            1 => 2 * cols + 1,
            2 => 1,
            3 => cols + r.below(5),
            _ => cols,
        };
        for (stride, dim) in row_strides.iter_mut().zip(&self.row_dims).rev() {
            *stride = size;
            size *= dim;
            // an axis that repeats
            if r.chance(1, 12) {
                *stride = 0;
            }
        }
        let memory =
            offset + row_strides.iter().zip(&self.row_dims).map(|(s, d)| s * d.saturating_sub(1)).sum::<usize>();
        let len = memory + col_stride * cols.saturating_sub(1) + 1;
        let (row_strides, col_stride) = match (input.extent.has_rows(), input.extent.has_cols()) {
            (true, true) => (row_strides, col_stride),
            (true, false) => (row_strides, 0),
            (false, true) => (vec![0; self.row_dims.len()], col_stride),
            (false, false) => (vec![0; self.row_dims.len()], 0),
        };
        let by = |k: usize| self.program.inputs.iter().any(|i| i.by == Some(k as u32));
        let mut t = Tensor { buffer: buffer(input.dtype, len, wild, r), offset, row_strides, col_stride, table: None };
        if by(slot) {
            t.buffer = indices(input.dtype, len, r);
        }
        if let Some(by) = input.by {
            let pitch = col_stride * cols.saturating_sub(1) + 1 + r.below(3);
            t.table = Some(Table { by: by as usize, pitch, rows: TABLE_ROWS });
            t.buffer = buffer(input.dtype, offset + TABLE_ROWS * pitch, wild, r);
        }
        t
    }

    /// The elements of an input, dense, as the oracle reads them.
    fn data(&self, slot: usize) -> Data {
        let (t, extent) = (&self.tensors[slot], self.program.inputs[slot].extent);
        let rows = if extent.has_rows() { self.rows() } else { 1 };
        let cols = if extent.has_cols() { self.cols } else { 1 };
        let mut places = Vec::with_capacity(rows * cols);
        let index = t.table.map(|table| self.data(table.by));
        for row in 0..rows {
            let (mut at, mut rest) = (t.offset, row);
            if let (Some(table), Some(index)) = (t.table, &index) {
                let start = t.offset + index.get(row) as usize * table.pitch;
                places.extend((0..cols).map(|col| start + col * t.col_stride));
                continue;
            }
            for (dim, stride) in self.row_dims.iter().zip(&t.row_strides).rev() {
                // without rows there may still be columns
                at += rest % dim.max(&1) * stride;
                rest /= dim.max(&1);
            }
            places.extend((0..cols).map(|col| at + col * t.col_stride));
        }
        gather(&t.buffer, &places)
    }

    pub fn run(&self, kernel: &cpu::Kernel, pool: &dyn Pool) -> Result<Buffers, Error> {
        fn view(t: &Tensor) -> View<'_> {
            View {
                data: t.buffer.as_slice(),
                offset: t.offset,
                row_strides: &t.row_strides,
                col_stride: t.col_stride,
                table: t.table,
            }
        }
        let inputs: Vec<View<'_>> = self.tensors.iter().map(view).collect();
        let (row_dims, cols, uniforms) = (&self.row_dims[..], self.cols, &self.uniforms[..]);
        kernel.run(&Launch { row_dims, cols, inputs: &inputs, uniforms, pool })
    }

    pub fn oracle(&self) -> Result<Vec<Data>, oracle::OracleError> {
        let data: Vec<Data> = (0..self.tensors.len()).map(|k| self.data(k)).collect();
        let (p, rows, cols) = (&self.program, self.rows(), self.cols);
        let outputs = oracle::evaluate(p, rows, cols, &data, &self.uniforms, Precision::Bounded)?;
        Ok(oracle::side_by_side(p, self.cols, &outputs))
    }

    /// Compares the executor with the oracle.
    pub fn check(&self) -> Result<Counts, String> {
        let mut counts = Counts { programs: 1, ..Counts::default() };
        let kernel = cpu::compile(&self.program).map_err(|error| self.report(&format!("does not compile: {error}")))?;
        // the driver lets short rows share tiles instead
        let alone = self.rows() == 1 || self.cols > 256;
        counts.chained = usize::from(alone && kernel.text().contains("one loop over elements"));
        match (self.run(&kernel, &Caller), self.oracle()) {
            (Ok(got), Ok(want)) => {
                for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                    self.agree(k, got, want, &mut counts)?;
                }
            }
            (Err(Error::Index { .. }), Err(oracle::OracleError::Index { .. })) => counts.refused = 1,
            (got, want) => {
                let (got, want) = (got.map(|_| ()), want.map(|_| ()));
                return Err(self.report(&format!("executor {got:?}, oracle {want:?}")));
            }
        }
        Ok(counts)
    }

    /// Compares one output with the oracle's.
    pub fn agree(&self, k: usize, got: &Buffer, want: &Data, counts: &mut Counts) -> Result<(), String> {
        let len = got.as_slice().len();
        let got = gather(got, &(0..len).collect::<Vec<_>>());
        if got.len() != want.len() {
            return Err(self.report(&format!("output {k} has {} elements, expected {}", got.len(), want.len())));
        }
        counts.elements += len;
        if let (Data::Int(g), Data::Int(w)) = (&got, want) {
            return match g.iter().zip(w).position(|(g, w)| g != w) {
                Some(i) => Err(self.report(&format!("output {k}[{i}]: {}, expected {}", g[i], w[i]))),
                None => Ok(()),
            };
        }
        let Data::Float { error, .. } = want else { return Err(self.report("integers of floats")) };
        for (i, e) in error.iter().enumerate() {
            if !e.is_finite() {
                counts.skipped += 1;
                continue;
            }
            let (g, w) = (got.get(i), want.get(i));
            if !(g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= *e) {
                return Err(self.report(&format!("output {k}[{i}]: {g:e}, expected {w:e} within {e:.1e}")));
            }
        }
        Ok(())
    }

    pub fn report(&self, what: &str) -> String {
        let mut text = format!("{}{what}\nrows {:?}, cols {}\n", self.program, self.row_dims, self.cols);
        for (k, t) in self.tensors.iter().enumerate() {
            let data = self.data(k);
            let some: Vec<f64> = (0..data.len().min(40)).map(|i| data.get(i)).collect();
            text += &format!("{} {:?} {}: {some:?}\n", self.program.inputs[k].name, t.row_strides, t.col_stride);
        }
        text + &format!("uniforms {:?}\n", self.uniforms)
    }
}

/// Rows as a product of one to three sizes.
fn split(rows: usize, r: &mut Random) -> Vec<usize> {
    let mut dims = vec![rows];
    while dims.len() < 3 && r.chance(1, 4) {
        let of = [2, 3, 5].into_iter().find(|d| dims[0] % d == 0).unwrap_or(1);
        let rest = dims[0] / of;
        dims[0] = of;
        dims.insert(0, rest);
    }
    dims
}

fn gather(buffer: &Buffer, at: &[usize]) -> Data {
    fn ints<T: Copy + Into<i64>>(v: &[T], at: &[usize]) -> Data {
        Data::Int(at.iter().map(|i| v[*i].into()).collect())
    }
    fn floats<T: Copy + Into<f64>>(v: &[T], at: &[usize]) -> Data {
        Data::exact(at.iter().map(|i| v[*i].into()).collect())
    }
    match buffer {
        Buffer::U8(v) => ints(v, at),
        Buffer::I16(v) => ints(v, at),
        Buffer::I32(v) => ints(v, at),
        Buffer::U32(v) => ints(v, at),
        Buffer::I64(v) => ints(v, at),
        Buffer::F16(v) => floats(v, at),
        Buffer::BF16(v) => floats(v, at),
        Buffer::F32(v) => floats(v, at),
        Buffer::F64(v) => floats(v, at),
    }
}

/// Every bit of a buffer, so that NaN equals NaN and 0 differs from −0.
pub fn bits(buffer: &Buffer) -> Vec<u64> {
    match buffer {
        Buffer::U8(v) => v.iter().map(|x| u64::from(*x)).collect(),
        Buffer::I16(v) => v.iter().map(|x| *x as u64).collect(),
        Buffer::I32(v) => v.iter().map(|x| *x as u64).collect(),
        Buffer::U32(v) => v.iter().map(|x| u64::from(*x)).collect(),
        Buffer::I64(v) => v.iter().map(|x| *x as u64).collect(),
        Buffer::F16(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
        Buffer::BF16(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
        Buffer::F32(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
        Buffer::F64(v) => v.iter().map(|x| x.to_bits()).collect(),
    }
}

/// Rows of a table.
fn indices(dtype: DType, len: usize, r: &mut Random) -> Buffer {
    let all: Vec<i64> = (0..len).map(|_| r.below(TABLE_ROWS) as i64).collect();
    match dtype {
        DType::U8 => Buffer::U8(all.iter().map(|v| *v as u8).collect()),
        DType::I16 => Buffer::I16(all.iter().map(|v| *v as i16).collect()),
        DType::I32 => Buffer::I32(all.iter().map(|v| *v as i32).collect()),
        DType::U32 => Buffer::U32(all.iter().map(|v| *v as u32).collect()),
        _ => Buffer::I64(all),
    }
}

fn buffer(dtype: DType, len: usize, wild: bool, r: &mut Random) -> Buffer {
    fn fill<T>(len: usize, mut value: impl FnMut() -> T) -> Vec<T> {
        (0..len).map(|_| value()).collect()
    }
    match dtype {
        DType::Bool => Buffer::U8(fill(len, || (r.bits() & 1) as u8)),
        DType::U8 => Buffer::U8(fill(len, || integer(wild, r) as u8)),
        DType::I16 => Buffer::I16(fill(len, || integer(wild, r) as i16)),
        DType::I32 => Buffer::I32(fill(len, || integer(wild, r) as i32)),
        DType::U32 => Buffer::U32(fill(len, || integer(wild, r) as u32)),
        DType::I64 => Buffer::I64(fill(len, || integer(wild, r))),
        DType::F16 => Buffer::F16(fill(len, || f16::from_f64(number(wild, r)))),
        DType::BF16 => Buffer::BF16(fill(len, || bf16::from_f64(number(wild, r)))),
        DType::F32 => Buffer::F32(fill(len, || number(wild, r) as f32)),
        DType::F64 => Buffer::F64(fill(len, || number(wild, r))),
    }
}

/// Ordinary numbers, some of them equal; wild ones at the edges of the types as well.
fn number(wild: bool, r: &mut Random) -> f64 {
    const EDGES: [f64; 18] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e-40,
        -3e-45,
        88.8,
        -104.0,
        709.9,
        65504.0,
        65520.0,
        1e30,
        -3.4e38,
        1e308,
        5e-324,
    ];
    if wild && r.chance(1, 6) {
        return r.pick(&EDGES);
    }
    let x = r.unit() * 8.0 - 4.0;
    if r.chance(1, 16) { x.round() } else { x }
}

fn integer(wild: bool, r: &mut Random) -> i64 {
    const EDGES: [i64; 12] = [
        0,
        1,
        -1,
        127,
        128,
        255,
        i16::MIN as i64,
        i32::MIN as i64,
        i32::MAX as i64,
        u32::MAX as i64,
        i64::MAX,
        i64::MIN,
    ];
    if wild && r.chance(1, 4) { r.pick(&EDGES) } else { r.below(16) as i64 - 5 }
}
