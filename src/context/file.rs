//! A file of the project that is opened when it is read, and must still be the one that was seen.
//!
//! A context may have more files than a process may have open, so none is kept open: each read opens the file,
//! compares it with what the walk saw (device, inode, size, times of change), reads, and compares again. A file that
//! is written to while the image is made would otherwise give a digest that nobody can reproduce.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{OFlags, Stat};

use crate::blob::ReadAt;
use crate::tree::Content;

/// Files up to this many bytes are read at once, as long as the budget lasts.
const SMALL: u64 = 16 * 1024;
/// All small files together, in bytes: bounds the memory that a context takes.
const SMALL_TOTAL: u64 = 32 * 1024 * 1024;

/// How many bytes of small files may still be kept in memory.
pub(super) struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(SMALL_TOTAL)
    }
}

#[cfg(test)]
impl Budget {
    pub(super) fn exhausted() -> Self {
        Self(0)
    }
}

/// The file at `path` changed after it was found.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} changed while it was read")]
pub struct Changed(pub PathBuf);

impl Changed {
    /// The change that is behind `error`, whoever was reading.
    pub fn behind<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
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
}

/// A file's content: its bytes when it is small, else a [`LateFile`].
pub(super) fn content(path: &Path, seen: &Stat, budget: &mut Budget) -> io::Result<Content> {
    let file = LateFile { path: path.to_owned(), seen: Identity::of(seen) };
    let size = file.size();
    if size <= SMALL && size <= budget.0 {
        budget.0 -= size;
        return Ok(Content::bytes(file.read_vec_at(0, size as usize)?));
    }
    Ok(Content::Slice { from: Arc::new(file), offset: 0, size })
}

/// What tells a file from another one and from itself after a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    // Wide enough for every platform's types.
    device: i128,
    inode: i128,
    size: u64,
    modified: (i128, i128),
    changed: (i128, i128),
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
            size: stat.st_size.try_into().unwrap_or(0),
            modified: (stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            changed: (stat.st_ctime.into(), stat.st_ctime_nsec.into()),
        }
    }
}

struct LateFile {
    path: PathBuf,
    seen: Identity,
}

impl LateFile {
    /// Never waits for the writer of a FIFO that took the file's place, never follows a symlink that did.
    fn open(&self) -> io::Result<File> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(&self.path).map_err(
            |error| match is_swapped(&error) {
                true => self.changed(),
                false => io::Error::new(error.kind(), format!("cannot open {:?}: {error}", self.path)),
            },
        )?;
        self.compare(&file)?;
        Ok(file)
    }

    fn compare(&self, file: &File) -> io::Result<()> {
        if Identity::of(&rustix::fs::fstat(file)?) == self.seen { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> io::Error {
        io::Error::other(Changed(self.path.clone()))
    }
}

impl ReadAt for LateFile {
    fn size(&self) -> u64 {
        self.seen.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let file = self.open()?;
        let read = file.read_exact_at(buffer, offset);
        self.compare(&file)?;
        read
    }
}

/// What opening says where a symlink, a socket, nothing, or a file above stands by now.
pub(super) fn is_swapped(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::LOOP | Errno::NOTDIR | Errno::NOENT | Errno::NXIO))
}
