//! The Python packages of a lock: one resolve a platform, merged into one block a version.

use std::collections::{BTreeMap, BTreeSet};

use super::{Engine, EngineError, Event, Phase, Project, Upgrade};
use crate::lock::model::{BaseLock, Dependency, Inputs, Lock, PackageLock, PythonLock, WheelLock};
use crate::oci::Platform;
use crate::resolve::{self, Pin, Request, Resolution, Resolved};
use crate::spec::model::Base;

/// Requests to indexes in flight at once: metadata is small.
const REQUESTS: usize = 50;

impl Engine {
    pub(super) fn lock_packages(
        &self,
        project: &Project,
        inputs: &Inputs,
        old: Option<&Lock>,
        upgrade: &Upgrade,
        python: Option<&PythonLock>,
        bases: &[BaseLock],
    ) -> Result<Vec<PackageLock>, EngineError> {
        let Some(python) = python else { return Ok(Vec::new()) };
        if let Some(old) = old
            && !touches(upgrade, old)
            && same_packages(&old.inputs, inputs)
            && old.python.as_ref().is_some_and(|old| old.version == python.version)
            && same_libc(&old.bases, bases)
        {
            return Ok(old.packages.clone());
        }
        self.reporter.event(Event::Phase(Phase::ResolvePackages));
        let mut pins = match (old, upgrade) {
            (Some(old), Upgrade::None) => pins(old, &BTreeSet::new()),
            (Some(old), Upgrade::Packages(names)) => pins(old, names),
            _ => Vec::new(),
        };
        let mut merged = Merged::default();
        for &platform in &inputs.platforms {
            let resolution =
                self.resolve_platform(project, inputs, python, (platform, bases), &pins, upgrade)?;
            for warning in &resolution.warnings {
                self.reporter.event(Event::Warning(format!("{platform}: {warning}")));
            }
            // The next platform takes these versions where it can.
            let found = resolution.packages.iter();
            let known: BTreeSet<_> = pins.iter().map(|pin| pin.name.clone()).collect();
            let new = found.filter(|package| !known.contains(&package.name));
            pins.extend(new.map(|found| Pin { name: found.name.clone(), version: found.version.clone() }));
            let packages = self.complete(project, resolution.packages)?;
            merged.add(platform, packages)?;
        }
        let packages = merged.finish();
        if let Some(old) = old {
            check_replaced(old, &packages, upgrade)?;
        }
        Ok(packages)
    }

    fn resolve_platform(
        &self,
        project: &Project,
        inputs: &Inputs,
        python: &PythonLock,
        (platform, bases): (Platform, &[BaseLock]),
        pins: &[Pin],
        upgrade: &Upgrade,
    ) -> Result<Resolution, EngineError> {
        let asked = project.python.as_ref().expect("a locked Python comes from the spec's [python]");
        let spec = project.spec.python.as_ref().expect("a locked Python comes from the spec's [python]");
        let glibc = match &project.spec.base {
            Base::Debian(debian) => Some(debian.suite.glibc()),
            Base::Oci(_) => bases.iter().find(|base| base.platform == platform).and_then(BaseLock::glibc),
            Base::Scratch => None,
        };
        let Some(glibc) = glibc else {
            return Err(EngineError::Usage("a base without a C library cannot have Python".into()));
        };
        let request = Request {
            platform,
            python: python.version.clone(),
            glibc,
            requirements: asked.requirements.clone(),
            constraints: asked.constraints.clone(),
            indexes: project.indexes(),
            exclude_newer: inputs.exclude_newer.clone(),
            prerelease: inputs.prerelease.clone(),
            preferences: pins.to_vec(),
            upgrade: upgrade.clone(),
            offline: self.offline,
            cache_dir: self.store.index_dir(),
            jobs: REQUESTS,
        };
        let failed = |source| EngineError::Resolve { platform, source };
        match &asked.locks[..] {
            [] => self.wait(async { resolve::resolve(&request).await.map_err(failed) }),
            [lock] => {
                let Request { python, glibc, .. } = &request;
                resolve::from_lock(lock, platform, python, *glibc, &spec.extras, &spec.groups).map_err(failed)
            }
            [_, second, ..] => {
                Err(EngineError::Usage(format!("`{}`: only one lock can be taken as it is", second.path)))
            }
        }
    }

    /// Downloads what the index says no digest or no size of, and takes them from the file.
    fn complete(&self, project: &Project, packages: Vec<Resolved>) -> Result<Vec<Complete>, EngineError> {
        let unknown = |package: &&Resolved| package.wheel.sha256.is_none() || package.wheel.size.is_none();
        let wants: Vec<_> = packages.iter().filter(unknown).map(super::sources::unknown_wheel).collect();
        let found = self.fetch_all(project, &wants)?;
        let mut found = found.into_iter();
        packages
            .into_iter()
            .map(|package| {
                let (sha256, size, hashed_by_us) = match (package.wheel.sha256, package.wheel.size) {
                    (Some(sha256), Some(size)) => (sha256, size, false),
                    (published, _) => {
                        let fetched = found.next().expect("one file was fetched for each wheel without");
                        (fetched.digest, fetched.size, published.is_none())
                    }
                };
                Ok(Complete { package, sha256, size, hashed_by_us })
            })
            .collect()
    }
}

/// A resolved package whose wheel is pinned.
struct Complete {
    package: Resolved,
    sha256: crate::digest::Digest,
    size: u64,
    hashed_by_us: bool,
}

/// Refuses a file that has other bytes than the one of that name which was locked: no honest index replaces a file. An
/// upgrade of its package takes it.
fn check_replaced(old: &Lock, new: &[PackageLock], upgrade: &Upgrade) -> Result<(), EngineError> {
    let known: BTreeMap<&str, &WheelLock> =
        old.packages.iter().flat_map(|package| &package.wheels).map(|wheel| (&*wheel.name, wheel)).collect();
    for package in new.iter().filter(|package| !upgrade.includes(&package.name)) {
        for wheel in &package.wheels {
            if let Some(before) = known.get(&*wheel.name).filter(|before| before.sha256 != wheel.sha256) {
                return Err(EngineError::Replaced {
                    file: wheel.name.clone(),
                    package: package.name.clone(),
                    before: before.sha256,
                    now: wheel.sha256,
                });
            }
        }
    }
    Ok(())
}

fn pins(old: &Lock, but: &BTreeSet<String>) -> Vec<Pin> {
    let kept = old.packages.iter().filter(|package| !but.contains(&package.name));
    kept.map(|package| Pin { name: package.name.clone(), version: package.version.clone() }).collect()
}

fn touches(upgrade: &Upgrade, old: &Lock) -> bool {
    match upgrade {
        Upgrade::None => false,
        Upgrade::All => true,
        Upgrade::Packages(names) => old.packages.iter().any(|package| names.contains(&package.name)),
    }
}

/// Do both ask for the same Python packages?
fn same_packages(old: &Inputs, new: &Inputs) -> bool {
    let part = |inputs: &Inputs| Inputs {
        snapshot: None,
        debian_packages: Vec::new(),
        prune: Vec::new(),
        prefer: Vec::new(),
        python: None,
        wheels: Vec::new(),
        ..inputs.clone()
    };
    part(old) == part(new)
}

/// Another C library may load other wheels.
fn same_libc(old: &[BaseLock], new: &[BaseLock]) -> bool {
    let of =
        |bases: &[BaseLock]| bases.iter().map(|base| (base.platform, base.glibc.clone())).collect::<Vec<_>>();
    of(old) == of(new)
}

/// Packages of all platforms, by name and version.
#[derive(Default)]
struct Merged {
    packages: BTreeMap<(String, String), Block>,
}

#[derive(Default)]
struct Block {
    index: Option<String>,
    requested: bool,
    platforms: BTreeSet<Platform>,
    dependencies: BTreeMap<(String, String), BTreeSet<Platform>>,
    wheels: BTreeMap<String, WheelLock>,
}

impl Merged {
    fn add(&mut self, platform: Platform, packages: Vec<Complete>) -> Result<(), EngineError> {
        for Complete { package, sha256, size, hashed_by_us } in packages {
            let differs = |what: &str| {
                EngineError::Usage(format!("{}: {what} differs between the platforms", package.wheel.name))
            };
            let block = self.packages.entry((package.name.clone(), package.version.clone())).or_default();
            if block.platforms.is_empty() {
                block.index.clone_from(&package.index);
            } else if block.index != package.index {
                return Err(differs("the index"));
            }
            if block.wheels.get(&package.wheel.name).is_some_and(|known| known.sha256 != sha256) {
                return Err(differs("the content"));
            }
            block.requested |= package.requested;
            block.platforms.insert(platform);
            for dependency in package.dependencies {
                block.dependencies.entry(dependency).or_default().insert(platform);
            }
            let wheel = package.wheel;
            block
                .wheels
                .entry(wheel.name.clone())
                .or_insert_with(|| WheelLock {
                    name: wheel.name,
                    url: wheel.url,
                    size,
                    sha256,
                    hashed_by_us,
                    platforms: Vec::new(),
                })
                .platforms
                .push(platform);
        }
        Ok(())
    }

    fn finish(self) -> Vec<PackageLock> {
        self.packages.into_iter().map(|((name, version), block)| block.finish(name, version)).collect()
    }
}

impl Block {
    fn finish(self, name: String, version: String) -> PackageLock {
        let all = &self.platforms;
        let dependency = |((name, version), platforms): ((String, String), BTreeSet<Platform>)| Dependency {
            name,
            version,
            platforms: if platforms == *all { Vec::new() } else { platforms.into_iter().collect() },
        };
        PackageLock {
            name,
            version,
            index: self.index,
            requested: self.requested,
            dependencies: self.dependencies.into_iter().map(dependency).collect(),
            wheels: self.wheels.into_values().collect(),
        }
    }
}
