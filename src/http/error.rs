//! What can go wrong with a request, told without secrets, and whether trying again can help.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::header;
use url::Url;

use super::{ClientOptions, retry};

/// Variants are named by the operation that failed; every URL inside is [`redact`]ed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("cannot set up the HTTP client")]
    Setup { source: Box<dyn Error + Send + Sync> },
    #[error("offline: {url} was not requested")]
    Offline { url: String },
    #[error("cannot read {url}: only http, https and file URLs are")]
    Scheme { url: String },
    #[error("cannot connect to {url}")]
    Connect { url: String, source: Box<dyn Error + Send + Sync> },
    #[error("cannot request {url}")]
    Request { url: String, source: Box<dyn Error + Send + Sync> },
    #[error("{url} sent nothing, or next to nothing, for {} s", after.as_secs_f32())]
    Stalled { url: String, after: Duration },
    #[error("{url} took {sent} of {size} bytes and then no more for {} s", after.as_secs_f32())]
    Stuck { url: String, sent: u64, size: u64, after: Duration },
    #[error("{url} answered {status}{}", reason(*status))]
    Status { url: String, status: u16, retry_after: Option<Duration> },
    #[error("cannot follow the redirect of {url} to {to}: {rule}")]
    Redirect { url: String, to: String, rule: &'static str },
    #[error("the download of {url} was cut")]
    Read { url: String, source: Box<dyn Error + Send + Sync> },
    #[error("{url} has no such byte range")]
    Range { url: String },
    #[error("{url} has more than the {limit} bytes allowed for it")]
    TooLarge { url: String, limit: u64 },
    #[error("cannot read {url}")]
    File { url: String, source: io::Error },
}

/// What the library says of a connection that did not come about, less what only says that it did not.
fn cause(error: &reqwest::Error) -> String {
    const EMPTY: [&str; 4] =
        ["error sending request", "client error (Connect)", "tcp connect error", "tcp open error"];
    let mut said = Vec::new();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !EMPTY.contains(&text.as_str()) && !said.contains(&text) {
            said.push(text);
        }
        cause = error.source();
    }
    said.join(": ")
}

impl HttpError {
    pub(super) fn request(url: &Url, error: reqwest::Error, options: &ClientOptions) -> Self {
        let url = redact(url);
        // The library's own text repeats the URL with its query.
        let error = error.without_url();
        if error.is_connect() {
            Self::Connect { url, source: cause(&error).into() }
        } else if error.is_timeout() {
            Self::Stalled { url, after: options.read_timeout }
        } else if error.is_builder() {
            Self::Setup { source: Box::new(error) }
        } else {
            Self::Request { url, source: Box::new(error) }
        }
    }

    pub(super) fn status(url: &Url, status: u16, headers: &header::HeaderMap) -> Self {
        let retry_after = headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry::retry_after(value, retry::now()));
        Self::Status { url: redact(url), status, retry_after }
    }

    /// The same request may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Request { .. } | Self::Stalled { .. } | Self::Stuck { .. } => true,
            Self::Read { .. } => true,
            Self::Status { status, retry_after, .. } => {
                retry_after.is_none_or(|wait| wait <= retry::LONGEST_WAIT)
                    && (matches!(status, 408 | 425 | 429) || (500..=599).contains(status) && *status != 501)
            }
            _ => false,
        }
    }

    /// The server sent what no honest server sends: no network is to blame, and waiting does not help.
    pub fn is_foul(&self) -> bool {
        matches!(self, Self::Redirect { .. } | Self::TooLarge { .. })
    }

    /// The same failure, for another who waited for the same answer. Only of those that pass.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Connect { url, source } => {
                Self::Connect { url: url.clone(), source: crate::diagnostic::chain(&**source).into() }
            }
            Self::Stalled { url, after } => Self::Stalled { url: url.clone(), after: *after },
            Self::Stuck { url, sent, size, after } => {
                Self::Stuck { url: url.clone(), sent: *sent, size: *size, after: *after }
            }
            Self::Status { url, status, retry_after } => {
                Self::Status { url: url.clone(), status: *status, retry_after: *retry_after }
            }
            Self::Request { url, source } | Self::Read { url, source } => {
                Self::Request { url: url.clone(), source: crate::diagnostic::chain(&**source).into() }
            }
            lasting => unreachable!("{lasting} does not pass"),
        }
    }

    /// How often a request that failed like this is made again. A name that does not resolve or a closed port is
    /// mostly a wrong address, so it is not waited for as long as an overloaded server.
    pub(crate) fn retries(&self, options: &ClientOptions) -> u32 {
        match self {
            Self::Connect { .. } => options.retries.min(2),
            error if error.is_transient() => options.retries,
            _ => 0,
        }
    }
}

/// The status codes that people meet.
pub fn reason(status: u16) -> &'static str {
    match status {
        401 => " (unauthorised)",
        403 => " (forbidden)",
        404 => " (not found)",
        407 => " (the proxy wants a password)",
        408 => " (request timeout)",
        410 => " (gone)",
        429 => " (too many requests)",
        500 => " (internal server error)",
        502 => " (bad gateway)",
        503 => " (service unavailable)",
        504 => " (gateway timeout)",
        _ => "",
    }
}

/// The URL for a person's eyes: no name, no password, no query (signed links carry secrets there), no fragment.
pub fn redact(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have a user.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let query = shown.query().is_some();
    shown.set_query(None);
    if query { format!("{shown}?…") } else { shown.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (url, shown) in [
            ("https://me:secret@index.example/a%20b?X-Sig=abc#sha256=0", "https://index.example/a%20b?…"),
            ("https://token@index.example:8443/", "https://index.example:8443/"),
            ("file:///srv/mirror/a.whl", "file:///srv/mirror/a.whl"),
        ] {
            assert_eq!(redact(&Url::parse(url).unwrap()), shown);
        }
    }

    #[test]
    fn only_passing_troubles_are_tried_again() {
        let status = |status, wait: Option<u64>| HttpError::Status {
            url: String::new(),
            status,
            retry_after: wait.map(Duration::from_secs),
        };
        for passing in [408, 429, 500, 502, 503, 504, 599] {
            assert!(status(passing, None).is_transient(), "{passing}");
        }
        for lasting in [400, 401, 403, 404, 410, 451, 501] {
            assert!(!status(lasting, None).is_transient(), "{lasting}");
        }
        assert!(status(429, Some(60)).is_transient());
        assert!(!status(429, Some(3600)).is_transient());
    }
}
