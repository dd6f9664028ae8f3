//! What runs have written and their users keep: `runs/<name>/` with `upper` and `work`, as overlayfs wants them, and
//! `image`, the manifest that it was written upon. Never pruned: nobody else has it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::digest::Digest;

use super::{Store, StoreError, layout};

const IMAGE: &str = "image";
const UPPER: &str = "upper";
const WORK: &str = "work";

/// A directory of one run, this process's own until it is dropped.
pub struct KeptRun {
    path: PathBuf,
    /// Its flock is ours.
    _lock: File,
}

/// Why what was kept cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("another run of the name `{0}` is under way")]
    Busy(String),
    #[error("what is kept under the name `{name}` was written upon another image, {image}")]
    OtherImage { name: String, image: String, path: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Where what is kept under that name is, or would be. The name is one part of a path, which
    /// [`launch::plan`](crate::launch::plan) checks.
    pub fn kept_path(&self, name: &str) -> PathBuf {
        self.root().join(layout::RUNS).join(name)
    }

    /// The directory of that name, made if it is not there: its owner's alone, for a program may have made set-user-ID files.
    pub fn keep_run(&self, name: &str, image: &Digest) -> Result<KeptRun, KeepError> {
        let path = self.kept_path(name);
        let failed = |source| StoreError::Write { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        for directory in [path.join(UPPER), path.join(WORK)] {
            DirBuilder::new().recursive(true).mode(0o755).create(&directory).map_err(failed)?;
        }
        let at = path.join("lock");
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&at);
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(KeepError::Busy(name.to_owned())),
            Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(fs::TryLockError::Error(source)) => return Err(StoreError::Lock { path: at, source }.into()),
        }
        let mark = path.join(IMAGE);
        match fs::read_to_string(&mark) {
            Ok(found) if found.trim() == image.to_string() => {}
            Ok(found) => {
                let image = found.trim().chars().take(80).collect();
                return Err(KeepError::OtherImage { name: name.to_owned(), image, path });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::write(&mark, format!("{image}\n")).map_err(failed)?;
            }
            Err(source) => return Err(StoreError::Read { path: mark, source }.into()),
        }
        Ok(KeptRun { path, _lock: lock })
    }
}

impl KeptRun {
    /// With `upper` and `work` in it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for KeptRun {
    fn drop(&mut self) {
        // overlayfs leaves a directory there that its owner could not even remove.
        let _ = fs::set_permissions(self.path.join(WORK).join("work"), Permissions::from_mode(0o700));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    #[test]
    fn a_name_belongs_to_one_image_and_one_run() {
        let (_directory, store) = store();
        let (one, other) = (Digest::of("one"), Digest::of("other"));
        let kept = store.keep_run("mine", &one).unwrap();
        assert!(kept.path().join("upper").is_dir() && kept.path().join("work").is_dir());
        assert!(matches!(store.keep_run("mine", &one), Err(KeepError::Busy(_))));
        drop(kept);
        fs::write(store.root().join("runs/mine/upper/file"), "x").unwrap();
        assert!(matches!(store.keep_run("mine", &other), Err(KeepError::OtherImage { .. })));
        let kept = store.keep_run("mine", &one).unwrap();
        assert!(kept.path().join("upper/file").exists());
        assert!(store.keep_run("yours", &other).is_ok());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([kept.path(), &kept.path().join("upper")].map(mode), [0o700, 0o755]);
    }
}
