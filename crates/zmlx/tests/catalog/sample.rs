//! Launches of an entry: its own values, in the shapes and layouts that go wrong first.

use crate::case::{Case, Tensor};
use half::{bf16, f16};
use zmlx::entry::{Entry, TABLE_ROWS, Values};
use zmlx_ir::{
    DType, Extent, Program, Scalar,
    program::{Table, random::Random},
};
use zmlx_runtime::Buffer;

/// How inputs lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Dense,
    /// Rows with a gap between them; the first element off every boundary.
    Shifted,
    /// Column by column.
    Transposed,
    /// The outermost axis repeated; columns two apart.
    Repeated,
}

/// Rows, columns and layout.
pub type Shape = (&'static [usize], usize, Memory);

/// A long row that ends off a boundary; one column; rows off boundaries; columns first; axes that do not merge.
pub const SHAPES: [Shape; 5] = [
    (&[1], 1030, Memory::Dense),
    (&[9], 1, Memory::Shifted),
    (&[5], 33, Memory::Shifted),
    (&[3], 250, Memory::Transposed),
    (&[2, 3], 64, Memory::Repeated),
];

/// A launch of a Program of this entry: its own, or that of its gradient.
pub fn sample(entry: &Entry, program: Program, shape: Shape, r: &mut Random) -> Case {
    let (row_dims, cols, _) = shape;
    let value = |name: &str| entry.uniforms.iter().find(|u| u.0 == name).map_or(Scalar::Float(0.5), |u| u.1);
    let uniforms = program.uniforms.iter().map(|u| value(&u.name)).collect();
    let inputs = program.inputs.iter().enumerate();
    let tensors = inputs
        .map(|(k, input)| {
            // behind the arguments come cotangents
            let values = entry.args.get(k).map_or(Values::Normal(1.0), |a| a.values);
            match input.by {
                None => tensor(input.dtype, input.extent, values, shape, r),
                Some(by) => table(input.dtype, by as usize, values, cols, r),
            }
        })
        .collect();
    Case { program, row_dims: row_dims.to_vec(), cols, tensors, uniforms }
}

/// Rows with a gap between them.
fn table(dtype: DType, by: usize, values: Values, cols: usize, r: &mut Random) -> Tensor {
    let pitch = cols + cols % 2 * 3;
    let all = (0..TABLE_ROWS * pitch).map(|_| values.draw(cols, &mut || r.unit()));
    let table = Some(Table { by, pitch, rows: TABLE_ROWS });
    Tensor { buffer: buffer(dtype, all), offset: 0, row_strides: vec![], col_stride: 1, table }
}

fn tensor(dtype: DType, extent: Extent, values: Values, (row_dims, cols, memory): Shape, r: &mut Random) -> Tensor {
    let rows: usize = row_dims.iter().product();
    let (n, width) = (if extent.has_rows() { rows } else { 1 }, if extent.has_cols() { cols } else { 1 });
    let (offset, gap) = if memory == Memory::Shifted { (3, 2) } else { (0, 0) };
    let (row, col) = match memory {
        Memory::Dense | Memory::Shifted => (width + gap, 1),
        Memory::Transposed => (1, n),
        Memory::Repeated => (2 * width, 2),
    };
    let (row, col) = (if extent.has_rows() { row } else { 0 }, if extent.has_cols() { col } else { 0 });
    let inner = |d: usize| row_dims[d + 1..].iter().product::<usize>();
    let mut row_strides: Vec<usize> = (0..row_dims.len()).map(|d| inner(d) * row).collect();
    if memory == Memory::Repeated {
        row_strides[0] = 0;
    }
    let last: usize = row_strides.iter().zip(row_dims).map(|(s, d)| s * (d - 1)).sum();
    let len = offset + last + (width - 1) * col + 1;
    let all = (0..len).map(|_| values.draw(cols, &mut || r.unit()));
    Tensor { buffer: buffer(dtype, all), offset, row_strides, col_stride: col, table: None }
}

fn buffer(dtype: DType, values: impl Iterator<Item = f64>) -> Buffer {
    match dtype {
        DType::U8 => Buffer::U8(values.map(|v| v as u8).collect()),
        DType::U32 => Buffer::U32(values.map(|v| v as u32).collect()),
        DType::I64 => Buffer::I64(values.map(|v| v as i64).collect()),
        DType::F16 => Buffer::F16(values.map(f16::from_f64).collect()),
        DType::BF16 => Buffer::BF16(values.map(bf16::from_f64).collect()),
        DType::F32 => Buffer::F32(values.map(|v| v as f32).collect()),
        other => panic!("no entry takes {other}"),
    }
}
