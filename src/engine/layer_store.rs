//! The layer store: a repository in which each environment layer has a small manifest under the tag of its key.
//!
//! A runner that has neither wheels nor layers learns from it what a key's layer is (digest, size, diff ID, and what user files
//! above it must know), and mounts the layer from there; since a manifest names it, the registry's garbage collection leaves it.
//!
//! ```text
//! k-<key>   artifactType application/vnd.mlbuild.layer.v1+json; config: the facts; layers: the layer alone
//! w-<set>   that the wheels of this set agree, so that nobody has to have them all to compare them
//! ```
//!
//! **It is a hint.** Whoever may write to the repository decides what its readers build. What it says of a layer that the lock
//! has a seal of must be what the seal says, or it is not used; without a seal, `mlbuild verify` makes layers from their
//! wheels and compares. Where it has lied, the layer is kept as its files give it: what was made here is believed before any
//! hint, and mends the layer store with the next push. What is not well-formed counts as absent. A layer store that fails is
//! left out, with a warning, at its first failure: it is asked with as little patience as a mirror, and what it says must be
//! here within [`PATIENCE`].

use std::time::Duration;

use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use serde::{Deserialize, Serialize};

use super::form::LayerExtra;
use super::push::Delivery;
use super::seal::is_of_wheels;
use super::work::{Work, no_collision_says};
use super::{Engine, EngineError, Event, Place};
use crate::diagnostic::chain;
use crate::digest::{DiffId, Digest};

use crate::oci::{Descriptor, ImageManifest, MAX_DOCUMENT, MediaType, canonical};
use crate::plan::LayerPlan;
use crate::registry::{ManifestName, Repository};
use crate::size::counted;
use crate::store::LayerFacts;

/// Where it is, unless somebody says otherwise; `<namespace>` is that of the image.
pub const DEFAULT: &str = "<namespace>/mlbuild-layers";
const LAYER: &str = "application/vnd.mlbuild.layer.v1+json";
const AGREEMENT: &str = "application/vnd.mlbuild.wheels.v1+json";
/// Of the facts.
const VERSION: u32 = 1;
/// Layers asked for or written at the same time.
const AT_ONCE: usize = 16;
/// What is remembered of a layer that this machine has told a layer store of,
const PUBLISHED: &[u8] = b"";
/// and of one that it has lied about since.
const TO_MEND: &[u8] = b"to mend";
/// How long it may take to say what it knows.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct LayerStore {
    place: Place,
    /// For writing.
    repository: Repository,
    /// The same for reading.
    hints: Repository,
}

/// Why the layer store is left out, or the build ends.
pub(super) enum Silence {
    Cancelled,
    Failed(EngineError),
    Slow,
}

impl From<EngineError> for Silence {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Cancelled,
            error => Self::Failed(error),
        }
    }
}

/// A layer that others may want.
pub(super) struct Known {
    key: Digest,
    title: String,
    facts: LayerFacts,
}

/// The config of a layer's manifest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    version: u32,
    key: Digest,
    title: String,
    diff_id: DiffId,
    unpacked: u64,
    entries: u64,
    extra: LayerExtra,
}

impl LayerStore {
    /// Its name, as layers have it among their origins.
    pub fn name(&self) -> String {
        self.place.to_string()
    }

    /// The one beside `image`: `asked` is the name of a repository, with `<namespace>` in it or not.
    pub fn open(engine: &Engine, asked: &str, image: &Place) -> Result<Self, EngineError> {
        let namespace = image.repository.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        let repository = asked.replace("<namespace>", namespace).trim_start_matches('/').to_owned();
        if repository
            .split('/')
            .next()
            .is_some_and(|first| first.contains(':') || first == image.host.to_string())
        {
            return Err(EngineError::Usage(format!(
                "layer store `{repository}`: name the repository alone, as in team/mlbuild-layers; it is in the image's registry"
            )));
        }
        let place = Place { host: image.host.clone(), repository };
        let registries = engine.registries()?;
        Ok(Self { repository: registries.repository(&place)?, hints: registries.hints(&place)?, place })
    }

    /// The memo that it has been told of the layer with that key.
    fn published(&self, key: &Digest) -> Digest {
        Digest::of(format!("{} has {key}", self.place))
    }

    async fn read(&self, key: &Digest) -> Result<Option<LayerFacts>, EngineError> {
        let Some(manifest) = self.hints.manifest(&tag('k', key)).await? else { return Ok(None) };
        let Ok(manifest) = ImageManifest::parse(&manifest.bytes) else { return Ok(None) };
        let [layer] = manifest.layers.as_slice() else { return Ok(None) };
        let of_ours =
            manifest.config.media_type.as_str() == LAYER && layer.media_type == MediaType::LayerTarGzip;
        if !of_ours || manifest.config.size > MAX_DOCUMENT as u64 {
            return Ok(None);
        }
        let text = self.hints.small_blob(manifest.config.digest, manifest.config.size).await?;
        let facts = serde_json::from_slice::<Facts>(&text).ok();
        Ok(facts.filter(|facts| facts.version == VERSION && facts.key == *key).map(|facts| LayerFacts {
            digest: layer.digest,
            size: layer.size,
            diff_id: facts.diff_id,
            unpacked: facts.unpacked,
            entries: facts.entries,
            sources: Vec::new(),
            media_type: layer.media_type.clone(),
            origins: vec![self.name()],
            extra: serde_json::to_string(&facts.extra).expect("strings and numbers always serialise"),
        }))
    }

    /// Whether it was new, or what was there was something else or had no layer.
    async fn write(&self, delivery: &Delivery<'_>, known: &Known) -> Result<bool, EngineError> {
        let Known { key, title, facts } = known;
        let name = tag('k', key);
        let what = |facts: &LayerFacts| {
            (facts.digest, facts.size, facts.diff_id, facts.unpacked, LayerExtra::parse(facts).ok())
        };
        let is_known = self.read(key).await?.is_some_and(|found| what(&found) == what(facts));
        if is_known && self.hints.exists(&facts.digest, facts.size).await? {
            return Ok(false);
        }
        let config = canonical::to_bytes(&Facts {
            version: VERSION,
            key: *key,
            title: title.clone(),
            diff_id: facts.diff_id,
            unpacked: facts.unpacked,
            entries: facts.entries,
            extra: LayerExtra::parse(facts)?,
        })
        .expect("strings and numbers always serialise");
        if config.len() > MAX_DOCUMENT {
            return Ok(false);
        }
        delivery.layer(title, facts).await?;
        let config = delivery.bytes(MediaType::from(LAYER), config).await?;
        let layer = Descriptor::new(facts.media_type.clone(), facts.digest, facts.size);
        self.put(&name, LAYER, config, layer).await?;
        Ok(true)
    }

    async fn agree(&self, delivery: &Delivery<'_>, wheel_set: &Digest) -> Result<(), EngineError> {
        let name = tag('w', wheel_set);
        if self.hints.head_manifest(&name).await?.is_some() {
            return Ok(());
        }
        let empty = delivery.bytes(MediaType::Empty, b"{}".to_vec()).await?;
        self.put(&name, AGREEMENT, empty.clone(), empty).await
    }

    async fn put(
        &self,
        name: &ManifestName,
        artifact: &str,
        config: Descriptor,
        layer: Descriptor,
    ) -> Result<(), EngineError> {
        let manifest = ImageManifest {
            artifact_type: Some(MediaType::from(artifact)),
            ..ImageManifest::new(config, vec![layer], Default::default())
        };
        let bytes =
            canonical::to_bytes(&manifest).expect("our documents hold texts, integers and lists only");
        self.repository.put_manifest(name, &MediaType::Manifest, &bytes).await?;
        Ok(())
    }
}

fn tag(kind: char, of: &Digest) -> ManifestName {
    ManifestName::Tag(format!("{kind}-{}", of.hex()))
}

impl Engine {
    /// Learns what the layer store knows of layers that this machine does not know, or knows by their seals alone: the layer
    /// store has the bytes, too.
    pub(super) fn look_up(&self, layers: &LayerStore, works: &mut [Work]) -> Result<(), EngineError> {
        let unknown: Vec<_> = works
            .iter()
            .enumerate()
            .flat_map(|(w, work)| {
                (0..work.plan.layers.len()).map(move |l| (w, l, &work.plan.layers[l], work))
            })
            .filter(|(_, l, _, work)| work.known[*l].is_none() || work.sealed[*l])
            .map(|(w, l, layer, _)| (w, l, layer.key))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let asked = self.ask(async {
            let read = unknown.iter().map(|(w, l, key)| async move {
                Ok::<_, EngineError>((*w, *l, *key, layers.read(key).await?))
            });
            // The first failure is heard of at once, whoever is still waiting.
            iter(read).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await
        });
        let mut asked = match asked {
            Ok(asked) => asked,
            Err(why) => return self.without(layers, why),
        };
        asked.sort_by_key(|(w, l, ..)| (*w, *l));
        for (w, l, key, read) in asked {
            let work = &mut works[w];
            let Some(facts) = read else { continue };
            if self.is_doubted(&facts.digest) || !is_plausible(&work.plan.layers[l], &facts) {
                continue;
            }
            let facts = match work.seals.believed(&work.plan, l, facts)? {
                Ok(facts) => facts,
                Err(breach) => {
                    let text = format!("the layer store {} is not believed:\n{breach}", layers.place);
                    self.reporter.event(Event::Warning(text));
                    continue;
                }
            };
            work.known[l] = Some(self.store.put_hearsay(&key, facts)?);
            work.reused[l] = true;
            work.sealed[l] = false;
        }
        for work in works.iter() {
            let set = &work.plan.wheel_set;
            if !self.checked(work)? {
                let name = tag('w', set);
                match self.ask(async { Ok(layers.hints.head_manifest(&name).await?) }) {
                    Ok(Some(_)) => self.store.memo_put(set, &no_collision_says(&layers.name()))?,
                    Ok(None) => {}
                    Err(why) => return self.without(layers, why),
                }
            }
        }
        Ok(())
    }

    /// What the layer store says of layers, by their keys and in their order. No seal is looked at.
    pub(super) fn hear(
        &self,
        layers: &LayerStore,
        keys: &[Digest],
    ) -> Result<Vec<Option<LayerFacts>>, EngineError> {
        self.wait(iter(keys.iter().map(|key| layers.read(key))).buffered(AT_ONCE).try_collect())
    }

    /// The layer store is wrong about the layer with that key: a build that pushes is to tell it again.
    pub(super) fn is_to_mend(&self, layers: &LayerStore, key: &Digest) -> Result<(), EngineError> {
        Ok(self.store.memo_put(&layers.published(key), TO_MEND)?)
    }

    /// Tells others of layers that were pushed. `image` has them. What this machine knows from a registry alone is not passed on.
    ///
    /// Layers that it has told of before are told of again only if one of them is gone: then somebody has emptied the
    /// repository.
    pub(super) fn publish(
        &self,
        layers: &LayerStore,
        image: &Place,
        known: &[Known],
        wheel_sets: &[Digest],
    ) -> Result<(), EngineError> {
        let published = |key: &Digest| layers.published(key);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for one in known.iter().filter(|one| !one.facts.is_hearsay()) {
            match self.store.memo_get(&published(&one.key))?.as_deref() {
                Some(PUBLISHED) => old.push(one),
                _ => new.push(one),
            }
        }
        let delivery = Delivery::new(self, &layers.place, layers.repository.clone(), image);
        let written = self.wait(async {
            if let Some(one) = old.first()
                && layers.hints.head_manifest(&tag('k', &one.key)).await?.is_none()
            {
                new.append(&mut old);
            }
            if new.is_empty() {
                return Ok(0);
            }
            let write = new.iter().map(|one| layers.write(&delivery, one));
            let written = iter(write).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
            let count = written.into_iter().filter(|new| *new).count();
            for set in wheel_sets {
                layers.agree(&delivery, set).await?;
            }
            Ok(count)
        });
        match written {
            Ok(count) => {
                if count > 0 {
                    let are = if count == 1 { "is" } else { "are" };
                    let (count, place) = (counted(count, "layer"), &layers.place);
                    let text = format!("{count} {are} new in the layer store {place}");
                    self.reporter.event(Event::Note(text));
                }
                new.iter().try_for_each(|one| self.store.memo_put(&published(&one.key), PUBLISHED))?;
                Ok(())
            }
            Err(error) => self.without(layers, error),
        }
    }

    /// What the layer store says, in time.
    fn ask<T>(&self, question: impl Future<Output = Result<T, EngineError>>) -> Result<T, Silence> {
        let answer = self.wait(async { Ok(tokio::time::timeout(PATIENCE, question).await) });
        match answer.map_err(Silence::from)? {
            Ok(answer) => answer.map_err(Silence::from),
            Err(_) => Err(Silence::Slow),
        }
    }

    pub(super) fn without(
        &self,
        layers: &LayerStore,
        silence: impl Into<Silence>,
    ) -> Result<(), EngineError> {
        let why = match silence.into() {
            Silence::Cancelled => return Err(EngineError::Cancelled),
            Silence::Failed(error) => chain(&error),
            Silence::Slow => format!("it takes more than {} s to say what it knows", PATIENCE.as_secs()),
        };
        let text = format!("going on without the layer store {}: {why}", layers.place);
        self.reporter.event(Event::Warning(text));
        Ok(())
    }
}

/// Whether the layer could be one of ours: a wheel has no links, and its directories are plain.
fn is_plausible(layer: &LayerPlan, facts: &LayerFacts) -> bool {
    !is_of_wheels(layer)
        || LayerExtra::parse(facts)
            .is_ok_and(|extra| extra.passages.is_empty() && extra.directories.is_empty())
}

impl Known {
    /// All layers of `works`, each once.
    pub fn of(works: &[Work]) -> Vec<Self> {
        let mut known: Vec<Self> = Vec::new();
        for (layer, facts) in works.iter().flat_map(Work::ours) {
            if known.iter().all(|one| one.key != layer.key) {
                known.push(Self { key: layer.key, title: layer.title.clone(), facts: facts.clone() });
            }
        }
        known
    }
}
