//! What a tree holds, as one digest: found while it is written, and found again by reading it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};

use super::Context;
use super::below::is_opaque;
use super::place::open_directory;
use super::tar::{Attributes, Time};
use crate::digest::{Digest, Hasher};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// What is known of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fact {
    pub kind: Kind,
    pub mode: u32,
    pub size: u64,
    pub time: Time,
    /// Of a file's content, or of where a link points.
    pub crc32: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    File = b'f',
    Directory = b'd',
    /// A directory that shows nothing of those below.
    Opaque = b'o',
    Symlink = b'l',
    Fifo = b'p',
    Whiteout = b'w',
    /// Nothing that is ever written.
    Alien = b'?',
}

impl Fact {
    pub fn file(attributes: &Attributes, size: u64, crc32: u32) -> Self {
        let Attributes { mode, time, .. } = *attributes;
        Self { kind: Kind::File, mode, size, time, crc32 }
    }

    pub fn directory(opaque: bool, mode: u32, time: Time) -> Self {
        let kind = if opaque { Kind::Opaque } else { Kind::Directory };
        Self { kind, mode, size: 0, time, crc32: 0 }
    }

    pub fn symlink(target: &[u8], time: Time) -> Self {
        let size = target.len() as u64;
        Self { kind: Kind::Symlink, mode: 0o777, size, time, crc32: crc32fast::hash(target) }
    }

    pub fn whiteout() -> Self {
        Self { kind: Kind::Whiteout, mode: 0, size: 0, time: Time::default(), crc32: 0 }
    }
}

/// By path; the root is the empty one.
pub(super) type Facts = BTreeMap<Vec<u8>, Fact>;

/// What a tree holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Names, the root not counted.
    pub entries: u64,
    /// Of all files; a file of two names counts twice.
    pub bytes: u64,
    pub content: Digest,
}

impl Survey {
    pub(super) fn of(facts: &Facts) -> Self {
        let mut hasher = Hasher::new();
        let mut bytes = 0;
        for (path, fact) in facts {
            let Fact { kind, mode, size, time, crc32 } = *fact;
            if kind == Kind::File {
                bytes += size;
            }
            hasher.update(path);
            let Time { seconds, nanos } = time;
            let line = format!("\0{} {mode:o} {size} {seconds}.{nanos:09} {crc32:08x}\n", kind as u8 as char);
            hasher.update(line.as_bytes());
        }
        let entries = facts.keys().filter(|path| !path.is_empty()).count() as u64;
        Self { entries, bytes, content: hasher.finish() }
    }
}

/// Reads a tree from end to end. `PermissionDenied` is no damage: a layer may have files that not even their owner can
/// read.
pub fn survey(root: &Path, context: Context<'_>) -> io::Result<Survey> {
    let top = File::open(root)?;
    let mut facts = Facts::new();
    let mut buffer = vec![0; CHUNK];
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        (context.go_on)()?;
        let directory = open_directory(&top, &path)?;
        let stat = rustix::fs::fstat(&directory)?;
        let time = Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
        facts.insert(path.clone(), Fact::directory(is_opaque(&directory), stat.st_mode & 0o7777, time));
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let below = join(&path, name);
            let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let time = Time { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
            let mut fact = Fact { kind: Kind::Alien, mode: stat.st_mode & 0o7777, size: 0, time, crc32: 0 };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    open.push(below);
                    continue;
                }
                FileType::Symlink => {
                    fact = Fact::symlink(readlinkat(&directory, name, Vec::new())?.as_bytes(), time);
                }
                FileType::RegularFile => {
                    fact.kind = Kind::File;
                    (fact.size, fact.crc32) = read(directory.as_fd(), name, &mut buffer, context)?;
                }
                FileType::Fifo => fact.kind = Kind::Fifo,
                FileType::CharacterDevice if stat.st_rdev == 0 => fact = Fact::whiteout(),
                _ => {}
            }
            facts.insert(below, fact);
        }
    }
    Ok(Survey::of(&facts))
}

fn read(
    directory: rustix::fd::BorrowedFd<'_>,
    name: &[u8],
    buffer: &mut [u8],
    context: Context<'_>,
) -> io::Result<(u64, u32)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, name, flags, Mode::empty())?);
    let (mut size, mut crc) = (0, crc32fast::Hasher::new());
    loop {
        (context.go_on)()?;
        let read = file.read(buffer)?;
        if read == 0 {
            return Ok((size, crc.finalize()));
        }
        crc.update(&buffer[..read]);
        size += read as u64;
        (context.progress)(read as u64);
    }
}

/// A name in a directory, both relative to the root.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
