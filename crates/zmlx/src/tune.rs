//! Tuning on a GPU: which of the many ways to cut a kernel into blocks and threads is fastest for a size is measured once,
//! and kept on disk for every later process.
//!
//! ```no_run
//! # fn main() -> zmlx::Result<()> {
//! use zmlx::{prelude::*, Tune};
//! # let x = Tensor::zeros((4, 4), candle_core::DType::F32, &Device::Cpu)?;
//! let softmax = rowwise("softmax(x)")?.tune(Tune::Auto); // the first call of each size measures
//! let y = softmax.call(&x)?;
//! # Ok(())
//! # }
//! ```
//!
//! Plain calls use what was found (by [`Tune::Auto`], [`Op::tune_now`] or `zmlx tune`) and never measure. A sum may come in
//! another order under another choice, so its last bits may be others; [`Tune::Off`] keeps to the heuristic's choice. The
//! CPU has nothing to tune.

use crate::{Error, Inputs, Op, Result};
use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};
use zmlx_runtime::tune::Tuned;
pub use zmlx_runtime::tune::{BUDGET, Bucket, Measured, Outcome, Report};

/// Whether calls measure, and whether they use what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tune {
    /// Neither: the heuristic chooses.
    Off,
    /// Use what was found before, and never measure.
    #[default]
    Stored,
    /// The first call of a size that nothing is known of measures, for up to [`BUDGET`]; then as `Stored`.
    Auto,
}

/// What operations do that were not told otherwise.
static DEFAULT: AtomicU8 = AtomicU8::new(Tune::Stored as u8);

/// From now on this holds for all operations of the process that were not told otherwise by [`Op::tune`], the catalog's
/// included.
pub fn by_default(tune: Tune) {
    DEFAULT.store(tune as u8, Relaxed);
}

/// What an operation was told.
#[derive(Clone, Debug, Default)]
#[allow(dead_code, reason = "read where there is a GPU")]
pub(crate) enum Tuning {
    #[default]
    Default,
    Told(Tune),
    /// Every launch measures, whatever is known, and reports.
    Now(Duration, Arc<Mutex<Vec<Report>>>),
}

impl Tuning {
    /// What holds for a call.
    #[allow(dead_code, reason = "asked where there is a GPU")]
    pub fn tune(&self) -> Tune {
        match self {
            Tuning::Told(tune) => *tune,
            Tuning::Now(..) => Tune::Auto,
            Tuning::Default => match DEFAULT.load(Relaxed) {
                n if n == Tune::Off as u8 => Tune::Off,
                n if n == Tune::Auto as u8 => Tune::Auto,
                _ => Tune::Stored,
            },
        }
    }
}

impl Op {
    /// Says whether its calls, and those of its gradient, measure and use what was measured. For a single call:
    /// `op.clone().tune(Tune::Auto).call(&x)`.
    #[must_use]
    pub fn tune(mut self, tune: Tune) -> Op {
        self.tuning = Tuning::Told(tune);
        self
    }

    /// Measures for these inputs, for about so long a kernel, keeps what was found on disk, and tells: one report a
    /// kernel; none on a device without anything to tune.
    ///
    /// # Errors
    /// As [`Op::call`].
    pub fn tune_now(&self, inputs: impl Inputs, budget: Duration) -> Result<Vec<Report>> {
        self.reporting(budget, |op| op.call_all(inputs).map(drop))
    }

    /// As [`Op::tune_now`], for the gradient of all inputs ([`Op::vjp`]).
    ///
    /// # Errors
    /// As [`Op::vjp`].
    pub fn tune_vjp_now(&self, inputs: impl Inputs, cotangents: impl Inputs, budget: Duration) -> Result<Vec<Report>> {
        self.reporting(budget, |op| op.vjp(inputs, cotangents).map(drop))
    }

    fn reporting(&self, budget: Duration, run: impl FnOnce(&Op) -> Result<()>) -> Result<Vec<Report>> {
        let reports = Arc::<Mutex<Vec<Report>>>::default();
        let op = Op { tuning: Tuning::Now(budget, reports.clone()), ..self.clone() };
        run(&op)?;
        let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *reports))
    }
}

/// Writes what was tuned on this machine to a file, for others to import: all, or the `winners` alone, without the sizes for
/// which the heuristic's choice stays. Gives the number of buckets.
///
/// # Errors
/// The file cannot be written.
pub fn export(path: &Path, winners: bool) -> Result<usize> {
    let (text, buckets) = Tuned::shared().export(winners);
    fs::write(path, text).map_err(|e| unreadable("export", path, "to write it", &e))?;
    Ok(buckets)
}

/// Takes in a file that was exported, in place of what was known of the same; gives the number of buckets. They are used on
/// the same device, driver and version of zmlx, by operations that are called there for the first time.
///
/// # Errors
/// The file cannot be read, is damaged, or none of ours; what it says cannot be kept.
pub fn import(path: &Path) -> Result<usize> {
    let text = fs::read_to_string(path).map_err(|e| unreadable("import", path, "to read it", &e))?;
    let taken = Tuned::shared().import(&text).map_err(|e| unreadable("import", path, "to keep what it says", &e))?;
    let expected = "a whole file that `zmlx tune --export` wrote";
    taken.ok_or_else(|| Error::argument("tune", format!("import {}", path.display()), expected, "another one"))
}

fn unreadable(what: &str, path: &Path, expected: &str, e: &std::io::Error) -> Error {
    Error::argument("tune", format!("{what} {}", path.display()), expected, e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rowwise;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn an_operation_does_as_it_was_told_and_else_as_the_process() {
        let op = rowwise("softmax(x)").expect("a formula");
        assert_eq!(op.tuning.tune(), Tune::Stored);
        let told = op.clone().tune(Tune::Off);
        by_default(Tune::Auto);
        assert_eq!((op.tuning.tune(), told.tuning.tune()), (Tune::Auto, Tune::Off));
        by_default(Tune::Off);
        assert_eq!(op.tuning.tune(), Tune::Off);
        by_default(Tune::Stored);
        // other settings leave it
        assert_eq!(told.with_all([]).axis(0).keepdim().name("told").tuning.tune(), Tune::Off);
        assert_eq!(op.tuning.tune(), Tune::Stored);
    }

    #[test]
    fn the_cpu_has_nothing_to_tune_and_computes_as_ever() {
        let x = Tensor::new(&[[1f32, 2., 3.], [3., 2., 1.]], &Device::Cpu).expect("a tensor");
        let op = rowwise("softmax(x)").expect("a formula");
        assert_eq!(op.tune_now(&x, BUDGET).expect("a call"), []);
        assert_eq!(op.tune_vjp_now(&x, &x, BUDGET).expect("a call"), []);
        let plain = op.call(&x).expect("a call").to_vec2::<f32>().expect("values");
        assert_eq!(op.tune(Tune::Auto).call(&x).expect("a call").to_vec2::<f32>().expect("values"), plain);
        let wrong = Tensor::zeros((2, 2), DType::U8, &Device::Cpu).expect("a tensor");
        assert!(rowwise("x + y").expect("a formula").tune_now(&wrong, BUDGET).is_err());
    }

    #[test]
    fn a_file_that_is_no_table_is_told_by_its_name() {
        let path = std::env::temp_dir().join(format!("zmlx-no-table-{}", std::process::id()));
        fs::write(&path, "no table").expect("a file");
        let error = import(&path).unwrap_err().to_string();
        fs::remove_file(&path).expect("a file");
        assert!(error.contains("expected a whole file that `zmlx tune --export` wrote"), "{error}");
        let error = import(&path).unwrap_err().to_string();
        assert!(error.starts_with("tune: import ") && error.contains("expected to read it"), "{error}");
    }
}
