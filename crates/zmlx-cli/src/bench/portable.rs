//! Kernels that are written by hand, measured on sizes of their own: zmlx beside candle's plain ops, the same output first.

use super::{
    Result,
    time::{Way, time},
};
use crate::{out, table::Live};
use candle_core::{DType as CandleType, Device, Tensor, Var};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use zmlx::{
    entry::Gradient,
    harness::difference::{Within, difference},
    portable::{Case, Portable},
};

/// Plain ops that take longer are run once: codes of weights are made floats bit by bit on the host.
const LONG: Duration = Duration::from_secs(1);

/// Measures these in a dtype, forward and gradient, and gives a row of the report each.
pub fn measure(
    kernels: &[&Portable],
    dtype: CandleType,
    copy: f64,
    rounds: usize,
    quiet: bool,
    device: &Device,
) -> Result<Vec<Value>> {
    let mut rows = vec![];
    let table = (!quiet).then(|| {
        out::line(format_args!("\n{} written by hand, sizes of their own", dtype.as_str()));
        Live::start(&[
            ("kernel", 18),
            ("pass", 8),
            ("ms", 8),
            ("GB/s", 6),
            ("of copy", 7),
            ("TFLOP/s", 7),
            ("plain", 7),
            ("size", 40),
        ])
    });
    for kernel in kernels {
        for case in (kernel.sizes)(dtype, device)? {
            for gradient in [false, true] {
                if gradient && kernel.gradient != Gradient::Custom {
                    continue;
                }
                let Timed { ms, plain, in_f32, differs } = one(kernel, &case, gradient, rounds, device)?;
                let gbps = case.bytes / ms / 1e6;
                // a gradient has no floor in bytes to compare with
                let flops = case.flops[usize::from(gradient)] * 2.0 / ms / 1e9;
                let number = |v: f64| if v > 0.0 { format!("{v:.1}") } else { "–".into() };
                if let Some(table) = &table {
                    table.row(&[
                        kernel.name.into(),
                        if gradient { "both" } else { "forward" }.into(),
                        format!("{ms:.4}"),
                        if gradient { "–".into() } else { format!("{gbps:.0}") },
                        if gradient { "–".into() } else { format!("{:.0} %", 100.0 * gbps / copy) },
                        number(flops),
                        plain.map_or("–".into(), |p| format!("{:.1}×", p / ms)),
                        case.what.clone(),
                    ]);
                    if in_f32 {
                        out::line(format_args!(
                            "    plain ops ran in f32, since candle's do not take {}",
                            dtype.as_str()
                        ));
                    }
                    differs.iter().for_each(|why| out::line(format_args!("    plain ops were not timed: {why}")));
                }
                rows.push(json!({
                    "verb": "bench", "kernel": kernel.name, "by_hand": true, "dtype": dtype.as_str(), "size": case.what,
                    "pass": if gradient { "forward and gradient" } else { "forward" }, "ms": ms, "plain_ms": plain,
                    "bytes": case.bytes, "multiply_adds": case.flops[usize::from(gradient)], "copy_gbps": copy, "differs": differs,
                    "plain_in_f32": in_f32,
                }));
            }
        }
    }
    Ok(rows)
}

struct Timed {
    ms: f64,
    plain: Option<f64>,
    in_f32: bool,
    differs: Option<String>,
}

fn one(kernel: &Portable, case: &Case, gradient: bool, rounds: usize, device: &Device) -> Result<Timed> {
    let vars: Vec<Var> =
        kernel.wrt.iter().map(|k| Var::from_tensor(&case.inputs[*k])).collect::<candle_core::Result<_>>()?;
    let mut inputs = case.inputs.clone();
    if gradient {
        kernel.wrt.iter().zip(&vars).for_each(|(k, v)| inputs[*k] = v.as_tensor().clone());
    }
    let finish = |y: Tensor| -> Result<Tensor> {
        if !gradient {
            return Ok(y);
        }
        let store = y.backward()?;
        Ok(store.get(&vars[0]).ok_or("no gradient")?.clone())
    };
    let ours = || finish((kernel.run)(&inputs, &case.settings)?.swap_remove(0));
    let want = ours()?;
    // in the dtype itself, or in f32 with the conversions that a user would write: candle sums bf16 in bf16
    let plain_in = |dtype: Option<CandleType>| -> Result<Tensor> {
        let own = |t: &Tensor| dtype.filter(|_| t.dtype().is_float()).map_or_else(|| Ok(t.clone()), |d| t.to_dtype(d));
        let inputs: Vec<Tensor> = inputs.iter().map(own).collect::<candle_core::Result<_>>()?;
        let y = (kernel.reference)(&inputs, &case.settings)?.swap_remove(0);
        finish(if dtype.is_some() { y.to_dtype(want.dtype())? } else { y })
    };
    // what they cannot do is said
    let differs_in = |dtype| {
        let told = plain_in(dtype)
            .and_then(|got| Ok(difference(&got.to_dtype(want.dtype())?, &want, Within::plain_ops(want.dtype()))?));
        told.unwrap_or_else(|e| Some(e.to_string().lines().next().unwrap_or("").to_string()))
    };
    let wide = Some(CandleType::F32);
    let start = Instant::now();
    let own = differs_in(None);
    let once = start.elapsed();
    let in_f32 = own.is_some() && differs_in(wide).is_none();
    let differs = own.filter(|_| !in_f32);
    let plain = || plain_in(wide.filter(|_| in_f32));
    let mut ways = vec![Way::new("zmlx", ours)];
    if differs.is_none() && once < LONG {
        ways.push(Way::new("plain", plain));
    }
    let times = time(ways, rounds, None, device)?;
    let once = (differs.is_none() && once >= LONG).then_some(once.as_secs_f64() * 1e3);
    Ok(Timed { ms: times[0].median, plain: times.get(1).map(|t| t.median).or(once), in_f32, differs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmlx::portable::{find, numbers};

    #[test]
    fn plain_ops_are_timed_in_f32_where_their_sums_in_the_dtype_are_wrong() -> Result<()> {
        let kernel = find("paged_attention").ok_or("it is there")?;
        let cpu = &Device::Cpu;
        // more keys than a sum of ones in bf16 counts
        let cache = |seed| numbers(&[1, 1024, 1, 8], CandleType::BF16, seed, cpu);
        let (table, lengths) = (Tensor::new(&[[0u32]], cpu)?, Tensor::new(&[1024u32], cpu)?);
        let inputs = vec![numbers(&[1, 2, 8], CandleType::BF16, 1, cpu)?, cache(2)?, cache(3)?, table, lengths];
        let timed = one(kernel, &Case::new("1024 keys", inputs, &[]), false, 1, cpu)?;
        assert!(timed.plain.is_some() && timed.in_f32, "{:?}", timed.differs);
        Ok(())
    }
}
