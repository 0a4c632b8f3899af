//! Any formula on small tensors, forward and backward: what verifies compiles or is refused, runs, and agrees with the
//! oracle within the bound that the oracle carries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zmlx_fuzz::{case::Case, is_small, read, signature};
use zmlx_ir::{Formula, Program, grad::vjp, program::random::Random};

fuzz_target!(|data: &[u8]| {
    let Some((mut draw, text)) = read(data) else { return };
    let Ok(mut formula) = Formula::parse(text) else { return };
    let sig = signature(&mut formula, &mut draw);
    let Ok(forward) = formula.bind("fuzz", &sig) else { return };
    if !is_small(&forward) {
        return;
    }
    let wrt: Vec<usize> = (0..forward.inputs.len()).filter(|k| forward.inputs[*k].dtype.is_float()).collect();
    let backward = vjp(&forward, &wrt);
    check(forward, &mut draw);
    if let Ok(backward) = backward
        && is_small(&backward)
    {
        check(backward, &mut draw);
    }
});

fn check(program: Program, draw: &mut Random) {
    program.verify().unwrap_or_else(|faults| panic!("{program}\ndoes not verify: {faults:?}"));
    let shape = (draw.pick(&[0, 1, 2, 3, 5]), draw.pick(&[0, 1, 2, 7, 8, 33, 70]));
    let wild = draw.chance(1, 2);
    Case::draw(program, shape, wild, draw).check().unwrap_or_else(|difference| panic!("{difference}"));
}
