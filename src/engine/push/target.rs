//! One repository that is being pushed to: how a blob gets there with the fewest bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::parcel::{Parcel, Source};
use super::{Outcome, PushedBlob, knowledge};
use crate::digest::Digest;
use crate::engine::cancel::Cancel;
use crate::engine::{EngineError, Event, Place, Reporter};
use crate::fetch;
use crate::oci::{ImageIndex, ImageManifest};
use crate::registry::{ManifestName, Mirrored, Mount, RegistryError, Repository, Session, UploadEvent};
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
    /// Blobs that are there: a manifest that is there names them, or we have seen to it.
    present: Mutex<BTreeMap<Digest, Outcome>>,
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
        self.known_blobs().extend(blobs.map(|blob| (blob, Outcome::There)));
    }

    fn known_blobs(&self) -> MutexGuard<'_, BTreeMap<Digest, Outcome>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody has to make the blob: the repository has it, has it now since it could be mounted, or another one that is
    /// known has it.
    pub async fn can_do_without(&self, parcel: &Parcel) -> Result<bool, EngineError> {
        if self.known_blobs().contains_key(&parcel.digest) {
            return Ok(true);
        }
        let _turn = self.asked.acquire().await;
        let found = match self.dry_run {
            true => None,
            false => self.mount(parcel).await?.0.map(|from| Outcome::Mounted { from }),
        };
        let found = match found {
            None if self.exists(parcel).await? => Some(Outcome::There),
            found => found,
        };
        if let Some(found) = found {
            self.known_blobs().insert(parcel.digest, found);
            return Ok(true);
        }
        let Source::Elsewhere(sources) = &parcel.source else { return Ok(false) };
        for repository in sources.iter().flat_map(Mirrored::repositories) {
            // Whatever goes wrong: the layer can be made.
            if matches!(repository.exists(&parcel.digest, parcel.size).await, Ok(true)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Who may not look may still be let in to write, and is told then if not.
    async fn exists(&self, parcel: &Parcel) -> Result<bool, EngineError> {
        match self.repository.exists(&parcel.digest, parcel.size).await {
            Err(error) if is_denied(&error) => Ok(false),
            found => Ok(found?),
        }
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
        if let Some(known) = self.known_blobs().get(&parcel.digest) {
            return Ok(known.clone());
        }
        self.repository.admits(&parcel.digest, parcel.size)?;
        let turn = self.asked.acquire().await;
        let session = if self.dry_run {
            None
        } else {
            match self.mount(parcel).await? {
                (Some(from), _) => return Ok(Outcome::Mounted { from }),
                (None, session) => session,
            }
        };
        if self.exists(parcel).await? {
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
                Mount::Upload(opened) => {
                    let place = Place { host: self.place.host.clone(), repository: from };
                    knowledge::forget(&self.store, &place, &parcel.digest)?;
                    session = Some(opened);
                }
            }
        }
        Ok((None, session))
    }

    /// First those that are said to have it now, then those that once had it.
    fn candidates(&self, parcel: &Parcel) -> Result<Vec<String>, EngineError> {
        let origins = parcel.origins.iter().filter(|origin| origin.host == self.place.host);
        let mut all: Vec<_> = origins.map(|origin| origin.repository.clone()).collect();
        for known in knowledge::repositories(&self.store, &self.place.host, &parcel.digest)? {
            if !all.contains(&known) {
                all.push(known);
            }
        }
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
            Source::Elsewhere(sources) => {
                let blob = (parcel.digest, parcel.size);
                let fetched = fetch::fetch_blob(&self.store, sources, blob, &|_| {}).await;
                fetched.map_err(|error| EngineError::Fetch(vec![error]))?;
            }
            Source::Nowhere => {
                let layers = vec![(parcel.title.clone(), parcel.digest)];
                return Err(EngineError::NoBytes { layers });
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

/// The registry does not let us do that.
pub fn is_denied(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Login { .. } | RegistryError::Refused { status: 401 | 403, .. })
}
