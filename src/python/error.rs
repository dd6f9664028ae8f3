//! Why a release or an archive was refused.

use std::io;

use crate::debian::tarfile::TarError;
use crate::tree::PathError;

#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    #[error("`{0}` is not a Python version: expected two or three numbers such as `3.12` or `3.12.8`")]
    Version(String),
    #[error("latest-release.json is not understood")]
    Latest(#[source] serde_json::Error),
    #[error("SHA256SUMS line {line} is not a digest and a file name")]
    Sums { line: usize },
    #[error("`{0}` is not the name of an install_only_stripped archive")]
    Name(String),
    #[error("the archive is neither gzip nor zstd")]
    Codec,
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("cannot keep the archive's files")]
    Spill(#[source] io::Error),
    #[error(transparent)]
    Tar(TarError),
    #[error("entry {path:?} {rule}")]
    Entry { path: String, rule: &'static str },
    #[error("the archive")]
    Path(#[from] PathError),
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the archive has more than {limit} entries")]
    TooMany { limit: usize },
    #[error("the archive is a `full` one: the `install_only_stripped` one is wanted")]
    Full,
    #[error("the archive is no Python for {wanted}: {what}")]
    Unfit { wanted: String, what: String },
}
