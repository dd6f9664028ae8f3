//! Blobs read piece by piece: verified, and resumed after a cut.

use super::client::Call;
use super::error::At;
use super::{RegistryError, Repository};
use crate::digest::{Digest, Hasher, Mismatch};
use crate::http::retry::{Attempts, HEADWAY};
use crate::http::{Body, HttpError, Method, Payload};

/// A blob that is being read. What it has yielded counts only once [`BlobReader::chunk`] has said that the end is reached.
///
/// Bytes past the size are never yielded. A cut, a stall or a passing refusal is made good by asking for the rest; where the
/// server ignores or refuses that, all is asked for again and what is here already is passed over. It ends after
/// [`ClientOptions::retries`](crate::http::ClientOptions::retries) failures without 128 KiB of headway between them. If the
/// bytes of several answers do not fit together, the digest shows it: then it may help to begin anew.
pub struct BlobReader {
    repository: Repository,
    at: At,
    digest: Digest,
    size: u64,
    hasher: Hasher,
    body: Option<Body>,
    /// Bytes of the body that are here already.
    skip: u64,
    /// Ranges are not to be had.
    whole: bool,
    attempts: Attempts,
    /// Bytes since the last failure.
    gained: u64,
}

impl Repository {
    /// The blob, of which `have` has hashed the beginning (nothing: [`Hasher::new`]); it yields the rest. Requests begin with the
    /// first [`BlobReader::chunk`].
    pub fn blob(&self, digest: Digest, size: u64, have: Hasher) -> BlobReader {
        BlobReader {
            repository: self.clone(),
            at: self.at(format!("read blob {digest}")),
            digest,
            size,
            hasher: have,
            body: None,
            skip: 0,
            whole: false,
            attempts: Attempts::default(),
            gained: 0,
        }
    }

    /// The whole of a small blob; the caller has bounded `size`.
    pub async fn small_blob(&self, digest: Digest, size: u64) -> Result<Vec<u8>, RegistryError> {
        let mut reader = self.blob(digest, size, Hasher::new());
        let mut bytes = Vec::new();
        while reader.chunk(&mut bytes).await? > 0 {}
        Ok(bytes)
    }
}

impl BlobReader {
    /// Appends the next piece (some KiB) to `buffer` and says how long it is; 0 at the end, when size and digest are right.
    pub async fn chunk(&mut self, buffer: &mut Vec<u8>) -> Result<usize, RegistryError> {
        loop {
            let left = self.size.checked_sub(self.hasher.bytes());
            if left.is_none_or(|left| left == 0) {
                return self.verify();
            }
            let start = buffer.len();
            let read = match &mut self.body {
                Some(body) => body.chunk(buffer).await,
                None => match self.open().await {
                    Ok(()) => continue,
                    Err(RegistryError::Http { source, .. }) => Err(source),
                    Err(error) => return Err(error),
                },
            };
            let error = match read {
                Ok(0) => {
                    let (have, size) = (self.hasher.bytes(), self.size);
                    let source = format!("it ended after {have} of {size} bytes").into();
                    HttpError::Read { url: self.at.host.to_string(), source }
                }
                Ok(read) => {
                    let passed = self.skip.min(read as u64) as usize;
                    buffer.drain(start..start + passed);
                    self.skip -= passed as u64;
                    let room = usize::try_from(left.unwrap_or(0)).unwrap_or(usize::MAX);
                    buffer.truncate(start.saturating_add(room));
                    let new = &buffer[start..];
                    if new.is_empty() {
                        continue;
                    }
                    self.hasher.update(new);
                    self.gained += new.len() as u64;
                    return Ok(new.len());
                }
                Err(error) => {
                    buffer.truncate(start);
                    error
                }
            };
            self.fail(error).await?;
        }
    }

    async fn fail(&mut self, error: HttpError) -> Result<(), RegistryError> {
        self.body = None;
        if std::mem::take(&mut self.gained) >= HEADWAY {
            self.attempts.headway();
        }
        if matches!(error, HttpError::Range { .. }) && !std::mem::replace(&mut self.whole, true) {
            return Ok(());
        }
        let failed = |source| RegistryError::Http { at: self.at.clone(), source };
        self.repository.registry.pause(&mut self.attempts, error).await.map_err(failed)
    }

    /// Asks for what is missing.
    async fn open(&mut self) -> Result<(), RegistryError> {
        let have = self.hasher.bytes();
        let asked = if self.whole { 0 } else { have };
        let repository = self.repository.clone();
        let url = repository.url(&self.at, &format!("blobs/{}", self.digest)).await?;
        let range = format!("bytes={asked}-");
        let headers = [("range", range.as_str())];
        let scopes = repository.pull();
        let call = Call {
            headers: if asked > 0 { &headers } else { &[] },
            ..Call::new(&self.at, Method::Get, &url, &scopes)
        };
        let answer = repository.registry.ask(call, &|_| {}, &|| Payload::None).await?;
        let head = answer.head.clone();
        let failed = |source| RegistryError::Http { at: self.at.clone(), source };
        match head.status {
            200 | 206 => {}
            416 if asked > 0 => return Err(failed(HttpError::Range { url: self.at.host.to_string() })),
            _ if head.as_error().is_transient() => return Err(failed(head.as_error())),
            _ => {
                let body = answer.beginning(64 << 10).await.unwrap_or_default();
                return Err(RegistryError::refused(&self.at, &head, &body));
            }
        }
        let body = answer.into_body(asked).map_err(failed)?;
        if let Some(announced) = body.total().filter(|total| *total != self.size) {
            let problem = format!("it announces {announced} bytes where {} were promised", self.size);
            return Err(RegistryError::protocol(&self.at, problem));
        }
        self.skip = have.saturating_sub(body.offset());
        self.body = Some(body);
        Ok(())
    }

    fn verify(&mut self) -> Result<usize, RegistryError> {
        self.body = None;
        let actual_size = self.hasher.bytes();
        let actual = self.hasher.clone().finish();
        if actual == self.digest && actual_size == self.size {
            return Ok(0);
        }
        let source = Mismatch { expected: self.digest, expected_size: self.size, actual, actual_size };
        Err(RegistryError::Integrity { at: self.at.clone(), source: Box::new(source) })
    }
}
