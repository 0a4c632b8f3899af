//! Which crate may know which: the arrows between the crates, and what some of them must not depend on.

use crate::tree::{Fault, File, Tree};

/// A crate and the crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("zmlx-ir", &[]),
    ("zmlx-runtime", &["zmlx-ir"]),
    ("zmlx-macros", &["zmlx-ir"]),
    ("zmlx", &["zmlx-ir", "zmlx-runtime", "zmlx-macros"]),
    ("zmlx-lm", &["zmlx-ir", "zmlx-runtime", "zmlx"]),
    ("zmlx-cli", &["zmlx-ir", "zmlx-runtime", "zmlx", "zmlx-lm"]),
];

/// Everything from outside that a crate without tensors, devices and I/O may use.
const IR_OUTSIDE: &[&str] = &["half", "thiserror"];

/// What the crates below the toolkit must not know.
const TENSORS: &[&str] = &["candle-core", "candle-nn", "candle-transformers"];

pub fn arrows(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, file) in manifests(tree) {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            faults.push(file.fault(1, format!("{name} has no row in the table of arrows (xtask/src/tidy/layers.rs)")));
            continue;
        };
        for (line, on) in dependencies(&file.text) {
            if on.starts_with("zmlx") && !allowed.contains(&on) {
                faults.push(file.fault(line, format!("{name} must not depend on {on}")));
            }
        }
    }
    faults
}

pub fn outside(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, file) in manifests(tree) {
        for (line, on) in dependencies(&file.text).into_iter().filter(|(_, on)| !on.starts_with("zmlx")) {
            if name == "zmlx-ir" && !IR_OUTSIDE.contains(&on) {
                faults.push(file.fault(line, format!("zmlx-ir computes nothing and touches no device: no {on}")));
            }
            if name == "zmlx-runtime" && TENSORS.contains(&on) {
                faults.push(file.fault(line, format!("zmlx-runtime runs on raw buffers: no {on}")));
            }
        }
    }
    if let Some(file) = tree.get("xtask/Cargo.toml") {
        for (line, on) in dependencies(&file.text) {
            faults.push(file.fault(line, format!("xtask must build when nothing else does: no {on}")));
        }
    }
    faults
}

/// The crates by folder name, which is their name.
fn manifests(tree: &Tree) -> impl Iterator<Item = (&str, &File)> {
    tree.files.iter().filter_map(|f| {
        let name = f.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
        (!name.contains('/')).then_some((name, f))
    })
}

/// Lines and names of the dependencies that users of a crate get: not those of its tests.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let (mut found, mut inside) = (Vec::new(), false);
    for (n, line) in manifest.lines().map(str::trim).enumerate() {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            inside = header == "dependencies" || header.ends_with(".dependencies");
            // `[dependencies.x]`, `[target.'…'.dependencies.x]`
            let one =
                header.rsplit_once("dependencies.").filter(|(before, _)| before.is_empty() || before.ends_with('.'));
            found.extend(one.map(|(_, name)| (n + 1, name)));
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', '=', ' ']).unwrap_or(line.len());
            found.push((n + 1, line[..end].trim_matches('"')));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const IR: &str = "crates/zmlx-ir/Cargo.toml";
    const RUNTIME: &str = "crates/zmlx-runtime/Cargo.toml";

    #[test]
    fn dependencies_are_read_in_all_their_spellings() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nhalf.workspace = true\n\n# why\nrayon = \"1\"\n\
                        [target.'cfg(unix)'.dependencies]\nlibc = { version = \"1\" }\n[dependencies.syn]\nversion = \"2\"\n\
                        [dev-dependencies]\nproptest = \"1\"\n[dev-dependencies.x]\n";
        assert_eq!(dependencies(manifest), [(4, "half"), (7, "rayon"), (9, "libc"), (10, "syn")]);
    }

    #[test]
    fn an_arrow_that_points_up_is_a_fault() {
        let manifest = "[dependencies]\nzmlx-ir.workspace = true\nzmlx.workspace = true\n";
        let faults = arrows(&Tree::of(&[(RUNTIME, manifest)]));
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].to_string(), format!("{RUNTIME}:3: zmlx-runtime must not depend on zmlx"));
        assert!(arrows(&Tree::of(&[("crates/new/Cargo.toml", "")]))[0].message.contains("no row"));
    }

    #[test]
    fn the_lower_crates_know_no_tensors() {
        let manifest = "[dependencies]\nhalf.workspace = true\nrayon.workspace = true\ncandle-core.workspace = true\n";
        assert_eq!(outside(&Tree::of(&[(IR, manifest)])).len(), 2);
        assert_eq!(outside(&Tree::of(&[(RUNTIME, manifest)])).len(), 1);
        assert_eq!(outside(&Tree::of(&[("crates/zmlx/Cargo.toml", manifest)])), []);
        assert_eq!(outside(&Tree::of(&[("xtask/Cargo.toml", manifest)])).len(), 3);
    }
}
