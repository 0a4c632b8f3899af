//! The few things in GPU text that no header can give C++ a meaning for. Lines stay where they are.

use super::Dialect;

/// The text with comments blanked, and with block memory and inline PTX as the headers want them.
pub fn translate(dialect: Dialect, text: &str) -> Result<String, String> {
    let text = without_comments(text);
    match dialect {
        Dialect::Cuda => inline_ptx(&dynamic_shared(&text)?),
        Dialect::Metal => Ok(threadgroup_memory(&text)),
    }
}

fn without_comments(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['/', '"']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else {
            let len = match rest.strip_prefix('"') {
                Some(inside) => inside.find('"').map_or(rest.len(), |end| end + 2),
                None => 1,
            };
            out.push_str(&rest[..len]);
            rest = &rest[len..];
            continue;
        };
        out.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[len..];
    }
    out + rest
}

/// Places of a whole word.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// `extern __shared__ T name[];` is memory whose size the launch says: a pointer to it.
fn dynamic_shared(text: &str) -> Result<String, String> {
    let (mut out, mut done) = (String::new(), 0);
    for at in words(text, "extern") {
        let Some(declared) = text[at + "extern".len()..].trim_start().strip_prefix("__shared__") else { continue };
        let end = declared.find(';').ok_or("`extern __shared__` has no end")?;
        let declared_at = text.len() - declared.len();
        let declaration = declared[..end].trim();
        let (front, name) = declaration
            .strip_suffix("[]")
            .and_then(|d| d.trim_end().rsplit_once(char::is_whitespace))
            .ok_or_else(|| format!("`extern __shared__ {declaration}` is not of the form T name[]"))?;
        let kind = match front.trim().strip_prefix("__align__(") {
            Some(rest) => rest.split_once(')').map_or("", |(_, kind)| kind),
            None => front,
        };
        out += &text[done..at];
        out += &format!("{0}* {name} = static_cast<{0}*>(gpu::dynamic_shared())", kind.trim());
        done = declared_at + end;
    }
    Ok(out + &text[done..])
}

/// `asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x))` becomes `y = ptx_cvt_f32_f16(x)`. Several outputs come first among
/// the arguments instead, as references.
fn inline_ptx(text: &str) -> Result<String, String> {
    let (mut out, mut done) = (String::new(), 0);
    for at in words(text, "asm") {
        let mut rest = text[at + 3..].trim_start();
        for qualifier in ["volatile", "__volatile__"] {
            rest = rest.strip_prefix(qualifier).unwrap_or(rest).trim_start();
        }
        let inside = rest.strip_prefix('(').ok_or("`asm` without a parenthesis")?;
        let len = closing(inside).ok_or("`asm` without an end")?;
        let fields = split(&inside[..len], ':');
        let instruction: String = fields[0].split('"').skip(1).step_by(2).collect();
        let instruction = instruction.trim().trim_end_matches(';');
        if instruction.contains(';') || instruction.starts_with('{') {
            return Err(format!("inline PTX of more than one instruction has no stand-in: {instruction}"));
        }
        let mnemonic = instruction.split_whitespace().next().unwrap_or("").replace("::", "_").replace('.', "_");
        let operands = |n: usize| -> Vec<String> {
            let field = fields.get(n).map_or("", String::as_str).trim();
            let operand = |o: &String| Some(o.trim().strip_suffix(')')?.split_once('(')?.1.to_owned());
            split(field, ',').iter().filter_map(operand).collect()
        };
        let (results, sources) = (operands(1), operands(2));
        out += &text[done..at];
        out += &match &results[..] {
            [one] => format!("{one} = ptx_{mnemonic}({})", sources.join(", ")),
            several => format!("ptx_{mnemonic}({})", [several, &sources].concat().join(", ")),
        };
        done = text.len() - inside.len() + len + 1;
    }
    Ok(out + &text[done..])
}

/// Bytes up to the parenthesis that closes what was opened before `text`, strings skipped.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut string) = (0usize, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => string = !string,
            '(' if !string => depth += 1,
            ')' if !string && depth == 0 => return Some(at),
            ')' if !string => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The parts between separators that stand outside of parentheses and strings.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut depth, mut string, mut parts) = (0i32, false, vec![String::new()]);
    for c in text.chars() {
        match c {
            '"' => string = !string,
            '(' | '[' if !string => depth += 1,
            ')' | ']' if !string => depth -= 1,
            _ => {}
        }
        if c == separator && depth == 0 && !string {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// `threadgroup` declares memory where no pointer or reference is declared: there it becomes GPU_SHARED. As an attribute
/// it would be taken for the macro.
fn threadgroup_memory(text: &str) -> String {
    let (mut out, mut done) = (String::new(), 0);
    for at in words(text, "threadgroup") {
        let after = &text[at + "threadgroup".len()..];
        if text[..at].ends_with("[[") {
            out += &text[done..at];
            out += "dynamic_shared";
            done = at + "threadgroup".len();
            continue;
        }
        let declaration = &after[..after.find([';', '=', ')', '{']).unwrap_or(after.len())];
        if declaration.contains(['*', '&', '(']) || after[declaration.len()..].starts_with(')') {
            continue;
        }
        out += &text[done..at];
        out += "GPU_SHARED";
        done = at + "threadgroup".len();
    }
    out + &text[done..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_blanked_and_strings_kept() {
        assert_eq!(without_comments("a / b // c\nd /* e\n */ \"//\""), "a / b     \nd     \n    \"//\"");
    }

    #[test]
    fn inline_ptx_becomes_a_call() {
        let text = "float y; asm volatile (\"cvt.f32.f16 %0, %1;\" : \"=f\"(y) : \"h\"(f(x, 1))); z();";
        assert_eq!(inline_ptx(text).unwrap(), "float y; y = ptx_cvt_f32_f16(f(x, 1)); z();");
        assert!(inline_ptx("asm(\"a; b;\" : \"=f\"(y));").unwrap_err().contains("more than one"));
    }

    #[test]
    fn dynamic_block_memory_becomes_a_pointer() {
        let text = "extern \"C\" void f() { extern __shared__ __align__(16) unsigned char s[]; }";
        let expected =
            "extern \"C\" void f() { unsigned char* s = static_cast<unsigned char*>(gpu::dynamic_shared()); }";
        assert_eq!(dynamic_shared(text).unwrap(), expected);
    }

    #[test]
    fn threadgroup_declares_memory_or_qualifies_a_pointer() {
        let text = "void f(threadgroup float* p [[threadgroup(0)]]) { threadgroup float s[32]; (threadgroup float*)s; threadgroup float a, b; }";
        let expected = "void f(threadgroup float* p [[dynamic_shared(0)]]) { GPU_SHARED float s[32]; (threadgroup float*)s; GPU_SHARED float a, b; }";
        assert_eq!(threadgroup_memory(text), expected);
    }
}
