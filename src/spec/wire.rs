//! `mlbuild.toml` as it is written: the one source of the keys, of their documentation and of the JSON Schema.
//!
//! Everything here is plain text and numbers; what they mean is said by [`super::model`], and whether they mean
//! anything by the modules beside it. `spec::schema_json` makes the schema from these types, `check` compares a text
//! with that schema, and only a text that agrees is deserialised into them: adding a key is done in this file alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::model::WheelRule;

/// What a container image for machine learning is made of. Paths are relative to the directory of this file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "mlbuild.toml")]
pub struct Spec {
    /// Name, platforms and run configuration of the image.
    #[serde(default)]
    pub image: Image,
    /// What lies below everything: exactly one of `debian`, `oci` and `scratch`.
    pub base: Base,
    /// The interpreter and the packages it finds.
    pub python: Option<Python>,
    /// Where Python packages come from, in order of priority, before the default index.
    #[serde(default)]
    pub index: Vec<Index>,
    /// Exceptions for wheels that break rules, each for one file.
    #[serde(default)]
    pub wheel: Vec<Wheel>,
    /// Files of the project that go into the image.
    #[serde(default)]
    pub copy: Vec<Copy>,
    /// Kinds of files of Python packages that are left out.
    #[serde(default)]
    pub prune: Prune,
    /// The CUDA that the image is for. Not yet supported.
    pub cuda: Option<Cuda>,
    /// Build stages by name. Not yet supported.
    #[serde(default)]
    pub stage: BTreeMap<String, Stage>,
    /// Models that go into the image. Not yet supported.
    #[serde(default)]
    pub model: Vec<Model>,
}

/// Name, platforms and run configuration of the image.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Image {
    /// Reference by which the image is tagged, run and pushed: `registry.example/team/trainer:1.0`.
    pub name: Option<String>,
    /// Platforms to make the image for: `linux/amd64`, `linux/arm64`. Default: `linux/amd64`.
    #[schemars(length(min = 1))]
    pub platforms: Option<Vec<Platform>>,
    /// Program and first arguments that always run: `["python", "-m", "trainer"]`. `[]` clears that of an image of a registry.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, replaced by those given to `run`. `[]` clears those of an image of a registry.
    pub cmd: Option<Vec<String>>,
    /// Environment of the program. `LD_PRELOAD` and `LD_LIBRARY_PATH` are refused.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Absolute path of the directory where the program starts.
    #[schemars(length(min = 1))]
    pub workdir: Option<String>,
    /// Who runs the program: `name`, `uid`, `name:group` or `uid:gid`.
    #[schemars(length(min = 1))]
    pub user: Option<String>,
    /// Labels of the image configuration.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifest, such as `org.opencontainers.image.source`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Ports that the program listens on: `"8080"`, `"8080/tcp"`, `"53/udp"`.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Signal that asks the program to stop: `SIGINT`, or a number in quotes. Default of runtimes: `SIGTERM`.
    #[schemars(length(min = 1))]
    pub stop_signal: Option<String>,
}

/// Operating system and architecture.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum Platform {
    #[serde(rename = "linux/amd64")]
    LinuxAmd64,
    #[serde(rename = "linux/arm64")]
    LinuxArm64,
}

/// What lies below everything: exactly one of `debian`, `oci` and `scratch`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Base {
    /// A minimal root of this Debian suite, made of exact packages.
    pub debian: Option<Suite>,
    /// An image of a registry, by tag or digest: `registry.example/team/base:1.0`. The lock pins its digest.
    #[schemars(length(min = 1))]
    pub oci: Option<String>,
    /// `true`: no file at all.
    pub scratch: Option<bool>,
    /// The Debian archive as it was at this second: `20261101T000000Z`. Omitted: now, then locked.
    pub snapshot: Option<String>,
    /// Debian packages wanted beside the minimal base.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Base URLs of Debian mirrors to try first: `https://mirror.example/debian`.
    #[serde(default)]
    pub mirrors: Vec<String>,
}

/// A Debian suite by its code name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    Bookworm,
    Trixie,
}

/// The interpreter and the packages it finds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Python {
    /// `3.11` or `3.11.9`; the exact build is locked.
    pub version: String,
    /// Who brings the interpreter. Default: `debian` where the suite's own version satisfies `version`, else `standalone`;
    /// with an `oci` base, `base`.
    pub provider: Option<Provider>,
    /// For `standalone`: release tag of python-build-standalone, `20261101`. Default: the newest at lock time.
    pub build: Option<String>,
    /// For `standalone`: base URL of a mirror of the release downloads.
    #[schemars(length(min = 1))]
    pub mirror: Option<String>,
    /// Packages to install, as in PEP 508: `numpy>=2`, `torch==2.9.1`.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// Files that name packages: requirements files, `pyproject.toml`, `uv.lock`, `pylock.toml`.
    #[serde(default)]
    pub requirements: Vec<String>,
    /// Bounds on versions of packages that something else asks for, as in PEP 508.
    #[serde(default)]
    pub constraints: Vec<String>,
    /// Extras of the project in `pyproject.toml` or `uv.lock` to install.
    #[serde(default)]
    pub extras: Vec<String>,
    /// Dependency groups (PEP 735) of the project in `pyproject.toml` or `uv.lock` to install.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Files uploaded after this date or time do not exist: `2026-11-01` or `2026-11-01T12:00:00Z`.
    pub exclude_newer: Option<String>,
    /// Which pre-releases may be chosen. Default: `if-necessary-or-explicit`.
    pub prerelease: Option<Prerelease>,
    /// Of two packages that write one path with different bytes, the one named first here wins.
    #[serde(default)]
    pub prefer: Vec<String>,
}

/// Who brings the interpreter.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The suite's own packages.
    Debian,
    /// An archive of python-build-standalone: any exact version.
    Standalone,
    /// The image that `oci` in [base] names.
    Base,
}

/// Which pre-releases may be chosen.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Prerelease {
    Disallow,
    Allow,
    IfNecessary,
    Explicit,
    IfNecessaryOrExplicit,
}

/// A package index.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Index {
    /// Name for messages and for credentials in the environment.
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// URL of a simple index (PEP 503, PEP 691): `https`, `http` or `file`.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Takes the place of the default index, at the lowest priority.
    #[serde(default)]
    pub default: bool,
    /// Asked only for `packages`.
    #[serde(default)]
    pub explicit: bool,
    /// Packages that come from this index and from no other.
    #[serde(default)]
    pub packages: Vec<String>,
}

/// An exception for one wheel that breaks rules. The lock repeats it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Wheel {
    /// SHA-256 of the file, 64 hexadecimal digits: another file gets no exception.
    pub sha256: String,
    /// The rules that it may break.
    #[schemars(length(min = 1))]
    pub allow: Vec<WheelRule>,
    /// Why, for whoever reads this file.
    #[schemars(length(min = 1))]
    pub reason: String,
}

/// Files of the project, or of a build stage, that go into the image.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Copy {
    /// File or directory, relative to this file; of a directory, the contents are copied.
    #[schemars(length(min = 1))]
    pub from: String,
    /// Absolute path in the image; a file goes into it when it ends in a slash.
    #[schemars(length(min = 1))]
    pub to: String,
    /// Patterns as in `.gitignore`, relative to `from`, of files that stay out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Name of the build stage that `from` is a path of. Not yet supported.
    #[schemars(length(min = 1))]
    pub stage: Option<String>,
}

/// Kinds of files of Python packages that are left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Prune {
    /// Packages called `tests` or `test`.
    pub tests: bool,
    /// C and C++ headers.
    pub headers: bool,
    /// Static libraries: `.a`.
    pub static_libraries: bool,
    /// Type stubs: `.pyi`.
    pub stubs: bool,
}

/// The CUDA that the image is for. Not yet supported.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cuda {
    /// Toolkit: `12.8`.
    pub version: String,
    /// cuDNN: `9.10`.
    pub cudnn: Option<String>,
    /// Devices that the image must serve, as compute capability or product: `sm_90`, `L4`.
    #[schemars(length(min = 1))]
    pub gpus: Option<Vec<String>>,
    /// The oldest driver of the fleet: `535`, `535.104.05`.
    pub driver: Option<String>,
}

/// Commands that run in a sandbox and make files for the image. Not yet supported.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stage {
    /// Debian packages that the commands need.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Shell commands, in order.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// Files of the project that the commands need.
    #[serde(default)]
    pub copy: Vec<Copy>,
    /// Environment of the commands.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A model whose files go into the image as layers of their own. Not yet supported.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Model {
    /// Repository of the model: `organisation/name`.
    #[schemars(length(min = 1))]
    pub repo: String,
    /// Branch, tag or commit; the commit is locked.
    #[schemars(length(min = 1))]
    pub revision: Option<String>,
    /// Absolute path of the directory in the image.
    #[schemars(length(min = 1))]
    pub to: String,
    /// Patterns of the files wanted: `*.safetensors`. Default: all.
    #[serde(default)]
    pub files: Vec<String>,
}
