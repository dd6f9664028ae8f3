//! Entries of a layer, one after the other, into a directory.
//!
//! The writer is the only one that changes the directory, so it knows by itself which directories and links there are:
//! paths are resolved in memory. Directories get their modes and times in the end, the innermost first; until then their
//! owner may write to them.

mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, chmodat, fchmod, fremovexattr, linkat, makedev, mkdirat, mknodat, symlinkat,
};
use rustix::io::Errno;

use super::below::{Below, Seen};
use super::facts::{self, Fact, Facts, Survey, join};
use super::place::{self, Process};
use super::remove::remove_at;
use super::tar::{Attributes, Entry, Kind};
use super::{Context, IMPLIED_MAX, Limits, OWNERS_MAX, Summary, UnpackError, shown};

pub(super) const OPAQUE: &[u8] = b"user.overlay.opaque";
/// On a directory: "copied up, it is not known from where", for which the kernel looks for whiteouts in it.
const ORIGIN: &[u8] = b"user.overlay.origin";
const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// Names of AUFS's own, which no layer means.
const WHITEOUT_META: &[u8] = b".wh..wh.";

/// Linux's `PATH_MAX` less the NUL, and `NAME_MAX`.
const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;
/// How deep directories may lie: removing a tree keeps one descriptor open for each.
const DEPTH_MAX: usize = 256;
/// The most links on the way to one name, as in the kernel.
const LINKS_MAX: usize = 40;
/// Bytes of content handed on at once.
const CHUNK: usize = 256 * 1024;

pub(super) struct Writer<'a> {
    root: OwnedFd,
    process: Process,
    below: &'a dyn Below,
    /// Directories and links of the layer, by resolved path; the root is the empty one.
    nodes: BTreeMap<Vec<u8>, Node>,
    /// Names hidden by whiteouts that are there.
    whiteouts: BTreeSet<Vec<u8>>,
    facts: Facts,
    implied: BTreeSet<Vec<u8>>,
    /// Files of the layers below that were linked to, each with the first link: the copy. None once that is replaced.
    copies: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// A hard link to what the layer does not have, and its target.
    linked: Option<(String, String)>,
    owners: BTreeSet<(u32, u32)>,
    /// The parent of the last entry, as it was named.
    parent: Option<(Vec<u8>, Place)>,
    entries: u64,
    names: u64,
    limits: Limits,
    buffer: Vec<u8>,
}

enum Node {
    Directory(Directory),
    Link(Vec<u8>),
}

struct Directory {
    attributes: Attributes,
    /// The mode that it has until the end.
    made: u32,
    opaque: bool,
    whiteouts: bool,
}

/// An open directory and its path.
#[derive(Clone)]
struct Place {
    path: Vec<u8>,
    directory: Arc<OwnedFd>,
}

/// Whether a parent that is not there is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Refuse,
}

impl<'a> Writer<'a> {
    /// `root` is empty.
    pub fn new(root: OwnedFd, below: &'a dyn Below, limits: Limits) -> Result<Self, UnpackError> {
        // Also takes away a set-group-ID bit that it has from its parent.
        fchmod(&root, Mode::RWXU).map_err(|error| failed("change the mode of", b".", error.into()))?;
        // With default access lists the system would give files other modes than they are made with.
        let _ = fremovexattr(&root, "system.posix_acl_default");
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        let top = Directory { attributes, made: 0o700, opaque: false, whiteouts: false };
        Ok(Self {
            root,
            process: Process::current(),
            below,
            nodes: [(Vec::new(), Node::Directory(top))].into(),
            whiteouts: BTreeSet::new(),
            facts: Facts::new(),
            implied: BTreeSet::new(),
            copies: BTreeMap::new(),
            linked: None,
            owners: BTreeSet::new(),
            parent: None,
            entries: 0,
            names: 0,
            limits,
            buffer: Vec::new(),
        })
    }

    pub fn process(&self) -> Process {
        self.process
    }

    /// One more entry; `content` yields a file's.
    pub fn entry(
        &mut self,
        entry: &Entry,
        content: &mut dyn Read,
        context: Context<'_>,
    ) -> Result<(), UnpackError> {
        (context.go_on)()?;
        self.entries += 1;
        self.names += entry.name.len() as u64;
        let Limits { entries, names, .. } = self.limits;
        for (what, so_many, limit) in
            [("entries", self.entries, entries), ("bytes in the names of entries", self.names, names)]
        {
            if so_many > limit {
                return Err(UnpackError::Limit { what, limit });
            }
        }
        let refuse = |rule| UnpackError::Entry { name: shown(&entry.name), rule };
        let parts = parts(&entry.name).map_err(refuse)?;
        let Some((&name, parents)) = parts.split_last() else {
            return match (entry.kind, self.nodes.get_mut(&b""[..])) {
                (Kind::Directory, Some(Node::Directory(top))) => {
                    top.attributes = entry.attributes.clone();
                    self.owner(&entry.attributes);
                    Ok(())
                }
                _ => Err(refuse("it stands for the root and is no directory")),
            };
        };
        let is_meta = |part: &&[u8]| part.starts_with(WHITEOUT_META) && *part != WHITEOUT_OPAQUE;
        if entry.kind == Kind::Device || parts.iter().any(is_meta) {
            return Ok(());
        }
        if parents.iter().any(|part| part.starts_with(WHITEOUT)) {
            return Err(refuse("it lies below a whiteout"));
        }
        let hidden = match name.strip_prefix(WHITEOUT) {
            Some(b"" | b"." | b"..") => return Err(refuse("it is a whiteout of no name")),
            hidden => hidden,
        };
        let place = self.parent(parents, &entry.name)?;
        if name == WHITEOUT_OPAQUE {
            self.directory(&place.path).opaque = true;
            return Ok(());
        }
        if let Some(hidden) = hidden {
            return self.whiteout(&place, hidden);
        }
        self.owner(&entry.attributes);
        match entry.kind {
            Kind::Directory => self.explicit_directory(&place, name, &entry.attributes),
            Kind::File => self.file(&place, name, entry, content, context),
            Kind::Symlink => self.symlink(&place, name, entry),
            Kind::Fifo => self.fifo(&place, name, entry),
            Kind::Hardlink => self.hardlink(&place, name, entry, context),
            Kind::Device => Ok(()),
        }
    }

    /// Files of entries that others have written.
    pub fn add_files(&mut self, files: impl IntoIterator<Item = (Vec<u8>, Fact)>) {
        self.facts.extend(files);
    }

    /// Gives directories what they are to have.
    pub fn finish(mut self) -> Result<Summary, UnpackError> {
        self.parent = None;
        self.name_copies()?;
        // The last in order is the innermost: a directory's time is that of its last change until it is set.
        for (path, node) in self.nodes.iter().rev() {
            let Node::Directory(directory) = node else { continue };
            let Directory { attributes, made, opaque, whiteouts } = directory;
            let failed = |source| failed("finish the directory", path, source);
            let open = place::open_directory(&self.root, path).map_err(failed)?;
            let is_root = path.is_empty();
            if *opaque && !is_root {
                place::set_xattr(&open, OPAQUE, b"y").map_err(failed)?;
            }
            if *whiteouts && !is_root {
                place::set_xattr(&open, ORIGIN, b"").map_err(failed)?;
            }
            self.process.finish(&open, *made, attributes).map_err(failed)?;
            let fact = Fact::directory(*opaque && !is_root, attributes.mode, attributes.time);
            self.facts.insert(path.clone(), fact);
        }
        let Survey { entries, bytes, content } = Survey::of(&self.facts);
        let opaque = self.directory(&[]).opaque;
        Ok(Summary {
            entries,
            bytes,
            content,
            owners: self.owners.into_iter().collect(),
            implied: self.implied.iter().take(IMPLIED_MAX).map(|path| shown(path)).collect(),
            linked: self.linked,
            opaque,
        })
    }

    fn owner(&mut self, attributes: &Attributes) {
        let owner = (attributes.uid, attributes.gid);
        if owner != (0, 0) && self.owners.len() < OWNERS_MAX {
            self.owners.insert(owner);
        }
    }

    /// A directory that is known to be one.
    fn directory(&mut self, path: &[u8]) -> &mut Directory {
        match self.nodes.get_mut(path) {
            Some(Node::Directory(directory)) => directory,
            _ => unreachable!("it was resolved to a directory"),
        }
    }

    /// The directory that `parents` lead to, made if it is missing.
    fn parent(&mut self, parents: &[&[u8]], entry: &[u8]) -> Result<Place, UnpackError> {
        let named = parents.join(&b'/');
        if let Some((last, place)) = &self.parent
            && *last == named
        {
            return Ok(place.clone());
        }
        let path = self.resolve(parents, entry, Missing::Make)?;
        let path = path.expect("what is missing was made");
        let opened = place::open_directory(&self.root, &path);
        let directory = Arc::new(opened.map_err(|source| failed("open the directory", &path, source))?);
        let place = Place { path, directory };
        self.parent = Some((named, place.clone()));
        Ok(place)
    }

    /// Where `parents` lead inside the layer; none if something is missing there and is not to be made. A directory that only
    /// the layers below have is not missing.
    fn resolve(
        &mut self,
        parents: &[&[u8]],
        entry: &[u8],
        missing: Missing,
    ) -> Result<Option<Vec<u8>>, UnpackError> {
        let refuse = |rule| UnpackError::Entry { name: shown(entry), rule };
        let mut todo: Vec<Vec<u8>> = parents.iter().rev().map(|part| part.to_vec()).collect();
        let (mut at, mut links) = (Vec::new(), 0);
        while let Some(part) = todo.pop() {
            match &part[..] {
                b"" | b"." => continue,
                // Only links have these; above the root is the root.
                b".." => {
                    at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &part);
            let link = match self.nodes.get(&next) {
                Some(Node::Directory(_)) => None,
                Some(Node::Link(target)) => Some(target.clone()),
                None if self.facts.contains_key(&next) && !self.whiteouts.contains(&next) => {
                    return Err(refuse("it lies below what is no directory"));
                }
                None => match self.seen_below(&next)? {
                    Seen::Link(target) => Some(target),
                    Seen::File | Seen::Other => {
                        return Err(refuse("it lies below what is no directory in the layers below"));
                    }
                    Seen::Directory(_) if missing == Missing::Refuse => None,
                    Seen::Nothing if missing == Missing::Refuse => return Ok(None),
                    Seen::Directory(attributes) => {
                        self.make_directory(&next, &attributes)?;
                        None
                    }
                    Seen::Nothing => {
                        self.make_directory(&next, &Attributes { mode: 0o755, ..Attributes::default() })?;
                        if !self.below.decides() && !self.is_hidden(&next) {
                            self.implied.insert(next.clone());
                        }
                        None
                    }
                },
            };
            match link {
                None => at = next,
                Some(_) if links == LINKS_MAX => return Err(refuse("it lies below a loop of links")),
                Some(target) => {
                    links += 1;
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    todo.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
                }
            }
        }
        Ok(Some(at))
    }

    fn seen_below(&self, path: &[u8]) -> Result<Seen, UnpackError> {
        if self.whiteouts.contains(path) || self.is_hidden(path) {
            return Ok(Seen::Nothing);
        }
        self.below.look(path).map_err(|source| failed("look in the layers below for", path, source))
    }

    /// Whether a directory on the way to `path`, or that itself, hides the layers below.
    fn is_hidden(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        [0].into_iter().chain(ends).chain([path.len()]).any(|end| {
            matches!(self.nodes.get(&path[..end]), Some(Node::Directory(Directory { opaque: true, .. })))
        })
    }

    /// The open directory above `path`, which is resolved, and the last name.
    fn above(&self, path: &[u8]) -> Result<(OwnedFd, usize), UnpackError> {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let above = place::open_directory(&self.root, &path[..slash.unwrap_or(0)]);
        Ok((
            above.map_err(|source| failed("open the directory above", path, source))?,
            slash.map_or(0, |at| at + 1),
        ))
    }

    fn make_directory(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), UnpackError> {
        let (above, name) = self.above(path)?;
        self.make_directory_at(&above, path, &path[name..], attributes)
    }

    fn make_directory_at(
        &mut self,
        above: &OwnedFd,
        path: &[u8],
        name: &[u8],
        attributes: &Attributes,
    ) -> Result<(), UnpackError> {
        if path.iter().filter(|byte| **byte == b'/').count() >= DEPTH_MAX {
            return Err(UnpackError::Limit { what: "levels of directories", limit: DEPTH_MAX as u64 });
        }
        let failed = |error: Errno| failed("make the directory", path, error.into());
        let mode = Mode::from_raw_mode(attributes.mode & 0o777) | Mode::RWXU;
        let mut opaque = false;
        match mkdirat(above, name, mode) {
            Err(Errno::EXIST) => {
                // Of the layers below, nothing is to be seen where a file or a whiteout of this one has been.
                self.displace(above, path, name)?;
                mkdirat(above, name, mode).map_err(failed)?;
                opaque = true;
            }
            made => made.map_err(failed)?,
        }
        let mut made = self.process.made(mode.as_raw_mode());
        if made & 0o700 != 0o700 {
            chmodat(above, name, mode, AtFlags::empty()).map_err(failed)?;
            made = mode.as_raw_mode();
        }
        let directory = Directory { attributes: attributes.clone(), made, opaque, whiteouts: false };
        self.nodes.insert(path.to_vec(), Node::Directory(directory));
        Ok(())
    }

    fn explicit_directory(
        &mut self,
        place: &Place,
        name: &[u8],
        attributes: &Attributes,
    ) -> Result<(), UnpackError> {
        let path = join(&place.path, name);
        self.implied.remove(&path);
        if let Some(Node::Directory(directory)) = self.nodes.get_mut(&path) {
            directory.attributes = attributes.clone();
            return Ok(());
        }
        self.make_directory_at(&place.directory, &path, name, attributes)
    }

    /// Makes something with `make`, in place of what has that name.
    fn replace<T>(
        &mut self,
        place: &Place,
        name: &[u8],
        action: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, UnpackError> {
        let failed = |path: &[u8], error: Errno| failed(action, path, error.into());
        match make() {
            Err(Errno::EXIST) => {
                let path = join(&place.path, name);
                self.displace(&place.directory, &path, name)?;
                make().map_err(|error| failed(&path, error))
            }
            made => made.map_err(|error| failed(&join(&place.path, name), error)),
        }
    }

    /// Removes what an earlier entry of the layer has put at `path`.
    fn displace(&mut self, above: &OwnedFd, path: &[u8], name: &[u8]) -> Result<(), UnpackError> {
        remove_at(above.as_fd(), name).map_err(|source| failed("replace", path, source))?;
        let below = join(path, b"");
        let mut after = path.to_vec();
        after.push(b'/' + 1);
        let inside = |key: &[u8]| key == path || key.starts_with(&below);
        // All paths below lie between "path/" and "path0", and so does nothing else.
        let gone: Vec<_> =
            self.nodes.range(path.to_vec()..after.clone()).map(|(key, _)| key.clone()).collect();
        gone.iter().filter(|key| inside(key)).for_each(|key| drop(self.nodes.remove(key)));
        let gone: Vec<_> = self.facts.range(path.to_vec()..after).map(|(key, _)| key.clone()).collect();
        for key in gone.iter().filter(|key| inside(key)) {
            self.facts.remove(key);
            self.whiteouts.remove(key);
        }
        self.implied.retain(|key| !inside(key));
        for copy in self.copies.values_mut().filter(|copy| copy.as_deref().is_some_and(inside)) {
            *copy = None;
        }
        self.parent = None;
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place,
        name: &[u8],
        entry: &Entry,
        content: &mut dyn Read,
        context: Context<'_>,
    ) -> Result<(), UnpackError> {
        let attributes = &entry.attributes;
        let create = || place::create(&place.directory, name, attributes);
        let mut file = self.replace(place, name, "write", create)?;
        let path = join(&place.path, name);
        let failed = |source| failed("write", &path, source);
        let (mut size, mut crc) = (0, crc32fast::Hasher::new());
        self.buffer.resize(CHUNK, 0);
        loop {
            (context.go_on)()?;
            let read = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            crc.update(&self.buffer[..read]);
            file.write_all(&self.buffer[..read]).map_err(failed)?;
            size += read as u64;
        }
        if size != entry.size {
            return Err(UnpackError::Form("ends inside an entry"));
        }
        self.process.finish_file(&file, attributes).map_err(failed)?;
        self.facts.insert(path, Fact::file(attributes, size, crc.finalize()));
        Ok(())
    }

    fn symlink(&mut self, place: &Place, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        self.replace(place, name, "make the link", || symlinkat(&entry.target[..], &place.directory, name))?;
        let path = join(&place.path, name);
        let finished = self.process.finish_at(place.directory.as_fd(), name, None, &entry.attributes);
        finished.map_err(|source| failed("finish the link", &path, source))?;
        self.facts.insert(path.clone(), Fact::symlink(&entry.target, entry.attributes.time));
        self.nodes.insert(path, Node::Link(entry.target.clone()));
        Ok(())
    }

    fn fifo(&mut self, place: &Place, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let make = || mknodat(&place.directory, name, FileType::Fifo, Mode::RUSR, 0);
        self.replace(place, name, "make the FIFO", make)?;
        let path = join(&place.path, name);
        let Attributes { mode, time, .. } = entry.attributes;
        let finished = self.process.finish_at(place.directory.as_fd(), name, Some(mode), &entry.attributes);
        finished.map_err(|source| failed("finish the FIFO", &path, source))?;
        self.facts.insert(path, Fact { kind: facts::Kind::Fifo, mode, size: 0, time, crc32: 0 });
        Ok(())
    }

    fn whiteout(&mut self, place: &Place, name: &[u8]) -> Result<(), UnpackError> {
        let path = join(&place.path, name);
        match self.nodes.get_mut(&path) {
            // What the layer itself has is not hidden, whatever comes first.
            Some(Node::Directory(directory)) => directory.opaque = true,
            Some(Node::Link(_)) => {}
            None => {
                match mknodat(&place.directory, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
                {
                    Ok(()) => {
                        self.facts.insert(path.clone(), Fact::whiteout());
                        self.whiteouts.insert(path);
                        self.directory(&place.path).whiteouts = true;
                    }
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed("make the whiteout", &path, error.into())),
                }
            }
        }
        Ok(())
    }
}

fn failed(action: &'static str, path: &[u8], source: io::Error) -> UnpackError {
    UnpackError::File { action, path: shown(path), source }
}

/// The parts of a name; none for the root.
pub(super) fn parts(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if name.len() > PATH_MAX {
        return Err("its name is longer than 4095 bytes");
    }
    let parts: Vec<_> =
        name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err("its name has a `..` part");
    }
    if parts.iter().any(|part| part.len() > NAME_MAX) {
        return Err("its name has a part longer than 255 bytes");
    }
    Ok(parts)
}
