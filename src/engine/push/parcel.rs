//! One blob that is to be in a registry, and where its bytes come from.

use std::sync::Arc;

use crate::digest::Digest;
use crate::engine::cancel::Cancel;
use crate::engine::stored_layer::StoredLayer;
use crate::engine::{Engine, EngineError, Place};
use crate::registry::{Content, Mirrored, StoredContent};
use crate::store::Store;

#[derive(Clone)]
pub struct Parcel {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// For people: `torch 2.9.1`.
    pub title: String,
    pub source: Source,
    /// Repositories that are said to have it.
    pub origins: Vec<Place>,
}

/// Where the bytes are.
#[derive(Clone)]
pub enum Source {
    Bytes(Arc<[u8]>),
    /// A recipe or a blob of the store.
    Store,
    /// Only in these repositories.
    Elsewhere(Vec<Mirrored>),
    /// Nobody knows; the registry may have it all the same.
    Nowhere,
}

impl Parcel {
    pub fn bytes(title: &str, bytes: Vec<u8>) -> Self {
        Self {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            title: title.to_owned(),
            source: Source::Bytes(bytes.into()),
            origins: Vec::new(),
        }
    }

    /// A layer, as the store knows it.
    pub fn layer(engine: &Engine, title: &str, digest: Digest, size: u64) -> Result<Self, EngineError> {
        let store = engine.store();
        let facts = match store.layer_key(&digest)? {
            Some(key) => store.layer_facts(&key)?.filter(|facts| facts.digest == digest),
            None => None,
        };
        let origins: Vec<_> = facts.iter().flat_map(|facts| &facts.origins).collect();
        let origins: Vec<_> = origins.into_iter().filter_map(|origin| Place::parse(origin)).collect();
        let is_here = facts.as_ref().map_or_else(|| store.has(&digest), |facts| store.can_read_layer(facts));
        let source = if is_here {
            Source::Store
        } else if origins.is_empty() {
            Source::Nowhere
        } else {
            let registries = engine.registries()?;
            let sources = origins.iter().map(|place| registries.reading(place));
            Source::Elsewhere(sources.collect::<Result<_, _>>()?)
        };
        Ok(Self { digest, size, title: title.to_owned(), source, origins })
    }

    /// A repository has it.
    pub fn is_at(&mut self, engine: &Engine, place: &Place) -> Result<(), EngineError> {
        self.origins.insert(0, place.clone());
        if matches!(self.source, Source::Nowhere) {
            self.source = Source::Elsewhere(vec![engine.registries()?.reading(place)?]);
        }
        Ok(())
    }

    /// The bytes, once they are on this machine.
    pub fn content(&self, store: &Store, cancel: &Cancel) -> Arc<dyn Content> {
        match &self.source {
            Source::Bytes(bytes) => {
                Arc::new(StoredContent { digest: self.digest, blob: Arc::new(Arc::clone(bytes)) })
            }
            Source::Store | Source::Elsewhere(_) | Source::Nowhere => {
                Arc::new(StoredLayer::new(store, self.digest, self.size, cancel))
            }
        }
    }
}
