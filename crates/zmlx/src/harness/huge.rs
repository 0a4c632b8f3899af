//! More than 2³¹ elements: there 32-bit indices end. A tensor is made of many copies of one block, whose size divides no
//! power of two, so that an index that wraps meets other values. The results are those of the block, again and again.

use super::difference::{Within, difference};
use crate::{
    Result, bridge,
    catalog::find,
    entry::{Entry, Gradient},
};
use candle_core::{DType as CandleType, Device, Tensor};
use zmlx_ir::DType;

/// Pointwise with two inputs and with one, a row as a result, and one value a row.
const NAMES: [&str; 4] = ["add", "silu", "softmax", "sum"];
/// The block, both odd; and how often it is there: 2,182,369,085 elements.
const ROWS: usize = 4099;
const COLS: usize = 8191;
const COPIES: usize = 65;

/// What came of one.
#[derive(Clone, Debug)]
pub struct HugeReport {
    /// The entry.
    pub name: &'static str,
    /// Is it the gradient's?
    pub gradient: bool,
    /// Elements of its input.
    pub elements: usize,
    /// Why it was not run.
    pub skipped: Option<String>,
    /// What is wrong, a line a block.
    pub failures: Vec<String>,
}

/// Runs a few entries in bf16 above 2³¹ elements. `each` gets what came of one, value and gradient apart.
///
/// # Errors
/// A kernel or an op of candle that does not run, other than for lack of memory.
pub fn verify_huge(device: &Device, each: &mut dyn FnMut(HugeReport)) -> Result<()> {
    for name in NAMES {
        let Some(entry) = find(name) else { continue };
        for gradient in [false, true] {
            if gradient && entry.gradient != Gradient::Derived {
                continue;
            }
            let elements = ROWS * COLS * COPIES;
            let mut report = HugeReport { name, gradient, elements, skipped: None, failures: vec![] };
            if matches!(device, Device::Cpu) {
                report.skipped = Some("the CPU has one width of index".into());
            } else {
                match run(entry, gradient, device) {
                    Ok(failures) => report.failures = failures,
                    Err(e) if lacks_memory(&e.to_string()) => report.skipped = Some(format!("memory: {e}")),
                    Err(e) => return Err(e),
                }
            }
            each(report);
        }
    }
    Ok(())
}

fn lacks_memory(error: &str) -> bool {
    let error = error.to_lowercase();
    error.contains("out of memory") || error.contains("out_of_memory")
}

fn run(entry: &Entry, gradient: bool, device: &Device) -> Result<Vec<String>> {
    let dtype = bridge::candle_dtype(DType::BF16);
    let block = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, device)?.to_dtype(dtype);
    let blocks: Vec<Tensor> = entry.args.iter().map(|_| block(&[ROWS, COLS])).collect::<candle_core::Result<_>>()?;
    check(entry, gradient, &blocks, COPIES)
}

/// Of `copies` of the blocks, one below the other.
fn check(entry: &Entry, gradient: bool, blocks: &[Tensor], copies: usize) -> Result<Vec<String>> {
    let op = entry.op()?;
    let call = |inputs: &[Tensor], cotangent: Option<&Tensor>| -> Result<Vec<Tensor>> {
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        match cotangent {
            Some(g) => Ok(op.vjp(&inputs[..], &[g])?.into_iter().flatten().collect()),
            None => op.call_all(&inputs[..]),
        }
    };
    let many = |t: &Tensor| Tensor::cat(&vec![t; copies], 0);
    let mut cotangent = None;
    let want = call(blocks, None)?;
    let within = Within::rounding(want[0].dtype());
    // the block itself, beside plain ops in f32
    let wide: Vec<Tensor> = blocks.iter().map(|t| t.to_dtype(CandleType::F32)).collect::<candle_core::Result<_>>()?;
    let mut failures = vec![];
    for (g, w) in want.iter().zip((entry.fallback)(&wide, &[])?) {
        failures.extend(difference(g, &w, within)?.map(|why| format!("one block: {why}")));
    }
    drop(wide);
    let want = if gradient {
        let g = Tensor::randn(0f32, 1f32, want[0].shape(), want[0].device())?.to_dtype(want[0].dtype())?;
        let want = call(blocks, Some(&g))?;
        cotangent = Some(many(&g)?);
        want
    } else {
        want
    };
    let inputs: Vec<Tensor> = blocks.iter().map(many).collect::<candle_core::Result<_>>()?;
    let got = call(&inputs, cotangent.as_ref())?;
    for (k, (g, w)) in got.iter().zip(&want).enumerate() {
        let rows = w.dims()[0];
        for n in 0..copies {
            let part = g.narrow(0, n * rows, rows)?;
            failures.extend(difference(&part, w, within)?.map(|why| format!("result {k}, block {n}: {why}")));
        }
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_more_than_two_to_the_31_and_a_wrapped_index_meets_another_value() {
        const { assert!(ROWS * COLS * COPIES > 1 << 31) };
        for bits in 31..=33 {
            assert_ne!((1usize << bits) % (ROWS * COLS), 0);
            assert_ne!((1usize << bits) % COLS, 0);
        }
    }

    #[test]
    fn copies_of_a_block_give_copies_of_its_results() {
        for name in NAMES {
            let entry = find(name).expect("it is in the catalog");
            let block = || Tensor::randn(0f32, 1f32, (5, 33), &Device::Cpu)?.to_dtype(CandleType::BF16);
            let blocks: Vec<Tensor> = entry.args.iter().map(|_| block().expect("a block")).collect();
            for gradient in [false, true] {
                let failures = check(entry, gradient, &blocks, 3).expect("it runs");
                assert!(failures.is_empty(), "{name}: {failures:?}");
            }
        }
    }

    #[test]
    fn lack_of_memory_is_told_from_other_errors() {
        assert!(lacks_memory("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"));
        assert!(!lacks_memory("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS)"));
    }
}
