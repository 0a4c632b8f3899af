//! The CPU: a vectorised executor. A Program is planned once (`plan`: passes over the rows, registers), then run over
//! tiles of lanes that stay in L1, each step one SIMD loop; groups of rows in parallel. Results do not depend on the
//! number of threads.
//!
//! | file    | what                                                     |
//! |---------|----------------------------------------------------------|
//! | plan    | Program → passes of steps                                |
//! | step    | what passes are made of                                  |
//! | bank    | registers                                                |
//! | exec    | a step over a domain of lanes                            |
//! | chain   | all f32 steps of a pass in one loop                      |
//! | lanes   | the loops of the pointwise ops                           |
//! | pair    | two of them in one loop                                  |
//! | math    | exp, log, tanh … as vectorisable arithmetic              |
//! | simd    | choice of the instruction set at run time                |
//! | memory  | strided loads, converting stores                         |
//! | reduce, top, scan, fold | along a row                              |
//! | sums    | sums in f64                                              |
//! | stream  | stores past the caches                                   |
//! | pages   | large pages for large outputs                            |
//! | driver  | memory of outputs; groups of rows, threads               |

mod ahead;
mod bank;
mod chain;
mod driver;
mod exec;
mod fold;
mod lanes;
pub mod math;
mod memory;
mod pages;
mod pair;
mod plan;
mod reduce;
mod running;
mod scan;
pub mod simd;
mod step;
mod stream;
mod sums;
mod text;
mod top;

pub use memory::{to_bf16, widen};

use crate::{Buffers, Error, Launch, Slice, View};
use plan::Plan;
use zmlx_ir::{
    DType, Extent, Program, Scalar,
    program::{Kind, Split, Stored},
};

/// A Program planned for the CPU.
#[derive(Clone, Debug)]
pub struct Kernel {
    name: String,
    /// What runs once, on one row, before the plan: a kernel whose outputs are the last inputs of this one.
    once: Option<Box<Once>>,
    plan: Plan,
    /// The plan for few long rows, whose passes run one after the other.
    split: Option<Plan>,
    /// Name, dtype and extent of each input; what is stored.
    views: Vec<(String, DType, Extent)>,
    outputs: Vec<Stored>,
    uniforms: usize,
    folds: bool,
}

#[derive(Clone, Debug)]
struct Once {
    kernel: Kernel,
    /// Which inputs of the launch it reads.
    slots: Vec<usize>,
    /// Its last uniform is the number of rows of the launch.
    reads_rows: bool,
}

/// Plans a verified Program.
pub fn compile(program: &Program) -> Result<Kernel, Error> {
    match program.split() {
        None => compile_part(program),
        Some(Split { once, slots, reads_rows, rest }) => {
            let once = Once { kernel: compile_part(&once)?, slots, reads_rows };
            Ok(Kernel { once: Some(Box::new(once)), ..compile_part(&rest)? })
        }
    }
}

fn compile_part(program: &Program) -> Result<Kernel, Error> {
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
    // a block of columns is no one piece of such a tensor
    let beside = program.stored().any(|o| o.extent.has_cols() && o.width > 1);
    let split = if scans || beside { None } else { Some(plan::plan(program, false).map_err(unsupported)?) };
    Ok(Kernel {
        name: program.name.clone(),
        once: None,
        folds: !program.folds.is_empty(),
        plan,
        split,
        views: program.inputs.iter().map(|i| (i.name.clone(), i.dtype, i.extent)).collect(),
        outputs: program.stored().collect(),
        uniforms: program.uniforms.len(),
    })
}

impl Kernel {
    /// Runs it: one buffer for each of `Program::stored`.
    pub fn run(&self, launch: &Launch<'_>) -> Result<Buffers, Error> {
        let mut outputs = Buffers::new();
        let Some(once) = &self.once else {
            self.check(launch)?;
            driver::run(self, launch, &mut outputs)?;
            return Ok(outputs);
        };
        self.check_counts(launch, self.views.len() - once.kernel.outputs.len())?;
        let made = once.run(launch)?;
        let none = vec![0; launch.row_dims.len()];
        let views = made.iter().zip(&once.kernel.outputs).map(|(buffer, o)| {
            let col_stride = usize::from(o.extent.has_cols());
            View { data: buffer.as_slice(), offset: 0, row_strides: &none, col_stride, table: None }
        });
        let inputs: Vec<View<'_>> = launch.inputs.iter().copied().chain(views).collect();
        let launch = &Launch { inputs: &inputs, ..*launch };
        self.check(launch)?;
        driver::run(self, launch, &mut outputs)?;
        Ok(outputs)
    }

    /// Runs it on few elements of inputs that lie flat, at little cost. None where that cannot be: then `run` does it.
    pub fn run_few(&self, inputs: &[Slice<'_>], uniforms: &[Scalar], count: usize) -> Option<Buffers> {
        if self.once.is_some() { None } else { driver::run_few(self, inputs, uniforms, count) }
    }

    /// The plan, for people: what `zmlx show --target cpu` prints.
    pub fn text(&self) -> String {
        let plan = text::plan(&self.plan);
        match &self.once {
            None => plan,
            Some(once) => format!("once, on one row\n\n{}\nthen\n\n{plan}", once.kernel.text()),
        }
    }

    /// Views must be of the planned types and lie inside their memory.
    fn check(&self, launch: &Launch<'_>) -> Result<(), Error> {
        self.check_counts(launch, self.views.len())?;
        let fail = |what: String, expected: String, got: String| {
            Err(Error::Launch { op: self.name.clone(), what, expected, got })
        };
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
            if let Some(table) = view.table {
                let wrong =
                    |row: &usize| usize::try_from(memory::found(launch, table.by, *row)).is_ok_and(|i| i < table.rows);
                if let Some(row) = (0..rows).find(|row| !wrong(row)) {
                    let (op, index) = (self.name.clone(), memory::found(launch, table.by, row));
                    return Err(Error::Index { op, index, row, cols: table.rows });
                }
                last = last.saturating_add((table.rows - 1).saturating_mul(table.pitch));
            } else if extent.has_rows() {
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

    fn check_counts(&self, launch: &Launch<'_>, inputs: usize) -> Result<(), Error> {
        let of = [("inputs", inputs, launch.inputs.len()), ("uniforms", self.uniforms, launch.uniforms.len())];
        match of.into_iter().find(|(_, expected, got)| expected != got) {
            None => Ok(()),
            Some((what, expected, got)) => Err(Error::Launch {
                op: self.name.clone(),
                what: format!("number of {what}"),
                expected: expected.to_string(),
                got: got.to_string(),
            }),
        }
    }
}

impl Once {
    fn run(&self, launch: &Launch<'_>) -> Result<Buffers, Error> {
        let view = |slot: &usize| View { row_strides: &[0], ..launch.inputs[*slot] };
        let inputs: Vec<View<'_>> = self.slots.iter().map(view).collect();
        let mut uniforms = launch.uniforms.to_vec();
        if self.reads_rows {
            uniforms.push(Scalar::Int(launch.rows() as i64));
        }
        self.kernel.run(&Launch { row_dims: &[1], inputs: &inputs, uniforms: &uniforms, ..*launch })
    }
}
