//! The keys of a lock of version 1, as they stand in the text. `schemas/lock.schema.json` is made from these types.
//!
//! Values are texts here, `meaning` makes the model's of them, and [`super::rules`] checks those. A key that is not listed is
//! refused: an old mlbuild must not build less than a newer one locked.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::oci::Platform;
use crate::spec::model::{PythonProvider, WheelRule};

mod meaning;

/// mlbuild.lock
///
/// Written by mlbuild beside mlbuild.toml; meant for version control and for review, not for editing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lock {
    /// Version of this format.
    #[schemars(range(min = 1, max = 1))]
    pub version: i64,
    /// How layers are encoded; another format gives other digests for the same content.
    pub layer_format: String,
    /// What was asked for when this was locked.
    pub inputs: Inputs,
    pub python: Option<Python>,
    #[serde(default)]
    pub suite: Vec<Suite>,
    #[serde(default)]
    pub base: Vec<Base>,
    #[serde(default)]
    pub deb: Vec<Deb>,
    #[serde(default)]
    pub package: Vec<Package>,
    #[serde(default)]
    pub seal: Vec<Seal>,
}

/// The part of the spec, and of the files it names, that decides what is locked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Inputs {
    pub platforms: Vec<Platform>,
    /// `debian:SUITE`, `oci:REFERENCE` or `scratch`.
    pub base: String,
    pub snapshot: Option<String>,
    #[serde(default)]
    pub debian_packages: Vec<String>,
    pub python: Option<String>,
    pub python_provider: Option<PythonProvider>,
    #[serde(default)]
    pub requirements: Vec<String>,
    #[serde(default)]
    pub constraints: Vec<String>,
    #[serde(default)]
    pub indexes: Vec<String>,
    pub exclude_newer: Option<String>,
    pub prerelease: Option<String>,
    #[serde(default)]
    pub prefer: Vec<String>,
    #[serde(default)]
    pub prune: Vec<String>,
    #[serde(default)]
    pub wheels: Vec<InputWheel>,
    #[serde(default)]
    pub locks: Vec<InputLock>,
}

/// Rules that one wheel may break.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InputWheel {
    pub hashes: Hashes,
    pub allow: Vec<WheelRule>,
}

/// A lock of another tool that was taken as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InputLock {
    pub path: String,
    pub hashes: Hashes,
    #[serde(default)]
    pub extras: Vec<String>,
    #[serde(default)]
    pub groups: Vec<String>,
}

/// Digests of one file, by algorithm (PEP 751). Only SHA-256 counts here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hashes {
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// One suite of a Debian archive as it was when locked. Provenance: a build does not read it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Suite {
    pub archive: String,
    pub suite: String,
    /// `Date` of its InRelease file.
    pub date: String,
    /// SHA-256 of its InRelease file.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub inrelease: String,
    /// Fingerprints of the keys whose signatures were good.
    pub signed_by: Vec<String>,
}

/// The image of a registry that is the base of one platform.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Base {
    pub platform: Platform,
    /// SHA-256 of the index that names the manifest.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub index: Option<String>,
    pub manifest: Document,
    pub config: Document,
    /// Version of its C library, where Python is asked for: `2.36`.
    pub glibc: Option<String>,
    /// Lowest first.
    pub layers: Vec<BaseLayer>,
    /// Links that lead to a directory or to nothing. With `directories`, or neither.
    pub links: Option<Vec<Link>>,
    /// Directories that are not 0755 or not root's.
    pub directories: Option<Vec<Directory>>,
}

/// A manifest or a config.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Document {
    pub size: u64,
    pub hashes: Hashes,
}

/// A layer of the base.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BaseLayer {
    pub media_type: String,
    pub size: u64,
    pub hashes: Hashes,
    /// SHA-256 of the tar in it.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub diff_id: String,
}

/// A symbolic link of the base.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Link {
    pub path: String,
    pub target: String,
}

/// A directory of the base.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Directory {
    pub path: String,
    /// Octal.
    #[schemars(regex(pattern = "^[0-7]{4}$"))]
    pub mode: String,
    /// User and group, by number, if not root.
    #[schemars(regex(pattern = "^[0-9]+:[0-9]+$"))]
    pub owner: Option<String>,
}

/// The interpreter, and where wheels are installed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Python {
    pub provider: PythonProvider,
    pub version: String,
    /// Release tag of python-build-standalone.
    pub build: Option<String>,
    pub executable: String,
    pub site_packages: String,
    pub scripts: String,
    pub prefix: String,
    #[serde(default)]
    pub archives: Vec<Archive>,
}

/// The interpreter's archive for one platform.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Archive {
    pub platform: Platform,
    pub name: String,
    pub url: String,
    pub size: u64,
    pub hashes: Hashes,
}

/// One Debian package for one platform.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deb {
    pub name: String,
    pub version: String,
    pub platform: Platform,
    /// `amd64`, `arm64` or `all`.
    pub architecture: String,
    /// Name of the source package.
    pub source: String,
    /// `debian` or `debian-security`.
    pub archive: String,
    /// Path below the archive's root.
    pub filename: String,
    pub size: u64,
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    pub layer: DebLayer,
    #[serde(default)]
    pub depends: Vec<String>,
}

/// The layer a Debian package goes to.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DebLayer {
    Base,
    Python,
}

/// One version of a Python package. Keys are those of PEP 751 where it has them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub index: Option<String>,
    /// Asked for by the spec itself.
    #[serde(default)]
    pub requested: bool,
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    pub wheels: Vec<Wheel>,
}

/// An edge to another package of this lock.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dependency {
    pub name: String,
    pub version: String,
    /// Where the edge holds, if not on all platforms of the package.
    #[serde(default)]
    pub platforms: Vec<Platform>,
}

/// The file that some platforms install.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wheel {
    pub name: String,
    pub url: String,
    pub size: u64,
    pub hashes: Hashes,
    /// The index published no SHA-256; this one is of the file as it was downloaded when locked.
    #[serde(default)]
    pub hashed_by_us: bool,
    pub platforms: Vec<Platform>,
}

/// What the layers of one platform are, as `mlbuild lock --seal` found: who trusts this lock needs no wheel to know the
/// image.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Seal {
    pub platform: Platform,
    /// Names the wheels of which it was found that no two write one path with different bytes.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub wheel_set: Option<String>,
    /// In the order of the image.
    pub layer: Vec<SealedLayer>,
}

/// One layer of what is locked; the user's files are not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SealedLayer {
    /// For people.
    pub title: String,
    /// Names everything that the layer is made from.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub key: String,
    /// Of the blob.
    #[schemars(regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Of the blob, in bytes.
    pub size: u64,
    /// Digest of the tar.
    #[schemars(regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub diff_id: String,
    /// Of the tar, in bytes.
    pub unpacked: u64,
    /// Symbolic links that the user's files may go through.
    #[serde(default)]
    pub links: Vec<SealedLink>,
    /// Directories whose mode is not 0755: the user's files may lie below them.
    #[serde(default)]
    pub directories: Vec<SealedDirectory>,
}

/// A symbolic link, without a leading slash.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SealedLink {
    pub path: String,
    pub target: String,
}

/// A directory, without a leading slash, and its permission bits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SealedDirectory {
    pub path: String,
    pub mode: u32,
}
