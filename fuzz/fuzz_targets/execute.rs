//! Any formula on small tensors, forward and backward: what verifies compiles or is refused, runs, and agrees with the
//! oracle within the bound that the oracle carries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zmlx_fuzz::{Memory, is_small, oracle_data, read, signature};
use zmlx_ir::{
    Formula, Program,
    grad::vjp,
    program::oracle::{Data, Precision, evaluate},
};
use zmlx_runtime::{Buffer, Error, backend::cpu};

fuzz_target!(|data: &[u8]| {
    let Some((mut draw, text)) = read(data) else { return };
    let Ok(mut formula) = Formula::parse(text) else { return };
    let sig = signature(&mut formula, &mut draw);
    let Ok(forward) = formula.bind("fuzz", &sig) else { return };
    if !is_small(&forward) {
        return;
    }
    let (rows, cols) = (draw.pick(&[0, 1, 2, 3, 5]), draw.pick(&[0, 1, 2, 7, 8, 33, 70]));
    let mut memory = Memory::draw(&forward, rows, cols, &mut draw);
    check(&forward, &memory, rows, cols);

    let wrt: Vec<usize> = (0..forward.inputs.len()).filter(|k| forward.inputs[*k].dtype.is_float()).collect();
    let Ok(backward) = vjp(&forward, &wrt) else { return };
    for cotangent in &backward.inputs[forward.inputs.len()..] {
        memory.push(cotangent.dtype, cotangent.extent, &mut draw);
    }
    if is_small(&backward) {
        check(&backward, &memory, rows, cols);
    }
});

fn check(program: &Program, memory: &Memory, rows: usize, cols: usize) {
    program.verify().unwrap_or_else(|faults| panic!("{program}\ndoes not verify: {faults:?}"));
    let kernel = match cpu::compile(program) {
        Ok(kernel) => kernel,
        Err(Error::Unsupported { .. }) => return,
        Err(error) => panic!("{program}\nverifies, and does not compile: {error}"),
    };
    let (inputs, uniforms) = memory.for_oracle(program);
    let want = evaluate(program, rows, cols, &inputs, uniforms, Precision::Bounded);
    match (memory.run(&kernel), want) {
        (Ok(got), Ok(want)) => got.iter().zip(&want).enumerate().for_each(|(k, (g, w))| agree(program, k, g, w)),
        (Err(Error::Index { .. }), Err(_)) => {}
        (Err(error), _) => panic!("{program}\non fitting views: {error}"),
        (Ok(_), Err(error)) => panic!("{program}\nruns, but the oracle says: {error}"),
    }
}

/// Output `k` lies within the oracle's bound; where it gives none (ties, kinks, overflow) anything goes. Integers that
/// the oracle is sure of are exact, beyond what an f64 holds too.
fn agree(program: &Program, k: usize, got: &Buffer, want: &Data) {
    let got = oracle_data(got, got.as_slice().len());
    assert_eq!(got.len(), want.len(), "{program}\nlength of output {k}");
    let error = match (&got, want) {
        (Data::Int(_), Data::Int(_)) => return assert_eq!(&got, want, "{program}\noutput {k}"),
        (_, Data::Float { error, .. }) => error,
        (_, Data::Int(_)) => panic!("{program}\noutput {k} is of floats, the oracle's of integers"),
    };
    for (i, e) in error.iter().enumerate() {
        let (g, w) = (got.get(i), want.get(i));
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= *e || !e.is_finite();
        assert!(same, "{program}\noutput {k}[{i}]: {g:e}, expected {w:e} within {e:.1e}");
    }
}
