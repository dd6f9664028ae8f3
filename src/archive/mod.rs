//! Debian's archives over the network: what is in them now, or was at a snapshot, and where a locked .deb is found.
//!
//! [`resolve`] turns the names a base needs into exact packages: it fetches each suite's `InRelease`, lets
//! [`crate::debian::release`] check its signature, its freshness and that it is the suite asked for, fetches the
//! package indexes it names by hash, and closes over dependencies. Nothing from the network is believed that the
//! signature does not reach. [`urls`] lists every place that may serve a locked .deb; since the lock's SHA-256
//! decides, all are equal and only their order matters.

mod fetch;
mod mirror;
mod resolve;

pub use mirror::{Mirror, MirrorError, MirrorOrigin, host_mirrors, spec_mirrors, urls};
pub use resolve::{ArchiveError, BaseRequest, BaseResolution, resolve};

use crate::digest::Digest;

/// Index files kept between runs, by digest.
pub trait IndexCache: Send + Sync {
    fn get(&self, digest: &Digest) -> Option<Vec<u8>>;
    fn put(&self, bytes: &[u8]);
}
