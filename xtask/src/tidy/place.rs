//! What may stand in some places only: unsafe code, conditional compilation, names of targets, the environment.

use crate::{
    source::{self, Keep},
    tree::{Fault, File, Tree},
};

/// May `path` touch what the compiler cannot check: drivers, the tensor library's storages, mapped weights?
fn is_driver(path: &str) -> bool {
    let runtime = path.strip_prefix("crates/zmlx-runtime/src/backend/");
    runtime.is_some_and(|inside| inside.ends_with("/driver.rs") || inside.contains("/driver/"))
        || ["stream.rs", "pages.rs", "running.rs"]
            .iter()
            .any(|f| path == format!("crates/zmlx-runtime/src/backend/cpu/{f}"))
        || path.starts_with("crates/zmlx/src/bridge/")
        || path == "crates/zmlx/src/bridge.rs"
        || path == "crates/zmlx-lm/src/weights/map.rs"
}

fn crates(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.rust().filter(|f| f.path.starts_with("crates/"))
}

pub fn unsafe_code(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for f in tree.rust().filter(|f| !is_driver(&f.path)) {
        let code = source::mask(&f.text, Keep::Code);
        for line in source::lines_with_word(&code, "unsafe") {
            faults.push(f.fault(line, "unsafe code belongs in a backend's driver.rs or the bridge"));
        }
    }
    faults
}

pub fn features(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    let places = ["crates/zmlx-runtime/src/backend/mod.rs", "crates/zmlx-cli/src/allocator.rs"];
    let may = |path: &str| is_driver(path) || places.contains(&path);
    for f in crates(tree).filter(|f| !may(&f.path)) {
        let code = source::mask(&f.text, Keep::Code);
        for (n, line) in code.lines().enumerate() {
            // `cfg(feature`, `cfg(all(feature`, `cfg_attr(not(feature` and `cfg!(feature`, but no name with "feature" in it.
            let after = line.split_once("cfg").map_or("", |(_, after)| after);
            if !source::lines_with_word(after, "feature").is_empty() {
                faults
                    .push(f.fault(n + 1, "conditional on a feature outside of backend/mod.rs, a driver or the bridge"));
            }
        }
    }
    faults
}

/// What to compute is said without a word of where. The formula language accepts `metal::exp`, so one file says so.
pub fn target_words(tree: &Tree) -> Vec<Fault> {
    const WORDS: &[&str] =
        &["metal", "cuda", "nvrtc", "threadgroup", "simdgroup", "__global__", "vulkan", "wgsl", "avx"];
    const ALLOWED: &[(&str, &str)] = &[("crates/zmlx-ir/src/expr/value.rs", "metal")];
    let mut faults = Vec::new();
    for f in tree.rust().filter(|f| f.path.starts_with("crates/zmlx-ir/src/")) {
        let code = source::mask(&f.text, Keep::CodeAndStrings).to_lowercase();
        for (n, line) in code.lines().enumerate() {
            for word in WORDS.iter().filter(|w| line.contains(**w) && !ALLOWED.contains(&(f.path.as_str(), w))) {
                faults.push(f.fault(n + 1, format!("zmlx-ir names no target, but here stands `{word}`")));
            }
        }
    }
    faults
}

/// Environment variables are read in one file, and each is in the README.
pub fn environment(tree: &Tree) -> Vec<Fault> {
    let reads = |f: &File| {
        let code = source::mask(&f.text, Keep::Code);
        let line = code.lines().position(|line| line.contains("env::var"));
        line.map(|n| n + 1)
    };
    let found: Vec<(&File, usize)> =
        crates(tree).filter(|f| f.path.contains("/src/")).filter_map(|f| Some((f, reads(f)?))).collect();
    let mut faults: Vec<Fault> = found
        .iter()
        .skip(1)
        .map(|(f, line)| f.fault(*line, format!("environment variables are read in one file, {}", found[0].0.path)))
        .collect();
    let readme = tree.get("README.md").map_or("", |f| &f.text);
    for (f, _) in found.iter().take(1) {
        for (n, line) in source::mask(&f.text, Keep::CodeAndStrings).lines().enumerate() {
            for name in line.split('"').skip(1).step_by(2).filter(|name| is_variable(name)) {
                if source::lines_with_word(readme, name).is_empty() {
                    faults.push(f.fault(n + 1, format!("{name} is not in README.md")));
                }
            }
        }
    }
    faults
}

fn is_variable(name: &str) -> bool {
    name.len() > 2 && name.chars().all(|ch| ch.is_ascii_uppercase() || ch.is_ascii_digit() || ch == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(faults: Vec<Fault>) -> Vec<usize> {
        faults.into_iter().map(|f| f.line).collect()
    }

    #[test]
    fn unsafe_code_lives_in_drivers_and_the_bridge() {
        let text = "//! Not unsafe.\n#![forbid(unsafe_code)]\nunsafe fn f() {}\n";
        for path in ["crates/zmlx-runtime/src/backend/cpu/driver.rs", "crates/zmlx/src/bridge/storage.rs"] {
            assert_eq!(unsafe_code(&Tree::of(&[(path, text)])), []);
        }
        for path in ["crates/zmlx-runtime/src/backend/cpu/exec.rs", "crates/zmlx/src/op.rs", "xtask/src/main.rs"] {
            assert_eq!(lines(unsafe_code(&Tree::of(&[(path, text)]))), [3]);
        }
    }

    #[test]
    fn features_are_asked_for_in_few_places() {
        let text = "//! A.\n#[cfg(test)]\nlet feature = cfg(x);\n#[cfg(all(unix, feature = \"cuda\"))]\n";
        assert_eq!(lines(features(&Tree::of(&[("crates/zmlx/src/op.rs", text)]))), [4]);
        assert_eq!(features(&Tree::of(&[("crates/zmlx-runtime/src/backend/mod.rs", text)])), []);
    }

    #[test]
    fn the_ir_names_no_target() {
        let text = "//! No metal.\nfn to_metal() {}\nlet s = \"__global__\";\n";
        assert_eq!(lines(target_words(&Tree::of(&[("crates/zmlx-ir/src/op.rs", text)]))), [2, 3]);
        assert_eq!(lines(target_words(&Tree::of(&[("crates/zmlx-ir/src/expr/value.rs", text)]))), [3]);
        assert_eq!(target_words(&Tree::of(&[("crates/zmlx-runtime/src/lib.rs", text)])), []);
    }

    #[test]
    fn the_environment_is_read_in_one_file_and_documented() {
        let env = "//! Env.\nstd::env::var(\"ZMLX_CACHE\");\nstd::env::var_os(\"HOME\");\n";
        let (a, b) = ("crates/zmlx-runtime/src/env.rs", "crates/zmlx/src/op.rs");
        let readme = ("README.md", "| `ZMLX_CACHE` | folder |");
        assert_eq!(lines(environment(&Tree::of(&[(a, env), readme]))), [3]);
        let twice = environment(&Tree::of(&[
            (a, env),
            (b, "//! B.\n\nenv::var(\"HOME\");\n"),
            ("README.md", "ZMLX_CACHE HOME"),
        ]));
        assert_eq!(twice.len(), 1);
        assert_eq!((twice[0].path.as_str(), twice[0].line), (b, 3));
        assert_eq!(environment(&Tree::of(&[(b, "//! B.\nenv!(\"CARGO_PKG_VERSION\");\nenv::args();\n")])), []);
    }
}
