//! The CPU: a vectorised executor. A Program is planned once (`plan`: passes over the rows, registers), then run over
//! tiles of lanes that stay in L1, each step one SIMD loop; groups of rows in parallel. Results do not depend on the
//! number of threads.
//!
//! | file    | what                                                     |
//! |---------|----------------------------------------------------------|
//! | plan    | Program → passes of steps                                |
//! | bank    | registers                                                |
//! | exec    | a step over a domain of lanes                            |
//! | lanes   | the loops of the pointwise ops                           |
//! | math    | exp, log, tanh … as vectorisable arithmetic              |
//! | simd    | choice of the instruction set at run time                |
//! | memory  | strided loads, converting stores                         |
//! | reduce, scan | along a row                                         |
//! | driver  | output memory, threads                                   |

mod bank;
mod driver;
mod exec;
mod lanes;
pub mod math;
mod memory;
mod plan;
mod reduce;
mod scan;
pub mod simd;
mod text;

use crate::{Buffer, Error, Launch, Slice};
use plan::Plan;
use zmlx_ir::{DType, Extent, Program, program::Kind};

/// Lanes of a tile: a few f32 registers of this size fit in L1.
const TILE: usize = 2048;

/// A Program planned for the CPU.
#[derive(Clone, Debug)]
pub struct Kernel {
    name: String,
    plan: Plan,
    /// The plan for few long rows, whose passes run one after the other.
    split: Option<Plan>,
    /// dtype and extent of each input and output.
    views: Vec<(String, DType, Extent)>,
    outputs: Vec<(DType, Extent)>,
    uniforms: usize,
    reduces: bool,
    folds: bool,
}

/// Plans a verified Program.
pub fn compile(program: &Program) -> Result<Kernel, Error> {
    let unsupported = |what: String| Error::Unsupported {
        op: program.name.clone(),
        what,
        dtype: program.outputs.first().map_or(DType::F32, |o| o.dtype),
        target: "cpu",
    };
    let live = program.live();
    let any = |f: &dyn Fn(&Kind) -> bool| program.nodes().iter().zip(&live).any(|(n, l)| *l && f(&n.kind));
    let scans = any(&|k| matches!(k, Kind::Scan(_) | Kind::Fold(_)));
    let plan = plan::plan(program, true).map_err(unsupported)?;
    let split = if scans { None } else { Some(plan::plan(program, false).map_err(unsupported)?) };
    Ok(Kernel {
        name: program.name.clone(),
        reduces: any(&|k| matches!(k, Kind::Reduce(..))),
        folds: !program.folds.is_empty(),
        plan,
        split,
        views: program.inputs.iter().map(|i| (i.name.clone(), i.dtype, i.extent)).collect(),
        outputs: program.outputs.iter().map(|o| (o.dtype, o.extent)).collect(),
        uniforms: program.uniforms.len(),
    })
}

impl Kernel {
    /// Runs it: one buffer for each of `Program::outputs`.
    pub fn run(&self, launch: &Launch<'_>) -> Result<Vec<Buffer>, Error> {
        self.check(launch)?;
        driver::run(self, launch)
    }

    /// The plan, for people: what `zmlx show --target cpu` prints.
    pub fn text(&self) -> String {
        text::plan(&self.plan)
    }

    /// Views must be of the planned types and lie inside their memory.
    fn check(&self, launch: &Launch<'_>) -> Result<(), Error> {
        let fail = |what: String, expected: String, got: String| {
            Err(Error::Launch { op: self.name.clone(), what, expected, got })
        };
        if launch.inputs.len() != self.views.len() {
            return fail("number of inputs".into(), self.views.len().to_string(), launch.inputs.len().to_string());
        }
        if launch.uniforms.len() != self.uniforms {
            return fail("number of uniforms".into(), self.uniforms.to_string(), launch.uniforms.len().to_string());
        }
        let rows = launch.rows();
        if rows.checked_mul(launch.cols).is_none_or(|n| n > isize::MAX as usize / 8) {
            return fail("size".into(), "rows × cols that memory can hold".into(), format!("{rows} × {}", launch.cols));
        }
        for ((name, dtype, extent), view) in self.views.iter().zip(launch.inputs) {
            if view.data.dtype() != *dtype && !(*dtype == DType::Bool && matches!(view.data, Slice::U8(_))) {
                return fail(format!("{name}: dtype"), dtype.to_string(), view.data.dtype().to_string());
            }
            if view.row_strides.len() != launch.row_dims.len() {
                let (e, g) = (launch.row_dims.len(), view.row_strides.len());
                return fail(format!("{name}: number of row strides"), e.to_string(), g.to_string());
            }
            if rows == 0 || (launch.cols == 0 && extent.has_cols()) {
                continue;
            }
            let mut last = view.offset;
            if extent.has_rows() {
                for (d, s) in launch.row_dims.iter().zip(view.row_strides) {
                    last = last.saturating_add((d - 1).saturating_mul(*s));
                }
            }
            if extent.has_cols() {
                last = last.saturating_add((launch.cols - 1).saturating_mul(view.col_stride));
            }
            if last >= view.data.len() {
                return fail(name.clone(), format!("memory of more than {last} elements"), view.data.len().to_string());
            }
        }
        Ok(())
    }
}
