//! New values for a variable: the memory of a result takes the place of the variable's own, so that nothing is copied.
//! What shares the variable's storage (its detached tensors, views of it) sees the new values, as with `Var::set`.

use super::{Raw, tensor};
use crate::{Error, Result};
use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, MetalStorage, Storage, Var};
use std::{cell::RefCell, mem::replace};

/// A storage on its way into another one's place.
struct Overwrite(RefCell<Option<Storage>>);

impl Overwrite {
    fn misplaced<T>() -> candle_core::Result<T> {
        Err(Error::internal("a result lies on another device than its variable").into())
    }
}

impl InplaceOp1 for Overwrite {
    fn name(&self) -> &'static str {
        "overwrite"
    }
    fn cpu_fwd(&self, s: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        match self.0.take() {
            Some(Storage::Cpu(new)) => drop(replace(s, new)),
            _ => return Overwrite::misplaced(),
        }
        Ok(())
    }
    fn cuda_fwd(&self, s: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        match self.0.take() {
            Some(Storage::Cuda(new)) => drop(replace(s, new)),
            _ => return Overwrite::misplaced(),
        }
        Ok(())
    }
    fn metal_fwd(&self, s: &mut MetalStorage, _: &Layout) -> candle_core::Result<()> {
        match self.0.take() {
            Some(Storage::Metal(new)) => drop(replace(s, new)),
            _ => return Overwrite::misplaced(),
        }
        Ok(())
    }
}

/// Gives a variable the values of a contiguous result of its shape and dtype.
pub fn overwrite(var: &Var, (storage, shape): Raw) -> Result<()> {
    if storage.dtype() != var.dtype() || shape != *var.shape() {
        return Err(Error::internal("a result has not the dtype and shape of its variable"));
    }
    // a variable has its storage for itself, from its start; of any other candle decides
    if var.layout().start_offset() != 0 || !var.is_contiguous() {
        return Ok(var.set(&tensor(storage, shape))?);
    }
    Ok(var.inplace_op1(&Overwrite(RefCell::new(Some(storage))))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn result(values: &[f32]) -> Raw {
        (Storage::Cpu(CpuStorage::F32(values.to_vec())), values.len().into())
    }

    #[test]
    fn a_variable_and_what_shares_its_storage_get_the_memory_itself() -> Result<()> {
        let var = Var::zeros(3, DType::F32, &Device::Cpu)?;
        let view = var.as_detached_tensor().narrow(0, 1, 2)?;
        let new = result(&[1.0, 2.0, 3.0]);
        let place = |s: &Storage| match s {
            Storage::Cpu(CpuStorage::F32(v)) => v.as_ptr(),
            _ => unreachable!("f32 on the CPU"),
        };
        let before = place(&new.0);
        overwrite(&var, new)?;
        assert_eq!(place(&var.storage_and_layout().0), before);
        assert_eq!(var.to_vec1::<f32>()?, [1.0, 2.0, 3.0]);
        assert_eq!(view.to_vec1::<f32>()?, [2.0, 3.0]);
        Ok(())
    }

    #[test]
    fn a_result_of_another_shape_or_dtype_changes_nothing() -> Result<()> {
        for var in [Var::zeros(2, DType::F32, &Device::Cpu)?, Var::zeros(3, DType::F64, &Device::Cpu)?] {
            assert!(overwrite(&var, result(&[1.0, 2.0, 3.0])).is_err());
            assert_eq!(var.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?, 0.0);
        }
        Ok(())
    }
}
