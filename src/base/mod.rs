//! An image of somebody else as the base of ours: which of its documents count, what its layers hold, which Python and which C
//! library it brings. Nothing of it is ever executed.
//!
//! [`manifest`] reads index, manifest and config into the lock's block, and compares them again when the lock is used.
//! [`Listing`] is what one layer says of its paths, [`Root`] what all of them come to; [`python`] and [`Root::glibc`] ask that.
//!
//! Whoever reads the layers' bytes is the [`unpack`](crate::unpack) edge, which hands each file's bytes to a [`Scan`].

mod error;
mod listing;
pub mod manifest;
pub mod python;
mod root;
mod scan;
#[cfg(test)]
mod tests;

pub use error::BaseError;
pub use listing::{Entry, FileFacts, Listing};
pub use root::Root;
pub use scan::Scan;

/// Version of what is looked for in a layer: part of the name under which a [`Listing`] is remembered.
pub const LOOK: u32 = 1;
