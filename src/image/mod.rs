//! An image: the exact bytes of its config, manifest and index, made from facts about its layers.
//!
//! [`assemble`] and [`index`] are functions of their request alone; equal requests give equal digests on every
//! machine. No layer's bytes are needed, only its digest, size and diff ID. [`inspect`] is the way back: what the
//! documents of an image say, for people and as JSON.

pub mod annotation;
pub mod assemble;
pub mod created_by;
mod inherit;
pub mod inspect;

#[cfg(test)]
mod tests;

pub use inherit::{BaseImage, search_path};

pub use assemble::{Image, ImageError, ImageLayer, ImageRequest, Index, assemble, index};
pub use inspect::{InspectError, Inspection, inspect};
