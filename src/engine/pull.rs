//! Pulling images into the store: documents at once, layers as they are needed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{StreamExt as _, TryStreamExt as _, iter};

use super::form::LayerExtra;
use super::push::knowledge;
use super::{Engine, EngineError, Event, Phase, Place};
use crate::digest::{DiffId, Digest};
use crate::oci::config::ImageConfig;
use crate::oci::index::DEEPEST;
use crate::oci::{
    Descriptor, DocumentError, ImageIndex, ImageManifest, MAX_DOCUMENT, MediaType, Platform, Reference,
};
use crate::registry::{ManifestName, Mirrored};
use crate::size::counted;
use crate::store::{ImageRecord, LayerFacts};

/// Documents asked for at the same time.
const DOCUMENTS: usize = 8;
/// Entries that an index may have.
const MOST_ENTRIES: usize = 256;
/// Bytes of all documents of an image: they are held in memory.
const MOST_BYTES: usize = 64 << 20;

/// How long a registry is asked for the tags that there are when the wanted one is not.
const SOON: Duration = Duration::from_secs(5);
/// Tags that are told then.
const TOLD_TAGS: usize = 8;

#[derive(Debug, Clone)]
pub struct PullRequest {
    pub reference: Reference,
    /// Whose layers are downloaded now; those of the others are when somebody needs them.
    pub platforms: Vec<Platform>,
}

/// What was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The name that the store knows it by.
    pub reference: String,
    /// Of the manifest or index.
    pub digest: Digest,
    /// All that the image is for.
    pub platforms: Vec<Platform>,
    /// Layers of the platforms asked for, each once; and how many of them were here already.
    pub layers: usize,
    pub there: usize,
    /// Sum of those layers' sizes, in bytes.
    pub size: u64,
}

/// The documents of an image.
pub(super) struct Documents {
    pub(super) root: Descriptor,
    pub(super) bytes: BTreeMap<Digest, Vec<u8>>,
    manifests: Vec<Found>,
    /// Types of the entries of indexes that are neither manifests nor indexes, or lie too deep.
    left_out: Vec<MediaType>,
}

impl Documents {
    /// What a manifest is of that is no image's.
    fn artifact(&self) -> Option<String> {
        let manifest = ImageManifest::parse(&self.bytes[&self.root.digest]).ok()?;
        let kind = manifest.artifact_type.unwrap_or(manifest.config.media_type);
        (!kind.is_config()).then(|| kind.to_string())
    }
}

/// A manifest, and what it is of.
struct Found {
    digest: Digest,
    /// None for what is no image that we know: an attestation, an image for another system.
    platform: Option<Platform>,
    layers: Vec<Descriptor>,
    diff_ids: Vec<DiffId>,
}

impl Engine {
    pub fn pull(&self, request: &PullRequest) -> Result<Pulled, EngineError> {
        self.or_cancelled(self.pull_image(request))
    }

    fn pull_image(&self, request: &PullRequest) -> Result<Pulled, EngineError> {
        let reference = &request.reference;
        let place = Place::of(reference)?;
        let source = self.registries()?.reading(&place)?;
        self.reporter.event(Event::Phase(Phase::Pull));
        let documents = self.wait(documents(&source, reference))?;
        let root = &documents.root;
        if documents.manifests.is_empty() && !root.media_type.is_index() {
            return Err(EngineError::Usage(format!("`{reference}` is no image but a {}", root.media_type)));
        }
        if let Some(one) = documents.left_out.first() {
            let documents = counted(documents.left_out.len(), "document");
            self.reporter.event(Event::Warning(format!(
                "left out {documents} that the index of `{reference}` names, such as a {one}: the image cannot be pushed as it is"
            )));
        }
        let mut platforms: Vec<_> = documents.manifests.iter().filter_map(|one| one.platform).collect();
        platforms.sort();
        platforms.dedup();
        if let Some(platform) = request.platforms.iter().find(|platform| !platforms.contains(platform)) {
            let others: Vec<_> = platforms.iter().map(ToString::to_string).collect();
            return Err(EngineError::Usage(match (&others[..], documents.artifact()) {
                ([], Some(kind)) => format!("`{reference}` is no image but a {kind}"),
                ([], None) => format!("`{reference}` is not for {platform}"),
                (others, _) => format!("`{reference}` is not for {platform} but for {}", others.join(", ")),
            }));
        }
        for bytes in documents.bytes.values() {
            self.store.put_bytes(bytes)?;
        }
        let (mut all, mut wanted) = (BTreeMap::new(), BTreeMap::new());
        for found in &documents.manifests {
            if found.platform.is_some() && found.layers.len() != found.diff_ids.len() {
                let (layers, diff_ids) = (found.layers.len(), found.diff_ids.len());
                return Err(EngineError::LayerCount { digest: found.digest, layers, diff_ids });
            }
            for (at, layer) in found.layers.iter().enumerate() {
                self.note_layer(layer, found.diff_ids.get(at).copied(), &place)?;
                all.insert(layer.digest, layer.size);
                if found.platform.is_some_and(|platform| request.platforms.contains(&platform)) {
                    wanted.insert(layer.digest, layer.size);
                }
            }
        }
        let digests: Vec<_> = wanted.keys().copied().collect();
        let mut there = 0;
        for digest in &digests {
            let known = self.store.layer_by_digest(digest)?;
            there += usize::from(known.is_some_and(|known| self.store.can_read_layer(&known.facts)));
        }
        self.bring(&digests)?;
        let record = ImageRecord {
            reference: match reference.digest() {
                Some(_) => reference.to_string(),
                None => reference.tagged(),
            },
            digest: root.digest,
            media_type: root.media_type.to_string(),
            platforms: platforms.iter().map(ToString::to_string).collect(),
            spec: None,
            size: all.values().sum(),
            layers: all.into_keys().collect(),
            blobs: documents.bytes.keys().copied().collect(),
            made_from: None,
        };
        self.store.put_image(&record)?;
        Ok(Pulled {
            reference: record.reference,
            digest: root.digest,
            platforms,
            layers: wanted.len(),
            there,
            size: wanted.values().sum(),
        })
    }

    /// Remembers that `place` has this layer and, unless its bytes are to be had here, is the first to be asked for it.
    fn note_layer(
        &self,
        layer: &Descriptor,
        diff_id: Option<DiffId>,
        place: &Place,
    ) -> Result<(), EngineError> {
        let known = self.store.layer_by_digest(&layer.digest)?.map(|record| record.facts);
        if known.as_ref().is_some_and(|known| self.store.can_read_layer(known)) {
            knowledge::remember(&self.store, place, &layer.digest)?;
            return Ok(());
        }
        // What is no layer has no diff ID that anybody would look at.
        let diff_id = diff_id.or(known.as_ref().map(|known| known.diff_id)).unwrap_or(DiffId(layer.digest));
        let said = LayerFacts {
            digest: layer.digest,
            size: layer.size,
            diff_id,
            unpacked: 0,
            entries: 0,
            sources: Vec::new(),
            media_type: layer.media_type.clone(),
            origins: vec![place.to_string()],
            extra: LayerExtra::default().text(),
        };
        let key = Digest::of(format!("pulled layer {}", layer.digest));
        self.store.put_hearsay(&key, said)?;
        Ok(())
    }
}

/// All but the layers; of what is neither a manifest nor an index, itself.
pub(super) async fn documents(source: &Mirrored, reference: &Reference) -> Result<Documents, EngineError> {
    let found = source.manifest(&ManifestName::from(reference)).await?;
    let Some(found) = found else { return Err(absent(source, reference).await) };
    let mut bytes = BTreeMap::from([(found.digest, found.bytes.clone())]);
    let root = Descriptor::new(found.media_type.clone(), found.digest, found.bytes.len() as u64);
    let refused = |digest| move |source| EngineError::Document { digest, source };
    let mut manifests = Vec::new();
    let mut left_out = Vec::new();
    if found.media_type.is_index() {
        let too_many = |what, most| refused(found.digest)(DocumentError::TooMany { what, most });
        // What is promised is what is read at most.
        let (mut entries, mut promised) = (MOST_ENTRIES, MOST_BYTES as u64);
        let mut level = vec![ImageIndex::parse(&found.bytes).map_err(refused(found.digest))?];
        for depth in 0.. {
            let all = level.iter().flat_map(|index| &index.manifests);
            let (wanted, others): (Vec<_>, Vec<_>) = all.partition(|entry| {
                entry.media_type.is_manifest() || (entry.media_type.is_index() && depth < DEEPEST)
            });
            left_out.extend(others.into_iter().map(|entry| entry.media_type.clone()));
            entries = entries.checked_sub(wanted.len()).ok_or_else(|| too_many("entries", MOST_ENTRIES))?;
            for entry in &wanted {
                promised = promised
                    .checked_sub(entry.size)
                    .ok_or_else(|| too_many("bytes of documents", MOST_BYTES))?;
            }
            let read = wanted.into_iter().map(|entry| async move {
                let manifest = manifest(source, entry).await?;
                Ok::<_, EngineError>((entry, manifest))
            });
            let read: Vec<_> = iter(read).buffered(DOCUMENTS).try_collect().await?;
            let mut below = Vec::new();
            for (entry, text) in read {
                if entry.media_type.is_index() {
                    below.push(ImageIndex::parse(&text).map_err(refused(entry.digest))?);
                } else {
                    let platform = entry.platform.as_ref().map(|platform| platform.known());
                    manifests.push(image(source, entry.digest, &text, platform, &mut bytes).await?);
                }
                bytes.insert(entry.digest, text);
                if bytes.values().map(Vec::len).sum::<usize>() > MOST_BYTES {
                    return Err(too_many("bytes of documents", MOST_BYTES));
                }
            }
            if below.is_empty() {
                break;
            }
            level = below;
        }
    } else if found.media_type.is_manifest() {
        manifests.push(image(source, found.digest, &found.bytes, None, &mut bytes).await?);
    }
    Ok(Documents { root, bytes, manifests, left_out })
}

/// What is there instead, if the registry says it soon.
pub(super) async fn absent(source: &Mirrored, reference: &Reference) -> EngineError {
    let listed = match reference.digest() {
        Some(_) => None,
        None => tokio::time::timeout(SOON, source.tags()).await.ok().and_then(Result::ok),
    };
    let wanted = reference.tag_or_default();
    let tags = listed.map(|mut tags| {
        tags.sort_by_cached_key(|tag| strsim::damerau_levenshtein(tag, wanted));
        tags.truncate(TOLD_TAGS);
        tags
    });
    EngineError::NoSuchImage { reference: reference.to_string(), tags }
}

async fn manifest(source: &Mirrored, entry: &Descriptor) -> Result<Vec<u8>, EngineError> {
    let found = source.manifest(&entry.digest.into()).await?;
    let home = source.home();
    let reference = || format!("{}/{}@{}", home.host(), home.name(), entry.digest);
    let found = found.ok_or_else(|| EngineError::NoSuchImage { reference: reference(), tags: None })?;
    if found.bytes.len() as u64 != entry.size {
        let source = DocumentError::Size { promised: entry.size, actual: found.bytes.len() as u64 };
        return Err(EngineError::Document { digest: entry.digest, source });
    }
    Ok(found.bytes)
}

/// `platform` is what an index says; where there is none, the config says it.
async fn image(
    source: &Mirrored,
    digest: Digest,
    bytes: &[u8],
    platform: Option<Option<Platform>>,
    documents: &mut BTreeMap<Digest, Vec<u8>>,
) -> Result<Found, EngineError> {
    let refused = |digest| move |source| EngineError::Document { digest, source };
    let manifest = ImageManifest::parse(bytes).map_err(refused(digest))?;
    let config = &manifest.config;
    let mut found = Found { digest, platform: None, layers: manifest.layers, diff_ids: Vec::new() };
    if config.size > MAX_DOCUMENT as u64 {
        let len = usize::try_from(config.size).unwrap_or(usize::MAX);
        let source = DocumentError::TooLong { what: "the config", len };
        return Err(refused(config.digest)(source));
    }
    let text = source.small_blob(config.digest, config.size).await?;
    if config.media_type.is_config() {
        let parsed = ImageConfig::parse(&text).map_err(refused(config.digest))?;
        let own = Platform::ALL
            .into_iter()
            .find(|platform| parsed.os == platform.os() && parsed.architecture == platform.architecture());
        found.platform = platform.unwrap_or(own);
        found.diff_ids = parsed.rootfs.diff_ids;
    }
    documents.insert(config.digest, text);
    Ok(found)
}
