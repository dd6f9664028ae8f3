//! Blobs of registries into the store.

use super::sink::Sink;
use super::{CHUNK, Claim, FetchError, FetchEvent, Want, claim};
use crate::diagnostic::chain;
use crate::digest::Digest;
use crate::registry::{Mirrored, RegistryError, Repository};
use crate::store::Store;

/// Brings a blob of exactly `size` bytes into the store, from the first of `sources` that has it. As [`super::fetch`]
/// otherwise.
pub async fn fetch_blob(
    store: &Store,
    sources: &[Mirrored],
    (digest, size): (Digest, u64),
    progress: &(dyn Fn(FetchEvent) + Sync),
) -> Result<(), FetchError> {
    let name = digest.to_string();
    let want =
        Want { name: name.clone(), urls: Vec::new(), size: Some(size), sha256: Some(digest), limit: size };
    let partial = match claim(store, &want).await? {
        Claim::There(_) => return Ok(()),
        Claim::Ours(partial) => partial,
    };
    let stored = |source| FetchError::Store { name: name.clone(), source };
    let mut sink = Sink::open(partial, Some(digest), size).await.map_err(stored)?;
    progress(FetchEvent::Started { total: Some(size) });
    progress(FetchEvent::Bytes(sink.written()));
    let mut errors = Vec::new();
    for source in sources {
        for repository in source.repositories() {
            match from(&mut sink, &repository, (digest, size), progress).await {
                Ok(()) => {
                    sink.install(digest).await.map_err(stored)?;
                    progress(FetchEvent::Done);
                    return Ok(());
                }
                Err(error @ FetchError::Store { .. }) => return Err(error),
                Err(error) => {
                    if !is_absent(&error) && source.pass_over(&repository) {
                        let why =
                            format!("the mirror {} is passed over: {}", repository.host(), chain(&error));
                        progress(FetchEvent::Retried { why });
                    }
                    errors.push(error);
                }
            }
        }
    }
    Err(match errors.len() {
        0 => FetchError::NoSource { name },
        1 => errors.remove(0),
        _ => FetchError::Everywhere { name, errors },
    })
}

fn is_absent(error: &FetchError) -> bool {
    matches!(error, FetchError::Registry { source: RegistryError::Refused { status: 404, .. }, .. })
}

/// All that is missing, from one repository. What does not fit together with what was there before is asked for once more as
/// a whole.
async fn from(
    sink: &mut Sink,
    repository: &Repository,
    (digest, size): (Digest, u64),
    progress: &(dyn Fn(FetchEvent) + Sync),
) -> Result<(), FetchError> {
    let name = digest.to_string();
    let stored = |source| FetchError::Store { name: name.clone(), source };
    loop {
        let resumed = sink.written() > 0;
        let mut reader = repository.blob(digest, size, sink.hasher().await.map_err(stored)?);
        let mut buffer = Vec::with_capacity(CHUNK + CHUNK / 4);
        let error = loop {
            match reader.chunk(&mut buffer).await {
                Ok(0) => {
                    sink.write(buffer).await.map_err(stored)?;
                    return Ok(());
                }
                Ok(read) => {
                    progress(FetchEvent::Bytes(read as u64));
                    if buffer.len() >= CHUNK {
                        let full = std::mem::replace(&mut buffer, Vec::with_capacity(CHUNK + CHUNK / 4));
                        sink.write(full).await.map_err(stored)?;
                    }
                }
                Err(error) => break error,
            }
        };
        let foul = error.is_integrity();
        if foul {
            progress(FetchEvent::Rewound(sink.written() + buffer.len() as u64));
            sink.restart().await.map_err(stored)?;
        } else {
            // The next repository, or the next run, goes on from here.
            sink.write(buffer).await.map_err(stored)?;
        }
        if !(foul && resumed) {
            return Err(FetchError::Registry { name, source: error });
        }
        progress(FetchEvent::Retried { why: error.to_string() });
    }
}
