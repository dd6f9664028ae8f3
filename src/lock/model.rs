//! The lock as a value: everything an image is made of, by hash. `lock::wire` writes and reads it.
//!
//! A lock holds all platforms of the spec. Every list is sorted and free of duplicates; [`Lock`] values made by
//! `lock::seal` keep that, and the reader refuses a text that does not.

mod base;

pub use base::{BaseDirectory, BaseLayer, BaseLock, BasePaths, MAX_BASE_LAYERS, MAX_PATHS, OCI};

use super::seal::Seal;
use crate::digest::Digest;
use crate::oci::Platform;
use crate::spec::model::{Base, PythonProvider, WheelException};

/// One `mlbuild.lock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// What was asked for, normalised: `satisfies` compares it with the spec, a reviewer reads it.
    pub inputs: Inputs,
    /// Provenance of the Debian packages; a build does not read it.
    pub suites: Vec<SuiteLock>,
    /// One a platform where the base is an image of a registry, by platform.
    pub bases: Vec<BaseLock>,
    pub python: Option<PythonLock>,
    /// By name, then platform.
    pub debs: Vec<DebLock>,
    /// By name, then version.
    pub packages: Vec<PackageLock>,
    /// By platform; empty for a lock that is not sealed.
    pub seals: Vec<Seal>,
}

/// The part of the spec, and of the files it names, that decides what is locked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inputs {
    pub platforms: Vec<Platform>,
    /// `debian:bookworm`, `oci:` and a reference, `scratch`.
    pub base: String,
    pub snapshot: Option<String>,
    /// Debian packages asked for.
    pub debian_packages: Vec<String>,
    /// `3.11`, as asked for.
    pub python: Option<String>,
    pub python_provider: Option<PythonProvider>,
    /// Normalised PEP 508 texts from `dependencies` and requirements files.
    pub requirements: Vec<String>,
    pub constraints: Vec<String>,
    /// `name url [explicit] [default] [packages]`, without credentials, in order of priority.
    pub indexes: Vec<String>,
    pub exclude_newer: Option<String>,
    pub prerelease: Option<String>,
    pub prefer: Vec<String>,
    /// Kinds of files left out of wheels: `headers`, `static-libraries`, `stubs`, `tests`.
    pub prune: Vec<String>,
    /// Rules that single wheels may break, by SHA-256. A build reads them.
    pub wheels: Vec<WheelException>,
    /// Locks taken as they are (`uv.lock`, `pylock.toml`), by path, with extras and groups chosen from them.
    pub locks: Vec<InputLock>,
}

/// A lock of another tool that was taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputLock {
    /// Relative to the spec.
    pub path: String,
    pub sha256: Digest,
    pub extras: Vec<String>,
    pub groups: Vec<String>,
}

/// One suite of a Debian archive as it was when locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SuiteLock {
    /// `debian` or `debian-security`.
    pub archive: String,
    /// `bookworm`, `bookworm-updates`, `bookworm-security`.
    pub suite: String,
    /// `Date` of the InRelease, RFC 3339.
    pub date: String,
    /// Digest of the InRelease file whose signature was good.
    pub inrelease: Digest,
    /// Fingerprints of the keys whose signatures were good, upper-case hexadecimal.
    pub signed_by: Vec<String>,
}

/// The interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonLock {
    pub provider: PythonProvider,
    /// Exact version: `3.11.2`.
    pub version: String,
    /// python-build-standalone's release tag: `20261101`.
    pub build: Option<String>,
    /// Absolute path in the image: `/usr/bin/python3.11`.
    pub executable: String,
    /// Where wheels' `purelib` and `platlib` go: `/usr/local/lib/python3.11/dist-packages`.
    pub site_packages: String,
    /// Where wheels' `scripts` go: `/usr/local/bin`.
    pub scripts: String,
    /// Where wheels' `data` goes, and headers below `include/pythonX.Y`: `/usr/local`.
    pub prefix: String,
    /// For `standalone`: one archive a platform, in the order of platforms.
    pub archives: Vec<PythonArchive>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonArchive {
    pub platform: Platform,
    pub name: String,
    /// Without credentials.
    pub url: String,
    pub size: u64,
    pub sha256: Digest,
}

/// One Debian package for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebLock {
    pub name: String,
    /// Full version, with epoch.
    pub version: String,
    pub platform: Platform,
    /// `amd64`, `arm64` or `all`.
    pub architecture: String,
    /// Name of the source package.
    pub source: String,
    /// `debian` or `debian-security`.
    pub archive: String,
    /// Path below the archive's root: `pool/main/…`.
    pub filename: String,
    pub size: u64,
    pub sha256: Digest,
    /// Which layer it goes to.
    pub layer: DebLayer,
    /// Names of the locked packages that satisfy its dependencies.
    pub depends: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DebLayer {
    /// The minimal base and what the spec asks for.
    Base,
    /// What only Debian's Python needs.
    Python,
}

/// One version of a Python package; field names follow PEP 751.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageLock {
    /// Normalised.
    pub name: String,
    pub version: String,
    /// URL of the index it came from, without credentials; none when it came from a direct URL.
    pub index: Option<String>,
    /// Asked for by the spec itself, not only by another package.
    pub requested: bool,
    /// By name; with the platforms on which the edge holds, when not on all of the package's.
    pub dependencies: Vec<Dependency>,
    /// By file name; each platform has exactly one wheel.
    pub wheels: Vec<WheelLock>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    pub name: String,
    pub version: String,
    /// Empty: on every platform of the package.
    pub platforms: Vec<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelLock {
    /// File name.
    pub name: String,
    /// Without credentials.
    pub url: String,
    pub size: u64,
    pub sha256: Digest,
    /// The index published no SHA-256: ours is from the file as we downloaded it.
    pub hashed_by_us: bool,
    pub platforms: Vec<Platform>,
}

impl PythonLock {
    /// Debian's own interpreter of this version: where things are is Debian's policy, not a question to the files.
    pub fn debian(version: &str) -> Self {
        let minor = minor(version);
        Self {
            provider: PythonProvider::Debian,
            version: version.to_owned(),
            build: None,
            executable: format!("/usr/bin/python{minor}"),
            site_packages: format!("/usr/local/lib/python{minor}/dist-packages"),
            scripts: "/usr/local/bin".into(),
            prefix: "/usr/local".into(),
            archives: Vec::new(),
        }
    }

    /// The interpreter of a base that is no distribution's own: packages lie below its prefix.
    pub fn of_base(version: &str, executable: &str, prefix: &str) -> Self {
        let at = |below: &str| format!("{}/{below}", prefix.trim_end_matches('/'));
        Self {
            provider: PythonProvider::Base,
            version: version.to_owned(),
            build: None,
            executable: executable.to_owned(),
            site_packages: at(&format!("lib/python{}/site-packages", minor(version))),
            scripts: at("bin"),
            prefix: prefix.to_owned(),
            archives: Vec::new(),
        }
    }

    /// `3.11` of `3.11.2`.
    pub fn minor(&self) -> String {
        minor(&self.version)
    }
}

fn minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

impl PackageLock {
    /// The wheel that `platform` installs.
    pub fn wheel(&self, platform: Platform) -> Option<&WheelLock> {
        self.wheels.iter().find(|wheel| wheel.platforms.contains(&platform))
    }
}

/// A base as [`Inputs::base`] writes it.
pub fn base_text(base: &Base) -> String {
    match base {
        Base::Debian(debian) => format!("debian:{}", debian.suite.as_str()),
        Base::Oci(reference) => format!("{OCI}{reference}"),
        Base::Scratch => "scratch".to_owned(),
    }
}
