//! What a spec means: defaults applied, contradictions refused, nothing of the text's form left.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::oci::{Platform, Reference};

/// One `mlbuild.toml`, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub image: Image,
    pub base: Base,
    pub python: Option<Python>,
    /// In order of priority; the default index is not among them unless the spec replaces it.
    pub indexes: Vec<Index>,
    /// By SHA-256, each once.
    pub wheels: Vec<WheelException>,
    pub copies: Vec<Copy>,
    pub prune: Prune,
}

/// `[image]`: name and run configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// Default reference to tag, run and push.
    pub name: Option<String>,
    /// Sorted, at least one.
    pub platforms: Vec<Platform>,
    /// None leaves the base's; empty clears it.
    pub entrypoint: Option<Vec<String>>,
    /// As the entrypoint.
    pub cmd: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    /// Absolute path of the image.
    pub workdir: Option<String>,
    /// `name`, `uid`, `name:group` or `uid:gid`.
    pub user: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Manifest annotations; `org.opencontainers.image.*` and the user's own.
    pub annotations: BTreeMap<String, String>,
    /// `8080/tcp`, `53/udp`, normalised, sorted.
    pub ports: Vec<String>,
    /// `SIGTERM`, or a number.
    pub stop_signal: Option<String>,
}

/// `[base]`: what lies below everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    Debian(Debian),
    /// An image of a registry, which the reference names.
    Oci(Reference),
    /// No file at all. Python then is `standalone`.
    Scratch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debian {
    pub suite: Suite,
    /// `YYYYMMDDTHHMMSSZ`: the archive as it was then.
    pub snapshot: Option<String>,
    /// Names of packages wanted beside the minimal base, sorted, each once.
    pub packages: Vec<String>,
    /// Base URLs to try before any other source, without trailing slash, e.g. `https://mirror.example/debian`.
    pub mirrors: Vec<String>,
}

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    Bookworm,
    Trixie,
}

impl Suite {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// Major and minor version of the suite's own Python.
    pub const fn python(self) -> (u8, u8) {
        match self {
            Self::Bookworm => (3, 11),
            Self::Trixie => (3, 13),
        }
    }

    /// The Python that the suite had when this was written. A stable suite hardly ever moves it, so it is a good guess
    /// until the archive has said the right one; never more than that.
    pub const fn python_guess(self) -> &'static str {
        match self {
            Self::Bookworm => "3.11.2",
            Self::Trixie => "3.13.5",
        }
    }

    /// Major and minor version of the suite's glibc: decides which manylinux wheels load.
    pub const fn glibc(self) -> (u16, u16) {
        match self {
            Self::Bookworm => (2, 36),
            Self::Trixie => (2, 41),
        }
    }
}

/// Who brings the interpreter.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PythonProvider {
    /// The suite's own packages.
    Debian,
    /// python-build-standalone's `install_only_stripped` archives.
    Standalone,
    /// The image of a registry that is the base.
    Base,
}

/// `[python]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// `3.11` or `3.11.9`.
    pub version: String,
    /// As written, or the default for version and base: `debian` where the suite's own Python satisfies `version`
    /// (which a three-part version never asks for), else `standalone`; with an OCI base, `base`.
    pub provider: PythonProvider,
    /// For `standalone`: python-build-standalone's release tag, `20261101`; none: the newest when locked.
    pub build: Option<String>,
    /// For `standalone`: base URL of a mirror of the release downloads.
    pub mirror: Option<String>,
    /// PEP 508 texts as written.
    pub dependencies: Vec<String>,
    /// Paths relative to the spec: requirements files, `pyproject.toml`, `uv.lock`, `pylock.toml`.
    pub requirements: Vec<String>,
    /// PEP 508 texts that bound versions without asking for the package.
    pub constraints: Vec<String>,
    /// Extras of the project in `pyproject.toml` or `uv.lock` to install.
    pub extras: Vec<String>,
    /// Dependency groups (PEP 735) of `pyproject.toml` or `uv.lock` to install.
    pub groups: Vec<String>,
    /// RFC 3339 time or date; files uploaded later do not exist.
    pub exclude_newer: Option<String>,
    /// `disallow`, `allow`, `if-necessary`, `explicit`, `if-necessary-or-explicit`: uv's words; default is uv's.
    pub prerelease: Option<String>,
    /// Normalised names: of two wheels that write one path with different bytes, the one named first here wins.
    pub prefer: Vec<String>,
}

/// `[[index]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub name: Option<String>,
    /// As written, credentials included; they never reach the lock.
    pub url: String,
    /// Takes the place of the default index, at the lowest priority.
    pub default: bool,
    /// Asked only for the packages pinned to it.
    pub explicit: bool,
    /// Normalised names that come from this index and no other.
    pub packages: Vec<String>,
}

/// `[[wheel]]`: one file that breaks rules which all others keep.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WheelException {
    pub sha256: Digest,
    /// Sorted, each once.
    pub allow: Vec<WheelRule>,
}

/// A rule of wheels that a spec may waive for one file, which can then still be read in one way only.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WheelRule {
    /// A member is there twice; waived if the bytes are the same.
    DuplicateMember,
    /// A file is set-uid or set-gid; waived, the bits are dropped.
    ModeBits,
    /// It unpacks to more than a hundred times its size.
    Ratio,
    /// RECORD lists a file that is not there.
    RecordAbsent,
    /// RECORD has no SHA-256 of a file: none at all, or another hash.
    RecordHash,
    /// RECORD has another SHA-256 or size of a file than the file has.
    RecordMismatch,
    /// RECORD does not list a file.
    RecordUnlisted,
    /// Bytes that belong to no member: in front of the archive, in it or behind it.
    StrayBytes,
    /// WHEEL is for other Pythons or machines than the file name.
    Tags,
    /// METADATA or the `.dist-info` directory has another version than the file name.
    Version,
}

impl WheelRule {
    pub const ALL: [Self; 10] = [
        Self::DuplicateMember,
        Self::ModeBits,
        Self::Ratio,
        Self::RecordAbsent,
        Self::RecordHash,
        Self::RecordMismatch,
        Self::RecordUnlisted,
        Self::StrayBytes,
        Self::Tags,
        Self::Version,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DuplicateMember => "duplicate-member",
            Self::ModeBits => "mode-bits",
            Self::Ratio => "ratio",
            Self::RecordAbsent => "record-absent",
            Self::RecordHash => "record-hash",
            Self::RecordMismatch => "record-mismatch",
            Self::RecordUnlisted => "record-unlisted",
            Self::StrayBytes => "stray-bytes",
            Self::Tags => "tags",
            Self::Version => "version",
        }
    }
}

/// `[[copy]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Relative to the spec's directory.
    pub from: String,
    /// Absolute path of the image; a trailing slash means "into this directory".
    pub to: String,
    /// Patterns as in `.gitignore`, relative to `from`.
    pub exclude: Vec<String>,
}

/// `[prune]`: files of wheels that are left out, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Prune {
    /// `tests/` and `test/` packages below site-packages.
    pub tests: bool,
    /// C and C++ headers: `.h`, `.hpp`, `.hh`, `.cuh`, `.inl` and `include/` directories.
    pub headers: bool,
    /// `.a`.
    pub static_libraries: bool,
    /// `.pyi`.
    pub stubs: bool,
}
