//! What a lock says in two places must agree, and what was asked for must be there.
//!
//! A file's bytes are pinned by its digest, but a version also stands in the image's history and annotations, and a path
//! decides where wheels go: no digest in the lock covers those. They are functions of other lines, so that one changed
//! byte is a contradiction here instead of another image. What cannot be compared within the lock (name and version of
//! a .deb, size of a wheel) is part of its layer's key, and is compared with the file when the layer is made.

use std::collections::BTreeSet;

use super::model::{DebLock, Lock, PackageLock, PythonLock};
use super::order;
use super::rules::Check;
use super::satisfies::name_of;
use crate::debian::version::upstream;
use crate::oci::Platform;
use crate::spec::model::PythonProvider;
use crate::wheel::{FileName, normal_name, same_version};

impl Check<'_> {
    /// Everything asked for is locked, on every platform.
    pub(super) fn roots(&mut self, lock: &Lock) {
        let debs: BTreeSet<_> = lock.debs.iter().map(order::deb_key).collect();
        for name in &lock.inputs.debian_packages {
            for platform in self.platforms {
                self.require(
                    debs.contains(&(name.as_str(), *platform)),
                    || format!("`{name}` of `inputs.debian-packages`"),
                    format!("is not locked for {platform}"),
                );
            }
        }
        let platforms = |package: &PackageLock| -> Vec<Platform> {
            package.wheels.iter().flat_map(|wheel| &wheel.platforms).copied().collect()
        };
        let wheels: BTreeSet<_> = lock
            .packages
            .iter()
            .flat_map(|package| {
                platforms(package).into_iter().map(|platform| (package.name.as_str(), platform))
            })
            .collect();
        // What a marker says of a platform is the resolver's to know.
        for requirement in lock.inputs.requirements.iter().filter(|requirement| !requirement.contains(';')) {
            let name = normal_name(name_of(requirement));
            for platform in self.platforms {
                self.require(
                    wheels.contains(&(name.as_str(), *platform)),
                    || format!("`{name}` of `inputs.requirements`"),
                    format!("is not locked for {platform}"),
                );
            }
        }
    }

    /// Version and paths of the interpreter follow from what it is.
    pub(super) fn interpreter(&mut self, python: &PythonLock, lock: &Lock) {
        let item = || "`python`".to_owned();
        if let Some(asked) = &lock.inputs.python {
            let asked = asked.split('+').next().unwrap_or_default();
            let within = python
                .version
                .strip_prefix(asked)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            self.require(within, item, format!("has version {}, but {asked} was asked for", python.version));
        }
        let provider = lock.inputs.python_provider;
        self.require(
            provider == Some(python.provider),
            item,
            "has another provider than `inputs.python-provider`",
        );
        let minor = python.minor();
        match python.provider {
            PythonProvider::Debian => {
                let policy = PythonLock::debian(&python.version);
                self.places(python, &policy);
                self.debian_interpreter(python, &minor, &lock.debs);
            }
            PythonProvider::Base => {
                // Where it lies is the base's affair; the rest follows from that, in one of two ways.
                let layout = PythonLock::of_base(&python.version, &python.executable, &python.prefix);
                let is_debian = python.site_packages.ends_with("/dist-packages");
                let expected = if is_debian { PythonLock::debian(&python.version) } else { layout };
                self.places(python, &PythonLock { executable: python.executable.clone(), ..expected });
            }
            PythonProvider::Standalone => {
                // The interpreter itself says where below its own place it installs to, and how it calls the directory.
                let program = format!("/bin/python{minor}");
                let packages = format!("{}/lib/python{minor}", python.prefix);
                let is_below = |place: &str| {
                    let below = python.prefix.strip_prefix(place);
                    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
                };
                let layout = PythonLock {
                    executable: match python.executable.strip_suffix(&program) {
                        Some(place) if is_below(place) => python.executable.clone(),
                        _ => format!("{}{program}", python.prefix),
                    },
                    site_packages: match python.site_packages.strip_prefix(&packages) {
                        Some("/dist-packages") => python.site_packages.clone(),
                        _ => format!("{packages}/site-packages"),
                    },
                    scripts: format!("{}/bin", python.prefix),
                    ..python.clone()
                };
                self.places(python, &layout);
                let build = python.build.as_deref().unwrap_or_default();
                for archive in &python.archives {
                    let name = format!("cpython-{}+{build}-{}", python.version, archive.platform.machine());
                    self.require(
                        archive.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['-', '.'])),
                        || format!("Python archive `{}`", archive.name),
                        format!("is not named `{name}…`"),
                    );
                }
            }
        }
    }

    fn places(&mut self, python: &PythonLock, expected: &PythonLock) {
        for (key, path, expected) in [
            ("executable", &python.executable, &expected.executable),
            ("site-packages", &python.site_packages, &expected.site_packages),
            ("scripts", &python.scripts, &expected.scripts),
            ("prefix", &python.prefix, &expected.prefix),
        ] {
            self.require(
                path == expected,
                || format!("`python.{key}` `{path}`"),
                format!("is not `{expected}`, as Python {} has it", python.version),
            );
        }
    }

    fn debian_interpreter(&mut self, python: &PythonLock, minor: &str, debs: &[DebLock]) {
        let name = format!("python{minor}-minimal");
        for platform in self.platforms {
            let deb = debs.iter().find(|deb| deb.name == name && deb.platform == *platform);
            self.require(
                deb.is_some_and(|deb| upstream(&deb.version) == python.version),
                || "`python`".to_owned(),
                format!("has version {}, and no deb `{name}` for {platform} has it", python.version),
            );
        }
    }

    /// A wheel's file name repeats version and platform.
    pub(super) fn wheel_name(&mut self, package: &PackageLock, file: &str, platforms: &[Platform]) {
        let item = || format!("wheel `{file}`");
        // What is no wheel's name has been said already.
        let Some(name) = FileName::parse(file) else { return };
        self.require(
            same_version(&name.version, &package.version),
            item,
            format!("is not of version {}", package.version),
        );
        let tags = file.strip_suffix(".whl").and_then(|stem| stem.rsplit('-').next()).unwrap_or_default();
        for platform in platforms {
            let runs = |tag: &str| tag == "any" || tag.ends_with(platform.machine());
            self.require(tags.split('.').any(runs), item, format!("is not for {platform}"));
        }
    }
}
