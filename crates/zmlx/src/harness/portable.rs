//! Checks a kernel that is written by hand: values and gradients of each of its cases beside plain candle ops in f64, whose
//! own backward pass gives the gradients. Two runs give the same bits.

use super::{Report, case::flat};
use crate::{
    Result, bridge,
    portable::{Case, Portable, numbers},
};
use candle_core::{DType as CandleType, Device, Tensor, Var};
use zmlx_ir::DType;

/// Checks it in one dtype on a device.
///
/// # Errors
/// What does not run; what runs and is wrong is in the report.
pub fn verify_portable(kernel: &Portable, dtype: DType, device: &Device) -> Result<Report> {
    let mut report = Report::empty(kernel.name, dtype, !kernel.wrt.is_empty());
    if dtype == DType::F64 && !device.is_cpu() {
        return Ok(report); // texts compute in f32
    }
    for case in (kernel.cases)(bridge::candle_dtype(dtype))? {
        let before = report.failures.len();
        report.cases += 1;
        // what does not run is told with its case, and the other cases run
        if let Err(error) = check(kernel, &case, dtype, device, &mut report) {
            report.failures.push(error.to_string());
        }
        if report.failures.len() > before {
            report.failures.push(format!("  in case {}", case.what));
        }
    }
    Ok(report)
}

fn check(kernel: &Portable, case: &Case, dtype: DType, device: &Device, report: &mut Report) -> Result<()> {
    let inputs: Vec<Tensor> = case.inputs.iter().map(|t| t.to_device(device)).collect::<candle_core::Result<_>>()?;
    let wide = |t: &Tensor| if t.dtype().is_float() { t.to_dtype(CandleType::F64) } else { Ok(t.clone()) };
    let exact: Vec<Tensor> = case.inputs.iter().map(wide).collect::<candle_core::Result<_>>()?;
    let got = (kernel.run)(&inputs, &case.settings)?;
    let again = (kernel.run)(&inputs, &case.settings)?;
    let want = (kernel.reference)(&exact, &case.settings)?;
    if got.len() != want.len() {
        report.failures.push(format!("{} results, expected {}", got.len(), want.len()));
        return Ok(());
    }
    let mut worst = 0f64;
    for (k, ((g, a), w)) in got.iter().zip(&again).zip(&want).enumerate() {
        if flat(g)?.iter().zip(flat(a)?).any(|(a, b)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan())) {
            report.failures.push(format!("result {k}: a second run gave other bits"));
        }
        worst = worst.max(compare(kernel, report, &format!("result {k}"), g, w, 1.0)?);
    }
    report.value = report.value.max(worst);
    if kernel.wrt.is_empty() {
        return Ok(());
    }
    // the loss is the sum of results times cotangents, on candle's tape on both sides
    let mut gradients = vec![];
    for (inputs, ours) in [(&inputs, true), (&exact, false)] {
        let vars: Vec<Var> =
            kernel.wrt.iter().map(|k| Var::from_tensor(&inputs[*k])).collect::<candle_core::Result<_>>()?;
        let mut leaves = inputs.clone();
        kernel.wrt.iter().zip(&vars).for_each(|(k, v)| leaves[*k] = v.as_tensor().clone());
        let results =
            if ours { (kernel.run)(&leaves, &case.settings)? } else { (kernel.reference)(&leaves, &case.settings)? };
        let mut loss: Option<Tensor> = None;
        // candle launches no empty operation on CUDA
        let counts = |y: &Tensor| y.dtype().is_float() && (y.elem_count() > 0 || y.device().is_cpu());
        for (k, y) in results.iter().enumerate().filter(|(_, y)| counts(y)) {
            let cotangent = numbers(y.dims(), got[k].dtype(), 77 + k as u32, y.device())?.to_dtype(y.dtype())?;
            let finite = y.abs()?.lt(f64::INFINITY)?;
            let part = finite.where_cond(&(y * cotangent)?, &y.zeros_like()?)?;
            let part = if ours { part.to_dtype(CandleType::F32)? } else { part };
            let part = part.sum_all()?;
            loss = Some(match loss {
                Some(loss) => (loss + part)?,
                None => part,
            });
        }
        let Some(loss) = loss else { return Ok(()) };
        let store = loss.backward()?;
        let of = |v: &Var| store.get(v).cloned().map_or_else(|| v.zeros_like(), Ok);
        gradients.push(vars.iter().map(of).collect::<candle_core::Result<Vec<Tensor>>>()?);
    }
    let mut worst = 0f64;
    for (k, (g, w)) in kernel.wrt.iter().zip(gradients[0].iter().zip(&gradients[1])) {
        worst = worst.max(compare(kernel, report, &format!("gradient of {}", kernel.args[*k]), g, w, 4.0)?);
    }
    report.gradient = report.gradient.map(|r| r.max(worst));
    debug_assert_eq!(dtype, report.dtype);
    Ok(())
}

/// The largest error as a fraction of its bound: half a unit of the result, and roundings of the largest result.
fn compare(kernel: &Portable, report: &mut Report, what: &str, got: &Tensor, want: &Tensor, times: f64) -> Result<f64> {
    if got.dims() != want.dims() {
        report.failures.push(format!("{what}: shape {:?}, expected {:?}", got.dims(), want.dims()));
        return Ok(f64::INFINITY);
    }
    let own = match got.dtype() {
        CandleType::BF16 => 2f64.powi(-8),
        CandleType::F16 => 2f64.powi(-11),
        CandleType::F32 => 2f64.powi(-24),
        CandleType::F64 => 2f64.powi(-53),
        _ => 0.0,
    };
    // half a step between subnormal numbers
    let least = if got.dtype() == CandleType::F16 { 2f64.powi(-25) } else { f64::MIN_POSITIVE };
    let inner = if got.dtype() == CandleType::F64 { own } else { 2f64.powi(-24) };
    let (got, want) = (flat(got)?, flat(want)?);
    let most = want.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    let [of_own, of_inner] = kernel.roundings;
    let slack = if own == 0.0 { 0.0 } else { times * (of_own * own + of_inner * inner) * most };
    let mut worst = 0f64;
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        report.elements += 1;
        let bound = slack + own * w.abs() + least;
        let same = g == w || (g.is_nan() && w.is_nan());
        let ratio = if same { 0.0 } else { (g - w).abs() / bound };
        if (ratio > 1.0 || ratio.is_nan()) && report.failures.len() < 8 {
            report.failures.push(format!("{what}[{i}]: {g:e}, expected {w:e} within {bound:.1e}"));
        }
        worst = if ratio.is_nan() { f64::INFINITY } else { worst.max(ratio) };
    }
    Ok(worst)
}
