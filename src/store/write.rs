//! Putting content into the store: temporary file, hash, synchronise, rename.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tempfile::NamedTempFile;

use crate::digest::{Digest, Hasher, Mismatch};
use crate::scratch;

use super::{Store, StoreError, layout};

/// After so many bytes written their way to the disk is begun, so that the wait at the end is short.
const WRITEBACK: u64 = 64 << 20;

impl Store {
    /// Puts a small blob; one that is there already is verified instead.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        match self.get(&digest) {
            Ok(_) => return Ok(digest),
            Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut file = self.temporary()?;
        let path = file.path().to_owned();
        file.write_all(bytes).map_err(|source| StoreError::Write { path, source })?;
        self.install(file.as_file(), file.path(), &digest)?;
        Ok(digest)
    }

    /// A place to write a blob of any size to.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let file = self.temporary()?;
        Ok(BlobWriter { store: self.clone(), file, hasher: Hasher::new(), writeback: Writeback::default() })
    }

    /// A file in `tmp/`, removed when it is dropped.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        let directory = self.scratch_dir();
        scratch::create(&directory, 0o600).map_err(|source| StoreError::Write { path: directory, source })
    }

    /// Gives the file at `from`, whose bytes the caller has hashed, its name among the blobs.
    pub(super) fn install(&self, file: &File, from: &Path, digest: &Digest) -> Result<(), StoreError> {
        let to = self.path(digest);
        let failed = |source| StoreError::Write { path: to.clone(), source };
        set_mode(file, 0o444).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let shard = to.parent().expect("a blob's path has a parent");
        if !shard.is_dir() {
            fs::create_dir_all(shard).map_err(failed)?;
            sync_directory(&self.root().join(layout::BLOBS)).map_err(failed)?;
        }
        fs::rename(from, &to).map_err(failed)?;
        sync_directory(shard).map_err(failed)?;
        self.set_verified(digest);
        Ok(())
    }

    /// Writes a record under its name at once. `durable`: also through a power failure, for what cannot be remade.
    pub(super) fn write_record(&self, to: &Path, parts: &[&[u8]], durable: bool) -> Result<(), StoreError> {
        let failed = |source| StoreError::Write { path: to.to_owned(), source };
        let mut file = self.temporary()?;
        for part in parts {
            file.write_all(part).map_err(failed)?;
        }
        set_mode(file.as_file(), 0o644).map_err(failed)?;
        let directory = to.parent().expect("a record's path has a parent");
        if durable {
            file.as_file().sync_all().map_err(failed)?;
        }
        if !directory.is_dir() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        file.persist(to).map_err(|error| failed(error.error))?;
        if durable {
            sync_directory(directory).map_err(failed)?;
        }
        Ok(())
    }
}

/// Writes a blob, hashing on the way. Dropped without [`BlobWriter::commit`] it leaves nothing.
pub struct BlobWriter {
    store: Store,
    file: NamedTempFile,
    hasher: Hasher,
    writeback: Writeback,
}

impl BlobWriter {
    /// Puts what was written into the store, if it is what is expected.
    pub fn commit(mut self, expected: Option<(Digest, u64)>) -> Result<(Digest, u64), StoreError> {
        let path = self.file.path().to_owned();
        let (size, digest) = (self.hasher.bytes(), self.hasher.finish());
        if let Some((expected, expected_size)) = expected
            && (expected, expected_size) != (digest, size)
        {
            let mismatch = Mismatch { expected, expected_size, actual: digest, actual_size: size };
            return Err(StoreError::Mismatch(mismatch));
        }
        self.writeback.finish().map_err(|source| StoreError::Write { path: path.clone(), source })?;
        self.store.install(self.file.as_file(), &path, &digest)?;
        Ok((digest, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let failed = |source| StoreError::Write { path: self.file.path().to_owned(), source };
        let written = self.file.as_file().write(bytes).map_err(failed)?;
        self.hasher.update(&bytes[..written]);
        self.writeback.wrote(self.file.as_file(), written).map_err(failed)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a growing file to the disk while it grows, beside its writer.
#[derive(Default)]
pub(crate) struct Writeback {
    waiting: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Writeback {
    /// To be called after each write of `bytes`.
    pub(crate) fn wrote(&mut self, file: &File, bytes: usize) -> io::Result<()> {
        self.waiting += bytes as u64;
        if self.waiting < WRITEBACK || self.running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        self.finish()?;
        self.waiting = 0;
        let file = file.try_clone()?;
        let thread = std::thread::Builder::new().name("write-back".to_owned());
        self.running = Some(thread.spawn(move || file.sync_data())?);
        Ok(())
    }

    /// Waits for what is under way. The system tells a failed write to one synchronisation only, so its answer counts.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match self.running.take() {
            Some(thread) => thread.join().unwrap_or_else(|_| Err(io::Error::other("write-back failed"))),
            None => Ok(()),
        }
    }
}

/// Modes protect from mistakes; a file system that has none, or other ones, can hold a store all the same.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    match file.set_permissions(Permissions::from_mode(mode)) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        done => done,
    }
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A file that is gone already counts as removed.
pub(super) fn remove(path: PathBuf) -> Result<(), StoreError> {
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Remove { path, source }),
        _ => Ok(()),
    }
}
