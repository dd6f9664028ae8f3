//! Debian, as far as an image's base needs it, without a network or a disk: control paragraphs, versions, relations,
//! signed release files, package indexes, dependency closure, .deb files, and the composition of a root file system
//! from exact .debs.
//!
//! No maintainer script is ever run. What those of the packages in question would have done and an image needs is
//! done by `emulate`, deterministically; the rest of their effects (debconf, caches by trigger, the dpkg database's
//! own bookkeeping) is left out on purpose.

pub mod closure;
pub mod compose;
pub mod deb;
pub mod deb822;
mod emulate;
pub mod index;
pub mod openpgp;
pub mod relation;
pub mod release;
pub mod sources;
pub mod version;

mod ar;
mod spool;
pub mod tarfile;
#[cfg(test)]
pub(crate) mod testing;

pub use compose::{ComposeError, Composition, compose};

/// Version of everything that decides which bytes a set of .debs becomes: filters, emulations, modes. A change of
/// any of them changes layer digests, so it raises this number, which is part of a layer's key.
pub const EMULATION: u32 = 1;
