//! A directory of the project, held open while it is looked at.
//!
//! Between two looks at one path, whoever may write to the project can put a symlink in a directory's place, and the
//! second look lands outside. So a directory is opened one name at a time from the project's root, never through a
//! symlink, and everything in it is looked at through the open directory. None is kept open once it has been listed: a
//! directory below is opened later by its path, and must be the one that was listed ([`Id`]).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::file::{Changed, is_swapped};

/// What tells a directory from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    device: i128,
    inode: i128,
}

impl Id {
    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev.into(), inode: stat.st_ino.into() }
    }
}

/// An open directory.
pub(super) struct Place(OwnedFd);

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Place {
    /// The directory at `path`, which is canonical.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, DIRECTORY, Mode::empty())?))
    }

    /// The directory at `path` if it is still the one that was listed as `id`.
    pub(super) fn again(path: &Path, id: Id) -> io::Result<Self> {
        let changed = || io::Error::other(Changed(path.to_owned()));
        let place = match Self::open(path) {
            Ok(place) => place,
            Err(error) if is_swapped(&error) => return Err(changed()),
            Err(error) => return Err(error),
        };
        if Id::of(&rustix::fs::fstat(&place.0)?) == id { Ok(place) } else { Err(changed()) }
    }

    /// The directory `below`, whose path has no symlink.
    pub(super) fn descend(self, below: &Path) -> io::Result<Self> {
        below.iter().try_fold(self, |place, name| {
            let opened = rustix::fs::openat(&place.0, name, DIRECTORY, Mode::empty());
            opened.map(Self).map_err(|error| match io::Error::from(error) {
                error if is_swapped(&error) => io::Error::other(Changed(below.to_owned())),
                error => error,
            })
        })
    }

    /// Names in it, in the order of their bytes.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        Ok(names)
    }

    /// What `name` is; of a symlink, itself.
    pub(super) fn stat(&self, name: &OsStr) -> io::Result<rustix::fs::Stat> {
        Ok(rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Where the symlink `name` leads.
    pub(super) fn link(&self, name: &OsStr) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&self.0, name, Vec::new())?;
        Ok(OsStr::from_bytes(target.to_bytes()).to_owned())
    }

    /// Opens `name` for reading, unless it is a symlink; never waits for the writer of a FIFO.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, Mode::empty())?))
    }
}
