//! Layers as directories of the host, each in the form in which overlayfs takes it as a lower directory (mounted with
//! `userxattr`): what a run in the sandbox mounts.
//!
//! ```text
//! tar, gzip or zstd of anybody's    archive ~> tar ~> writer ~> directory
//! a recipe of ours                  passthrough: wheels' own streams ~> files, in parallel; no tar, no gzip
//! ```
//!
//! Both give the same tree of the same layer, byte for byte.
//!
//! **What a layer says becomes**
//! - a whiteout `.wh.NAME`: a character device 0:0 of that name; a name that the same layer also has is not hidden, but a
//!   directory among them shows nothing of the layers below;
//! - `.wh..wh..opq`: `user.overlay.opaque` on the directory, wherever in the layer it stands. On the root of the layer
//!   overlayfs would not see it: [`Summary::opaque`] says so instead;
//! - a directory that holds whiteouts has an empty `user.overlay.origin`: else the kernel lists them where nothing below has
//!   that directory;
//! - owners: as root those of the layer, else the caller's; [`Summary::owners`] says which others the layer names;
//! - extended attributes of files and directories: those of `user.`, but none of `user.overlay.`, with which a layer could
//!   make overlayfs take one file for another. All others are dropped: `security.capability` would need root and means
//!   nothing where `no_new_privs` is set, `trusted.` and `system.` are the host's;
//! - device nodes: nothing. The sandbox has a `/dev` of its own, and a layer must not bring whiteouts by this door;
//! - set-user-ID and set-group-ID bits: kept. Nobody but the owner comes into the store, and in the sandbox they mean
//!   nothing (`nosuid`, `no_new_privs`).
//!
//! **Safety.** A layer is anybody's. Paths are resolved in memory, by what the layer itself has made: a symbolic link of the
//! layer leads where it would lead inside the image and never out of it, `..` in an entry is refused. Each directory is then
//! opened by `openat2` below the root with all links forbidden, so that a mistake here is an error and no escape; files are
//! created with `O_EXCL` in it. [`Limits`] end what would never end.
//!
//! **Parents.** A layer that has `bin/foo` and no entry for `bin` means the directory of the layers below, with its owner
//! and mode, or what a link in its place points to. A directory that stands for itself cannot know: [`Summary::implied`]
//! names such parents, and [`Below`] is how whoever knows the layers below has the layer unpacked upon them. The same
//! holds for hard links to files of those: [`Summary::linked`]; upon them, the layer has a copy of the file, under both
//! names. A link to anything else that only they have is refused.

mod archive;
mod below;
mod facts;
mod look;
mod passthrough;
mod place;
mod remove;
mod tar;
#[cfg(test)]
mod tests;
mod writer;

use std::io;

use crate::digest::{Digest, Mismatch};
use crate::layer::LayerError;

pub use archive::{Packed, unpack};
pub use below::{Below, Nothing, Seen, Stack};
pub use facts::{Survey, survey};
pub use look::look;
pub use passthrough::{Job, Passthrough};
pub use remove::remove_tree;

/// What is asked of bytes on the way.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// An error ends the work.
    pub go_on: &'a (dyn Fn() -> io::Result<()> + Sync),
    /// Told the bytes done since the last call.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// Where a layer of somebody else's stops being taken.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries, extended headers not counted. Each takes some 100 bytes of memory while the layer is unpacked, and its name
    /// twice.
    pub entries: u64,
    /// Bytes of all names.
    pub names: u64,
    /// Bytes of the tar that are free, whatever the layer's size.
    pub free: u64,
    /// Bytes of the tar for each byte of the layer beyond that. DEFLATE can do 1032, zstd any number; layers of programs
    /// have 2 to 5, and the sparse files that some images carry have a thousand, but not for long.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 1_000_000, names: 256 << 20, free: 4 << 30, ratio: 200 }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Names in the tree, the root not counted.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Digest over names, kinds, modes, times and CRC-32 of contents: what [`survey`] finds again.
    pub content: Digest,
    /// Owners other than 0:0 that the layer names, each once, at most [`OWNERS_MAX`] of them.
    pub owners: Vec<(u32, u32)>,
    /// Parent directories that the layer has no entry for and the layers below decide, at most [`IMPLIED_MAX`] of them.
    pub implied: Vec<String>,
    /// The first hard link to what only the layers below can have, and its target: without them it is not there.
    pub linked: Option<(String, String)>,
    /// The layers below are not to be seen at all.
    pub opaque: bool,
}

pub const OWNERS_MAX: usize = 1000;
pub const IMPLIED_MAX: usize = 16;

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    #[error("the layer's tar {0}")]
    Form(&'static str),
    #[error("tar entry `{name}`: {rule}")]
    Entry { name: String, rule: &'static str },
    #[error("hard link `{path}` points to `{target}`, which is no file of its layer or of those below")]
    Hardlink { path: String, target: String },
    #[error("the layer has more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    #[error("the layer's {what} is not what its image says")]
    Mismatch { what: &'static str, source: Mismatch },
    #[error("the packed content of `{path}` is damaged: {rule}")]
    Damaged { path: String, rule: String },
    #[error(transparent)]
    Recipe(#[from] LayerError),
    #[error("cannot {action} `{path}`")]
    File { action: &'static str, path: String, source: io::Error },
}

impl From<io::Error> for UnpackError {
    /// A reader of ours may have failed with an error of this kind.
    fn from(error: io::Error) -> Self {
        match error.get_ref().is_some_and(|inside| inside.is::<Self>()) {
            true => match error.into_inner().map(|inside| inside.downcast::<Self>()) {
                Some(Ok(ours)) => *ours,
                _ => unreachable!("it was looked at above"),
            },
            false => Self::Read(error),
        }
    }
}

/// A path of a layer as it is shown.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
