//! Plain tables: a header, a rule, rows; columns as wide as their widest cell, numbers to the right.

/// Prints rows under a header.
pub fn print(header: &[&str], rows: &[Vec<String>]) {
    print!("{}", text(header, rows));
}

/// The table as text.
pub fn text(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |c: usize| {
        let cells = rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count());
        cells.chain([header[c].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let numeric = |c: usize| {
        let digits = |s: &String| s.is_empty() || s.starts_with(|ch: char| ch.is_ascii_digit() || "–-".contains(ch));
        !rows.is_empty() && rows.iter().all(|r| r.get(c).is_none_or(digits))
    };
    let right: Vec<bool> = (0..header.len()).map(numeric).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (c, cell) in cells.enumerate() {
            let pad = " ".repeat(widths[c].saturating_sub(cell.chars().count()));
            let (left, after) = if right[c] { (pad.as_str(), "") } else { ("", pad.as_str()) };
            out.push_str(&format!("{left}{cell}{after}  "));
        }
        format!("{}\n", out.trim_end())
    };
    let mut out = line(&mut header.iter().copied());
    let rules: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
    out.push_str(&line(&mut rules.iter().map(String::as_str)));
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_align_and_numbers_stand_right() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "23".into()]];
        let text = super::text(&["name", "n"], &rows);
        assert_eq!(text, "name   n\n────  ──\na      1\nlong  23\n");
    }
}
