//! The bytes of a layer of the store, whether they lie there or are made when they are read.

use std::io::{self, Read};

use super::cancel::{Cancel, CancellableReader};
use crate::blob::BlobSource as _;
use crate::digest::Digest;
use crate::layer::{Reader, Recipe};
use crate::registry::{Content, StoredContent};
use crate::store::{LayerSource, Store};

/// A layer of the store, made from its recipe each time it is read.
///
/// Its sources are not hashed on the way: whoever gets the layer hashes it, and refuses what is not the layer.
pub(super) struct StoredLayer {
    digest: Digest,
    size: u64,
    store: Store,
    cancel: Cancel,
}

impl StoredLayer {
    pub(super) fn new(store: &Store, digest: Digest, size: u64, cancel: &Cancel) -> Self {
        Self { digest, size, store: store.clone(), cancel: cancel.clone() }
    }
}

impl Content for StoredLayer {
    fn digest(&self) -> Digest {
        self.digest
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let cancel = self.cancel.clone();
        let trusted = self.store.trusted();
        let record = self.store.layer_by_digest(&self.digest).map_err(io::Error::other)?;
        match record.map(|record| record.source) {
            Some(LayerSource::Recipe(recipe)) => {
                let recipe = Recipe::decode(&recipe).map_err(io::Error::other)?;
                Ok(Box::new(CancellableReader { inner: Reader::new(recipe, trusted), cancel }))
            }
            Some(LayerSource::Blob) | None => {
                let blob = StoredContent { digest: self.digest, blob: trusted.open(&self.digest)? };
                Ok(Box::new(CancellableReader { inner: blob.open()?, cancel }))
            }
        }
    }
}
