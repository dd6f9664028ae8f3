//! Building: the plan of each platform, the layers that are not there yet, the images of them all.
//!
//! Downloads and assembly overlap: a layer is formed as soon as all its sources are in the store, the largest download
//! first. Nothing is downloaded for a layer that is known already, unless its bytes are exported.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, mpsc};

use super::assemble::{Assembled, Documents};
use super::cancel::Cancel;
use super::sources::{self, Origins};
use super::{DOWNLOADS, Engine, EngineError, Event, LockRequest, Phase, Project};
use crate::digest::{DiffId, Digest};
use crate::export::Target;
use crate::fetch::Want;
use crate::lock::model::Lock;
use crate::lock::{self};
use crate::oci::Platform;
use crate::plan::{self, LARGE_LAYER, LayerKind, LayerPlan, LayerSource, Plan, PlanOptions};
use crate::size;
use crate::store::{LayerFacts, corrupt_blob};
use crate::wheel::{self, Installed};

#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// Name of the image; none takes the spec's.
    pub reference: Option<String>,
    /// None: all of the spec.
    pub platforms: Vec<Platform>,
    pub targets: Vec<Target>,
    /// Bring the lock up to date instead of failing.
    pub update_lock: bool,
}

/// What a build has made.
pub struct Built {
    /// Of the manifest, or of the index when there are several platforms.
    pub digest: Digest,
    pub reference: Option<String>,
    pub images: Vec<BuiltImage>,
    /// The lock was made or changed by this build.
    pub locked: bool,
}

pub struct BuiltImage {
    pub platform: Platform,
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
    /// Compressed, in bytes.
    pub size: u64,
    /// The tar, in bytes.
    pub unpacked: u64,
    /// It was known before this build.
    pub reused: bool,
}

/// A plan with what is known of its layers.
pub(super) struct Work {
    pub plan: Plan,
    /// What is known of each layer of the plan, in its order.
    pub known: Vec<Option<LayerFacts>>,
    pub reused: Vec<bool>,
    /// The wheels after preferences have taken files from them; made when the first layer needs it.
    merged: OnceLock<BTreeMap<Digest, Installed>>,
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
        Self { kind, title, contents, digest, diff_id, size, unpacked, reused }
    }
}

impl Work {
    fn merged(&self, engine: &Engine) -> Result<&BTreeMap<Digest, Installed>, EngineError> {
        if self.merged.get().is_none() {
            // Two threads may both come here: they find the same.
            let _ = self.merged.set(engine.check_wheels(&self.plan)?);
        }
        Ok(self.merged.get().expect("it was set above"))
    }
}

impl Engine {
    pub fn build(&self, project: &Project, request: &BuildRequest) -> Result<Built, EngineError> {
        let (lock, locked) = self.lock_for_build(project, request)?;
        let platforms = self.platforms(project, request)?;
        let reference =
            super::assemble::reference(request.reference.as_ref().or(project.spec.image.name.as_ref()))?;
        let mut works = Vec::new();
        for platform in platforms {
            let plan = plan::plan(&lock, &PlanOptions::new(platform))?;
            for layer in plan.layers.iter().filter(|layer| layer.weight() > Some(LARGE_LAYER)) {
                let weight = size::human(layer.weight().unwrap_or_default());
                let text =
                    format!("layer `{}` has {weight}: some registries refuse layers of 10 GB", layer.title);
                self.reporter.event(Event::Warning(text));
            }
            let known: Vec<_> =
                plan.layers.iter().map(|layer| self.known(layer)).collect::<Result<_, _>>()?;
            let reused = known.iter().map(Option::is_some).collect();
            works.push(Work { plan, known, reused, merged: OnceLock::new() });
        }
        self.make_layers_again(project, &lock, &mut works, !request.targets.is_empty())?;
        let files =
            self.files_layers(project, works.first().map(|work| work.plan.epoch).unwrap_or_default())?;
        let mut images = Vec::new();
        for work in works {
            self.audit(&work, &files)?;
            images.push(Assembled::new(project, &lock, work, &files)?);
        }
        let documents = Documents::new(&images)?;
        self.save(project, reference.as_ref(), &images, &documents)?;
        self.export(&request.targets, reference.as_ref(), &documents)?;
        Ok(Built {
            digest: documents.root.digest,
            reference: reference.map(|reference| reference.tagged()),
            images: images.iter().map(Assembled::built).collect(),
            locked,
        })
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

    /// What is known of the layer, if it can be used as it is.
    fn known(&self, layer: &LayerPlan) -> Result<Option<LayerFacts>, EngineError> {
        let facts = self.store.layer_facts(&layer.key)?;
        // A layer that is no recipe is a blob, which may have been lost.
        Ok(facts.filter(|facts| !facts.sources.is_empty() || self.store.has(&facts.digest)))
    }

    /// As [`Engine::make_layers`]; a damaged blob of the store, which was moved away when it was found, is fetched again.
    fn make_layers_again(
        &self,
        project: &Project,
        lock: &Lock,
        works: &mut [Work],
        exporting: bool,
    ) -> Result<(), EngineError> {
        let mut damaged = BTreeSet::new();
        loop {
            let failed = match self.make_layers(project, lock, works, exporting) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match corrupt_blob(&failed) {
                // Damaged twice: the disk is not to be trusted.
                Some(digest) if damaged.insert(digest) => {
                    self.reporter.event(Event::Warning(format!("{failed}: fetching {digest} again")));
                }
                _ => return Err(failed),
            }
        }
    }

    /// Downloads what is missing and forms every layer that is not known.
    fn make_layers(
        &self,
        project: &Project,
        lock: &Lock,
        works: &mut [Work],
        exporting: bool,
    ) -> Result<(), EngineError> {
        let mut jobs: Vec<Job> = Vec::new();
        let mut wants: BTreeMap<Digest, Want> = BTreeMap::new();
        let origins = Origins::of(project)?;
        let mut seen = BTreeSet::new();
        for (w, work) in works.iter().enumerate() {
            let check = !self.checked(&work.plan)?;
            let check = check || (!work.plan.prefer.is_empty() && work.known.contains(&None));
            for (l, layer) in work.plan.layers.iter().enumerate() {
                let wheels = matches!(layer.source, LayerSource::Wheels(_));
                let make = work.known[l].is_none();
                if !(make || (wheels && (check || exporting))) {
                    continue;
                }
                let needs = self.needs(lock, &work.plan, layer, &origins);
                if make && seen.insert(layer.key) {
                    let sources = if wheels && !work.plan.prefer.is_empty() {
                        all_wheels(&work.plan)
                    } else {
                        needs.keys().copied().collect()
                    };
                    match jobs.last_mut() {
                        // Both Debian layers come from one composition.
                        Some(before) if before.work == w && is_debian(layer) => before.add(l, sources),
                        _ => jobs.push(Job { work: w, layers: vec![l], sources }),
                    }
                }
                wants.extend(needs);
            }
            if check {
                jobs.push(Job::check(w, &work.plan));
            }
        }
        wants.retain(|digest, _| !self.store.has(digest));
        if jobs.is_empty() && wants.is_empty() {
            return Ok(());
        }
        self.reporter.event(Event::Phase(Phase::Assemble));
        let all = works.iter().map(|work| work.plan.layers.len() as u64).sum();
        let to_make = jobs.iter().map(|job| job.layers.len() as u64).sum();
        self.reporter.event(Event::Layers { all, to_make });
        let mut wants: Vec<_> = wants.into_values().collect();
        wants.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
        self.announce(&wants);
        for (work, layer, record) in self.run_jobs(&origins, works, jobs, &wants)? {
            works[work].known[layer] = Some(record);
        }
        // One layer of several platforms was made once.
        for work in works {
            for (known, layer) in work.known.iter_mut().zip(&work.plan.layers) {
                if known.is_none() {
                    *known = self.known(layer)?;
                }
            }
        }
        Ok(())
    }

    fn needs(
        &self,
        lock: &Lock,
        plan: &Plan,
        layer: &LayerPlan,
        origins: &Origins,
    ) -> BTreeMap<Digest, Want> {
        match &layer.source {
            LayerSource::Debian(part) => {
                plan.debs_of(*part).map(|deb| (deb.sha256, origins.deb(lock, deb))).collect()
            }
            LayerSource::Standalone(archive) => [(archive.sha256, sources::python(archive))].into(),
            LayerSource::Wheels(wheels) => {
                wheels.iter().map(|wheel| (wheel.sha256, sources::wheel(wheel))).collect()
            }
        }
    }

    /// Downloads and forms at the same time; the first failure stops everything.
    fn run_jobs(
        &self,
        origins: &Origins,
        works: &[Work],
        mut jobs: Vec<Job>,
        wants: &[Want],
    ) -> Result<Vec<(usize, usize, LayerFacts)>, EngineError> {
        let mut missing: BTreeSet<Digest> = wants.iter().filter_map(|want| want.sha256).collect();
        let results = Mutex::new(Vec::new());
        let failure = Mutex::new(None);
        let stop = Cancel::default();
        let pool = self.pool()?;
        let runtime = self.runtime()?;
        let client = self.client()?;
        let (arrived, arrivals) = mpsc::channel();
        std::thread::scope(|threads| {
            let network = threads.spawn(|| {
                let downloads = self.download(&client, origins, wants, arrived, &stop);
                runtime.block_on(downloads)
            });
            pool.in_place_scope(|scope| {
                let mut spawn_ready = |missing: &BTreeSet<Digest>| {
                    let ready = |job: &mut Job| job.sources.is_disjoint(missing);
                    for job in jobs.extract_if(.., ready) {
                        let (results, failure, stop) = (&results, &failure, &stop);
                        scope.spawn(move |_| {
                            if stop.is_cancelled() {
                                return;
                            }
                            match self.run_job(works, &job) {
                                Ok(made) => lock_of(results).extend(made),
                                Err(error) => {
                                    lock_of(failure).get_or_insert(error);
                                    stop.cancel();
                                }
                            }
                        });
                    }
                };
                spawn_ready(&missing);
                for digest in arrivals {
                    missing.remove(&digest);
                    spawn_ready(&missing);
                }
            });
            match network.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => drop(lock_of(&failure).get_or_insert(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        });
        if self.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
        }
    }

    /// Downloads `wants`, telling each arrival; all failures are collected.
    async fn download(
        &self,
        client: &crate::http::Client,
        origins: &Origins,
        wants: &[Want],
        arrived: mpsc::Sender<Digest>,
        stop: &Cancel,
    ) -> Result<(), EngineError> {
        use futures::stream::{StreamExt as _, iter};
        let arrived = &arrived;
        let downloads = wants.iter().map(|want| async move {
            let fetched = self.fetch(client, origins, want).await?;
            // Nobody listens any more only when the work has failed already.
            let _ = arrived.send(fetched.digest);
            Ok(())
        });
        let failures = async {
            let results = iter(downloads).buffer_unordered(DOWNLOADS);
            results.filter_map(|result: Result<(), _>| async { result.err() }).collect::<Vec<_>>().await
        };
        tokio::select! {
            failures = failures => if failures.is_empty() { Ok(()) } else { Err(EngineError::Fetch(failures)) },
            () = stop.cancelled() => Ok(()),
            () = self.cancel.cancelled() => Err(EngineError::Cancelled),
        }
    }

    fn run_job(&self, works: &[Work], job: &Job) -> Result<Vec<(usize, usize, LayerFacts)>, EngineError> {
        let plan = &works[job.work].plan;
        let Some(&last) = job.layers.last() else {
            self.check_wheels(plan)?;
            return Ok(Vec::new());
        };
        let composed = match &plan.layers[last].source {
            LayerSource::Debian(part) => Some(self.compose(plan, *part)?),
            LayerSource::Standalone(_) | LayerSource::Wheels(_) => None,
        };
        let mut made = Vec::new();
        for &at in &job.layers {
            let layer = &plan.layers[at];
            let facts = match (&layer.source, &composed) {
                (LayerSource::Debian(part), Some(composed)) => {
                    self.form_debian(plan, layer, *part, composed)?
                }
                (LayerSource::Debian(_), None) => {
                    unreachable!("a job has the Debian layers of one composition")
                }
                (LayerSource::Standalone(archive), _) => self.form_standalone(plan, layer, archive)?,
                (LayerSource::Wheels(wheels), _) => {
                    let merged =
                        if plan.prefer.is_empty() { None } else { Some(works[job.work].merged(self)?) };
                    self.form_wheels(plan, layer, wheels, merged)?
                }
            };
            self.reporter.event(Event::LayerMade { title: layer.title.clone(), bytes: facts.size });
            made.push((job.work, at, facts));
        }
        Ok(made)
    }

    /// Was it found before that the wheels of `plan` write no path twice with different bytes?
    fn checked(&self, plan: &Plan) -> Result<bool, EngineError> {
        Ok(plan.scheme.is_none() || self.store.memo_get(&plan.wheel_set)?.is_some())
    }

    /// Refuses two wheels that write one path with different bytes. Gives the installed wheels by digest, less what
    /// preferences took from them.
    fn check_wheels(&self, plan: &Plan) -> Result<BTreeMap<Digest, Installed>, EngineError> {
        let Some(scheme) = &plan.scheme else { return Ok(BTreeMap::new()) };
        let mut installed = Vec::new();
        let mut digests = Vec::new();
        for layer in &plan.layers {
            let LayerSource::Wheels(wheels) = &layer.source else { continue };
            for wheel in wheels {
                installed.push((wheel.file.clone(), self.install(plan, scheme, wheel)?));
                digests.push(wheel.sha256);
            }
        }
        let merged = wheel::merge(installed, &plan.prefer)?;
        self.store.memo_put(&plan.wheel_set, b"no collision")?;
        Ok(digests.into_iter().zip(merged).collect())
    }
}

/// Work that waits for its sources.
struct Job {
    work: usize,
    /// Layers of the plan, by position; none for the check of all wheels against each other.
    layers: Vec<usize>,
    sources: BTreeSet<Digest>,
}

impl Job {
    fn check(work: usize, plan: &Plan) -> Self {
        Self { work, layers: Vec::new(), sources: all_wheels(plan) }
    }

    fn add(&mut self, layer: usize, sources: BTreeSet<Digest>) {
        self.layers.push(layer);
        self.sources.extend(sources);
    }
}

fn is_debian(layer: &LayerPlan) -> bool {
    matches!(layer.source, LayerSource::Debian(_))
}

fn all_wheels(plan: &Plan) -> BTreeSet<Digest> {
    let wheels = plan.layers.iter().filter_map(|layer| match &layer.source {
        LayerSource::Wheels(wheels) => Some(wheels),
        LayerSource::Debian(_) | LayerSource::Standalone(_) => None,
    });
    wheels.flatten().map(|wheel| wheel.sha256).collect()
}

fn lock_of<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
