//! Downloads into the store: verified while they stream, resumed after a cut or a kill, from the first source that has
//! the right bytes.
//!
//! The bytes go through a bounded queue to one blocking thread per download, which writes and hashes them (see
//! `sink`), so that neither holds up the network. Memory is about 3 MiB a download, whatever its size.
//!
//! **What is promised is enforced.** With a size, a server that announces another is refused before its body is read,
//! and nothing is ever written past it; with a SHA-256, other bytes are an integrity error. Each is tried at the next
//! source, since a mirror may be wrong where the archive is right.
//!
//! **Resuming.** The unfinished file is named by the SHA-256 that it is to have. Whoever goes on with it, be it this
//! process after a cut or another after a kill, asks for the rest only (a server that ignores ranges sends all, and
//! what is there already is passed over). Bytes from several answers may not belong together, so when such a download
//! has the wrong hash it is made once more in one piece before anybody is blamed. Without a SHA-256 there is nothing
//! that ties two answers together but a strong ETag, so a download goes on after a cut if there is one and starts
//! anew otherwise, and nothing is left behind.
//!
//! **It ends.** A source that has refused a range, or sent another, is asked for the whole file from then on. Headway is what
//! lies beyond the furthest byte that this source has led to, so that bytes that come again and again do not count.
//!
//! **Concurrency.** One process at a time writes an unfinished file; others that want the same wait and then find it
//! in the store. Dropping the future stops a download; what is left can be resumed.

mod error;
mod registry;
mod sink;

use std::time::Duration;

use url::Url;

use crate::digest::{Digest, Mismatch};
use crate::http::retry::{Attempts, HEADWAY};
use crate::http::{Client, Credential, HttpError, redact};
use crate::store::{Partial, Store};

pub use error::FetchError;
pub use registry::fetch_blob;
use sink::Sink;

/// Bytes handed to the writing thread at a time.
const CHUNK: usize = 512 * 1024;
/// How often a download waiting for another process looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A file to have in the store.
#[derive(Clone, Debug)]
pub struct Want {
    /// For messages: "numpy-2.3.4-cp311-….whl".
    pub name: String,
    /// Where it is, in the order to be tried.
    pub urls: Vec<Url>,
    pub size: Option<u64>,
    pub sha256: Option<Digest>,
    /// The most bytes that it may have.
    pub limit: u64,
}

/// A file that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub digest: Digest,
    pub size: u64,
    /// Which of the URLs it came from; none if nothing had to be requested.
    pub from: Option<Url>,
    /// Bytes that an earlier process had downloaded already.
    pub resumed: u64,
}

/// What a progress display may know. `Bytes` less `Rewound` adds up to the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchEvent {
    /// The download begins, once; with the size, if it is known.
    Started { total: Option<u64> },
    /// So many more bytes are here, resumed ones included.
    Bytes(u64),
    /// So many bytes were thrown away again.
    Rewound(u64),
    /// A passing trouble; the download goes on.
    Retried { why: String },
    /// It is in the store.
    Done,
}

/// Brings one file into the store.
///
/// `auth` gives the credential for a URL; it goes to that URL's origin only. For a file that is there already nothing
/// is requested and no event sent.
pub async fn fetch(
    client: &Client,
    store: &Store,
    want: &Want,
    auth: &(dyn Fn(&Url) -> Option<Credential> + Sync),
    progress: &(dyn Fn(FetchEvent) + Sync),
) -> Result<Fetched, FetchError> {
    let partial = match claim(store, want).await? {
        Claim::There(fetched) => return Ok(fetched),
        Claim::Ours(partial) => partial,
    };
    let bound = want.size.unwrap_or(want.limit);
    let stored = |source| FetchError::Store { name: want.name.clone(), source };
    let sink = Sink::open(partial, want.sha256, bound).await.map_err(stored)?;
    let resumed = sink.written();
    let mut download =
        Download { client, want, progress, sink, bound, started: false, etag: None, whole: false };
    if want.size.is_some() || resumed > 0 {
        download.start(want.size);
    }
    if resumed > 0 {
        progress(FetchEvent::Bytes(resumed));
    }
    let (digest, from) = download.run(auth).await?;
    let size = download.sink.written();
    download.sink.install(digest).await.map_err(stored)?;
    progress(FetchEvent::Done);
    Ok(Fetched { digest, size, from, resumed })
}

enum Claim {
    There(Fetched),
    Ours(Partial),
}

/// Finds the file in the store, or makes this the only download of it.
async fn claim(store: &Store, want: &Want) -> Result<Claim, FetchError> {
    if want.size.is_some_and(|size| size > want.limit) {
        return Err(FetchError::TooLarge { name: want.name.clone(), limit: want.limit });
    }
    let name = match (&want.sha256, want.urls.first()) {
        (Some(digest), _) => digest.hex(),
        (None, Some(url)) => {
            format!("url-{}", Digest::of(redact(url) + url.query().unwrap_or_default()).hex())
        }
        (None, None) => return Err(FetchError::NoSource { name: want.name.clone() }),
    };
    loop {
        let partial =
            store.partial(&name).map_err(|source| FetchError::Store { name: want.name.clone(), source })?;
        // Looked for with the lock held: the last writer may have finished just before.
        if let Some(digest) = want.sha256
            && let Some(size) = store.blob_size(&digest)
        {
            if let Some(partial) = partial {
                let _ = partial.remove();
            }
            return match want.size {
                Some(expected) if expected != size => Err(FetchError::Length {
                    name: want.name.clone(),
                    from: "the store".to_owned(),
                    expected,
                    announced: size,
                }),
                _ => Ok(Claim::There(Fetched { digest, size, from: None, resumed: 0 })),
            };
        }
        match partial {
            Some(partial) => return Ok(Claim::Ours(partial)),
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

struct Download<'a> {
    client: &'a Client,
    want: &'a Want,
    progress: &'a (dyn Fn(FetchEvent) + Sync),
    sink: Sink,
    /// The most bytes that may be written.
    bound: u64,
    started: bool,
    /// The strong ETag of the answer that the bytes so far are from; only without a SHA-256.
    etag: Option<String>,
    /// All bytes so far are from one answer.
    whole: bool,
}

impl Download<'_> {
    /// Tries one source after the other; the digest of what is in the sink then, and where it came from.
    async fn run(
        &mut self,
        auth: &(dyn Fn(&Url) -> Option<Credential> + Sync),
    ) -> Result<(Digest, Option<Url>), FetchError> {
        if let Some(digest) = self.want.sha256
            && self.sink.written() > 0
            && self.digest().await? == digest
        {
            return Ok((digest, None));
        }
        let mut errors = Vec::new();
        for url in &self.want.urls {
            match self.source(url, auth(url).as_ref()).await {
                Ok(digest) => return Ok((digest, Some(url.clone()))),
                Err(error @ FetchError::Store { .. }) => return Err(error),
                Err(error) => errors.push(error),
            }
            if self.want.sha256.is_none() {
                self.rewind().await?;
            }
        }
        let name = self.want.name.clone();
        Err(match errors.len() {
            0 => FetchError::NoSource { name },
            1 => errors.remove(0),
            _ => FetchError::Everywhere { name, errors },
        })
    }

    /// The whole file from one source, verified.
    async fn source(&mut self, url: &Url, auth: Option<&Credential>) -> Result<Digest, FetchError> {
        let (mut again, mut ranges) = (false, true);
        loop {
            self.complete(url, auth, &mut ranges).await?;
            let actual = self.digest().await?;
            let Some(expected) = self.want.sha256.filter(|expected| *expected != actual) else {
                return Ok(actual);
            };
            let actual_size = self.sink.written();
            let blame = self.whole || again;
            self.rewind().await?;
            if blame {
                let expected_size = self.want.size.unwrap_or(actual_size);
                return Err(FetchError::Integrity {
                    name: self.want.name.clone(),
                    from: redact(url),
                    source: Box::new(Mismatch { expected, expected_size, actual, actual_size }),
                });
            }
            let why = "bytes of several answers do not fit together".to_owned();
            (self.progress)(FetchEvent::Retried { why });
            again = true;
        }
    }

    /// All bytes from one source, with as many requests as it takes; without `ranges`, which it may lose, each for the whole.
    async fn complete(
        &mut self,
        url: &Url,
        auth: Option<&Credential>,
        ranges: &mut bool,
    ) -> Result<(), FetchError> {
        let mut attempts = Attempts::default();
        let mut furthest = self.sink.written();
        loop {
            let error = match self.answer(url, auth, *ranges).await {
                Ok(()) => return Ok(()),
                Err(FetchError::Http { source, .. }) => source,
                Err(error) => {
                    if !matches!(error, FetchError::Store { .. }) {
                        self.rewind().await?;
                    }
                    return Err(error);
                }
            };
            if self.sink.written() >= furthest + HEADWAY {
                attempts.headway();
            }
            furthest = furthest.max(self.sink.written());
            if matches!(error, HttpError::Range { .. }) && std::mem::take(ranges) {
                self.rewind().await?;
                continue;
            }
            let Some(wait) = attempts.wait(&error, self.client.options()) else {
                return Err(FetchError::Http { name: self.want.name.clone(), source: error });
            };
            (self.progress)(FetchEvent::Retried { why: error.to_string() });
            tokio::time::sleep(wait).await;
        }
    }

    /// One request: with `ranges` for what is missing, else for the whole, of which what is there already is passed over.
    async fn answer(&mut self, url: &Url, auth: Option<&Credential>, ranges: bool) -> Result<(), FetchError> {
        let http = |source| FetchError::Http { name: self.want.name.clone(), source };
        let unproven = self.want.sha256.is_none();
        if unproven && self.etag.is_none() {
            self.rewind().await?;
        }
        let offset = if ranges { self.sink.written() } else { 0 };
        let etag = self.etag.take().filter(|_| unproven);
        let mut body = self.client.send(url, auth, offset, etag.as_deref()).await.map_err(http)?;
        self.announced(url, body.total())?;
        if unproven && body.offset() < self.sink.written() {
            // Another version of the file.
            self.rewind().await?;
        }
        self.etag = body.etag().map(str::to_owned);
        self.whole = self.sink.written() == 0;
        self.start(self.want.size.or(body.total()));

        // What is there already and sent again all the same.
        let mut skip = self.sink.written() - body.offset().min(self.sink.written());
        let mut buffer = Vec::with_capacity(CHUNK + CHUNK / 4);
        loop {
            let read = body.chunk(&mut buffer).await;
            let read = match read {
                Ok(read) => read,
                Err(source) => {
                    self.write(buffer).await?;
                    return Err(FetchError::Http { name: self.want.name.clone(), source });
                }
            };
            let passed = skip.min(read as u64);
            if passed > 0 {
                let start = buffer.len() - read;
                buffer.drain(start..start + passed as usize);
                skip -= passed;
            }
            let new = read as u64 - passed;
            if self.sink.written() + buffer.len() as u64 > self.bound {
                // Told of, but never written.
                (self.progress)(FetchEvent::Rewound(buffer.len() as u64 - new));
                return Err(self.overlong(url));
            }
            if new > 0 {
                (self.progress)(FetchEvent::Bytes(new));
            }
            if read == 0 || buffer.len() >= CHUNK {
                let full = std::mem::replace(&mut buffer, Vec::with_capacity(CHUNK + CHUNK / 4));
                self.write(full).await?;
            }
            if read == 0 {
                break;
            }
        }
        let written = self.sink.written();
        match self.want.size.or(body.total()) {
            Some(total) if written < total || skip > 0 => Err(FetchError::Http {
                name: self.want.name.clone(),
                source: HttpError::Read {
                    url: redact(url),
                    source: format!("it ended after {} of {total} bytes", written - skip.min(written)).into(),
                },
            }),
            _ => Ok(()),
        }
    }

    /// Whether the length that the server announces is the one wanted.
    fn announced(&self, url: &Url, total: Option<u64>) -> Result<(), FetchError> {
        let name = || self.want.name.clone();
        match (total, self.want.size) {
            (Some(announced), Some(expected)) if announced != expected => {
                Err(FetchError::Length { name: name(), from: redact(url), expected, announced })
            }
            (Some(size), None) if size > self.want.limit => {
                Err(FetchError::TooLarge { name: name(), limit: self.want.limit })
            }
            _ => Ok(()),
        }
    }

    fn overlong(&self, url: &Url) -> FetchError {
        let name = self.want.name.clone();
        match self.want.size {
            Some(expected) => FetchError::Overlong { name, from: redact(url), expected },
            None => FetchError::TooLarge { name, limit: self.want.limit },
        }
    }

    fn start(&mut self, total: Option<u64>) {
        if !self.started {
            self.started = true;
            (self.progress)(FetchEvent::Started { total });
        }
    }

    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), FetchError> {
        let written = self.sink.write(bytes).await;
        written.map_err(|source| FetchError::Store { name: self.want.name.clone(), source })
    }

    async fn digest(&mut self) -> Result<Digest, FetchError> {
        let digest = self.sink.digest().await;
        digest.map_err(|source| FetchError::Store { name: self.want.name.clone(), source })
    }

    /// Starts again at the first byte.
    async fn rewind(&mut self) -> Result<(), FetchError> {
        let written = self.sink.written();
        if written > 0 {
            let rewound = self.sink.restart().await;
            rewound.map_err(|source| FetchError::Store { name: self.want.name.clone(), source })?;
            (self.progress)(FetchEvent::Rewound(written));
        }
        Ok(())
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
