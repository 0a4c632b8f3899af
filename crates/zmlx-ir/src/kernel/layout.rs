//! Where each launch argument lies in the argument block: as a C compiler lays out a struct of the fields in order.

use super::Kernel;

/// Offsets of the fields, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// One for each of [`Kernel::fields`].
    pub offsets: Vec<usize>,
    /// Size of the block, a multiple of its alignment; 0 without fields.
    pub size: usize,
}

impl Kernel {
    /// The layout of its argument block: natural alignment.
    pub fn layout(&self) -> Layout {
        let (mut offsets, mut size, mut align) = (vec![], 0usize, 1);
        for f in &self.fields {
            let bytes = f.dtype.size_bytes();
            size = size.next_multiple_of(bytes);
            offsets.push(size);
            size += bytes;
            align = align.max(bytes);
        }
        Layout { offsets, size: size.next_multiple_of(align) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn fields_lie_where_a_c_compiler_puts_them() {
        let field = |dtype| Field { name: "f".into(), dtype, role: Role::Rows };
        let fields = [DType::I32, DType::I64, DType::F32].map(field).to_vec();
        let layout = Kernel { fields, ..Kernel::default() }.layout();
        assert_eq!(layout, Layout { offsets: vec![0, 8, 16], size: 24 });
    }
}
