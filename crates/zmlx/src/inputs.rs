//! What a call takes: one tensor or several.

use candle_core::{Tensor, Var};
use smallvec::SmallVec;

/// A tensor, a variable, or a reference to one.
pub trait AsTensor {
    #[doc(hidden)]
    fn tensor(&self) -> &Tensor;
}

impl AsTensor for Tensor {
    fn tensor(&self) -> &Tensor {
        self
    }
}
impl AsTensor for Var {
    fn tensor(&self) -> &Tensor {
        self.as_tensor()
    }
}
impl<T: AsTensor + ?Sized> AsTensor for &T {
    fn tensor(&self) -> &Tensor {
        (**self).tensor()
    }
}

/// Tensors given to an operation: `&x`, `&[&x, &w]`, `&[x, w]`, `&vec`.
pub trait Inputs {
    #[doc(hidden)]
    fn with<R>(&self, f: impl FnOnce(&[&Tensor]) -> R) -> R;
}

impl Inputs for &Tensor {
    fn with<R>(&self, f: impl FnOnce(&[&Tensor]) -> R) -> R {
        f(&[self])
    }
}
impl Inputs for &Var {
    fn with<R>(&self, f: impl FnOnce(&[&Tensor]) -> R) -> R {
        f(&[self.as_tensor()])
    }
}
impl<T: AsTensor> Inputs for &[T] {
    fn with<R>(&self, f: impl FnOnce(&[&Tensor]) -> R) -> R {
        let all: SmallVec<[&Tensor; 8]> = self.iter().map(AsTensor::tensor).collect();
        f(&all)
    }
}
impl<T: AsTensor, const N: usize> Inputs for &[T; N] {
    fn with<R>(&self, f: impl FnOnce(&[&Tensor]) -> R) -> R {
        f(&self.each_ref().map(AsTensor::tensor))
    }
}
impl<T: AsTensor> Inputs for &Vec<T> {
    fn with<R>(&self, f: impl FnOnce(&[&Tensor]) -> R) -> R {
        self.as_slice().with(f)
    }
}
