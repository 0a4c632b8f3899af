//! One row of a 3×3 convolution of each channel by itself: y = s + l·x_l + m·x_m + r·x_r
//!
//! | name        | shape   | dtype            | note                                              |
//! |-------------|---------|------------------|---------------------------------------------------|
//! | s           | [.., C] | any float        | the sum so far                                    |
//! | xl xm xr    | [.., C] | f16 bf16 f32 f64 | pixels to the left, above or below, to the right  |
//! | l m r       | [C]     | any float        | their weights                                     |
//! | y           | [.., C] | f32 (f64: f64)   |                                                   |
//! Cost: 5·N elements moved (of x one, as its views overlap).
//! Source: cross-correlation, stride 1, zeros around the image.
//!
//! [`depthwise_conv_3x3`] takes images `[N, H, W, C]`. Where nothing is tracked all nine pixels are read in one launch; for
//! a gradient it is three launches of this kernel, because a gradient of nine views has more buffers than Metal takes.
//! Around the image a copy has zeros.

use crate::{
    Error, Op, Result, bridge,
    entry::{Arg, Entry, Gradient, with_names},
    rowwise,
};
use candle_core::{DType, Tensor};
use std::sync::OnceLock;

/// What the catalog knows of `depthwise_conv_3x3`.
pub static ENTRY: Entry = Entry {
    name: "depthwise_conv_3x3",
    summary: "s + l * xl + m * xm + r * xr",
    formula: "s + l * xl + m * xm + r * xr",
    zmlx: &["image.depthwise_conv_3x3"],
    args: &[
        Arg::full("s"),
        Arg::full("xl"),
        Arg::full("xm"),
        Arg::full("xr"),
        Arg::col("l"),
        Arg::col("m"),
        Arg::col("r"),
    ],
    uniforms: &[],
    fallback: |t, _| {
        let term = |k: usize| t[k].broadcast_mul(&t[k + 3]);
        Ok(vec![(((&t[0] + term(1)?)? + term(2)?)? + term(3)?)?])
    },
    gradient: Gradient::Derived,
    moves: 5.0,
    cell: OnceLock::new(),
};

/// All nine pixels.
fn op() -> Result<&'static Op> {
    static OP: OnceLock<Op> = OnceLock::new();
    Op::once(&OP, || {
        let names: Vec<String> = ["x", "w"].iter().flat_map(|n| (0..9).map(move |k| format!("{n}{k}"))).collect();
        let terms: Vec<String> = (0..9).map(|k| format!("w{k} * x{k}")).collect();
        let formula = with_names(names.iter().map(String::as_str), &terms.join(" + "))?;
        rowwise(formula)?.name(ENTRY.name).no_grad().build()
    })
}

/// Convolves each channel of images `[N, H, W, C]` with its own weights, `[3, 3, C]`.
pub fn depthwise_conv_3x3(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let [_, height, width, c] = *x.dims() else {
        return Err(Error::shape(ENTRY.name, "x", "[N, H, W, C]", x.dims()));
    };
    if w.dims() != [3, 3, c] {
        return Err(Error::shape(ENTRY.name, "w", format!("{:?}", [3, 3, c]), w.dims()));
    }
    let padded = x.pad_with_zeros(1, 1, 1)?.pad_with_zeros(2, 1, 1)?;
    let pixel = |i: usize, j: usize| padded.narrow(1, i, height)?.narrow(2, j, width);
    let weight = |i: usize, j: usize| w.get(i)?.get(j);
    if bridge::runs_on(x.device()) && !x.track_op() && !w.track_op() {
        let places = || (0..9).map(|k| (k / 3, k % 3));
        let all = places().map(|(i, j)| pixel(i, j)).chain(places().map(|(i, j)| weight(i, j)));
        let all: Vec<Tensor> = all.collect::<candle_core::Result<_>>()?;
        return op()?.call(&all);
    }
    // sums are kept in f32
    let kept = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let mut sum = Tensor::zeros(x.dims(), kept, x.device())?;
    for i in 0..3 {
        let x = [pixel(i, 0)?, pixel(i, 1)?, pixel(i, 2)?];
        let w = [weight(i, 0)?, weight(i, 1)?, weight(i, 2)?];
        sum = ENTRY.run1(&[&sum, &x[0], &x[1], &x[2], &w[0], &w[1], &w[2]], &[])?;
    }
    Ok(sum.to_dtype(x.dtype())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn convolutions_and_gradients_are_those_of_candle() -> Result<()> {
        let (n, h, width, c) = (2, 4, 5, 3);
        let x = Var::from_tensor(&Tensor::randn(0f32, 1f32, (n, h, width, c), &Device::Cpu)?)?;
        let w = Var::from_tensor(&Tensor::randn(0f32, 1f32, (3, 3, c), &Device::Cpu)?)?;
        // one group a channel
        let kernel = w.permute((2, 0, 1))?.unsqueeze(1)?;
        let images = x.permute((0, 3, 1, 2))?.contiguous()?;
        let plain = images.conv2d(&kernel.contiguous()?, 1, 1, 1, c)?.permute((0, 2, 3, 1))?;
        let tracked = depthwise_conv_3x3(&x, &w)?;
        let off = |a: &Tensor, b: &Tensor| -> Result<f32> { Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?) };
        assert!(off(&tracked, &plain)? < 1e-5);
        assert!(off(&depthwise_conv_3x3(&x.detach(), &w.detach())?, &plain)? < 1e-5);
        let (g, want) = (tracked.sqr()?.sum_all()?.backward()?, plain.sqr()?.sum_all()?.backward()?);
        for v in [&x, &w] {
            assert!(off(g.get(v).expect("a gradient"), want.get(v).expect("a gradient"))? < 1e-3);
        }
        Ok(())
    }
}
