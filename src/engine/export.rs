//! Writing images out of the store: layers are streamed from their recipes.

use std::io::{self, BufReader, Write};

use super::assemble::Documents;
use super::cancel::{CancellableBlobs, CancellableWriter};
use super::{Cancel, Engine, EngineError, Event, Phase};
use crate::blob::RangeReader;
use crate::digest::Digest;
use crate::export::{self, Export, LayerSource, Target};
use crate::layer::Recipe;
use crate::oci::Reference;
use crate::store::{LayerSource as Stored, Store};

/// Bytes of a stored layer that are handed on at once.
const PIECE: usize = 256 * 1024;

impl Engine {
    pub(super) fn export(
        &self,
        targets: &[Target],
        reference: Option<&Reference>,
        documents: &Documents,
    ) -> Result<(), EngineError> {
        if targets.is_empty() {
            return Ok(());
        }
        self.bring(&documents.layers.keys().copied().collect::<Vec<_>>())?;
        self.reporter.event(Event::Phase(Phase::Export));
        let size: u64 = documents.layers.values().sum();
        self.reporter.event(Event::Exports { bytes: size * targets.len() as u64 });
        let name = reference.map(Reference::tagged);
        let image = Export {
            root: documents.root.clone(),
            documents: &documents.by_digest,
            layers: documents.layers.iter().map(|(digest, size)| (*digest, *size)).collect(),
            reference: name.as_deref(),
        };
        let layers = StoredLayers { store: self.store.clone(), cancel: self.cancel.clone() };
        let progress = |bytes| self.reporter.event(Event::Exported { bytes });
        for target in targets {
            let exported = export::export(target, &image, &layers, self.jobs, &progress);
            let warnings = exported.map_err(|source| {
                if self.cancel.is_cancelled() {
                    EngineError::Cancelled
                } else {
                    EngineError::Export { target: target.to_string(), source }
                }
            })?;
            warnings.into_iter().for_each(|text| self.reporter.event(Event::Warning(text)));
        }
        Ok(())
    }
}

/// Layers as the store has them: recipes or blobs.
struct StoredLayers {
    store: Store,
    cancel: Cancel,
}

impl LayerSource for StoredLayers {
    fn write_layer(&self, digest: &Digest, out: &mut dyn Write) -> io::Result<()> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("layer {digest} is not in the store"));
        let record = self.store.layer_by_digest(digest).map_err(io::Error::other)?.ok_or_else(missing)?;
        let mut out = CancellableWriter { inner: out, cancel: self.cancel.clone() };
        match record.source {
            Stored::Blob => {
                let blob = self.store.open_trusted(digest).map_err(io::Error::other)?;
                io::copy(&mut BufReader::with_capacity(PIECE, RangeReader::all(&blob)), &mut out)?;
            }
            Stored::Recipe(recipe) => {
                let recipe = Recipe::decode(&recipe).map_err(io::Error::other)?;
                let blobs = CancellableBlobs { blobs: self.store.trusted(), cancel: self.cancel.clone() };
                recipe.write_to(&blobs, &mut out).map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    fn go_on(&self) -> io::Result<()> {
        self.cancel.check()
    }
}
