//! `mlbuild.lock` as a text: [`write`] is its one writer, [`read`] its strict reader.
//!
//! For every lock that keeps the rules, `read(write(lock)) == lock`, and a text that [`read`] takes is made again by
//! [`write`], byte for byte but for DOS line ends: there is one text for a lock, so that a changed byte is never idle.
//! A text of a newer version is refused with a sentence that says so; every older version stays readable (there is none
//! yet). The reader is the gate of a build: whatever passes it has safe names, safe URLs, whole digests and one wheel a
//! platform.

use super::model::Lock;
use super::rules::{self, Violation};
use super::{v1, writer};

/// The version that [`write`] writes, and the newest that [`read`] knows.
pub const VERSION: i64 = 1;

/// The layer format that belongs to this program: gzip members passed through from wheels.
pub const LAYER_FORMAT: &str = crate::layer::FORMAT;

/// The longest text that is read, in bytes; a lock of a thousand wheels has half a million. Parsing takes
/// up to seventy times as much memory.
pub const MAX_LEN: usize = 8 * 1024 * 1024;

/// The longest sentence of the parser that is said, in characters.
const MAX_SENTENCE: usize = 500;

/// Why a text is not a lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("the lock has {len} bytes, more than the {MAX_LEN} that are accepted")]
    TooLong { len: usize },
    #[error(
        "the lock has merge conflict markers (line {line}): take either side, then run `mlbuild lock`, which \
         completes it"
    )]
    MergeConflict { line: usize },
    #[error("the lock is not valid TOML (line {line}): {message}")]
    Syntax { line: usize, message: String },
    #[error("the lock does not say its version: `version = {VERSION}` is expected at its head")]
    NoVersion,
    #[error(
        "the lock has version {found}, and this mlbuild knows versions up to {VERSION}: use a newer mlbuild"
    )]
    NewerVersion { found: i64 },
    #[error("the lock has version {found}, which never existed")]
    UnknownVersion { found: i64 },
    #[error("the lock is not in the form of version {VERSION} (line {line}): {message}")]
    Form { line: usize, message: String },
    #[error(
        "the lock asks for layer format `{found}`, and this mlbuild makes `{LAYER_FORMAT}`: use the mlbuild that \
         locked it, or lock again"
    )]
    LayerFormat { found: String },
    #[error("the lock breaks its own rules:{}", list(.0))]
    Rules(Vec<Violation>),
    #[error("the lock is not as mlbuild writes it (line {line}): it was edited or damaged")]
    NotCanonical { line: usize },
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("\n  {violation}")).collect()
}

/// The text of `lock`, which is sorted (see [`Lock::normalise`]).
pub fn write(lock: &Lock) -> String {
    writer::write(lock)
}

/// The lock that `text` is, or all that is wrong with it.
pub fn read(text: &str) -> Result<Lock, LockError> {
    if text.len() > MAX_LEN {
        return Err(LockError::TooLong { len: text.len() });
    }
    if let Some(line) = merge_conflict(text) {
        return Err(LockError::MergeConflict { line });
    }
    let document = toml::de::DeTable::parse(text)
        .map_err(|error| LockError::Syntax { line: line_of(text, &error), message: sentence(&error) })?;
    check_version(document.get_ref())?;
    let wire = <v1::Lock as serde::Deserialize>::deserialize(toml::Deserializer::from(document))
        .map_err(|error| LockError::Form { line: line_of(text, &error), message: sentence(&error) })?;
    if wire.layer_format != LAYER_FORMAT {
        return Err(LockError::LayerFormat { found: wire.layer_format });
    }
    let mut violations = Vec::new();
    let lock = wire.into_model(&mut violations);
    rules::check(&lock, &mut violations);
    if !violations.is_empty() {
        return Err(LockError::Rules(violations));
    }
    match first_difference(text, &write(&lock)) {
        None => Ok(lock),
        Some(line) => Err(LockError::NotCanonical { line }),
    }
}

/// The line from which `text` is not what the writer makes of its content. A line that was made a comment, a key in
/// another order, a blank: nothing of that changes what the lock says, or else it would say less than was locked.
fn first_difference(text: &str, canonical: &str) -> Option<usize> {
    let mut lines = canonical.split('\n');
    // A checkout with DOS line ends is the same lock.
    for (at, line) in text.split('\n').enumerate() {
        let unchanged =
            lines.next().is_some_and(|canonical| canonical == line.strip_suffix('\r').unwrap_or(line));
        if !unchanged {
            return Some(at + 1);
        }
    }
    lines.next().map(|_| 1 + text.matches('\n').count())
}

/// JSON Schema of the lock's text, as `schemas/lock.schema.json` holds it.
pub fn json_schema() -> String {
    let schema = schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<v1::Lock>();
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema has only string keys");
    text.push('\n');
    text
}

/// The line of the first marker that git leaves where two sides changed the same lines.
fn merge_conflict(text: &str) -> Option<usize> {
    // Of every style of git; the name behind them may be left out. No line of a lock begins so.
    const MARKERS: [&str; 4] = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"];
    let is_marker = |line: &str, marker: &str| {
        line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    text.lines()
        .position(|line| MARKERS.iter().any(|marker| is_marker(line, marker)))
        .map(|before| before + 1)
}

fn check_version(document: &toml::de::DeTable<'_>) -> Result<(), LockError> {
    let version = document.get("version").ok_or(LockError::NoVersion)?;
    let version = version.get_ref().as_integer().and_then(|integer| integer.to_string().parse::<i64>().ok());
    match version.ok_or(LockError::NoVersion)? {
        VERSION => Ok(()),
        found if found > VERSION => Err(LockError::NewerVersion { found }),
        found => Err(LockError::UnknownVersion { found }),
    }
}

fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let end = error.span().map_or(0, |span| span.start).min(text.len());
    1 + text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count()
}

fn sentence(error: &toml::de::Error) -> String {
    let text = error.message().lines().collect::<Vec<_>>().join(", ");
    // An unknown key is named whatever its length.
    match text.char_indices().nth(MAX_SENTENCE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
