//! Words, links and weight: what holds for every file, whatever it is written in.

use crate::tree::{Fault, File, Tree};

const LARGEST_BYTES: usize = 1 << 20;

/// Paths of one machine and words about the people at work: a reader of the project has no use for them. In two
/// pieces, so that this table is not among its own findings.
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!(".lib", "rary/"),
    concat!("sub", "agent"),
    concat!("this ses", "sion"),
    concat!("Co-Auth", "ored"),
];

pub fn foreign_words(tree: &Tree) -> Vec<Fault> {
    let written = |f: &&File| !f.path.ends_with(".lock");
    let mut faults = Vec::new();
    for f in tree.files.iter().filter(written) {
        for (n, line) in f.text.lines().enumerate() {
            for word in FOREIGN.iter().filter(|word| speaks(line, word)) {
                faults.push(f.fault(n + 1, format!("`{word}` speaks of one machine or one day's work")));
            }
        }
    }
    faults
}

/// Is `word` in the line? A path must start there: `$folder/root/usr` is relative to a folder of the reader's.
fn speaks(line: &str, word: &str) -> bool {
    let goes_on = |before: &str| before.ends_with(|ch: char| ch.is_alphanumeric() || "_-.~/}".contains(ch));
    line.match_indices(word).any(|(at, _)| !word.starts_with('/') || !goes_on(&line[..at]))
}

pub fn file_size(tree: &Tree) -> Vec<Fault> {
    let large = tree.files.iter().filter(|f| f.bytes > LARGEST_BYTES);
    large.map(|f| f.fault(1, format!("{} bytes, more than {LARGEST_BYTES}", f.bytes))).collect()
}

/// Relative links of Markdown files lead to a file or folder, and to a heading where they name one.
pub fn links(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for f in tree.files.iter().filter(|f| f.path.ends_with(".md")) {
        for (line, target) in targets(&f.text) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let Some(path) = resolve(&f.path, path) else {
                faults.push(f.fault(line, format!("link {target} leads out of the project")));
                continue;
            };
            let folder = format!("{path}/");
            if !tree.files.iter().any(|g| g.path == path || g.path.starts_with(&folder)) {
                faults.push(f.fault(line, format!("link {target} leads nowhere")));
            } else if let Some(page) = tree.get(&path)
                && path.ends_with(".md")
                && !anchor.is_empty()
                && !headings(&page.text).any(|h| h == anchor)
            {
                faults.push(f.fault(line, format!("link {target}: {path} has no heading of that name")));
            }
        }
    }
    faults
}

/// Lines outside of fenced blocks, from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(n, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((n + 1, line))
    })
}

/// The relative links: `[text](target)` outside of code.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (n, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let quoted = line[..at].matches('`').count() % 2 == 1;
            let Some((target, _)) = line[at + 2..].split_once(')') else { continue };
            let target = target.split(' ').next().unwrap_or(target);
            if !quoted && !target.contains("://") && !target.starts_with("mailto:") {
                found.push((n, target));
            }
        }
    }
    found
}

/// The path from the root of what `from` calls `link`; None above the root.
fn resolve(from: &str, link: &str) -> Option<String> {
    if link.is_empty() {
        return Some(from.into());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a page's headings: lower case, without punctuation, dashes for spaces.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|ch| ch.is_alphanumeric() || matches!(ch, ' ' | '-' | '_'));
        kept.map(|ch| if ch == ' ' { '-' } else { ch }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_files_folders_and_headings() {
        let pages = [
            ("README.md", "# Top\n[a](docs/A.md) [b](docs) [c](#top) [d](https://x.y/z) `[e](nowhere)`\n"),
            ("docs/A.md", "## Ops, and `kernels`\n[up](../README.md#top) [here](#ops-and-kernels)\n"),
        ];
        assert_eq!(links(&Tree::of(&pages)), []);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_fault() {
        let text = "# Top\n\n[a](B.md)\n[b](../B.md)\n[c](#bottom)\n```\n[d](B.md)\n```\n";
        let lines: Vec<usize> = links(&Tree::of(&[("A.md", text)])).iter().map(|f| f.line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }

    #[test]
    fn foreign_words_are_found_in_any_text() {
        let path = format!("cd {}x\n", concat!("/wo", "rk/"));
        assert_eq!(foreign_words(&Tree::of(&[("a.sh", &path), ("Cargo.lock", &path)])).len(), 1);
        let fine = "a network/x, the workplace, $folder/root/usr and ${folder}/home/x\n";
        assert_eq!(foreign_words(&Tree::of(&[("a.md", fine)])), []);
    }

    #[test]
    fn a_file_above_a_mebibyte_is_a_fault() {
        let large = "x".repeat(LARGEST_BYTES + 1);
        assert_eq!(file_size(&Tree::of(&[("a.bin", &large), ("b.bin", "x")])).len(), 1);
    }
}
