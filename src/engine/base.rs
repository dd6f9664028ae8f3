//! The base that is an image of a registry: its documents when it is locked, and again when it is built upon.
//!
//! A lock asks for the manifest by the name in the spec; a build has index, manifest and config by their digests, and asks
//! for those that the store lacks. Neither needs a layer's bytes for it: layers are known to the store by the lock's word, with
//! the repository they come from, and brought when somebody reads them.

use super::form::LayerExtra;
use super::lock::LockRequest;
use super::push::knowledge;
use super::registries::Place;
use super::{Engine, EngineError, Event, Phase, Project, Upgrade};
use crate::base::manifest::Checked;
use crate::base::{BaseError, manifest};
use crate::blob::ReadAt as _;
use crate::digest::Digest;
use crate::image::BaseImage;
use crate::lock::model::{BaseLayer, BaseLock, Inputs, Lock, OCI};
use crate::oci::{DocumentError, ImageIndex, MAX_DOCUMENT, Platform, Reference};
use crate::registry::{Manifest, ManifestName, Mirrored};
use crate::spec::model::Base;
use crate::store::{LayerFacts, StoreError};

/// Their bytes.
type ManifestAndConfig = (Vec<u8>, Vec<u8>);

/// Where the base of a lock is.
pub(super) struct BaseName {
    pub reference: Reference,
    pub place: Place,
}

impl BaseName {
    /// None for a base that is composed here.
    pub(super) fn of(inputs: &Inputs) -> Result<Option<Self>, EngineError> {
        let Some(text) = inputs.base.strip_prefix(OCI) else { return Ok(None) };
        let reference: Reference =
            text.parse().map_err(|source| EngineError::Reference { reference: text.to_owned(), source })?;
        let place = Place::of(&reference)?;
        Ok(Some(Self { reference, place }))
    }

    pub(super) fn failed(&self) -> impl Fn(BaseError) -> EngineError + Copy + '_ {
        |source| EngineError::Base { reference: self.reference.to_string(), source }
    }
}

impl Engine {
    /// The base of each platform as the registry has it now, or as it was locked where nothing asks for another. What an earlier
    /// look at its layers has found is kept with it.
    pub(super) fn lock_image(
        &self,
        project: &Project,
        inputs: &Inputs,
        old: Option<&Lock>,
        request: &LockRequest,
    ) -> Result<Vec<BaseLock>, EngineError> {
        let Base::Oci(_) = &project.spec.base else { return Ok(Vec::new()) };
        let Some(name) = BaseName::of(inputs)? else { return Ok(Vec::new()) };
        let kept = |old: &&Lock| old.inputs.base == inputs.base && request.upgrade != Upgrade::All;
        let pinned = old.filter(kept).map(|old| old.bases.as_slice()).unwrap_or_default();
        let of = |platform| pinned.iter().find(|base| base.platform == platform).cloned();
        if let Some(bases) = inputs.platforms.iter().map(|platform| of(*platform)).collect::<Option<Vec<_>>>()
        {
            return Ok(bases);
        }
        self.reporter.event(Event::Phase(Phase::ResolveBase));
        let repository = self.registries()?.reading(&name.place)?;
        self.wait(async {
            // One more platform of an index that is pinned comes from that index, while the registry has it.
            let index = pinned.iter().find_map(|base| base.index);
            let (pinned, top) = match index {
                Some(index) => (pinned, repository.manifest(&index.into()).await?),
                None => (&[][..], None),
            };
            let (pinned, top) = match top {
                Some(top) => (pinned, top),
                None => {
                    let top = repository.manifest(&manifest_name(&name.reference)).await?;
                    (&[][..], top.ok_or_else(|| name.failed()(BaseError::Absent))?)
                }
            };
            let mut bases = Vec::new();
            for &platform in &inputs.platforms {
                match pinned.iter().find(|base| base.platform == platform) {
                    Some(base) => bases.push(base.clone()),
                    None => bases.push(self.lock_manifest(&name, &repository, &top, platform).await?),
                }
            }
            Ok(bases)
        })
    }

    async fn lock_manifest(
        &self,
        name: &BaseName,
        repository: &Mirrored,
        top: &Manifest,
        platform: Platform,
    ) -> Result<BaseLock, EngineError> {
        let failed = name.failed();
        let (index, manifest) = if top.media_type.is_index() {
            let index = ImageIndex::parse(&top.bytes).map_err(|error| failed(error.into()))?;
            let entry = manifest::choose(&index, platform).map_err(failed)?;
            let found = repository.manifest(&entry.digest.into()).await?;
            (Some(top.digest), found.ok_or_else(|| failed(BaseError::Absent))?)
        } else {
            (None, top.clone())
        };
        if !manifest.media_type.is_manifest() {
            let found = manifest.media_type.as_str().chars().take(100).collect();
            return Err(failed(BaseError::NotAnImage(found)));
        }
        let config = manifest::config_of(&manifest.bytes).map_err(failed)?;
        let config = self.small_blob(name, repository, config.digest, config.size).await?;
        let base = manifest::lock(platform, index, &manifest.bytes, &config).map_err(failed)?;
        for document in [&manifest.bytes, &config] {
            self.store.put_bytes(document)?;
        }
        Ok(base)
    }

    async fn small_blob(
        &self,
        name: &BaseName,
        repository: &Mirrored,
        digest: Digest,
        size: u64,
    ) -> Result<Vec<u8>, EngineError> {
        if size > MAX_DOCUMENT as u64 {
            let len = usize::try_from(size).unwrap_or(usize::MAX);
            return Err(name.failed()(DocumentError::TooLong { what: "the image config", len }.into()));
        }
        Ok(repository.small_blob(digest, size).await?)
    }

    /// The base of `lock` for the platform, as its own documents have it.
    pub(super) fn base_image(
        &self,
        lock: &Lock,
        platform: Platform,
        scripts: Option<String>,
    ) -> Result<Option<BaseImage>, EngineError> {
        let Some(base) = lock.bases.iter().find(|base| base.platform == platform) else { return Ok(None) };
        let Some(name) = BaseName::of(&lock.inputs)? else { return Ok(None) };
        let (manifest, config) = self.base_documents(&name, base)?;
        let Checked { config, annotations } =
            manifest::check(base, &manifest, &config).map_err(name.failed())?;
        let reference = name.reference;
        Ok(Some(BaseImage { reference, manifest: base.manifest, config, annotations, scripts }))
    }

    /// Manifest and config, from the store or else from the registry, by their digests.
    pub(super) fn base_documents(
        &self,
        name: &BaseName,
        base: &BaseLock,
    ) -> Result<ManifestAndConfig, EngineError> {
        if let Some(stored) = self.stored_documents(base)? {
            return Ok(stored);
        }
        let repository = self.registries()?.reading(&name.place)?;
        let (manifest, config) = self.wait(async {
            let manifest = repository.manifest(&base.manifest.into()).await?;
            let manifest = manifest.ok_or_else(|| name.failed()(BaseError::Absent))?;
            let config = self.small_blob(name, &repository, base.config, base.config_size).await?;
            Ok((manifest.bytes, config))
        })?;
        for document in [&manifest, &config] {
            match self.store.put_bytes(document) {
                Err(error) if error.is_read_only() => {}
                done => drop(done?),
            }
        }
        Ok((manifest, config))
    }

    /// Manifest and config, if the store has both.
    pub(super) fn stored_documents(&self, base: &BaseLock) -> Result<Option<ManifestAndConfig>, EngineError> {
        Ok(self.stored(&base.manifest)?.zip(self.stored(&base.config)?))
    }

    /// A document of the store; a damaged one counts as absent.
    fn stored(&self, digest: &Digest) -> Result<Option<Vec<u8>>, EngineError> {
        let blob = match self.store.get(digest) {
            Ok(blob) => blob,
            Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = blob.size().min(MAX_DOCUMENT as u64 + 1) as usize;
        let read = blob.read_vec_at(0, len);
        read.map(Some).map_err(|source| EngineError::Blob { name: digest.to_string(), source })
    }

    /// What the store knows of a layer of the base from now on: where its bytes can be had, should somebody need them.
    pub(super) fn base_layer(
        &self,
        place: &Place,
        layer: &BaseLayer,
        key: &Digest,
    ) -> Result<LayerFacts, EngineError> {
        let known = match self.store.layer_key(&layer.digest)? {
            Some(key) => self.store.layer_facts(&key)?.filter(|facts| facts.digest == layer.digest),
            None => None,
        };
        if let Some(known) = known {
            let same = (known.size, known.diff_id) == (layer.size, layer.diff_id);
            // What is here needs no registry, but a push is spared what its own has.
            if same && self.store.can_read_layer(&known) {
                knowledge::remember(&self.store, place, &layer.digest)?;
                return Ok(LayerFacts { media_type: layer.media_type.clone(), ..known });
            }
            if !same && !known.is_hearsay() {
                let source = BaseError::OtherLayer { digest: layer.digest };
                return Err(EngineError::Base { reference: place.to_string(), source });
            }
        }
        let said = LayerFacts {
            digest: layer.digest,
            size: layer.size,
            diff_id: layer.diff_id,
            unpacked: 0,
            entries: 0,
            sources: Vec::new(),
            media_type: layer.media_type.clone(),
            origins: vec![place.to_string()],
            extra: LayerExtra::default().text(),
        };
        let known = self.store.put_hearsay(key, said)?;
        Ok(LayerFacts { media_type: layer.media_type.clone(), ..known })
    }
}

fn manifest_name(reference: &Reference) -> ManifestName {
    match reference.digest() {
        Some(digest) => digest.into(),
        None => ManifestName::Tag(reference.tag_or_default().to_owned()),
    }
}
