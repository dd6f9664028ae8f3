//! The part of a lock that is an image of a registry: what lies below everything, by digest.

use crate::digest::{DiffId, Digest};
use crate::oci::{MediaType, Platform};
use crate::tree::Node;

/// What [`Inputs::base`](super::Inputs::base) begins with where the base is an image of a registry; its reference follows.
pub const OCI: &str = "oci:";

/// The most paths of a base that a lock holds, links and directories together: ten times what distributions have. Of a base
/// with more the lock holds none.
pub const MAX_PATHS: usize = 512;

/// The base for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseLock {
    pub platform: Platform,
    /// The index that names the manifest; none where the reference names the manifest itself.
    pub index: Option<Digest>,
    pub manifest: Digest,
    pub manifest_size: u64,
    pub config: Digest,
    pub config_size: u64,
    /// Version of its C library, `2.36`, which decides what wheels load; there where Python is asked for.
    pub glibc: Option<String>,
    /// Lowest first, as in the manifest.
    pub layers: Vec<BaseLayer>,
    /// None where nobody has looked, or where they are too many.
    pub paths: Option<BasePaths>,
}

/// A layer that goes into the image as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseLayer {
    /// OCI's: a tar, plain or packed with gzip or zstd.
    pub media_type: MediaType,
    pub digest: Digest,
    pub size: u64,
    pub diff_id: DiffId,
}

/// Where files that are put upon the base really go: what of its paths is not as a path would make it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasePaths {
    /// Links that lead to a directory, or to nothing: path in the image without leading slash, and target as written. By path.
    pub links: Vec<(String, String)>,
    /// Directories that are not 0755 or not root's. By path.
    pub directories: Vec<BaseDirectory>,
}

/// The most layers of a base: an image upon it has some of its own, and some runtimes stop at 125.
pub const MAX_BASE_LAYERS: usize = 90;

/// A directory of a base.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseDirectory {
    /// As of a link.
    pub path: String,
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

impl BaseDirectory {
    /// What a layer says of it that puts something into it.
    pub const fn node(&self) -> Node {
        match self.owner {
            (0, 0) => Node::Dir { mode: self.mode },
            owner => Node::Below { mode: self.mode, owner },
        }
    }
}

impl BaseLock {
    /// Version of its C library as two numbers.
    pub fn glibc(&self) -> Option<(u16, u16)> {
        let (major, minor) = self.glibc.as_deref()?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }
}
