//! Formulas of the catalog and their gradients, at the sizes where strategies change.

use crate::{
    case::Case,
    launch::{check, compile},
    standin::{Dialect, Order, compiler},
};
use zmlx_ir::{
    DType, Extent, Formula, Program, Scalar, Signature,
    grad::vjp,
    program::random::Random,
    schedule::{Config, Device, Schedule, Strategy, schedule},
};

const ROW_KERNELS: [(&str, &str, &[Extent]); 8] = [
    ("softmax", "exp(x - max(x)) / sum(exp(x - max(x)))", &[Extent::ELEM]),
    ("rms_norm", "x * rsqrt(mean(x * x) + 1e-6) * w", &[Extent::ELEM, Extent::COL]),
    (
        "layer_norm",
        "let d = x - mean(x); d * rsqrt(mean(d * d) + 1e-5) * w + b",
        &[Extent::ELEM, Extent::COL, Extent::COL],
    ),
    ("cross_entropy", "out loss: f32 = logsumexp(x) - x[t]", &[Extent::ELEM, Extent::ROW]),
    ("bias_gelu", "gelu(x + b)", &[Extent::ELEM, Extent::COL]),
    ("cumsum_norm", "let c = cumsum(x * w); c * rsqrt(mean(c * c) + 1)", &[Extent::ELEM, Extent::COL]),
    ("cumprod", "cumprod(1 + x * 0.01)", &[Extent::ELEM]),
    ("cummax", "cummax(x)", &[Extent::ELEM]),
];

/// The Program of a formula.
pub fn program(name: &str, formula: &str, extents: &[Extent], dtype: DType) -> Program {
    let formula = Formula::parse(formula).unwrap_or_else(|e| panic!("{name}: {e}"));
    let of = |(k, e): (usize, &Extent)| if k == 1 && *e == Extent::ROW { (DType::U32, *e) } else { (dtype, *e) };
    let inputs = extents.iter().enumerate().map(of).collect();
    formula.bind(name, &Signature { inputs }).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A name of its own for each kernel of a unit.
fn named(mut p: Program, name: String) -> Program {
    p.name = name;
    p
}

pub fn gradient(p: &Program) -> Program {
    let wrt: Vec<usize> = (0..p.inputs.len()).filter(|k| p.inputs[*k].dtype.is_float()).collect();
    named(vjp(p, &wrt).unwrap_or_else(|e| panic!("{}: {e}", p.name)), format!("{}_vjp", p.name))
}

#[test]
fn row_kernels_and_their_gradients_match_the_oracle_in_cuda_text() {
    row_kernels(Dialect::Cuda);
}

#[test]
fn row_kernels_and_their_gradients_match_the_oracle_in_metal_text() {
    row_kernels(Dialect::Metal);
}

/// Every strategy, rows that are held and rows that are not.
fn row_kernels(dialect: Dialect) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    let mut r = Random::new(7);
    let (mut launches, mut elements, mut skipped) = (0, 0, 0);
    for (n, (name, formula, extents)) in ROW_KERNELS.into_iter().enumerate() {
        let dtype = [DType::F32, DType::BF16][n % 2];
        let p = program(name, formula, extents, dtype);
        let mut jobs: Vec<(Case, Schedule)> = vec![];
        for p in [gradient(&p), p] {
            for (rows, cols) in [(37, 20), (5, 1030), (0, 7), (3, 0)] {
                // a case decomposes its rows over up to three dimensions
                let picked = Config::pick(
                    &p,
                    rows as u64,
                    cols as u64,
                    3,
                    (rows * cols) as u64,
                    Device { processors: 3, ..Device::default() },
                );
                let looped = Config { strategy: Strategy::Looped, threads: 64, row_threads: 64, ..picked };
                let tiled = Config { strategy: Strategy::Tiled, threads: 64, row_threads: 32, chunks: 1, ..picked };
                let aside = Config { aside: true, ..picked };
                let sums = p.outputs.iter().any(|o| o.extent == Extent::COL);
                let mut configs = vec![picked, looped, tiled];
                if sums && picked.strategy == Strategy::Resident && dialect == Dialect::Cuda {
                    configs.push(aside);
                }
                for (k, cfg) in configs.into_iter().enumerate() {
                    let p = named(p.clone(), format!("{}_{dtype}_{cols}_{k}", p.name));
                    // sums of columns are no business of a walk along rows
                    let Ok(schedule) = schedule(&p, &cfg) else {
                        assert!(k == 1, "{p}{cfg:?}");
                        continue;
                    };
                    let mut case = Case::draw(p, (rows, cols), false, &mut r);
                    for (t, input) in case.tensors.iter_mut().zip(&case.program.inputs) {
                        // classes that exist
                        if let (zmlx_runtime::Buffer::U32(v), Extent::ROW) = (&mut t.buffer, input.extent) {
                            v.iter_mut().for_each(|t| *t %= cols.max(1) as u32);
                        }
                    }
                    case.uniforms = case.program.uniforms.iter().map(|_| Scalar::Float(0.5)).collect();
                    jobs.push((case, schedule));
                }
            }
        }
        let unit = compile(dialect, &jobs.iter().map(|j| &j.1).collect::<Vec<_>>());
        let unit = unit.unwrap_or_else(|e| panic!("{e}"));
        for (case, schedule) in &jobs {
            let counts = check(&unit, schedule, case, &Order::ALL);
            let counts = counts.unwrap_or_else(|e| panic!("{}", e.chars().take(6000).collect::<String>()));
            launches += 1;
            elements += counts.elements;
            skipped += counts.skipped;
        }
    }
    println!("{launches} launches, {elements} elements, {skipped} skipped");
    assert!(launches > 40 && skipped * 10 < elements, "{launches} launches, {skipped} skipped");
}

/// Texts that people review: `git diff` shows what a change of a schedule or printer does to them.
#[test]
fn golden_texts_are_what_is_printed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    std::fs::create_dir_all(folder).expect("the folder of the tests can be written");
    let bias = program("bias_gelu", "gelu(x + b)", &[Extent::ELEM, Extent::COL], DType::F32);
    let softmax = program("softmax", ROW_KERNELS[0].1, &[Extent::ELEM], DType::BF16);
    let norm = gradient(&program("rms_norm", ROW_KERNELS[1].1, ROW_KERNELS[1].2, DType::F32));
    let cumsum = program("cumsum", "cumsum(x)", &[Extent::ELEM], DType::F32);
    let mut changed = vec![];
    // rows of a cluster, where there are clusters
    let long = named(program("layer_norm", ROW_KERNELS[2].1, ROW_KERNELS[2].2, DType::F32), "layer_norm_long".into());
    let device = Device { cluster: 8, ..Device::default() };
    for (p, cols) in [(bias, 4096), (softmax, 4096), (norm, 4096), (cumsum, 4096), (long, 131_072)] {
        let cfg = Config::pick(&p, 4096, cols, 1, 4096 * cols, device);
        let schedule = schedule(&p, &cfg).unwrap_or_else(|e| panic!("{}: {e}", p.name));
        let kernels: Vec<_> = schedule.steps.iter().map(|s| &s.kernel).collect();
        for dialect in [Dialect::Cuda, Dialect::Metal] {
            let table = crate::launch::table(dialect);
            if cfg.cluster > 1 && table.cluster.is_none() {
                continue;
            }
            let text = zmlx_runtime::backend::c_like::unit(&kernels, table).unwrap_or_else(|e| panic!("{e}"));
            let path = format!("{folder}/{}.{}", p.name, table.target);
            if std::fs::read_to_string(&path).unwrap_or_default() != text {
                std::fs::write(&path, &text).expect("a golden file can be written");
                changed.push(path);
            }
        }
    }
    assert!(changed.is_empty(), "changed: {changed:?}; review with `git diff`, and commit what is right");
}
