//! Layers whose bytes are not where they were said to be. For the rest of its life this engine makes them itself, whatever a lock's
//! seal or a layer store says of them.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use super::{Engine, EngineError};
use crate::digest::Digest;
use crate::lock::model::Lock;

impl Engine {
    pub(super) fn is_doubted(&self, layer: &Digest) -> bool {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).contains(layer)
    }

    /// Doubts the layers of `lock` whose bytes were missed, as `error` says; what they were, for people. None if there is nothing
    /// new to doubt: a layer of the base, which cannot be made, or one that was doubted before.
    pub(super) fn doubt(&self, error: &EngineError, lock: &Lock) -> Option<String> {
        let missed: Vec<Digest> = match error {
            EngineError::NoBytes { layers } => layers.iter().map(|(_, digest)| *digest).collect(),
            // Only a layer goes by its digest.
            EngineError::Fetch(errors) => {
                errors.iter().filter_map(|error| error.name().parse().ok()).collect()
            }
            _ => return None,
        };
        let of_base: BTreeSet<_> =
            lock.bases.iter().flat_map(|base| &base.layers).map(|layer| layer.digest).collect();
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        let new = missed.into_iter().filter(|layer| !of_base.contains(layer) && doubted.insert(*layer));
        let new: Vec<_> = new.map(|layer| layer.to_string()).collect();
        (!new.is_empty()).then(|| new.join(", "))
    }
}
