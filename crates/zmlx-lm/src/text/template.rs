//! A conversation as one text: the checkpoint's template in Jinja, with what transformers adds to the language.

use crate::{Error, Result};
use minijinja::{
    Environment, ErrorKind, Value, context,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde},
};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::{io, time::SystemTime};

/// Who says what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// Said in this role.
    pub fn new(role: &str, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}

/// A template, read.
pub struct ChatTemplate {
    environment: Environment<'static>,
    origin: String,
    begin: Option<String>,
    end: Option<String>,
    /// Why the text is no template; told when a conversation is to be written, as raw texts need none.
    broken: Option<String>,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Of its text; `begin` and `end` are what it calls `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// None; a text that is no template is told by [`ChatTemplate::render`].
    pub fn new(origin: &str, text: String, begin: Option<String>, end: Option<String>) -> Result<ChatTemplate> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| Error::argument(origin, "syntax", "that of Jinja", e))?);
        // methods of Python's texts and lists
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |why: String| -> std::result::Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, why))
        });
        environment.add_function("strftime_now", |format: String| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            date(since.map_or(0, |s| s.as_secs()), &format)
        });
        environment.add_filter("tojson", to_json);
        let origin = format!("{origin}: chat template");
        let broken = environment.add_template_owned(NAME, without_generation(&text)).err().map(|e| e.to_string());
        Ok(ChatTemplate { environment, origin, begin, end, broken })
    }

    /// The text of a conversation, up to where the answer begins.
    ///
    /// # Errors
    /// A text that is no template; what it raises: some take no system message, or want roles in turn.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        if let Some(why) = &self.broken {
            return Err(Error::argument(&self.origin, "text", "a template in Jinja", why));
        }
        let told = |e: minijinja::Error| Error::argument(&self.origin, "conversation", "one that it takes", e);
        let template = self.environment.get_template(NAME).map_err(told)?;
        let values = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => true,
            bos_token => self.begin.as_deref().unwrap_or_default(),
            eos_token => self.end.as_deref().unwrap_or_default(),
        };
        template.render(values).map_err(told)
    }
}

/// `{% generation %}` marks what the assistant says, for training; here its block is one that always is.
fn without_generation(text: &str) -> String {
    let mut parts = text.split("{%");
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        whole.push_str("{%");
        let (tag, behind) = part.split_once("%}").map_or((part, None), |(tag, behind)| (tag, Some(behind)));
        match tag.trim_matches(['-', '+']).trim() {
            "generation" => whole.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => whole.push_str(&tag.replace("endgeneration", "endif")),
            _ => whole.push_str(tag),
        }
        if let Some(behind) = behind {
            whole.push_str("%}");
            whole.push_str(behind);
        }
    }
    whole
}

/// JSON as Python writes it, with spaces, and `<`, `>`, `&`, `'` as they are.
fn to_json(value: &Value, settings: Kwargs) -> std::result::Result<Value, minijinja::Error> {
    let indent: Option<usize> = settings.get("indent")?;
    let mut bytes = vec![];
    let written = match indent {
        Some(n) => {
            let spaces = " ".repeat(n);
            value
                .serialize(&mut Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(spaces.as_bytes())))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
    };
    let told = |e: String| minijinja::Error::new(ErrorKind::BadSerialization, e);
    written.map_err(|e| told(e.to_string()))?;
    Ok(Value::from_safe_string(String::from_utf8(bytes).map_err(|e| told(e.to_string()))?))
}

/// Spaces behind commas and colons.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A time in UTC, in the words of C's `strftime`; those that are not known stay as they are.
fn date(seconds: u64, format: &str) -> String {
    let (day, time) = (seconds / 86400, seconds % 86400);
    // years of 400 begin in March, so that a leap day is the last of its year
    let from = day + 719_468;
    let (era, of_era) = (from / 146_097, from % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let part = (5 * of_year + 2) / 153;
    let month = if part < 10 { part + 3 } else { part - 9 };
    let number = of_year - (153 * part + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month <= 2);
    let name = MONTHS[month as usize - 1];
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('Y') => text += &year.to_string(),
            Some('y') => text += &format!("{:02}", year % 100),
            Some('m') => text += &format!("{month:02}"),
            Some('d') => text += &format!("{number:02}"),
            Some('B') => text += name,
            Some('b') => text += &name[..3],
            Some('H') => text += &format!("{:02}", time / 3600),
            Some('M') => text += &format!("{:02}", time / 60 % 60),
            Some('S') => text += &format!("{:02}", time % 60),
            Some('%') | None => text.push('%'),
            Some(other) => text.extend(['%', other]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, messages: &[Message]) -> String {
        let template = ChatTemplate::new("x", text.into(), Some("<s>".into()), None);
        template.and_then(|t| t.render(messages)).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn templates_have_what_transformers_adds_to_jinja() {
        let said = [Message::new("user", " hi "), Message::new("assistant", "ho")];
        let text = "{{ bos_token }}{% for m in messages %}\n{%- if m['role'] == 'user' %}\n{{ m.content.strip() | tojson }}\n\
                    {% elif loop.last %}\n[{{ m['content'].upper() }}]\n{% endif %}{% endfor %}";
        assert_eq!(rendered(text, &said), "<s>\"hi\"\n[HO]\n");
        let raised = rendered("{{ raise_exception('no system') }}", &said);
        assert!(raised.starts_with("x: chat template: conversation, expected one that it takes, got "));
        assert!(raised.contains("no system"));
        let marked =
            "{%- for m in messages -%}\n {%- generation -%} {{ m.content }} {%- endgeneration %}\n{%- endfor %}";
        assert_eq!(rendered(marked, &said), " hi ho");
        let json = "{{ {'a': [1, \"<b> & 'c'\"]} | tojson }}";
        assert_eq!(rendered(json, &said), "{\"a\": [1, \"<b> & 'c'\"]}");
        assert_eq!(rendered("{{ [1] | tojson(indent=2) }}", &said), "[\n  1\n]");
        assert!(rendered("{{ strftime_now('%Y-%m-%d') }}", &said).starts_with("20"));
        assert_eq!(
            date(1_709_210_096, "%d %B %Y, %b %m %y %H:%M:%S 100%% %q"),
            "29 February 2024, Feb 02 24 12:34:56 100% %q"
        );
        assert_eq!(date(0, "%Y-%m-%d"), "1970-01-01");
        assert!(rendered("{% for %}", &said).contains("expected a template in Jinja"));
    }
}
