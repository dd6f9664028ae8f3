//! What can go wrong with a registry: whom was asked for what, what it said, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use super::{Host, KeychainError};
use crate::digest::{Digest, Mismatch};
use crate::http::{Head, HttpError, reason};

/// Errors of one answer that are kept.
const MOST_CODES: usize = 5;
/// Characters of each of their texts.
const LONGEST_TEXT: usize = 300;

/// What was asked of whom: "cannot read blob sha256:… of registry.example/team/app".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub host: Host,
    /// Empty for the registry itself.
    pub repository: String,
    /// A verb and what it was about: "read blob sha256:…".
    pub asked: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.repository.as_str() {
            "" => write!(f, "cannot {} {}", self.asked, self.host),
            repository => write!(f, "cannot {} of {}/{repository}", self.asked, self.host),
        }
    }
}

/// One error of the distribution specification's error document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// `MANIFEST_UNKNOWN` and the like.
    pub code: String,
    pub message: String,
    /// As JSON.
    pub detail: String,
}

/// What helps against not being let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    Nothing,
    /// A hint.
    Do(String),
    /// To let the registry name a token server on this host.
    Realm(Host),
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    #[error("cannot use the certificates of {} for {host}", file.display())]
    Certificate { host: Host, file: PathBuf, source: io::Error },
    #[error("cannot set up the client for {host}")]
    Setup { host: Host, source: HttpError },
    #[error("`{name}` is not the name of a repository")]
    Name { host: Host, name: String },
    /// The network, or what no HTTP server should send.
    #[error("{at}")]
    Http { at: At, source: HttpError },
    /// The registry understood and said no.
    #[error("{at}: {} answered {status}{}{}", who(elsewhere.as_ref()), reason(*status), listed(codes))]
    Refused {
        at: At,
        /// Another host, to which the registry has sent us.
        elsewhere: Option<Host>,
        status: u16,
        codes: Vec<ApiError>,
    },
    /// It cannot be shown who is asking.
    #[error("{at}: {problem}")]
    Login { at: At, problem: String, remedy: Remedy },
    #[error("{at}: it sent other bytes than those promised")]
    Integrity { at: At, source: Box<Mismatch> },
    /// An answer that the specification does not allow, or that contradicts itself.
    #[error("{at}: {problem}")]
    Protocol { at: At, problem: String },
    /// More than the registry is known to take; nothing was sent.
    #[error("{at}: it has {size} bytes, and the registry takes {limit} at most")]
    TooLarge { at: At, size: u64, limit: u64 },
    /// The registry is not to blame.
    #[error("{at}: the bytes to be sent cannot be read")]
    Source { at: At, source: io::Error },
}

impl RegistryError {
    /// An answer with a status that was not hoped for, and the beginning of its body.
    pub(super) fn refused(at: &At, head: &Head, body: &[u8]) -> Self {
        let elsewhere = Host::of(&head.url).filter(|host| *host != at.host);
        Self::Refused { at: at.clone(), elsewhere, status: head.status, codes: codes(body) }
    }

    pub(super) fn protocol(at: &At, problem: impl Into<String>) -> Self {
        Self::Protocol { at: at.clone(), problem: problem.into() }
    }

    /// What was asked of whom, where something was.
    pub fn at(&self) -> Option<&At> {
        match self {
            Self::Http { at, .. }
            | Self::Refused { at, .. }
            | Self::Login { at, .. }
            | Self::Integrity { at, .. }
            | Self::Protocol { at, .. }
            | Self::TooLarge { at, .. }
            | Self::Source { at, .. } => Some(at),
            Self::Keychain(_) | Self::Certificate { .. } | Self::Setup { .. } | Self::Name { .. } => None,
        }
    }

    /// The registry's own word for it, `BLOB_UNKNOWN` and the like.
    pub fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Refused { codes, .. } if codes.iter().any(|error| error.code == code))
    }

    /// The blobs that the registry says it lacks for a manifest.
    pub fn unknown_blobs(&self) -> Vec<Digest> {
        const CODES: [&str; 2] = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"];
        let Self::Refused { codes, .. } = self else { return Vec::new() };
        let lacking = codes.iter().filter(|error| CODES.contains(&error.code.as_str()));
        lacking.flat_map(|error| digests(&error.detail).into_iter().chain(digests(&error.message))).collect()
    }

    /// Bytes other than those promised, or an answer that no honest registry gives.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Integrity { .. } => true,
            Self::Http { source, .. } => source.is_foul(),
            _ => false,
        }
    }
}

/// What an error document says; nothing if it is none.
fn codes(body: &[u8]) -> Vec<ApiError> {
    let Ok(Value::Object(document)) = serde_json::from_slice(body) else { return Vec::new() };
    let Some(Value::Array(errors)) = document.get("errors") else { return Vec::new() };
    let text = |error: &Value, key| printable(error.get(key).and_then(Value::as_str).unwrap_or_default());
    let of = |error: &Value| ApiError {
        code: text(error, "code"),
        message: text(error, "message"),
        detail: error.get("detail").map(|detail| printable(&detail.to_string())).unwrap_or_default(),
    };
    errors.iter().take(MOST_CODES).map(of).collect()
}

fn who(elsewhere: Option<&Host>) -> String {
    elsewhere.map_or_else(|| "it".to_owned(), |host| format!("{host}, to which it sends us,"))
}

fn listed(codes: &[ApiError]) -> String {
    let mut text = String::new();
    for (i, ApiError { code, message, .. }) in codes.iter().enumerate() {
        text.push_str(if i == 0 { ": " } else { "; " });
        text.push_str(code);
        if !message.is_empty() {
            text.push_str(&format!(" ({message})"));
        }
    }
    text
}

/// A foreign text as it may stand in a message: short, of one line, without control characters and overrides of direction.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: &char| {
        !(c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'))
    };
    text.chars().filter(shown).take(LONGEST_TEXT).collect()
}

/// All digests inside a text.
fn digests(text: &str) -> Vec<Digest> {
    let found = text.match_indices("sha256:");
    found.filter_map(|(start, _)| text.get(start..start + "sha256:".len() + 64)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> At {
        let host = "registry.example".parse().unwrap();
        At { host, repository: "team/app".into(), asked: "write manifest 1.0".into() }
    }

    fn refused(status: u16, body: &str) -> RegistryError {
        RegistryError::Refused { at: at(), elsewhere: None, status, codes: codes(body.as_bytes()) }
    }

    #[test]
    fn the_registrys_words_are_told_and_tamed() {
        let digest = Digest::of("x");
        let error = refused(
            400,
            &format!(
                r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"gone\u001b[2J\u202e","detail":{{"digest":"{digest}"}}}},{{"code":"X"}}]}}"#
            ),
        );
        let text = "cannot write manifest 1.0 of registry.example/team/app: it answered 400: MANIFEST_BLOB_UNKNOWN (gone[2J); X";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.unknown_blobs(), [digest]);
        assert!(error.has_code("X") && !error.has_code("Y"));
        for (body, rest) in [
            ("", ""),
            ("<html>", ""),
            (r#"{"errors":{}}"#, ""),
            (r#"{"errors":[7,{"code":7}]}"#, ": ; "),
            (r#"{"errors":[{"code":"sha256:é"}]}"#, ": sha256:é"),
        ] {
            let text = refused(404, body).to_string();
            assert_eq!(text.split_once("(not found)").unwrap().1, rest, "{body}");
            assert!(refused(404, body).unknown_blobs().is_empty());
        }
    }

    #[test]
    fn long_answers_are_cut() {
        let one = format!(r#"{{"code":"C","message":"{}"}}"#, "m".repeat(9999));
        let body = format!(r#"{{"errors":[{}]}}"#, [one.as_str(); 50].join(","));
        let text = refused(500, &body).to_string();
        assert!(text.len() < 2000, "{}", text.len());
    }
}
