//! Checks of an operation against a reference that you trust.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};

pub use crate::bridge::poison_outputs;

/// How close is close enough, and what inputs are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Allowed difference, absolute.
    pub atol: f64,
    /// Allowed difference, as a fraction of the reference.
    pub rtol: f64,
    /// Number of inputs, all of the same shape.
    pub inputs: usize,
    /// Their dtype.
    pub dtype: DType,
    /// What the normal inputs are drawn with.
    pub seed: u64,
}

impl Default for Tolerance {
    fn default() -> Tolerance {
        Tolerance { atol: 1e-5, rtol: 1e-5, inputs: 1, dtype: DType::F32, seed: 42 }
    }
}

/// A function of tensors.
pub trait Function: Fn(&[Tensor]) -> Result<Tensor> {}
impl<F: Fn(&[Tensor]) -> Result<Tensor>> Function for F {}

/// Standard normal inputs: SplitMix64 and Box–Muller, so that a seed means the same everywhere.
fn inputs(shape: &[usize], t: &Tolerance) -> Result<Vec<Tensor>> {
    let mut state = t.seed;
    let mut unit = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let n = shape.iter().product();
    (0..t.inputs)
        .map(|_| {
            let mut normal = || (-2.0 * unit().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * unit()).cos();
            let v: Vec<f64> = (0..n).map(|_| normal()).collect();
            Ok(Tensor::from_vec(v, shape, &Device::Cpu)?.to_dtype(t.dtype)?)
        })
        .collect()
}

fn close(what: &str, got: &Tensor, want: &Tensor, t: &Tolerance) -> Result<()> {
    let differ = |expected: String, got: String| Error::argument("assert", what, expected, got);
    if got.dims() != want.dims() {
        return Err(differ(format!("shape {:?}", want.dims()), format!("{:?}", got.dims())));
    }
    let flat = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (g, w) = (flat(got)?, flat(want)?);
    let bad = |(g, w): (&f64, &f64)| !((g - w).abs() <= t.atol + t.rtol * w.abs() || g == w);
    let wrong: Vec<usize> = (0..g.len()).filter(|i| bad((&g[*i], &w[*i]))).collect();
    match wrong.iter().max_by(|a, b| (g[**a] - w[**a]).abs().total_cmp(&(g[**b] - w[**b]).abs())) {
        None => Ok(()),
        Some(i) => Err(differ(
            format!("{:e} at element {i} (within {:e} + {:e}·|x|)", w[*i], t.atol, t.rtol),
            format!("{:e}; {} of {} elements differ", g[*i], wrong.len(), g.len()),
        )),
    }
}

/// A check of nothing would pass whatever the function does.
fn any(shapes: &[&[usize]]) -> Result<()> {
    match shapes {
        [] => Err(Error::argument("assert", "shapes", "one at least", "none")),
        _ => Ok(()),
    }
}

/// The function equals the reference on standard normal inputs of each shape, in f32 within 1e-5.
///
/// # Errors
/// The largest difference and where it is; whatever the functions return.
pub fn assert_matches(f: impl Function, reference: impl Function, shapes: &[&[usize]]) -> Result<()> {
    assert_matches_within(f, reference, shapes, &Tolerance::default())
}

/// As [`assert_matches`], with other inputs and tolerances.
///
/// # Errors
/// As [`assert_matches`].
pub fn assert_matches_within(
    f: impl Function,
    reference: impl Function,
    shapes: &[&[usize]],
    t: &Tolerance,
) -> Result<()> {
    any(shapes)?;
    for shape in shapes {
        let x = inputs(shape, t)?;
        close(&format!("value for {shape:?}"), &f(&x)?, &reference(&x)?, t)?;
    }
    Ok(())
}

/// The gradients of every input equal those of the reference, the loss being the sum of the result, within 1e-4.
///
/// # Errors
/// As [`assert_matches`].
pub fn assert_gradient_matches(f: impl Function, reference: impl Function, shapes: &[&[usize]]) -> Result<()> {
    let t = Tolerance { atol: 1e-4, rtol: 1e-4, ..Tolerance::default() };
    assert_gradient_matches_within(f, reference, shapes, &t)
}

/// As [`assert_gradient_matches`], with other inputs and tolerances.
///
/// # Errors
/// As [`assert_matches`].
pub fn assert_gradient_matches_within(
    f: impl Function,
    reference: impl Function,
    shapes: &[&[usize]],
    t: &Tolerance,
) -> Result<()> {
    any(shapes)?;
    for shape in shapes {
        let vars: Vec<Var> = inputs(shape, t)?.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>()?;
        let x: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let (ours, theirs) = (f(&x)?.sum_all()?.backward()?, reference(&x)?.sum_all()?.backward()?);
        for (k, v) in vars.iter().enumerate() {
            let what = format!("gradient of input {k} for {shape:?}");
            match (ours.get(v), theirs.get(v)) {
                (Some(a), Some(b)) => close(&what, a, b, t)?,
                (None, None) => {}
                (a, _) => {
                    let (e, g) = if a.is_some() { ("none", "one") } else { ("one", "none") };
                    return Err(Error::argument("assert", what, e, g));
                }
            }
        }
    }
    Ok(())
}
