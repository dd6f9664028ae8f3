//! What is to be done for layers: jobs, and the downloads that they wait for.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{self, Origins};
use crate::digest::Digest;
use crate::fetch::Want;
use crate::lock::model::Lock;
use crate::plan::{LayerSource, Plan};

/// How much longer it takes to compress a byte than to inflate and hash one, about.
const COMPRESSION: u64 = 16;

/// Jobs, and the downloads that they wait for.
pub(super) struct Todo<'a> {
    lock: &'a Lock,
    pub origins: &'a Origins,
    pub jobs: Vec<Job>,
    pub wants: BTreeMap<Digest, Want>,
    /// Keys of the layers that are made.
    seen: BTreeSet<Digest>,
}

impl<'a> Todo<'a> {
    pub fn new(lock: &'a Lock, origins: &'a Origins) -> Self {
        Self { lock, origins, jobs: Vec::new(), wants: BTreeMap::new(), seen: BTreeSet::new() }
    }

    /// The layer at `at` is to be formed.
    pub fn make(&mut self, work: usize, plan: &Plan, at: usize) {
        let layer = &plan.layers[at];
        let needs = needs(self.lock, plan, at, self.origins);
        if self.seen.insert(layer.key) {
            let sources = sources_of(plan, at);
            match self.jobs.last_mut() {
                // Both Debian layers come from one composition.
                Some(before) if before.work == work && is_debian(plan, at) && before.is_debian(plan) => {
                    before.add(at, sources);
                }
                _ => {
                    let bytes: u64 = needs.values().filter_map(|want| want.size).sum();
                    let wheels = matches!(layer.source, LayerSource::Wheels(_));
                    let weight = if wheels { bytes } else { bytes * COMPRESSION };
                    self.jobs.push(Job { work, layers: vec![at], sources, weight });
                }
            }
        }
        self.wants.extend(needs);
        if takes_from_all(plan, at) {
            self.want_wheels(plan);
        }
    }

    /// The sources of a layer that is known are to be in the store.
    pub fn want(&mut self, plan: &Plan, at: usize) {
        self.wants.extend(needs(self.lock, plan, at, self.origins));
    }

    /// All wheels of `plan` are to be compared with each other.
    pub fn check(&mut self, work: usize, plan: &Plan) {
        self.jobs.push(Job::check(work, plan));
        self.want_wheels(plan);
    }

    fn want_wheels(&mut self, plan: &Plan) {
        self.wants.extend(plan.wheels().map(|wheel| (wheel.sha256, sources::wheel(wheel))));
    }
}

/// What the layer is made from, as downloads.
fn needs(lock: &Lock, plan: &Plan, layer: usize, origins: &Origins) -> BTreeMap<Digest, Want> {
    match &plan.layers[layer].source {
        LayerSource::Oci(_) => BTreeMap::new(),
        LayerSource::Debian(part) => {
            plan.debs_of(*part).map(|deb| (deb.sha256, origins.deb(lock, deb))).collect()
        }
        LayerSource::Standalone(archive) => [(archive.sha256, sources::python(archive))].into(),
        LayerSource::Wheels(wheels) => {
            wheels.iter().map(|wheel| (wheel.sha256, sources::wheel(wheel))).collect()
        }
    }
}

/// What must be in the store before the layer can be formed.
pub(super) fn sources_of(plan: &Plan, layer: usize) -> BTreeSet<Digest> {
    match &plan.layers[layer].source {
        _ if takes_from_all(plan, layer) => all_wheels(plan),
        LayerSource::Oci(_) => BTreeSet::new(),
        LayerSource::Debian(part) => plan.debs_of(*part).map(|deb| deb.sha256).collect(),
        LayerSource::Standalone(archive) => [archive.sha256].into(),
        LayerSource::Wheels(wheels) => wheels.iter().map(|wheel| wheel.sha256).collect(),
    }
}

/// A preference takes files from wheels, and which they are is known when all have been read.
fn takes_from_all(plan: &Plan, layer: usize) -> bool {
    matches!(plan.layers[layer].source, LayerSource::Wheels(_)) && !plan.prefer.is_empty()
}

/// Work that waits for its sources.
pub(super) struct Job {
    pub work: usize,
    /// Layers of the plan, by position; none for the check of all wheels against each other.
    pub layers: Vec<usize>,
    pub sources: BTreeSet<Digest>,
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

    fn is_debian(&self, plan: &Plan) -> bool {
        self.layers.iter().any(|layer| is_debian(plan, *layer))
    }
}

pub(super) fn take_heaviest(jobs: &mut Vec<Job>) -> Option<Job> {
    let (heaviest, _) = jobs.iter().enumerate().max_by_key(|(_, job)| job.weight)?;
    Some(jobs.swap_remove(heaviest))
}

/// Puts downloads in order: the smallest first until a quarter of all bytes is there, so that layers are formed from the
/// first moment on; then the largest first, so that what comes last takes little time to form.
pub(super) fn order(wants: &mut [Want]) {
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

fn is_debian(plan: &Plan, layer: usize) -> bool {
    matches!(plan.layers[layer].source, LayerSource::Debian(_))
}

fn all_wheels(plan: &Plan) -> BTreeSet<Digest> {
    plan.wheels().map(|wheel| wheel.sha256).collect()
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
