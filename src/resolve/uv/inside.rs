//! METADATA from inside a wheel, where an index publishes none beside it.
//!
//! uv asks for the wheel itself then, and inflates what it finds as far as that goes: 1032 times what a server sends. So
//! no wheel reaches it. What uv asks for is read here by our own reader ([`peek`]), and uv gets a tiny wheel made of
//! that one METADATA, not packed:
//! - uv's first question, a HEAD, is answered on the spot as by a server that knows no HEAD. From then on uv asks for
//!   whole wheels, one GET each, and its cache keeps the tiny one's METADATA under the caching headers of the real one;
//! - of that GET a HEAD is made, then ranges: the end of the file, and what [`peek`] misses;
//! - a server without ranges is asked for the whole file, which goes into a file without a name and is read there. The
//!   server is remembered, so that its next wheel costs one request.
//!
//! What is not a wheel's content passes: that nothing has changed, redirects (each hop is asked anew), refusals, errors.
//!
//! **Bounds.** METADATA has at most [`METADATA_MAX`] bytes, packed and unpacked. By ranges at most [`RANGE_MAX`] bytes of
//! a wheel are held, in at most [`MOST_RANGES`] of them, and [`LARGE`] wheels at a time may hold more than [`SMALL`]. A
//! whole wheel has at most [`WHEEL_MAX`] bytes and comes within [`LONGEST_WHEEL`]; it takes no memory. All of it is times
//! the number of requests in flight.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response, ResponseBuilderExt as _, StatusCode};
use reqwest_middleware::{Error, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use url::Url;

use super::guard::{LONGEST_ANSWER, Line, METADATA_MAX, PAGE_MAX, Refusal, bounded, shown};
use super::parts::Parts;
use crate::blob::{FileBlob, ReadAt};
use crate::diagnostic::chain;
use crate::wheel::{Peeked, peek};

/// The most bytes of one wheel that are fetched by ranges: its directory (torch's has 1.5 MB), and METADATA, packed.
const RANGE_MAX: u64 = if cfg!(test) { 1 << 20 } else { 32 << 20 };
/// The most ranges of one wheel. Its end, its directory and METADATA are three.
const MOST_RANGES: usize = 16;
/// What every wheel in flight may hold, in bytes.
const SMALL: u64 = 1 << 20;
/// How many wheels may hold more at a time.
const LARGE: usize = 2;
/// The largest wheel that is read whole for its METADATA: that of a wheel whose size nobody told us, in `engine`.
const WHEEL_MAX: u64 = if cfg!(test) { 8 << 20 } else { 10 << 30 };
/// The longest time that a whole wheel may take.
const LONGEST_WHEEL: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 3600 });

/// Headers of an answer that are about its own bytes.
const OF_THE_BODY: [HeaderName; 5] = [
    header::ACCEPT_RANGES,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::TRANSFER_ENCODING,
];
/// Headers of a question whose answer may be that nothing has changed.
const CONDITIONS: [HeaderName; 2] = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

/// The file that a whole wheel goes into cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep a wheel in a file in {}", directory.display())]
pub(super) struct Unkept {
    directory: PathBuf,
    source: io::Error,
}

/// What the system has said behind an error: the wheel is not to blame for it.
fn of_the_disk(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let number = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error()).last();
    number.map(io::Error::from_raw_os_error)
}

/// Whether `request` is for a wheel. uv asks for nothing else by HEAD or as it is ("identity"), and a redirect keeps both,
/// whatever its path looks like.
pub(super) fn is_asked_for(request: &Request) -> bool {
    let identity = HeaderValue::from_static("identity");
    request.method() == Method::HEAD || request.headers().get(header::ACCEPT_ENCODING) == Some(&identity)
}

/// What is to be kept between two wheels.
pub(super) struct Wheels {
    spill: PathBuf,
    without_ranges: Mutex<BTreeSet<String>>,
    large: Semaphore,
}

/// The answer to a question for a range.
enum Ranged {
    Bytes(Vec<u8>),
    /// The whole file instead.
    Whole(Response),
    /// Something that uv knows what to do with.
    Other(Response),
    /// Not what was asked for.
    Useless,
}

impl Wheels {
    pub(super) fn new(spill: PathBuf) -> Self {
        Self { spill, without_ranges: Mutex::default(), large: Semaphore::new(LARGE) }
    }

    /// The answer for uv to its `request` for a wheel.
    pub(super) async fn answer(&self, line: &mut Line<'_>, request: Request) -> Result<Response> {
        if request.method() == Method::HEAD {
            return Ok(respond(StatusCode::METHOD_NOT_ALLOWED, request.url(), HeaderMap::new(), Vec::new()));
        }
        if let Some(response) = self.by_ranges(line, &request).await? {
            return Ok(response);
        }
        let response = line.send(request).await?;
        match response.status() {
            StatusCode::OK => self.whole(response).await,
            _ => Ok(bounded(response, PAGE_MAX, LONGEST_ANSWER)),
        }
    }

    /// Nothing, where the whole file has to be asked for.
    async fn by_ranges(&self, line: &mut Line<'_>, request: &Request) -> Result<Option<Response>> {
        let server = request.url().origin().ascii_serialization();
        if self.servers().contains(&server) {
            return Ok(None);
        }
        let mut question = copy(request);
        *question.method_mut() = Method::HEAD;
        let head = line.send(question).await?;
        if is_final(head.status()) {
            return Ok(Some(head));
        }
        // Some redirect a HEAD to where only a HEAD may go.
        if head.status().is_redirection() {
            return Ok(None);
        }
        let Some(size) = ranged_size(&head) else {
            self.servers().insert(server);
            return Ok(None);
        };
        let mut parts = Parts::new(size);
        let mut large = None;
        for _ in 0..MOST_RANGES {
            let error = match peek(&parts, METADATA_MAX) {
                Ok(found) => return Ok(Some(tiny(head.url(), head.headers().clone(), found))),
                Err(error) => error,
            };
            let Some(missing) = parts.missing() else { return Err(refusal(head.url(), chain(&error))) };
            let held = parts.held() + (missing.end - missing.start);
            if held > RANGE_MAX {
                let refusal = Refusal::TooLarge { url: shown(head.url()), limit: RANGE_MAX };
                return Err(Error::middleware(refusal));
            }
            if held > SMALL && large.is_none() {
                large = Some(self.large.acquire().await.expect("it is never closed"));
            }
            match range(line, request, &missing, size).await? {
                Ranged::Bytes(bytes) => parts.add(missing.start, bytes),
                Ranged::Other(response) => return Ok(Some(response)),
                Ranged::Whole(response) => {
                    self.servers().insert(server);
                    return self.whole(response).await.map(Some);
                }
                Ranged::Useless => {
                    self.servers().insert(server);
                    return Ok(None);
                }
            }
        }
        Err(refusal(head.url(), format!("METADATA is not found in {MOST_RANGES} parts of it")))
    }

    /// Servers that do not answer questions for ranges.
    fn servers(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.without_ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn whole(&self, response: Response) -> Result<Response> {
        let (url, headers) = (response.url().clone(), response.headers().clone());
        if response.content_length().is_some_and(|length| length > WHEEL_MAX) {
            return Err(Error::middleware(Refusal::TooLarge { url: shown(&url), limit: WHEEL_MAX }));
        }
        // A file without a name cannot say which disk is full.
        let blame =
            |error: io::Error| Error::middleware(Unkept { directory: self.spill.clone(), source: error });
        let mut file = tokio::fs::File::from_std(tempfile::tempfile_in(&self.spill).map_err(blame)?);
        let mut response = bounded(response, WHEEL_MAX, LONGEST_WHEEL);
        while let Some(bytes) = response.chunk().await? {
            file.write_all(&bytes).await.map_err(blame)?;
        }
        file.flush().await.map_err(blame)?;
        let blob = FileBlob::new(file.into_std().await).map_err(blame)?;
        let found = peek(&blob as &dyn ReadAt, METADATA_MAX).map_err(|error| match of_the_disk(&error) {
            Some(error) => blame(error),
            None => refusal(&url, chain(&error)),
        });
        Ok(tiny(&url, headers, found?))
    }
}

/// What says enough whatever is asked: nothing new, log in, come back later, out of order.
fn is_final(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_MODIFIED | StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS)
        || status.is_server_error()
}

/// The size of a file that is there and has ranges.
fn ranged_size(head: &Response) -> Option<u64> {
    let text = |name| head.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let plain = matches!(text(header::CONTENT_ENCODING), None | Some("identity"));
    let ranges = head.status() == StatusCode::OK && text(header::ACCEPT_RANGES) == Some("bytes") && plain;
    text(header::CONTENT_LENGTH).filter(|_| ranges)?.parse().ok()
}

async fn range(line: &mut Line<'_>, request: &Request, range: &Range<u64>, size: u64) -> Result<Ranged> {
    let mut question = copy(request);
    CONDITIONS.iter().for_each(|name| drop(question.headers_mut().remove(name)));
    let (first, last) = (range.start, range.end - 1);
    let asked = HeaderValue::from_str(&format!("bytes={first}-{last}")).expect("two numbers");
    question.headers_mut().insert(header::RANGE, asked);
    let response = line.send(question).await?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK => return Ok(Ranged::Whole(response)),
        status if is_final(status) || status.is_redirection() => return Ok(Ranged::Other(response)),
        _ => return Ok(Ranged::Useless),
    }
    let said = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let right = [format!("bytes {first}-{last}/{size}"), format!("bytes {first}-{last}/*")];
    if !said.is_some_and(|said| right.iter().any(|right| right == said)) {
        return Ok(Ranged::Useless);
    }
    let len = range.end - range.start;
    let bytes = bounded(response, len, LONGEST_ANSWER).bytes().await?;
    Ok(if bytes.len() as u64 == len { Ranged::Bytes(bytes.into()) } else { Ranged::Useless })
}

fn copy(request: &Request) -> Request {
    request.try_clone().expect("a question without a body can be asked twice")
}

fn refusal(url: &Url, reason: String) -> Error {
    Error::middleware(Refusal::Wheel { url: shown(url), reason })
}

/// A wheel that has nothing but what was found, as the answer that had `headers`.
fn tiny(url: &Url, mut headers: HeaderMap, found: Option<Peeked>) -> Response {
    OF_THE_BODY.iter().for_each(|name| drop(headers.remove(name)));
    // uv passes over a version whose wheel has no METADATA, but not over one that is no archive.
    let (name, bytes) = match &found {
        Some(Peeked { path, bytes }) => (path.as_str(), bytes.as_slice()),
        None => ("nothing", &[][..]),
    };
    respond(StatusCode::OK, url, headers, archive(name, bytes))
}

fn respond(status: StatusCode, url: &Url, headers: HeaderMap, body: Vec<u8>) -> Response {
    let response = http::Response::builder().status(status).url(url.clone()).body(body);
    let mut response = response.expect("status and URL are those of an answer");
    *response.headers_mut() = headers;
    response.into()
}

/// A zip with one member, which is stored.
fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let crc32 = crc32fast::hash(bytes).to_le_bytes();
    let size = u32::try_from(bytes.len()).expect("METADATA is bounded").to_le_bytes();
    let length = u16::try_from(name.len()).expect("it was a name in a zip").to_le_bytes();
    // Version 2.0, names in UTF-8, stored, no time.
    let common = [&[20, 0, 0, 8, 0, 0, 0, 0, 0, 0][..], &crc32, &size, &size, &length, &[0, 0]].concat();
    let local = [&b"PK\x03\x04"[..], &common, name.as_bytes()].concat();
    let central = [&b"PK\x01\x02\x14\x00"[..], &common, &[0; 14], name.as_bytes()].concat();
    let at = u32::try_from(local.len() + bytes.len()).expect("METADATA is bounded").to_le_bytes();
    let central_len = u32::try_from(central.len()).expect("one name").to_le_bytes();
    let end = [&b"PK\x05\x06"[..], &[0; 4], &[1, 0, 1, 0], &central_len, &at, &[0; 2]].concat();
    [&local, bytes, &central, &end].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uv_gets_is_a_wheel() {
        let path = "zażółć-1.0.dist-info/METADATA";
        let bytes = b"Metadata-Version: 2.1\nName: a\n".to_vec();
        let found = peek(&archive(path, &bytes), METADATA_MAX).unwrap().unwrap();
        assert_eq!((found.path.as_str(), found.bytes), (path, bytes));
        assert_eq!(peek(&archive("nothing", b""), METADATA_MAX).unwrap(), None);
    }
}
