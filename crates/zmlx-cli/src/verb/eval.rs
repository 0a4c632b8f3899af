//! `zmlx eval`: any formula on NumPy files, forward and backward.

use crate::{
    Outcome, device, meant,
    named::{Named, parse, parse_uniform, twice},
    npy, out,
};
use candle_core::{Device, Tensor};
use std::path::{Path, PathBuf};
use zmlx::rowwise;
use zmlx_ir::{DType, Extent, Scalar};

/// Evaluate a formula on NumPy files
#[derive(clap::Args)]
pub struct Args {
    /// The formula, e.g. 'silu(gate) * up', or the name of a kernel of the catalog
    #[arg(allow_hyphen_values = true)]
    formula: String,
    /// An input: NAME=FILE.npy; NAME:row=FILE.npy for one value a row; NAME:bf16=FILE.npy converted to a dtype
    #[arg(long = "in", value_name = "NAME=FILE", value_parser = parse)]
    inputs: Vec<Named>,
    /// A launch argument: NAME=NUMBER (NAME:i64=NUMBER for an integer)
    #[arg(long = "uniform", value_name = "NAME=NUMBER", value_parser = parse_uniform)]
    uniforms: Vec<(String, Scalar)>,
    /// Where the results go, one file for each, in order
    #[arg(long, value_name = "FILE", required_unless_present = "grad")]
    out: Vec<PathBuf>,
    /// The cotangent of the first result (default: ones)
    #[arg(long, value_name = "FILE", requires = "grad")]
    grad_out: Option<PathBuf>,
    /// The inputs to differentiate by, in the order of --grad
    #[arg(long, value_name = "NAME", requires = "grad")]
    wrt: Vec<String>,
    /// Where the gradients go, one file for each --wrt
    #[arg(long, value_name = "FILE", requires = "wrt")]
    grad: Vec<PathBuf>,
    /// The device to run on (default: the best that is there)
    #[arg(long, value_parser = crate::device::NAMES)]
    device: Option<String>,
}

pub fn run(args: &Args) -> Outcome {
    if args.wrt.len() != args.grad.len() {
        return Err(format!(
            "eval: --grad, expected one file for each --wrt ({}), got {}",
            args.wrt.len(),
            args.grad.len()
        )
        .into());
    }
    let declared = args.inputs.iter().map(|i| &i.name[..]).chain(args.uniforms.iter().map(|u| &u.0[..]));
    twice("eval", "--in or --uniform", declared.clone())?;
    twice("eval", "--wrt", args.wrt.iter().map(|w| &w[..]))?;
    let files: Vec<_> = args.out.iter().chain(&args.grad).map(|f| f.to_string_lossy()).collect();
    twice("eval", "--out or --grad", files.iter().map(|f| &f[..]))?;
    let entry = meant::entry("eval", &args.formula, declared)?;
    let mut op = match entry {
        Some(entry) => {
            let uniforms = meant::uniforms(entry, &args.uniforms);
            entry.op()?.with_all(uniforms.iter().map(|(name, value)| (&name[..], *value)))
        }
        None => rowwise(args.formula.as_str())?.name("eval"),
    };
    for (name, value) in args.uniforms.iter().filter(|_| entry.is_none()) {
        op = op.uniform(name, *value);
    }
    for input in &args.inputs {
        op = match input.extent {
            Some(Extent::ROW) => op.row(&input.name),
            Some(Extent::COL) => op.col(&input.name),
            Some(Extent::UNIFORM) => {
                let name = &input.name;
                return Err(format!(
                    "eval: --in {name}, expected elem, row or col (--uniform {name}=NUMBER gives a number), got uniform"
                )
                .into());
            }
            _ => op,
        };
    }
    let op = op.build()?;
    let names: Vec<String> = op.inputs().iter().map(|n| n.to_string()).collect();
    for given in &args.inputs {
        if !names.contains(&given.name) {
            return Err(format!(
                "eval: --in {}, expected one of the formula's inputs ({}), got another name",
                given.name,
                names.join(", ")
            )
            .into());
        }
    }
    let device = device::open(args.device.as_deref())?;
    let mut tensors = vec![];
    for name in &names {
        let given = args.inputs.iter().find(|i| i.name == *name);
        let Some((given, file)) = given.and_then(|g| Some((g, g.value.as_deref()?))) else {
            return Err(format!("eval: input `{name}` of the formula, expected --in {name}=FILE.npy or --uniform {name}=NUMBER, got neither").into());
        };
        let tensor = read(Path::new(file), &device)?;
        tensors.push(match given.dtype {
            Some(DType::Bool) => tensor.ne(0f64)?,
            Some(dtype) => tensor.to_dtype(dtype.name().parse()?)?,
            None => tensor,
        });
    }
    let inputs: Vec<&Tensor> = tensors.iter().collect();
    let outputs = op.call_all(&inputs[..])?;
    if !args.out.is_empty() && args.out.len() != outputs.len() {
        return Err(
            format!("eval: --out, expected {} (one for each result), got {}", outputs.len(), args.out.len()).into()
        );
    }
    // Gradients before anything is written: a mistake leaves nothing half done.
    let mut results: Vec<(PathBuf, Tensor)> = args.out.iter().cloned().zip(outputs.iter().cloned()).collect();
    if !args.grad.is_empty() {
        let mut cotangents = vec![match &args.grad_out {
            Some(file) => read(file, &device)?.to_dtype(outputs[0].dtype())?,
            None => outputs[0].ones_like()?,
        }];
        for o in &outputs[1..] {
            cotangents.push(o.zeros_like()?);
        }
        let cotangents: Vec<&Tensor> = cotangents.iter().collect();
        let wrt: Vec<&str> = args.wrt.iter().map(String::as_str).collect();
        let grads = op.vjp_of(&inputs[..], &cotangents[..], &wrt)?;
        results.extend(args.grad.iter().cloned().zip(grads));
    }
    npy::write(&results)?;
    for (file, tensor) in results {
        let as_f32 = if npy::dtype(&tensor) == tensor.dtype() { "" } else { ", written as f32" };
        out::line(format_args!("{}: {:?} {}{as_f32}", file.display(), tensor.dims(), tensor.dtype().as_str()));
    }
    Ok(true)
}

fn read(file: &Path, device: &Device) -> Result<Tensor, String> {
    npy::read(file)?.to_device(device).map_err(|e| format!("{}: {e}", file.display()))
}
