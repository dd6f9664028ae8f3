//! Requests other than plain downloads: one attempt each, no redirect followed, every status an answer.
//!
//! Who sends them decides what a redirect or a status means; see [`super::redirect::Chain`] and [`super::retry::Attempts`].

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::stream;
use reqwest::header;
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;

use super::{Body, Client, HttpError, body, redact};

/// How fast a server is taken to make a received body durable, in bytes a second, before it answers.
const COMMIT: u64 = 20_000_000;
/// How often a sender looks at what has gone.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
}

/// The value of an `Authorization` header. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    Basic {
        user: String,
        password: String,
    },
    /// The token is of visible ASCII, or the request is not made.
    Bearer(String),
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic …",
            Self::Bearer(_) => "Bearer …",
        })
    }
}

/// What is sent along.
pub enum Payload {
    None,
    Bytes {
        media_type: String,
        bytes: Vec<u8>,
    },
    /// Exactly `size` bytes, in pieces; an error among them, or fewer bytes, breaks the request off.
    Stream {
        size: u64,
        pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    },
}

/// One request.
pub struct Request<'a> {
    pub method: Method,
    pub url: &'a Url,
    /// For this URL's server: the caller has seen to that.
    pub authorization: Option<&'a Authorization>,
    pub headers: &'a [(&'static str, &'a str)],
    pub payload: Payload,
}

impl<'a> Request<'a> {
    pub fn new(method: Method, url: &'a Url) -> Self {
        Self { method, url, authorization: None, headers: &[], payload: Payload::None }
    }
}

/// What stands before the body of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// Where it came from.
    pub url: Url,
    pub status: u16,
    headers: header::HeaderMap,
}

/// An answer, whatever its status; the body is still to come.
pub struct Answer {
    pub head: Head,
    response: reqwest::Response,
    client: Client,
}

impl Client {
    /// One attempt. The head of the answer must come within [`super::ClientOptions::read_timeout`]; while a stream is sent, so
    /// must each piece of it be taken once it is there, and after the last of its `size` bytes the server has a second more for every 20 MB.
    ///
    /// `sent` is told how many bytes of a stream have been handed to the connection, a few times a second.
    pub async fn exchange(
        &self,
        request: Request<'_>,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<Answer, HttpError> {
        let url = request.url;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(HttpError::Scheme { url: redact(url) });
        }
        if self.options.offline {
            return Err(HttpError::Offline { url: redact(url) });
        }
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut builder = self.http.request(method, url.clone());
        match request.authorization {
            None => {}
            Some(Authorization::Basic { user, password }) => {
                builder = builder.basic_auth(user, Some(password))
            }
            Some(Authorization::Bearer(token)) => builder = builder.bearer_auth(token),
        }
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        let response = match request.payload {
            Payload::None if matches!(request.method, Method::Post | Method::Put) => {
                self.within(url, builder.header(header::CONTENT_LENGTH, 0)).await?
            }
            Payload::None => self.within(url, builder).await?,
            Payload::Bytes { media_type, bytes } => {
                self.within(url, builder.header(header::CONTENT_TYPE, media_type).body(bytes)).await?
            }
            Payload::Stream { size, pieces } => self.stream(url, builder, size, pieces, sent).await?,
        };
        let status = response.status().as_u16();
        let head = Head { url: url.clone(), status, headers: response.headers().clone() };
        Ok(Answer { head, response, client: self.clone() })
    }

    async fn stream(
        &self,
        url: &Url,
        builder: reqwest::RequestBuilder,
        size: u64,
        pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<reqwest::Response, HttpError> {
        let flow = Arc::new(Flow::default());
        let pieces = stream::unfold((pieces, Arc::clone(&flow)), |(mut pieces, flow)| async move {
            flow.starved.store(true, Ordering::Relaxed);
            let piece = pieces.recv().await?;
            flow.starved.store(false, Ordering::Relaxed);
            if let Ok(piece) = &piece {
                flow.gone.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            Some((piece, (pieces, flow)))
        });
        let sending = builder
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size)
            .body(reqwest::Body::wrap_stream(pieces))
            .send();
        tokio::pin!(sending);
        let patience = self.options.read_timeout;
        let commit = patience + Duration::from_secs(size / COMMIT);
        let mut look = tokio::time::interval(LOOK.min(patience / 4));
        let mut last = (0, Instant::now());
        loop {
            tokio::select! {
                answer = &mut sending => {
                    told(flow.gone.load(Ordering::Relaxed));
                    return answer.map_err(|source| HttpError::request(url, source, &self.options));
                }
                _ = look.tick() => {}
            }
            let sent = flow.gone.load(Ordering::Relaxed);
            if sent > last.0 {
                told(sent);
            }
            // Whoever makes the pieces may take his time.
            if sent > last.0 || sent < size && flow.starved.load(Ordering::Relaxed) {
                last = (sent, Instant::now());
            }
            let after = last.1.elapsed();
            if after > if sent < size { patience } else { commit } {
                return Err(HttpError::Stuck { url: redact(url), sent, size, after });
            }
        }
    }
}

/// What became of the pieces of a stream.
#[derive(Default)]
struct Flow {
    /// Bytes handed to the connection.
    gone: AtomicU64,
    /// The connection wants a piece that is not made yet.
    starved: AtomicBool,
}

impl Head {
    /// The first header of that name, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All headers of that name that are visible ASCII.
    pub fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// For [`super::redirect::Chain::follow`].
    pub fn location(&self) -> Option<&[u8]> {
        self.headers.get(header::LOCATION).map(header::HeaderValue::as_bytes)
    }

    /// The answer as the error that it is.
    pub fn as_error(&self) -> HttpError {
        HttpError::status(&self.url, self.status, &self.headers)
    }
}

impl Answer {
    /// The whole body, at most `limit` bytes.
    pub async fn bytes(self, limit: u64) -> Result<Vec<u8>, HttpError> {
        let url = redact(&self.head.url);
        let bytes = self.beginning(limit + 1).await?;
        if bytes.len() as u64 > limit { Err(HttpError::TooLarge { url, limit }) } else { Ok(bytes) }
    }

    /// The first bytes of the body.
    pub async fn beginning(self, limit: u64) -> Result<Vec<u8>, HttpError> {
        let mut body = self.into_body(0)?;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < limit && body.chunk(&mut bytes).await? > 0 {}
        bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    /// The body, of which the bytes from `asked` on were asked for.
    pub fn into_body(self, asked: u64) -> Result<Body, HttpError> {
        body::Body::new(&self.head.url, self.response, asked, &self.client.options)
    }
}
