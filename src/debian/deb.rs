//! One .deb, unpacked: its control paragraph, the scripts that emulation looks into, and its files.
//!
//! Files are named as they will stand in the image: below a merged /usr, as every Debian since 12 has it. What an
//! image does not need (manuals, translations, all documentation but the copyright, which licences demand) is left
//! out here, and counted nowhere else. Everything is bounded, and what a package of the archive never has is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};

use super::ar::{self, ArError, Member};
use super::deb822::{self, Deb822Error, Paragraph};
use super::spool::{Budget, Spool};
use super::tarfile::{Kind, TarError, TarReader};
use crate::blob::{RangeReader, ReadAt};
use crate::tree::{self, Content, Node, PATH_MAX, PathError, TreePath};

/// Memory that unpacking may take; xz -9 needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;
/// Logarithm of the largest zstd window: 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Unpacked size of data.tar, in bytes; the largest of the archive has 6 GB. Below that, what a packed byte may become:
/// 244 is the most of any package of bookworm.
const DATA_MAX: u64 = 16 << 30;
const DATA_FREE: u64 = 64 << 20;
const RATIO_MAX: u64 = 512;
/// Unpacked size of control.tar, and of one file in it.
const CONTROL_MAX: u64 = 64 << 20;
const CONTROL_FILE_MAX: u64 = 16 << 20;
/// Entries of data.tar, and bytes of their names and links.
const ENTRIES_MAX: usize = 1_000_000;
const NAMES_MAX: usize = 256 << 20;
/// Parts of a name. The deepest of the archive has some twenty.
const PARTS_MAX: usize = 64;
/// Directories that hold something and are no entries. dpkg-deb writes them all; left out here are a few.
const UNNAMED_MAX: usize = 10_000;

/// Directories that a merged /usr has as links into it.
pub const MERGED: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin"];

/// Below these nothing is kept.
const LEFT_OUT: [&str; 12] = [
    "usr/share/man/",
    "usr/share/info/",
    "usr/share/locale/",
    "usr/share/doc-base/",
    "usr/share/lintian/",
    "usr/share/linda/",
    "usr/share/bug/",
    "usr/share/gtk-doc/",
    "usr/share/gnome/help/",
    "usr/share/help/",
    "usr/share/groff/",
    "usr/share/reportbug/",
];

/// Files that do nothing in an image but need what is left out: a program of dpkg's hooks, and the mark by which
/// pip refuses to install beside Debian's packages, of which an image has none.
const FILES_LEFT_OUT: [&str; 1] = ["usr/sbin/update-passwd"];

#[derive(Debug, thiserror::Error)]
pub enum DebError {
    #[error(transparent)]
    Ar(#[from] ArError),
    #[error("{part}")]
    Tar { part: &'static str, source: TarError },
    #[error("{part}: compression `{suffix}` is not known")]
    Compression { part: &'static str, suffix: String },
    #[error("control file")]
    Control(#[from] Deb822Error),
    #[error("control archive: {0}")]
    ControlFile(&'static str),
    #[error("control file says {field} `{found}`, the lock `{locked}`")]
    Identity { field: &'static str, found: String, locked: String },
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("file `{path}` {rule}")]
    File { path: String, rule: &'static str },
    #[error("data.tar: content of `{path}`")]
    Content { path: String, source: io::Error },
    #[error("unpacking")]
    Io(#[from] io::Error),
}

/// A package's content.
pub struct Deb {
    pub control: Paragraph,
    /// The control file as it stands.
    pub control_text: String,
    /// `md5sums`, empty when the package has none.
    pub md5sums: String,
    /// `postinst`, when it is text.
    pub postinst: Option<String>,
    pub files: BTreeMap<TreePath, Node>,
}

impl Deb {
    pub fn read(file: &dyn ReadAt, budget: &Budget) -> Result<Self, DebError> {
        let (control, data) = ar::members(file)?;
        let mut parts = read_control(file, &control)?;
        let text = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let control_text = text(parts.remove("control"))
            .ok_or(DebError::ControlFile("`control` is missing or is not UTF-8"))?;
        Ok(Self {
            control: deb822::parse_one(&control_text)?,
            control_text,
            md5sums: text(parts.remove("md5sums")).unwrap_or_default(),
            postinst: text(parts.remove("postinst")),
            files: read_data(file, &data, budget)?,
        })
    }

    /// Refuses a package whose control file does not say what the lock says.
    pub fn check_identity(&self, wanted: [(&'static str, &str); 3]) -> Result<(), DebError> {
        for (field, locked) in wanted {
            let found = self.control.get(field).unwrap_or_default();
            if found != locked {
                return Err(DebError::Identity { field, found: found.to_owned(), locked: locked.to_owned() });
            }
        }
        Ok(())
    }
}

/// The files in control.tar that matter, by name.
fn read_control(file: &dyn ReadAt, member: &Member) -> Result<BTreeMap<String, Vec<u8>>, DebError> {
    let part = "control.tar";
    let fail = |source| DebError::Tar { part, source };
    let mut tar = TarReader::new(unpacker(file, member, part, CONTROL_MAX)?);
    let mut parts = BTreeMap::new();
    while let Some(entry) = tar.next_entry().map_err(fail)? {
        let name = entry.name.strip_prefix("./").unwrap_or(&entry.name);
        if !["", "."].contains(&name)
            && let Err(PathError { rule, .. }) = TreePath::new(name.trim_end_matches('/'))
        {
            return Err(fail(TarError::Entry { name: entry.name, rule }));
        }
        if !["control", "md5sums", "postinst"].contains(&name) {
            continue;
        }
        if entry.kind != Kind::File || entry.size > CONTROL_FILE_MAX {
            return Err(DebError::ControlFile("a member is not a file, or is larger than 16 MiB"));
        }
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).map_err(|error| fail(error.into()))?;
        if parts.insert(name.to_owned(), bytes).is_some() {
            return Err(DebError::ControlFile("a member appears twice"));
        }
    }
    Ok(parts)
}

fn read_data(
    file: &dyn ReadAt,
    member: &Member,
    budget: &Budget,
) -> Result<BTreeMap<TreePath, Node>, DebError> {
    let part = "data.tar";
    let fail = |source| DebError::Tar { part, source };
    let most = member.size.saturating_mul(RATIO_MAX).saturating_add(DATA_FREE).min(DATA_MAX);
    let mut tar = TarReader::new(unpacker(file, member, part, most)?);
    let mut spool = Spool::new(budget);
    // Content is a place in the spool until that is complete.
    let (mut nodes, mut contents) = (BTreeMap::new(), Vec::new());
    let mut left_out = BTreeSet::new();
    let mut names = 0;
    for _ in 0..ENTRIES_MAX {
        let Some(entry) = tar.next_entry().map_err(fail)? else {
            let from = spool.finish()?;
            for (path, mode, offset, size) in contents {
                let content = Content::Slice { from: std::sync::Arc::clone(&from), offset, size };
                nodes.insert(path, Node::File { mode, content });
            }
            let unnamed = tree::directories(nodes.keys()).filter(|(path, _)| !nodes.contains_key(path));
            if unnamed.take(UNNAMED_MAX + 1).count() > UNNAMED_MAX {
                return Err(fail(TarError::Form("more than 10,000 of its directories are no entries")));
            }
            return Ok(nodes);
        };
        names += entry.name.len() + entry.target.len();
        if names > NAMES_MAX {
            return Err(fail(TarError::Form("its names have more than 256 MiB")));
        }
        let Some(path) = image_path(&entry.name)? else { continue };
        let refuse = |rule| DebError::File { path: path.to_string(), rule };
        // base-files of trixie ships the links of a merged /usr; composition makes them for every suite.
        let merged = entry.kind == Kind::Symlink
            && MERGED.iter().any(|name| entry.name.trim_start_matches("./") == *name);
        if merged {
            continue;
        }
        if is_left_out(&path, entry.kind) {
            left_out.insert(path);
            continue;
        }
        let mode = if entry.mode & 0o111 != 0 { 0o755 } else { 0o644 };
        let node = match entry.kind {
            // Set-user-ID and set-group-ID go, the sticky bit stays.
            Kind::Directory => Node::Dir { mode: entry.mode & 0o1777 },
            Kind::Symlink if entry.target.len() > PATH_MAX => {
                return Err(refuse("is a link of more than 4095 bytes"));
            }
            Kind::Symlink if leaves(&path, &entry.target) => return Err(refuse("is a link out of the root")),
            Kind::Symlink => Node::Symlink { target: entry.target },
            Kind::Hardlink => {
                let target =
                    image_path(&entry.target)?.ok_or_else(|| refuse("is a hard link to the root"))?;
                match nodes.get(&target) {
                    Some(Node::File { .. }) => Node::Hardlink { target },
                    Some(Node::Hardlink { target }) => Node::Hardlink { target: target.clone() },
                    _ if left_out.contains(&target) => {
                        return Err(refuse("is a hard link to a file left out"));
                    }
                    _ => return Err(refuse("is a hard link to no earlier file")),
                }
            }
            Kind::File => {
                let kept = spool.append(&mut tar, entry.size);
                let offset = kept.map_err(|source| DebError::Content { path: path.to_string(), source })?;
                contents.push((path.clone(), mode, offset, entry.size));
                // Stands for the file until the spool is complete.
                Node::File { mode, content: Content::bytes(Vec::new()) }
            }
        };
        if let Some(before) = nodes.insert(path.clone(), node)
            && !(matches!(before, Node::Dir { .. }) && entry.kind == Kind::Directory)
        {
            return Err(refuse("appears twice"));
        }
    }
    Err(DebError::Tar { part, source: TarError::Form("it has more than 1,000,000 entries") })
}

/// Where a name of data.tar stands in the image; none for the root itself.
fn image_path(name: &str) -> Result<Option<TreePath>, PathError> {
    let name = name.strip_prefix("./").unwrap_or(name).trim_end_matches('/');
    if name.is_empty() || name == "." {
        return Ok(None);
    }
    if name.split('/').count() > PARTS_MAX {
        return Err(PathError { path: name.to_owned(), rule: "has more than 64 parts" });
    }
    Ok(Some(merge(TreePath::new(name)?)?))
}

/// `path` with a first part that a merged /usr has as a link moved into /usr.
pub fn merge(path: TreePath) -> Result<TreePath, PathError> {
    let first = path.as_str().split('/').next().unwrap_or_default();
    if MERGED.contains(&first) { TreePath::new(&format!("usr/{path}")) } else { Ok(path) }
}

/// Whether a link at `path` climbs above the root, going by its text.
fn leaves(path: &TreePath, target: &str) -> bool {
    let mut depth = if target.starts_with('/') { 0 } else { path.as_str().matches('/').count() };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

fn is_left_out(path: &TreePath, kind: Kind) -> bool {
    let path = path.as_str();
    if let Some(below) = path.strip_prefix("usr/share/doc/") {
        // Copyright files, and links that lead to another package's directory.
        let kept = match below.split_once('/') {
            None => kind == Kind::Symlink,
            Some((_, name)) => name == "copyright",
        };
        return !kept;
    }
    // The directory itself goes as well, having nothing in it.
    let below = |directory: &&str| path.starts_with(*directory) || path == &directory[..directory.len() - 1];
    LEFT_OUT.iter().any(below) || FILES_LEFT_OUT.contains(&path) || path.ends_with("/EXTERNALLY-MANAGED")
}

/// The unpacked bytes of a member, at most `most`.
fn unpacker<'a>(
    file: &'a dyn ReadAt,
    member: &Member,
    part: &'static str,
    most: u64,
) -> Result<Unpacked<'a>, DebError> {
    let packed = BufReader::with_capacity(128 << 10, RangeReader::new(file, member.offset, member.size));
    let reader: Box<dyn Read + 'a> = match member.suffix.as_str() {
        "" => Box::new(packed),
        ".xz" => {
            let flags = liblzma::stream::CONCATENATED;
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags).map_err(io::Error::from)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
        }
        ".zst" => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        suffix => return Err(DebError::Compression { part, suffix: suffix.to_owned() }),
    };
    Ok(Unpacked { reader, most, left: most })
}

/// What a member unpacks to, up to a bound.
struct Unpacked<'a> {
    reader: Box<dyn Read + 'a>,
    most: u64,
    left: u64,
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer).map_err(|error| match error.kind() {
            // What decoders say of content that they cannot or may not unpack.
            io::ErrorKind::Other => io::Error::new(io::ErrorKind::InvalidData, error),
            _ => error,
        })?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                let text = format!("it unpacks to more than {} bytes", self.most);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
#[path = "deb_tests.rs"]
mod tests;
