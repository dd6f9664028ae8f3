//! One repository that is being pushed to: how a blob gets there with the fewest bytes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::parcel::{Parcel, Source};
use super::{Outcome, PushedBlob, knowledge};
use crate::digest::Digest;
use crate::engine::cancel::Cancel;
use crate::engine::{EngineError, Event, Place, Reporter};
use crate::fetch;
use crate::oci::{ImageIndex, ImageManifest};
use crate::registry::{ManifestName, Mount, RegistryError, Repository, Session, UploadEvent};
use crate::store::Store;

/// Blobs sent at the same time.
const UPLOADS: usize = 8;
/// Blobs that are looked for, mounted or sent at the same time.
const ASKED: usize = 16;
/// Repositories that a blob is tried to be mounted from.
const MOUNTS: usize = 4;
/// Manifests below an index that are read to learn what is there.
const PLATFORMS: usize = 8;

pub struct Target {
    pub place: Place,
    pub repository: Repository,
    pub store: Store,
    pub reporter: Arc<dyn Reporter>,
    pub cancel: Cancel,
    pub dry_run: bool,
    /// Blobs that are there, since a manifest that is there names them.
    present: Mutex<BTreeSet<Digest>>,
    asked: Semaphore,
    uploads: Semaphore,
}

impl Target {
    pub fn new(
        (place, repository): (Place, Repository),
        store: Store,
        reporter: Arc<dyn Reporter>,
        cancel: Cancel,
        dry_run: bool,
    ) -> Self {
        Self {
            place,
            repository,
            store,
            reporter,
            cancel,
            dry_run,
            present: Mutex::default(),
            asked: Semaphore::new(ASKED),
            uploads: Semaphore::new(UPLOADS),
        }
    }

    /// Reads what the name stands for now, and notes the blobs that must be there for it. Its digest.
    pub async fn look(&self, name: &ManifestName) -> Result<Option<Digest>, EngineError> {
        let Some(found) = self.repository.manifest(name).await? else { return Ok(None) };
        match (ImageIndex::parse(&found.bytes), ImageManifest::parse(&found.bytes)) {
            (Ok(index), _) => {
                let names = index.manifests.iter().take(PLATFORMS).map(|entry| entry.digest.into());
                let names: Vec<ManifestName> = names.collect();
                let read = names.iter().map(|name| self.repository.manifest(name));
                for below in futures::future::try_join_all(read).await?.into_iter().flatten() {
                    self.note(ImageManifest::parse(&below.bytes).ok());
                }
            }
            (_, manifest) => self.note(manifest.ok()),
        }
        Ok(Some(found.digest))
    }

    fn note(&self, manifest: Option<ImageManifest>) {
        let blobs = manifest.into_iter().flat_map(|manifest| {
            manifest.layers.into_iter().chain([manifest.config]).map(|descriptor| descriptor.digest)
        });
        self.known_blobs().extend(blobs);
    }

    fn known_blobs(&self) -> std::sync::MutexGuard<'_, BTreeSet<Digest>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the repository has the blob, or has it now since it could be mounted.
    pub async fn has(&self, parcel: &Parcel) -> Result<bool, EngineError> {
        if self.known_blobs().contains(&parcel.digest) {
            return Ok(true);
        }
        let _turn = self.asked.acquire().await;
        if !self.dry_run
            && let (Some(_), _) = self.mount(parcel).await?
        {
            self.known_blobs().insert(parcel.digest);
            return Ok(true);
        }
        let there = self.repository.exists(&parcel.digest, parcel.size).await?;
        if there {
            self.known_blobs().insert(parcel.digest);
        }
        Ok(there)
    }

    /// Sees to it that the blob is there.
    pub async fn deliver(&self, parcel: Parcel) -> Result<PushedBlob, EngineError> {
        self.reporter.event(Event::Pushes { bytes: parcel.size });
        let outcome = self.outcome(&parcel).await?;
        if !self.dry_run {
            knowledge::remember(&self.store, &self.place, &parcel.digest)?;
        }
        let Parcel { digest, size, title, .. } = parcel;
        if outcome != Outcome::Sent {
            self.reporter.event(Event::Pushed { bytes: size });
        }
        Ok(PushedBlob { digest, size, title, outcome })
    }

    async fn outcome(&self, parcel: &Parcel) -> Result<Outcome, EngineError> {
        if self.known_blobs().contains(&parcel.digest) {
            return Ok(Outcome::There);
        }
        let turn = self.asked.acquire().await;
        let session = if self.dry_run {
            None
        } else {
            match self.mount(parcel).await? {
                (Some(from), _) => return Ok(Outcome::Mounted { from }),
                (None, session) => session,
            }
        };
        if self.repository.exists(&parcel.digest, parcel.size).await? {
            return Ok(Outcome::There);
        }
        if self.dry_run {
            let from = self.candidates(parcel)?.into_iter().next();
            return Ok(from.map_or(Outcome::Sent, |from| Outcome::Mounted { from }));
        }
        // Small questions do not wait for large blobs.
        drop(turn);
        self.send(parcel, session).await?;
        Ok(Outcome::Sent)
    }

    /// Tries the repositories that we know to have had the blob: which one it came from, or the session that the registry has
    /// opened instead.
    async fn mount(&self, parcel: &Parcel) -> Result<(Option<String>, Option<Session>), EngineError> {
        let mut session = None;
        for from in self.candidates(parcel)?.into_iter().take(MOUNTS) {
            match self.repository.mount(&parcel.digest, Some(&from)).await? {
                Mount::Mounted => return Ok((Some(from), None)),
                Mount::Upload(opened) => session = Some(opened),
            }
        }
        Ok((None, session))
    }

    fn candidates(&self, parcel: &Parcel) -> Result<Vec<String>, EngineError> {
        let mut all = knowledge::repositories(&self.store, &self.place.host, &parcel.digest)?;
        let origins = parcel.origins.iter().filter(|origin| origin.host == self.place.host);
        all.extend(origins.map(|origin| origin.repository.clone()));
        all.retain(|repository| *repository != self.place.repository);
        Ok(all)
    }

    /// Sends the bytes, whatever the repository has.
    pub async fn send(&self, parcel: &Parcel, mut session: Option<Session>) -> Result<(), EngineError> {
        let _turn = match self.uploads.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => {
                // A session may be forgotten by the time its turn comes.
                drop(session.take());
                self.uploads.acquire().await
            }
        };
        match &parcel.source {
            Source::Elsewhere(repositories) => {
                let blob = (parcel.digest, parcel.size);
                let fetched = fetch::fetch_blob(&self.store, repositories, blob, &|_| {}).await;
                fetched.map_err(|error| EngineError::Fetch(vec![error]))?;
            }
            Source::Nowhere => {
                return Err(EngineError::NoBytes { title: parcel.title.clone(), digest: parcel.digest });
            }
            Source::Bytes(_) | Source::Store => {}
        }
        let progress = |event| {
            self.reporter.event(match event {
                UploadEvent::Sent(bytes) => Event::Pushed { bytes },
                UploadEvent::Rewound(bytes) => Event::PushedAgain { bytes },
            });
        };
        let content = parcel.content(&self.store, &self.cancel);
        let sent = self.repository.upload(&content, session, &progress).await;
        sent.map_err(|error| self.blame(parcel, error))
    }

    /// A registry that finds other bytes than those promised may have been sent them.
    fn blame(&self, parcel: &Parcel, error: RegistryError) -> EngineError {
        let refused = error.has_code("DIGEST_INVALID") || error.has_code("SIZE_INVALID");
        let sources = match self.store.layer_by_digest(&parcel.digest) {
            Ok(Some(record)) if refused => record.facts.sources,
            _ => Vec::new(),
        };
        for blob in sources.iter().chain(refused.then_some(&parcel.digest)) {
            if self.store.has(blob)
                && let Err(damage) = self.store.get(blob)
            {
                return damage.into();
            }
        }
        error.into()
    }

    /// What was believed to be there is not.
    pub fn forget(&self, blob: &Digest) {
        self.known_blobs().remove(blob);
    }
}
