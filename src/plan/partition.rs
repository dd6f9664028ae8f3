//! Wheels to layers: which share one, and in which order the layers lie.

use std::collections::{BTreeMap, BTreeSet};

use super::PlannedWheel;
use crate::digest::Digest;

/// A wheel file of this size or more, in bytes, has a layer to itself. Changing it changes images.
pub const OWN_LAYER: u64 = 4 << 20;
/// The number of groups that smaller wheels fall into. Changing it changes images.
pub const GROUPS: usize = 4;

/// Packages that change most often and pull in the rest: they lie above what they are built upon.
const FRAMEWORKS: &[&str] = &["jax", "jaxlib", "tensorflow", "torch", "triton"];

/// The wheels of each layer, the lowest layer first; at most `budget` layers (which is at least [`GROUPS`]).
pub(super) fn partition(wheels: Vec<PlannedWheel>, budget: usize) -> Vec<Vec<PlannedWheel>> {
    let (mut own, mut small): (Vec<_>, Vec<_>) =
        wheels.into_iter().partition(|wheel| wheel.size >= OWN_LAYER);
    let most = budget.saturating_sub(GROUPS);
    if own.len() > most {
        own.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.package.cmp(&b.package)));
        small.extend(own.drain(most..));
    }
    let mut layers: Vec<_> = rank(own).into_iter().map(|wheel| vec![wheel]).collect();
    let mut groups: BTreeMap<usize, Vec<PlannedWheel>> = BTreeMap::new();
    for wheel in small {
        groups.entry(group(&wheel.package)).or_default().push(wheel);
    }
    for mut group in groups.into_values() {
        group.sort_by(|a, b| (&a.package, &a.version).cmp(&(&b.package, &b.version)));
        layers.push(group);
    }
    layers
}

/// A pure function of the name, so that no other wheel moves it.
fn group(package: &str) -> usize {
    usize::from(Digest::of(package).as_bytes()[0]) % GROUPS
}

/// `nvidia-*` by name, others by name, then frameworks, each after the frameworks it depends on.
fn rank(mut wheels: Vec<PlannedWheel>) -> Vec<PlannedWheel> {
    let class = |name: &str| match name {
        name if name.starts_with("nvidia-") => 0,
        name if FRAMEWORKS.contains(&name) => 2,
        _ => 1,
    };
    wheels.sort_by(|a, b| (class(&a.package), &a.package).cmp(&(class(&b.package), &b.package)));
    let first_framework = wheels.iter().position(|wheel| class(&wheel.package) == 2).unwrap_or(wheels.len());
    let mut waiting = wheels.split_off(first_framework);
    let names: BTreeSet<_> = waiting.iter().map(|wheel| wheel.package.clone()).collect();
    let mut placed = BTreeSet::new();
    while !waiting.is_empty() {
        let ready = |wheel: &PlannedWheel| {
            wheel
                .dependencies
                .iter()
                .all(|name| !names.contains(name) || placed.contains(name) || *name == wheel.package)
        };
        // A cycle of dependencies has no order of its own: then the first by name goes.
        let next = waiting.iter().position(ready).unwrap_or(0);
        let wheel = waiting.remove(next);
        placed.insert(wheel.package.clone());
        wheels.push(wheel);
    }
    wheels
}
