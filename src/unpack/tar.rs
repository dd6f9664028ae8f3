//! A sequential reader of any layer's tar: what Docker, buildah, kaniko, bazel, GNU tar and Python have written.
//!
//! It reads as Go's archive/tar does, which most layers were written by: POSIX, GNU and old headers, pax and GNU extended
//! headers (of several the last one counts; global ones are skipped), names of any bytes. The end is a block of zeros or
//! the end of the bytes; what follows is not looked at. Sparse files and unknown types are refused.

use std::io::{self, Read};

use super::{UnpackError, shown};
use crate::tarblocks::{Block, Blocks, Next, checksum, decimal, name, number, records, sums, text};

/// Longest extended header, in bytes; Go's limit.
const EXTENSION_MAX: u64 = 1 << 20;
/// Extended headers of one entry.
const EXTENSIONS_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Fifo,
    Device,
}

/// As in tar and in the kernel: seconds since 1970, maybe before, and a part of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, with set-user-ID and the like.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub time: Time,
    /// Those of `user.` that a layer may set.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub attributes: Attributes,
    /// Of a file; else 0.
    pub size: u64,
    /// Of a link; else empty.
    pub target: Vec<u8>,
}

/// Entries one after the other; after [`TarReader::next`] the reader yields the content of a file.
pub struct TarReader<R> {
    blocks: Blocks<R>,
}

/// What extended headers say about the entry that follows.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    time: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> TarReader<R> {
    pub fn new(reader: R) -> Self {
        Self { blocks: Blocks::new(reader) }
    }

    pub fn get_ref(&self) -> &R {
        self.blocks.get_ref()
    }

    /// The content of the entry at hand is not in these bytes; its padding is.
    pub fn content_is_elsewhere(&mut self) {
        self.blocks.content_is_elsewhere();
    }

    pub fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut extension = Extension::default();
        let mut extensions = 0;
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let refuse = |rule| UnpackError::Entry { name: shown(text(&header[..100])), rule };
            if checksum(&header).is_none_or(|promised| !sums(&header).contains(&promised)) {
                return Err(refuse("its header's checksum is wrong"));
            }
            let size = small(&header[124..136]).and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| refuse("its size is not a number"))?;
            let kind = header[156];
            if !matches!(kind, b'L' | b'K' | b'x' | b'g') {
                return self.entry(&header, size, extension).map(Some);
            }
            extensions += 1;
            if extensions > EXTENSIONS_MAX {
                return Err(refuse("it has more than eight extended headers"));
            }
            if size > EXTENSION_MAX {
                return Err(refuse("its extended header is larger than 1 MiB"));
            }
            let bytes = self.blocks.whole(size)?.ok_or(UnpackError::Form("ends inside an entry"))?;
            match kind {
                b'L' => extension.name = Some(text(&bytes).to_vec()),
                b'K' => extension.target = Some(text(&bytes).to_vec()),
                b'x' => pax(&bytes, &mut extension).map_err(refuse)?,
                _ => {}
            }
        }
    }

    fn entry(&mut self, header: &Block, size: u64, extension: Extension) -> Result<Entry, UnpackError> {
        let name = extension.name.unwrap_or_else(|| name(header));
        let refuse = |rule| UnpackError::Entry { name: shown(&name), rule };
        let kind = match header[156] {
            // An old archive says "directory" by a trailing slash only.
            0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => return Err(refuse("it is a sparse file, which OCI layers do not have")),
            _ => return Err(refuse("it is of an unknown type")),
        };
        let target = match kind {
            Kind::Symlink | Kind::Hardlink => {
                extension.target.unwrap_or_else(|| text(&header[157..257]).to_vec())
            }
            _ => Vec::new(),
        };
        if name.is_empty() || name.contains(&0) || target.contains(&0) {
            return Err(refuse("its name is empty or contains a NUL"));
        }
        if matches!(kind, Kind::Symlink | Kind::Hardlink) && target.is_empty() {
            return Err(refuse("it is a link to nothing"));
        }
        let mode = small(&header[100..108]).ok_or_else(|| refuse("its mode is not a number"))?;
        let id = |extended: Option<u64>, field: &[u8]| {
            let id = extended.or_else(|| u64::try_from(small(field)?).ok());
            // The largest number means "leave it as it is" to the kernel.
            id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX)
        };
        let no_owner = || refuse("its owner is no user or group ID");
        let uid = id(extension.uid, &header[108..116]).ok_or_else(no_owner)?;
        let gid = id(extension.gid, &header[116..124]).ok_or_else(no_owner)?;
        let seconds = || small(&header[136..148]).map(|seconds| Time { seconds, nanos: 0 });
        let time = extension.time.or_else(seconds).ok_or_else(|| refuse("its time is not a number"))?;
        let size = if kind == Kind::File { extension.size.unwrap_or(size) } else { 0 };
        self.blocks.content(size);
        let attributes =
            Attributes { mode: (mode & 0o7777) as u32, uid, gid, time, xattrs: extension.xattrs };
        Ok(Entry { name, kind, attributes, size, target })
    }

    /// The next header block; none at the end.
    fn header(&mut self) -> Result<Option<Block>, UnpackError> {
        match self.blocks.next_block()? {
            Next::Header(block) => Ok(Some(block)),
            Next::Zeros | Next::End => Ok(None),
            Next::CutContent => Err(UnpackError::Form("ends inside an entry")),
            Next::CutHeader => Err(UnpackError::Form("ends inside a header")),
        }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.blocks.read(buffer)
    }
}

/// A number that Go would take.
fn small(field: &[u8]) -> Option<i64> {
    number(field).and_then(|number| i64::try_from(number).ok())
}

/// `-1.5`: seconds, whose fraction counts upwards whatever the sign, as in the kernel.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at| fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'));
    let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + digit(at));
    Some(match (negative, nanos) {
        (false, nanos) => Time { seconds, nanos },
        (true, 0) => Time { seconds: -seconds, nanos },
        (true, nanos) => Time { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

fn pax(bytes: &[u8], extension: &mut Extension) -> Result<(), &'static str> {
    const FORM: &str = "its pax header cannot be read";
    for record in records(bytes) {
        let (key, value) = record.ok_or(FORM)?;
        match key {
            b"path" => extension.name = Some(value.to_vec()),
            b"linkpath" => extension.target = Some(value.to_vec()),
            b"size" => extension.size = Some(decimal(value).ok_or(FORM)?),
            b"uid" => extension.uid = Some(decimal(value).ok_or(FORM)?),
            b"gid" => extension.gid = Some(decimal(value).ok_or(FORM)?),
            b"mtime" => extension.time = Some(time(value).ok_or(FORM)?),
            key if key.starts_with(b"GNU.sparse.") => {
                return Err("it is a sparse file, which OCI layers do not have");
            }
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                    && is_wanted(name)
                {
                    extension.xattrs.retain(|(known, _)| known != name);
                    extension.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

/// Whether a layer may set that extended attribute.
fn is_wanted(name: &[u8]) -> bool {
    name.starts_with(b"user.") && name.len() > 5 && !name.starts_with(b"user.overlay.") && !name.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::testing;

    fn entries(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, String> {
        let mut reader = TarReader::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = reader.next().map_err(|error| error.to_string())? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            found.push((entry, content));
        }
        Ok(found)
    }

    #[test]
    fn extended_headers_say_what_headers_cannot() {
        let pax = [
            testing::pax("path", b"long\xff"),
            testing::pax("mtime", b"-1.25"),
            testing::pax("uid", b"3000000"),
            testing::pax("SCHILY.xattr.user.a", b"1"),
            testing::pax("SCHILY.xattr.user.a", b"\0=2"),
            testing::pax("SCHILY.xattr.user.overlay.opaque", b"y"),
            testing::pax("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            testing::pax("SCHILY.xattr.security.capability", b"x"),
        ]
        .concat();
        let bytes = testing::tar(&[
            testing::entry("global", b'g', 0, "", &testing::pax("path", b"nobody")),
            testing::entry("x", b'x', 0, "", &pax),
            testing::entry("short", b'0', 0o4755, "", b"hello"),
            testing::entry("L", b'L', 0, "", b"gnu\0"),
            testing::entry("K", b'K', 0, "", &[b't'; 200]),
            testing::entry("short", b'2', 0o777, "t", b""),
            testing::entry("old/", 0, 0o755, "", b""),
        ]);
        let found = entries(&bytes).unwrap();
        let (file, content) = &found[0];
        assert_eq!((&file.name[..], &content[..]), (&b"long\xff"[..], &b"hello"[..]));
        assert_eq!(file.attributes.time, Time { seconds: -2, nanos: 750_000_000 });
        assert_eq!((file.attributes.uid, file.attributes.mode), (3_000_000, 0o4755));
        assert_eq!(file.attributes.xattrs, [(b"user.a".to_vec(), b"\0=2".to_vec())]);
        assert_eq!((&found[1].0.name[..], found[1].0.target.len()), (&b"gnu"[..], 200));
        assert_eq!((found[2].0.kind, found.len()), (Kind::Directory, 3));
    }

    #[test]
    fn numbers_as_go_takes_them() {
        assert_eq!(small(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(small(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        for (text, value) in [
            (&b"1.5"[..], Some((1, 500_000_000))),
            (b"-1", Some((-1, 0))),
            (b"1.0000000019", Some((1, 1))),
            (b"1.", Some((1, 0))),
            (b"", None),
            (b"1.x", None),
        ] {
            assert_eq!(time(text), value.map(|(seconds, nanos)| Time { seconds, nanos }), "{text:?}");
        }
    }

    #[test]
    fn odd_archives_are_refused() {
        let good = testing::entry("a", b'0', 0o644, "", b"x");
        let mut broken = good.clone();
        broken[0] = b'b';
        let mut owner = good.clone();
        owner[108..116].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff");
        testing::seal(&mut owner);
        let nul = testing::entry("x", b'x', 0, "", &testing::pax("path", b"a\0b"));
        let sparse = testing::entry("x", b'x', 0, "", &testing::pax("GNU.sparse.major", b"1"));
        for (bytes, wanted) in [
            (broken, "its header's checksum is wrong"),
            (good[..600].to_vec(), "ends inside an entry"),
            (good[..100].to_vec(), "ends inside a header"),
            (owner, "its owner is no user or group ID"),
            ([nul, good.clone()].concat(), "contains a NUL"),
            ([sparse, good.clone()].concat(), "a sparse file"),
            (testing::entry("a", b'S', 0, "", b""), "a sparse file"),
            (testing::entry("a", b'Z', 0, "", b""), "of an unknown type"),
            (testing::entry("a", b'2', 0, "", b""), "a link to nothing"),
            (vec![testing::entry("x", b'x', 0, "", b""); 9].concat(), "more than eight extended headers"),
            (testing::entry("x", b'x', 0, "", &vec![0; 1 << 21]), "larger than 1 MiB"),
            (testing::entry("x", b'x', 0, "", b"12 path=a"), "its pax header cannot be read"),
        ] {
            let error = entries(&bytes).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
        // An end mark is not needed, and what follows one is not looked at.
        assert_eq!(entries(&good).unwrap().len(), 1);
        assert_eq!(entries(&[&good[..], &[0; 512], b"whatever"].concat()).unwrap().len(), 1);
    }
}
