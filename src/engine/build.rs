//! Building: the plan of each platform, the layers that are not there yet, the images of them all.
//!
//! Nothing is downloaded for a layer that is known already, unless its bytes are exported. A layer that is sealed in the
//! lock counts as known when nobody asks for its bytes: then a build from a sealed lock needs no file and no network, and
//! writes the image's documents alone. Who needs the bytes later (an export, a run of the spec) makes them then.
//!
//! A damaged blob of the store is moved away when it is found, fetched or made again, and the build goes on.

use std::collections::BTreeSet;

use super::assemble::{Assembled, Documents};
use super::base::BaseName;
use super::form::LayerExtra;
use super::layer_store::{Known, LayerStore};
use super::lower::Lower;
use super::push::{Outbound, Pushed};
use super::seal;
use super::work::{Trust, Work};
use super::{Engine, EngineError, Event, LockRequest, Place, Project};
use crate::context;
use crate::digest::{DiffId, Digest};
use crate::epoch::Epoch;
use crate::export::{ExportError, Format, Target};
use crate::lock;
use crate::lock::model::Lock;
use crate::oci::{MediaType, Platform, Reference};
use crate::plan::{self, LARGE_LAYER, LayerKind, LayerPlan, LayerSource, Plan, PlanOptions};
use crate::size;
use crate::store::{LayerFacts, StoreError, corrupt_blob};
use crate::wheel::Pruned;

/// The most layers of an image: some runtimes stop at 125, and users build upon images.
const MAX_LAYERS: usize = 96;

#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// Name of the image; none takes the spec's.
    pub reference: Option<String>,
    /// None: all of the spec.
    pub platforms: Vec<Platform>,
    pub targets: Vec<Target>,
    /// Bring the lock up to date instead of failing.
    pub update_lock: bool,
    /// The image gets no name in the store.
    pub anonymous: bool,
    /// Further names of the image.
    pub also: Vec<String>,
    /// Push it under all its names, each layer as soon as it is formed.
    pub push: bool,
    /// The repository of the layer store, as [`super::layer_store::DEFAULT`] has it; none takes the user's setting for the
    /// registry of the image.
    pub layer_store: Option<String>,
    /// Afterwards the store can give the bytes of all layers, as a run needs them. Without it, and without targets, a
    /// layer may be known by the lock's seal alone.
    pub bytes: bool,
}

/// What a build has made.
pub struct Built {
    /// Of the manifest, or of the index when there are several platforms.
    pub digest: Digest,
    pub reference: Option<String>,
    pub images: Vec<BuiltImage>,
    /// The lock was made or changed by this build.
    pub locked: bool,
    /// A repository each.
    pub pushed: Vec<Pushed>,
}

pub struct BuiltImage {
    pub platform: Platform,
    /// What `[prune]` left out; none where a layer is known by its seal alone, which does not say it.
    pub pruned: Option<Pruned>,
    pub manifest: Digest,
    pub config: Digest,
    pub layers: Vec<BuiltLayer>,
}

#[derive(Debug, Clone)]
pub struct BuiltLayer {
    pub kind: LayerKind,
    pub title: String,
    pub contents: Vec<String>,
    pub digest: Digest,
    pub diff_id: DiffId,
    pub media_type: MediaType,
    /// Compressed, in bytes.
    pub size: u64,
    /// The tar, in bytes.
    pub unpacked: u64,
    /// It was known before this build.
    pub reused: bool,
    /// It is known by the lock's seal alone: its bytes are not here.
    pub sealed: bool,
}

impl BuiltLayer {
    pub(super) fn new(
        kind: LayerKind,
        title: String,
        contents: Vec<String>,
        facts: &LayerFacts,
        reused: bool,
    ) -> Self {
        let LayerFacts { digest, size, diff_id, unpacked, .. } = *facts;
        let media_type = facts.media_type.clone();
        Self { kind, title, contents, digest, diff_id, media_type, size, unpacked, reused, sealed: false }
    }
}

impl Engine {
    pub fn build(&self, project: &Project, request: &BuildRequest) -> Result<Built, EngineError> {
        self.or_cancelled(self.build_images(project, request))
    }

    fn build_images(&self, project: &Project, request: &BuildRequest) -> Result<Built, EngineError> {
        let platforms = self.platforms(project, request)?;
        check_targets(&request.targets, platforms.len())?;
        for copy in &project.spec.copies {
            context::exists(&project.directory, copy)?;
        }
        let name =
            request.reference.as_ref().or(project.spec.image.name.as_ref()).filter(|_| !request.anonymous);
        let mut references = Vec::new();
        for name in name.into_iter().chain(&request.also) {
            references.push(super::assemble::reference(name)?);
        }
        if request.push {
            // Before anything is done for it.
            references.iter().try_for_each(|reference| Place::of(reference).map(|_| ()))?;
        }
        if request.push && references.is_empty() {
            return Err(EngineError::Usage(
                "an image that is pushed has a name: `name` of [image], or -t".into(),
            ));
        }
        let (lock, locked) = self.lock_for_build(project, request)?;
        if request.push {
            self.warn_of_left_out(project, &platforms, &references);
        }
        let build = || self.build_locked(project, request, &lock, &platforms, &references);
        Ok(Built { locked, ..self.repairing(&lock, build)? })
    }

    /// Does `work`, and again whenever something stood in its way that the next turn has out of its way: a damaged blob or
    /// layer of the store, a layer whose bytes are not where they were said to be.
    pub(super) fn repairing<T>(
        &self,
        lock: &Lock,
        work: impl Fn() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut damaged = BTreeSet::new();
        loop {
            let failed = match work() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if let Some(layers) = self.doubt(&failed, lock) {
                let text = format!("nobody has {layers}: making what is missing");
                self.reporter.event(Event::Warning(text));
                continue;
            }
            match self.damage(&failed)? {
                // Damaged twice: the disk is not to be trusted.
                Some(what) if damaged.insert(what.clone()) => {
                    let text = format!("the store's {what} was damaged: making it again");
                    self.reporter.event(Event::Warning(text));
                }
                _ => return Err(failed),
            }
        }
    }

    fn build_locked(
        &self,
        project: &Project,
        request: &BuildRequest,
        lock: &Lock,
        platforms: &BTreeSet<Platform>,
        references: &[Reference],
    ) -> Result<Built, EngineError> {
        let mut works = Vec::new();
        let bytes = request.bytes || !request.targets.is_empty();
        let trust = if bytes { Trust::Bytes } else { Trust::Seals };
        let layers = self.layer_store(request.layer_store.as_deref(), request.push, references.first())?;
        let hints = layers.as_ref().map(|(layers, _)| layers.name());
        for &platform in platforms {
            works.push(self.work(project, lock, platform, trust, hints.as_deref())?);
        }
        if let Some((layers, _)) = &layers {
            self.look_up(layers, &mut works)?;
        }
        let mut outbound = match request.push {
            true => Some(Outbound::begin(self, references, &mut works)?),
            false => None,
        };
        let made = |layer: &LayerPlan, facts: &LayerFacts| match &outbound {
            Some(outbound) => outbound.add(self, &layer.title, facts),
            None => Ok(()),
        };
        self.make_layers(project, lock, &mut works, !request.targets.is_empty(), &made)?;
        let published = layers.filter(|_| request.push).map(|(layers, image)| {
            let sets = works.iter().map(|work| work.plan.wheel_set).collect::<Vec<_>>();
            (layers, image, Known::of(&works), sets)
        });
        let lowers =
            works.iter().map(|work| self.lower(project, lock, work)).collect::<Result<Vec<_>, _>>()?;
        let files = self.files_layers(project, Epoch::default(), &lowers, &request.targets)?;
        let mut images = Vec::new();
        for (work, files) in works.into_iter().zip(files) {
            // The seal was made after an audit, and does not repeat what the audit reads.
            let pruned = match work.sealed.contains(&true) {
                true => None,
                false => Some(self.audit(&work, &files)?),
            };
            let scripts = work.plan.scheme.as_ref().map(|scheme| format!("/{}", scheme.scripts));
            let below = self.base_image(lock, work.plan.platform, scripts)?;
            images.push(Assembled::new(project, lock, work, below.as_ref(), &files, pruned)?);
        }
        let documents = Documents::new(&images)?;
        let elsewhere = request.push || !request.targets.is_empty();
        self.save((project, lock), references, &images, &documents, elsewhere)?;
        self.export(&request.targets, references.first(), &documents)?;
        let pushed = match outbound.take() {
            Some(outbound) => outbound.finish(self, &documents)?,
            None => Vec::new(),
        };
        if let Some((layers, image, known, sets)) = published {
            self.publish(&layers, &image, &known, &sets)?;
        }
        Ok(Built {
            digest: documents.root.digest,
            reference: references.first().map(Reference::tagged),
            images: images.iter().map(Assembled::built).collect(),
            locked: false,
            pushed,
        })
    }

    /// What is below the user's files on the platform of `work`.
    fn lower(&self, project: &Project, lock: &Lock, work: &Work) -> Result<Lower, EngineError> {
        let mut lower = Lower::default();
        if !project.puts_files() {
            return Ok(lower);
        }
        if let Some(base) = lock.bases.iter().find(|base| base.platform == work.plan.platform) {
            lower.add_base(&self.base_paths(lock, base)?);
        }
        for (_, facts) in work.ours() {
            lower.add(&LayerExtra::parse(facts)?);
        }
        Ok(lower)
    }

    /// The layer store that goes with the image, and where the image itself is to be: the one that is asked for, or else, if
    /// that is to count, the one that the user has set for the registry.
    pub(super) fn layer_store(
        &self,
        asked: Option<&str>,
        by_setting: bool,
        reference: Option<&Reference>,
    ) -> Result<Option<(LayerStore, Place)>, EngineError> {
        let Some(reference) = reference.filter(|reference| reference.registry().is_some() && !self.offline)
        else {
            return Ok(None);
        };
        let image = Place::of(reference)?;
        let asked = match asked {
            Some(asked) => Some(asked.to_owned()),
            None if by_setting => self.registries()?.settings(&image.host).layer_store,
            None => None,
        };
        match asked {
            Some(asked) => Ok(Some((LayerStore::open(self, &asked, &image)?, image))),
            None => Ok(None),
        }
    }

    /// The plan of one platform.
    pub(super) fn plan(
        &self,
        project: &Project,
        lock: &Lock,
        platform: Platform,
    ) -> Result<Plan, EngineError> {
        let copies = project.spec.copies.len() + usize::from(project.spec.image.workdir.is_some());
        let Some(max_layers) = MAX_LAYERS.checked_sub(copies).filter(|max| *max > plan::GROUPS) else {
            let text = format!("{copies} layers of files: an image has at most {MAX_LAYERS} layers");
            return Err(EngineError::Usage(text));
        };
        Ok(plan::plan(lock, &PlanOptions { platform, epoch: Epoch::default(), max_layers })?)
    }

    /// The plan of one platform, with what is known of its layers. `hints`: the layer store that is believed.
    pub(super) fn work(
        &self,
        project: &Project,
        lock: &Lock,
        platform: Platform,
        trust: Trust,
        hints: Option<&str>,
    ) -> Result<Work, EngineError> {
        let plan = self.plan(project, lock, platform)?;
        for layer in plan.layers.iter().filter(|layer| layer.weight() > Some(LARGE_LAYER)) {
            let weight = size::human(layer.weight().unwrap_or_default());
            let text =
                format!("layer `{}` has {weight}: some registries refuse layers of 10 GB", layer.title);
            self.reporter.event(Event::Warning(text));
        }
        let mut work = Work::new(lock, plan);
        (work.trust, work.hints) = (trust, hints.map(str::to_owned));
        let base = BaseName::of(&lock.inputs)?;
        for at in 0..work.plan.layers.len() {
            let layer = &work.plan.layers[at];
            if let (LayerSource::Oci(of_base), Some(base)) = (&layer.source, &base) {
                work.known[at] = Some(self.base_layer(&base.place, of_base, &layer.key)?);
                work.reused[at] = true;
                continue;
            }
            let mut known = self.known(&work.plan.layers[at])?;
            if let Some(facts) = known.take_if(|facts| facts.is_hearsay()) {
                // A registry has said it: it is believed where the seal says the same, or by who has asked that registry.
                let there =
                    self.store.can_read_layer(&facts) || (!self.offline && !self.is_doubted(&facts.digest));
                let asked = hints.is_some_and(|hints| facts.origins.iter().any(|origin| origin == hints));
                if there && trust != Trust::Own && (asked || work.seals.layer(at).is_some()) {
                    known = work.seals.believed(&work.plan, at, facts)?.ok();
                }
            }
            if let Some(facts) = &known {
                work.seals.require(&work.plan, at, facts)?;
            } else if let Some(seal) = work.seals.layer(at)
                && trust != Trust::Bytes
                && !self.is_doubted(&seal.digest)
            {
                known = Some(seal::facts(seal));
                work.sealed[at] = true;
            }
            work.reused[at] = known.is_some();
            work.known[at] = known;
        }
        Ok(work)
    }

    /// The damaged blob or layer of the store that is behind `error`, out of the way.
    fn damage(&self, error: &EngineError) -> Result<Option<String>, EngineError> {
        if let Some(digest) = corrupt_blob(error) {
            return Ok(Some(format!("blob {digest}")));
        }
        let EngineError::Export { source, .. } = error else { return Ok(None) };
        let (ExportError::Integrity { digest, .. } | ExportError::Layer { digest, .. }) = source else {
            return Ok(None);
        };
        let Some(record) = self.store.layer_by_digest(digest).ok().flatten() else {
            self.store.forget_layer(digest)?;
            return Ok(Some(format!("record of layer {digest}")));
        };
        // An export reads blobs unverified, since it verifies what they make: look which one is to blame.
        let sources = record.facts.sources;
        let blobs = if sources.is_empty() { vec![*digest] } else { sources };
        for blob in blobs {
            match self.store.get(&blob) {
                Ok(_) => {}
                Err(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => {
                    return Ok(Some(format!("blob {blob}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn lock_for_build(&self, project: &Project, request: &BuildRequest) -> Result<(Lock, bool), EngineError> {
        match project.read_lock()? {
            Some((lock, _)) => {
                let drift = lock::drift(&lock.inputs, &project.inputs());
                if drift.is_empty() {
                    return Ok((lock, false));
                }
                if !request.update_lock {
                    return Err(EngineError::OutOfDate { path: project.lock_path(), drift });
                }
            }
            None => self.reporter.event(Event::Note("no lock yet: making one".into())),
        }
        let locked = self.lock(project, &LockRequest::default())?;
        self.write_lock(project, &locked)?;
        Ok((locked.lock, true))
    }

    fn platforms(
        &self,
        project: &Project,
        request: &BuildRequest,
    ) -> Result<BTreeSet<Platform>, EngineError> {
        let all = &project.spec.image.platforms;
        if let Some(&unknown) = request.platforms.iter().find(|platform| !all.contains(platform)) {
            return Err(EngineError::NoPlatform(unknown));
        }
        let chosen = if request.platforms.is_empty() { all } else { &request.platforms };
        Ok(chosen.iter().copied().collect())
    }

    /// A name that has stood for all platforms of the spec is about to stand for fewer.
    fn warn_of_left_out(&self, project: &Project, built: &BTreeSet<Platform>, names: &[Reference]) {
        let built: Vec<_> = built.iter().map(ToString::to_string).collect();
        let names: Vec<_> = names.iter().map(Reference::with_default_tag).collect();
        if let Some(text) = project.left_out(&built, &names.join(", ")) {
            self.reporter.event(Event::Warning(text));
        }
    }

    /// What the store knows of the layer, if it can be used as it is.
    pub(super) fn known(&self, layer: &LayerPlan) -> Result<Option<LayerFacts>, EngineError> {
        let facts = self.store.formed_layer(&layer.key)?;
        // A layer that is no recipe is a blob, which may have been lost, unless it can be had again.
        let there = |facts: &LayerFacts| {
            !facts.sources.is_empty() || !facts.origins.is_empty() || self.store.has(&facts.digest)
        };
        // One that an older program wrote in another form is made again.
        Ok(facts.filter(|facts| there(facts) && LayerExtra::parse(facts).is_ok()))
    }
}

/// What cannot be exported is refused before anything is done for it.
fn check_targets(targets: &[Target], platforms: usize) -> Result<(), EngineError> {
    if targets.iter().filter(|target| target.is_stdout()).count() > 1 {
        return Err(EngineError::Usage("two archives cannot both go to standard output".into()));
    }
    match targets.iter().find(|target| target.format == Format::DockerArchive && platforms > 1) {
        Some(target) => {
            let source = ExportError::SeveralPlatforms { platforms };
            Err(EngineError::Export { target: target.to_string(), source })
        }
        None => Ok(()),
    }
}
