//! Bilinear interpolation between four rows of a table: y = (a·(1 − u) + b·u)·(1 − v) + (c·(1 − u) + d·u)·v
//!
//! | name       | shape   | dtype            | note                                          |
//! |------------|---------|------------------|-----------------------------------------------|
//! | a b c d    | [V, C]  | f16 bf16 f32 f64 | the same image four times: its pixels as rows |
//! | at_a .. at_d | [..]  | any integer      | the pixel left and right above and below      |
//! | u v        | [..]    | any float        | how far to the right, how far down            |
//! | y          | [.., C] | as a             |                                               |
//! Cost: N elements written, at most 4·N read, which lie side by side.
//! Source: half-pixel centres and edges that go on, as PyTorch's interpolate with align_corners false.
//!
//! [`resize_bilinear`] takes images `[N, H, W, C]`; the pixels are found on the host, from sizes alone.

use crate::{
    Error, Result,
    entry::{Arg, Entry, Gradient},
    order::rows_found,
};
use candle_core::{D, DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `resize_bilinear`.
pub static ENTRY: Entry = Entry {
    name: "resize_bilinear",
    summary: "(a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v, four rows found by indices",
    formula: "(a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v",
    zmlx: &["image.resize_bilinear"],
    args: &[
        Arg::table("a", "at_a"),
        Arg::table("b", "at_b"),
        Arg::table("c", "at_c"),
        Arg::table("d", "at_d"),
        Arg::place("at_a"),
        Arg::place("at_b"),
        Arg::place("at_c"),
        Arg::place("at_d"),
        Arg::row("u"),
        Arg::row("v"),
    ],
    uniforms: &[],
    fallback: |t, _| {
        let row = |k: usize| rows_found(&t[k], &t[4 + k]);
        let (u, v) = (t[8].unsqueeze(D::Minus1)?, t[9].unsqueeze(D::Minus1)?);
        let mix = |a: &Tensor, b: &Tensor, f: &Tensor| a + (b - a)?.broadcast_mul(f)?;
        Ok(vec![mix(&mix(&row(0)?, &row(1)?, &u)?, &mix(&row(2)?, &row(3)?, &u)?, &v)?])
    },
    gradient: Gradient::Derived,
    moves: 5.0,
    cell: OnceLock::new(),
};

/// The pixels before and behind each of `to` places among `from`, and how far it is from the first to the second.
fn between(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let scale = from as f64 / to as f64;
    let place = |i: usize| {
        let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
        let first = (at.floor() as usize).min(from - 1);
        (first, (first + 1).min(from - 1), at - first as f64)
    };
    (0..to).map(place).collect()
}

/// Images `[N, H, W, C]` in another size, `(height, width)`.
pub fn resize_bilinear(x: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let [n, h, w, c] = *x.dims() else {
        return Err(Error::shape(ENTRY.name, "x", "[N, H, W, C]", x.dims()));
    };
    if h * w == 0 || height * width == 0 {
        return Err(Error::shape(ENTRY.name, "x", "pixels, and a size that has some", x.dims()));
    }
    let (ys, xs) = (between(h, height), between(w, width));
    let pixels = |y: fn(&(usize, usize, f64)) -> usize, x: fn(&(usize, usize, f64)) -> usize| {
        let row = |image: usize| ys.iter().map(move |at| (image * h + y(at)) * w);
        (0..n).flat_map(row).flat_map(|row| xs.iter().map(move |at| (row + x(at)) as u32)).collect::<Vec<u32>>()
    };
    let at = [pixels(|y| y.0, |x| x.0), pixels(|y| y.0, |x| x.1), pixels(|y| y.1, |x| x.0), pixels(|y| y.1, |x| x.1)];
    let at: Vec<Tensor> = at.into_iter().map(|v| Tensor::new(v, x.device())).collect::<candle_core::Result<_>>()?;
    let all = n * height * width;
    let far = |f: &dyn Fn(usize) -> f64| -> candle_core::Result<Tensor> {
        let kept = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        Tensor::from_vec((0..all).map(f).collect::<Vec<f64>>(), all, &candle_core::Device::Cpu)?
            .to_dtype(kept)?
            .to_device(x.device())
    };
    let (u, v) = (far(&|i| xs[i % width].2)?, far(&|i| ys[i / width % height].2)?);
    let x = x.reshape((n * h * w, c))?;
    let y = ENTRY.run1(&[&x, &x, &x, &x, &at[0], &at[1], &at[2], &at[3], &u, &v], &[])?;
    Ok(y.reshape((n, height, width, c))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn pixels_are_those_of_pytorch() -> Result<()> {
        let x = Var::from_tensor(&Tensor::arange(0f32, 6.0, &Device::Cpu)?.reshape((1, 2, 3, 1))?)?;
        // torch.nn.functional.interpolate(torch.arange(6.).reshape(1, 1, 2, 3), size=(4, 2), mode="bilinear")
        let expected = [0.25f32, 1.75, 1.0, 2.5, 2.5, 4.0, 3.25, 4.75];
        let y = resize_bilinear(&x, (4, 2))?;
        assert_eq!(y.dims(), [1, 4, 2, 1]);
        assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, expected);
        // weights of each result sum to 1
        let g = y.sum_all()?.backward()?;
        assert_eq!(g.get(&x).expect("a gradient").sum_all()?.to_scalar::<f32>()?, 8.0);
        Ok(())
    }
}
