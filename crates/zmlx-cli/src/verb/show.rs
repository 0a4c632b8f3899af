//! `zmlx show`: what the compiler made of a formula.

use crate::{
    Outcome,
    named::{Named, parse, parse_uniform},
};
use zmlx_ir::{DType, Extent, Formula, Program, Scalar, Signature, grad::vjp, program::Kind};
use zmlx_runtime::backend::cpu;

/// Show what the compiler makes of a formula
#[derive(clap::Args)]
pub struct Args {
    /// The formula, e.g. 'silu(gate) * up'
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
    /// program: typed values; kernel: passes over tiles, as the CPU runs them; formula: as parsed
    #[arg(long, default_value = "program", value_parser = ["formula", "program", "kernel", "cpu"])]
    target: String,
}

pub fn run(args: &Args) -> Outcome {
    let mut formula = Formula::parse(&args.formula)?;
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
    for name in &mut formula.names {
        name.uniform = args.uniforms.iter().find(|u| u.0 == name.name).map(|u| u.1);
    }
    if args.target == "formula" {
        println!("{formula}");
        return Ok(true);
    }
    let tensors: Vec<&str> = formula.names.iter().filter(|n| n.uniform.is_none()).map(|n| n.name.as_str()).collect();
    let mut inputs = vec![];
    for name in &tensors {
        let given = args.inputs.iter().find(|i| i.name == *name);
        let (dtype, extent) = default_type(&formula, name);
        let dtype = given.and_then(|g| g.dtype).unwrap_or(dtype);
        let extent = given.and_then(|g| g.extent).unwrap_or(extent);
        inputs.push((dtype, extent));
    }
    let mut program = formula.bind("show", &Signature { inputs })?;
    if !args.grad.is_empty() {
        let mut wrt = vec![];
        for name in &args.grad {
            match tensors.iter().position(|t| t == name) {
                Some(slot) => wrt.push(slot),
                None => return Err(format!("show: --grad {name}, expected a tensor input, got a uniform").into()),
            }
        }
        program = vjp(&program, &wrt)?;
    }
    match args.target.as_str() {
        "program" => print!("{}", program.compact()),
        _ => print!("{}", kernel(&program)?),
    }
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

fn kernel(program: &Program) -> Result<String, zmlx_runtime::Error> {
    Ok(cpu::compile(program)?.text())
}
