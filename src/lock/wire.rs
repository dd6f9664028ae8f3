//! `mlbuild.lock` as a text: [`write`] is its one writer, [`read`] its strict reader.
//!
//! For every lock that keeps the rules, `read(write(lock)) == lock`, and a text that [`write`] made is made again,
//! byte for byte, from what [`read`] gives. A text of a newer version is refused with a sentence that says so;
//! every older version stays readable (there is none yet). The reader is the gate of a build: whatever passes it
//! has safe names, safe URLs, whole digests and one wheel a platform.

use super::model::Lock;
use super::rules::{self, Violation};
use super::{v1, writer};

/// The version that [`write`] writes, and the newest that [`read`] knows.
pub const VERSION: i64 = 1;

/// The layer format that belongs to this program: gzip members passed through from wheels.
pub const LAYER_FORMAT: &str = crate::layer::FORMAT;

/// The longest text that is read, in bytes; a lock of a thousand wheels has half a million.
pub const MAX_LEN: usize = 32 * 1024 * 1024;

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
    if violations.is_empty() { Ok(lock) } else { Err(LockError::Rules(violations)) }
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
    text.lines()
        .position(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> "))
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
    error.message().lines().collect::<Vec<_>>().join(", ")
}
