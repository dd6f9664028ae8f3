//! The OCI vocabulary: platforms, media types, descriptors, references, canonical JSON, and the check of an image
//! against every rule of the specification.
//!
//! The documents are small types of our own, with ordered maps and the fields that we write or read; every document
//! is serialised by [`canonical`], since a digest is over bytes. Reading ignores what it does not know, as the
//! specification asks; a document of somebody else is therefore passed on by its bytes, never written again from
//! these types.

pub mod canonical;
pub mod config;
pub mod descriptor;
pub mod index;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
mod unpacker;
pub mod validate;

pub use config::ImageConfig;
pub use descriptor::Descriptor;
pub use index::ImageIndex;
pub use manifest::ImageManifest;
pub use media_type::MediaType;
pub use platform::Platform;
pub use reference::Reference;

/// The longest manifest, index or config that is read, in bytes: what registries accept at most.
pub const MAX_DOCUMENT: usize = 4 * 1024 * 1024;

/// Why bytes are not the document they should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("{what} has {len} bytes, more than the {MAX_DOCUMENT} that registries accept")]
    TooLong { what: &'static str, len: usize },
    #[error("it has more than {most} {what}")]
    TooMany { what: &'static str, most: usize },
    #[error("it has {actual} bytes where {promised} were promised")]
    Size { promised: u64, actual: u64 },
    #[error("{what} cannot be read")]
    Json { what: &'static str, source: serde_json::Error },
}

/// A document of type `T` from its bytes, which are bounded.
fn parse<'a, T: serde::Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, DocumentError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(DocumentError::TooLong { what, len: bytes.len() });
    }
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what, source })
}
