//! Between candle and the runtime: memory out of tensors, buffers into tensors, and candle's tape. Nothing else here
//! touches a candle storage.

#[cfg(feature = "cuda")]
mod cuda;
mod device;
#[cfg(all(feature = "metal", target_os = "macos"))]
mod metal;
mod overwrite;
mod raw;
mod tape;

pub use device::{Call, Kernels, check, keep_freed_memory, matrix_units, runs_on};
pub use overwrite::overwrite;
pub use raw::{RawCall, RawKernels, RawKey, target_of};
pub use tape::{Backward, Raw, record};

use crate::{Error, Result};
use candle_core::{CpuStorage, Shape, Storage, StorageRef, Tensor, op::BackpropOp};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use zmlx_ir::DType;
use zmlx_runtime::{Buffer, Slice};

static POISON: AtomicBool = AtomicBool::new(false);

/// Fills the memory of results, and scratch memory, with NaN before each launch on a GPU from now on, or no more: an element
/// that no thread writes is then seen. For checks; a launch costs one fill more. The CPU's memory is not filled.
pub fn poison_outputs(on: bool) {
    POISON.store(on, Relaxed);
}

/// Is memory filled with NaN before a launch?
#[cfg(feature = "cuda")]
fn poisons() -> bool {
    POISON.load(Relaxed)
}

/// Our name of candle's dtype.
pub fn dtype_of(op: &str, name: &str, dtype: candle_core::DType) -> Result<DType> {
    use candle_core::DType as C;
    Ok(match dtype {
        C::U8 => DType::U8,
        C::U32 => DType::U32,
        C::I16 => DType::I16,
        C::I32 => DType::I32,
        C::I64 => DType::I64,
        C::BF16 => DType::BF16,
        C::F16 => DType::F16,
        C::F32 => DType::F32,
        C::F64 => DType::F64,
        other => {
            let known = "one of u8 u32 i16 i32 i64 bf16 f16 f32 f64";
            return Err(Error::argument(op, format!("{name}: dtype"), known, other.as_str()));
        }
    })
}

/// candle's name of our dtype.
pub fn candle_dtype(dtype: DType) -> candle_core::DType {
    use candle_core::DType as C;
    match dtype {
        DType::Bool | DType::U8 => C::U8,
        DType::I16 => C::I16,
        DType::I32 => C::I32,
        DType::U32 => C::U32,
        DType::I64 => C::I64,
        DType::F16 => C::F16,
        DType::BF16 => C::BF16,
        DType::F32 => C::F32,
        DType::F64 => C::F64,
    }
}

/// Read locks on the storages of tensors. A tensor that is given twice is locked once: a second lock would wait for a
/// writer that waits for the first.
pub struct Guards<'a> {
    guards: SmallVec<[StorageRef<'a>; 4]>,
    /// Which guard is that of each tensor.
    of: SmallVec<[u8; 8]>,
}

impl<'a> Guards<'a> {
    /// Locks them.
    pub fn lock(tensors: &[&'a Tensor]) -> Guards<'a> {
        let mut locked = Guards { guards: SmallVec::new(), of: SmallVec::new() };
        for (k, t) in tensors.iter().enumerate() {
            let guard = match tensors[..k].iter().position(|other| other.id() == t.id()) {
                Some(before) => locked.of[before],
                None => {
                    locked.guards.push(t.storage_and_layout().0);
                    locked.guards.len() as u8 - 1
                }
            };
            locked.of.push(guard);
        }
        locked
    }

    /// The storage of tensor `k`.
    pub fn storage(&self, k: usize) -> &Storage {
        &self.guards[self.of[k] as usize]
    }
}

/// The memory of a tensor on CPU.
pub fn slice<'a>(op: &str, name: &str, storage: &'a Storage) -> Result<Slice<'a>> {
    let Storage::Cpu(cpu) = storage else {
        return Err(Error::argument(
            op,
            format!("{name}: device"),
            "cpu (the backend of this build)",
            "another device",
        ));
    };
    Ok(match cpu {
        CpuStorage::U8(v) => Slice::U8(v),
        CpuStorage::U32(v) => Slice::U32(v),
        CpuStorage::I16(v) => Slice::I16(v),
        CpuStorage::I32(v) => Slice::I32(v),
        CpuStorage::I64(v) => Slice::I64(v),
        CpuStorage::BF16(v) => Slice::BF16(v),
        CpuStorage::F16(v) => Slice::F16(v),
        CpuStorage::F32(v) => Slice::F32(v),
        CpuStorage::F64(v) => Slice::F64(v),
        _ => return Err(Error::argument(op, format!("{name}: dtype"), "an integer or float type", "a packed type")),
    })
}

/// A buffer as candle's storage; nothing is copied.
pub fn storage(buffer: Buffer) -> CpuStorage {
    match buffer {
        Buffer::U8(v) => CpuStorage::U8(v),
        Buffer::I16(v) => CpuStorage::I16(v),
        Buffer::I32(v) => CpuStorage::I32(v),
        Buffer::U32(v) => CpuStorage::U32(v),
        Buffer::I64(v) => CpuStorage::I64(v),
        Buffer::F16(v) => CpuStorage::F16(v),
        Buffer::BF16(v) => CpuStorage::BF16(v),
        Buffer::F32(v) => CpuStorage::F32(v),
        Buffer::F64(v) => CpuStorage::F64(v),
    }
}

/// A tensor that candle's tape knows nothing of.
pub fn tensor(storage: Storage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// Memory of its own for a result that others hold too.
pub fn copied(t: &Tensor) -> Result<Raw> {
    let t = t.force_contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    Ok((storage.try_clone(layout)?, t.shape().clone()))
}

/// The memory of a contiguous tensor on the CPU, whose storage is number `k` of the guards.
pub fn host<'a>(guards: &'a Guards<'_>, k: usize, t: &Tensor) -> Result<Slice<'a>> {
    let (start, len) = (t.layout().start_offset(), t.elem_count());
    Ok(slice("a kernel on the CPU", "a tensor", guards.storage(k))?.part(start..start + len))
}

/// `dst = old·dst + by·a·b` of matrices m × k and k × n, on the calling thread. Each is a slice and its strides of rows and columns.
pub fn matmul<T: 'static + Copy>(
    [m, n, k]: [usize; 3],
    (dst, d): (&mut [T], [usize; 2]),
    (a, a_strides): (&[T], [usize; 2]),
    (b, b_strides): (&[T], [usize; 2]),
    keep: Option<T>,
    [zero, by]: [T; 2],
) {
    if m == 0 || n == 0 {
        return;
    }
    let last = |rows: usize, cols: usize, s: [usize; 2]| (rows.max(1) - 1) * s[0] + (cols.max(1) - 1) * s[1];
    assert!(
        last(m, n, d) < dst.len() && (k == 0 || last(m, k, a_strides) < a.len() && last(k, n, b_strides) < b.len())
    );
    let s = |v: usize| v as isize;
    // SAFETY: the largest index into each slice was just compared with its length; dst is borrowed for writing alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            s(d[1]),
            s(d[0]),
            keep.is_some(),
            a.as_ptr(),
            s(a_strides[1]),
            s(a_strides[0]),
            b.as_ptr(),
            s(b_strides[1]),
            s(b_strides[0]),
            keep.unwrap_or(zero),
            by,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// candle's own threads, so that its operations and ours do not compete for cores.
#[derive(Debug)]
pub struct CandlePool;

impl zmlx_runtime::Pool for CandlePool {
    fn each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        candle_core::utils::barrier_pool().execute_chunked(tasks, |range| range.for_each(task));
    }
}
