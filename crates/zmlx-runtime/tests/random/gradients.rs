//! Derived gradients of random Programs against central differences, and their execution against the oracle.

use super::case::{Case, Counts};
use zmlx_ir::{
    DType, Program, Scalar,
    grad::vjp,
    program::{
        oracle::{Data, Precision, evaluate},
        random::{Options, Random, program},
    },
};

const PROGRAMS: u64 = 4000;

/// A point at which a Program is differentiated.
struct Point {
    rows: usize,
    cols: usize,
    inputs: Vec<Vec<f64>>,
    cotangents: Vec<Vec<f64>>,
    uniforms: Vec<Scalar>,
}

impl Point {
    fn draw(p: &Program, r: &mut Random) -> Point {
        let (rows, cols) = (1 + r.below(4), 1 + r.below(5));
        let mut list = |n: usize, float: bool| -> Vec<f64> {
            let mut value = || if float { r.unit() * 4.0 - 2.0 } else { r.below(7) as f64 - 2.0 };
            (0..n).map(|_| value()).collect()
        };
        let inputs = p.inputs.iter().map(|i| list(i.extent.len(rows, cols), i.dtype.is_float())).collect();
        let floats = p.outputs.iter().filter(|o| o.dtype.is_float());
        let cotangents = floats.map(|o| list(o.extent.len(rows, cols), true)).collect();
        let uniforms = p.uniforms.iter().map(|u| match u.dtype.is_float() {
            true => Scalar::Float(list(1, true)[0]),
            false => Scalar::Int(2),
        });
        Point { uniforms: uniforms.collect(), rows, cols, inputs, cotangents }
    }

    fn evaluate<'a>(&self, p: &Program, inputs: impl Iterator<Item = &'a Vec<f64>>) -> Vec<Vec<f64>> {
        let data: Vec<Data> = (p.inputs.iter().zip(inputs))
            .map(|(i, v)| match i.dtype.is_float() {
                true => Data::exact(v.clone()),
                false => Data::Int(v.iter().map(|v| *v as i64).collect()),
            })
            .collect();
        let out = evaluate(p, self.rows, self.cols, &data, &self.uniforms, Precision::Exact);
        let out = out.unwrap_or_else(|e| panic!("{p}\n{e}"));
        out.iter().map(|d| (0..d.len()).map(|i| d.get(i)).collect()).collect()
    }

    /// Σ cotangent · output with `inputs[slot][i]` moved by h, and Σ |cotangent · output|.
    fn value(&self, p: &Program, slot: usize, i: usize, h: f64) -> f64 {
        let mut inputs = self.inputs.clone();
        inputs[slot][i] += h;
        let out = self.evaluate(p, inputs.iter());
        let floats = p.outputs.iter().zip(&out).filter(|(o, _)| o.dtype.is_float()).map(|(_, v)| v);
        floats.zip(&self.cotangents).flat_map(|(v, g)| v.iter().zip(g).map(|(v, g)| v * g)).sum()
    }

    /// The slope by differences and how far it can be trusted; None near a kink, a jump or a pole.
    fn slope(&self, p: &Program, slot: usize, i: usize) -> Option<(f64, f64)> {
        let at = |h: f64| self.value(p, slot, i, h);
        let middle = at(0.0);
        let step = 1e-3;
        let sides = [1.0, 0.5, 0.25].map(|s| {
            let (h, up, down) = (step * s, at(step * s), at(-step * s));
            ((up - down) / (2.0 * h), (up - 2.0 * middle + down) / h)
        });
        let [(a, bend_a), (b, bend_b), (c, _)] = sides;
        let (fine, coarse) = ((4.0 * c - b) / 3.0, (4.0 * b - a) / 3.0);
        let error = (fine - coarse).abs() + 1e-12 * middle.abs() / step;
        // a bend that does not shrink with the step is a kink
        let kink = bend_b.abs() > 0.75 * bend_a.abs() + 1e-6 * (1.0 + fine.abs());
        (fine.is_finite() && !kink && error < 1e-5 * (1.0 + fine.abs())).then_some((fine, error))
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    let (mut compared, mut skipped, mut refused, mut constant) = (0usize, 0usize, 0u64, 0u64);
    for seed in 0..PROGRAMS {
        let p = program(seed, &Options { differentiable: Some(DType::F64), wild: false });
        let wrt: Vec<usize> = (0..p.inputs.len()).filter(|k| p.inputs[*k].dtype.is_float()).collect();
        let Ok(d) = vjp(&p, &wrt) else {
            refused += 1;
            continue;
        };
        assert_eq!(d.verify(), Ok(()), "{p}{d}");
        let mut r = Random::new(!seed);
        let point = Point::draw(&p, &mut r);
        let derived = point.evaluate(&d, point.inputs.iter().chain(&point.cotangents));
        constant += u64::from(derived.iter().flatten().all(|v| *v == 0.0));
        for (&slot, derived) in wrt.iter().zip(&derived) {
            for (i, d_i) in derived.iter().enumerate() {
                let Some((slope, error)) = point.slope(&p, slot, i).filter(|_| d_i.is_finite()) else {
                    skipped += 1;
                    continue;
                };
                compared += 1;
                assert!(
                    (d_i - slope).abs() <= 1e-6 * (1.0 + slope.abs()) + 10.0 * error,
                    "{p}{d}d_{}[{i}] is {d_i}, central difference {slope} ± {error:.1e}\ninputs {:?}\ncotangents {:?}",
                    p.inputs[slot].name,
                    point.inputs,
                    point.cotangents
                );
            }
        }
    }
    let share = skipped as f64 / (compared + skipped) as f64;
    println!("{compared} slopes, {:.2} % skipped; {refused} without gradient, {constant} all zero", 100.0 * share);
    assert!(share < 0.05 && refused * 50 < PROGRAMS && constant * 4 < PROGRAMS);
}

#[test]
fn gradients_run_within_the_bound_of_the_oracle() {
    let mut counts = Counts::default();
    for seed in 0..PROGRAMS {
        let mut r = Random::new(!seed);
        let stored = r.pick(&[DType::F64, DType::F32, DType::BF16]);
        let mut p = program(seed, &Options { differentiable: Some(stored.compute()), wild: false });
        p.inputs.iter_mut().filter(|i| i.dtype.is_float()).for_each(|i| i.dtype = stored);
        let wrt: Vec<usize> = (0..p.inputs.len()).filter(|k| p.inputs[*k].dtype.is_float()).collect();
        let Ok(d) = vjp(&p, &wrt) else { continue };
        let shape = (r.below(20), r.pick(&[0, 1, 3, 8, 33, 100]));
        match Case::draw(d, shape, false, &mut r).check() {
            Ok(c) => counts.add(c),
            Err(text) => panic!("{p}{text}"),
        }
    }
    println!("{counts:?}, {:.2} % skipped", 100.0 * counts.skipped_share());
    assert!(counts.skipped_share() < 0.05, "{counts:?}");
}
