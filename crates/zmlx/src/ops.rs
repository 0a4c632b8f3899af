//! Operations with the signatures of `candle_nn::ops` and `candle_nn::rotary_emb`: one pass each way, and gradients where
//! candle's are silently lost.
//!
//! | here | candle 0.11.1 | candle's gradient |
//! |---|---|---|
//! | [`softmax_last_dim`] [`rms_norm`] [`layer_norm`] [`rope`] [`rope_i`] [`rope_thd`] | one kernel | lost, without an error |
//! | [`sdpa`] | Metal alone | lost, without an error |
//! | [`sigmoid`] | one kernel | kept |
//! | [`softmax`] [`log_softmax`] [`silu`] [`swiglu`] [`hard_sigmoid`] [`mish`] [`leaky_relu`] [`selu`] | several kernels | kept |
//!
//! Values are candle's within rounding: 16-bit types are computed in f32 and rounded once. Inputs are f16, bf16, f32 or f64 in any
//! layout (of another dtype: an error); results are contiguous and, where nothing else is said, of the first input's shape. On a
//! device that this build has no backend for, plain candle ops run. What candle has beside and is not here: `dropout`
//! ([`crate::catalog::dropout`] takes a seed), what only moves elements, and sorts, whose gradient candle keeps (for the largest of a
//! row there is [`crate::catalog::top_k`]).

use crate::{
    Error, bridge, catalog,
    fused::Fused,
    portable::attention::{Options, attention},
    stats,
};
use candle_core::{D, Result, Tensor, shape::Dim};

/// A kernel of the last dimension along another one.
fn along(xs: &Tensor, dim: impl Dim, op: &'static str, f: fn(&Tensor) -> crate::Result<Tensor>) -> Result<Tensor> {
    let dim = dim.to_index(xs.shape(), op)?;
    if dim + 1 == xs.rank() {
        return Ok(f(xs)?);
    }
    f(&xs.transpose(dim, D::Minus1)?)?.transpose(dim, D::Minus1)?.contiguous()
}

/// Softmax along dimension `dim`; along another one than the last the result is copied once.
///
/// # Errors
/// A dimension that there is not.
pub fn softmax<D: Dim>(xs: &Tensor, dim: D) -> Result<Tensor> {
    along(xs, dim, "softmax", catalog::softmax::softmax)
}

/// Logarithm of the softmax along dimension `d`; along another one than the last the result is copied once.
///
/// # Errors
/// A dimension that there is not.
pub fn log_softmax<D: Dim>(xs: &Tensor, d: D) -> Result<Tensor> {
    along(xs, d, "log-softmax", catalog::log_softmax::log_softmax)
}

/// Softmax along the last dimension.
///
/// # Errors
/// An integer dtype.
pub fn softmax_last_dim(xs: &Tensor) -> Result<Tensor> {
    Ok(catalog::softmax::softmax(xs)?)
}

/// `x · sigmoid(x)`.
///
/// # Errors
/// An integer dtype.
pub fn silu(xs: &Tensor) -> Result<Tensor> {
    Ok(catalog::silu::silu(xs)?)
}

/// `silu(gate) · up` of `[.., 2·C]`, which holds gate and up side by side: `[.., C]`.
///
/// # Errors
/// An odd last dimension.
pub fn swiglu(xs: &Tensor) -> Result<Tensor> {
    Ok(catalog::swiglu::swiglu_packed(xs)?)
}

/// `1 / (1 + exp(−x))`.
///
/// # Errors
/// An integer dtype.
pub fn sigmoid(xs: &Tensor) -> Result<Tensor> {
    Ok(catalog::sigmoid::sigmoid(xs)?)
}

/// `x · tanh(log(1 + exp(x)))`.
///
/// # Errors
/// An integer dtype.
pub fn mish(xs: &Tensor) -> Result<Tensor> {
    Ok(catalog::mish::mish(xs)?)
}

/// A formula of one input, or plain candle ops on a device without a backend.
fn pointwise(
    f: &Fused,
    xs: &Tensor,
    uniforms: &[(&str, f64)],
    plain: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    if !bridge::runs_on(xs.device()) {
        stats::count_fallback();
        return plain();
    }
    Ok(f.op(uniforms)?.call(xs)?)
}

/// `(x + 3) / 6`, between 0 and 1.
///
/// # Errors
/// An integer dtype.
pub fn hard_sigmoid(xs: &Tensor) -> Result<Tensor> {
    static OP: Fused = Fused::new("hard_sigmoid", "min(max((x + 3.0) / 6, 0), 1)");
    pointwise(&OP, xs, &[], || candle_nn::ops::hard_sigmoid(xs))
}

/// `x` above 0, `negative_slope · x` below.
///
/// # Errors
/// An integer dtype.
pub fn leaky_relu(xs: &Tensor, negative_slope: f64) -> Result<Tensor> {
    static OP: Fused = Fused::new("leaky_relu", "x > 0 ? x : slope * x");
    pointwise(&OP, xs, &[("slope", negative_slope)], || candle_nn::ops::leaky_relu(xs, negative_slope))
}

/// `gamma · x` above 0, `gamma · alpha · (exp(x) − 1)` below.
///
/// # Errors
/// An integer dtype.
pub fn selu(xs: &Tensor, alpha: f32, gamma: f32) -> Result<Tensor> {
    static OP: Fused = Fused::new("selu", "gamma * (x > 0 ? x : alpha * expm1(x))");
    let uniforms = [("alpha", f64::from(alpha)), ("gamma", f64::from(gamma))];
    pointwise(&OP, xs, &uniforms, || candle_nn::ops::selu(xs, alpha, gamma))
}

/// A weight or bias has one element for each of the last dimension.
pub(crate) fn check_cols(op: &str, xs: &Tensor, name: &str, w: &Tensor) -> Result<()> {
    let cols = xs.dim(D::Minus1)?;
    if w.dims() != [cols] {
        return Err(Error::shape(op, name, format!("[{cols}] (the last dim of xs)"), w.dims()).into());
    }
    Ok(())
}

/// `x / sqrt(mean(x²) + eps) · alpha` over the last dimension.
///
/// # Errors
/// An `alpha` that is not `[C]` for xs of `[.., C]`.
pub fn rms_norm(xs: &Tensor, alpha: &Tensor, eps: f32) -> Result<Tensor> {
    check_cols("rms_norm", xs, "alpha", alpha)?;
    Ok(catalog::rms_norm::rms_norm(xs, alpha, f64::from(eps))?)
}

/// `(x − mean x) / sqrt(var x + eps) · alpha + beta` over the last dimension.
///
/// # Errors
/// An `alpha` or `beta` that is not `[C]` for xs of `[.., C]`.
pub fn layer_norm(xs: &Tensor, alpha: &Tensor, beta: &Tensor, eps: f32) -> Result<Tensor> {
    check_cols("layer_norm", xs, "alpha", alpha)?;
    check_cols("layer_norm", xs, "beta", beta)?;
    Ok(catalog::layer_norm::layer_norm(xs, alpha, beta, f64::from(eps))?)
}

/// A table `[t, d/2]` or `[b, t, d/2]` as it lies over `[b, h, t, d/2]` (`thd`: over `[b, t, h, d/2]`); of a longer one the first
/// positions count.
fn table(xs: &Tensor, name: &str, t: &Tensor, thd: bool) -> Result<Tensor> {
    let (b, first, second, d) = xs.dims4()?;
    let positions = if thd { first } else { second };
    let fits = match *t.dims() {
        [rows, cols] => rows >= positions && 2 * cols == d,
        [batch, rows, cols] => batch == b && rows >= positions && 2 * cols == d,
        _ => false,
    };
    if !fits {
        let expected = format!("[t, {}] or [{b}, t, {}] with t of at least {positions}", d / 2, d / 2);
        return Err(Error::shape("rope", name, expected, t.dims()).into());
    }
    let t = t.narrow(t.rank() - 2, 0, positions)?;
    match (thd, t.rank()) {
        (true, rank) => t.unsqueeze(rank - 1),
        (false, 3) => t.unsqueeze(1),
        _ => Ok(t),
    }
}

/// Rotary embedding of halves of `[b, h, t, d]` by tables `[t, d/2]` or `[b, t, d/2]`.
///
/// # Errors
/// Shapes that do not belong together.
pub fn rope(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    Ok(catalog::rope::rope(xs, &table(xs, "cos", cos, false)?, &table(xs, "sin", sin, false)?)?)
}

/// Rotary embedding of pairs of neighbours of `[b, h, t, d]` by tables `[t, d/2]` or `[b, t, d/2]`.
///
/// # Errors
/// Shapes that do not belong together.
pub fn rope_i(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (cos, sin) = (table(xs, "cos", cos, false)?, table(xs, "sin", sin, false)?);
    Ok(catalog::rope_interleaved::rope_interleaved(xs, &cos, &sin)?)
}

/// Rotary embedding of halves of `[b, t, h, d]` by tables `[t, d/2]` or `[b, t, d/2]`.
///
/// # Errors
/// Shapes that do not belong together.
pub fn rope_thd(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    Ok(catalog::rope::rope(xs, &table(xs, "cos", cos, true)?, &table(xs, "sin", sin, true)?)?)
}

/// Attention `softmax(scale·q·kᵀ + mask)·v` of q `[b, h, q, d]`, k and v `[b, kv, n, d]`; causal counts from the ends. On all devices,
/// where candle's runs on Metal alone.
///
/// # Errors
/// Shapes or dtypes that do not belong together; a softcapping other than 1, which is none.
pub fn sdpa(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    do_causal: bool,
    scale: f32,
    softcapping: f32,
) -> Result<Tensor> {
    if softcapping != 1.0 {
        return Err(Error::argument("sdpa", "softcapping", "1 (none)", softcapping).into());
    }
    let options = Options { causal: do_causal, scale: Some(f64::from(scale)), mask, window: None };
    let [y, _] = attention(q, k, v, &options)?;
    Ok(y)
}
