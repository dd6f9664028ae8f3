//! The store: what mlbuild keeps on this machine between runs, shared by all its processes.
//!
//! ```text
//! $MLBUILD_HOME | $XDG_CACHE_HOME/mlbuild | ~/.cache/mlbuild      (mode 0700: records are trusted)
//! ├── version                      the layout's number, [`STORE_VERSION`]; a newer one is refused
//! ├── CACHEDIR.TAG                 backups leave the directory out
//! ├── lock                         flock: shared by every open store, exclusive to remove what nothing reaches
//! ├── blobs/sha256/ab/<64 hex>     wheels, .debs, archives, configs, manifests; named by their SHA-256, mode 0444
//! ├── layers/<64 hex>              by key: facts of a layer and its recipe (see `layers`)
//! ├── layer-digests/<64 hex>       by the layer's digest: its key
//! ├── images/<64 hex>.json         by SHA-256 of the reference: what `images` lists (see `images`)
//! ├── memo/ab/<64 hex>             small derived facts by key; may vanish at any time
//! ├── trees/<64 hex>/              by diff ID: an unpacked layer, for runs to mount (see `trees`)
//! ├── partial/<name>               downloads under way or cut; whoever writes one holds its flock
//! ├── tmp/                         files before their rename; whoever writes one holds its flock
//! ├── corrupt/<64 hex>             blobs that were not what their name says, moved away
//! ├── runs/<name>/                 what runs have written and their users keep (see `runs`)
//! └── index/                       the resolver's cache
//! ```
//!
//! Names of images are hashed because two references may differ in case only, which some file systems cannot tell
//! apart.
//!
//! **Concurrency.** Any number of processes and threads use a store at once. A file appears under its name by one
//! `rename`, complete, or not at all; two that put the same content replace equal bytes by equal bytes. Removing holds
//! the exclusive lock, so nothing vanishes under a running build.
//!
//! **Trust.** [`BlobSource::open`] hashes a blob once per process and digest; what this process wrote itself counts as
//! verified. Records carry a checksum of their own; one that fails it is as good as absent.
//!
//! **Killed at any moment** it needs no repair: blobs and images are synchronised before their rename; records and
//! memos are not, their checksum finds a torn one and it is made again; files in `tmp/` that no process has locked are
//! removed by the next [`Store::open`]; an unpacked layer that may not have been on the disk at the end of its boot is made
//! again; a partial download is hashed again before it goes on. A layer counts as formed
//! when both of its records are there.
//!
//! **Read-only**, because of its file system or its permissions, it serves whatever needs nothing new.

mod error;
pub mod gc;
mod images;
mod layers;
mod layout;
mod memo;
mod partial;
mod runs;
mod stacks;
mod tree_record;
mod trees;
pub mod verify;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use crate::blob::{BlobSource, FileBlob, RangeReader, ReadAt};
use crate::digest::{Digest, hash_reader};
use crate::scratch;

pub use error::{StoreError, behind, corrupt_blob};
pub use images::{ImageRecord, MadeFrom};
pub use layers::{LayerFacts, LayerRecord, LayerSource};
pub use layout::{STORE_VERSION, home};
pub(crate) use partial::Partial;
pub use runs::{KeepError, KeptRun};
pub use stacks::Stack;
pub use tree_record::TreeRecord;
pub use trees::{Claim, TreeWriter, Trees, chain_of};
pub use write::BlobWriter;
pub(crate) use write::Writeback;

/// A blob's time of last use is written at most once in this time, so that reading stays reading.
const TOUCH_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How often an open that waits for a prune looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An open store. Cheap to clone; the shared lock is held until the last clone is dropped.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    root: PathBuf,
    lock: File,
    /// Set when waiting and hashing are to end.
    stop: Arc<AtomicBool>,
    /// Per digest, whether this process has verified it; the inner mutex makes concurrent users wait for one hashing.
    verified: Mutex<BTreeMap<Digest, Arc<Mutex<bool>>>>,
    /// Trees of this boot that this process has seen and that need not be on the disk yet.
    unsynced: Mutex<BTreeSet<Digest>>,
    boot: OnceLock<Option<String>>,
}

impl Store {
    /// Opens the store at `home`, making it if it is not there. Waits while another process prunes it.
    pub fn open(home: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_or_wait(home, &Arc::default(), &mut || {})
    }

    /// As [`Store::open`]; `waiting` is called once if another process has the store for itself. Waiting for it, and
    /// hashing later, end with an error once `stop` is set.
    pub fn open_or_wait(
        home: impl Into<PathBuf>,
        stop: &Arc<AtomicBool>,
        waiting: &mut dyn FnMut(),
    ) -> Result<Self, StoreError> {
        let root = home.into();
        let lock = layout::prepare(&root)?;
        let mut waits = false;
        loop {
            match lock.try_lock_shared() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if !waits => {
                    waits = true;
                    waiting();
                }
                Err(TryLockError::WouldBlock) if stop.load(Ordering::Relaxed) => {
                    return Err(StoreError::Stopped);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
                // A file system without locks (some network ones) can be used, but not pruned.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => break,
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::Lock { path: root.join(layout::LOCK), source });
                }
            }
        }
        let (verified, unsynced) = (Mutex::default(), Mutex::default());
        let store = Self(Arc::new(Inner {
            root,
            lock,
            stop: Arc::clone(stop),
            verified,
            unsynced,
            boot: OnceLock::new(),
        }));
        scratch::sweep(&store.scratch_dir(), |_| true);
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The directory of the resolver's cache.
    pub fn index_dir(&self) -> PathBuf {
        self.0.root.join(layout::INDEX)
    }

    /// Where files are written that are not to stay, on the disk of the store.
    pub fn scratch_dir(&self) -> PathBuf {
        self.0.root.join(layout::TMP)
    }

    /// Where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        layout::blob_path(&self.0.root, digest)
    }

    /// Whether there is a blob of that name; its bytes are not looked at.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The length of a blob, if it is there.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.path(digest).metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// The blob, verified; [`StoreError::Corrupt`] moves it out of the way, so that it can be fetched again.
    pub fn get(&self, digest: &Digest) -> Result<StoredBlob, StoreError> {
        let blob = self.open_trusted(digest)?;
        let entry = self.entry(digest);
        let mut verified = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if !*verified {
            let bytes = Stoppable { bytes: RangeReader::all(&blob), stop: &self.0.stop };
            let hashed = hash_reader(bytes);
            let path = || blob.path.clone();
            let (actual, _) = hashed.map_err(|source| StoreError::Read { path: path(), source })?;
            if actual != *digest {
                return Err(match self.move_away(&blob.path, digest) {
                    Ok(()) => StoreError::Corrupt { digest: *digest, actual },
                    Err(source) => StoreError::Stuck { digest: *digest, actual, path: path(), source },
                });
            }
            *verified = true;
        }
        Ok(blob)
    }

    /// Blobs as they lie on disk, for a caller as [`Store::open_trusted`] wants it.
    pub fn trusted(&self) -> TrustedBlobs {
        TrustedBlobs(self.clone())
    }

    /// Whether this process has verified the blob, or written it.
    pub fn is_verified(&self, digest: &Digest) -> bool {
        *self.entry(digest).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blob as it lies on disk, unverified: only for a caller that proves what it makes of these bytes by another
    /// digest (a layer streamed to a registry under its own, known digest).
    pub fn open_trusted(&self, digest: &Digest) -> Result<StoredBlob, StoreError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: *digest });
            }
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        touch(&file);
        match FileBlob::new(file) {
            Ok(file) => Ok(StoredBlob { file, path }),
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    fn entry(&self, digest: &Digest) -> Arc<Mutex<bool>> {
        let mut verified = self.0.verified.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(verified.entry(*digest).or_default())
    }

    /// The caller has hashed the blob as [`Store::open_trusted`] gave it.
    pub fn set_verified(&self, digest: &Digest) {
        *self.entry(digest).lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn move_away(&self, path: &Path, digest: &Digest) -> io::Result<()> {
        match std::fs::rename(path, self.0.root.join(layout::CORRUPT).join(digest.hex())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // Another process may have moved it first.
            _ => Ok(()),
        }
    }
}

impl BlobSource for Store {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(self.get(digest)?))
    }
}

/// Blobs as they lie on disk: see [`Store::open_trusted`].
#[derive(Clone)]
pub struct TrustedBlobs(Store);

impl BlobSource for TrustedBlobs {
    fn open(&self, digest: &Digest) -> io::Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(self.0.open_trusted(digest)?))
    }
}

/// A blob of the store, whose errors say where it lies: a disk that fails is to be found.
pub struct StoredBlob {
    file: FileBlob,
    path: PathBuf,
}

impl ReadAt for StoredBlob {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let failed = |source| io::Error::from(StoreError::Read { path: self.path.clone(), source });
        self.file.read_exact_at(buffer, offset).map_err(failed)
    }
}

/// Bytes that cannot be read any more once the work is to stop.
struct Stoppable<'a> {
    bytes: RangeReader<'a>,
    stop: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other("stopped")),
            false => self.bytes.read(buffer),
        }
    }
}

/// Notes that a file was used, for pruning by age. A store of another user cannot be marked, which is no matter.
#[expect(clippy::disallowed_methods, reason = "the time of last use is for pruning by age, not for content")]
fn touch(file: &File) {
    let now = SystemTime::now();
    let old = |modified| now.duration_since(modified).is_ok_and(|age| age > TOUCH_AFTER);
    if file.metadata().and_then(|metadata| metadata.modified()).is_ok_and(old) {
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests;
