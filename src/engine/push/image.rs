//! An image as it is pushed: documents, and blobs that can be sent.

use std::collections::BTreeMap;

use super::Parcel;
use crate::blob::ReadAt as _;
use crate::digest::Digest;
use crate::engine::assemble::Documents;
use crate::engine::{Engine, EngineError, Place};
use crate::image::created_by::titles;
use crate::oci::index::DEEPEST;
use crate::oci::{Descriptor, ImageConfig, ImageIndex, ImageManifest, MAX_DOCUMENT, MediaType};

/// Everything below one root.
pub struct PushImage {
    pub root: Document,
    /// Manifests and indexes below the root, what is referred to first.
    pub below: Vec<Document>,
    /// Configs and layers, each once.
    pub parcels: Vec<Parcel>,
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub struct Document {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Vec<u8>,
}

struct Reader<'a> {
    engine: &'a Engine,
    read: &'a dyn Fn(&Digest) -> Result<Vec<u8>, EngineError>,
    documents: Vec<Document>,
    parcels: BTreeMap<Digest, Parcel>,
    order: Vec<Digest>,
}

impl PushImage {
    /// The image or index of that digest in the store.
    pub fn of_store(engine: &Engine, root: Digest) -> Result<Self, EngineError> {
        let read = |digest: &Digest| {
            let blob = engine.store().get(digest)?;
            let len = blob.size().min(MAX_DOCUMENT as u64 + 1) as usize;
            blob.read_vec_at(0, len).map_err(|source| EngineError::Blob { name: digest.to_string(), source })
        };
        Self::read(engine, root, &read)
    }

    /// What a build has assembled.
    pub fn of_build(engine: &Engine, documents: &Documents) -> Result<Self, EngineError> {
        let read = |digest: &Digest| {
            let known = documents.by_digest.get(digest).cloned();
            known.ok_or(EngineError::Store(crate::store::StoreError::Missing { digest: *digest }))
        };
        Self::read(engine, documents.root.digest, &read)
    }

    /// A repository has all of it now: others may have from there what is not here.
    pub fn is_at(&mut self, engine: &Engine, place: &Place) -> Result<(), EngineError> {
        self.parcels.iter_mut().try_for_each(|parcel| parcel.is_at(engine, place))
    }

    fn read(
        engine: &Engine,
        root: Digest,
        read: &dyn Fn(&Digest) -> Result<Vec<u8>, EngineError>,
    ) -> Result<Self, EngineError> {
        let mut reader =
            Reader { engine, read, documents: Vec::new(), parcels: BTreeMap::new(), order: Vec::new() };
        reader.document(root, 0)?;
        let Reader { mut documents, mut parcels, order, .. } = reader;
        let root = documents.pop().expect("the root was read");
        let parcels = order.iter().filter_map(|digest| parcels.remove(digest)).collect();
        Ok(Self { root, below: documents, parcels })
    }
}

impl Reader<'_> {
    fn document(&mut self, digest: Digest, depth: usize) -> Result<(), EngineError> {
        if self.documents.iter().any(|document| document.digest == digest) {
            return Ok(());
        }
        let bytes = (self.read)(&digest)?;
        let media_type = match ImageIndex::parse(&bytes) {
            Ok(index) if depth < DEEPEST => {
                for entry in &index.manifests {
                    self.document(entry.digest, depth + 1)?;
                }
                index.media_type.unwrap_or(MediaType::Index)
            }
            _ => {
                let manifest = ImageManifest::parse(&bytes)
                    .map_err(|source| EngineError::Document { digest, source })?;
                let config = (self.read)(&manifest.config.digest)?;
                let titles = match ImageConfig::parse(&config) {
                    Ok(config) => titles(&config, &manifest.layers),
                    // Somebody else's, which goes as it is.
                    Err(_) => vec![None; manifest.layers.len()],
                };
                self.add(Parcel::bytes("config", config));
                for (layer, title) in manifest.layers.iter().zip(titles) {
                    self.layer(layer, title.as_deref().unwrap_or("layer"))?;
                }
                manifest.media_type.unwrap_or(MediaType::Manifest)
            }
        };
        self.documents.push(Document { digest, media_type, bytes });
        Ok(())
    }

    fn layer(&mut self, layer: &Descriptor, title: &str) -> Result<(), EngineError> {
        if !self.parcels.contains_key(&layer.digest) {
            self.add(Parcel::layer(self.engine, title, layer.digest, layer.size)?);
        }
        Ok(())
    }

    fn add(&mut self, parcel: Parcel) {
        let digest = parcel.digest;
        if self.parcels.insert(digest, parcel).is_none() {
            self.order.push(digest);
        }
    }
}
