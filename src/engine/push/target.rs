//! One repository that is being pushed to: how a blob gets there with the fewest bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::pace::Pace;
use super::parcel::{Parcel, Source};
use super::{Outcome, PushedBlob, knowledge};
use crate::digest::Digest;
use crate::engine::cancel::Cancel;
use crate::engine::{EngineError, Event, Place, Reporter};
use crate::fetch;
use crate::oci::{ImageIndex, ImageManifest};
use crate::registry::{ManifestName, Mirrored, Mount, RegistryError, Repository, Session, UploadEvent};
use crate::size::counted;
use crate::store::Store;

/// Blobs sent at the same time.
const UPLOADS: usize = 8;
/// Blobs that are looked for, mounted or sent at the same time.
const ASKED: usize = 16;
/// Manifests below an index that are read to learn what is there.
const PLATFORMS: usize = 8;
/// Blobs that a registry has lost whose names are told.
const TOLD: usize = 3;

pub struct Target {
    pub place: Place,
    pub repository: Repository,
    pub store: Store,
    pub reporter: Arc<dyn Reporter>,
    pub cancel: Cancel,
    pub dry_run: bool,
    /// How long blobs were under way.
    pub pace: Pace,
    /// Blobs that a manifest which is there names. They are believed to be there until something new is to stand upon them:
    /// registries lose blobs.
    named: Mutex<BTreeSet<Digest>>,
    /// What has become of the blobs that we have seen to.
    seen_to: Mutex<BTreeMap<Digest, Outcome>>,
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
            pace: Pace::default(),
            named: Mutex::default(),
            seen_to: Mutex::default(),
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
        lock_of(&self.named).extend(blobs);
    }

    /// Whether a manifest names the blob, and nobody has looked for it.
    fn is_believed(&self, blob: &Digest) -> bool {
        lock_of(&self.named).contains(blob) && !lock_of(&self.seen_to).contains_key(blob)
    }

    /// Whether nobody has to make the blob: the repository has it, has it now since it could be mounted, or another one that is
    /// known has it.
    pub async fn can_do_without(&self, parcel: &Parcel) -> Result<bool, EngineError> {
        if lock_of(&self.seen_to).contains_key(&parcel.digest) {
            return Ok(true);
        }
        let turn = self.asked.acquire().await;
        if let Spared::As(found) = self.spare(parcel).await? {
            lock_of(&self.seen_to).insert(parcel.digest, found);
            return Ok(true);
        }
        drop(turn);
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

    /// Sees to it that the blob is there; one that a manifest names is believed to be.
    pub async fn deliver(&self, parcel: Parcel) -> Result<PushedBlob, EngineError> {
        match self.is_believed(&parcel.digest) {
            true => self.told(&parcel, Outcome::There),
            false => self.settle(&parcel).await,
        }
    }

    /// Looks for those of `parcels` that were only believed to be there, and sees to it that they are; what became of them.
    pub async fn prove(&self, parcels: &[Parcel]) -> Result<Vec<PushedBlob>, EngineError> {
        let believed = parcels.iter().filter(|parcel| self.is_believed(&parcel.digest));
        let settled = futures::future::try_join_all(believed.map(|parcel| self.settle(parcel))).await?;
        let lost: Vec<_> = settled.iter().filter(|blob| blob.outcome != Outcome::There).collect();
        if !lost.is_empty() {
            let mut titles: Vec<_> = lost.iter().take(TOLD).map(|blob| blob.title.as_str()).collect();
            if lost.len() > TOLD {
                titles.push("others");
            }
            let (blobs, titles) = (counted(lost.len(), "blob"), titles.join(", "));
            let text = format!("{} has lost {blobs} that a manifest there names: {titles}", self.place);
            self.reporter.event(Event::Warning(text));
        }
        Ok(settled)
    }

    async fn settle(&self, parcel: &Parcel) -> Result<PushedBlob, EngineError> {
        let known = lock_of(&self.seen_to).get(&parcel.digest).cloned();
        let outcome = match known {
            Some(known) => known,
            None => self.outcome(parcel).await?,
        };
        lock_of(&self.seen_to).insert(parcel.digest, outcome.clone());
        self.told(parcel, outcome)
    }

    fn told(&self, parcel: &Parcel, outcome: Outcome) -> Result<PushedBlob, EngineError> {
        if !self.dry_run {
            knowledge::remember(&self.store, &self.place, &parcel.digest)?;
        }
        let Parcel { digest, size, title, .. } = parcel;
        Ok(PushedBlob { digest: *digest, size: *size, title: title.clone(), outcome })
    }

    async fn outcome(&self, parcel: &Parcel) -> Result<Outcome, EngineError> {
        if !lock_of(&self.named).contains(&parcel.digest) {
            self.repository.admits(&parcel.digest, parcel.size)?;
        }
        let turn = self.asked.acquire().await;
        let session = match self.spare(parcel).await? {
            Spared::As(outcome) => return Ok(outcome),
            Spared::Not(_) if self.dry_run => return self.foreseen(parcel).await,
            Spared::Not(session) => session,
        };
        // Small questions do not wait for large blobs.
        drop(turn);
        self.send(parcel, session).await?;
        Ok(Outcome::Sent)
    }

    /// Whether the blob is there, or can be had without its bytes. A dry run only looks.
    async fn spare(&self, parcel: &Parcel) -> Result<Spared, EngineError> {
        let named = lock_of(&self.named).contains(&parcel.digest);
        if named {
            if self.exists(parcel).await? {
                return Ok(Spared::As(Outcome::There));
            }
            self.forget(&parcel.digest);
        }
        let session = match self.dry_run {
            true => None,
            false => match self.mount(parcel).await? {
                (Some(from), _) => return Ok(Spared::As(Outcome::Mounted { from })),
                (None, session) => session,
            },
        };
        match !named && self.exists(parcel).await? {
            true => Ok(Spared::As(Outcome::There)),
            false => Ok(Spared::Not(session)),
        }
    }

    /// What would become of a blob that is not there: a mount is foreseen from where the blob is found.
    async fn foreseen(&self, parcel: &Parcel) -> Result<Outcome, EngineError> {
        let mut unsure = false;
        for from in self.candidates(parcel)? {
            let source = self.repository.registry().repository(&from)?;
            match source.exists(&parcel.digest, parcel.size).await {
                Ok(true) => return Ok(Outcome::Mounted { from }),
                Ok(false) => {}
                // Who may not look may still be let mount.
                Err(_) => unsure = true,
            }
        }
        Ok(if unsure { Outcome::MayBeSent } else { Outcome::Sent })
    }

    /// Tries the repositories that we know to have had the blob: which one it came from, or the session that the registry has
    /// opened instead. Who does not give it is forgotten, so that a registry that mounts nothing is not asked so again.
    async fn mount(&self, parcel: &Parcel) -> Result<(Option<String>, Option<Session>), EngineError> {
        let mut session = None;
        for from in self.candidates(parcel)? {
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
        self.reporter.event(Event::Pushes { bytes: parcel.size });
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
        let _sending = self.pace.start();
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
        lock_of(&self.named).remove(blob);
        lock_of(&self.seen_to).remove(blob);
    }
}

/// How a blob does without being sent.
enum Spared {
    As(Outcome),
    /// It must be sent; to this session, if the registry has opened one.
    Not(Option<Session>),
}

fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registry does not let us do that.
pub fn is_denied(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Login { .. } | RegistryError::Refused { status: 401 | 403, .. })
}
