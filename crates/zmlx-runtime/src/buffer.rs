//! Views of memory that a launch reads, and the buffers that it gives back.

use crate::Pool;
use half::{bf16, f16};
use smallvec::SmallVec;
use zmlx_ir::{DType, Scalar, program::Table};

macro_rules! buffers {
    ($($variant:ident($t:ty)),*) => {
        /// Borrowed elements.
        #[derive(Clone, Copy, Debug)]
        pub enum Slice<'a> {
            $(#[allow(missing_docs)] $variant(&'a [$t]),)*
        }

        /// Owned elements.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Buffer {
            $(#[allow(missing_docs)] $variant(Vec<$t>),)*
        }

        impl<'a> Slice<'a> {
            /// Some of the elements. None of them may begin anywhere: views without elements do, behind the last one too.
            pub fn part(self, range: std::ops::Range<usize>) -> Slice<'a> {
                let range = if range.is_empty() { 0..0 } else { range };
                match self { $(Slice::$variant(v) => Slice::$variant(&v[range]),)* }
            }
            /// Element type.
            pub fn dtype(&self) -> DType {
                match self { $(Slice::$variant(_) => DType::$variant,)* }
            }
            /// Number of elements.
            pub fn len(&self) -> usize {
                match self { $(Slice::$variant(v) => v.len(),)* }
            }
            /// Where the first one lies.
            pub fn address(&self) -> *const u8 {
                match self { $(Slice::$variant(v) => v.as_ptr().cast(),)* }
            }
            /// Has it none?
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        impl Buffer {
            /// All elements.
            pub fn as_slice(&self) -> Slice<'_> {
                match self { $(Buffer::$variant(v) => Slice::$variant(v),)* }
            }
        }

        $(impl<'a> From<&'a [$t]> for Slice<'a> {
            fn from(v: &'a [$t]) -> Slice<'a> {
                Slice::$variant(v)
            }
        })*
    };
}
buffers!(U8(u8), I16(i16), I32(i32), U32(u32), I64(i64), F16(f16), BF16(bf16), F32(f32), F64(f64));

/// The outputs of a launch: for one or two of them nothing is allocated but their memory.
pub type Buffers = SmallVec<[Buffer; 2]>;

/// A strided view: element (row, col) lies at `offset + Σ index(row)ᵢ·row_strides[i] + col·col_stride`, the row
/// being decomposed over `Launch::row_dims`. A stride of 0 repeats.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The memory.
    pub data: Slice<'a>,
    /// First element.
    pub offset: usize,
    /// One stride for each of `Launch::row_dims`, in elements.
    pub row_strides: &'a [usize],
    /// Stride of the column, in elements.
    pub col_stride: usize,
    /// Of a table: its row for `row` takes the place of `Σ index(row)ᵢ·row_strides[i]`.
    pub table: Option<Table>,
}

impl View<'_> {
    /// Do so many columns of a row lie side by side?
    pub(crate) fn lies_flat(&self, columns: usize) -> bool {
        columns <= 1 || self.col_stride == 1
    }
}

/// Everything that changes from call to call. Outputs are fresh contiguous buffers of `extent.len(rows, cols)`.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Sizes that the rows are decomposed over, outermost first; their product is the number of rows.
    pub row_dims: &'a [usize],
    /// Number of columns.
    pub cols: usize,
    /// One view for each of `Program::inputs`.
    pub inputs: &'a [View<'a>],
    /// One value for each of `Program::uniforms`.
    pub uniforms: &'a [Scalar],
    /// Threads to run on.
    pub pool: &'a dyn Pool,
}

impl Launch<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.row_dims.iter().product()
    }
}
