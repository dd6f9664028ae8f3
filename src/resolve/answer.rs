//! What the resolver answers, as plain values without credentials.

use crate::digest::Digest;

/// Every package of one platform, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    pub packages: Vec<Resolved>,
    /// Worth saying, no obstacle: a yanked version, an extra that the package does not have.
    pub warnings: Vec<String>,
}

/// One package and the wheel that the platform installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Normalised.
    pub name: String,
    pub version: String,
    /// Asked for by the spec or its files, not only by another package.
    pub requested: bool,
    /// URL of the index it comes from; none for a direct URL.
    pub index: Option<String>,
    /// Name and version of the packages that it asks for here, sorted.
    pub dependencies: Vec<(String, String)>,
    pub wheel: WheelFile,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelFile {
    /// File name.
    pub name: String,
    pub url: String,
    /// What the index says; nothing where it is silent.
    pub size: Option<u64>,
    /// What the index says; nothing where it is silent or knows other algorithms only.
    pub sha256: Option<Digest>,
}
