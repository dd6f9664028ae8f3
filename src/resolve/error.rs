//! What can go wrong, with what a person can do about it.

use std::io;
use std::path::PathBuf;

use crate::oci::Platform;

/// A file that `[python]` names, or one of its own entries, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `origin` is `mlbuild.toml`, `requirements.txt:3`, `pyproject.toml`.
    #[error("{origin}: `{text}` is not a requirement: {reason}")]
    Requirement { origin: String, text: String, reason: String },
    #[error("{origin}: {reason}")]
    Refused { origin: String, reason: String },
    #[error("`{}` is not valid TOML: {reason}", path.display())]
    Toml { path: PathBuf, reason: String },
    #[error("{origin}: no {kind} `{name}`{}", known_names(known))]
    Unknown { origin: String, kind: &'static str, name: String, known: Vec<String> },
}

fn known_names(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (there are: {})", known.join(", ")) }
}

/// No resolution.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The request contradicts itself or what the indexes have. The text is uv's proof, over several lines.
    #[error("no set of wheels for {platform}, Python {python}, satisfies the requirements\n{explanation}")]
    Unsatisfiable { platform: Platform, python: String, explanation: String, hints: Vec<String> },
    /// An index, or a file that it names, did not answer or answered nonsense.
    #[error("cannot get package metadata: {explanation}")]
    Index { explanation: String, hints: Vec<String> },
    /// An index sent what no honest index sends, or what cannot be read.
    #[error("cannot use what an index sent: {explanation}")]
    Foul { explanation: String, hints: Vec<String> },
    /// The request itself is malformed.
    #[error("{0}")]
    Request(String),
    #[error("{origin}: `{text}` is not a requirement: {reason}")]
    Requirement { origin: String, text: String, reason: String },
    /// Something in the answer is no wheel that we install.
    #[error("`{name}` {version}: {reason}")]
    NotAWheel { name: String, version: String, reason: String },
    #[error(
        "`{wheel}` has sha256 {actual}, but {origin} allows only {}",
        allowed.join(", ")
    )]
    Hash { wheel: String, actual: String, origin: String, allowed: Vec<String> },
    #[error("`{path}`: {reason}")]
    Lock { path: String, reason: String },
    #[error("environment variable `{0}` would change the answer: unset it")]
    Environment(&'static str),
    #[error("cannot use the index cache `{}`: {reason}", path.display())]
    Cache { path: PathBuf, reason: String },
    #[error("cannot set up the network client: {0}")]
    Client(String),
    #[error("the resolver's thread ended without an answer")]
    Stopped,
}

impl ResolveError {
    /// What to do about it, each a sentence fragment.
    pub fn hints(&self) -> &[String] {
        match self {
            Self::Unsatisfiable { hints, .. } | Self::Index { hints, .. } | Self::Foul { hints, .. } => hints,
            _ => &[],
        }
    }
}
