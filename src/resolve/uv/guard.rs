//! What every request to an index and every answer of it passes: credentials in, bounds and rules out.
//!
//! uv reads pages and metadata whole, whatever their size, follows a redirect from https to http, and does not wait when
//! a server says how long. Here:
//! - a request gets the credentials that its URL is entitled to, also each hop of a redirect by the URL of that hop; uv
//!   drops the header when a redirect leaves host and port;
//! - an answer has at most [`PAGE_MAX`] bytes after decompression, a metadata file [`METADATA_MAX`], and takes at most
//!   [`LONGEST_ANSWER`];
//! - there are at most [`MOST_REQUESTS`];
//! - a redirect stays on the web and does not give up encryption;
//! - `Retry-After` is waited for, up to [`LONGEST_WAIT`], before uv's own retries;
//! - no wheel reaches uv: where an index publishes no metadata, `METADATA` is read from the wheel here, and uv gets that
//!   alone ([`inside`](super::inside) says how, and what bounds it).

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt as _;
use reqwest::{Request, Response, ResponseBuilderExt as _, StatusCode, header};
use reqwest_middleware::{Error, Middleware, Next, Result};
use url::Url;

use super::inside::{self, Wheels};
use crate::epoch::http_date;
use crate::resolve::Credentials;
use crate::resolve::credentials::strip;

/// The largest page of an index. The longest known have about 10 MB; what uv makes of a page takes up to 35 times the page's
/// own size, when each of its files has hardly more than a name: 1.1 GB here.
pub(super) const PAGE_MAX: u64 = if cfg!(test) { 4 << 20 } else { 32 << 20 };
/// The largest METADATA.
pub(super) const METADATA_MAX: u64 = 16 << 20;
/// The longest time that one answer may take; the network client's own limit is on the time without a byte.
pub(super) const LONGEST_ANSWER: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 300 });
/// The most requests of one client: an index could go on naming packages for ever. Large sets take some thousands.
pub(super) const MOST_REQUESTS: usize = if cfg!(test) { 300 } else { 50_000 };
/// The longest `Retry-After` that is obeyed.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// What no honest index sends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{url} has more than the {limit} bytes allowed for it")]
    TooLarge { url: Url, limit: u64 },
    #[error("{url} has not sent all of an answer after {} s", after.as_secs())]
    Slow { url: Url, after: Duration },
    #[error("{url} is no wheel that can be used: {reason}")]
    Wheel { url: Url, reason: String },
    #[error("{0}")]
    Place(String),
    #[error("{name} has {found} dependencies, more than the {most} that one package may have")]
    Dependencies { name: String, found: usize, most: usize },
    #[error("{url} would be one request more than the {MOST_REQUESTS} that packages may take")]
    Requests { url: Url },
    #[error("cannot follow the redirect of {url} to {to}: {rule}")]
    Redirect { url: Url, to: Url, rule: &'static str },
}

pub(super) struct Guard {
    client: reqwest::Client,
    credentials: Credentials,
    wheels: Wheels,
    requests: AtomicUsize,
}

impl Guard {
    /// Files without a name are made in the directory `spill`.
    pub(super) fn new(client: reqwest::Client, credentials: Credentials, spill: PathBuf) -> Self {
        Self { client, credentials, wheels: Wheels::new(spill), requests: AtomicUsize::new(0) }
    }

    fn authorised(&self, request: Request) -> Result<Request> {
        match self.credentials.for_url(request.url()) {
            Some(credential) if !request.headers().contains_key(header::AUTHORIZATION) => {
                Ok(reqwest::RequestBuilder::from_parts(self.client.clone(), request)
                    .basic_auth(&credential.username, Some(&credential.password))
                    .build()?)
            }
            _ => Ok(request),
        }
    }
}

#[async_trait::async_trait]
impl Middleware for Guard {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let mut line = Line { guard: self, extensions, next };
        if inside::is_asked_for(&request) {
            return self.wheels.answer(&mut line, request).await;
        }
        let response = line.send(request).await?;
        let limit = limit(&response);
        Ok(bounded(response, limit, LONGEST_ANSWER))
    }
}

/// What sends a request, and others that it takes to answer it.
pub(super) struct Line<'a> {
    guard: &'a Guard,
    extensions: &'a mut http::Extensions,
    next: Next<'a>,
}

impl Line<'_> {
    pub(super) async fn send(&mut self, request: Request) -> Result<Response> {
        if self.guard.requests.fetch_add(1, Ordering::Relaxed) >= MOST_REQUESTS {
            return Err(Error::middleware(Refusal::Requests { url: shown(request.url()) }));
        }
        let request = self.guard.authorised(request)?;
        let response = self.next.clone().run(request, self.extensions).await?;
        check_redirect(&response).map_err(Error::middleware)?;
        if let Some(wait) = retry_after(&response) {
            tokio::time::sleep(wait).await;
        }
        Ok(response)
    }
}

fn check_redirect(response: &Response) -> std::result::Result<(), Refusal> {
    let to = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    // What is no URL is refused by uv.
    let Some(to) = to.and_then(|to| response.url().join(to).ok()) else { return Ok(()) };
    let rule = match (response.status().is_redirection(), response.url().scheme(), to.scheme()) {
        (false, _, _) | (_, "http", "http" | "https") | (_, "https", "https") => return Ok(()),
        (_, "https", "http") => "it would give up encryption",
        _ => "it leaves HTTP",
    };
    Err(Refusal::Redirect { url: shown(response.url()), to: shown(&to), rule })
}

/// How long the server wants to be left alone, when it is a time that is waited for.
fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match value.parse() {
        Ok(seconds) => seconds,
        Err(_) => http_date(value)?.saturating_sub(now()),
    };
    Some(Duration::from_secs(seconds)).filter(|wait| *wait <= LONGEST_WAIT)
}

/// Seconds since 1970, for `Retry-After` dates only.
#[expect(clippy::disallowed_methods, reason = "a date by which to come back means nothing without today's")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn limit(response: &Response) -> u64 {
    if response.url().path().ends_with(".metadata") { METADATA_MAX } else { PAGE_MAX }
}

/// `response`, whose body ends in an error after `limit` bytes, or when it takes longer than `longest`.
pub(super) fn bounded(mut response: Response, limit: u64, longest: Duration) -> Response {
    let url = response.url().clone();
    let (status, version) = (response.status(), response.version());
    let headers = std::mem::take(response.headers_mut());
    let extensions = std::mem::take(response.extensions_mut());
    let mut left = limit;
    let begun = tokio::time::Instant::now();
    let refused = shown(&url);
    let body = response.bytes_stream().map(move |piece| {
        if begun.elapsed() > longest {
            let slow = Refusal::Slow { url: refused.clone(), after: longest };
            return Err(Box::<dyn std::error::Error + Send + Sync>::from(slow));
        }
        let piece = piece.map_err(Box::<dyn std::error::Error + Send + Sync>::from)?;
        match left.checked_sub(piece.len() as u64) {
            Some(rest) => left = rest,
            None => return Err(Refusal::TooLarge { url: refused.clone(), limit }.into()),
        }
        Ok(piece)
    });
    let mut bounded = http::Response::builder()
        .status(status)
        .version(version)
        .url(url)
        .body(reqwest::Body::wrap_stream(body))
        .expect("status, version and URL are those of an answer");
    *bounded.headers_mut() = headers;
    bounded.extensions_mut().extend(extensions);
    bounded.into()
}

/// Without what may be a secret.
pub(super) fn shown(url: &Url) -> Url {
    let mut shown = url.clone();
    strip(&mut shown);
    shown.set_query(None);
    shown.set_fragment(None);
    shown
}
