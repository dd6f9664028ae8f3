//! Where things lie in the store, and which version of the layout that is.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::scratch;

use super::StoreError;
use super::error::is_read_only;

/// The layout's number. Changing what a path or a file means takes a new one.
pub const STORE_VERSION: u32 = 1;

pub(super) const LOCK: &str = "lock";
pub(super) const BLOBS: &str = "blobs/sha256";
pub(super) const LAYERS: &str = "layers";
pub(super) const LAYER_DIGESTS: &str = "layer-digests";
pub(super) const IMAGES: &str = "images";
pub(super) const MEMO: &str = "memo";
pub(super) const TREES: &str = "trees";
pub(super) const PARTIAL: &str = "partial";
pub(super) const TMP: &str = "tmp";
pub(super) const CORRUPT: &str = "corrupt";
pub(super) const RUNS: &str = "runs";
pub(super) const INDEX: &str = "index";
const VERSION: &str = "version";

/// The first line is fixed by the Cache Directory Tagging Specification.
const CACHEDIR_TAG: &str =
    "Signature: 8a477f597d28d172789f06886806bc55\n# This directory is mlbuild's store.\n";

/// Where the store is, by the environment: `MLBUILD_HOME`, `XDG_CACHE_HOME/mlbuild`, `HOME/.cache/mlbuild`.
/// `MLBUILD_HOME` may be relative to the working directory; the other two must be absolute to count (XDG's rule).
pub fn home(env: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, StoreError> {
    if let Some(home) = env("MLBUILD_HOME").filter(|home| !home.is_empty()) {
        return Ok(home.into());
    }
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(cache) = absolute("XDG_CACHE_HOME") {
        return Ok(cache.join("mlbuild"));
    }
    absolute("HOME").map(|home| home.join(".cache/mlbuild")).ok_or(StoreError::Home)
}

pub(super) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    root.join(BLOBS).join(&hex[..2]).join(hex)
}

/// Makes what is missing, refuses a newer layout, and returns the lock file, not yet locked.
pub(super) fn prepare(root: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Create { path: root.to_owned(), source };
    let version = root.join(VERSION);
    match read_small(&version) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(STORE_VERSION) => {}
            _ => {
                let found = text.trim().chars().take(40).collect();
                return Err(StoreError::Version { path: root.to_owned(), found });
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(root).map_err(failed)?,
        Err(source) => return Err(StoreError::Read { path: version, source }),
    }
    let path = root.join(LOCK);
    match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
        Ok(lock) => {
            // A directory that somebody has emptied by hand is no reason to fail.
            directories(root).map_err(failed)?;
            Ok(lock)
        }
        // Reading a store takes the same lock, for which a file need not be open for writing.
        Err(error) if is_read_only(&error) => {
            File::open(&path).map_err(|source| StoreError::Lock { path, source })
        }
        Err(source) => Err(StoreError::Write { path, source }),
    }
}

fn make(root: &Path) -> io::Result<()> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent)?;
    }
    DirBuilder::new().mode(0o700).recursive(true).create(root)?;
    directories(root)?;
    fs::write(root.join("CACHEDIR.TAG"), CACHEDIR_TAG)?;
    // Last, and by rename, on the disk before it: a version stands for a whole layout.
    let mut file = scratch::create(&root.join(TMP), 0o644)?;
    writeln!(file, "{STORE_VERSION}")?;
    file.as_file().sync_all()?;
    file.persist(root.join(VERSION))?;
    File::open(root)?.sync_all()
}

fn directories(root: &Path) -> io::Result<()> {
    for name in [BLOBS, LAYERS, LAYER_DIGESTS, IMAGES, MEMO, TREES, PARTIAL, TMP, CORRUPT, INDEX] {
        let directory = root.join(name);
        if !directory.is_dir() {
            fs::create_dir_all(directory)?;
        }
    }
    Ok(())
}

/// The text of a file of some bytes; of a larger one, its beginning.
pub(super) fn read_small(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(256);
    File::open(path)?.take(200).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_where() {
        let at = |vars: &[(&str, &str)]| {
            home(&|name| vars.iter().find(|(var, _)| *var == name).map(|(_, value)| value.into()))
                .ok()
                .map(|path| path.to_str().unwrap().to_owned())
        };
        for (vars, expected) in [
            (&[("MLBUILD_HOME", "/m"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")][..], Some("/m")),
            (&[("MLBUILD_HOME", "m"), ("HOME", "/h")], Some("m")),
            (&[("MLBUILD_HOME", ""), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/x/mlbuild")),
            (&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")], Some("/h/.cache/mlbuild")),
            (&[("HOME", "h")], None),
            (&[], None),
        ] {
            assert_eq!(at(vars).as_deref(), expected, "{vars:?}");
        }
    }

    #[test]
    fn newer_or_unreadable_layouts_are_refused() {
        for version in ["2\n", "999999999999", "", "one"] {
            let home = tempfile::tempdir().unwrap();
            fs::write(home.path().join(VERSION), version).unwrap();
            let error = prepare(home.path()).unwrap_err();
            assert!(matches!(error, StoreError::Version { .. }), "{version:?}: {error}");
        }
    }
}
