//! `zmlx bench`: candle's plain ops, candle's own fused op where it has one, and zmlx, side by side: the same output
//! checked first, then timed in turns, so that what else the machine does hits all of them alike.

use crate::{Outcome, allocator, device, peer::Peer, table};
use candle_core::{D, DType as CandleType, Device, Tensor, Var};
use serde_json::json;
use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};
use zmlx::{
    catalog::ENTRIES,
    entry::{ArgShape, Entry, Gradient, Values},
};
use zmlx_ir::{DType, Scalar};

/// Time the catalog beside candle (and PyTorch)
#[derive(clap::Args)]
pub struct Args {
    /// Only kernels whose name holds this (may be repeated)
    #[arg(long)]
    filter: Vec<String>,
    /// Rows and columns, e.g. 4096x4096 (may be repeated; default: 4096x4096 and 64x1024)
    #[arg(long, value_parser = shape)]
    shape: Vec<(usize, usize)>,
    /// f32 or bf16 (may be repeated; default: both)
    #[arg(long, value_parser = ["f32", "bf16", "f16", "f64"])]
    dtype: Vec<String>,
    /// Leave the gradients out
    #[arg(long, conflicts_with = "gradient")]
    forward: bool,
    /// Only the gradients
    #[arg(long)]
    gradient: bool,
    /// A peer to time in the same run, e.g. "python3 benches/peers/torch_peer.py"
    #[arg(long, value_name = "COMMAND")]
    peer: Option<String>,
    /// Timed rounds of each
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// A list, one object a row
    #[arg(long)]
    json: bool,
    /// The device to run on (default: the best that is there)
    #[arg(long, value_parser = crate::device::NAMES)]
    device: Option<String>,
}

fn shape(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("expected ROWSxCOLS, got `{text}`");
    let (r, c) = text.split_once('x').ok_or_else(wrong)?;
    Ok((r.parse().map_err(|_| wrong())?, c.parse().map_err(|_| wrong())?))
}

type Anything = Result<Tensor, Box<dyn std::error::Error>>;

/// Something that computes the operation.
struct Way<'a> {
    name: String,
    run: Box<dyn FnMut() -> Anything + 'a>,
    /// The peer times itself.
    peer: Option<usize>,
    seconds: Vec<f64>,
}

fn way<'a>(name: &str, run: impl FnMut() -> Anything + 'a) -> Way<'a> {
    Way { name: name.into(), run: Box::new(run), peer: None, seconds: vec![] }
}

/// One line of the report.
struct Line {
    kernel: String,
    dtype: &'static str,
    shape: (usize, usize),
    pass: &'static str,
    floor_bytes: f64,
    ways: Vec<(String, f64, f64, f64)>,
    /// Who gives another output, and how far off it is; they are not timed.
    differs: Vec<(String, String)>,
}

const ZMLX: &str = "zmlx";
/// Between one way's turn and the next.
const REST: Duration = Duration::from_millis(20);

pub fn run(args: &Args) -> Outcome {
    let device = &device::open(args.device.as_deref())?;
    let shapes = if args.shape.is_empty() { vec![(4096, 4096), (64, 1024)] } else { args.shape.clone() };
    let dtypes = if args.dtype.is_empty() { vec!["f32".to_string(), "bf16".into()] } else { args.dtype.clone() };
    let mut peer = args.peer.as_deref().map(Peer::start).transpose()?;
    let versions = peer.as_mut().map(Peer::versions).transpose()?;
    let wanted = |e: &&Entry| args.filter.is_empty() || args.filter.iter().any(|f| e.name.contains(f.as_str()));
    let entries: Vec<&Entry> = ENTRIES.iter().copied().filter(wanted).collect();
    if entries.is_empty() {
        return Err(format!(
            "bench: --filter {}, expected part of a kernel's name, got none",
            args.filter.join(" --filter ")
        )
        .into());
    }
    let mut lines = vec![];
    let progress = !args.json && std::io::stderr().is_terminal();
    for &(rows, cols) in &shapes {
        for dtype in dtypes.iter().filter_map(|d| DType::from_name(d)) {
            let first = lines.len();
            lines.push(memcpy(rows, cols, dtype, args.rounds, device)?);
            for entry in &entries {
                for backward in [false, true] {
                    let left_out = if backward { args.forward } else { args.gradient };
                    if left_out || backward && entry.gradient != Gradient::Derived {
                        continue;
                    }
                    if progress {
                        eprint!("\r\x1b[K{} {dtype} {rows}×{cols} …", entry.name);
                        std::io::stderr().flush()?;
                    }
                    let size = Size { rows, cols, dtype, backward, rounds: args.rounds };
                    lines.push(measure(entry, size, device, peer.as_mut())?);
                }
            }
            if progress {
                eprint!("\r\x1b[K");
            }
            if !args.json {
                report(&lines[first..]);
            }
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines.iter().map(object).collect::<Vec<_>>())?);
    } else {
        legend(versions.as_deref(), device);
    }
    Ok(true)
}

fn tensor(values: Values, dims: &[usize], cols: usize, dtype: CandleType, d: &Device) -> candle_core::Result<Tensor> {
    match values {
        Values::Normal(s) => Tensor::randn(0f32, s as f32, dims, d)?.to_dtype(dtype),
        Values::Range(lo, hi) => Tensor::rand(lo as f32, hi as f32, dims, d)?.to_dtype(dtype),
        Values::Mask => Tensor::rand(0f32, 1f32, dims, d)?.ge(0.3f32),
        Values::Column => (Tensor::rand(0f32, 1f32, dims, d)? * (cols as f64 - 1.0))?.to_dtype(CandleType::U32),
    }
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
fn memcpy(
    rows: usize,
    cols: usize,
    dtype: DType,
    rounds: usize,
    device: &Device,
) -> Result<Line, Box<dyn std::error::Error>> {
    let bytes = rows * cols * dtype.size_bytes();
    let from = vec![1u8; bytes];
    let there = match device {
        Device::Cpu => None,
        device => Some(Tensor::rand(0f32, 1f32, bytes / 4, device)?),
    };
    let copy = || -> Anything {
        match &there {
            Some(there) => Ok(there.copy()?),
            None => {
                std::hint::black_box(from.clone());
                Ok(Tensor::zeros((), CandleType::F32, &Device::Cpu)?)
            }
        }
    };
    let mut ways = [way("memcpy", copy)];
    time(&mut ways, rounds, None, device)?;
    Ok(Line {
        kernel: "memcpy".into(),
        dtype: dtype.name(),
        shape: (rows, cols),
        pass: "copy",
        floor_bytes: 2.0 * bytes as f64,
        ways: ways.iter().map(summary).collect(),
        differs: vec![],
    })
}

/// What is measured.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    cols: usize,
    dtype: DType,
    backward: bool,
    rounds: usize,
}

fn measure(
    entry: &Entry,
    size: Size,
    device: &Device,
    mut peer: Option<&mut Peer>,
) -> Result<Line, Box<dyn std::error::Error>> {
    let Size { rows, cols, dtype, backward, rounds } = size;
    let cd = match dtype {
        DType::BF16 => CandleType::BF16,
        DType::F16 => CandleType::F16,
        DType::F64 => CandleType::F64,
        _ => CandleType::F32,
    };
    let dims = |s: ArgShape| match s {
        ArgShape::Full => vec![rows, cols],
        ArgShape::Col => vec![cols],
        ArgShape::Row => vec![rows],
    };
    let inputs: Vec<Tensor> = entry
        .args
        .iter()
        .map(|a| tensor(a.values, &dims(a.shape), cols, cd, device))
        .collect::<candle_core::Result<_>>()?;
    let uniforms: Vec<Scalar> = entry.uniforms.iter().map(|u| u.1).collect();
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let first = entry.run(&refs, &uniforms)?.swap_remove(0);
    let named = || entry.uniforms.iter().map(|u| (u.0, u.1));
    let op = entry.op()?.with_all(named());
    let cotangent = Tensor::randn(0f32, 1.0, first.dims(), device)?.to_dtype(first.dtype())?;
    let outputs = entry.run(&refs, &uniforms)?;
    let mut cotangents = vec![cotangent.clone()];
    for o in &outputs[1..] {
        cotangents.push(o.zeros_like()?);
    }
    drop(outputs);
    let cots: Vec<&Tensor> = cotangents.iter().collect();
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>()?;
    let floats: Vec<bool> = entry.args.iter().map(|a| a.is_float()).collect();
    let leaves: Vec<Tensor> = vars
        .iter()
        .zip(&floats)
        .map(|(v, f)| if *f { v.as_tensor().clone() } else { v.as_detached_tensor() })
        .collect();
    let leaf_refs: Vec<&Tensor> = leaves.iter().collect();
    let lead = floats.iter().position(|f| *f).unwrap_or(0);
    // y · cotangent summed has the cotangent for its gradient
    let back = |y: &Tensor| -> Anything {
        let loss = (y * &cotangent)?.sum_all()?;
        let grads = loss.backward()?;
        Ok(grads.get(&vars[lead]).ok_or("no gradient")?.clone())
    };
    let mut ways = vec![];
    if backward {
        let both = || -> Anything {
            std::hint::black_box(op.call_all(&refs[..])?);
            Ok(op.vjp(&refs[..], &cots[..])?.into_iter().flatten().next().ok_or("no gradient")?)
        };
        ways.push(way(ZMLX, both));
        ways.push(way("vjp alone", || {
            Ok(op.vjp(&refs[..], &cots[..])?.into_iter().flatten().next().ok_or("no gradient")?)
        }));
        ways.push(way("with backward()", || back(&op.call_all(&leaf_refs[..])?[0])));
        ways.push(way("candle plain", || back(&(entry.fallback)(&leaves, &uniforms)?[0])));
    } else {
        ways.push(way(ZMLX, || Ok(op.call_all(&refs[..])?.swap_remove(0))));
        ways.push(way("candle plain", || Ok((entry.fallback)(&inputs, &uniforms)?.swap_remove(0))));
        if let Some(f) = fused(entry.name) {
            let inputs = &inputs;
            ways.push(way("candle fused", move || Ok(f(inputs)?)));
        }
    }
    let mut given = inputs.clone();
    if backward {
        given.push(cotangent.clone());
    }
    let theirs = match peer.as_deref_mut() {
        Some(peer) => peer.setup(entry.name, dtype.name(), backward, &given)?,
        None => vec![],
    };
    // The same output first: who gives another one is not timed. zmlx itself must give that of plain ops in f32, as plain
    // ops in 16 bit, which add up in 16 bit, may not.
    let want = (ways[0].run)()?;
    if !backward && entry.name != "dropout" && cd != CandleType::F64 {
        // on the CPU, where candle has all of them
        let wide = |t: &Tensor| {
            let t = t.to_device(&Device::Cpu)?;
            if t.dtype() == cd { t.to_dtype(CandleType::F32) } else { Ok(t) }
        };
        let wide: Vec<Tensor> = inputs.iter().map(wide).collect::<candle_core::Result<_>>()?;
        let plain = (entry.fallback)(&wide, &uniforms)?.swap_remove(0);
        same(&want, &plain, dtype).map_err(|why| format!("bench: {} {dtype}: zmlx is wrong: {why}", entry.name))?;
    }
    let mut differs = vec![];
    let mut agreeing = vec![];
    for (k, mut way) in ways.into_iter().enumerate() {
        let mut other = || (way.run)().map_err(|e| e.to_string()).and_then(|got| same(&got, &want, dtype));
        match if k == 0 { Ok(()) } else { other() } {
            Ok(()) => agreeing.push(way),
            Err(why) => differs.push((way.name, why)),
        }
    }
    let mut ways = agreeing;
    for (k, name) in theirs.into_iter().enumerate() {
        if let Some(peer) = peer.as_deref_mut()
            && entry.name != "dropout"
            && let Err(why) = same(&peer.output(k)?, &want, dtype)
        {
            differs.push((name, why));
            continue;
        }
        let nothing = || -> Anything { Err("the peer runs itself".into()) };
        ways.push(Way { name, run: Box::new(nothing), peer: Some(k), seconds: vec![] });
    }
    time(&mut ways, rounds, peer, device)?;
    let elems = rows * cols;
    let floor = entry.floor_bytes(elems, dtype);
    Ok(Line {
        kernel: entry.name.into(),
        dtype: dtype.name(),
        shape: (rows, cols),
        pass: if backward { "forward + gradient" } else { "forward" },
        // forward, then inputs and cotangent read and gradients written
        floor_bytes: if backward { 2.0 * floor + (elems * dtype.size_bytes()) as f64 } else { floor },
        ways: ways.iter().map(summary).collect(),
        differs,
    })
}

/// Equal within what two correct computations of this dtype may differ by: a few roundings of the largest value.
fn same(got: &Tensor, want: &Tensor, dtype: DType) -> Result<(), String> {
    let go = || -> candle_core::Result<(f32, f32)> {
        let want = want.to_device(&Device::Cpu)?.to_dtype(CandleType::F32)?.flatten_all()?;
        let got = got.to_device(&Device::Cpu)?.to_dtype(CandleType::F32)?.flatten_all()?;
        let scale = want.abs()?.max(0)?.to_scalar::<f32>()?;
        Ok(((got - want)?.abs()?.max(0)?.to_scalar::<f32>()?, scale))
    };
    let (diff, scale) = go().map_err(|e| e.to_string())?;
    // plain ops in 16 bit round after every op; in f32 long sums in f32 lose a few digits
    let limit = scale * if dtype.size_bytes() == 2 { 0.06 } else { 2e-4 };
    if diff <= limit { Ok(()) } else { Err(format!("largest difference {diff:e}, expected at most {limit:e}")) }
}

/// Times all ways in turns; a sample of something fast is many runs.
fn time(
    ways: &mut [Way<'_>],
    rounds: usize,
    mut peer: Option<&mut Peer>,
    device: &Device,
) -> Result<(), Box<dyn std::error::Error>> {
    let once =
        |way: &mut Way<'_>, count: usize, peer: &mut Option<&mut Peer>| -> Result<f64, Box<dyn std::error::Error>> {
            if let Some(k) = way.peer {
                return peer.as_deref_mut().ok_or("the peer is gone")?.time(k, count);
            }
            device.synchronize()?;
            let start = Instant::now();
            for _ in 0..count {
                std::hint::black_box((way.run)()?);
            }
            device.synchronize()?;
            Ok(start.elapsed().as_secs_f64() / count as f64)
        };
    let mut counts = vec![];
    for way in ways.iter_mut() {
        once(way, 1, &mut peer)?;
        let t = once(way, 1, &mut peer)?;
        // waiting for a GPU takes tens of microseconds
        let sample = if matches!(device, Device::Cpu) { 5e-3 } else { 20e-3 };
        counts.push(((sample / t.max(1e-9)) as usize).clamp(1, 1000));
    }
    for _ in 0..rounds {
        for (way, count) in ways.iter_mut().zip(&counts) {
            // idle threads of the last one spin for a while; a run that is not timed wakes this one's
            std::thread::sleep(REST);
            once(way, 1, &mut peer)?;
            let t = once(way, *count, &mut peer)?;
            way.seconds.push(t);
        }
    }
    Ok(())
}

/// Name, median, and the 20th and 80th percentile, in milliseconds.
fn summary(way: &Way<'_>) -> (String, f64, f64, f64) {
    let mut s = way.seconds.clone();
    s.sort_by(f64::total_cmp);
    let at = |q: f64| s[((s.len() - 1) as f64 * q).round() as usize] * 1e3;
    (way.name.clone(), at(0.5), at(0.2), at(0.8))
}

fn object(l: &Line) -> serde_json::Value {
    let ways: serde_json::Map<_, _> =
        l.ways.iter().map(|(n, m, lo, hi)| (n.clone(), json!({"median_ms": m, "p20_ms": lo, "p80_ms": hi}))).collect();
    json!({
        "kernel": l.kernel, "dtype": l.dtype, "rows": l.shape.0, "cols": l.shape.1, "pass": l.pass,
        "floor_bytes": l.floor_bytes, "floor_gbps": l.floor_bytes / l.ways[0].1 / 1e6, "ways": ways,
        "differs": l.differs.iter().map(|(name, why)| (name.clone(), json!(why))).collect::<serde_json::Map<_, _>>(),
    })
}

/// A table for each shape, dtype and pass; other ways as multiples of zmlx's time.
fn report(lines: &[Line]) {
    let mut groups: Vec<(&str, (usize, usize), &str)> = vec![];
    for l in lines.iter().filter(|l| l.pass != "copy") {
        if !groups.contains(&(l.dtype, l.shape, l.pass)) {
            groups.push((l.dtype, l.shape, l.pass));
        }
    }
    for (dtype, shape, pass) in groups {
        println!("\n{dtype} {}×{}, {pass}", shape.0, shape.1);
        let here: Vec<&Line> = lines
            .iter()
            .filter(|l| (l.dtype, l.shape) == (dtype, shape) && (l.pass == pass || l.pass == "copy"))
            .collect();
        let mut names: Vec<&str> = vec![];
        for l in here.iter().filter(|l| l.pass != "copy") {
            for name in l.ways[1..].iter().map(|w| &w.0).chain(l.differs.iter().map(|d| &d.0)) {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        let mut header = vec!["kernel", "zmlx ms", "p20–p80", "GB/s"];
        header.extend(&names);
        let rows: Vec<Vec<String>> = here
            .iter()
            .map(|l| {
                let (_, median, lo, hi) = &l.ways[0];
                let mut row = vec![
                    l.kernel.clone(),
                    format!("{median:.3}"),
                    format!("{lo:.3}–{hi:.3}"),
                    format!("{:.1}", l.floor_bytes / median / 1e6),
                ];
                row.extend(names.iter().map(|n| match l.ways[1..].iter().find(|w| w.0 == *n) {
                    Some((_, m, ..)) => format!("{:.2}×", m / median),
                    None if l.differs.iter().any(|d| d.0 == *n) => "differs".into(),
                    None => "–".into(),
                }));
                row
            })
            .collect();
        table::print(&header, &rows);
        for (l, (name, why)) in here.iter().flat_map(|l| l.differs.iter().map(move |d| (l, d))) {
            println!("{}: {name} differs and was not timed: {why}", l.kernel);
        }
    }
}

/// What the tables mean.
fn legend(versions: Option<&str>, device: &Device) {
    println!("\nms: median of interleaved rounds. GB/s: bytes that must move at least, by zmlx's time.");
    println!("Other columns: their time as a multiple of zmlx's; above 1× zmlx is faster. Same output, checked first.");
    println!(
        "On {}, all of it in one process with one allocator ({}){}",
        device::name(device),
        if matches!(device, Device::Cpu) { allocator::NAME } else { "candle's" },
        match versions {
            Some(v) => format!("; the peer in its own, with its own: {v}."),
            None => ".".into(),
        }
    );
}
