//! A text of TOML with the place of everything in it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;

/// The longest text accepted, in bytes. A generated spec with ten thousand packages has half of this.
pub const MAX_BYTES: usize = 1 << 20;
/// The longest text of which every mistake in syntax is looked for, in bytes; of a longer one the first is said. The
/// parser keeps some two hundred bytes for each, and each byte may be one.
const MAX_RECOVERED: usize = 256 << 10;

/// The root table, or every syntax error; `what` is what the text is.
pub(super) fn read<'t>(text: &'t str, what: &str) -> Result<DeTable<'t>, Vec<Diagnostic>> {
    if text.len() > MAX_BYTES {
        let message = format!("{what} is {} bytes long: at most {MAX_BYTES} are read", text.len());
        return Err(vec![Diagnostic::error(message, None)]);
    }
    let first = match DeTable::parse(text) {
        Ok(table) => return Ok(table.into_inner()),
        Err(first) => first,
    };
    let errors = if text.len() <= MAX_RECOVERED { DeTable::parse_recoverable(text).1 } else { Vec::new() };
    // What the strict reading refuses, the other refuses too; should they ever differ, the first has the word.
    let errors = if errors.is_empty() { vec![first] } else { errors };
    let mut errors: Vec<(Option<Range<usize>>, String)> = errors
        .iter()
        .map(|error| (error.span().map(|span| inside(text, span)), error.message().to_owned()))
        .collect();
    errors.sort_by_key(|(span, _)| span.as_ref().map_or(0, |span| span.start));
    let mut found: Vec<Diagnostic> = Vec::new();
    let mut line: Option<Line> = None;
    for (span, message) in errors {
        let Some(span) = span else {
            found.push(syntax_error(text, &message, None));
            continue;
        };
        let is_next = line.as_ref().is_none_or(|line| span.start > line.place.end);
        let line = match line {
            Some(ref mut line) if !is_next => line,
            _ => line.insert(Line::around(text, span.start)),
        };
        if !line.misses_comma && message.starts_with("missing comma between array") {
            line.misses_comma = true;
            if let Some(unclosed) = unclosed_array(text, line) {
                // Everything below was read as elements of the array: nothing is known of it.
                found.push(unclosed);
                break;
            }
        }
        // One slip makes the parser stumble at several places of its line: the first is the one to mend.
        if is_next {
            found.push(syntax_error(text, &message, Some(span)));
        }
    }
    Err(found)
}

/// A line of which something is wrong.
struct Line {
    /// Without its end.
    place: Range<usize>,
    /// The parser has wanted a comma in it. It may want a million of them: the line is looked at once.
    misses_comma: bool,
}

impl Line {
    fn around(text: &str, at: usize) -> Self {
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        Self { place: start..end, misses_comma: false }
    }
}

/// A line that is a table's header or begins with a key, where the parser wants the next element of an array.
fn unclosed_array(text: &str, line: &Line) -> Option<Diagnostic> {
    let start = line.place.start;
    let line = text[line.place.clone()].trim_end();
    let key = line.split_once('=').is_some_and(|(key, _)| {
        let key = key.trim();
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    });
    let is_header =
        line.trim_start().starts_with('[') && line.ends_with(']') && !line.contains(['"', '\'', ',']);
    (key || is_header).then(|| {
        Diagnostic::error("TOML: an array above this line is not closed", Some(start..start + line.len()))
            .hint("its last element is followed by `]`")
    })
}

fn syntax_error(text: &str, message: &str, span: Option<Range<usize>>) -> Diagnostic {
    let written = span.clone().map_or("", |span| &text[span]);
    let short = written.len() <= 80;
    if written.is_empty() && message.starts_with("string values must be quoted") {
        return Diagnostic::error("TOML: a value is missing", span);
    }
    let diagnostic = Diagnostic::error(format!("TOML: {}", message.replace('\n', ", ")), span);
    match message {
        "duplicate key" => {
            diagnostic.hint("a key stands once in its table, and a `[table]` once in the file")
        }
        _ if written == "True" || written == "False" => {
            diagnostic.hint(format!("write `{}`", written.to_lowercase()))
        }
        _ if message.starts_with("missing escaped value") => {
            diagnostic.hint("a backslash is written twice, or its text in single quotes")
        }
        _ if short && message.starts_with("string values must be quoted") => {
            diagnostic.hint(format!("write it in quotes: \"{written}\""))
        }
        _ => diagnostic,
    }
}

/// The parser may point behind the end of the text, or between the bytes of a character.
fn inside(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    start..text.ceil_char_boundary(span.end.clamp(start, text.len()))
}

/// A value of the text, or where it would stand: looking further down than there is anything stays at the last
/// thing there was, so that a message always has a place.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    value: Option<&'a DeValue<'a>>,
    table: Option<&'a DeTable<'a>>,
    span: Option<Range<usize>>,
    key: Option<Range<usize>>,
}

impl<'a> Place<'a> {
    pub(crate) fn root(table: &'a DeTable<'a>) -> Self {
        Self { value: None, table: Some(table), span: None, key: None }
    }

    /// A place in no text.
    pub(crate) fn nowhere() -> Self {
        Self { value: None, table: None, span: None, key: None }
    }

    fn of(value: &'a Spanned<DeValue<'a>>, key: Option<Range<usize>>) -> Self {
        let span = Some(value.span());
        let value = value.get_ref();
        Self { value: Some(value), table: value.as_table(), span, key }
    }

    /// What stands under `key`.
    pub(crate) fn get(&self, key: &str) -> Self {
        match self.table.and_then(|table| table.get_key_value(key)) {
            Some((key, value)) => Self::of(value, Some(key.span())),
            None => self.absent(),
        }
    }

    /// Whether anything is written under `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The element at `index`.
    pub(crate) fn at(&self, index: usize) -> Self {
        match self.value.and_then(DeValue::as_array).and_then(|array| array.get(index)) {
            Some(value) => Self::of(value, self.key.clone()),
            None => self.absent(),
        }
    }

    fn absent(&self) -> Self {
        Self { value: None, table: None, ..self.clone() }
    }

    /// Where the value stands.
    pub(crate) fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// Where its key stands; of what has none, the value.
    pub(crate) fn key_span(&self) -> Option<Range<usize>> {
        self.key.clone().or_else(|| self.span())
    }
}
