//! What the texts of a lock of version 1 are in the model. Their rules are [`rules`](crate::lock::rules)'s.

use super::{
    Archive, Base, BaseLayer, Deb, DebLayer, Dependency, Directory, InputLock, Inputs, Lock, Package, Python,
    Seal, SealedLayer, Suite, Wheel,
};
use crate::digest::{DiffId, Digest};
use crate::lock::rules::Violation;
use crate::lock::{model, seal};
use crate::spec::model::WheelException;

/// Collects digests that do not parse, so that all of them are reported at once.
struct Digests<'a>(&'a mut Vec<Violation>);

impl Digests<'_> {
    fn parse(&mut self, hex: &str, item: impl FnOnce() -> String) -> Digest {
        Digest::from_hex(hex).unwrap_or_else(|_| {
            self.0.push(Violation::new(item(), "has a SHA-256 that is not 64 lower-case hexadecimal digits"));
            Digest::from_bytes([0; 32])
        })
    }

    /// As a registry writes it.
    fn parse_oci(&mut self, text: &str, item: impl FnOnce() -> String) -> Digest {
        text.parse().unwrap_or_else(|_| {
            let rule = "has a digest that is not `sha256:` and 64 lower-case hexadecimal digits";
            self.0.push(Violation::new(item(), rule));
            Digest::from_bytes([0; 32])
        })
    }
}

impl Lock {
    /// The model's value. What cannot be one is added to `violations`, and the value is then of no use.
    pub(in crate::lock) fn into_model(self, violations: &mut Vec<Violation>) -> model::Lock {
        let mut digests = Digests(violations);
        model::Lock {
            inputs: self.inputs.into_model(&mut digests),
            suites: self.suite.into_iter().map(|suite| suite.into_model(&mut digests)).collect(),
            bases: self.base.into_iter().map(|base| base.into_model(&mut digests)).collect(),
            python: self.python.map(|python| python.into_model(&mut digests)),
            debs: self.deb.into_iter().map(|deb| deb.into_model(&mut digests)).collect(),
            packages: self.package.into_iter().map(|package| package.into_model(&mut digests)).collect(),
            seals: self.seal.into_iter().map(|seal| seal.into_model(&mut digests)).collect(),
        }
    }
}

impl Inputs {
    fn into_model(self, digests: &mut Digests<'_>) -> model::Inputs {
        let wheels = self.wheels.into_iter().map(|wheel| WheelException {
            sha256: digests.parse(&wheel.hashes.sha256, || "an exception in `inputs.wheels`".to_owned()),
            allow: wheel.allow,
        });
        let wheels = wheels.collect();
        let lock = |lock: InputLock| model::InputLock {
            sha256: digests.parse(&lock.hashes.sha256, || format!("input lock `{}`", lock.path)),
            path: lock.path,
            extras: lock.extras,
            groups: lock.groups,
        };
        model::Inputs {
            platforms: self.platforms,
            base: self.base,
            snapshot: self.snapshot,
            debian_packages: self.debian_packages,
            python: self.python,
            python_provider: self.python_provider,
            requirements: self.requirements,
            constraints: self.constraints,
            indexes: self.indexes,
            exclude_newer: self.exclude_newer,
            prerelease: self.prerelease,
            prefer: self.prefer,
            prune: self.prune,
            wheels,
            locks: self.locks.into_iter().map(lock).collect(),
        }
    }
}

impl Suite {
    fn into_model(self, digests: &mut Digests<'_>) -> model::SuiteLock {
        model::SuiteLock {
            inrelease: digests.parse(&self.inrelease, || format!("suite `{}`", self.suite)),
            archive: self.archive,
            suite: self.suite,
            date: self.date,
            signed_by: self.signed_by,
        }
    }
}

impl Base {
    fn into_model(self, digests: &mut Digests<'_>) -> model::BaseLock {
        let item = || format!("the base for {}", self.platform);
        let layer = |layer: BaseLayer| model::BaseLayer {
            media_type: layer.media_type.as_str().into(),
            digest: digests.parse(&layer.hashes.sha256, item),
            size: layer.size,
            diff_id: DiffId(digests.parse(&layer.diff_id, item)),
        };
        let layers = self.layers.into_iter().map(layer).collect();
        // Without the slash that a reader is shown; one that lacks it, or one of the two lists, is no path then.
        let relative = |path: String| path.strip_prefix('/').map(str::to_owned).unwrap_or_default();
        let directory = |directory: Directory| {
            // What cannot be read is no mode and no owner to the rules.
            let mode = u32::from_str_radix(&directory.mode, 8).unwrap_or(u32::MAX);
            let owner = |text: &str| {
                let (uid, gid) = text.split_once(':')?;
                Some((uid.parse().ok()?, gid.parse().ok()?))
            };
            let owner = directory.owner.map_or((0, 0), |text| owner(&text).unwrap_or((u32::MAX, u32::MAX)));
            model::BaseDirectory { path: relative(directory.path), mode, owner }
        };
        let paths = (self.links.is_some() || self.directories.is_some()).then(|| model::BasePaths {
            links: self.links.into_iter().flatten().map(|link| (relative(link.path), link.target)).collect(),
            directories: self.directories.into_iter().flatten().map(directory).collect(),
        });
        model::BaseLock {
            platform: self.platform,
            index: self.index.map(|index| digests.parse(&index, item)),
            manifest: digests.parse(&self.manifest.hashes.sha256, item),
            manifest_size: self.manifest.size,
            config: digests.parse(&self.config.hashes.sha256, item),
            config_size: self.config.size,
            glibc: self.glibc,
            layers,
            paths,
        }
    }
}

impl Python {
    fn into_model(self, digests: &mut Digests<'_>) -> model::PythonLock {
        let archive = |archive: Archive| model::PythonArchive {
            sha256: digests.parse(&archive.hashes.sha256, || format!("Python archive `{}`", archive.name)),
            platform: archive.platform,
            name: archive.name,
            url: archive.url,
            size: archive.size,
        };
        model::PythonLock {
            provider: self.provider,
            version: self.version,
            build: self.build,
            executable: self.executable,
            site_packages: self.site_packages,
            scripts: self.scripts,
            prefix: self.prefix,
            archives: self.archives.into_iter().map(archive).collect(),
        }
    }
}

impl Deb {
    fn into_model(self, digests: &mut Digests<'_>) -> model::DebLock {
        model::DebLock {
            sha256: digests.parse(&self.sha256, || format!("deb `{}`", self.name)),
            name: self.name,
            version: self.version,
            platform: self.platform,
            architecture: self.architecture,
            source: self.source,
            archive: self.archive,
            filename: self.filename,
            size: self.size,
            layer: match self.layer {
                DebLayer::Base => model::DebLayer::Base,
                DebLayer::Python => model::DebLayer::Python,
            },
            depends: self.depends,
        }
    }
}

impl Package {
    fn into_model(self, digests: &mut Digests<'_>) -> model::PackageLock {
        let dependency = |dependency: Dependency| model::Dependency {
            name: dependency.name,
            version: dependency.version,
            platforms: dependency.platforms,
        };
        let wheel = |wheel: Wheel| model::WheelLock {
            sha256: digests.parse(&wheel.hashes.sha256, || format!("wheel `{}`", wheel.name)),
            name: wheel.name,
            url: wheel.url,
            size: wheel.size,
            hashed_by_us: wheel.hashed_by_us,
            platforms: wheel.platforms,
        };
        model::PackageLock {
            name: self.name,
            version: self.version,
            index: self.index,
            requested: self.requested,
            dependencies: self.dependencies.into_iter().map(dependency).collect(),
            wheels: self.wheels.into_iter().map(wheel).collect(),
        }
    }
}

impl Seal {
    fn into_model(self, digests: &mut Digests<'_>) -> seal::Seal {
        let platform = self.platform;
        let wheel_set = self.wheel_set.map(|hex| digests.parse(&hex, || format!("the seal of {platform}")));
        let layers = self.layer.into_iter().map(|layer| layer.into_model(digests)).collect();
        seal::Seal { platform, wheel_set, layers }
    }
}

impl SealedLayer {
    fn into_model(self, digests: &mut Digests<'_>) -> seal::SealedLayer {
        let item = || seal::item(&self.title);
        seal::SealedLayer {
            key: digests.parse(&self.key, item),
            digest: digests.parse_oci(&self.digest, item),
            size: self.size,
            diff_id: DiffId(digests.parse_oci(&self.diff_id, item)),
            unpacked: self.unpacked,
            links: self.links.into_iter().map(|link| (link.path, link.target)).collect(),
            directories: self.directories.into_iter().map(|at| (at.path, at.mode)).collect(),
            title: self.title,
        }
    }
}
