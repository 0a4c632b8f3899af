//! The text of every entry, for people to review. A file that has changed is written anew and its test fails: look at
//! `git diff`, and commit it if it is right.

use crate::{launch::table, portable::texts, programs, standin::Dialect};
use std::fs;
use zmlx::{catalog::ENTRIES, entry::Entry, portable::PORTABLES};
use zmlx_ir::{
    DType,
    kernel::Kernel,
    schedule::{Config, Device, schedule},
};
use zmlx_runtime::backend::c_like;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// The kernels of an entry as the heuristic chooses them for a matrix of 4096 × 4096: forward in f32 and bf16, backward in
/// f32.
fn kernels(entry: &Entry) -> Vec<Kernel> {
    let ((f32, backward), (bf16, _)) = (programs(entry, DType::F32), programs(entry, DType::BF16));
    let mut all = vec![];
    for (p, what) in [(Some(f32), "f32"), (Some(bf16), "bf16"), (backward, "vjp_f32")] {
        let Some(mut p) = p else { continue };
        p.name = format!("{}_{what}", entry.name);
        let made = schedule(&p, &Config::pick(&p, 4096, 4096, 1, 4096 * 4096, Device::default()));
        all.extend(made.unwrap_or_else(|e| panic!("{}: {e}", p.name)).steps.into_iter().map(|s| s.kernel));
    }
    all
}

#[test]
fn golden_texts_are_what_is_printed() {
    fs::create_dir_all(FOLDER).expect("the folder of the tests can be written");
    let (mut changed, mut expected) = (vec![], vec![]);
    let mut golden = |name: String, text: &str| {
        let path = format!("{FOLDER}/{name}");
        if fs::read_to_string(&path).unwrap_or_default() != text {
            fs::write(&path, text).expect("a golden file can be written");
            changed.push(name.clone());
        }
        expected.push(name);
    };
    for kernel in PORTABLES {
        for dialect in [Dialect::Cuda, Dialect::Metal] {
            golden(format!("{}.{}", kernel.name, table(dialect).target), &texts(dialect, kernel));
        }
    }
    for entry in ENTRIES {
        let kernels = kernels(entry);
        let kernels: Vec<&Kernel> = kernels.iter().collect();
        for dialect in [Dialect::Cuda, Dialect::Metal] {
            let table = table(dialect);
            let text = c_like::unit(&kernels, table).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
            golden(format!("{}.{}", entry.name, table.target), &text);
        }
    }
    crate::order::each(0, &mut |raw| {
        for dialect in [Dialect::Cuda, Dialect::Metal] {
            let table = table(dialect);
            let text = raw.text(table).unwrap_or_else(|e| panic!("{}: {e}", raw.name));
            let name = format!("{}.{}", raw.name, table.target);
            let path = format!("{FOLDER}/{name}");
            if fs::read_to_string(&path).unwrap_or_default() != text {
                fs::write(&path, &text).expect("a golden file can be written");
                changed.push(name.clone());
            }
            expected.push(name);
        }
    });
    let files = fs::read_dir(FOLDER).expect("the folder is there").flatten();
    let names = files.map(|f| f.file_name().to_string_lossy().into_owned());
    let orphans: Vec<String> = names.filter(|n| !expected.contains(n)).collect();
    assert!(orphans.is_empty(), "golden files of no entry: {orphans:?}");
    assert!(changed.is_empty(), "written anew: review with `git diff` and commit if right: {}", changed.join(" "));
}
