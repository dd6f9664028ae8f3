//! An archive's bytes to a tree below [`PREFIX`].
//!
//! The format owned: a gzip or zstd compressed tar in which everything lies below `python/`. Refused are entries that
//! leave it, links to outside, devices, a path that comes twice or runs through a link, and anything past the limits
//! below, as is what [`TarReader`] refuses. Modes become 0644 or 0755; owners and times are dropped; hash-based bytecode stays. What is left out and what
//! is rewritten is decided by `select` and `relocate`.
//!
//! Small files are kept in memory up to a bound, all others in a file that the caller brings. Whoever wants to stop makes
//! `archive` fail: little of it is read at a time, and what that may unpack to is bounded by the codecs.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

use super::release::{Version, parse_name};
use super::scheme::{Probe, SOURCE_MAX, probe};
use super::select::{is_hash_based, left_out};
use super::{PREFIX, PythonError, relocate};
use crate::blob::{FileBlob, ReadAt, Slice};
use crate::debian::tarfile::{Entry, Kind, TarError, TarReader};
use crate::elf;
use crate::oci::Platform;
use crate::tree::{self, Content, Node, Tree, TreePath};

/// Bytes an archive may unpack to. The largest real one has about 400 MB.
const UNPACKED_MAX: u64 = 4 << 30;
/// Entries an archive may have. Real ones have up to 10,000.
const ENTRIES_MAX: usize = 100_000;
/// Parts of a name below `python/`. Real ones have up to ten.
const PARTS_MAX: usize = 64;
/// Files up to this size are kept in memory.
const SMALL: u64 = 64 * 1024;
/// Bytes of all files that are kept in memory; real archives have some 50 MB of small ones.
const HELD_MAX: u64 = 256 << 20;
/// Packed bytes read at a time: zstd may make 2 MiB of each 64, hence half a gigabyte of these.
const CHUNK: usize = 16 << 10;

/// An interpreter as it will stand in the image.
#[derive(Debug)]
pub struct Standalone {
    pub tree: Tree,
    pub probe: Probe,
}

/// Reads the archive named `name`. `spill` is an empty file opened for reading and writing that nobody else uses.
pub fn tree(name: &str, archive: impl Read, spill: File) -> Result<Standalone, PythonError> {
    let (version, _, platform) = parse_name(name)?;
    let mut reader = Reader { files: Vec::new(), spill, spilled: 0, held: 0, unpacked: 0 };
    reader.read(archive)?;
    let mut tree = reader.finish()?;
    aliases(&mut tree, version)?;
    let probe = probe(&tree, version)?;
    fits(&tree, &probe, platform)?;
    Ok(Standalone { tree, probe })
}

/// What an entry is, before larger files have a place to be read from.
enum Held {
    Dir,
    Small { mode: u32, bytes: Vec<u8> },
    Large { mode: u32, offset: u64, size: u64 },
    Symlink { target: String },
    Hardlink { target: TreePath },
}

struct Reader {
    files: Vec<(TreePath, Held)>,
    spill: File,
    spilled: u64,
    /// Bytes of files in memory.
    held: u64,
    unpacked: u64,
}

/// The archive's tar.
type Archive<'a> = TarReader<Unpacked<Box<dyn Read + 'a>>>;

/// An archive's unpacked bytes, up to [`UNPACKED_MAX`], whatever they are.
struct Unpacked<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            let text = format!("it unpacks to more than {UNPACKED_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        self.left = left;
        Ok(read)
    }
}

fn unread(error: TarError) -> PythonError {
    match error {
        TarError::Io(error) => PythonError::Read(error),
        error => PythonError::Tar(error),
    }
}

impl Reader {
    fn read(&mut self, archive: impl Read) -> Result<(), PythonError> {
        let mut archive = TarReader::new(Unpacked { reader: decoder(archive)?, left: UNPACKED_MAX });
        let mut entries = 0;
        // At the end everything has been read, and so has the codec's own check.
        while let Some(entry) = archive.next_entry().map_err(unread)? {
            if entries == ENTRIES_MAX {
                return Err(PythonError::TooMany { limit: ENTRIES_MAX });
            }
            entries += 1;
            self.entry(entry, &mut archive)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, archive: &mut Archive<'_>) -> Result<(), PythonError> {
        let name = entry.name;
        let refuse = |rule| Err(PythonError::Entry { path: name.clone(), rule });
        let Some(inside) = inside(&name)? else {
            return if entry.kind == Kind::Directory { Ok(()) } else { refuse("lies outside `python/`") };
        };
        if inside == "PYTHON.json" {
            return Err(PythonError::Full);
        }
        if left_out(&inside) {
            return Ok(());
        }
        let held = match entry.kind {
            Kind::Directory => Held::Dir,
            Kind::File => match self.file(archive, entry.mode, entry.size, &inside)? {
                Some(held) => held,
                None => return Ok(()),
            },
            Kind::Symlink if !stays_inside(&inside, &entry.target) => {
                return refuse("is a symbolic link that leaves `python/`");
            }
            Kind::Symlink => Held::Symlink { target: entry.target },
            Kind::Hardlink => match self::inside(&entry.target)? {
                Some(target) => Held::Hardlink { target: placed(&target)? },
                None => return refuse("is a hard link that leaves `python/`"),
            },
        };
        self.files.push((placed(&inside)?, held));
        Ok(())
    }

    /// `None` for a file that its content leaves out.
    fn file(
        &mut self,
        archive: &mut Archive<'_>,
        mode: u32,
        size: u64,
        inside: &str,
    ) -> Result<Option<Held>, PythonError> {
        self.unpacked = self.unpacked.saturating_add(size);
        if self.unpacked > UNPACKED_MAX {
            return Err(PythonError::TooLarge { limit: UNPACKED_MAX });
        }
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        let rewritten = relocate::holds_prefix(inside);
        let source = inside.ends_with(".py") || inside.ends_with(".h");
        let small = size <= SMALL || ((rewritten || source) && size <= SOURCE_MAX);
        if small && self.held + size <= HELD_MAX {
            self.held += size;
            let mut bytes = vec![0; size as usize];
            archive.read_exact(&mut bytes).map_err(PythonError::Read)?;
            if inside.ends_with(".pyc") && !is_hash_based(&bytes) {
                return Ok(None);
            }
            if rewritten {
                bytes = relocate::with_prefix(&bytes, PREFIX);
            }
            return Ok(Some(Held::Small { mode, bytes }));
        }
        if rewritten {
            return Err(PythonError::Entry { path: inside.to_owned(), rule: "is too long to be rewritten" });
        }
        if inside.ends_with(".pyc") {
            let mut header = [0; 16];
            let header = &mut header[..size.min(16) as usize];
            archive.read_exact(header).map_err(PythonError::Read)?;
            if !is_hash_based(header) {
                return Ok(None);
            }
            return self.keep(mode, size, (&*header).chain(archive)).map(Some);
        }
        self.keep(mode, size, archive).map(Some)
    }

    fn keep(&mut self, mode: u32, size: u64, mut bytes: impl Read) -> Result<Held, PythonError> {
        let mut buffer = vec![0; 64 * 1024];
        let mut left = size;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            bytes.read_exact(&mut buffer[..want]).map_err(PythonError::Read)?;
            self.spill.write_all(&buffer[..want]).map_err(PythonError::Spill)?;
            left -= want as u64;
        }
        let offset = self.spilled;
        self.spilled += size;
        Ok(Held::Large { mode, offset, size })
    }

    fn finish(mut self) -> Result<Tree, PythonError> {
        self.spill.flush().map_err(PythonError::Spill)?;
        let spill: Arc<dyn ReadAt> = Arc::new(FileBlob::new(self.spill).map_err(PythonError::Spill)?);
        let mut tree = Tree::new();
        for (path, held) in self.files {
            let node = match held {
                Held::Dir => Node::Dir { mode: 0o755 },
                Held::Small { mode, bytes } => Node::File { mode, content: Content::bytes(bytes) },
                Held::Large { mode, offset, size } => {
                    Node::File { mode, content: Content::Slice { from: Arc::clone(&spill), offset, size } }
                }
                Held::Symlink { target } => Node::Symlink { target },
                Held::Hardlink { target } => match tree.get(&target) {
                    Some(Node::File { .. }) => Node::Hardlink { target },
                    Some(Node::Hardlink { target }) => Node::Hardlink { target: target.clone() },
                    _ => {
                        return Err(PythonError::Entry {
                            path: path.to_string(),
                            rule: "is a hard link to no file before it",
                        });
                    }
                },
            };
            match (tree.get(&path), &node) {
                (None, _) => tree.insert(path, node),
                (Some(Node::Dir { .. }), Node::Dir { .. }) => None,
                _ => return Err(PythonError::Entry { path: path.to_string(), rule: "comes twice" }),
            };
        }
        for (parent, path) in tree::directories(tree.keys()) {
            if !matches!(tree.get(&parent), None | Some(Node::Dir { .. })) {
                return Err(PythonError::Entry {
                    path: path.to_string(),
                    rule: "lies below what is no directory",
                });
            }
        }
        // The encoder makes the directories that hold something; those that our choice of files emptied go.
        let dirs: Vec<TreePath> = tree
            .iter()
            .filter(|(_, node)| matches!(node, Node::Dir { .. }))
            .filter(|(path, _)| is_empty(&tree, path))
            .map(|(path, _)| path.clone())
            .collect();
        for dir in dirs {
            tree.remove(&dir);
        }
        Ok(tree)
    }
}

/// No file and no link lies below `dir`.
fn is_empty(tree: &Tree, dir: &TreePath) -> bool {
    let below = format!("{dir}/");
    tree.range(dir.clone()..)
        .skip(1)
        // Between a directory and what it holds, names such as `lib-dynload` may sort.
        .take_while(|(path, _)| path.as_str().starts_with(dir.as_str()))
        .filter(|(path, _)| path.as_str().starts_with(&below))
        .all(|(_, node)| matches!(node, Node::Dir { .. }))
}

fn decoder<'a>(archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>, PythonError> {
    let mut archive = BufReader::with_capacity(CHUNK, archive);
    let mut magic = [0; 4];
    let mut have = 0;
    while have < magic.len() {
        match archive.read(&mut magic[have..]) {
            Ok(0) => return Err(PythonError::Codec),
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PythonError::Read(error)),
        }
    }
    let archive = io::Cursor::new(magic).chain(archive);
    match magic {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::read::MultiGzDecoder::new(archive))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Ok(Box::new(zstd::stream::read::Decoder::new(archive).map_err(PythonError::Read)?))
        }
        _ => Err(PythonError::Codec),
    }
}

/// The part of an entry's name below `python/`; `None` for `python` itself and what lies elsewhere.
fn inside(name: &str) -> Result<Option<String>, PythonError> {
    let name = name.strip_prefix("./").unwrap_or(name).trim_end_matches('/');
    match name.strip_prefix("python/") {
        Some(inside) if inside.split('/').count() > PARTS_MAX => {
            Err(PythonError::Entry { path: name.to_owned(), rule: "has more than 64 parts" })
        }
        Some(inside) => Ok(Some(TreePath::new(inside)?.as_str().to_owned())),
        None => Ok(None),
    }
}

fn placed(inside: &str) -> Result<TreePath, PythonError> {
    Ok(TreePath::from_absolute(&format!("{PREFIX}/{inside}"))?)
}

/// Whether a link at `path`, relative to the prefix, names something below the prefix.
fn stays_inside(path: &str, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let mut depth = path.matches('/').count();
    target.split('/').all(|part| match part {
        "" | "." => true,
        ".." => depth.checked_sub(1).map(|up| depth = up).is_some(),
        _ => {
            depth += 1;
            true
        }
    })
}

/// `python` and `python3` beside `python3.X`, where the archive has none.
fn aliases(tree: &mut Tree, version: Version) -> Result<(), PythonError> {
    for name in ["python", "python3"] {
        let target = format!("python{}.{}", version.0, version.1);
        tree.entry(placed(&format!("bin/{name}"))?).or_insert(Node::Symlink { target });
    }
    Ok(())
}

/// The interpreter is one for `platform`.
fn fits(tree: &Tree, probe: &Probe, platform: Platform) -> Result<(), PythonError> {
    let content = match tree.get(&TreePath::from_absolute(&probe.executable)?) {
        Some(Node::File { content, .. }) => content,
        _ => unreachable!("the probe found it"),
    };
    let facts = match content {
        Content::Bytes(bytes) => elf::facts(bytes),
        Content::Slice { from, offset, size } => {
            elf::facts(&Slice { from: Arc::clone(from), offset: *offset, size: *size })
        }
        Content::Stored { .. } | Content::Deflated { .. } => None,
    };
    let found = facts.map(|facts| facts.machine);
    if found == Some(elf::machine(platform)) {
        return Ok(());
    }
    let what = match found {
        Some(machine) => format!("`{}` is a program for ELF machine {machine}", probe.executable),
        None => format!("`{}` is no ELF program", probe.executable),
    };
    Err(PythonError::Unfit { wanted: platform.to_string(), what })
}
