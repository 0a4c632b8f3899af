//! `zmlx eval`: any formula on NumPy files, forward and backward.

use crate::{
    Outcome, device,
    named::{Named, parse, parse_uniform},
};
use candle_core::{Device, Tensor};
use std::path::{Path, PathBuf};
use zmlx::{Op, rowwise};
use zmlx_ir::{Extent, Scalar};

/// Evaluate a formula on NumPy files
#[derive(clap::Args)]
pub struct Args {
    /// The formula, e.g. 'silu(gate) * up'
    #[arg(allow_hyphen_values = true)]
    formula: String,
    /// An input: NAME=FILE.npy, or NAME:row=FILE.npy for one value a row
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
    let mut op: Op = rowwise(args.formula.as_str())?.name("eval");
    for (name, value) in &args.uniforms {
        op = op.uniform(name, *value);
    }
    for input in &args.inputs {
        op = match input.extent {
            Some(Extent::ROW) => op.row(&input.name),
            Some(Extent::COL) => op.col(&input.name),
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
        let Some(file) = given.and_then(|g| g.value.as_deref()) else {
            return Err(format!("eval: input `{name}` of the formula, expected --in {name}=FILE.npy or --uniform {name}=NUMBER, got neither").into());
        };
        tensors.push(read(Path::new(file), &device)?);
    }
    let inputs: Vec<&Tensor> = tensors.iter().collect();
    let outputs = op.call_all(&inputs[..])?;
    if !args.out.is_empty() && args.out.len() != outputs.len() {
        return Err(
            format!("eval: --out, expected {} (one for each result), got {}", outputs.len(), args.out.len()).into()
        );
    }
    // Gradients before anything is written: a mistake leaves nothing half done.
    let mut results: Vec<(&PathBuf, Tensor)> = args.out.iter().zip(outputs.iter().cloned()).collect();
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
        results.extend(args.grad.iter().zip(grads));
    }
    for (file, tensor) in results {
        write(file, &tensor)?;
        println!("{}: {:?} {}", file.display(), tensor.dims(), tensor.dtype().as_str());
    }
    Ok(true)
}

fn read(file: &Path, device: &Device) -> Result<Tensor, String> {
    let tensor = Tensor::read_npy(file).map_err(|e| format!("{}: {e}", file.display()))?;
    tensor.to_device(device).map_err(|e| e.to_string())
}

/// Writes beside the file and renames, so that a full disk leaves no half file. NumPy has no bf16: it becomes f32.
fn write(file: &Path, tensor: &Tensor) -> Result<(), String> {
    let tell = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let tensor = if tensor.dtype() == candle_core::DType::BF16 {
        tensor.to_dtype(candle_core::DType::F32).map_err(|e| tell(&e))?
    } else {
        tensor.clone()
    };
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let written = tensor.to_device(&Device::Cpu).and_then(|t| t.contiguous()?.write_npy(&part)).map_err(|e| tell(&e));
    let moved = written.and_then(|()| std::fs::rename(&part, file).map_err(|e| tell(&e)));
    if moved.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    moved
}
