//! What is asked of the resolver, as plain values.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Asked;
use crate::oci::Platform;
use crate::spec::model::Index;

/// One resolution: one platform, one exact Python.
#[derive(Debug, Clone)]
pub struct Request {
    pub platform: Platform,
    /// Full version of the image's interpreter: `3.11.2`.
    pub python: String,
    /// Version of the image's C library: the newest `manylinux_X_Y` that loads.
    pub glibc: (u16, u16),
    pub requirements: Vec<Asked>,
    pub constraints: Vec<Asked>,
    /// In order of priority; credentials may be in their URLs.
    pub indexes: Vec<Index>,
    /// RFC 3339 time, or a date: that day is the last one that counts, in UTC.
    pub exclude_newer: Option<String>,
    /// uv's words: `disallow`, `allow`, `if-necessary`, `explicit`, `if-necessary-or-explicit`.
    pub prerelease: Option<String>,
    /// Versions to keep where nothing speaks against them.
    pub preferences: Vec<Pin>,
    pub upgrade: Upgrade,
    /// Answer from the cache alone.
    pub offline: bool,
    /// Directory of uv's cache; made when it is missing, shared with other processes.
    pub cache_dir: PathBuf,
    /// Requests in flight at once.
    pub jobs: usize,
}

/// A version that was chosen before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    /// Normalised.
    pub name: String,
    pub version: String,
}

/// Which preferences to forget. Whatever is upgraded is also asked anew of its index, however fresh the cache is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Upgrade {
    #[default]
    None,
    All,
    /// Normalised names.
    Packages(BTreeSet<String>),
}

impl Upgrade {
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Packages(names) => names.contains(name),
        }
    }
}
