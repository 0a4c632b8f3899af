//! What `zmlx bench` measures: an entry in one shape and dtype, forward or gradient. Inputs are made from seeds, the outputs
//! of all are compared, then all are timed in turns.

mod check;
pub mod inputs;
pub mod line;
pub mod model;
pub mod peer;
pub mod plot;
pub mod portable;
mod time;

use candle_core::{D, DType as CandleType, Device, Tensor, Var};
use check::{Case, plain_is_timed};
use inputs::Seeded;
use line::Line;
use peer::Peer;
use time::{Way, time};
use zmlx::{
    entry::{Entry, Gradient},
    harness::{
        difference::{Within, difference},
        programs,
    },
    testing::poison_outputs,
};
use zmlx_ir::{DType, Scalar, program::Kind};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Names of the ways in this process, in the order of their columns.
pub const ZMLX: &str = "zmlx";
pub const FORWARD: [&str; 2] = ["candle plain", "candle fused"];
pub const GRADIENT: [&str; 3] = [VJP, "with backward()", "candle plain"];
pub const VJP: &str = "vjp alone";

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub rows: usize,
    pub cols: usize,
    pub dtype: DType,
    pub backward: bool,
    pub rounds: usize,
}

type CandleOp = fn(&[Tensor]) -> candle_core::Result<Tensor>;

/// candle's own single op, where it has one.
fn fused(name: &str) -> Option<CandleOp> {
    use candle_nn::ops;
    Some(match name {
        "add" => |t| &t[0] + &t[1],
        "exp" => |t| t[0].exp(),
        "sigmoid" => |t| ops::sigmoid(&t[0]),
        "silu" => |t| t[0].silu(),
        "gelu" => |t| t[0].gelu(),
        "gelu_erf" => |t| t[0].gelu_erf(),
        "elu" => |t| t[0].elu(1.0),
        "softmax" => |t| ops::softmax_last_dim(&t[0]),
        "rms_norm" => |t| ops::rms_norm(&t[0], &t[1], 1e-5),
        "layer_norm" => |t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5),
        "sum" => |t| t[0].sum(D::Minus1),
        "mean" => |t| t[0].mean(D::Minus1),
        _ => return None,
    })
}

/// Copying into memory that was just allocated: the floor of every operation with a fresh output.
pub fn memcpy(rows: usize, cols: usize, dtype: DType, rounds: usize, device: &Device) -> Result<Line> {
    let bytes = rows * cols * dtype.size_bytes();
    let there = match device {
        Device::Cpu => Err(vec![1u8; bytes]),
        device => Ok(Tensor::rand(0f32, 1f32, bytes.div_ceil(4), device)?),
    };
    let copy = || match &there {
        Ok(there) => Ok(there.copy()?),
        Err(here) => {
            std::hint::black_box(here.clone());
            Ok(Tensor::zeros((), CandleType::F32, &Device::Cpu)?)
        }
    };
    let ways = time(vec![Way::new("memcpy", copy)], rounds, None, device)?;
    Ok(Line {
        kernel: "memcpy".into(),
        dtype: dtype.name().into(),
        rows,
        cols,
        pass: line::COPY.into(),
        floor_bytes: 2.0 * bytes as f64,
        ways,
        ..Line::default()
    })
}

fn candle_type(dtype: DType) -> CandleType {
    match dtype {
        DType::BF16 => CandleType::BF16,
        DType::F16 => CandleType::F16,
        DType::F64 => CandleType::F64,
        _ => CandleType::F32,
    }
}

/// Of memory: an element that a view repeats is there once.
fn bytes(tensors: &[Tensor]) -> f64 {
    let elements =
        |t: &Tensor| t.dims().iter().zip(t.stride()).map(|(d, s)| if *s == 0 { 1 } else { *d }).product::<usize>();
    tensors.iter().map(|t| (elements(t) * t.dtype().size_in_bytes()) as f64).sum()
}

/// What a gradient must move at least: the inputs and cotangents that it depends on, and the gradients.
fn gradient_bytes(entry: &Entry, dtype: DType, given: &[Tensor], gradients: &[Tensor]) -> Result<f64> {
    let (forward, Some(program)) = programs(entry, dtype)? else { return Ok(0.0) };
    let (live, columns) = (program.live(), forward.columns());
    let mut read = vec![false; given.len()];
    for id in program.ids().filter(|id| live[id.index()]) {
        if let Kind::Input(k) = program.node(id).kind {
            // of results side by side, each has a cotangent of its own, which lies in that of their tensor
            let result = (k as usize).checked_sub(entry.args.len());
            let tensor = result.map(|k| entry.args.len() + columns[k].tensor);
            read[tensor.unwrap_or(k as usize)] = true;
        }
    }
    let read: Vec<Tensor> = given.iter().zip(read).filter(|(_, r)| *r).map(|(t, _)| t.clone()).collect();
    Ok(bytes(&read) + bytes(gradients))
}

/// Checks and times an entry.
pub fn measure(entry: &Entry, size: Size, device: &Device, mut peer: Option<&mut Peer>) -> Result<Line> {
    let Size { rows, cols, dtype, backward, rounds } = size;
    let cd = candle_type(dtype);
    let mut seeded = Seeded::of(entry, rows, cols, cd);
    let inputs: Vec<Tensor> = seeded.iter().map(|s| s.tensor(device)).collect::<candle_core::Result<_>>()?;
    let uniforms: Vec<Scalar> = entry.uniforms.iter().map(|u| u.1).collect();
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let op = entry.op()?.with_all(entry.uniforms.iter().map(|u| (u.0, u.1)));
    let elems = rows * cols;
    let mut line = Line::named(entry.name, dtype, size);
    line.floor_bytes = entry.floor_bytes(elems, dtype);
    // zmlx's outputs, from memory that held NaN
    poison_outputs(true);
    let outputs = op.call_all(&refs[..]);
    poison_outputs(false);
    let outputs = outputs?;
    let mut cotangents = vec![];
    let mut want = outputs;
    if backward {
        // a cotangent for the first result alone: that is what a loss on it gives
        for (k, y) in want.iter().enumerate() {
            if k == 0 {
                let values = zmlx::entry::Values::Normal(1.0);
                let g = Seeded { values, shape: y.dims().to_vec(), seed: 100, cols, dtype: y.dtype() };
                cotangents.push(g.tensor(device)?);
                seeded.push(g);
            } else {
                cotangents.push(y.zeros_like()?);
            }
        }
        let cots: Vec<&Tensor> = cotangents.iter().collect();
        poison_outputs(true);
        let gradients = op.vjp(&refs[..], &cots[..]);
        poison_outputs(false);
        want = gradients?.into_iter().flatten().collect();
        let given: Vec<Tensor> = inputs.iter().chain(&cotangents).cloned().collect();
        line.vjp_floor_bytes = gradient_bytes(entry, dtype, &given, &want)?;
        line.floor_bytes += line.vjp_floor_bytes;
    }
    let case = Case { entry, dtype, inputs: &inputs, uniforms: &uniforms, cotangents: backward.then_some(&cotangents) };
    let checked = case.check(&want)?;
    line.checked = checked.how;
    line.wrong = checked.wrong;
    if line.wrong.is_some() {
        return Ok(line);
    }
    let cots: Vec<&Tensor> = cotangents.iter().collect();
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>()?;
    let floats: Vec<bool> = entry.args.iter().map(|a| a.is_float()).collect();
    let leaf = |(v, f): (&Var, &bool)| if *f { v.as_tensor().clone() } else { v.as_detached_tensor() };
    let leaves: Vec<Tensor> = vars.iter().zip(&floats).map(leaf).collect();
    let leaf_refs: Vec<&Tensor> = leaves.iter().collect();
    let lead = floats.iter().position(|f| *f).unwrap_or(0);
    // candle starts with ones, so y · cotangent has the cotangent for its gradient
    let back = |y: &Tensor| -> Result<Tensor> {
        let grads = (y * &cotangents[0].to_dtype(y.dtype())?)?.backward()?;
        Ok(grads.get(&vars[lead]).ok_or("no gradient")?.clone())
    };
    let vjp = || Ok(op.vjp(&refs[..], &cots[..])?.into_iter().flatten().next().ok_or("no gradient")?);
    let plain = plain_is_timed(entry, cols, device);
    let (mut ours, mut others) = (vec![], vec![]);
    if backward {
        ours.push(Way::new(ZMLX, || {
            std::hint::black_box(op.call_all(&refs[..])?);
            vjp()
        }));
        ours.push(Way::new(VJP, vjp));
        others.push(Way::new("with backward()", || back(&op.call_all(&leaf_refs[..])?[0])));
        if plain {
            others.push(Way::new("candle plain", || back(&(entry.fallback)(&leaves, &uniforms)?[0])));
        }
    } else {
        ours.push(Way::new(ZMLX, || Ok(op.call_all(&refs[..])?.swap_remove(0))));
        if plain {
            others.push(Way::new("candle plain", || Ok((entry.fallback)(&inputs, &uniforms)?.swap_remove(0))));
        }
        if let Some(f) = fused(entry.name) {
            let inputs = &inputs;
            others.push(Way::new("candle fused", move || Ok(f(inputs)?)));
        }
    }
    // who gives another output is not timed
    for mut way in others {
        let told = (way.run)().and_then(|got| Ok(difference(&got, &want[0], Within::plain_ops(cd))?));
        match told.unwrap_or_else(|e| Some(e.to_string())) {
            None => ours.push(way),
            Some(why) => line.differs.push((way.name, why)),
        }
    }
    if let Some(peer) = peer.as_deref_mut() {
        let same = |told: &peer::Told| told.differs(&want, Within::plain_ops(cd));
        let theirs = peer.prepare(entry.name, backward, &seeded, same)?;
        for (name, outcome) in theirs {
            match outcome {
                Ok(number) => ours.push(Way::of_peer(name, number)),
                Err(why) => line.differs.push((name, why)),
            }
        }
    }
    line.ways = time(ours, rounds, peer, device)?;
    Ok(line)
}

/// Has this entry a gradient to measure?
pub fn has_gradient(entry: &Entry) -> bool {
    entry.gradient == Gradient::Derived
}
