//! [`ChatTemplate`]: how a model wants a conversation laid out, in Jinja as Hugging Face's tokenizers have it.
//!
//! A template is a program from a stranger. It reads nothing but the messages, there is no clock (`strftime_now` is not
//! defined), and its steps, its texts and what it writes are bounded. Not bounded, since minijinja 3.1 asks no fuel for it:
//! lists that are added to themselves (`x + x`), or hold themselves and become text by `~`, dozens of times.

use crate::error::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{self, Write};

/// The longest template, in bytes.
const LONGEST: u64 = 1 << 20;
/// What rendering may cost: one for an instruction, one for 64 bytes that are made.
const FUEL: u64 = 1 << 20;
/// How deep macros may call each other.
const DEPTH: usize = 64;
/// The longest conversation that is written, in bytes.
const MOST_OUTPUT: usize = 1 << 24;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// "system", "user" or "assistant".
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    file: String,
    bos: String,
    eos: String,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("file", &self.file).finish_non_exhaustive()
    }
}

fn failed(file: &str, error: &minijinja::Error) -> Error {
    let reason = match error.kind() {
        ErrorKind::OutOfFuel => "the template does more work than any conversation needs".to_owned(),
        kind => error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
    };
    let field = error.line().map_or_else(|| FIELD.to_owned(), |line| format!("{FIELD}:{line}"));
    Error::config(file, field, reason, "mend the template, or give messages that it takes")
}

const FIELD: &str = "chat_template";

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of the special tokens; `file` is for messages.
    pub fn new(source: &str, bos: &str, eos: &str, file: &str) -> Result<Self> {
        if source.len() as u64 > LONGEST {
            let reason = format!("the template has {} bytes, more than {LONGEST}", source.len());
            return Err(Error::config(file, FIELD, reason, "check that this is the right file"));
        }
        let mut environment = Environment::new();
        // As `transformers` sets Jinja up.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|e| Error::backend("setting up chat templates", e))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(|out, _, value| Ok(out.write_str(&shown(value)?)?));
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment.add_template_owned(FIELD, source.to_owned()).map_err(|error| failed(file, &error))?;
        Ok(Self { environment, file: file.to_owned(), bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The template that a `tokenizer_config.json` has, if it has one (of several, the one called `default`).
    pub fn source_of(config: &serde_json::Value) -> Option<String> {
        let listed = config[FIELD].as_array();
        let named = listed.and_then(|all| all.iter().find(|one| one["name"] == "default").or(all.first()));
        let source = named.map_or(&config[FIELD], |one| &one["template"]);
        source.as_str().map(str::to_owned)
    }

    /// The conversation as the model reads it; with `add_generation_prompt`, up to where its own turn begins.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self.environment.get_template(FIELD).map_err(|error| failed(&self.file, &error))?;
        let turn = |message: &Message| {
            Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
        };
        let said: Vec<Value> = messages.iter().map(turn).collect();
        let text = template
            .render(context! {
                messages => said, add_generation_prompt, bos_token => &*self.bos, eos_token => &*self.eos,
                tools => (), documents => (),
            })
            .map_err(|error| failed(&self.file, &error))?;
        if text.len() > MOST_OUTPUT {
            let reason = format!("the conversation has {} bytes, more than {MOST_OUTPUT}", text.len());
            return Err(Error::config(&self.file, FIELD, reason, "shorten the messages"));
        }
        Ok(text)
    }
}

/// A value as Python writes it. A list that holds itself many times over is cut off by a bound, since fuel is only asked for
/// what was written.
fn shown(value: &Value) -> Result<Cow<'_, str>, minijinja::Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    if value.is_none() {
        return Ok("None".into());
    }
    if let Ok(yes) = bool::try_from(value.clone()).map(|yes| if yes { "True" } else { "False" })
        && value.kind() == ValueKind::Bool
    {
        return Ok(yes.into());
    }
    let mut out = Bounded(Vec::new());
    write!(out, "{value}")
        .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, format!("no text: {e}")))?;
    Ok(String::from_utf8_lossy(&out.0).into_owned().into())
}

/// A writer that takes so much and no more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST as usize {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Python's separators.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// `tojson` as `transformers` has it: nothing is escaped for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut out = Bounded(Vec::new());
    let written = match indent {
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    written.map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, format!("no JSON: {e}")))?;
    Ok(Value::from(String::from_utf8_lossy(&out.0).into_owned()))
}

#[cfg(test)]
mod tests;
