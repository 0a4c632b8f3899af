//! The invariants that a look at the text can hold (CONTRIBUTING.md lists them): each rule is a function from the
//! tree to its faults.

mod form;
mod layers;
mod place;
mod prose;

use crate::{
    budget, index, source,
    tree::{Fault, Tree},
};

const RULES: &[fn(&Tree) -> Vec<Fault>] = &[
    form::opens_with_doc,
    form::file_names,
    form::length,
    form::unfinished,
    place::unsafe_code,
    place::features,
    place::target_words,
    place::environment,
    layers::arrows,
    layers::outside,
    prose::foreign_words,
    prose::links,
    prose::file_size,
    index::check,
];

/// All faults of all rules, in the order of files and lines.
pub fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults: Vec<Fault> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    faults.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    faults
}

/// One line on how long the files are, so that growth is seen before it is a fault.
pub fn sizes(tree: &Tree) -> String {
    let lengths: Vec<(&str, usize)> = tree.rust().map(|f| (f.path.as_str(), source::code_lines(&f.text))).collect();
    let total: usize = lengths.iter().map(|(_, n)| n).sum();
    let long = lengths.iter().filter(|(_, n)| *n > budget::AIM);
    let long: Vec<String> = long.map(|(path, n)| format!("{path} ({n})")).collect();
    let above = if long.is_empty() { "none".to_string() } else { long.join(", ") };
    format!("{} Rust files, {total} lines of code; above the aim of {}: {above}", lengths.len(), budget::AIM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_the_order_of_files_and_lines() {
        let tree = Tree::of(&[
            ("crates/zmlx/src/b.rs", "//! B.\nfn f() {\n    todo!()\n}\n"),
            ("crates/zmlx/src/a.rs", "fn f() {\n    unsafe {}\n}\n"),
        ]);
        // the budget names files that this tree lacks
        let faults = check(&tree).into_iter().filter(|f| tree.rust().any(|file| file.path == f.path));
        let places: Vec<(String, usize)> = faults.map(|f| (f.path, f.line)).collect();
        let (a, b) = ("crates/zmlx/src/a.rs".to_string(), "crates/zmlx/src/b.rs".to_string());
        assert_eq!(places, [(a.clone(), 1), (a, 2), (b, 3)]);
    }

    #[test]
    fn sizes_name_the_files_above_the_aim() {
        let long = "f();\n".repeat(301);
        let tree = Tree::of(&[("a.rs", "f();\n"), ("b.rs", &long)]);
        assert_eq!(sizes(&tree), "2 Rust files, 302 lines of code; above the aim of 300: b.rs (301)");
    }
}
