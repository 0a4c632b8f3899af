//! Tokens of the formula language.

use super::FormulaError;
use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tok {
    /// A name or a word; its text is that of the span.
    Word,
    /// A number that is not a whole one an i64 holds.
    Float(f64),
    /// A whole number.
    Int(i64),
    /// An operator or a bracket.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// A token and where it stands. Texts are at most 64 KiB, so u32 is wide enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub tok: Tok,
    start: u32,
    end: u32,
}

impl Token {
    pub(super) fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(self.tok, Tok::Sign(s) if s == sign)
    }
}

/// Longer signs first, so that `<<` is not read as `<` `<`.
const SIGNS: [&str; 33] = [
    "&&", "||", "==", "!=", "<=", ">=", "<<", ">>", "::", "**", "(", ")", "[", "]", "{", "}", ",", ";", ":", "?", "=",
    "+", "-", "*", "/", "%", "<", ">", "!", "~", "&", "|", "^",
];

/// What typographers write, and how it is written here.
const LOOKALIKES: [(char, &str); 9] = [
    ('×', "*"),
    ('·', "*"),
    ('÷', "/"),
    ('−', "-"),
    ('≤', "<="),
    ('≥', ">="),
    ('≠', "!="),
    ('²', "x * x"),
    ('√', "sqrt(x)"),
];

/// The tokens of a text, an `End` last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FormulaError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(text.len() / 2 + 1);
    let mut at = 0;
    while let Some(&c) = bytes.get(at) {
        let start = at;
        let tok = match c {
            c if c.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'/' if matches!(bytes.get(at + 1), Some(b'/' | b'*')) => {
                at = comment_end(text, at)?;
                continue;
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                at = word_end(bytes, at);
                Tok::Word
            }
            b'0'..=b'9' => number(text, &mut at)?,
            b'.' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => number(text, &mut at)?,
            _ => match SIGNS.iter().find(|s| bytes[at..].starts_with(s.as_bytes())) {
                Some(sign) => {
                    at += sign.len();
                    Tok::Sign(sign)
                }
                None => return Err(unexpected(text, at)),
            },
        };
        out.push(Token { tok, start: start as u32, end: at as u32 });
    }
    out.push(Token { tok: Tok::End, start: text.trim_end().len() as u32, end: text.trim_end().len() as u32 });
    Ok(out)
}

/// Is it written like a name?
pub(super) fn is_word(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.first().is_some_and(|c| c.is_ascii_alphabetic() || *c == b'_') && word_end(bytes, 0) == bytes.len()
}

fn word_end(bytes: &[u8], from: usize) -> usize {
    let more = bytes[from..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == b'_');
    from + more.count()
}

fn comment_end(text: &str, at: usize) -> Result<usize, FormulaError> {
    let rest = &text[at..];
    if rest.starts_with("//") {
        return Ok(at + rest.find('\n').unwrap_or(rest.len()));
    }
    match rest[2..].find("*/") {
        Some(i) => Ok(at + 2 + i + 2),
        None => Err(FormulaError::new("this comment does not end").at(text, at..at + 2).suggest("close it with '*/'")),
    }
}

fn unexpected(text: &str, at: usize) -> FormulaError {
    let c = text[at..].chars().next().unwrap_or(' ');
    let e = FormulaError::new(format!("unexpected character '{}'", c.escape_debug())).at(text, at..at + c.len_utf8());
    match LOOKALIKES.iter().find(|(l, _)| *l == c) {
        Some((_, write)) => e.suggest(format!("write '{write}'")),
        None => e,
    }
}

/// Reads a number: `1`, `1.5`, `.5`, `1e-3`, `0xff`, with C's suffixes `f F h H u U l L`.
fn number(text: &str, at: &mut usize) -> Result<Tok, FormulaError> {
    let bytes = text.as_bytes();
    let start = *at;
    let bad = |end: usize| Err(FormulaError::new("this is not a number").at(text, start..end));
    if bytes[start] == b'0' && matches!(bytes.get(start + 1), Some(b'x' | b'X')) {
        *at = word_end(bytes, start);
        let digits = text[start + 2..*at].trim_end_matches(['u', 'U', 'l', 'L']);
        return match i64::from_str_radix(digits, 16) {
            Ok(v) => Ok(Tok::Int(v)),
            Err(_) => bad(*at),
        };
    }
    let digits = |from: usize| from + bytes[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let mut end = digits(start);
    let mut whole = true;
    if bytes.get(end) == Some(&b'.') {
        whole = false;
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let last = digits(end + 1 + sign);
        if last > end + 1 + sign {
            whole = false;
            end = last;
        }
    }
    *at = word_end(bytes, end);
    if !matches!(&text[end..*at], "" | "f" | "F" | "h" | "H" | "u" | "U" | "l" | "L" | "ul" | "UL" | "ll" | "LL") {
        let product = format!("write '{} * {}'", &text[start..end], &text[end..*at]);
        return bad(*at)
            .map_err(|e: FormulaError| if text[end..*at].starts_with('_') { e } else { e.suggest(product) });
    }
    if let (true, Ok(v)) = (whole, text[start..end].parse()) {
        return Ok(Tok::Int(v));
    }
    text[start..end].parse().map(Tok::Float).or_else(|_| bad(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toks(text: &str) -> Vec<Tok> {
        tokens(text).unwrap().into_iter().map(|t| t.tok).collect()
    }

    #[test]
    fn numbers_in_every_spelling() {
        for (text, value) in [
            ("1.0f", 1.0),
            ("1.f", 1.0),
            (".5", 0.5),
            ("1e-3", 1e-3),
            ("2.5E+2F", 250.0),
            ("1e400", f64::INFINITY),
            ("1.5h", 1.5),
            ("99999999999999999999", 1e20),
        ] {
            assert_eq!(toks(text), [Tok::Float(value), Tok::End], "{text}");
        }
        for (text, value) in [("7", 7), ("0xFFu", 255), ("12UL", 12), ("9223372036854775807", i64::MAX)] {
            assert_eq!(toks(text), [Tok::Int(value), Tok::End], "{text}");
        }
        for text in ["1.5x", "0x", "0xg", "1_000", "0xFFFFFFFFFFFFFFFF", "1e", "3d"] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }

    #[test]
    fn comments_are_blanks() {
        assert_eq!(toks("a // b\n /* c \n d */ e").len(), 3);
        assert_eq!(tokens("a /* b").unwrap_err().span, Some(2..4));
    }

    #[test]
    fn lookalikes_are_explained() {
        assert_eq!(tokens("a × b").unwrap_err().to_string(), "unexpected character '×'; write '*'\n  a × b\n    ^");
        assert_eq!(tokens("a @ b").unwrap_err().to_string(), "unexpected character '@'\n  a @ b\n    ^");
    }
}
