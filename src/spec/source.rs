//! The text of a spec with the place of everything in it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;

/// The longest spec accepted, in bytes. A generated one with ten thousand packages is a tenth of this.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// The root table, or every syntax error.
pub(super) fn read(text: &str) -> Result<DeTable<'_>, Vec<Diagnostic>> {
    if text.len() > MAX_BYTES {
        let message = format!("spec is {} bytes long: at most {MAX_BYTES} are read", text.len());
        return Err(vec![Diagnostic::error(message, None)]);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table.into_inner());
    }
    let mut found: Vec<Diagnostic> = Vec::new();
    for error in errors {
        let span = error.span().map(|span| inside(text, span));
        let diagnostic = syntax_error(text, error.message(), span);
        // One slip makes the parser stumble at several places of its line: the first is the one to mend.
        let line = |d: &Diagnostic| d.span.as_ref().map(|span| text[..span.start].matches('\n').count());
        if found.last().is_none_or(|last| line(last) != line(&diagnostic) || line(last).is_none()) {
            found.push(diagnostic);
        }
    }
    Err(found)
}

fn syntax_error(text: &str, message: &str, span: Option<Range<usize>>) -> Diagnostic {
    let written = span.clone().map_or("", |span| &text[span]);
    let diagnostic = Diagnostic::error(format!("TOML: {}", message.replace('\n', ", ")), span);
    match message {
        "duplicate key" => {
            diagnostic.hint("a key stands once in its table, and a `[table]` once in the file")
        }
        _ if written == "True" || written == "False" => {
            diagnostic.hint(format!("write `{}`", written.to_lowercase()))
        }
        _ if message.starts_with("string values must be quoted") => {
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
pub(super) struct Place<'a> {
    value: Option<&'a DeValue<'a>>,
    table: Option<&'a DeTable<'a>>,
    span: Option<Range<usize>>,
    key: Option<Range<usize>>,
}

impl<'a> Place<'a> {
    pub(super) fn root(table: &'a DeTable<'a>) -> Self {
        Self { value: None, table: Some(table), span: None, key: None }
    }

    /// A place in no text.
    pub(super) fn nowhere() -> Self {
        Self { value: None, table: None, span: None, key: None }
    }

    fn of(value: &'a Spanned<DeValue<'a>>, key: Option<Range<usize>>) -> Self {
        let span = Some(value.span());
        let value = value.get_ref();
        Self { value: Some(value), table: value.as_table(), span, key }
    }

    /// What stands under `key`.
    pub(super) fn get(&self, key: &str) -> Self {
        match self.table.and_then(|table| table.get_key_value(key)) {
            Some((key, value)) => Self::of(value, Some(key.span())),
            None => self.absent(),
        }
    }

    /// Whether anything is written under `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The element at `index`.
    pub(super) fn at(&self, index: usize) -> Self {
        match self.value.and_then(DeValue::as_array).and_then(|array| array.get(index)) {
            Some(value) => Self::of(value, self.key.clone()),
            None => self.absent(),
        }
    }

    fn absent(&self) -> Self {
        Self { value: None, table: None, ..self.clone() }
    }

    /// Where the value stands.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// Where its key stands; of what has none, the value.
    pub(super) fn key_span(&self) -> Option<Range<usize>> {
        self.key.clone().or_else(|| self.span())
    }
}
