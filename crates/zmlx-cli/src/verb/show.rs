//! `zmlx show`: what the compiler made of a formula.

use crate::{
    Outcome, meant,
    named::{Named, parse, parse_uniform, twice},
    out,
};
use zmlx_ir::{
    DType, Extent, Formula, Program, Scalar, Signature,
    grad::vjp,
    kernel::Kernel,
    program::Kind,
    schedule::{Config, Device, Schedule, schedule},
};
use zmlx_runtime::backend::{c_like, cpu, cuda::dialect::CUDA, metal::dialect::METAL};

/// Show what the compiler makes of a formula
#[derive(clap::Args)]
pub struct Args {
    /// The formula, e.g. 'silu(gate) * up', or the name of a kernel of the catalog
    #[arg(allow_hyphen_values = true)]
    formula: String,
    /// An input's type and extent: NAME, NAME:f16, NAME:f32:col (default: f32, one value an element)
    #[arg(long = "in", value_name = "NAME:DTYPE:EXTENT", value_parser = parse)]
    inputs: Vec<Named>,
    /// A launch argument: NAME=NUMBER (NAME:i64=NUMBER for an integer)
    #[arg(long = "uniform", value_name = "NAME=NUMBER", value_parser = parse_uniform)]
    uniforms: Vec<(String, Scalar)>,
    /// Show the gradient by this input instead (may be repeated)
    #[arg(long, value_name = "NAME")]
    grad: Vec<String>,
    /// formula: as parsed; program: typed values; cpu: passes over tiles; kernel: what a thread of a GPU does; cuda and
    /// metal: the text of all kernels, one unit that compiles
    #[arg(long, default_value = "program", value_parser = ["formula", "program", "cpu", "kernel", "cuda", "metal"])]
    target: String,
    /// The rows that kernels are chosen for; the same kernels run any number
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    rows: u64,
    /// The columns that kernels are chosen for
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    cols: u64,
}

pub fn run(args: &Args) -> Outcome {
    for given in &args.inputs {
        if let Some(file) = &given.value {
            return Err(
                format!("show: --in {}, expected a dtype and an extent, got the file {file}", given.name).into()
            );
        }
    }
    let declared = args.inputs.iter().map(|i| &i.name[..]).chain(args.uniforms.iter().map(|u| &u.0[..]));
    twice("show", "--in or --uniform", declared.clone())?;
    twice("show", "--grad", args.grad.iter().map(|g| &g[..]))?;
    let entry = meant::entry("show", &args.formula, declared)?;
    let mut formula = match entry {
        Some(entry) => entry.declared()?,
        None => Formula::parse(&args.formula)?,
    };
    let known: Vec<String> = formula.names.iter().map(|n| n.name.clone()).collect();
    let declared = args.inputs.iter().map(|i| &i.name).chain(args.uniforms.iter().map(|u| &u.0)).chain(&args.grad);
    for name in declared {
        if !known.contains(name) {
            return Err(format!(
                "show: {name}, expected one of the formula's names ({}), got another",
                known.join(", ")
            )
            .into());
        }
    }
    let uniforms = entry.map_or_else(|| args.uniforms.clone(), |e| meant::uniforms(e, &args.uniforms));
    for name in &mut formula.names {
        name.uniform = uniforms.iter().find(|u| u.0 == name.name).map(|u| u.1).or(name.uniform);
    }
    if args.target == "formula" {
        out::line(&formula);
        return Ok(true);
    }
    let tensors: Vec<&str> = formula.names.iter().filter(|n| n.uniform.is_none()).map(|n| n.name.as_str()).collect();
    let mut inputs = vec![];
    for name in &tensors {
        let given = args.inputs.iter().find(|i| i.name == *name);
        let arg = entry.and_then(|e| e.args.iter().find(|a| a.name == *name));
        let (dtype, extent) = arg.map_or_else(|| default_type(&formula, name), |a| (a.dtype(DType::F32), a.extent()));
        let dtype = given.and_then(|g| g.dtype).unwrap_or(dtype);
        let extent = given.and_then(|g| g.extent).unwrap_or(extent);
        inputs.push((dtype, extent));
    }
    let mut program = formula.bind(entry.map_or("formula", |e| e.name), &Signature { inputs })?;
    if !args.grad.is_empty() {
        let mut wrt = vec![];
        for name in &args.grad {
            match tensors.iter().position(|t| t == name) {
                Some(slot) => wrt.push(slot),
                None => return Err(format!("show: --grad {name}, expected a tensor input, got a uniform").into()),
            }
        }
        program = vjp(&program, &wrt)?;
        program.name = "gradient".into();
        (0..wrt.len()).for_each(|k| program.shrink(k));
    }
    let text = match args.target.as_str() {
        "program" => program.compact().to_string(),
        "cpu" => cpu::compile(&program)?.text(),
        target => {
            let schedule = scheduled(&program, args.rows, args.cols)?;
            let kernels: Vec<&Kernel> = schedule.steps.iter().map(|s| &s.kernel).collect();
            match target {
                "cuda" => c_like::unit(&kernels, &CUDA)?,
                "metal" => c_like::unit(&kernels, &METAL)?,
                _ => kernels.iter().map(|k| k.to_string()).collect::<Vec<_>>().join("\n"),
            }
        }
    };
    out::whole(text.trim_start_matches('\n'));
    Ok(true)
}

/// An index of `x[t]` is one integer a row; anything else one f32 an element.
fn default_type(formula: &Formula, name: &str) -> (DType, Extent) {
    let picked = formula.terms().iter().any(|t| {
        let index = t.args.first().map(|a| formula.terms()[a.index()].kind);
        matches!((t.kind, index), (Kind::Pick(_), Some(Kind::Input(slot))) if formula.names[slot as usize].name == name)
    });
    if picked { (DType::I64, Extent::ROW) } else { (DType::F32, Extent::ELEM) }
}

/// The kernels that the heuristic chooses for contiguous tensors of this size.
fn scheduled(program: &Program, rows: u64, cols: u64) -> Result<Schedule, String> {
    let config = Config::pick(program, rows, cols, 1, rows.saturating_mul(cols), Device::default());
    schedule(program, &config).map_err(|e| format!("show: {e}"))
}
