//! A glance at Rust text: enough of its lexical grammar to tell code, comments and literals apart.

/// What a rule wants to see; all else becomes blank, so that lines and columns stay.
#[derive(Clone, Copy, PartialEq)]
pub enum Keep {
    /// Code without comments; the inside of a string literal becomes quotes.
    Code,
    /// Code and string literals without comments.
    CodeAndStrings,
}

/// The text with what is not kept blanked out.
pub fn mask(text: &str, keep: Keep) -> String {
    let c: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < c.len() {
        let (end, kind) = token(&c, i);
        for &ch in &c[i..end] {
            out.push(match kind {
                _ if ch == '\n' => '\n',
                Token::Comment => ' ',
                Token::Literal if keep == Keep::Code => '"',
                _ => ch,
            });
        }
        i = end;
    }
    out
}

#[derive(Clone, Copy)]
enum Token {
    Comment,
    Literal,
    Code,
}

/// Where the token that starts at `i` ends, and what it is. An identifier is one token, so that the `r` in `for` opens
/// no raw string.
fn token(c: &[char], i: usize) -> (usize, Token) {
    let at = |k: usize| c.get(k).copied().unwrap_or('\0');
    match (at(i), at(i + 1)) {
        ('/', '/') => (c[i..].iter().position(|&ch| ch == '\n').map_or(c.len(), |n| i + n), Token::Comment),
        ('/', '*') => (block_comment_end(c, i), Token::Comment),
        ('"', _) => (string_end(c, i + 1), Token::Literal),
        ('\'', '\\') => {
            // The escaped character itself may be a quote.
            let close = (i + 3..c.len()).find(|&k| c[k] == '\'');
            (close.map_or(c.len(), |k| k + 1), Token::Literal)
        }
        ('\'', _) if at(i + 2) == '\'' => (i + 3, Token::Literal),
        (ch, _) if ch.is_alphanumeric() || ch == '_' => {
            let end = (i..c.len()).find(|&k| !(c[k].is_alphanumeric() || c[k] == '_')).unwrap_or(c.len());
            let prefix: String = c[i..end].iter().collect();
            match prefix.as_str() {
                "r" | "br" | "cr" => match raw_string_end(c, end) {
                    Some(end) => (end, Token::Literal),
                    None => (end, Token::Code),
                },
                _ => (end, Token::Code),
            }
        }
        _ => (i + 1, Token::Code),
    }
}

fn block_comment_end(c: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < c.len() {
        match (c[i], c.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    c.len()
}

fn string_end(c: &[char], mut i: usize) -> usize {
    while i < c.len() {
        match c[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    c.len()
}

/// `i` stands after the prefix; None if hashes and a quote do not follow (a raw identifier).
fn raw_string_end(c: &[char], i: usize) -> Option<usize> {
    let hashes = c[i..].iter().take_while(|&&ch| ch == '#').count();
    if c.get(i + hashes) != Some(&'"') {
        return None;
    }
    let closes = |&k: &usize| c[k] == '"' && c[k + 1..].iter().take(hashes).filter(|&&ch| ch == '#').count() == hashes;
    Some((i + hashes + 1..c.len()).find(closes).map_or(c.len(), |k| k + 1 + hashes))
}

/// Lines that hold code, up to the unit tests at the foot.
pub fn code_lines(text: &str) -> usize {
    let code = mask(text, Keep::Code);
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let tests = lines.windows(2).position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod "));
    lines[..tests.unwrap_or(lines.len())].iter().filter(|l| !l.is_empty()).count()
}

/// The lines, from 1, on which `word` stands by itself (`unsafe`, but not `unsafe_code`).
pub fn lines_with_word(text: &str, word: &str) -> Vec<usize> {
    let joins = |ch: Option<char>| ch.is_some_and(|ch| ch.is_alphanumeric() || ch == '_');
    let stands = |line: &str| {
        line.match_indices(word)
            .any(|(at, _)| !joins(line[..at].chars().next_back()) && !joins(line[at + word.len()..].chars().next()))
    };
    text.lines().enumerate().filter(|(_, line)| stands(line)).map(|(n, _)| n + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text =
            "let a = \"unsafe\"; // unsafe\n/* unsafe /* still */ unsafe */ let b = r#\"a \" unsafe\"#;\nunsafe {}";
        assert_eq!(lines_with_word(&mask(text, Keep::Code), "unsafe"), [3]);
        assert_eq!(lines_with_word(&mask(text, Keep::CodeAndStrings), "unsafe"), [1, 2, 3]);
    }

    #[test]
    fn quotes_in_characters_and_lifetimes_open_no_string() {
        let text = "let q = '\"'; let e = '\\''; fn f<'a>(x: &'a str) {} for x in y {} // no\nunsafe";
        let code = mask(text, Keep::Code);
        assert!(code.contains("fn f<'a>(x: &'a str) {} for x in y {}"), "{code}");
        assert_eq!(lines_with_word(&code, "unsafe"), [2]);
    }

    #[test]
    fn a_word_inside_a_longer_one_is_not_that_word() {
        assert!(lines_with_word("#![forbid(unsafe_code)]", "unsafe").is_empty());
        assert_eq!(lines_with_word("x\n(unsafe)", "unsafe"), [2]);
    }

    #[test]
    fn code_lines_leave_out_blanks_comments_and_tests() {
        let text = "//! Doc.\n\nfn f() {\n    // why\n    g();\n}\n\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        assert_eq!(code_lines(text), 3);
        assert_eq!(code_lines("let s = \"one\ntwo\nthree\";\n"), 3, "a string's lines are code");
        assert_eq!(code_lines("#[cfg(test)]\nfn only_for_tests() {}\nfn g() {}\n"), 3);
    }
}
