//! What can go wrong with the store, and how a corrupt blob is recognised inside another module's error.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::digest::{Digest, Mismatch};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no place for the store: neither MLBUILD_HOME nor XDG_CACHE_HOME nor HOME is an absolute path")]
    Home,
    #[error("cannot make the store at {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error(
        "the store at {} has layout {found}; this mlbuild knows up to {}",
        path.display(), super::STORE_VERSION
    )]
    Version { path: PathBuf, found: String },
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("the store has no blob {digest}")]
    Missing { digest: Digest },
    #[error("the stored blob {digest} is damaged: its bytes are {actual}; it was moved away")]
    Corrupt { digest: Digest, actual: Digest },
    #[error(
        "the stored blob {digest} is damaged: its bytes are {actual}; {} cannot be moved away", path.display()
    )]
    Stuck { digest: Digest, actual: Digest, path: PathBuf, source: io::Error },
    #[error("content is not what was promised")]
    Mismatch(#[source] Mismatch),
    #[error("a record for {name} does not fit: {rule}")]
    Record { name: String, rule: &'static str },
    #[error("stopped while another mlbuild has the store for itself")]
    Stopped,
}

impl StoreError {
    /// The store, or the file system that it lies on, cannot be written to by this user.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Create { source, .. } | Self::Write { source, .. } | Self::Remove { source, .. } => {
                is_read_only(source)
            }
            _ => false,
        }
    }

    /// The file system is full, or the user's share of it is.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Create { source, .. } | Self::Write { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

pub(super) fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Missing { .. } => io::ErrorKind::NotFound,
            StoreError::Corrupt { .. } | StoreError::Stuck { .. } | StoreError::Mismatch(_) => {
                io::ErrorKind::InvalidData
            }
            StoreError::Create { source, .. }
            | StoreError::Lock { source, .. }
            | StoreError::Read { source, .. }
            | StoreError::Write { source, .. }
            | StoreError::Remove { source, .. } => source.kind(),
            StoreError::Home
            | StoreError::Version { .. }
            | StoreError::Record { .. }
            | StoreError::Stopped => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// The blob whose damage is behind `error`, however deep: fetch it again and repeat the work.
pub fn corrupt_blob(error: &(dyn Error + 'static)) -> Option<Digest> {
    match behind(error)? {
        StoreError::Corrupt { digest, .. } => Some(*digest),
        _ => None,
    }
}

/// The trouble with the store that is behind `error`, however deep.
pub fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a StoreError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<StoreError>() {
            // One may be inside another's reading.
            let deeper = error.source().and_then(behind);
            return Some(deeper.unwrap_or(found));
        }
        // `io::Error::source` skips the error inside.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found_through_other_errors() {
        let digest = Digest::of(b"a");
        let corrupt = || StoreError::Corrupt { digest, actual: Digest::of(b"b") };
        let wrapped = io::Error::other(io::Error::from(corrupt()));
        let outer = StoreError::Read { path: "x".into(), source: wrapped };
        assert_eq!(corrupt_blob(&outer), Some(digest));
        assert_eq!(corrupt_blob(&corrupt()), Some(digest));
        assert_eq!(corrupt_blob(&StoreError::Missing { digest }), None);
        assert_eq!(io::Error::from(StoreError::Missing { digest }).kind(), io::ErrorKind::NotFound);
    }
}
