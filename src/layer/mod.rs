//! Layers: the canonical tar of a tree, and two ways to its gzip form.
//!
//! A *pass-through* layer ([`Recipe`]) is made of wheels' own DEFLATE streams: each becomes, behind a tar header of
//! ours, one gzip member whose CRC and length come from the wheel's directory, so that no compressor takes part and
//! no layer needs to be kept. [`measure`] reads such a layer once as its consumers will and proves it to be the tar
//! of its tree. What no wheel brings (Debian's files, the user's own) is compressed by us ([`encode`]).
//!
//! Both are pure functions of tree and epoch within one [`FORMAT`]; thread counts and machines do not matter.
//! Consumers must read multi-member gzip (RFC 1952, 2.2), which all of OCI's do; some decoders of Rust's ecosystem
//! stop after the first member, so readers here use the multi-member forms.
//!
//! Parent directories that the tree does not hold are made with mode 0755; a tree that puts a file below a directory
//! with other permissions (`tmp`, `root`) or below a symbolic link of a lower layer must say so itself.

pub mod check;
pub mod deflate;
mod encode;
mod gzip;
pub mod key;
mod measure;
pub mod members;
mod reader;
mod recipe;
mod shadow;
pub mod tar;
#[cfg(test)]
mod tests;

use std::io;

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};
use crate::elf::ElfFacts;
use crate::tree::TreePath;

pub use encode::encode;
pub use measure::{Threads, measure};
pub use reader::Reader;
pub use recipe::{Piece, Recipe};

/// Version of every byte that this module makes: tar form, DEFLATE encoder, gzip framing, level and member size of
/// [`encode`]. Part of each layer's key; a change of any output needs a new one.
pub const FORMAT: &str = "g1";

/// What is known of a layer once its bytes have been seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// Of the gzip form.
    pub digest: Digest,
    /// Length of the gzip form.
    pub size: u64,
    pub diff_id: DiffId,
    /// Length of the tar.
    pub unpacked: u64,
    /// Entries of the tar, directories included.
    pub entries: u64,
    /// What the dynamic linker will want to know of each ELF file, by path.
    #[serde(with = "elf_by_path")]
    pub elf: Vec<(TreePath, ElfFacts)>,
}

/// Why a layer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("the layer would be empty")]
    Empty,
    #[error("{below} lies below {path}, which is not a directory")]
    NotADirectory { path: TreePath, below: TreePath },
    #[error(
        "the layer needs more than {most} directories that nothing in it names, or {most_bytes} bytes of their paths"
    )]
    Directories { most: usize, most_bytes: usize },
    #[error("hard link {path} points to {target}, which is no file of its layer")]
    HardlinkTarget { path: TreePath, target: TreePath },
    #[error("symbolic link {path} has an empty target or one with a NUL")]
    LinkTarget { path: TreePath },
    #[error("{path} has the mode {mode:o}, which is more than permission bits")]
    Mode { path: TreePath, mode: u32 },
    #[error("content of {path} {rule}")]
    Content { path: TreePath, rule: &'static str },
    #[error("cannot read the content of {path}")]
    ReadContent { path: TreePath, source: io::Error },
    #[error("cannot read the sources of the layer")]
    ReadBlob(#[source] io::Error),
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    #[error("the packed content of {path} is damaged or not what its archive says: {rule}")]
    Damaged { path: TreePath, rule: String },
    #[error("{path} has the SHA-256 {actual}, RECORD says {expected}")]
    Record { path: TreePath, expected: Digest, actual: Digest },
    #[error("blob {digest} is damaged: its bytes are {actual}")]
    Source { digest: Digest, actual: Digest },
    #[error("RECORD has a hash for {0}, which is no file of the layer")]
    RecordWithoutFile(TreePath),
    #[error("not a layer recipe of a version known here: {0}")]
    Recipe(&'static str),
}

mod elf_by_path {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::elf::ElfFacts;
    use crate::tree::TreePath;

    pub fn serialize<S: Serializer>(elf: &[(TreePath, ElfFacts)], serializer: S) -> Result<S::Ok, S::Error> {
        elf.iter().map(|(path, facts)| (path.as_str(), facts)).collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(TreePath, ElfFacts)>, D::Error> {
        Vec::<(String, ElfFacts)>::deserialize(deserializer)?
            .into_iter()
            .map(|(path, facts)| Ok((TreePath::new(&path).map_err(D::Error::custom)?, facts)))
            .collect()
    }
}
