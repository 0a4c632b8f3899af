//! How a source file looks: its opening, its name, its length, and that it is finished.

use crate::{
    budget::{LIMIT, ROWS},
    source::{self, Keep},
    tree::{Fault, Tree},
};

/// Names that say nothing of what a file holds.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "common", "misc", "base", "types", "manager", "core"];

/// Every Rust file says first what it is, or includes the page that does.
pub fn opens_with_doc(tree: &Tree) -> Vec<Fault> {
    let closed = tree.rust().filter(|f| !f.text.starts_with("//!") && !f.text.starts_with("#![doc = include_str!"));
    closed.map(|f| f.fault(1, "opens without `//!`: say in one line what this file is")).collect()
}

pub fn file_names(tree: &Tree) -> Vec<Fault> {
    let empty = |path: &str| path.split('/').any(|part| EMPTY_NAMES.contains(&part.trim_end_matches(".rs")));
    let found = tree.rust().filter(|f| empty(&f.path));
    found.map(|f| f.fault(1, "this name says nothing: name the thing that the file holds")).collect()
}

pub fn length(tree: &Tree) -> Vec<Fault> {
    length_by(tree, ROWS)
}

fn length_by(tree: &Tree, rows: &[(&str, usize, &str)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for f in tree.rust() {
        let n = source::code_lines(&f.text);
        match rows.iter().find(|row| row.0 == f.path) {
            None if n > LIMIT => faults
                .push(f.fault(1, format!("{n} lines of code, more than {LIMIT}: split it, or add a row to budget.rs"))),
            Some(row) if n > row.1 => {
                faults.push(f.fault(1, format!("{n} lines of code, more than the {} of its row in budget.rs", row.1)));
            }
            Some(_) if n <= LIMIT => faults.push(f.fault(1, "needs its row in budget.rs no more")),
            _ => {}
        }
    }
    for row in rows.iter().filter(|row| tree.get(row.0).is_none()) {
        faults.push(Fault { path: row.0.into(), line: 1, message: "has a row in budget.rs, but is not there".into() });
    }
    faults
}

/// No leftovers: what is not done is an issue, not a mark in the code.
pub fn unfinished(tree: &Tree) -> Vec<Fault> {
    // In two pieces, so that this table is not among its own findings.
    const MACROS: &[&str] = &[concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!")];
    const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut faults = Vec::new();
    for f in &tree.files {
        if f.is_rust() {
            let code = source::mask(&f.text, Keep::Code);
            for word in MACROS {
                let lines = source::lines_with_word(&code, word);
                faults.extend(lines.into_iter().map(|n| f.fault(n, format!("`{word}` has no place here"))));
            }
        }
        if f.is_rust() || f.path.ends_with(".md") || f.path.ends_with(".sh") || f.path.ends_with(".toml") {
            for word in MARKS {
                let lines = source::lines_with_word(&f.text, word);
                faults.extend(lines.into_iter().map(|n| f.fault(n, format!("`{word}`: do it, or open an issue"))));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_opens_with_its_doc() {
        assert_eq!(
            opens_with_doc(&Tree::of(&[
                ("a.rs", "//! A.\n"),
                ("b.rs", "#![doc = include_str!(\"A.md\")]\n"),
                ("c.py", "")
            ])),
            []
        );
        assert_eq!(opens_with_doc(&Tree::of(&[("a.rs", "/// A.\nfn f() {}\n")])).len(), 1);
    }

    #[test]
    fn an_empty_name_is_a_fault_of_files_and_folders() {
        let tree = Tree::of(&[("x/utils.rs", ""), ("core/a.rs", ""), ("x/base.md", ""), ("x/baseline.rs", "")]);
        let paths: Vec<String> = file_names(&tree).into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["x/utils.rs", "core/a.rs"]);
    }

    #[test]
    fn a_long_file_needs_a_row_that_is_large_enough_and_still_needed() {
        let text = "f();\n".repeat(LIMIT + 1);
        let tree = Tree::of(&[("a.rs", &text), ("b.rs", "f();\n")]);
        assert_eq!(length_by(&tree, &[]).len(), 1);
        assert_eq!(length_by(&tree, &[("a.rs", LIMIT + 1, "why")]), []);
        assert!(length_by(&tree, &[("a.rs", LIMIT, "why")])[0].message.contains("of its row"));
        let rows = [("a.rs", LIMIT + 1, "why"), ("b.rs", 600, "was long"), ("c.rs", 600, "is gone")];
        let paths: Vec<String> = length_by(&tree, &rows).into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["b.rs", "c.rs"]);
    }

    #[test]
    fn leftovers_are_found_in_code_and_marks_everywhere() {
        let code =
            format!("//! A.\n// {}: later\nfn f() {{\n    {}()\n}}\n", concat!("TO", "DO"), concat!("to", "do!"));
        let lines: Vec<usize> = unfinished(&Tree::of(&[("a.rs", &code)])).iter().map(|f| f.line).collect();
        assert_eq!(lines, [4, 2]);
        assert_eq!(unfinished(&Tree::of(&[("a.rs", "//! No `todo!` here.\nlet s = \"dbg!\";\n")])), []);
    }
}
