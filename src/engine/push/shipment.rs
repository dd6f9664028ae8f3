//! A push to one repository under way: blobs are delivered as they are added, then documents, then names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::image::{Document, PushImage};
use super::parcel::{Parcel, Source};
use super::target::{Target, is_denied};
use super::{How, Pushed, PushedBlob};
use crate::diagnostic;
use crate::digest::Digest;
use crate::engine::{Engine, EngineError, Event, Place};
use crate::oci::Reference;
use crate::registry::{ManifestName, RegistryError};

/// Dropped without [`Shipment::finish`] it stops; what has arrived stays, without a name.
pub struct Shipment {
    target: Arc<Target>,
    /// It takes as long as a build, in which the registry may change.
    of_build: bool,
    how: How,
    references: Vec<Reference>,
    parcels: Option<mpsc::UnboundedSender<Parcel>>,
    added: BTreeSet<Digest>,
    task: JoinHandle<Result<Delivered, EngineError>>,
}

/// What the first look has found, and what has become of the blobs.
struct Delivered {
    /// What the first name stood for before.
    before: Option<Digest>,
    blobs: Vec<PushedBlob>,
}

impl Shipment {
    /// Looks at the repository and waits for parcels. `root`, where it is known already, spares all questions if it is there;
    /// where it is not, a build is under way, and hears of a failure at once.
    pub fn begin(
        engine: &Engine,
        place: &Place,
        references: Vec<Reference>,
        how: How,
        root: Option<Digest>,
    ) -> Result<Self, EngineError> {
        let repository = engine.registries()?.repository(place)?;
        let (store, reporter) = (engine.store().clone(), Arc::clone(&engine.reporter));
        let target =
            Target::new((place.clone(), repository), store, reporter, engine.cancel.clone(), how.dry_run);
        let target = Arc::new(target);
        let (parcels, inbox) = mpsc::unbounded_channel();
        let first = references.first().map(name).expect("a push has a reference");
        let delivery = Arc::clone(&target);
        let task = engine.runtime()?.spawn(async move {
            let delivered = deliver(&delivery, first, root, inbox).await;
            if let (Err(error), None) = (&delivered, root) {
                let why = diagnostic::chain(error);
                let text = format!("the push to {} has failed, the build goes on: {why}", delivery.place);
                delivery.reporter.event(Event::Warning(text));
            }
            delivered
        });
        Ok(Self {
            target,
            of_build: root.is_none(),
            how,
            references,
            parcels: Some(parcels),
            added: BTreeSet::new(),
            task,
        })
    }

    /// Delivers a blob, at once; each once.
    pub fn add(&mut self, parcel: Parcel) {
        if self.added.insert(parcel.digest)
            && let Some(parcels) = &self.parcels
        {
            // Who has failed listens no more; it is told at the end.
            let _ = parcels.send(parcel);
        }
    }

    pub fn place(&self) -> &Place {
        &self.target.place
    }

    /// Which of `parcels` nobody has to make: [`Target::can_do_without`].
    pub fn can_do_without(&self, engine: &Engine, parcels: &[Parcel]) -> Result<Vec<bool>, EngineError> {
        engine.wait(futures::future::try_join_all(
            parcels.iter().map(|parcel| self.target.can_do_without(parcel)),
        ))
    }

    /// Delivers what is missing of the image, then its documents under all names, and asks what they stand for then.
    pub fn finish(mut self, engine: &Engine, image: &PushImage) -> Result<Pushed, EngineError> {
        let root = image.root.digest;
        let mut digests = self.references.iter().filter_map(Reference::digest);
        if let Some(other) = digests.find(|digest| *digest != root) {
            return Err(EngineError::Usage(format!("the image is {root}, it cannot be pushed as {other}")));
        }
        for parcel in &image.parcels {
            self.add(parcel.clone());
        }
        drop(self.parcels.take());
        let Delivered { before, blobs } = engine.wait(async {
            match (&mut self.task).await {
                Ok(delivered) => delivered,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(EngineError::Cancelled),
            }
        })?;
        let mut by_digest: BTreeMap<_, _> = blobs.into_iter().map(|blob| (blob.digest, blob)).collect();
        let stands = engine.wait(async { Ok(self.stands(root, before).await) })?;
        // Nothing new stands upon what is only believed to be there.
        let sure = !stands || self.references.len() > 1 || self.how.check;
        if sure {
            let proved = engine.wait(self.target.prove(&image.parcels))?;
            by_digest.extend(proved.into_iter().map(|blob| (blob.digest, blob)));
        }
        let blobs = image.parcels.iter().filter_map(|parcel| by_digest.remove(&parcel.digest)).collect();
        let written = match self.how.dry_run {
            true => 0,
            false => engine.wait(self.documents(image, stands, sure))?,
        };
        Ok(Pushed {
            references: self.references.iter().map(Reference::with_default_tag).collect(),
            digest: root,
            blobs,
            took: self.target.pace.took(),
            written,
        })
    }

    /// Whether the first name stands for the image already; `before` is what it stood for when the push began.
    async fn stands(&self, root: Digest, before: Option<Digest>) -> bool {
        match self.references.first().map(name) {
            // What cannot be read now is written again.
            Some(first) if self.of_build && before == Some(root) => {
                matches!(self.stands_for(&first, root).await, Ok(Some(serves)) if serves == root)
            }
            _ => before == Some(root),
        }
    }

    /// How many were written. Where the first name stands for the image already, the manifests below are only looked for, if
    /// somebody wants to be `sure`.
    async fn documents(&self, image: &PushImage, stands: bool, sure: bool) -> Result<usize, EngineError> {
        let root = &image.root;
        let mut written = 0;
        for document in &image.below {
            let name = document.digest.into();
            if stands && (!sure || self.stands_for(&name, document.digest).await?.is_some()) {
                continue;
            }
            self.write(&name, document, image).await?;
            written += 1;
        }
        for (at, reference) in self.references.iter().enumerate() {
            let name = name(reference);
            if at == 0 && stands {
                continue;
            }
            self.write(&name, root, image).await?;
            written += 1;
            let serves = self.stands_for(&name, root.digest).await?;
            if serves != Some(root.digest) {
                let reference = reference.to_string();
                return Err(EngineError::OtherThanPushed { reference, pushed: root.digest, serves });
            }
        }
        Ok(written)
    }

    /// What the registry serves under the name; `written` where we may write and not look.
    async fn stands_for(&self, name: &ManifestName, written: Digest) -> Result<Option<Digest>, EngineError> {
        match self.target.repository.head_manifest(name).await {
            Err(error) if is_denied(&error) => {
                let text = format!("what {} serves now cannot be compared: {error}", self.target.place);
                self.target.reporter.event(Event::Warning(text));
                Ok(Some(written))
            }
            found => Ok(found?.map(|served| served.digest)),
        }
    }

    /// A registry that misses blobs gets them, whatever it has said of them before.
    async fn write(
        &self,
        name: &ManifestName,
        document: &Document,
        image: &PushImage,
    ) -> Result<(), EngineError> {
        let repository = &self.target.repository;
        let put = || repository.put_manifest(name, &document.media_type, &document.bytes);
        let refused = match put().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let Missing { documents, parcels } = Missing::of(&refused, image);
        if documents.is_empty() && parcels.is_empty() {
            return Err(refused.into());
        }
        let nowhere = parcels.iter().filter(|parcel| matches!(parcel.source, Source::Nowhere));
        let layers: Vec<_> = nowhere.map(|parcel| (parcel.title.clone(), parcel.digest)).collect();
        if !layers.is_empty() {
            return Err(EngineError::NoBytes { layers });
        }
        for parcel in parcels {
            self.target.forget(&parcel.digest);
            self.target.send(parcel, None).await?;
        }
        for document in documents {
            repository.put_manifest(&document.digest.into(), &document.media_type, &document.bytes).await?;
        }
        put().await?;
        Ok(())
    }
}

impl Drop for Shipment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a registry lacks for a document.
struct Missing<'a> {
    documents: Vec<&'a Document>,
    parcels: Vec<&'a Parcel>,
}

impl<'a> Missing<'a> {
    /// What the refusal names; everything, if it names nothing of ours.
    fn of(refused: &RegistryError, image: &'a PushImage) -> Self {
        const CODES: [&str; 3] = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];
        if !CODES.iter().any(|code| refused.has_code(code)) {
            return Self { documents: Vec::new(), parcels: Vec::new() };
        }
        let named: BTreeSet<_> = refused.unknown_blobs().into_iter().collect();
        let documents: Vec<_> = image.below.iter().filter(|one| named.contains(&one.digest)).collect();
        let parcels: Vec<_> = image.parcels.iter().filter(|one| named.contains(&one.digest)).collect();
        if documents.is_empty() && parcels.is_empty() {
            return Self { documents: image.below.iter().collect(), parcels: image.parcels.iter().collect() };
        }
        Self { documents, parcels }
    }
}

/// Delivers all that comes, many at a time.
async fn deliver(
    target: &Target,
    name: ManifestName,
    root: Option<Digest>,
    mut inbox: mpsc::UnboundedReceiver<Parcel>,
) -> Result<Delivered, EngineError> {
    let before = look(target, &name).await?;
    if let Some(root) = root.filter(|root| before != Some(*root)) {
        look(target, &root.into()).await?;
    }
    let mut under_way = FuturesUnordered::new();
    let mut blobs = Vec::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        tokio::select! {
            parcel = inbox.recv(), if open => match parcel {
                Some(parcel) => under_way.push(target.deliver(parcel)),
                None => open = false,
            },
            Some(delivered) = under_way.next() => blobs.push(delivered?),
        }
    }
    Ok(Delivered { before, blobs })
}

/// It only spares questions: who may not look may still be let in to write, and what cannot be read can be written over.
async fn look(target: &Target, name: &ManifestName) -> Result<Option<Digest>, EngineError> {
    match target.look(name).await {
        Err(EngineError::Registry(
            RegistryError::Login { .. }
            | RegistryError::Refused { status: 400..429, .. }
            | RegistryError::Integrity { .. }
            | RegistryError::Protocol { .. }
            | RegistryError::TooLarge { .. },
        )) => Ok(None),
        Err(EngineError::Registry(RegistryError::Http { source, .. })) if source.is_foul() => Ok(None),
        looked => looked,
    }
}

/// By what name the registry is to know the image.
fn name(reference: &Reference) -> ManifestName {
    match reference.digest() {
        Some(digest) => digest.into(),
        None => ManifestName::Tag(reference.tag_or_default().to_owned()),
    }
}
