//! Gradients against central differences in f64, and what they cost.

mod formulas;
mod pointwise;
mod rows;
mod structure;

use zmlx_ir::{
    DType, Extent, Op, Program, Scalar,
    grad::vjp_with,
    program::{
        Id, Index, Kind, Over, ReduceOp, Scan, ScanOp,
        oracle::{self, Data, Precision},
    },
};

/// Values of all outputs, by the oracle in f64.
fn evaluate(p: &Program, rows: usize, cols: usize, inputs: &[Vec<f64>], uniforms: &[f64]) -> Vec<Vec<f64>> {
    let data: Vec<Data> = (p.inputs.iter().zip(inputs))
        .map(|(i, v)| match i.dtype.is_float() {
            true => Data::exact(v.clone()),
            false => Data::Int(v.iter().map(|v| *v as i64).collect()),
        })
        .collect();
    let scalar = |(u, v): (&zmlx_ir::program::Uniform, &f64)| match u.dtype.is_float() {
        true => Scalar::Float(*v),
        false => Scalar::Int(*v as i64),
    };
    let uniforms: Vec<Scalar> = p.uniforms.iter().zip(uniforms).map(scalar).collect();
    let outputs = oracle::evaluate(p, rows, cols, &data, &uniforms, Precision::Exact);
    let outputs = outputs.unwrap_or_else(|e| panic!("{}: {e}", p.name));
    outputs.iter().map(|d| (0..d.len()).map(|i| d.get(i)).collect()).collect()
}

/// Short spellings to build Programs with.
trait Build {
    /// An f64 input.
    fn elem(&mut self, name: &str) -> Id;
    fn un(&mut self, op: Op, a: Id) -> Id;
    fn bin(&mut self, op: Op, a: Id, b: Id) -> Id;
    fn lit(&mut self, v: f64) -> Id;
    fn row(&mut self, op: ReduceOp, a: Id) -> Id;
    fn mean(&mut self, a: Id) -> Id;
    fn running(&mut self, op: ScanOp, reverse: bool, a: Id) -> Id;
    fn select(&mut self, c: Id, a: Id, b: Id) -> Id;
    fn out(self, node: Id) -> Program;
}

impl Build for Program {
    fn elem(&mut self, name: &str) -> Id {
        self.input(name, DType::F64, Extent::ELEM)
    }
    fn un(&mut self, op: Op, a: Id) -> Id {
        self.op(op, &[a])
    }
    fn bin(&mut self, op: Op, a: Id, b: Id) -> Id {
        self.op(op, &[a, b])
    }
    fn lit(&mut self, v: f64) -> Id {
        self.constant(DType::F64, v)
    }
    fn row(&mut self, op: ReduceOp, a: Id) -> Id {
        self.reduce(op, Over::Cols, a)
    }
    fn mean(&mut self, a: Id) -> Id {
        let sum = self.row(ReduceOp::Sum, a);
        let n = self.index(Index::Cols);
        self.bin(Op::Div, sum, n)
    }
    fn running(&mut self, op: ScanOp, reverse: bool, a: Id) -> Id {
        self.scan(Scan { op, reverse, exclusive: false }, &[a])
    }
    fn select(&mut self, c: Id, a: Id, b: Id) -> Id {
        self.op(Op::Select, &[c, a, b])
    }
    fn out(mut self, node: Id) -> Program {
        self.output("out", node, DType::F64);
        self
    }
}

/// A small generator of numbers in [0, 1).
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
    fn list(&mut self, n: usize, lo: f64, hi: f64) -> Vec<f64> {
        (0..n).map(|_| lo + (hi - lo) * self.next()).collect()
    }
}

/// Inputs in [lo, hi) (integers: columns), and cotangents, for a Program.
fn sample(p: &Program, rows: usize, cols: usize, range: (f64, f64), seed: u64) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let mut n = Numbers::new(seed);
    let inputs = p.inputs.iter().map(|i| {
        let len = i.extent.len(rows, cols);
        if i.dtype.is_float() {
            n.list(len, range.0, range.1)
        } else {
            n.list(len, 0.0, cols as f64).into_iter().map(f64::floor).collect()
        }
    });
    let inputs = inputs.collect();
    let floats = p.outputs.iter().filter(|o| o.dtype.is_float());
    let cotangents = floats.map(|o| n.list(o.extent.len(rows, cols), -1.0, 1.0)).collect();
    (inputs, cotangents)
}

/// Gradients with respect to all float inputs, by slot.
fn gradients(
    p: &Program,
    rows: usize,
    cols: usize,
    inputs: &[Vec<f64>],
    g: &[Vec<f64>],
    uniforms: &[f64],
) -> Vec<(usize, Vec<f64>)> {
    let wrt: Vec<usize> = (0..p.inputs.len()).filter(|&k| p.inputs[k].dtype.is_float()).collect();
    let d = derive(p, &wrt);
    let all: Vec<Vec<f64>> = inputs.iter().chain(g).cloned().collect();
    wrt.into_iter().zip(evaluate(&d, rows, cols, &all, uniforms)).collect()
}

fn derive(p: &Program, wrt: &[usize]) -> Program {
    let d = vjp_with(p, wrt, &vec![true; p.outputs.len()]).unwrap_or_else(|e| panic!("{}: {e}", p.name));
    assert_eq!(d.inputs[..p.inputs.len()], p.inputs[..]);
    assert_eq!(d.uniforms, p.uniforms);
    assert_eq!(d.verify(), Ok(()), "{d}");
    for (o, &slot) in d.outputs.iter().zip(wrt) {
        let i = &p.inputs[slot];
        assert_eq!((&o.name, o.dtype, o.extent), (&format!("d_{}", i.name), i.dtype, i.extent));
    }
    d
}

/// Compares all gradients with central differences of Σ g·out.
fn check_at(p: &Program, rows: usize, cols: usize, inputs: &[Vec<f64>], g: &[Vec<f64>], uniforms: &[f64]) {
    let value = |inputs: &[Vec<f64>]| -> f64 {
        let outs = evaluate(p, rows, cols, inputs, uniforms);
        let outs = p.outputs.iter().zip(outs).filter(|(o, _)| o.dtype.is_float()).map(|(_, v)| v);
        outs.zip(g).map(|(v, g)| v.iter().zip(g).map(|(v, g)| v * g).sum::<f64>()).sum()
    };
    for (slot, derived) in gradients(p, rows, cols, inputs, g, uniforms) {
        for (i, &d) in derived.iter().enumerate() {
            let moved = |h: f64| {
                let mut inputs = inputs.to_vec();
                inputs[slot][i] += h;
                value(&inputs)
            };
            // Richardson: error h⁴
            let h = 1e-3 * inputs[slot][i].abs().max(0.3);
            let slope = |h: f64| (moved(h) - moved(-h)) / (2.0 * h);
            let expected = (4.0 * slope(h / 2.0) - slope(h)) / 3.0;
            let name = &p.inputs[slot].name;
            assert!(
                (d - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                "{}: d_{name}[{i}] is {d}, central difference {expected}\n{}",
                p.name,
                derive(p, &[slot])
            );
        }
    }
}

/// [`check_at`] on random inputs from `range`, for some shapes with zero-sized ones among them.
fn check_in(p: &Program, range: (f64, f64), uniforms: &[f64]) {
    for (seed, (rows, cols)) in [(3, 5), (1, 1), (2, 8), (4, 1), (2, 0), (0, 3)].into_iter().enumerate() {
        if cols == 0 && p.inputs.iter().any(|i| !i.dtype.is_float()) {
            continue;
        }
        let (inputs, g) = sample(p, rows, cols, range, seed as u64 + 1);
        check_at(p, rows, cols, &inputs, &g, uniforms);
    }
}

fn check(p: &Program) {
    check_in(p, (-2.0, 2.0), &[]);
}

/// The number of nodes that cost a pass over elements: pointwise ops of elements.
fn passes(p: &Program) -> usize {
    p.nodes()
        .iter()
        .filter(|n| matches!(n.kind, Kind::Op(_)) && n.extent == Extent::ELEM && n.dtype != DType::Bool)
        .count()
}
