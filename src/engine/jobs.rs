//! Making layers: downloads and assembly overlap, a layer is formed as soon as all its sources are in the store.
//!
//! One thread drives the downloads and tells each arrival; the calling thread hands every job whose sources are there to
//! the pool. Results are collected by position, so that the order in which work finishes does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use super::build::Work;
use super::sources::{self, Origins};
use super::{Cancel, DOWNLOADS, Engine, EngineError, Event, Phase, Project};
use crate::digest::Digest;
use crate::fetch::Want;
use crate::layer::Threads;
use crate::lock::model::Lock;
use crate::plan::{LayerPlan, LayerSource, Plan};
use crate::store::LayerFacts;

/// How much longer it takes to compress a byte than to inflate and hash one, about.
const COMPRESSION: u64 = 16;

/// Told of each layer once it is formed.
pub(super) type Made<'a> = dyn Fn(&LayerPlan, &LayerFacts) -> Result<(), EngineError> + Sync + 'a;

impl Engine {
    /// Downloads what is missing and forms every layer that is not known.
    pub(super) fn make_layers(
        &self,
        project: &Project,
        lock: &Lock,
        works: &mut [Work],
        exporting: bool,
        made: &Made<'_>,
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
                        _ => {
                            let bytes: u64 = needs.values().filter_map(|want| want.size).sum();
                            let weight = if wheels { bytes } else { bytes * COMPRESSION };
                            jobs.push(Job { work: w, layers: vec![l], sources, weight });
                        }
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
        order(&mut wants);
        self.announce(&wants);
        for (work, layer, record) in self.run_jobs(&origins, works, jobs, &wants, made)? {
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

    /// Downloads and forms at the same time. A layer that cannot be formed stops everything; a failed download lets the
    /// others end, so that all failures are told.
    fn run_jobs(
        &self,
        origins: &Origins,
        works: &[Work],
        mut jobs: Vec<Job>,
        wants: &[Want],
        tell: &Made<'_>,
    ) -> Result<Vec<(usize, usize, LayerFacts)>, EngineError> {
        let mut missing: BTreeSet<Digest> = wants.iter().filter_map(|want| want.sha256).collect();
        let results = Mutex::new(Vec::new());
        let failure = Mutex::new(None);
        let stop = Cancel::default();
        let (busy, ready) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
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
                    for job in jobs.extract_if(.., |job| job.sources.is_disjoint(missing)) {
                        lock_of(&ready).push(job);
                        let (results, failure, stop, busy, ready) =
                            (&results, &failure, &stop, &busy, &ready);
                        scope.spawn(move |_| {
                            if stop.is_cancelled() {
                                return;
                            }
                            // The longest work that is ready, so that no core ends alone with it.
                            let Some(job) = take_heaviest(&mut lock_of(ready)) else { return };
                            // A core that has no other layer to form may help with this one.
                            let others = busy.fetch_add(1, Ordering::Relaxed);
                            let threads = if others + 1 < self.jobs { Threads::Two } else { Threads::One };
                            let made = self.run_job(works, &job, threads, tell);
                            busy.fetch_sub(1, Ordering::Relaxed);
                            match made {
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
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner)),
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

    fn run_job(
        &self,
        works: &[Work],
        job: &Job,
        threads: Threads,
        tell: &Made<'_>,
    ) -> Result<Vec<(usize, usize, LayerFacts)>, EngineError> {
        let plan = &works[job.work].plan;
        let Some(&last) = job.layers.last() else {
            works[job.work].check_wheels(self)?;
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
                    self.form_wheels(&works[job.work], layer, wheels, threads)?
                }
            };
            self.reporter.event(Event::LayerMade { title: layer.title.clone(), bytes: facts.size });
            tell(layer, &facts)?;
            made.push((job.work, at, facts));
        }
        Ok(made)
    }

    /// Was it found before that the wheels of `plan` write no path twice with different bytes?
    fn checked(&self, plan: &Plan) -> Result<bool, EngineError> {
        Ok(plan.scheme.is_none() || self.store.memo_get(&plan.wheel_set)?.is_some())
    }
}

/// Work that waits for its sources.
struct Job {
    work: usize,
    /// Layers of the plan, by position; none for the check of all wheels against each other.
    layers: Vec<usize>,
    sources: BTreeSet<Digest>,
    /// How long it takes, in bytes of wheels.
    weight: u64,
}

impl Job {
    fn check(work: usize, plan: &Plan) -> Self {
        Self { work, layers: Vec::new(), sources: all_wheels(plan), weight: 0 }
    }

    fn add(&mut self, layer: usize, sources: BTreeSet<Digest>) {
        self.layers.push(layer);
        self.sources.extend(sources);
    }
}

fn take_heaviest(jobs: &mut Vec<Job>) -> Option<Job> {
    let (heaviest, _) = jobs.iter().enumerate().max_by_key(|(_, job)| job.weight)?;
    Some(jobs.swap_remove(heaviest))
}

/// Puts downloads in order: the smallest first until a quarter of all bytes is there, so that layers are formed from the
/// first moment on; then the largest first, so that what comes last takes little time to form.
fn order(wants: &mut [Want]) {
    wants.sort_by(|a, b| a.size.cmp(&b.size).then_with(|| a.name.cmp(&b.name)));
    let all: u64 = wants.iter().filter_map(|want| want.size).sum();
    let mut bytes = 0;
    let first = wants.iter().take_while(|want| {
        bytes += want.size.unwrap_or_default();
        bytes <= all / 4
    });
    let first = first.count();
    wants[first..].reverse();
}

fn is_debian(layer: &LayerPlan) -> bool {
    matches!(layer.source, LayerSource::Debian(_))
}

fn all_wheels(plan: &Plan) -> BTreeSet<Digest> {
    plan.wheels().map(|wheel| wheel.sha256).collect()
}

fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_bytes_comes_first_in_small_files() {
        let want = |size: u64| Want {
            name: format!("file{size}"),
            urls: Vec::new(),
            size: Some(size),
            sha256: None,
            limit: size,
        };
        let ordered = |sizes: &[u64]| {
            let mut wants: Vec<_> = sizes.iter().map(|size| want(*size)).collect();
            order(&mut wants);
            wants.iter().filter_map(|want| want.size).collect::<Vec<_>>()
        };
        assert_eq!(ordered(&[900, 5, 700, 10, 300, 200, 100]), [5, 10, 100, 200, 900, 700, 300]);
        assert_eq!(ordered(&[7, 7, 7]), [7, 7, 7]);
        assert_eq!(ordered(&[]), [0_u64; 0]);
    }
}
