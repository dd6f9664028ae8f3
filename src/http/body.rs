//! A body that is being read: where it begins in the file, how long the file is, and its bytes piece by piece.

use std::error::Error;
use std::io::{self, SeekFrom};
use std::time::Duration;

use reqwest::header;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use url::Url;

use super::{ClientOptions, HttpError, redact};

/// A server that sends less than this, in bytes a second over [`ClientOptions::read_timeout`], has stalled: one that drips
/// would be waited for without end.
const SLOWEST: f64 = 1024.0;

/// Bytes asked of a local file at a time.
const FILE_CHUNK: u64 = 256 * 1024;

/// An answer with status 200 or 206 (or a local file), read with [`Body::chunk`].
pub struct Body {
    inner: Inner,
    shown: String,
    offset: u64,
    total: Option<u64>,
    etag: Option<String>,
    read_timeout: Duration,
    pace: Pace,
}

/// What came in how much time of waiting for it; both begin anew after each read timeout.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: usize,
}

impl Pace {
    fn is_a_stall(&mut self, waited: Duration, bytes: usize, timeout: Duration) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < timeout {
            return false;
        }
        let Self { waited, bytes } = std::mem::take(self);
        (bytes as f64) < SLOWEST * waited.as_secs_f64()
    }
}

enum Inner {
    Http(reqwest::Response),
    File(tokio::fs::File),
}

impl Body {
    pub(super) fn new(
        url: &Url,
        response: reqwest::Response,
        asked: u64,
        options: &ClientOptions,
    ) -> Result<Self, HttpError> {
        let text =
            |name| response.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let etag = text(header::ETAG).filter(|etag| etag.starts_with('"')).map(str::to_owned);
        let (offset, total) = if response.status().as_u16() == 206 {
            // A range other than the one asked for would be put at the wrong place of the file.
            match text(header::CONTENT_RANGE).and_then(content_range) {
                Some((first, total)) if first == asked => (first, total),
                _ => return Err(HttpError::Range { url: redact(url) }),
            }
        } else {
            (0, text(header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok()))
        };
        Ok(Self {
            inner: Inner::Http(response),
            shown: redact(url),
            offset,
            total,
            etag,
            read_timeout: options.read_timeout,
            pace: Pace::default(),
        })
    }

    /// Where in the file this body begins: the offset asked for, or 0 when the server ignored it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The length of the whole file, when the server tells.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// The strong validator of this version of the file, to go on with after a cut.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// Appends the next piece (some KiB) to `buffer` and says how long it was; 0 at the end.
    ///
    /// A connection that ends before the length that the server announced is an error.
    pub async fn chunk(&mut self, buffer: &mut Vec<u8>) -> Result<usize, HttpError> {
        match &mut self.inner {
            Inner::Http(response) => loop {
                let asked = tokio::time::Instant::now();
                let chunk = tokio::time::timeout(self.read_timeout, response.chunk()).await;
                let stalled = || HttpError::Stalled { url: self.shown.clone(), after: self.read_timeout };
                match chunk.map_err(|_| stalled())? {
                    Ok(Some(bytes)) if bytes.is_empty() => {}
                    Ok(Some(bytes)) => {
                        buffer.extend_from_slice(&bytes);
                        if self.pace.is_a_stall(asked.elapsed(), bytes.len(), self.read_timeout) {
                            return Err(stalled());
                        }
                        return Ok(bytes.len());
                    }
                    Ok(None) => return Ok(0),
                    Err(error) => return Err(read_error(&self.shown, error, self.read_timeout)),
                }
            },
            Inner::File(file) => {
                let read = file.take(FILE_CHUNK).read_to_end(buffer).await;
                read.map_err(|source| HttpError::File { url: self.shown.clone(), source })
            }
        }
    }
}

fn read_error(shown: &str, error: reqwest::Error, after: Duration) -> HttpError {
    if error.is_timeout() {
        return HttpError::Stalled { url: shown.to_owned(), after };
    }
    let source: Box<dyn Error + Send + Sync> = Box::new(error.without_url());
    HttpError::Read { url: shown.to_owned(), source }
}

pub(super) async fn open_file(url: &Url, offset: u64) -> Result<Body, HttpError> {
    let failed = |source| HttpError::File { url: redact(url), source };
    let path = url
        .to_file_path()
        .map_err(|()| failed(io::Error::new(io::ErrorKind::InvalidInput, "not a path of this machine")))?;
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let metadata = file.metadata().await.map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    if offset > metadata.len() {
        return Err(HttpError::Range { url: redact(url) });
    }
    file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
    Ok(Body {
        inner: Inner::File(file),
        shown: redact(url),
        offset,
        total: Some(metadata.len()),
        etag: None,
        read_timeout: Duration::ZERO,
        pace: Pace::default(),
    })
}

/// First byte and length of the whole of `bytes first-last/total`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    let total = if total == "*" { None } else { Some(total.parse::<u64>().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 0-0/*", Some((0, None))),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 5-/10", None),
        ] {
            assert_eq!(content_range(value), expected, "{value}");
        }
    }
}
