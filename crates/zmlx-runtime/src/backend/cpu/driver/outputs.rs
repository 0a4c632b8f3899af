//! Memory of outputs: allocated without being filled, written in parts by workers, and given away when all of it is.

use super::super::{exec::Window, pages};
use crate::Buffer;
use half::{bf16, f16};
use std::ops::Range;
use zmlx_ir::DType;

macro_rules! outputs {
    ($($v:ident($t:ty)),*) => {
        /// Where an output lies, for workers.
        #[derive(Clone, Copy)]
        pub enum Address {
            $($v(*mut $t, usize),)*
        }

        impl Address {
            /// Elements.
            pub fn len(self) -> usize {
                match self {
                    $(Address::$v(_, n) => n,)*
                }
            }

            /// SAFETY: no two live windows overlap, and the allocation outlives them. The elements may be
            /// uninitialised: a window is written before it is read (steps store before they read back), and
            /// every bit pattern is a value of these types.
            pub unsafe fn window<'w>(self, range: Range<usize>) -> Window<'w> {
                assert!(range.start <= range.end && range.end <= self.len(), "invariant: window inside its output");
                match self {
                    // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
                    $(Address::$v(p, _) => Window::$v(unsafe {
                        std::slice::from_raw_parts_mut(p.add(range.start), range.len())
                    }),)*
                }
            }
        }

        /// Memory for `n` elements, not filled, and where it lies.
        pub fn allocate(dtype: DType, n: usize) -> (Buffer, Address) {
            match if dtype == DType::Bool { DType::U8 } else { dtype } {
                $(DType::$v => {
                    let mut v: Vec<$t> = Vec::with_capacity(n);
                    let p = v.as_mut_ptr();
                    pages::ask_for_large_ones(p.cast(), n * size_of::<$t>());
                    (Buffer::$v(v), Address::$v(p, n))
                })*
                DType::Bool => unreachable!("invariant: truth values are stored as u8"),
            }
        }

        /// SAFETY: every one of the `n` elements that were allocated has been written.
        pub unsafe fn finish(buffer: &mut Buffer, n: usize) {
            match buffer {
                // SAFETY: capacity is n, and the caller says that all n are written.
                $(Buffer::$v(v) => unsafe { v.set_len(n) },)*
            }
        }
    };
}
outputs!(U8(u8), I16(i16), I32(i32), U32(u32), I64(i64), F16(f16), BF16(bf16), F32(f32), F64(f64));

// SAFETY: an Address is only used to make windows, which are disjoint between workers.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}
