//! Wheels: from a zip archive to the files that an installer puts into an image, without unpacking it.
//!
//! [`open`] reads a wheel's directory and metadata and refuses whatever can be read in two ways; [`install`] says
//! where each member goes (PyPA "Binary distribution format", "Recording installed projects", "Entry points
//! specification") as a [`Tree`](crate::tree::Tree) whose contents still point into the wheel; [`merge`] settles what
//! happens when two wheels bring one path. Only what must be read or changed is inflated: `METADATA`, `WHEEL`,
//! `RECORD`, `entry_points.txt` and scripts that begin with `#!python`.
//!
//! Deviations from the specifications, all towards refusing: symbolic links, other hashes than SHA-256 in `RECORD`,
//! files that `RECORD` does not list, and script names that stand for the interpreter are errors. Empty directories
//! are dropped (as pip does), `RECORD.jws` and `RECORD.p7s` too, since a rewritten `RECORD` voids the signature.
//! `RECORD` rows without a file are dropped with a note. No bytecode is made.

mod collide;
mod entry_points;
mod filename;
mod install;
mod metadata;
mod open;
mod record;
#[cfg(test)]
pub(crate) mod testing;
pub mod zip;

/// Version of everything that decides which files a wheel becomes: install rules, launchers, metadata, modes, what each
/// kind of `[prune]` leaves out. Part of a layer's key; a change of any of them needs a new one.
pub const INSTALL: u32 = 1;

pub use collide::{Collision, merge};
pub use filename::{FileName, normal_name};
pub use install::{Installed, Pruned, Scheme, install};
pub use open::{Wheel, open};

use crate::digest::Digest;
use crate::tree::{PathError, TreePath};

/// Why a wheel cannot be installed. Messages do not repeat the wheel's file name; the caller says it.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    #[error("`{0}` is not a wheel's file name")]
    FileName(String),
    #[error("cannot read the wheel's archive")]
    Zip(#[from] zip::ZipError),
    #[error("cannot read member {path}")]
    Read { path: TreePath, source: std::io::Error },
    #[error("member {path} is too large to be read into memory: {size} bytes, at most {limit}")]
    TooLarge { path: TreePath, size: u64, limit: u64 },
    #[error("member {0} is not UTF-8")]
    NotText(TreePath),
    #[error("member {path} has the SHA-256 {actual}, RECORD says {expected}")]
    Hash { path: TreePath, expected: Digest, actual: Digest },
    #[error("the wheel has {0}, expected exactly one `.dist-info` directory")]
    DistInfo(String),
    #[error("the wheel has no {0}")]
    Missing(String),
    #[error("{file} says {what} `{found}`, the file name says `{expected}`")]
    Disagrees { file: String, what: &'static str, found: String, expected: String },
    #[error("unsupported Wheel-Version: only 1.x is known")]
    Version,
    #[error(transparent)]
    Record(#[from] record::RecordError),
    #[error("RECORD does not list {0}")]
    Unlisted(TreePath),
    #[error("RECORD gives {path} no hash")]
    Unhashed { path: TreePath },
    #[error("RECORD gives {path} {listed} bytes, the archive {actual}")]
    Size { path: TreePath, listed: u64, actual: u64 },
    #[error("entry_points.txt: {0}")]
    EntryPoints(String),
    #[error("{path}: {rule}")]
    Data { path: TreePath, rule: String },
    #[error("two files of the wheel would be installed as {0}")]
    Twice(TreePath),
    #[error(
        "interpreter path `{0}` does not fit a script's first line: it has a space or more than 124 bytes"
    )]
    Shebang(String),
    #[error("unusable path")]
    Path(#[from] PathError),
}
