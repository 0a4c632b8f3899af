//! The numbers of a launch: blocks and lengths of scratch memory, and the bytes of a kernel's argument block. Nothing is
//! allocated, so that it may stand on the hot path.

use super::{Device, Grid, Schedule, Size, Source, Step};
use crate::{DType, Scalar, kernel::Role, program::Table};

/// Strides of an input, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Strides<'a> {
    /// One for each of [`Geometry::row_dims`].
    pub rows: &'a [usize],
    /// Of the column.
    pub col: usize,
    /// Address of the first element modulo 16 bytes, in elements.
    pub shift: usize,
    /// Of a table.
    pub table: Option<Table>,
}

/// Everything that changes from launch to launch, but for the addresses.
#[derive(Clone, Copy, Debug)]
pub struct Geometry<'a> {
    /// Sizes that the rows are decomposed over, outermost first, no more than `Config::dims`.
    pub row_dims: &'a [usize],
    /// Number of columns.
    pub cols: usize,
    /// One for each input of the Program.
    pub inputs: &'a [Strides<'a>],
    /// One for each uniform of the Program.
    pub uniforms: &'a [Scalar],
    /// The device.
    pub device: Device,
}

impl Geometry<'_> {
    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.row_dims.iter().fold(1, |n, d| n.saturating_mul(*d as u64))
    }

    /// The larger of the number of elements and the largest distance in elements between two of a tensor: what
    /// `Config::pick` asks for.
    pub fn elements(&self) -> u64 {
        let far = |s: &Strides<'_>| {
            let rows = self.row_dims.iter().zip(s.rows).map(|(d, s)| d.saturating_sub(1).saturating_mul(*s));
            let cols = self.cols.saturating_sub(1).saturating_mul(s.col);
            let table = s.table.map_or(0, |t| t.rows.saturating_sub(1).saturating_mul(t.pitch));
            rows.fold(cols, usize::saturating_add).max(table.saturating_add(cols)) as u64
        };
        let all = self.rows().saturating_mul(self.cols as u64);
        self.inputs.iter().map(far).fold(all, u64::max)
    }

    fn input(&self, slot: u32) -> Strides<'_> {
        self.inputs.get(slot as usize).copied().unwrap_or(Strides { rows: &[], col: 0, shift: 0, table: None })
    }

    /// Dimension `d` of `dims`: missing outer ones are 1.
    fn outer(&self, d: u8, dims: usize) -> Option<usize> {
        usize::from(d).checked_sub(dims.saturating_sub(self.row_dims.len()))
    }
}

impl Step {
    /// Its size in a launch.
    pub fn size(&self, g: &Geometry<'_>) -> Size {
        self.size_if(self.is_flat(g), g)
    }

    fn size_if(&self, flat: bool, g: &Geometry<'_>) -> Size {
        if flat {
            return Size { rows: 1, cols: g.rows().saturating_mul(g.cols as u64), shifted: false };
        }
        let rows = if self.one_row { 1 } else { g.rows() };
        let shifted = self.vector().is_some_and(|vector| self.shifted(vector, rows, g));
        Size { rows, cols: g.cols as u64, shifted }
    }

    /// Is it one row in this launch, all inputs that it reads being as contiguous as its outputs?
    fn is_flat(&self, g: &Geometry<'_>) -> bool {
        self.flat
            && self.buffers.iter().all(|source| {
                let Source::Input(slot) = *source else { return true };
                let s = g.input(slot);
                let mut expected = g.cols;
                let rows = g.row_dims.iter().zip(s.rows).rev().all(|(dim, stride)| {
                    let ok = *dim <= 1 || *stride == expected;
                    expected = expected.saturating_mul(*dim);
                    ok
                });
                rows && (s.col == 1 || g.cols <= 1)
            })
    }

    /// Does a row of the leading tensor start off a boundary of so many elements?
    pub(super) fn shifted(&self, vector: u32, rows: u64, g: &Geometry<'_>) -> bool {
        let off = |n: usize| !n.is_multiple_of(vector as usize);
        match self.lead {
            Some(Source::Input(slot)) => {
                let s = g.input(slot);
                off(s.shift) || g.row_dims.iter().zip(s.rows).any(|(dim, stride)| *dim > 1 && off(*stride))
            }
            Some(_) => rows > 1 && off(g.cols),
            None => false,
        }
    }

    /// Elements of a chunk, if the kernel asks for their number.
    fn vector(&self) -> Option<u32> {
        self.kernel.fields.iter().find_map(|f| match f.role {
            Role::Chunks(n) => Some(n),
            _ => None,
        })
    }

    fn dims(&self) -> usize {
        let of = |role: &Role| match role {
            Role::RowDim(d) | Role::RowStride(_, d) => usize::from(*d) + 1,
            _ => 1,
        };
        self.kernel.fields.iter().map(|f| of(&f.role)).max().unwrap_or(1)
    }
}

impl Schedule {
    /// The step that leaves partial sums, with its size.
    fn parts(&self, g: &Geometry<'_>) -> (u32, u32) {
        let step = self.steps.iter().find(|s| matches!(s.grid, Grid::Parts { .. }));
        step.map_or((1, 1), |s| {
            let size = s.size(g);
            (s.grid.parts(size, g.device), s.grid.blocks(size, g.device))
        })
    }

    /// Blocks of a step.
    pub fn blocks(&self, step: &Step, g: &Geometry<'_>) -> u32 {
        step.grid.blocks(step.size(g), g.device)
    }

    /// Elements of one of [`Schedule::scratch`].
    pub fn scratch_len(&self, k: usize, g: &Geometry<'_>) -> u64 {
        let (parts, blocks) = self.parts(g);
        let size = Size { rows: g.rows(), cols: g.cols as u64, shifted: false };
        self.scratch.get(k).map_or(0, |s| s.length.elements(size, parts, blocks))
    }

    /// Writes the argument block of a step into `out`, which has the size that the kernel's layout says.
    pub fn pack(&self, step: &Step, g: &Geometry<'_>, out: &mut [u8]) {
        let (parts, blocks) = self.parts(g);
        let (dims, flat) = (step.dims(), step.is_flat(g));
        let size = step.size_if(flat, g);
        let mut at = 0usize;
        for f in &step.kernel.fields {
            // a power of two, by which nobody divides who is in a hurry
            let bytes = f.dtype.size_bytes();
            at = (at + bytes - 1) & !(bytes - 1);
            let value = match f.role {
                Role::RowDim(d) => int(g.outer(d, dims).map_or(1, |d| g.row_dims[d])),
                Role::RowStride(slot, d) => {
                    int(g.outer(d, dims).and_then(|d| g.input(slot).rows.get(d).copied()).unwrap_or(0))
                }
                // the stride of a single column may be any
                Role::ColStride(_) if flat => int(1),
                Role::ColStride(slot) => int(g.input(slot).col),
                Role::TableRows(slot) => int(g.input(slot).table.map_or(0, |t| t.rows)),
                Role::TablePitch(slot) => int(g.input(slot).table.map_or(0, |t| t.pitch)),
                Role::Shift(slot) => int(g.input(slot).shift),
                Role::Uniform(slot) => g.uniforms.get(slot as usize).copied().unwrap_or(Scalar::Int(0)),
                role => int(size.field(role, g.rows(), parts, blocks).unwrap_or(0) as usize),
            };
            if let Some(place) = out.get_mut(at..at + bytes) {
                write(f.dtype, value, place);
            }
            at += bytes;
        }
    }
}

fn int(v: usize) -> Scalar {
    Scalar::Int(v as i64)
}

fn write(dtype: DType, value: Scalar, out: &mut [u8]) {
    let (float, int) = match value {
        Scalar::Float(v) => (v, v as i64),
        Scalar::Int(v) => (v as f64, v),
    };
    match dtype {
        DType::F32 => out.copy_from_slice(&(float as f32).to_ne_bytes()),
        DType::F64 => out.copy_from_slice(&float.to_ne_bytes()),
        DType::I64 => out.copy_from_slice(&int.to_ne_bytes()),
        _ => out.copy_from_slice(&(int as i32).to_ne_bytes()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        Extent, Op, Program,
        schedule::{Config, schedule},
    };

    /// Of one pointwise step, for rows of so many dimensions.
    pub fn doubled(dims: usize) -> Schedule {
        let mut p = Program::new("doubled");
        let x = p.input("x", DType::F32, Extent::ELEM);
        let y = p.op(Op::Add, &[x, x]);
        p.output("out", y, DType::F32);
        schedule(&p, &Config::pick(&p, 10, 10, dims, 100, Device::default())).expect("a schedule")
    }

    #[test]
    fn a_launch_of_nothing_has_one_block_and_no_divisor_of_zero() {
        let (s, strides) = (doubled(2), [Strides { rows: &[0, 0], col: 1, shift: 0, table: None }]);
        let g = Geometry {
            row_dims: &[0, 3],
            cols: 0,
            inputs: &strides,
            uniforms: &[],
            device: Device { processors: 0, shared: 0, cluster: 1 },
        };
        let step = &s.steps[0];
        let mut args = vec![0xff; step.kernel.layout().size];
        s.pack(step, &g, &mut args);
        assert_eq!(s.blocks(step, &g), 1);
        assert!(step.size(&g).field(Role::Pitch(128), 0, 1, 1) == Some(128));
    }
}
