//! Plain tables: a header, a rule, rows; numbers to the right. `print` makes columns as wide as their widest cell; a `Live`
//! table prints each row as it comes, in columns of given widths.

use crate::out;
use zmlx::catalog::ENTRIES;

/// Prints rows under a header.
pub fn print(header: &[&str], rows: &[Vec<String>]) {
    out::whole(text(header, rows));
}

/// A number, or what stands for one.
fn numeric(cell: &str) -> bool {
    cell.is_empty() || cell.starts_with(|c: char| c.is_ascii_digit() || "–-".contains(c))
}

/// One line: cells padded to the widths, those of `right` on the left.
fn line(cells: &[&str], widths: &[usize], right: &[bool]) -> String {
    let mut out = String::new();
    for ((cell, width), right) in cells.iter().zip(widths).zip(right) {
        let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
        let (left, after) = if *right { (pad.as_str(), "") } else { ("", pad.as_str()) };
        out.push_str(&format!("{left}{cell}{after}  "));
    }
    format!("{}\n", out.trim_end())
}

fn rule(widths: &[usize]) -> String {
    let rules: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
    format!("{}\n", rules.join("  ").trim_end())
}

/// The table as text.
pub fn text(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |c: usize| {
        let cells = rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count());
        cells.chain([header[c].chars().count()]).max().unwrap_or(0)
    };
    let columns = 0..header.len();
    let widths: Vec<usize> = columns.clone().map(width).collect();
    let right = |c: usize| !rows.is_empty() && rows.iter().all(|r| r.get(c).is_none_or(|cell| numeric(cell)));
    let right: Vec<bool> = columns.map(right).collect();
    let mut out = line(header, &widths, &right) + &rule(&widths);
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        out.push_str(&line(&cells, &widths, &right));
    }
    out
}

/// The column of kernels in a table whose rows are not known yet: as wide as the longest name of the catalog.
pub fn kernels() -> (&'static str, usize) {
    ("kernel", ENTRIES.iter().map(|e| e.name.len()).max().unwrap_or(0))
}

/// A table whose rows are printed as they come.
pub struct Live {
    widths: Vec<usize>,
}

impl Live {
    /// Prints the header: names and widths of the columns. What does not fit is printed all the same. The first column is
    /// of names, the others of numbers.
    pub fn start(columns: &[(&str, usize)]) -> Live {
        let names: Vec<&str> = columns.iter().map(|c| c.0).collect();
        let widths: Vec<usize> = columns.iter().map(|c| c.1.max(c.0.chars().count())).collect();
        let right: Vec<bool> = (0..widths.len()).map(|c| c > 0).collect();
        out::whole(format_args!("{}{}", line(&names, &widths, &right), rule(&widths)));
        Live { widths }
    }

    /// Prints a row.
    pub fn row(&self, cells: &[String]) {
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        let right: Vec<bool> = (0..cells.len()).map(|c| c > 0).collect();
        out::whole(line(&cells, &self.widths, &right));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_numbers_stand_right() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "23".into()]];
        assert_eq!(text(&["name", "n"], &rows), "name   n\n────  ──\na      1\nlong  23\n");
    }

    #[test]
    fn a_cell_that_is_too_wide_is_not_cut() {
        assert_eq!(line(&["a", "12345", "6"], &[2, 3, 2], &[false, true, true]), "a   12345   6\n");
    }
}
