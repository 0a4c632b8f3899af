//! A conversation as one text: the checkpoint's template in Jinja, with what transformers adds to the language.

use crate::{Error, Result};
use minijinja::{Environment, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde};
use serde::{Deserialize, Serialize};

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

/// A template, read and understood.
pub struct ChatTemplate {
    environment: Environment<'static>,
    origin: String,
    begin: Option<String>,
    end: Option<String>,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Of its text; `begin` and `end` are what it calls `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// A text that is no template.
    pub fn new(origin: &str, text: String, begin: Option<String>, end: Option<String>) -> Result<ChatTemplate> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| Error::argument(origin, "syntax", "that of Jinja", e))?);
        // methods of Python's texts and lists
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |why: String| -> std::result::Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, why))
        });
        let origin = format!("{origin}: chat template");
        let told = |e: minijinja::Error| Error::argument(&origin, "text", "a template in Jinja", e);
        environment.add_template_owned(NAME, text).map_err(told)?;
        Ok(ChatTemplate { environment, origin, begin, end })
    }

    /// The text of a conversation, up to where the answer begins.
    ///
    /// # Errors
    /// What the template raises: some take no system message, or want roles in turn.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
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
        assert!(rendered("{% for %}", &said).contains("expected a template in Jinja"));
    }
}
