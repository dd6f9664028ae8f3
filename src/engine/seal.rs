//! Seals: what the lock says of layers, beside what the store and the layers' files say.
//!
//! A seal is found by its layer's key. It is taken at its word only where nothing else is known ([`facts`]); where the
//! store has a record, or a layer is formed, both must say the same, or the work ends with [`EngineError::Layers`].
//! [`Engine::seal`] writes seals, and never replaces one whose key is still there: other facts under the same key mean
//! that somebody has lied, or that a layer is not a function of its key. [`super::prove`] compares without building.

use std::fmt;

use serde::Serialize;

use super::form::LayerExtra;
use super::work::Trust;
use super::{Engine, EngineError, Event, Locked, Project};
use crate::lock::seal::{Seal, SealedLayer};
use crate::lock::{self, Lock};
use crate::oci::{MediaType, Platform};
use crate::plan::{LayerPlan, LayerSource, Plan};
use crate::size::counted;
use crate::store::LayerFacts;

/// The seals of one plan.
#[derive(Debug, Clone)]
pub(super) struct Seals {
    /// By position of the layer in the plan.
    layers: Vec<Option<SealedLayer>>,
    /// It was found that no two wheels of the plan write one path with different bytes.
    pub wheels_agree: bool,
}

impl Seals {
    pub(super) fn of(lock: &Lock, plan: &Plan) -> Self {
        let seal = lock.seals.iter().find(|seal| seal.platform == plan.platform);
        let of = |layer: &LayerPlan| {
            let seal = seal.filter(|_| !layer.is_given())?;
            let sealed = seal.layers.iter().find(|sealed| sealed.key == layer.key)?.clone();
            // Whatever is said: wheels bring no links.
            let plain = SealedLayer { links: Vec::new(), directories: Vec::new(), ..sealed.clone() };
            Some(if is_of_wheels(layer) { plain } else { sealed })
        };
        Self {
            layers: plan.layers.iter().map(of).collect(),
            wheels_agree: seal.is_some_and(|seal| seal.wheel_set == Some(plan.wheel_set)),
        }
    }

    pub(super) fn layer(&self, at: usize) -> Option<&SealedLayer> {
        self.layers[at].as_ref()
    }

    /// Refuses facts of the layer at `at` that its seal, if it has one, does not say.
    pub(super) fn require(&self, plan: &Plan, at: usize, facts: &LayerFacts) -> Result<(), EngineError> {
        match self.breach(plan, at, facts)? {
            Some(breach) => Err(EngineError::Layers(vec![breach])),
            None => Ok(()),
        }
    }

    /// What the seal of the layer at `at`, if it has one, says otherwise than `facts`.
    pub(super) fn breach(
        &self,
        plan: &Plan,
        at: usize,
        facts: &LayerFacts,
    ) -> Result<Option<Breach>, EngineError> {
        match self.layer(at) {
            Some(seal) => Breach::between(Witness::Seal, seal, plan, at, facts),
            None => Ok(None),
        }
    }

    /// What is to be believed of a layer that a registry has spoken of: where there is a seal, no word but the seal's and where
    /// the bytes are.
    pub(super) fn believed(
        &self,
        plan: &Plan,
        at: usize,
        facts: LayerFacts,
    ) -> Result<Result<LayerFacts, Breach>, EngineError> {
        let Some(seal) = self.layer(at) else { return Ok(Ok(facts)) };
        Ok(match Breach::between(Witness::Seal, seal, plan, at, &facts)? {
            Some(breach) => Err(breach),
            None => Ok(LayerFacts { origins: facts.origins, ..self::facts(seal) }),
        })
    }
}

/// What a seal says, as facts of a layer whose bytes are not here.
pub(super) fn facts(seal: &SealedLayer) -> LayerFacts {
    let extra = LayerExtra {
        passages: seal.links.clone(),
        directories: seal.directories.clone(),
        ..LayerExtra::default()
    };
    LayerFacts {
        digest: seal.digest,
        size: seal.size,
        diff_id: seal.diff_id,
        unpacked: seal.unpacked,
        entries: 0,
        sources: Vec::new(),
        media_type: MediaType::LayerTarGzip,
        origins: Vec::new(),
        extra: extra.text(),
    }
}

/// What the facts are as a seal.
pub(super) fn sealed(layer: &LayerPlan, facts: &LayerFacts) -> Result<SealedLayer, EngineError> {
    // A wheel has no links, and its directories are plain; what else is remembered of it is long.
    let (mut links, mut directories) = if is_of_wheels(layer) {
        (Vec::new(), Vec::new())
    } else {
        let LayerExtra { passages, directories, .. } = LayerExtra::parse(facts)?;
        (passages, directories)
    };
    links.sort();
    directories.sort();
    let LayerFacts { digest, size, diff_id, unpacked, .. } = *facts;
    Ok(SealedLayer {
        title: layer.title.clone(),
        key: layer.key,
        digest,
        size,
        diff_id,
        unpacked,
        links,
        directories,
    })
}

pub(super) fn is_of_wheels(layer: &LayerPlan) -> bool {
    matches!(layer.source, LayerSource::Wheels(_))
}

/// Who has said something of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// The lock's seal.
    Seal,
    /// The store's record.
    Store,
    /// A layer store.
    LayerStore,
}

/// A layer that is not what was said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breach {
    pub platform: Platform,
    pub title: String,
    pub key: String,
    pub witness: Witness,
    /// Where a layer store is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    pub differences: Vec<Difference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub what: &'static str,
    pub said: String,
    pub found: String,
}

impl Breach {
    /// Where the layer at `at` has other facts than a witness said.
    pub(super) fn between(
        witness: Witness,
        said: &SealedLayer,
        plan: &Plan,
        at: usize,
        facts: &LayerFacts,
    ) -> Result<Option<Self>, EngineError> {
        let layer = &plan.layers[at];
        let found = sealed(layer, facts)?;
        let links = |links: &[(String, String)]| {
            links.iter().map(|(path, target)| format!("{path} -> {target}")).collect::<Vec<_>>()
        };
        let directories = |directories: &[(String, u32)]| {
            directories.iter().map(|(path, mode)| format!("{path} {mode:o}")).collect::<Vec<_>>()
        };
        let differences = [
            differs("digest", &said.digest, &found.digest),
            differs("size", &said.size, &found.size),
            differs("diff ID", &said.diff_id, &found.diff_id),
            differs("size of the tar", &said.unpacked, &found.unpacked),
            differ("links", &links(&said.links), &links(&found.links)),
            differ("directories", &directories(&said.directories), &directories(&found.directories)),
        ];
        let differences: Vec<_> = differences.into_iter().flatten().collect();
        Ok((!differences.is_empty()).then(|| Self {
            platform: plan.platform,
            title: layer.title.clone(),
            key: layer.key.hex(),
            witness,
            place: None,
            differences,
        }))
    }
}

fn differs<T: PartialEq + ToString>(what: &'static str, said: &T, found: &T) -> Option<Difference> {
    (said != found).then(|| Difference { what, said: said.to_string(), found: found.to_string() })
}

/// Of two lists, what only one of them has.
fn differ(what: &'static str, said: &[String], found: &[String]) -> Option<Difference> {
    let only = |of: &[String], other: &[String]| {
        let only: Vec<_> =
            of.iter().filter(|item| !other.contains(item)).map(|item| format!("`{item}`")).collect();
        if only.is_empty() { "no other".to_owned() } else { only.join(", ") }
    };
    (said != found).then(|| Difference { what, said: only(said, found), found: only(found, said) })
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let witness = match (self.witness, &self.place) {
            (Witness::Seal, _) => "the lock's seal".to_owned(),
            (Witness::Store, _) => "the store's record".to_owned(),
            (Witness::LayerStore, place) => {
                format!("layer store {}", place.as_deref().unwrap_or("unknown"))
            }
        };
        write!(f, "layer `{}` of {}, key {}", self.title, self.platform, self.key)?;
        for Difference { what, said, found } in &self.differences {
            write!(f, "\n{what}: {witness} says {said}, found {found}")?;
        }
        Ok(())
    }
}

/// In what the seals of `plan`'s platform are not those of its layers, in sentences.
pub(super) fn stale(lock: &Lock, plan: &Plan) -> Vec<String> {
    let platform = plan.platform;
    let Some(seal) = lock.seals.iter().find(|seal| seal.platform == platform) else { return Vec::new() };
    let place = |sealed: &SealedLayer| plan.layers.iter().position(|layer| layer.key == sealed.key);
    let mut found = Vec::new();
    for sealed in &seal.layers {
        match place(sealed).map(|at| &plan.layers[at]) {
            Some(layer) if layer.is_given() => {
                found
                    .push(format!("`{}` of {platform} is the base's, and sealed all the same", sealed.title));
            }
            None => found
                .push(format!("`{}` of {platform} is sealed, but is no layer of this lock", sealed.title)),
            Some(layer) if layer.title != sealed.title => {
                found.push(format!("`{}` of {platform} is sealed as `{}`", layer.title, sealed.title));
            }
            Some(layer)
                if is_of_wheels(layer) && !(sealed.links.is_empty() && sealed.directories.is_empty()) =>
            {
                found.push(format!(
                    "`{}` of {platform} is sealed with links, which wheels have not",
                    layer.title
                ));
            }
            Some(_) => {}
        }
    }
    if !seal.layers.iter().filter_map(place).is_sorted() {
        found.push(format!("the seals of {platform} are in another order than the layers"));
    }
    if seal.wheel_set.is_some_and(|set| set != plan.wheel_set) {
        found.push(format!("the seal of {platform} is about another set of wheels"));
    }
    found
}

impl Engine {
    /// The lock with a seal for each of its layers. A layer that this machine has not formed itself is made, as a build
    /// makes it: what a registry says of a layer is never sealed unproved.
    pub(super) fn seal(&self, project: &Project, locked: Locked) -> Result<Locked, EngineError> {
        let mut sealed = locked.lock.clone();
        sealed.seals = self.repairing(&locked.lock, || self.seals(project, &locked.lock))?;
        let text = lock::write(&sealed);
        let changed = locked.changed || text != locked.text;
        Ok(Locked { lock: sealed, text, changed, ..locked })
    }

    fn seals(&self, project: &Project, lock: &Lock) -> Result<Vec<Seal>, EngineError> {
        let platforms = lock.inputs.platforms.iter();
        let works = platforms.map(|platform| self.work(project, lock, *platform, Trust::Own, None));
        let mut works = works.collect::<Result<Vec<_>, _>>()?;
        self.make_layers(project, lock, &mut works, false, &|_, _| Ok(()))?;
        let kept = works.iter().flat_map(|work| &work.sealed).filter(|sealed| **sealed).count();
        if kept > 0 {
            let (layers, are) = (counted(kept, "layer"), if kept == 1 { "is" } else { "are" });
            let text = format!("{layers} {are} sealed as before, unproved here: `mlbuild verify` proves");
            self.reporter.event(Event::Note(text));
        }
        let mut seals = Vec::new();
        for work in works {
            if !work.sealed.contains(&true) {
                self.audit(&work, &[])?;
            }
            let layers = work.ours().map(|(layer, facts)| sealed(layer, facts));
            let layers = layers.collect::<Result<Vec<_>, _>>()?;
            let plan = &work.plan;
            if !layers.is_empty() {
                let wheel_set = plan.scheme.as_ref().map(|_| plan.wheel_set);
                seals.push(Seal { platform: plan.platform, wheel_set, layers });
            }
        }
        Ok(seals)
    }

    /// The seals of `old` that are about layers of `new`; a note tells of layers without, unless they are `sealed` next.
    pub(super) fn kept_seals(
        &self,
        project: &Project,
        old: &Lock,
        new: &Lock,
        sealed: bool,
    ) -> Result<Vec<Seal>, EngineError> {
        let (mut seals, mut all, mut kept) = (Vec::new(), 0, 0);
        if old.seals.is_empty() {
            return Ok(seals);
        }
        for &platform in &new.inputs.platforms {
            let plan = self.plan(project, new, platform)?;
            let of = Seals::of(old, &plan);
            let titled = |(sealed, layer): (Option<SealedLayer>, &LayerPlan)| {
                Some(SealedLayer { title: layer.title.clone(), ..sealed? })
            };
            let layers: Vec<_> = of.layers.into_iter().zip(&plan.layers).filter_map(titled).collect();
            all += plan.layers.iter().filter(|layer| !layer.is_given()).count();
            kept += layers.len();
            if !layers.is_empty() {
                let wheel_set = of.wheels_agree.then_some(plan.wheel_set);
                seals.push(Seal { platform, wheel_set, layers });
            }
        }
        if kept < all && !sealed {
            let without = all - kept;
            let (are, them) = if without == 1 { ("is", "it") } else { ("are", "them") };
            let all = counted(all, "layer");
            let text = format!("{without} of {all} {are} not sealed: `mlbuild lock --seal` seals {them}");
            self.reporter.event(Event::Note(text));
        }
        Ok(seals)
    }
}
