//! Bringing layers that are only in registries into the store, for whoever needs their bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{StreamExt as _, iter};

use super::registries::Place;
use super::{DOWNLOADS, Engine, EngineError, Event};
use crate::digest::Digest;
use crate::fetch::{self, FetchEvent};
use crate::registry::Mirrored;
use crate::store::LayerFacts;

impl Engine {
    /// Downloads those of `layers` whose bytes the store has not and whose origins are known. Others are not its business.
    pub(super) fn bring(&self, layers: &[Digest]) -> Result<(), EngineError> {
        let mut wanted: BTreeMap<Digest, (u64, Vec<Mirrored>)> = BTreeMap::new();
        for digest in layers {
            let Some(key) = self.store.layer_key(digest)? else { continue };
            let Some(facts) = self.store.layer_facts(&key)? else { continue };
            if facts.origins.is_empty() || self.store.can_read_layer(&facts) {
                continue;
            }
            wanted.insert(*digest, (facts.size, self.origins(&facts)?));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let bytes = wanted.values().map(|(size, _)| *size).sum();
        self.reporter.event(Event::Downloads { files: wanted.len() as u64, bytes });
        self.wait(async {
            let downloads = wanted.iter().map(|(digest, (size, sources))| async move {
                let reporter = Arc::clone(&self.reporter);
                let name = digest.to_string();
                let progress = move |event: FetchEvent| match event {
                    FetchEvent::Bytes(bytes) => reporter.event(Event::Downloaded { bytes }),
                    FetchEvent::Retried { why } => reporter.event(Event::Retried { name: name.clone(), why }),
                    FetchEvent::Rewound(bytes) => reporter.event(Event::Rewound { bytes }),
                    FetchEvent::Done => reporter.event(Event::DownloadDone { name: name.clone() }),
                    FetchEvent::Started { .. } => {}
                };
                fetch::fetch_blob(&self.store, sources, (*digest, *size), &progress).await
            });
            let results: Vec<_> = iter(downloads).buffer_unordered(DOWNLOADS).collect().await;
            let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
            if failed.is_empty() { Ok(()) } else { Err(EngineError::Fetch(failed)) }
        })
    }

    fn origins(&self, facts: &LayerFacts) -> Result<Vec<Mirrored>, EngineError> {
        let registries = self.registries()?;
        let places = facts.origins.iter().filter_map(|origin| Place::parse(origin));
        Ok(places.map(|place| registries.reading(&place)).collect::<Result<_, _>>()?)
    }
}
