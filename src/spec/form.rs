//! A text of TOML whose shape a type has: read, compared with the type's schema, deserialised, understood.

use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::de::DeTable;

use super::{check, source};
use crate::diagnostic::{Diagnostic, Severity};

/// The most mistakes reported of one text.
const MAX_REPORTED: usize = 100;

/// What `meaning` makes of a text, with its warnings; or everything that is wrong with it, in the order of the text.
///
/// `schema` is that of `W`, and `what` what the text is. `meaning` adds what is wrong to its last argument and yields what
/// it can; `apart` adds what is wrong all the same where the shape is.
pub(crate) fn parse<W: DeserializeOwned, M>(
    text: &str,
    what: &str,
    schema: &Value,
    meaning: impl FnOnce(W, &DeTable<'_>, &mut Vec<Diagnostic>) -> M,
    apart: impl FnOnce(&DeTable<'_>, &mut Vec<Diagnostic>),
) -> Result<(M, Vec<Diagnostic>), Vec<Diagnostic>> {
    let table = source::read(text, what).map_err(bounded)?;
    let mut found = check::check(schema, &table, text);
    if !found.is_empty() {
        apart(&table, &mut found);
        return Err(bounded(in_order(found)));
    }
    let wire: W = toml::from_str(text).map_err(|error| {
        vec![Diagnostic::error(
            error.message().to_owned(),
            error.span().filter(|span| span.end <= text.len()),
        )]
    })?;
    let mut found = Vec::new();
    let meant = meaning(wire, &table, &mut found);
    let found = in_order(found);
    if found.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return Err(bounded(found));
    }
    Ok((meant, bounded(found)))
}

fn in_order(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
    found
}

fn bounded(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if found.len() > MAX_REPORTED {
        let more = found.len() - MAX_REPORTED;
        found.truncate(MAX_REPORTED);
        found.push(Diagnostic::error(format!("{more} further mistakes are not shown"), None));
    }
    found
}
