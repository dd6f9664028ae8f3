//! Wheels: from a zip archive to the files that an installer puts into an image, without unpacking it.
//!
//! [`open`] reads a wheel's directory and metadata and refuses whatever can be read in two ways; [`install`] says
//! where each member goes (PyPA "Binary distribution format", "Recording installed projects", "Entry points
//! specification") as a [`Tree`](crate::tree::Tree) whose contents still point into the wheel; [`merge`] settles what
//! happens when two wheels bring one path; [`peek`] reads `METADATA` alone, for a resolver. Only what must be read or
//! changed is inflated: `METADATA`, `WHEEL`, `RECORD`, `entry_points.txt` and scripts that begin with `#!python`.
//!
//! Deviations from the specifications, all towards refusing: symbolic links, other hashes than SHA-256 in `RECORD`,
//! files that `RECORD` does not list and rows without a file, script names that stand for the interpreter, `.data`
//! directories of another distribution and `.dist-info` directories below them are errors. Empty directories are
//! dropped (as pip does), `RECORD.jws` and `RECORD.p7s` too, since a rewritten `RECORD` voids the signature. No bytecode
//! is made.
//!
//! Some of the rules can be waived for one file in the spec ([`Waivers`]).

mod collide;
mod entry_points;
mod filename;
mod install;
mod metadata;
mod open;
mod peek;
mod record;
#[cfg(test)]
pub(crate) mod testing;
mod waivers;
pub mod zip;

/// Version of everything that decides which files a wheel becomes: install rules, launchers, metadata, modes, what each
/// kind of `[prune]` leaves out. Part of a layer's key; a change of any of them needs a new one.
pub const INSTALL: u32 = 2;

pub use collide::{Collision, merge};
pub use filename::{FileName, normal_name, same_version};
pub use install::{Installed, Pruned, Scheme, install};
pub use open::{Wheel, open};
pub use peek::{Peeked, peek};
pub use waivers::Waivers;

use crate::digest::Digest;
use crate::spec::model::WheelRule;
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
    #[error("{file} says name `{found}`, the file name says `{expected}`")]
    Disagrees { file: String, found: String, expected: String },
    #[error("{file} says version `{found}`, the file name says `{expected}`")]
    OtherVersion { file: String, found: String, expected: String },
    #[error("{file} is for `{found}`, the file name says `{expected}`")]
    Tags { file: String, found: String, expected: String },
    #[error("unsupported Wheel-Version: only 1.x is known")]
    Version,
    #[error(transparent)]
    Record(#[from] record::RecordError),
    #[error("RECORD does not list {0}")]
    Unlisted(TreePath),
    #[error("RECORD lists {0}, which is not there")]
    Absent(String),
    #[error("RECORD gives {path} no SHA-256")]
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

impl WheelError {
    /// The rule that a spec may waive.
    pub fn waivable(&self) -> Option<WheelRule> {
        match self {
            Self::Zip(error) => error.waivable(),
            Self::OtherVersion { .. } => Some(WheelRule::Version),
            Self::Tags { .. } => Some(WheelRule::Tags),
            Self::Record(record::RecordError::Hash { .. }) | Self::Unhashed { .. } => {
                Some(WheelRule::RecordHash)
            }
            Self::Unlisted(_) => Some(WheelRule::RecordUnlisted),
            Self::Absent(_) => Some(WheelRule::RecordAbsent),
            Self::Hash { .. } | Self::Size { .. } => Some(WheelRule::RecordMismatch),
            _ => None,
        }
    }
}
