//! A download that is not complete yet: a file that outlives its process, with one writer at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

use super::{Store, StoreError, layout};

/// Held by one writer through the file's flock, which ends with the last handle even if the process is killed. Dropped
/// before anything was written it leaves no file.
pub(crate) struct Partial {
    store: Store,
    file: File,
    path: PathBuf,
    /// The path is no longer this file's.
    gone: bool,
}

impl Store {
    /// The partial download of that name, whatever it holds so far; none while another writer has it.
    pub(crate) fn partial(&self, name: &str) -> Result<Option<Partial>, StoreError> {
        let path = self.root().join(layout::PARTIAL).join(name);
        let failed = |source| StoreError::Write { path: path.clone(), source };
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // The last writer may have renamed or removed it between the opening and the lock.
            let same = |there: fs::Metadata| {
                file.metadata().is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
            };
            if fs::metadata(&path).is_ok_and(same) {
                return Ok(Some(Partial { store: self.clone(), file, path, gone: false }));
            }
        }
    }
}

impl Partial {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The download is complete and its bytes are `digest`, as the caller has found by hashing them.
    pub(crate) fn install(mut self, digest: &Digest) -> Result<(), StoreError> {
        self.gone = true;
        self.store.install(&self.file, &self.path, digest)
    }

    /// Throws the bytes away.
    pub(crate) fn remove(mut self) -> Result<(), StoreError> {
        self.gone = true;
        super::write::remove(self.path.clone())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.gone && self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // With the lock held, so that it is nobody else's.
            let _ = fs::remove_file(&self.path);
        }
    }
}
