//! What the layers below have, for the parents that a layer does not mention and the files that it links to.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::place::open_directory;
use super::tar::{Attributes, Time};

/// What stands at a path of the layers below, seen as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Directory(Attributes),
    /// A symbolic link, and where to.
    Link(Vec<u8>),
    /// A regular file.
    File,
    Other,
}

/// Bytes of all names, or of one value. linux/limits.h: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`
const XATTRS_MAX: usize = 64 << 10;

/// The layers below the one that is unpacked.
pub trait Below: Send + Sync {
    /// `path` is relative to the root, and each directory above it is one here too.
    fn look(&self, path: &[u8]) -> io::Result<Seen>;

    /// The regular file at `path`, to be read, and what it has; none if there is something else now.
    fn open(&self, path: &[u8]) -> io::Result<Option<(File, Attributes)>>;

    /// Whether what it says of missing parents and of files is the last word.
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

    fn open(&self, _: &[u8]) -> io::Result<Option<(File, Attributes)>> {
        Ok(None)
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

    fn open(&self, path: &[u8]) -> io::Result<Option<(File, Attributes)>> {
        for tree in self.0.iter().rev() {
            match look_in(tree, path)? {
                None => {}
                Some(Seen::File) => return open_in(tree, path),
                Some(_) => break,
            }
        }
        Ok(None)
    }
}

/// None: it is for those further below to say.
fn look_in(tree: &Path, path: &[u8]) -> io::Result<Option<Seen>> {
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
            FileType::Directory => Seen::Directory(attributes(&stat)),
            FileType::RegularFile => Seen::File,
            FileType::Symlink => Seen::Link(readlinkat(&directory, part, Vec::new())?.into_bytes()),
            FileType::CharacterDevice if stat.st_rdev == 0 => Seen::Nothing,
            _ => Seen::Other,
        }));
    }
    Ok(None)
}

/// Extended attributes not included.
fn attributes(stat: &Stat) -> Attributes {
    Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        time: Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
        xattrs: Vec::new(),
    }
}

fn open_in(tree: &Path, path: &[u8]) -> io::Result<Option<(File, Attributes)>> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let above = open_directory(File::open(tree)?, &path[..slash.unwrap_or(0)])?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&above, &path[slash.map_or(0, |at| at + 1)..], flags, Mode::empty())?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let attributes = Attributes { xattrs: extended(&file)?, ..attributes(&stat) };
    Ok(Some((file.into(), attributes)))
}

/// Those that an unpacked file may have: see the module.
fn extended(file: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; XATTRS_MAX];
    let length = match flistxattr(file, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    let ours = names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    ours.map(|name| {
        let mut value = vec![0; XATTRS_MAX];
        let length = fgetxattr(file, name, &mut value[..])?;
        value.truncate(length);
        Ok((name.to_vec(), value))
    })
    .collect()
}

pub(super) fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 2];
    matches!(fgetxattr(directory, super::writer::OPAQUE, &mut value[..]), Ok(1) if value[0] == b'y')
}
