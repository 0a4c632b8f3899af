//! How far two tensors are apart, found on the device where they lie: a few numbers come back, not the elements.

use crate::Result;
use candle_core::{DType, Tensor};

/// What two computations of the same may differ by: `relative · |wanted| + of_largest · max |wanted|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Within {
    /// As a fraction of the element.
    pub relative: f64,
    /// As a fraction of the largest finite element, for sums in which large terms cancel.
    pub of_largest: f64,
}

impl Within {
    /// A rounding to this dtype of what was computed in f32 (f64: in f64), with room for the cheaper spellings of 16 bits: to the
    /// next number, where another order of adding up leads to.
    pub fn rounding(dtype: DType) -> Within {
        let (relative, of_largest) = match dtype {
            DType::F64 => (1e-12, 1e-12),
            DType::BF16 => (1.0 / 128.0, 2e-4),
            DType::F16 => (1.0 / 512.0, 2e-4),
            _ => (1e-5, 2e-4),
        };
        Within { relative, of_largest }
    }

    /// Plain ops that round to this dtype after every step, and may add up in it.
    pub fn plain_ops(dtype: DType) -> Within {
        let of_largest = match dtype {
            DType::BF16 | DType::F16 => 0.06,
            _ => 2e-4,
        };
        Within { relative: 0.0, of_largest }
    }
}

/// None if `got` is `want` within what is allowed, NaN standing where NaN stands; else what is wrong.
///
/// # Errors
/// Whatever candle's ops return.
pub fn difference(got: &Tensor, want: &Tensor, within: Within) -> Result<Option<String>> {
    if got.dims() != want.dims() {
        return Ok(Some(format!("shape {:?}, expected {:?}", got.dims(), want.dims())));
    }
    if got.elem_count() == 0 {
        return Ok(None);
    }
    let wide = if got.dtype() == DType::F64 || want.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    // rows stay rows: a reduction of everything at once is one block of a GPU
    let cols = got.dims().last().map_or(1, |c| *c);
    let flat = |t: &Tensor| t.to_dtype(wide)?.contiguous()?.reshape(((), cols));
    let (g, w) = (flat(got)?, flat(want)?);
    let number = |mask: Tensor| mask.to_dtype(wide);
    let (nan_g, nan_w) = (number(g.ne(&g)?)?, number(w.ne(&w)?)?);
    let one_nan = (&nan_g - &nan_w)?.abs()?;
    // equal infinities are equal
    let settled = ((nan_g + nan_w)? + number(g.eq(&w)?)?)?;
    let open = settled.eq(&settled.zeros_like()?)?;
    let zero = g.zeros_like()?;
    let apart = open.where_cond(&(&g - &w)?.abs()?, &zero)?;
    let size = w.abs()?;
    let finite =
        size.lt(&Tensor::full(f64::INFINITY, (), size.device())?.to_dtype(wide)?.broadcast_as(size.shape())?)?;
    let size = finite.where_cond(&size, &zero)?;
    let over = (&apart - (&size * within.relative)?)?;
    let largest = |t: &Tensor| t.max(1)?.max(0);
    let all = [largest(&over)?, largest(&size)?, one_nan.sum(1)?.sum(0)?, largest(&apart)?];
    let all = Tensor::stack(&all, 0)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let (over, size, nans, apart) = (all[0], all[1], all[2], all[3]);
    let limit = within.of_largest * size;
    Ok(if nans > 0.0 {
        Some(format!("NaN in one of both at {nans} elements of {}", got.elem_count()))
    } else if over > limit {
        let each = match within.relative {
            0.0 => String::new(),
            relative => format!(" beyond {relative:.1e} of each element"),
        };
        Some(format!("largest difference {apart:.2e}, expected at most {limit:.2e}{each}"))
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn row(v: &[f32]) -> Tensor {
        Tensor::new(v, &Device::Cpu).expect("a row")
    }

    #[test]
    fn equal_infinities_and_nans_are_equal() {
        let x = row(&[1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -2.0]);
        let d = difference(&x, &x.copy().expect("a copy"), Within::rounding(DType::F32)).expect("it runs");
        assert_eq!(d, None);
    }

    #[test]
    fn what_one_side_alone_lacks_is_told() {
        let within = Within::rounding(DType::F32);
        let tell = |g: &[f32], w: &[f32]| difference(&row(g), &row(w), within).expect("it runs");
        assert!(tell(&[1.0, f32::NAN], &[1.0, 2.0]).is_some_and(|t| t.contains("NaN in one of both at 1 elements")));
        assert!(tell(&[1.0, 2.0], &[1.0, f32::NAN]).is_some());
        assert!(tell(&[1.0, 2.0], &[1.0, f32::INFINITY]).is_some());
        assert!(tell(&[1.0, f32::INFINITY], &[1.0, 2.0]).is_some());
        assert!(tell(&[1.0, f32::INFINITY], &[1.0, f32::NEG_INFINITY]).is_some());
        assert!(tell(&[1.0], &[1.0, 1.0]).is_some_and(|t| t.starts_with("shape [1]")));
    }

    #[test]
    fn a_small_element_among_large_ones_has_its_own_bound() {
        let within = Within { relative: 1e-3, of_largest: 1e-6 };
        let tell = |g: &[f32]| difference(&row(g), &row(&[1000.0, 1.0]), within).expect("it runs");
        assert_eq!(tell(&[1000.9, 1.0009]), None);
        assert!(tell(&[1000.0, 1.1]).is_some());
    }
}
