//! A strict, sequential reader of the tar archives inside .debs.
//!
//! It knows what dpkg-deb has written over the years: GNU and POSIX headers, GNU long names (`L`, `K`), pax headers
//! (`x`; `g` only with comments), regular files, directories, symbolic and hard links. Devices, FIFOs, sparse files
//! and anything else are refused: no package of the archive ships them. So is what readers take differently: a name said
//! twice, an extended header without an entry. Names come out as they stand, in UTF-8; what they may be is the caller's
//! rule. Extended attributes are dropped, owners and times not read.

use std::io::{self, Read};

use crate::tarblocks::{self, Block, Blocks, Next, checksum, decimal, number, records, sums};

/// Longest long name and largest pax header, in bytes.
const EXTENSION_MAX: u64 = 64 << 10;
/// Extended headers of one entry; dpkg-deb writes at most two.
const EXTENSIONS_MAX: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("reading")]
    Io(#[from] io::Error),
    #[error("tar entry `{name}`: {rule}")]
    Entry { name: String, rule: &'static str },
    #[error("tar archive: {0}")]
    Form(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    /// Permission bits, with set-user-ID and the like.
    pub mode: u32,
    /// Of a file; else 0.
    pub size: u64,
    /// Of a link; else empty.
    pub target: String,
}

/// Entries one after the other; after [`TarReader::next`] the reader yields the content of a file.
pub struct TarReader<R> {
    blocks: Blocks<R>,
}

/// What extension headers say about the entry that follows.
#[derive(Default)]
struct Extension {
    name: Option<String>,
    target: Option<String>,
    size: Option<u64>,
}

impl<R: Read> TarReader<R> {
    pub fn new(reader: R) -> Self {
        Self { blocks: Blocks::new(reader) }
    }

    /// The next entry; none at the end, which has been checked to hold nothing but zeros.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extension = Extension::default();
        let mut extensions = 0;
        loop {
            let Some(header) = self.header()? else {
                return match extensions {
                    0 => Ok(None),
                    _ => Err(TarError::Form("its last extended header belongs to no entry")),
                };
            };
            let refuse = |rule| TarError::Entry { name: text(&header[..100]).unwrap_or_default(), rule };
            if checksum(&header) != Some(sums(&header)[0]) {
                return Err(refuse("its header's checksum is wrong"));
            }
            let size = natural(&header[124..136]).ok_or_else(|| refuse("its size is not a number"))?;
            match header[156] {
                b'L' | b'K' | b'x' | b'g' => {
                    if extensions == EXTENSIONS_MAX {
                        return Err(refuse("it has more than four extended headers"));
                    }
                    if size > EXTENSION_MAX {
                        return Err(refuse("its extended header is larger than 64 KiB"));
                    }
                    let bytes = self.blocks.whole(size)?;
                    let bytes = bytes.ok_or(TarError::Form("it ends inside an entry"))?;
                    let long = || text(&bytes).ok_or("its long name is not UTF-8");
                    match header[156] {
                        b'L' => long().and_then(|name| once(&mut extension.name, name)),
                        b'K' => long().and_then(|target| once(&mut extension.target, target)),
                        kind => pax(&bytes, kind == b'g', &mut extension),
                    }
                    .map_err(refuse)?;
                    extensions += 1;
                }
                kind => {
                    return self.entry(&header, kind, extension.size.unwrap_or(size), extension).map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &Block,
        kind: u8,
        size: u64,
        extension: Extension,
    ) -> Result<Entry, TarError> {
        let name = match extension.name {
            Some(name) => name,
            None => String::from_utf8(tarblocks::name(header))
                .map_err(|_| TarError::Form("a name is not UTF-8"))?,
        };
        let refuse = |rule| TarError::Entry { name: name.clone(), rule };
        let mode = natural(&header[100..108]).ok_or_else(|| refuse("its mode is not a number"))?;
        let target = match extension.target {
            Some(target) => target,
            None => text(&header[157..257]).ok_or_else(|| refuse("its link target is not UTF-8"))?,
        };
        let kind = match kind {
            // An old archive says "directory" by a trailing slash only.
            b'0' | 0 if !name.ends_with('/') => Kind::File,
            b'5' => Kind::Directory,
            b'2' => Kind::Symlink,
            b'1' => Kind::Hardlink,
            b'3' | b'4' | b'6' => return Err(refuse("it is a device or a FIFO")),
            _ => return Err(refuse("it is of an unknown type")),
        };
        if name.is_empty() || name.contains('\0') || target.contains('\0') {
            return Err(refuse("its name is empty or contains a NUL"));
        }
        if matches!(kind, Kind::Symlink | Kind::Hardlink) == target.is_empty() {
            return Err(refuse("its type and its link target contradict each other"));
        }
        if kind != Kind::File && size != 0 {
            return Err(refuse("it has content but is not a file"));
        }
        self.blocks.content(size);
        Ok(Entry { name, kind, mode: (mode & 0o7777) as u32, size, target })
    }

    /// The next header block; none at the end.
    fn header(&mut self) -> Result<Option<Block>, TarError> {
        match self.blocks.next_block()? {
            Next::Header(block) => return Ok(Some(block)),
            Next::Zeros => {}
            Next::CutContent => return Err(TarError::Form("it ends inside an entry")),
            Next::End | Next::CutHeader => return Err(TarError::Form("it has no end mark")),
        }
        let mut rest = [0; 16 << 10];
        loop {
            match self.blocks.get_mut().read(&mut rest) {
                Ok(0) => return Ok(None),
                Ok(read) if rest[..read].iter().all(|byte| *byte == 0) => {}
                Ok(_) => return Err(TarError::Form("something follows its end mark")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.blocks.read(buffer)
    }
}

fn natural(field: &[u8]) -> Option<u64> {
    number(field).and_then(|number| u64::try_from(number).ok())
}

fn text(field: &[u8]) -> Option<String> {
    std::str::from_utf8(tarblocks::text(field)).ok().map(str::to_owned)
}

/// Sets what an extended header says, if none has said it.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("its extended headers say one thing twice"),
    }
}

fn pax(bytes: &[u8], global: bool, extension: &mut Extension) -> Result<(), &'static str> {
    const FORM: &str = "its pax header cannot be read";
    for record in records(bytes) {
        let (key, value) = record.ok_or(FORM)?;
        let key = std::str::from_utf8(key).map_err(|_| FORM)?;
        let name = || String::from_utf8(value.to_vec()).map_err(|_| "its long name is not UTF-8");
        match key {
            "path" if !global => once(&mut extension.name, name()?)?,
            "linkpath" if !global => once(&mut extension.target, name()?)?,
            "size" if !global => once(&mut extension.size, decimal(value).ok_or(FORM)?)?,
            // Extended attributes may hold any bytes; they are dropped.
            "mtime" | "atime" | "ctime" | "uid" | "gid" | "uname" | "gname" | "comment" | "charset" => {}
            _ if key.starts_with("SCHILY.") || key.starts_with("LIBARCHIVE.") => {}
            _ => return Err("its pax header has an unknown key"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, seal, tar};
    use super::*;

    fn list(bytes: &[u8]) -> Result<Vec<(Entry, String)>, String> {
        let mut reader = TarReader::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().map_err(|error| error.to_string())? {
            let mut content = String::new();
            reader.read_to_string(&mut content).unwrap();
            found.push((entry, content));
        }
        Ok(found)
    }

    #[test]
    fn names_kinds_and_content() {
        let long = format!("./{}", "n/".repeat(100) + "end");
        let record = |key: &str, value: &str| {
            let body = format!(" {key}={value}\n");
            let length = body.len() + 2 + usize::from(body.len() + 2 > 99);
            format!("{length}{body}")
        };
        let header = record("path", "./pax") + &record("SCHILY.xattr.security.capability", "x");
        let bytes = tar(&[
            entry("./", b'5', 0o755, "", b""),
            entry("./a", b'0', 0o4755, "", b"hello"),
            entry("././@LongLink", b'L', 0, "", long.as_bytes()),
            entry("./nnn", b'0', 0o644, "", b"x"),
            entry("PaxHeaders", b'x', 0, "", header.as_bytes()),
            entry("./short", b'1', 0o644, "./a", b""),
            entry("./link", b'2', 0o777, "../b", b""),
        ]);
        let found = list(&bytes).unwrap();
        let names: Vec<_> = found.iter().map(|(entry, _)| entry.name.as_str()).collect();
        assert_eq!(names, ["./", "./a", &long, "./pax", "./link"]);
        assert_eq!((found[1].0.mode, found[1].1.as_str()), (0o4755, "hello"));
        assert_eq!((found[3].0.kind, found[3].0.target.as_str()), (Kind::Hardlink, "./a"));
        // Content that nobody reads is skipped.
        let mut reader = TarReader::new(&bytes[..]);
        while reader.next_entry().unwrap().is_some() {}
    }

    /// Content and padding of such an entry have more bytes than can be counted.
    #[test]
    fn endless_entries_end_with_the_archive() {
        let mut endless = entry("./a", b'0', 0o644, "", b"");
        endless[124] = 0x80;
        endless[125..136].copy_from_slice(&[0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        seal(&mut endless);
        let bytes = tar(&[endless, entry("./b", b'0', 0o644, "", b"")]);
        let mut reader = TarReader::new(&bytes[..]);
        assert_eq!(reader.next_entry().unwrap().unwrap().size, u64::MAX);
        assert_eq!(reader.next_entry().unwrap_err().to_string(), "tar archive: it ends inside an entry");
    }

    #[test]
    fn odd_archives_are_refused() {
        let mut broken = entry("./a", b'0', 0o644, "", b"");
        broken[0] = b'x';
        let unended = entry("./a", b'0', 0o644, "", b"hello");
        let mut trailing = tar(&[]);
        trailing.push(1);
        for (bytes, wanted) in [
            (tar(&[broken]), "tar entry `x/a`: its header's checksum is wrong"),
            (unended.clone(), "tar archive: it has no end mark"),
            (unended[..515].to_vec(), "tar archive: it ends inside an entry"),
            (trailing, "tar archive: something follows its end mark"),
            (tar(&[entry("./d", b'3', 0o644, "", b"")]), "tar entry `./d`: it is a device or a FIFO"),
            (tar(&[entry("./d", b'S', 0o644, "", b"")]), "tar entry `./d`: it is of an unknown type"),
            (
                tar(&[entry("./d", b'5', 0o644, "", b"x")]),
                "tar entry `./d`: it has content but is not a file",
            ),
            (
                tar(&[entry("./l", b'2', 0o777, "", b"")]),
                "tar entry `./l`: its type and its link target contradict each other",
            ),
            (
                tar(&[entry("p", b'x', 0, "", b"22 GNU.sparse.major=1\n")]),
                "tar entry `p`: its pax header has an unknown key",
            ),
            (tar(&[entry("p", b'x', 0, "", b"99 path=x\n")]), "tar entry `p`: its pax header cannot be read"),
        ] {
            assert_eq!(list(&bytes).unwrap_err(), wanted);
        }
    }
}
