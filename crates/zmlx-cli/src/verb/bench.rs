//! `zmlx bench`: candle's plain ops, candle's own fused op where it has one, a peer's, and zmlx, side by side: the same output
//! checked first, then timed in turns. A row is printed as soon as it is measured.

use crate::{
    Outcome, allocator,
    bench::{self, Size, line, line::Line, peer::Peer, plot},
    choice::{Choice, choose},
    device, out,
    report::Report,
    table::Live,
};
use candle_core::Device;
use std::{
    fs::OpenOptions,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};
use zmlx::{catalog::ENTRIES, entry::Entry, portable::PORTABLES};
use zmlx_ir::DType;

/// Time the catalog beside candle (and PyTorch)
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Only kernels whose name holds this (may be repeated; default: some of each kind)
    #[arg(long)]
    filter: Vec<String>,
    /// Only kernels whose name is the filter's, whole
    #[arg(long, requires = "filter")]
    exact: bool,
    /// The whole catalog, which takes an hour on a CPU
    #[arg(long, conflicts_with = "filter")]
    all: bool,
    /// Rows and columns, e.g. 4096x4096 (may be repeated; default: 4096x4096 and 64x1024)
    #[arg(long, value_parser = shape)]
    shape: Vec<(usize, usize)>,
    /// A sweep: lengths of rows, e.g. 256,1024,4096, each with as many rows as --elements gives
    #[arg(long, value_delimiter = ',', value_parser = count)]
    cols: Vec<usize>,
    /// Elements of each shape of a sweep; k, M and G are powers of 1024
    #[arg(long, default_value = "64M", value_parser = count)]
    elements: usize,
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
    /// Seconds that each way of the peer may take to get ready; what takes longer is left out
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    peer_limit: f64,
    /// Timed rounds of each
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// One object a line, for each row
    #[arg(long)]
    json: bool,
    /// Append the machine and the rows to this file, one object a line (on metal: zmlx-report.json unless told otherwise)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Draw the part of a copy's bandwidth by length of the row, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Draw what is in a file of --report or --json, and measure nothing
    #[arg(long, value_name = "FILE", requires = "plot")]
    from: Option<PathBuf>,
    /// The device to run on (default: the best that is there)
    #[arg(long, value_parser = crate::device::NAMES)]
    device: Option<String>,
}

/// What else is measured.
#[derive(clap::Subcommand)]
enum What {
    Model(bench::model::Args),
}

/// What is measured unless told otherwise: ZMLX's own table of operations, and what a language model is made of.
const FIRST: [&str; 12] = [
    "swiglu",
    "dropout",
    "top_k",
    "gather_add",
    "softmax",
    "rms_norm",
    "sum",
    "cumsum",
    "gelu",
    "layer_norm",
    "rope",
    "cross_entropy",
];

/// Most elements of a shape: more than any memory holds is an error here and no allocation that fails later.
const MOST: usize = 1 << 34;

pub fn shape(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("expected ROWSxCOLS, got `{text}`");
    let (r, c) = text.split_once('x').ok_or_else(wrong)?;
    let (r, c) = (r.parse::<usize>().map_err(|_| wrong())?, c.parse::<usize>().map_err(|_| wrong())?);
    match r.checked_mul(c) {
        Some(0) => Err(wrong()),
        Some(1..=MOST) => Ok((r, c)),
        _ => Err(format!("expected at most {} G elements, got `{text}`", MOST >> 30)),
    }
}

/// `4096`, `64k`, `64M`.
fn count(text: &str) -> Result<usize, String> {
    let unit = match text.chars().last() {
        Some('k' | 'K') => 1usize << 10,
        Some('M') => 1 << 20,
        Some('G') => 1 << 30,
        _ => 1,
    };
    let digits = if unit == 1 { text } else { &text[..text.len() - 1] };
    let number = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| (1..=MOST).contains(n));
    number.ok_or_else(|| format!("expected a number up to {} G, or one with k, M or G, got `{text}`", MOST >> 30))
}

impl Args {
    fn shapes(&self) -> Vec<(usize, usize)> {
        let sweep = self.cols.iter().map(|c| ((self.elements / c).max(1), *c));
        let shapes: Vec<_> = self.shape.iter().copied().chain(sweep).collect();
        if shapes.is_empty() { vec![(4096, 4096), (64, 1024)] } else { shapes }
    }

    fn dtypes(&self) -> Vec<DType> {
        let named: Vec<DType> = self.dtype.iter().filter_map(|d| DType::from_name(d)).collect();
        if named.is_empty() { vec![DType::F32, DType::BF16] } else { named }
    }
}

pub fn run(args: &Args) -> Outcome {
    if let Some(What::Model(args)) = &args.what {
        return bench::model::run(args);
    }
    if let (Some(from), Some(plot)) = (&args.from, &args.plot) {
        plot::write(&read(from)?, plot)?;
        return Ok(true);
    }
    let Choice { mut entries, mut by_hand } = choose("bench", &args.filter, args.exact)?;
    if args.filter.is_empty() && !args.all {
        entries.retain(|e| FIRST.contains(&e.name));
        by_hand.retain(|p| FIRST.contains(&p.name));
    }
    if let Some(plot) = &args.plot {
        // an hour of measuring is not for nothing
        let opened = OpenOptions::new().create(true).append(true).open(plot);
        opened.map_err(|e| format!("bench: --plot {}: {e}", plot.display()))?;
    }
    let device = &device::open(args.device.as_deref())?;
    let limit = Duration::try_from_secs_f64(args.peer_limit)
        .map_err(|e| format!("bench: --peer-limit, expected seconds, got {} ({e})", args.peer_limit))?;
    let mut peer = args.peer.as_deref().map(|command| Peer::start(command, limit)).transpose()?;
    let facts = peer.as_mut().map(Peer::facts).transpose()?;
    let report = Report::open("bench", args.report.as_deref(), device, args.json)?;
    let theirs = facts.as_ref().map(|f| f.ways.clone()).unwrap_or_default();
    let mut run = Run { args, device, peer, theirs, report, lines: vec![], failed: 0 };
    let shapes = if entries.is_empty() { vec![] } else { args.shapes() };
    for &(rows, cols) in &shapes {
        for dtype in args.dtypes() {
            run.group(&entries, rows, cols, dtype)?;
        }
        if let Some(plot) = &args.plot
            && run.lines.iter().any(|l| l.pass != line::COPY && !l.ways.is_empty())
        {
            plot::write(&run.lines, plot)?;
        }
    }
    for dtype in if by_hand.is_empty() || args.gradient { vec![] } else { args.dtypes() } {
        let copy = bench::memcpy(4096, 8192, dtype, args.rounds, device)?.gbps();
        let dtype: candle_core::DType = dtype.name().parse()?;
        for row in bench::portable::measure(&by_hand, dtype, copy, args.rounds, args.json, device)? {
            run.report.row(row)?;
        }
    }
    if !args.json {
        if args.filter.is_empty() && !args.all {
            out::line(format_args!(
                "\n{} of {} kernels; `--all` measures the others too.",
                entries.len(),
                ENTRIES.len() + PORTABLES.len()
            ));
        }
        legend(facts.map(|f| f.versions).as_deref(), device);
    }
    run.report.tell();
    Ok(run.failed == 0)
}

/// A run under way.
struct Run<'a> {
    args: &'a Args,
    device: &'a Device,
    peer: Option<Peer>,
    /// Names of the peer's ways.
    theirs: Vec<String>,
    report: Report,
    lines: Vec<Line>,
    failed: usize,
}

impl Run<'_> {
    /// All kernels in one shape and dtype: a table of forwards, one of gradients.
    fn group(&mut self, entries: &[&Entry], rows: usize, cols: usize, dtype: DType) -> Outcome {
        let (args, device) = (self.args, self.device);
        let mut copy = bench::memcpy(rows, cols, dtype, args.rounds, device)?;
        copy.copy_gbps = copy.gbps();
        let copy_gbps = copy.copy_gbps;
        self.report.row(copy.object(device::name(device)))?;
        self.lines.push(copy.clone());
        for backward in [false, true] {
            let entries = entries.iter().filter(|e| !backward || bench::has_gradient(e));
            if entries.clone().next().is_none() || if backward { args.forward } else { args.gradient } {
                continue;
            }
            let pass = if backward { line::GRADIENT } else { line::FORWARD };
            let own = if backward { &bench::GRADIENT[..] } else { &bench::FORWARD };
            let others: Vec<String> = own.iter().map(|n| n.to_string()).chain(self.theirs.iter().cloned()).collect();
            let table = (!args.json).then(|| {
                out::line(format_args!("\n{dtype} {rows}×{cols}, {pass}"));
                Live::start(&line::columns(pass, &others))
            });
            if let Some(table) = &table {
                table.row(&copy.cells(&[]));
            }
            for entry in entries {
                self.progress(&format!("{} {dtype} {rows}×{cols} …", entry.name));
                let size = Size { rows, cols, dtype, backward, rounds: args.rounds };
                let measured = bench::measure(entry, size, device, self.peer.as_mut());
                self.progress("");
                let line = match measured {
                    Ok(line) => Line { copy_gbps, ..line },
                    Err(e) => Line { wrong: Some(e.to_string()), copy_gbps, ..Line::named(entry.name, dtype, size) },
                };
                self.failed += usize::from(line.wrong.is_some());
                if let Some(table) = &table {
                    table.row(&line.cells(&others));
                    line.wrong.iter().for_each(|why| out::line(format_args!("    not timed: {why}")));
                    line.differs
                        .iter()
                        .for_each(|(name, why)| out::line(format_args!("    {name} was not timed: {why}")));
                }
                self.report.row(line.object(device::name(device)))?;
                self.lines.push(line);
            }
        }
        Ok(true)
    }

    /// Says on a terminal what is measured; nothing clears it.
    fn progress(&self, what: &str) {
        if !self.args.json && std::io::stderr().is_terminal() {
            out::note(format_args!("\r\x1b[K{what}"));
        }
    }
}

/// The rows in a file of objects, one a line; what is cut off at its end is left out.
fn read(path: &Path) -> Result<Vec<Line>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("bench: --from {}: {e}", path.display()))?;
    let objects = text.lines().filter_map(|l| serde_json::from_str(l).ok());
    Ok(objects.filter_map(|o| Line::parse(&o)).collect())
}

/// What the tables mean.
fn legend(versions: Option<&str>, device: &Device) {
    out::line(
        "
ms: median of interleaved rounds. GB/s: bytes that must move at least, by zmlx's time; of copy: as a part of
the GB/s of a copy of the same size. vjp: the gradient alone.
Other columns: their time as a multiple of zmlx's; above 1× zmlx is faster. Same output, checked first.",
    );
    out::line(format_args!(
        "On {}, all of it in one process with one allocator ({}){}",
        device::name(device),
        if matches!(device, Device::Cpu) { allocator::NAME } else { "candle's" },
        match versions {
            Some(v) => format!("; the peer in its own, with its own: {v}."),
            None => ".".into(),
        }
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_first_is_in_the_catalog() {
        for name in FIRST {
            assert!(ENTRIES.iter().any(|e| e.name == name), "{name}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units_and_bounds() {
        assert_eq!((count("64M"), count("16k"), count("7")), (Ok(64 << 20), Ok(16 << 10), Ok(7)));
        assert_eq!((shape("4x8"), shape("1x17179869184")), (Ok((4, 8)), Ok((1, MOST))));
        for wrong in ["", "x", "4", "4x0", "-1x4", "4x8x2", "131073x131072", "99999999999x99999999999"] {
            assert!(shape(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "M", "0", "-1", "17G", "64T", "99999999999G"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rows_are_read_back_from_a_file_that_was_cut_off() -> Result<(), String> {
        let path = std::env::temp_dir().join(format!("zmlx-bench-read-test-{}.json", std::process::id()));
        let line = Line { kernel: "exp".into(), pass: line::FORWARD.into(), ..Line::default() };
        let text = format!("{{\"run\": \"bench\"}}\n{}\n{{\"verb\": \"ben", line.object("cpu"));
        std::fs::write(&path, text).map_err(|e| e.to_string())?;
        let lines = read(&path);
        let _ = std::fs::remove_file(&path);
        assert_eq!(lines?.iter().map(|l| &l.kernel[..]).collect::<Vec<_>>(), ["exp"]);
        Ok(())
    }
}
