//! Rows that blocks of a cluster hold together, with columns of odd numbers, so that rows start off boundaries and slices end
//! within a chunk.

use crate::{
    case::Case,
    formulas::{gradient, program},
    launch::{check, compile, table},
    standin::{Dialect::Cuda, Order, compiler},
};
use zmlx_ir::{
    DType, Extent, Program, Scalar,
    program::random::Random,
    schedule::{Config, Device, Schedule, Strategy, schedule},
};
use zmlx_runtime::backend::{c_like, metal::dialect::METAL};

const ELEM: Extent = Extent::ELEM;
const COL: Extent = Extent::COL;

/// Each with whether its gradient is run too.
const FORMULAS: [(&str, &str, &[Extent], DType, bool); 6] = [
    ("softmax", "exp(x - max(x)) / sum(exp(x - max(x)))", &[ELEM], DType::F32, true),
    ("layer_norm", "let d = x - mean(x); d * rsqrt(mean(d * d) + 1e-5) * w + b", &[ELEM, COL, COL], DType::F32, true),
    ("rms_norm", "x * rsqrt(mean(x * x) + 1e-6) * w", &[ELEM, COL], DType::BF16, true),
    ("cross_entropy", "out loss: f32 = logsumexp(x) - x[t]", &[ELEM, Extent::ROW], DType::BF16, true),
    (
        "argmax",
        "out best = argmax(x); out worst = argmin(x); out p: f32 = prod(1 + x * 0.0001)",
        &[ELEM],
        DType::F32,
        false,
    ),
    ("any", "out s = any(x > 1.9) ? x : 0 - x; out m = max(x) - min(x)", &[ELEM], DType::BF16, false),
];

/// A configuration of small blocks, four of them a row.
fn shared_by_four(p: &Program, cols: usize, strategy: Strategy, aside: bool) -> Config {
    let picked = Config::pick(p, 3, cols as u64, 3, 1 << 20, Device::default());
    let (threads, cluster) = (128, 4);
    let chunks = (cols as u32 + picked.vector - 1).div_ceil(picked.vector).div_ceil(threads * cluster);
    Config { strategy, threads, row_threads: threads, cluster, chunks, aside, ..picked }
}

#[test]
fn rows_that_a_cluster_holds_match_the_oracle_and_so_do_their_gradients() {
    if compiler(Cuda).is_none() {
        return println!("not run: no C++ compiler");
    }
    let mut r = Random::new(11);
    let (mut elements, mut skipped) = (0, 0);
    for (name, formula, extents, dtype, differentiated) in FORMULAS {
        let forward = program(name, formula, extents, dtype);
        let programs = if differentiated { vec![gradient(&forward), forward] } else { vec![forward] };
        let mut jobs: Vec<(Case, Schedule)> = vec![];
        for p in programs {
            let sums = p.outputs.iter().any(|o| o.extent == COL);
            // three rows: clusters that stay go on to another row
            for (rows, cols, aside) in [(3, 40_961, false), (2, 40_003, sums), (0, 9, false), (2, 0, false)] {
                // held; where no columns are summed, walked along too
                let strategy = if !sums && cols == 40_003 { Strategy::Looped } else { Strategy::Resident };
                let mut p = p.clone();
                p.name = format!("{}_{cols}", p.name);
                let cfg = shared_by_four(&p, cols, strategy, aside);
                let made = schedule(&p, &cfg).unwrap_or_else(|e| panic!("{p}: {e}"));
                assert!(made.steps.iter().any(|s| s.kernel.cluster == 4), "{p}");
                let mut case = Case::draw(p, (rows, cols), false, &mut r);
                for (t, input) in case.tensors.iter_mut().zip(&case.program.inputs) {
                    // classes that exist
                    if let (zmlx_runtime::Buffer::U32(v), Extent::ROW) = (&mut t.buffer, input.extent) {
                        v.iter_mut().for_each(|t| *t %= cols.max(1) as u32);
                    }
                }
                case.uniforms = case.program.uniforms.iter().map(|_| Scalar::Float(0.5)).collect();
                jobs.push((case, made));
            }
        }
        let unit = compile(Cuda, &jobs.iter().map(|j| &j.1).collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"));
        for (case, schedule) in &jobs {
            let counts = check(&unit, schedule, case, &Order::ALL);
            let counts = counts.unwrap_or_else(|e| panic!("{}", e.chars().take(6000).collect::<String>()));
            elements += counts.elements;
            skipped += counts.skipped;
        }
    }
    println!("{elements} elements, {skipped} skipped");
    assert!(elements > 1_000_000 && skipped * 10 < elements, "{elements} elements, {skipped} skipped");
}

#[test]
fn a_target_without_clusters_refuses_the_kernel() {
    let p = program("softmax", FORMULAS[0].1, FORMULAS[0].2, DType::F32);
    let made = schedule(&p, &shared_by_four(&p, 40_001, Strategy::Resident, false)).expect("a schedule");
    let error = c_like::print(&made.steps[0].kernel, &METAL).unwrap_err().to_string();
    assert!(error.contains("a row of several blocks") && table(Cuda).cluster.is_some(), "{error}");
}

#[test]
fn a_scan_among_blocks_is_refused() {
    let p = program("cumsum", "cumsum(x)", &[ELEM], DType::F32);
    let error = schedule(&p, &shared_by_four(&p, 40_001, Strategy::Resident, false)).unwrap_err();
    assert!(error.to_string().contains("a cluster of blocks"), "{error}");
}
