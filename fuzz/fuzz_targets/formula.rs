//! Any text: parsing and binding end, without a panic, and what is printed reads back as the same formula, or program.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zmlx_fuzz::{read, signature};
use zmlx_ir::{Formula, Program};

fuzz_target!(|data: &[u8]| {
    let Some((mut draw, text)) = read(data) else { return };
    let _ = Program::from_text(text).map(|program| program.verify());
    let mut formula = match Formula::parse(text) {
        Ok(formula) => formula,
        // A message underlines a place in any text.
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let printed = formula.to_string();
    let again =
        Formula::parse(&printed).unwrap_or_else(|e| panic!("{printed}\nis what was printed, and does not parse:\n{e}"));
    assert_eq!(again.to_string(), printed, "the text form does not round-trip");
    for _ in 0..4 {
        let sig = signature(&mut formula, &mut draw);
        if let Ok(program) = formula.bind("fuzz", &sig) {
            program.verify().unwrap_or_else(|faults| panic!("{program}\nwas bound, and does not verify: {faults:?}"));
            assert_eq!(Program::from_text(&program.to_string()).as_ref(), Ok(&program), "{program}");
        }
        formula.names.iter_mut().for_each(|name| name.uniform = None);
    }
});
