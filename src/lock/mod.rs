//! The lock: everything an image is made of, by hash, in one text file that is read as a diff.
//!
//! [`model`] is the value; [`wire`] is the one writer and the strict reader of its text; [`v1`] says which keys a
//! text of version 1 has, [`rules`] and `agree` what its values must keep; [`seal`] is what a lock may say of layers;
//! [`satisfies`] compares a lock with a spec, [`diff`] a lock with an older one. All of it is pure: who finds and writes the file is the engine.

mod agree;
mod bases;
pub mod diff;
pub mod model;
mod order;
mod rules;
pub mod satisfies;
pub mod seal;
pub mod v1;
pub mod wire;
mod writer;

#[cfg(test)]
mod base_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod seal_tests;
#[cfg(test)]
mod tests;

pub use diff::{LockDiff, diff};
pub use model::*;
pub use rules::Violation;
pub use satisfies::{Drift, drift};
pub use seal::{Seal, SealedLayer};
pub use wire::{LAYER_FORMAT, LockError, VERSION, read, write};
