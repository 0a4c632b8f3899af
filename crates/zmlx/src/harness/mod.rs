//! The one harness of the catalog: checks an entry, value and gradient, against the f64 oracle (with the error bound
//! that it carries) and against plain candle ops in f64, over dtypes, shapes and layouts. `huge` goes beyond 2³¹ elements.

mod case;
pub mod difference;
mod huge;
mod portable;
mod sampled;

pub use huge::{HugeReport, verify_huge};
pub use portable::verify_portable;
pub use sampled::sampled;

use crate::{
    Result,
    entry::{Entry, Gradient},
};
use candle_core::Device;
use case::{Case, Memory, Random};
use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
};
use zmlx_ir::{DType, Program, Signature, grad::vjp};

/// Shapes `[.., C]` that every entry is checked on: one element, odd, long, short rows, empty either way, rank 4.
const SHAPES: &[&[usize]] = &[
    &[1, 1],
    &[7],
    &[3, 7],
    &[2, 3, 5],
    &[5, 1000],
    &[33, 257],
    &[2, 1, 3, 64],
    &[2, 5000],
    &[0, 4],
    &[4, 0],
    &[300, 3],
];
/// What a GPU runs in other ways: a row over many blocks, columns over many blocks of rows.
const LONG: &[&[usize]] = &[&[1, 70_001], &[2050, 65]];
/// Most elements of a shape that `Sizes::Quick` takes.
const QUICK: usize = 1000;

/// Which shapes and layouts are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All.
    All,
    /// The small ones, contiguous and misaligned: for tools that slow every access down.
    Quick,
}

/// What came of checking an entry in one dtype.
#[derive(Clone, Debug)]
pub struct Report {
    /// The entry.
    pub name: &'static str,
    /// The dtype of its float arguments.
    pub dtype: DType,
    /// Cases run.
    pub cases: usize,
    /// Elements compared.
    pub elements: usize,
    /// Elements whose bound is unknown (ties, kinks, overflow).
    pub skipped: usize,
    /// Largest error of a value, as a fraction of its bound.
    pub value: f64,
    /// Largest error of a gradient, as a fraction of its bound; None where there is no gradient.
    pub gradient: Option<f64>,
    /// What went wrong, a line each.
    pub failures: Vec<String>,
}

impl Report {
    fn new(entry: &Entry, dtype: DType) -> Report {
        Report::empty(entry.name, dtype, entry.gradient == Gradient::Derived)
    }

    fn empty(name: &'static str, dtype: DType, gradient: bool) -> Report {
        let gradient = gradient.then_some(0.0);
        Report { name, dtype, cases: 0, elements: 0, skipped: 0, value: 0.0, gradient, failures: vec![] }
    }

    /// Did all cases pass?
    pub fn ok(&self) -> bool {
        self.failures.is_empty()
    }
}

/// The Program of an entry whose float arguments have this dtype, and that of its gradient by all of them, if it has one.
/// The gradient's inputs are the arguments and then a cotangent for each result.
///
/// # Errors
/// A formula that is wrong or cannot be differentiated: a fault of the entry.
pub fn programs(entry: &Entry, dtype: DType) -> Result<(Program, Option<Program>)> {
    let formula = entry.declared()?;
    let inputs = entry.args.iter().map(|a| (a.dtype(dtype), a.extent())).collect();
    let program = formula.bind(entry.name, &Signature { inputs })?;
    let wrt: Vec<usize> = (0..entry.args.len()).filter(|k| entry.args[*k].is_float()).collect();
    let backward = match entry.gradient {
        Gradient::Derived => Some(vjp(&program, &wrt).map_err(|e| crate::Error::internal(&e.to_string()))?),
        Gradient::Custom | Gradient::None(_) => None,
    };
    Ok((program, backward))
}

/// Checks an entry in one dtype on a device.
///
/// # Errors
/// A kernel or an op of candle that does not run; what runs and is wrong is in the report.
pub fn verify(entry: &Entry, dtype: DType, device: &Device, sizes: Sizes) -> Result<Report> {
    let mut report = Report::new(entry, dtype);
    let (program, backward) = programs(entry, dtype)?;
    let mut random = Random::new();
    let long = if matches!(device, Device::Cpu) { &[] } else { LONG };
    for shape in SHAPES.iter().chain(long) {
        for memory in [Memory::Contiguous, Memory::Strided, Memory::Offset, Memory::Broadcast] {
            let elements: usize = shape.iter().product();
            let varies = shape.len() >= 2 && elements <= 2000;
            let quick = elements <= QUICK && matches!(memory, Memory::Contiguous | Memory::Offset);
            if memory != Memory::Contiguous && !varies || sizes == Sizes::Quick && !quick {
                continue;
            }
            report.cases += 1;
            let before = report.failures.len();
            let case = Case { shape, memory, dtype, device };
            case::check(entry, case, &program, backward.as_ref(), &mut random, &mut report)?;
            if report.failures.len() > before {
                report.failures.push(format!("  in case {shape:?} {memory:?}"));
            }
        }
    }
    Ok(report)
}

/// Checks several entries and dtypes, `threads` at a time, because a GPU's kernels are compiled as they are met. `each` gets
/// the reports in the order of `jobs`, each as soon as it and those before it are there. What does not run is a failure of
/// its report.
pub fn verify_all(
    jobs: &[(&'static Entry, DType)],
    device: &Device,
    sizes: Sizes,
    threads: usize,
    each: &mut dyn FnMut(Report),
) {
    let next = &AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            let send = send.clone();
            scope.spawn(move || {
                while let Some((k, (entry, dtype))) = pick(jobs, next) {
                    let report = verify(entry, *dtype, device, sizes).unwrap_or_else(|e| {
                        let mut report = Report::new(entry, *dtype);
                        report.failures.push(e.to_string());
                        report
                    });
                    if send.send((k, report)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (k, report) in receive {
            early.insert(k, report);
            while let Some(report) = early.remove(&due) {
                each(report);
                due += 1;
            }
        }
    });
}

fn pick<'a, T>(jobs: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let k = next.fetch_add(1, Relaxed);
    jobs.get(k).map(|job| (k, job))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::find;

    #[test]
    fn reports_come_in_the_order_of_the_jobs_whatever_the_threads() {
        let entries = ["cumsum", "add", "softmax", "exp"].map(|name| find(name).expect("it is in the catalog"));
        let jobs: Vec<_> = entries.iter().flat_map(|e| [(*e, DType::F32), (*e, DType::F64)]).collect();
        let run = |threads| {
            let mut seen = vec![];
            verify_all(&jobs, &Device::Cpu, Sizes::Quick, threads, &mut |r| {
                assert!(r.ok(), "{} {}: {:?}", r.name, r.dtype, r.failures);
                seen.push((r.name, r.dtype, r.cases, r.elements, r.value.to_bits()));
            });
            seen
        };
        let alone = run(1);
        assert_eq!(
            alone.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>(),
            jobs.iter().map(|j| (j.0.name, j.1)).collect::<Vec<_>>()
        );
        assert_eq!(alone, run(3));
    }

    #[test]
    fn quick_leaves_out_what_is_large() {
        let softmax = find("softmax").expect("it is in the catalog");
        let [all, quick] =
            [Sizes::All, Sizes::Quick].map(|s| verify(softmax, DType::F32, &Device::Cpu, s).expect("it runs"));
        assert!(all.ok() && quick.ok());
        assert!(quick.cases > 5 && quick.elements * 5 < all.elements, "{quick:?}");
    }
}
