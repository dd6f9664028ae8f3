//! Making layers: downloads and assembly overlap, a layer is formed as soon as all its sources are in the store.
//!
//! One thread drives the downloads and tells each arrival; the calling thread hands every job whose sources are there to
//! the pool. Results are collected by position, so that the order in which work finishes does not matter.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use super::form::Keep;
use super::sources::Origins;
use super::todo::{Job, Todo, order, sources_of, take_heaviest};
use super::work::{NO_COLLISION, Trust, Work, no_collision_says};
use super::{Cancel, DOWNLOADS, Engine, EngineError, Event, Phase, Project};
use crate::digest::Digest;
use crate::fetch::Want;
use crate::layer::Threads;
use crate::lock::model::Lock;
use crate::plan::{LayerPlan, LayerSource, Plan};
use crate::store::LayerFacts;

/// Told of each layer once it is formed.
pub(super) type Made<'a> = dyn Fn(&LayerPlan, &LayerFacts) -> Result<(), EngineError> + Sync + 'a;

/// What layers are formed for.
#[derive(Clone, Copy)]
enum Purpose<'a> {
    /// The store keeps them, and somebody is told of each.
    Build(&'a Made<'a>),
    /// Only their facts are wanted.
    Proof,
    /// The store keeps them, whatever else is said of them.
    Keep,
}

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
        let origins = Origins::of(project)?;
        let mut todo = Todo::new(lock, &origins);
        for (w, work) in works.iter().enumerate() {
            let check = !self.checked(work)?;
            let check = check || (!work.plan.prefer.is_empty() && work.known.contains(&None));
            for l in 0..work.plan.layers.len() {
                if work.known[l].is_none() {
                    todo.make(w, &work.plan, l);
                } else if exporting && work.known[l].as_ref().is_some_and(|facts| !facts.sources.is_empty()) {
                    todo.want(&work.plan, l);
                }
            }
            if check {
                todo.check(w, &work.plan);
            }
        }
        for (work, layer, record) in self.run(works, todo, Phase::Assemble, Purpose::Build(made))? {
            works[work].known[layer] = Some(record);
        }
        // One layer of several platforms was made once.
        for work in works {
            for at in 0..work.known.len() {
                if work.known[at].is_none()
                    && let Some(facts) = self.known(&work.plan.layers[at])?
                {
                    work.seals.require(&work.plan, at, &facts)?;
                    work.known[at] = Some(facts);
                }
            }
        }
        Ok(())
    }

    /// Forms layers anew, whatever is known of them, and keeps nothing. Those of `layers` are given by the positions of
    /// the work and of the layer; the wheels of each work of `checks` are compared with each other, too.
    pub(super) fn form_anew(
        &self,
        project: &Project,
        lock: &Lock,
        works: &[Work],
        layers: &[(usize, usize)],
        checks: &[usize],
    ) -> Result<Vec<(usize, usize, LayerFacts)>, EngineError> {
        let origins = Origins::of(project)?;
        let mut todo = Todo::new(lock, &origins);
        for &(work, layer) in layers {
            todo.make(work, &works[work].plan, layer);
        }
        for &work in checks {
            todo.check(work, &works[work].plan);
        }
        self.run(works, todo, Phase::Prove, Purpose::Proof)
    }

    /// Forms layers anew, as [`Engine::form_anew`] does, for the store to keep.
    pub(super) fn keep_formed(
        &self,
        project: &Project,
        lock: &Lock,
        works: &[Work],
        layers: &[(usize, usize)],
    ) -> Result<(), EngineError> {
        let origins = Origins::of(project)?;
        let mut todo = Todo::new(lock, &origins);
        for &(work, layer) in layers {
            todo.make(work, &works[work].plan, layer);
        }
        self.run(works, todo, Phase::Prove, Purpose::Keep)?;
        Ok(())
    }

    /// Does what is to be done, if anything is.
    fn run(
        &self,
        works: &[Work],
        todo: Todo<'_>,
        phase: Phase,
        purpose: Purpose<'_>,
    ) -> Result<Vec<(usize, usize, LayerFacts)>, EngineError> {
        let Todo { origins, jobs, mut wants, .. } = todo;
        wants.retain(|digest, _| !self.store.has(digest));
        if jobs.is_empty() && wants.is_empty() {
            return Ok(Vec::new());
        }
        self.reporter.event(Event::Phase(phase));
        let all = works.iter().map(|work| work.plan.layers.len() as u64).sum();
        let to_make = jobs.iter().map(|job| job.layers.len() as u64).sum();
        self.reporter.event(Event::Layers { all, to_make });
        let mut wants: Vec<_> = wants.into_values().collect();
        order(&mut wants);
        self.announce(&wants);
        self.run_jobs(origins, works, jobs, &wants, purpose)
    }

    /// Downloads and forms at the same time. A layer that cannot be formed stops everything; a failed download lets the
    /// others end, so that all failures are told.
    fn run_jobs(
        &self,
        origins: &Origins,
        works: &[Work],
        mut jobs: Vec<Job>,
        wants: &[Want],
        purpose: Purpose<'_>,
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
                            let made = self.run_job(works, &job, threads, purpose);
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
        purpose: Purpose<'_>,
    ) -> Result<Vec<(usize, usize, LayerFacts)>, EngineError> {
        let work = &works[job.work];
        let plan = &work.plan;
        let keep = match purpose {
            Purpose::Build(_) | Purpose::Keep => Keep::InStore,
            Purpose::Proof => Keep::Nothing,
        };
        let Some(&last) = job.layers.last() else {
            work.check_wheels(self)?;
            return Ok(Vec::new());
        };
        let composed = match &plan.layers[last].source {
            LayerSource::Debian(part) => Some(self.compose(plan, *part)?),
            LayerSource::Oci(_) | LayerSource::Standalone(_) | LayerSource::Wheels(_) => None,
        };
        let mut made = Vec::new();
        for &at in &job.layers {
            let layer = &plan.layers[at];
            let facts = match (&layer.source, &composed) {
                (LayerSource::Debian(part), Some(composed)) => {
                    self.form_debian(plan, layer, *part, composed, keep)?
                }
                (LayerSource::Oci(_), _) => unreachable!("a layer of the base is there, or in its registry"),
                (LayerSource::Debian(_), None) => {
                    unreachable!("a job has the Debian layers of one composition")
                }
                (LayerSource::Standalone(archive), _) => self.form_standalone(plan, layer, archive, keep)?,
                (LayerSource::Wheels(wheels), _) => self.form_wheels(work, layer, wheels, threads, keep)?,
            };
            self.reporter.event(Event::LayerMade { title: layer.title.clone(), bytes: facts.size });
            if let Purpose::Build(tell) = purpose {
                work.seals.require(plan, at, &facts)?;
                tell(layer, &facts)?;
            }
            made.push((job.work, at, facts));
        }
        Ok(made)
    }

    /// Was it found before that the wheels of `plan` write no path twice with different bytes?
    pub(super) fn checked(&self, work: &Work) -> Result<bool, EngineError> {
        let plan = &work.plan;
        // What is to be sealed anew is not proved by an old seal.
        let sealed = work.seals.wheels_agree && (work.trust != Trust::Own || !work.known.contains(&None));
        if plan.scheme.is_none() || sealed {
            return Ok(true);
        }
        let Some(memo) = self.store.memo_get(&plan.wheel_set)? else { return Ok(false) };
        let hint = work.hints.as_deref().map(no_collision_says);
        Ok(memo == NO_COLLISION || hint.is_some_and(|hint| memo == hint))
    }

    /// Has the store all that the layer is made from?
    pub(super) fn is_at_hand(&self, plan: &Plan, layer: usize) -> bool {
        sources_of(plan, layer).iter().all(|digest| self.store.has(digest))
    }
}

fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
