//! The order of every list of a lock. [`Lock::normalise`] makes it; the reader refuses a text that lacks it, since
//! two texts of one lock would then differ.

use super::model::{DebLock, Inputs, Lock, PackageLock};
use crate::oci::Platform;

/// What debs are sorted by.
pub(super) fn deb_key(deb: &DebLock) -> (&str, Platform) {
    (&deb.name, deb.platform)
}

/// What packages are sorted by.
pub(super) fn package_key(package: &PackageLock) -> (&str, &str) {
    (&package.name, &package.version)
}

fn sort<T: Ord>(list: &mut Vec<T>) {
    list.sort();
    list.dedup();
}

impl Lock {
    /// Sorts every list whose order has no meaning and drops repetitions of plain values. Repeated packages, debs
    /// and wheels stay, for the reader to refuse: which of them is meant is not ours to say.
    pub fn normalise(&mut self) {
        self.inputs.normalise();
        for suite in &mut self.suites {
            sort(&mut suite.signed_by);
        }
        sort(&mut self.suites);
        if let Some(python) = &mut self.python {
            python.archives.sort_by_key(|archive| archive.platform);
        }
        self.bases.sort_by_key(|base| base.platform);
        for paths in self.bases.iter_mut().filter_map(|base| base.paths.as_mut()) {
            sort(&mut paths.links);
            sort(&mut paths.directories);
        }
        for deb in &mut self.debs {
            sort(&mut deb.depends);
        }
        self.debs.sort_by(|a, b| deb_key(a).cmp(&deb_key(b)));
        for package in &mut self.packages {
            for dependency in &mut package.dependencies {
                sort(&mut dependency.platforms);
            }
            sort(&mut package.dependencies);
            for wheel in &mut package.wheels {
                sort(&mut wheel.platforms);
            }
            package.wheels.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.packages.sort_by(|a, b| package_key(a).cmp(&package_key(b)));
        self.seals.sort_by_key(|seal| seal.platform);
        for layer in self.seals.iter_mut().flat_map(|seal| &mut seal.layers) {
            sort(&mut layer.links);
            sort(&mut layer.directories);
        }
    }
}

impl Inputs {
    /// As [`Lock::normalise`]; `indexes` and `prefer` keep their order, which is a priority.
    pub fn normalise(&mut self) {
        sort(&mut self.platforms);
        sort(&mut self.debian_packages);
        sort(&mut self.requirements);
        sort(&mut self.constraints);
        sort(&mut self.prune);
        for wheel in &mut self.wheels {
            sort(&mut wheel.allow);
        }
        sort(&mut self.wheels);
        for lock in &mut self.locks {
            sort(&mut lock.extras);
            sort(&mut lock.groups);
        }
        sort(&mut self.locks);
    }
}
