//! Blobs into a registry: mounted from another repository, or sent in one stream.
//!
//! One `POST` that opens a session and one `PUT` that carries all bytes is the way that every registry knows; chunked uploads
//! lose data on some of the large ones. A broken stream cannot be resumed, so an attempt that fails is made again from the
//! first byte in a new session, after a look whether the blob has arrived all the same: the answer may be all that was lost.
//! The session of a failed attempt is deleted, also when the future is dropped.
//!
//! **Memory** is a few pieces of 256 KiB an upload, whatever its size. **Deadlines**: each piece that is there must be taken within
//! [`ClientOptions::read_timeout`](crate::http::ClientOptions::read_timeout); after the last the registry has a second more for
//! every 20 MB. There are [`ClientOptions::retries`](crate::http::ClientOptions::retries) + 1 attempts, each with its own `POST`.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use url::Url;

use super::auth::Scopes;
use super::client::{Call, Reply};
use super::error::At;
use super::repository::same_digest;
use super::{RegistryError, Repository};
use crate::blob::ReadAt;
use crate::digest::Digest;
use crate::http::redirect::Chain;
use crate::http::retry::Attempts;
use crate::http::{HttpError, Method, Payload};

/// Bytes read and sent at a time.
const PIECE: usize = 256 << 10;
/// Pieces between the reader and the connection.
const QUEUE: usize = 2;
/// How long the deletion of a session may take; the registry forgets it by itself sooner or later.
const CLEANUP: Duration = Duration::from_secs(5);

/// Bytes to be uploaded, that can be made again.
pub trait Content: Send + Sync + 'static {
    fn digest(&self) -> Digest;
    fn size(&self) -> u64;
    /// From the first byte on; it is read on a thread where it may wait.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}

/// A blob that lies somewhere, the store for one.
pub struct StoredContent {
    pub digest: Digest,
    pub blob: Arc<dyn ReadAt>,
}

impl Content for StoredContent {
    fn digest(&self) -> Digest {
        self.digest
    }

    fn size(&self) -> u64 {
        self.blob.size()
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Sequential { blob: Arc::clone(&self.blob), offset: 0 }))
    }
}

struct Sequential {
    blob: Arc<dyn ReadAt>,
    offset: u64,
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.size() - self.offset;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.blob.read_exact_at(&mut buffer[..len], self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }
}

/// What a progress display may know. `Sent` less `Rewound` adds up to the size, unless the blob was there after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEvent {
    /// So many more bytes are on their way.
    Sent(u64),
    /// So many are sent once more.
    Rewound(u64),
}

/// An open upload session: where the registry wants the bytes. Dropped without an upload, it is deleted.
pub struct Session {
    repository: Repository,
    url: Url,
    scopes: Scopes,
    open: bool,
}

/// What became of a mount.
pub enum Mount {
    /// The repository has the blob now.
    Mounted,
    /// It has to be uploaded, here.
    Upload(Session),
}

impl Repository {
    /// Asks for a blob of another repository of the same registry; without `from`, for one that it finds itself. What the registry
    /// does not mount, does not let us mount or fails at is to be uploaded: there is one attempt.
    pub async fn mount(&self, digest: &Digest, from: Option<&str>) -> Result<Mount, RegistryError> {
        let at = self.at(match from {
            Some(from) => format!("mount blob {digest} of {from} as one"),
            None => format!("mount blob {digest}"),
        });
        let mut url = self.url(&at, "blobs/uploads/").await?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string());
        if let Some(from) = from {
            url.query_pairs_mut().append_pair("from", from);
        }
        let scopes = match from {
            Some(from) => self.push().and_pull(from),
            None => self.push(),
        };
        let call = Call::new(&at, Method::Post, &url, &scopes);
        let reply = match self.registry.send_once(call, 64 << 10).await {
            // It has said when to come again.
            Ok(reply) if reply.head.status == 429 => Some(self.registry.send(call, 64 << 10).await?),
            // Whoever may not read the source may still write here.
            Err(RegistryError::Login { .. }) if from.is_some() => None,
            // A registry may take its time to copy a large blob: an upload does not wait for that.
            Err(RegistryError::Http { source, .. }) if source.is_transient() => None,
            reply => Some(reply?),
        };
        match reply {
            Some(reply) if matches!(reply.head.status, 200 | 201) => {
                same_digest(&at, &reply.head, digest)?;
                Ok(Mount::Mounted)
            }
            Some(reply) if reply.head.status == 202 => Ok(Mount::Upload(self.session(&at, &reply, scopes)?)),
            Some(reply) if reply.head.status == 429 => Err(reply.refused(&at)),
            // Some registries refuse mounts, or fail at them, where the specification has them open a session.
            _ => Ok(Mount::Upload(self.begin().await?)),
        }
    }

    /// Opens a session.
    async fn begin(&self) -> Result<Session, RegistryError> {
        let at = self.at("begin an upload to a repository");
        let url = self.url(&at, "blobs/uploads/").await?;
        let scopes = self.push();
        let reply = self.registry.send(Call::new(&at, Method::Post, &url, &scopes), 64 << 10).await?;
        match reply.head.status {
            202 => self.session(&at, &reply, scopes),
            _ => Err(reply.refused(&at)),
        }
    }

    fn session(&self, at: &At, reply: &Reply, scopes: Scopes) -> Result<Session, RegistryError> {
        // A location is judged as a redirect is: no way down to plain HTTP.
        let mut chain = Chain::new(&reply.head.url);
        chain
            .follow(reply.head.location())
            .map_err(|source| RegistryError::Http { at: at.clone(), source })?;
        Ok(Session { repository: self.clone(), url: chain.url().clone(), scopes, open: true })
    }

    /// Refuses a blob that is larger than the settings say that the registry takes.
    pub fn admits(&self, digest: &Digest, size: u64) -> Result<(), RegistryError> {
        match self.registry.settings().max_layer.filter(|limit| *limit < size) {
            Some(limit) => {
                Err(RegistryError::TooLarge { at: self.at(format!("write blob {digest}")), size, limit })
            }
            None => Ok(()),
        }
    }

    /// Uploads a blob, in the session of a mount if there is one. One that is larger than the settings say that the registry
    /// takes is refused before anything is sent.
    pub async fn upload(
        &self,
        content: &Arc<dyn Content>,
        session: Option<Session>,
        progress: &(dyn Fn(UploadEvent) + Sync),
    ) -> Result<(), RegistryError> {
        let digest = content.digest();
        let at = self.at(format!("write blob {digest}"));
        self.admits(&digest, content.size())?;
        let mut given = session;
        let mut attempts = Attempts::default();
        loop {
            let mut session = match given.take() {
                Some(session) => session,
                None => self.begin().await?,
            };
            let told = AtomicU64::new(0);
            let tell = |sent| {
                let before = told.fetch_max(sent, Ordering::Relaxed);
                if sent > before {
                    progress(UploadEvent::Sent(sent - before));
                }
            };
            let outcome = session.put(&at, content, &tell).await;
            let sent = told.into_inner();
            let (error, trouble) = match outcome {
                Ok(reply) if matches!(reply.head.status, 200 | 201 | 204) => {
                    session.open = false;
                    same_digest(&at, &reply.head, &digest)?;
                    progress(UploadEvent::Sent(content.size() - sent.min(content.size())));
                    return Ok(());
                }
                Ok(reply) => {
                    let refused = reply.refused(&at);
                    let lost =
                        matches!(reply.head.status, 404 | 416) || refused.has_code("BLOB_UPLOAD_INVALID");
                    let trouble = match reply.head.as_error() {
                        trouble if trouble.is_transient() => Some(trouble),
                        // The session has gone, the blob has not: a new one may do.
                        trouble if lost => {
                            let url = crate::http::redact(&session.url);
                            Some(HttpError::Request { url, source: Box::new(trouble) })
                        }
                        _ => None,
                    };
                    (refused, trouble)
                }
                Err(RegistryError::Http { source, at }) if source.is_transient() => {
                    let again = source.again();
                    (RegistryError::Http { at, source }, Some(again))
                }
                Err(error) => (error, None),
            };
            if trouble.is_some() && self.has_arrived(&digest, content.size()).await {
                session.open = false;
                progress(UploadEvent::Sent(content.size() - sent.min(content.size())));
                return Ok(());
            }
            session.abort().await;
            let Some(trouble) = trouble else { return Err(error) };
            if self.registry.pause(&mut attempts, trouble).await.is_err() {
                return Err(error);
            }
            progress(UploadEvent::Rewound(sent));
        }
    }

    /// One look, without patience.
    async fn has_arrived(&self, digest: &Digest, size: u64) -> bool {
        let at = self.at(format!("look for blob {digest}"));
        let Ok(url) = self.url(&at, &format!("blobs/{digest}")).await else { return false };
        let scopes = self.push();
        let reply = self.registry.send_once(Call::new(&at, Method::Head, &url, &scopes), 0).await;
        reply.is_ok_and(|reply| {
            reply.head.status == 200
                && same_digest(&at, &reply.head, digest).is_ok()
                && super::repository::length(&reply.head).is_none_or(|length| length == size)
        })
    }
}

impl Session {
    /// Sends all bytes, once.
    async fn put(
        &self,
        at: &At,
        content: &Arc<dyn Content>,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<Reply, RegistryError> {
        let mut url = self.url.clone();
        // What the registry has put there stays as it is.
        url.query_pairs_mut().append_pair("digest", &content.digest().to_string());
        let readers = std::sync::Mutex::new(Vec::new());
        let payload = || {
            let (payload, reader) = pieces(Arc::clone(content));
            readers.lock().expect("no panic with the lock held").push(reader);
            payload
        };
        let call = Call::new(at, Method::Put, &url, &self.scopes);
        let answer = self.repository.registry.ask(call, sent, &payload).await;
        let failed = answer.is_err();
        for reader in readers.into_inner().expect("no panic with the lock held") {
            drop(reader.stop);
            // One that waits for its disk is not waited for.
            if failed && let Ok(Ok(Err(source))) = tokio::time::timeout(CLEANUP, reader.thread).await {
                return Err(RegistryError::Source { at: at.clone(), source });
            }
        }
        let answer = answer?;
        let head = answer.head.clone();
        let bytes = answer.beginning(64 << 10).await.unwrap_or_default();
        Ok(Reply { head, bytes })
    }

    /// Tells the registry that nothing comes any more, if it listens.
    async fn abort(mut self) {
        self.open = false;
        delete(self.repository.clone(), self.url.clone(), self.scopes.clone()).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.open
            && let Ok(runtime) = Handle::try_current()
        {
            let ending = self.repository.registry.ending();
            let delete = delete(self.repository.clone(), self.url.clone(), self.scopes.clone());
            runtime.spawn(async move {
                delete.await;
                drop(ending);
            });
        }
    }
}

async fn delete(repository: Repository, url: Url, scopes: Scopes) {
    let at = repository.at("end an upload to a repository");
    let call = Call::new(&at, Method::Delete, &url, &scopes);
    let _ = tokio::time::timeout(CLEANUP, repository.registry.send_once(call, 64 << 10)).await;
}

/// The thread that reads a content; its error is the content's. It ends when `stop` is dropped, since a connection that is
/// stuck keeps what it was given.
struct Reader {
    thread: JoinHandle<io::Result<()>>,
    stop: oneshot::Sender<()>,
}

/// The bytes of `content` as a payload.
fn pieces(content: Arc<dyn Content>) -> (Payload, Reader) {
    let size = content.size();
    let (pieces, inbox) = mpsc::channel(QUEUE);
    let (stop, stopped) = oneshot::channel();
    let thread = tokio::task::spawn_blocking(move || {
        let mut outlet = Outlet { pieces, stopped };
        let read = read_pieces(&*content, &mut outlet);
        if let Err(error) = &read {
            // The request breaks off, whatever else is said.
            outlet.send(Err(io::Error::new(error.kind(), error.to_string())));
        }
        read
    });
    (Payload::Stream { size, pieces: inbox }, Reader { thread, stop })
}

struct Outlet {
    pieces: mpsc::Sender<io::Result<Vec<u8>>>,
    stopped: oneshot::Receiver<()>,
}

impl Outlet {
    /// Whether anybody still wants more.
    fn send(&mut self, piece: io::Result<Vec<u8>>) -> bool {
        Handle::current().block_on(async {
            tokio::select! {
                sent = self.pieces.send(piece) => sent.is_ok(),
                _ = &mut self.stopped => false,
            }
        })
    }
}

fn read_pieces(content: &dyn Content, outlet: &mut Outlet) -> io::Result<()> {
    let mut reader = content.open()?.take(content.size());
    let mut left = content.size();
    while left > 0 {
        let mut piece = Vec::with_capacity(PIECE.min(usize::try_from(left).unwrap_or(PIECE)));
        reader.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            let problem = format!("it ended {left} bytes early");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
        }
        left -= piece.len() as u64;
        if !outlet.send(Ok(piece)) {
            return Ok(());
        }
    }
    Ok(())
}
