//! What the layers below have, for the parents that a layer does not mention.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fgetxattr, openat, readlinkat, statat};
use rustix::io::Errno;

use super::tar::{Attributes, Time};

/// What stands at a path of the layers below, seen as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Directory(Attributes),
    /// A symbolic link, and where to.
    Link(Vec<u8>),
    Other,
}

/// The layers below the one that is unpacked.
pub trait Below: Send + Sync {
    /// `path` is relative to the root, and each directory above it is one here too.
    fn look(&self, path: &[u8]) -> io::Result<Seen>;

    /// Whether what it says of missing parents is the last word.
    fn decides(&self) -> bool {
        true
    }
}

/// Nothing is known of them.
pub struct Nothing;

impl Below for Nothing {
    fn look(&self, _: &[u8]) -> io::Result<Seen> {
        Ok(Seen::Nothing)
    }

    fn decides(&self) -> bool {
        false
    }
}

/// Unpacked trees, the lowest first.
pub struct Stack(pub Vec<PathBuf>);

impl Below for Stack {
    fn look(&self, path: &[u8]) -> io::Result<Seen> {
        for tree in self.0.iter().rev() {
            if let Some(seen) = look_in(tree, path)? {
                return Ok(seen);
            }
        }
        Ok(Seen::Nothing)
    }
}

/// None: it is for those further below to say.
fn look_in(tree: &std::path::Path, path: &[u8]) -> io::Result<Option<Seen>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = rustix::fs::open(tree, flags, Mode::empty())?;
    let mut opaque = false;
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let stat = match statat(&directory, part, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(opaque.then_some(Seen::Nothing)),
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if parts.peek().is_some() {
            if kind != FileType::Directory {
                return Ok(Some(Seen::Nothing));
            }
            directory = openat(&directory, part, flags, Mode::empty())?;
            opaque |= is_opaque(&directory);
            continue;
        }
        return Ok(Some(match kind {
            FileType::Directory => Seen::Directory(Attributes {
                mode: stat.st_mode & 0o7777,
                uid: stat.st_uid,
                gid: stat.st_gid,
                time: Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
                xattrs: Vec::new(),
            }),
            FileType::Symlink => Seen::Link(readlinkat(&directory, part, Vec::new())?.into_bytes()),
            FileType::CharacterDevice if stat.st_rdev == 0 => Seen::Nothing,
            _ => Seen::Other,
        }));
    }
    Ok(None)
}

pub(super) fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 2];
    matches!(fgetxattr(directory, super::writer::OPAQUE, &mut value[..]), Ok(1) if value[0] == b'y')
}
