//! Names in a directory that is held open: how they come to be, and what they are given.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, openat, openat2, utimensat,
};
use rustix::io::Errno;

use super::tar::{Attributes, Time};

/// What the system makes of a new file, and what this process may change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    uid: u32,
    gid: u32,
    /// Bits that the system takes from a mode. It belongs to the whole process and is not changed here: other threads write
    /// other files.
    umask: u32,
}

impl Process {
    pub fn current() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = umask.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok());
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            // Not known: then every mode is set.
            umask: umask.unwrap_or(0o777),
        }
    }

    /// The mode that a file or directory has when it was made with `mode`.
    pub fn made(self, mode: u32) -> u32 {
        mode & 0o777 & !self.umask
    }

    /// Owner, and true if that was set.
    fn own(
        self,
        attributes: &Attributes,
        chown: impl FnOnce(Uid, Gid) -> rustix::io::Result<()>,
    ) -> io::Result<bool> {
        let Attributes { uid, gid, .. } = *attributes;
        if self.uid != 0 || (uid, gid) == (self.uid, self.gid) {
            return Ok(false);
        }
        match chown(Uid::from_raw(uid), Gid::from_raw(gid)) {
            Ok(()) => Ok(true),
            // Root of a user namespace that has no such ID is as any user.
            Err(Errno::INVAL | Errno::PERM) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives an open file or directory that has the mode `made` what it is to have.
    pub fn finish(self, file: impl AsFd, made: u32, attributes: &Attributes) -> io::Result<()> {
        for (name, value) in &attributes.xattrs {
            set_xattr(&file, name, value)?;
        }
        let owned = self.own(attributes, |uid, gid| fchown(&file, Some(uid), Some(gid)))?;
        // A new owner takes the set-user-ID bits away; so does writing, where root is not the writer.
        if attributes.mode != made || (owned && attributes.mode & 0o7000 != 0) {
            fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
        }
        Ok(futimens(&file, &times(attributes.time))?)
    }

    /// The same for a file of [`create`].
    pub fn finish_file(self, file: &File, attributes: &Attributes) -> io::Result<()> {
        self.finish(file, self.made(first_mode(attributes)), attributes)
    }

    /// The same for a name that cannot be opened; links have no mode.
    pub fn finish_at(
        self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        mode: Option<u32>,
        attributes: &Attributes,
    ) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        self.own(attributes, |uid, gid| chownat(directory, name, Some(uid), Some(gid), flags))?;
        if let Some(mode) = mode {
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        Ok(utimensat(directory, name, &times(attributes.time), flags)?)
    }
}

pub(super) fn set_xattr(file: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(fsetxattr(file, name, value, XattrFlags::empty())?)
}

fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// A new file; `AlreadyExists` if there is anything of that name.
pub(super) fn create(directory: impl AsFd, name: &[u8], attributes: &Attributes) -> rustix::io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::from_raw_mode(first_mode(attributes))).map(File::from)
}

/// The mode that a file is created with: nearly always the one that it is to have.
fn first_mode(attributes: &Attributes) -> u32 {
    // Extended attributes can be set where the mode lets its owner write.
    let more = if attributes.xattrs.is_empty() { 0 } else { 0o200 };
    attributes.mode & 0o777 | more
}

/// The directory at `path` below `root`, with no link on the way; an empty path is the root.
pub(super) fn open_directory(root: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let whole = if path.is_empty() { &b"."[..] } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(&root, whole, flags, Mode::empty(), resolve) {
        // Linux before 5.6, and filters of containers that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(root.as_fd(), path, flags),
        opened => Ok(opened?),
    }
}

fn step_by_step(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let mut directory = openat(root, ".", flags, Mode::empty())?;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if part == b".." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        directory = openat(&directory, part, flags, Mode::empty())?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_is_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("secret")).unwrap();
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("a/b")).unwrap();
        symlink(outside.path(), tree.path().join("out")).unwrap();
        symlink("b", tree.path().join("a/in")).unwrap();
        let root = File::open(tree.path()).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (path, good) in [
            (&b""[..], true),
            (b"a/b", true),
            (b"a/in", false),
            (b"out", false),
            (b"out/secret", false),
            (b"a/../../x", false),
            (b"..", false),
            (b"missing", false),
        ] {
            assert_eq!(open_directory(&root, path).is_ok(), good, "{path:?}");
            assert_eq!(step_by_step(root.as_fd(), path, flags).is_ok(), good, "{path:?}, step by step");
        }
    }
}
