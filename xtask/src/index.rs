//! Registries: `mod` lists that name exactly the files of their folder. They are written from the folder between two
//! marker lines, so that a new kernel or verb is one new file, and stay plain Rust that a reader and rust-analyzer see.

use crate::tree::{Fault, Tree};
use std::{fs, io, path::Path};

const BEGIN: &str = "// index: begin";
const END: &str = "// index: end";

/// A folder whose `mod.rs` lists its files.
struct Registry {
    folder: &'static str,
    /// The lines between the markers, from the module names in order.
    list: fn(&[&str]) -> String,
}

const REGISTRIES: &[Registry] = &[
    Registry { folder: "crates/zmlx/src/catalog", list: entries },
    Registry { folder: "crates/zmlx/src/portable", list: portables },
    Registry { folder: "crates/zmlx-lm/src/models", list: model_types },
    Registry { folder: "crates/zmlx-lm/src/patch/pattern", list: patterns },
    Registry { folder: "crates/zmlx-cli/src/verb", list: modules },
];

fn modules(names: &[&str]) -> String {
    names.iter().map(|name| format!("pub mod {name};\n")).collect()
}

fn entries(names: &[&str]) -> String {
    format!("{}\nuse crate::entry::Entry;\n\n{}", modules(names), list("ENTRIES", "Entry", "Every kernel", names))
}

fn portables(names: &[&str]) -> String {
    format!("{}\n{}", modules(names), list("PORTABLES", "Portable", "Every kernel that is written by hand", names))
}

fn model_types(names: &[&str]) -> String {
    format!("{}\n{}", modules(names), list("MODEL_TYPES", "ModelType", "Every model type", names))
}

fn patterns(names: &[&str]) -> String {
    format!("{}\n{}", modules(names), list("PATTERNS", "Pattern", "Every pattern", names))
}

fn list(list: &str, what: &str, doc: &str, names: &[&str]) -> String {
    let items: Vec<String> = names.iter().map(|name| format!("&{name}::ENTRY")).collect();
    let one_line = format!("pub static {list}: &[&{what}] = &[{}];\n", items.join(", "));
    // As rustfmt lays it out: on one line where that fits, else an item a line.
    let text = match one_line.len() {
        ..=121 => one_line,
        _ => format!("pub static {list}: &[&{what}] = &[\n    {},\n];\n", items.join(",\n    ")),
    };
    format!("/// {doc}, by name.\n{text}")
}

/// The page of the catalog, made of the heads of its files.
const PAGE: &str = "docs/KERNELS.md";

/// Writes every stale registry and the page of kernels; what cannot be written is a fault.
pub fn write(root: &Path, tree: &Tree) -> io::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for new in all(tree) {
        match new {
            Ok(Some((path, text))) => {
                fs::write(root.join(&path), text)?;
                println!("index: wrote {path}");
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    Ok(faults)
}

/// Faults: registries that do not list exactly their folder, and a page that tells of other kernels.
pub fn check(tree: &Tree) -> Vec<Fault> {
    let stale = |(path, _)| Fault { path, line: 1, message: "stale list: run `cargo xtask index`".into() };
    all(tree).filter_map(|new| new.map(|new| new.map(stale)).unwrap_or_else(Some)).collect()
}

fn all(tree: &Tree) -> impl Iterator<Item = Result<Option<(String, String)>, Fault>> {
    REGISTRIES.iter().map(|r| updated(r, tree)).chain(std::iter::once_with(|| Ok(page(tree))))
}

/// What stands behind a field of the entry that a file holds, up to the end of its line.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().map(str::trim).find_map(|l| l.strip_prefix(name));
    line.unwrap_or("").trim().trim_end_matches(',')
}

/// The path and new text of the page of kernels if it is stale. A row is the head of a catalog file (its first line, what
/// it costs and where it is from) and what the entry says of its gradient and of the kernels of ZMLX that it covers.
fn page(tree: &Tree) -> Option<(String, String)> {
    let mut rows: Vec<String> = vec![];
    for file in &tree.files {
        let of = |r: &Registry| module(&file.path, r.folder);
        let Some(name) = REGISTRIES[..2].iter().find_map(of) else { continue };
        let head: Vec<&str> = file.text.lines().map_while(|l| l.strip_prefix("//!")).map(str::trim).collect();
        let line = |label: &str| head.iter().find_map(|l| l.strip_prefix(label)).unwrap_or("").trim();
        let what = head.first().copied().unwrap_or("").replace('|', "\\|");
        let (cost, source) = (line("Cost:"), line("Source:"));
        let gradient = field(&file.text, "gradient:").trim_start_matches("Gradient::");
        let gradient = match gradient.strip_prefix("None(").map(|why| why.trim_matches(['(', ')', '"'])) {
            Some(why) => format!("none: {why}"),
            None => gradient.to_lowercase(),
        };
        // a list that is too long for one line goes on up to its bracket
        let zmlx =
            file.text.split_once("zmlx: &[").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
        let zmlx: Vec<&str> = zmlx.split(',').map(|z| z.trim().trim_matches('"')).filter(|z| !z.is_empty()).collect();
        let zmlx = zmlx.join(", ");
        rows.push(format!("| [{name}](../{}) | {what} | {gradient} | {cost} | {zmlx} | {source} |\n", file.path));
    }
    rows.sort_unstable();
    if rows.is_empty() {
        return None;
    }
    let text = format!(
        "# Kernels\n\nWritten by `cargo xtask index` from the heads of the files, which also tell shapes and types. \
         `zmlx kernels --json` lists them for programs, formulas included.\n\nValue and gradient of each are verified on the \
         CPU in f32, f16, bf16 and f64, and as CUDA and Metal text that is executed on the CPU, at every test run; what ran \
         on a GPU, and how fast, is in [BENCHMARKS.md](../BENCHMARKS.md). Kernels of ZMLX that are still missing are listed \
         in [coverage.rs](../crates/zmlx/tests/coverage.rs).\n\n| kernel | what | gradient | cost | of ZMLX | source |\n\
         |---|---|---|---|---|---|\n{}",
        rows.concat()
    );
    let fresh = tree.get(PAGE).is_some_and(|f| f.text == text);
    (!fresh).then(|| (PAGE.into(), text))
}

/// The path and new text of a registry that is stale; None for one that is fresh, or whose folder is not there.
fn updated(registry: &Registry, tree: &Tree) -> Result<Option<(String, String)>, Fault> {
    let path = format!("{}/mod.rs", registry.folder);
    let mut names: Vec<&str> = tree.files.iter().filter_map(|f| module(&f.path, registry.folder)).collect();
    names.sort_unstable();
    let Some(file) = tree.get(&path) else {
        return match names[..] {
            [] => Ok(None),
            _ => Err(Fault { path, line: 1, message: "missing: this folder needs a registry".into() }),
        };
    };
    let (Some(begin), Some(end)) = (file.text.find(BEGIN), file.text.find(END)) else {
        return Err(file.fault(1, format!("no `{BEGIN}` and `{END}` lines to write the list between")));
    };
    if end < begin {
        return Err(file.fault(1, format!("`{END}` stands before `{BEGIN}`")));
    }
    let (head, tail) = (&file.text[..begin + BEGIN.len()], &file.text[end..]);
    let text = format!("{head}\n{}{tail}", (registry.list)(&names));
    Ok((text != file.text).then_some((path, text)))
}

/// `x` for `folder/x.rs`, and for `folder/x/mod.rs`: an entry that needs a folder of its own.
fn module<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let inside = path.strip_prefix(folder)?.strip_prefix('/')?;
    let name = inside.strip_suffix("/mod.rs").or(inside.strip_suffix(".rs"))?;
    (name != "mod" && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOD: &str = "crates/zmlx-cli/src/verb/mod.rs";

    fn verbs(list: &str) -> Vec<Fault> {
        check(&Tree::of(&[
            ("crates/zmlx-cli/src/verb/eval.rs", ""),
            (MOD, list),
            ("crates/zmlx-cli/src/verb/show.rs", ""),
            ("crates/zmlx-cli/src/verb/tune/mod.rs", ""),
            ("crates/zmlx-cli/src/verb/tune/space.rs", ""),
        ]))
    }

    #[test]
    fn a_list_of_exactly_the_folder_is_fresh() {
        let fresh = "//! Verbs.\n// index: begin\npub mod eval;\npub mod show;\npub mod tune;\n// index: end\n";
        assert_eq!(verbs(fresh), []);
    }

    #[test]
    fn a_missing_and_a_foreign_name_are_stale() {
        for list in ["pub mod eval;\npub mod show;\n", "pub mod eval;\npub mod show;\npub mod tune;\npub mod x;\n"] {
            let faults = verbs(&format!("// index: begin\n{list}// index: end\n"));
            assert_eq!(faults.len(), 1);
            assert_eq!(faults[0].to_string(), format!("{MOD}:1: stale list: run `cargo xtask index`"));
        }
    }

    #[test]
    fn a_registry_without_markers_is_a_fault() {
        assert!(verbs("pub mod eval;\n")[0].message.contains("// index: begin"));
        assert!(verbs("// index: end\n// index: begin\n")[0].message.contains("stands before"));
    }

    #[test]
    fn the_page_tells_what_the_heads_say() {
        let silu = (
            "crates/zmlx/src/catalog/silu.rs",
            "//! SiLU: y = x|x|\n//!\n//! Cost: 2·N.\n//! Source: a paper.\n\
              static ENTRY: Entry = Entry {\n    zmlx: &[\n        \"a.b\",\n        \"c.d\",\n    ],\n    \
              gradient: Gradient::None(\"a step\"),\n};\n",
        );
        let (path, text) = page(&Tree::of(&[silu])).expect("stale");
        let row = "| [silu](../crates/zmlx/src/catalog/silu.rs) | SiLU: y = x\\|x\\| | none: a step | 2·N. | a.b, c.d | a paper. |\n";
        assert!(path == PAGE && text.ends_with(row), "{text}");
        assert_eq!(page(&Tree::of(&[silu, (PAGE, &text)])), None);
        assert_eq!(page(&Tree::of(&[])), None);
    }

    #[test]
    fn the_catalog_lists_modules_and_entries() {
        let list = "pub mod rope;\npub mod silu;\n\nuse crate::entry::Entry;\n\n/// Every kernel, by name.\n\
                    pub static ENTRIES: &[&Entry] = &[&rope::ENTRY, &silu::ENTRY];\n";
        assert_eq!(entries(&["rope", "silu"]), list);
        let many = entries(&["a_rather_long_name"; 6]);
        assert!(many.ends_with("    &a_rather_long_name::ENTRY,\n];\n"), "{many}");
    }
}
