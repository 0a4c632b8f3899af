//! What is wrong with a formula, and where: the place is shown underlined, with a suggestion where there is one.

use std::{fmt, ops::Range};

/// How much of a long line is shown around the place.
const WINDOW: usize = 100;

/// A mistake in a formula.
///
/// ```text
/// unknown function 'tahn'; did you mean 'tanh'?
///   x * tahn(x)
///       ^^^^
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormulaError {
    /// What is wrong.
    pub message: String,
    /// The text it is wrong in; empty where there is none (a traced closure).
    pub text: String,
    /// Bytes of `text` that are wrong.
    pub span: Option<Range<usize>>,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl FormulaError {
    /// A mistake without a place.
    pub fn new(message: impl Into<String>) -> FormulaError {
        FormulaError { message: message.into(), text: String::new(), span: None, suggestion: None }
    }

    /// The same mistake at a place, unless it has one.
    pub fn at(mut self, text: &str, span: Range<usize>) -> FormulaError {
        if self.span.is_none() {
            self.text = text.into();
            self.span = Some(span);
        }
        self
    }

    /// The same mistake with advice, a clause that stands after a semicolon.
    pub fn suggest(mut self, advice: impl Into<String>) -> FormulaError {
        self.suggestion = Some(advice.into());
        self
    }

    /// The same mistake with the nearest of the known words, if one is near.
    pub(super) fn did_you_mean<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> FormulaError {
        match nearest(word, known) {
            Some(near) => self.suggest(format!("did you mean '{near}'?")),
            None => self,
        }
    }

    /// The line of the place and where in it the place is, in characters.
    fn place(&self) -> Option<(String, usize, usize)> {
        let span = self.span.clone()?;
        let (start, end) = (floor_char(&self.text, span.start), floor_char(&self.text, span.end));
        let line_start = self.text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
        // Tabs are shown as spaces, so that the carets stand right.
        let shown = |s: &str| s.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<Vec<_>>();
        let line = shown(self.text[line_start..line_end].trim_end());
        let column = shown(&self.text[line_start..start]).len();
        let width = shown(&self.text[start..end.clamp(start, line_end)]).len().max(1);
        let blank = line.iter().take_while(|c| **c == ' ').count().min(column);
        let from = if line.len() > WINDOW { column.saturating_sub(WINDOW / 2) } else { blank };
        let kept: String = line.iter().skip(from).take(WINDOW).collect();
        Some((kept, column - from, width.min(WINDOW)))
    }
}

/// The largest char boundary at or before `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for FormulaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(s) = &self.suggestion {
            write!(f, "; {s}")?;
        }
        match self.place() {
            Some((line, column, width)) => write!(f, "\n  {line}\n  {:column$}{:^<width$}", "", ""),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FormulaError {}

/// The known word nearest to this one, if a slip or two away.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.len() / 3).clamp(1, 2);
    if word.len() > WINDOW {
        return None;
    }
    known
        .into_iter()
        .filter(|k| k.len().abs_diff(word.len()) <= allowed)
        .map(|k| ((distance(word.as_bytes(), k.as_bytes()), k.len().abs_diff(word.len())), k))
        .filter(|((slips, _), k)| *slips <= allowed && *slips < k.len())
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Edit distance with swaps of neighbours (optimal string alignment).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [before, last, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(!a[i - 1].eq_ignore_ascii_case(&b[j - 1]));
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_one_slip() {
        assert_eq!(distance(b"tahn", b"tanh"), 1);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(nearest("tahn", ["tan", "tanh"]), Some("tanh"));
        assert_eq!(nearest("zzz", ["exp", "log"]), None);
        assert_eq!(nearest("f", ["g"]), None);
    }

    #[test]
    fn the_place_is_underlined_in_its_own_line() {
        let e = FormulaError::new("bad").at("let a = 1;\n\tb + cc", 16..18);
        assert_eq!(e.to_string(), "bad\n  b + cc\n      ^^");
        let e = FormulaError::new("ends too early").at("a +", 3..3).suggest("add a value");
        assert_eq!(e.to_string(), "ends too early; add a value\n  a +\n     ^");
    }

    #[test]
    fn a_long_line_shows_the_part_around_the_place() {
        let text = format!("{} + ? + {}", "a".repeat(1000), "b".repeat(1000));
        let shown = FormulaError::new("bad").at(&text, 1003..1004).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].len() <= WINDOW + 2, "{shown}");
        assert_eq!(lines[1].find('?'), lines[2].find('^'), "{shown}");
    }

    #[test]
    fn a_span_inside_a_character_does_not_panic() {
        let e = FormulaError::new("bad").at("é", 1..9);
        assert_eq!(e.to_string(), "bad\n  é\n  ^");
    }
}
