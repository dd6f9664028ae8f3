//! What the bytes of one file say, as they pass once and in order.

use std::ops::RangeInclusive;

use super::FileFacts;
use crate::elf::{self, ElfFacts, Sniffed, Sniffer};

/// The largest C library that is looked at, in bytes; glibc's has two million.
const LIBC_MAX: u64 = 64 << 20;
/// The largest text that is looked at, in bytes.
const TEXT_MAX: u64 = 1 << 20;
/// Bytes of a version with the NULs around it.
const VERSION_MAX: usize = 16;
/// Minor versions of Python 3 that are looked for.
const MINORS: RangeInclusive<u16> = 6..=99;
/// Directories taken from one file of the linker's configuration, and the bytes of one: a path has no more.
const DIRECTORIES_MAX: usize = 64;
const PATH_MAX: usize = 4096;
/// Versions noted of one file; more than one is a puzzle already.
const VERSIONS_MAX: usize = 4;

/// Takes a file's bytes.
pub struct Scan {
    name: String,
    sniffer: Sniffer,
    /// The first bytes, enough to tell an ELF file and its machine.
    head: Vec<u8>,
    what: What,
}

enum What {
    /// ELF facts only.
    Elf,
    /// All bytes are wanted: a C library, a text.
    Libc(Vec<u8>),
    Sysconfig(Vec<u8>),
    LinkerConf(Vec<u8>),
    /// The end of what passed, and versions found.
    Python {
        minor: u16,
        tail: Vec<u8>,
        found: Vec<String>,
    },
}

impl Scan {
    /// For the file of `size` bytes at `path`.
    pub fn new(path: &str, size: u64) -> Self {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let what = if (name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so")))
            && size <= LIBC_MAX
        {
            What::Libc(Vec::new())
        } else if let Some(minor) = python_minor(name).or_else(|| libpython_minor(name)) {
            What::Python { minor, tail: Vec::new(), found: Vec::new() }
        } else if size <= TEXT_MAX && is_sysconfig(directory, name) {
            What::Sysconfig(Vec::new())
        } else if size <= TEXT_MAX
            && (path == "etc/ld.so.conf" || (directory == "etc/ld.so.conf.d" && name.ends_with(".conf")))
        {
            What::LinkerConf(Vec::new())
        } else {
            What::Elf
        };
        Self { name: name.to_owned(), sniffer: Sniffer::new(size), head: Vec::new(), what }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !self.sniffer.enough() {
            self.sniffer.push(bytes);
        }
        let room = 20 - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match &mut self.what {
            What::Elf => {}
            What::Libc(all) | What::Sysconfig(all) | What::LinkerConf(all) => all.extend_from_slice(bytes),
            What::Python { minor, tail, found } => {
                tail.extend_from_slice(bytes);
                versions(tail, *minor, found);
                let keep = tail.len().saturating_sub(VERSION_MAX);
                tail.drain(..keep);
            }
        }
    }

    /// No byte that is still to come is wanted.
    pub fn enough(&self) -> bool {
        matches!(self.what, What::Elf) && self.sniffer.enough() && self.head.len() == 20
    }

    pub fn finish(self) -> Option<FileFacts> {
        let elf = match self.sniffer.finish() {
            Sniffed::Elf(facts) => Some(facts),
            Sniffed::NotElf => None,
            // Its strings lie where a single pass cannot know that they are wanted. It is a library all the same.
            Sniffed::Again(_) => by_name(&self.name, &self.head),
        };
        let mut facts = FileFacts { elf, ..FileFacts::default() };
        match self.what {
            What::Elf => {}
            What::Libc(bytes) => facts.glibc = elf::glibc(&bytes),
            What::Python { found, .. } => facts.python = found,
            What::Sysconfig(text) => {
                facts.posix_local = memchr::memmem::find(&text, b"'posix_local'").is_some();
            }
            What::LinkerConf(text) => {
                let text = String::from_utf8_lossy(&text);
                let is_path = |line: &&str| line.starts_with('/') && line.len() < PATH_MAX;
                let directories = text.lines().map(str::trim).filter(is_path).take(DIRECTORIES_MAX);
                facts.library_directories = directories.map(str::to_owned).collect();
            }
        }
        (!facts.is_empty()).then_some(facts)
    }
}

/// `11` of `python3.11`; builds of another kind (`python3.13t`) are other names.
pub(super) fn python_minor(name: &str) -> Option<u16> {
    minor(name.strip_prefix("python3.")?)
}

/// `11` of `libpython3.11.so.1.0`, `libpython3.11.so`.
fn libpython_minor(name: &str) -> Option<u16> {
    let (digits, rest) = name.strip_prefix("libpython3.")?.split_once('.')?;
    rest.starts_with("so").then(|| minor(digits)).flatten()
}

fn minor(digits: &str) -> Option<u16> {
    let plain = digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|minor| plain && MINORS.contains(minor))
}

fn is_sysconfig(directory: &str, name: &str) -> bool {
    let last = directory.rsplit('/').next().unwrap_or_default();
    let package = directory.strip_suffix("/sysconfig").and_then(|above| above.rsplit('/').next());
    (name == "sysconfig.py" && python_minor(last).is_some())
        || (name == "__init__.py" && package.is_some_and(|package| python_minor(package).is_some()))
}

/// Adds each `3.MINOR.x` between two NULs: CPython holds its version as such a text.
fn versions(bytes: &[u8], minor: u16, found: &mut Vec<String>) {
    let start = format!("\03.{minor}.");
    for at in memchr::memmem::find_iter(bytes, start.as_bytes()) {
        let patch = &bytes[at + start.len()..];
        let Some(end) = patch.iter().take(VERSION_MAX - start.len()).position(|byte| *byte == 0) else {
            continue;
        };
        let digits = std::str::from_utf8(&patch[..end]).unwrap_or_default();
        if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let version = format!("3.{minor}.{digits}");
        if !found.contains(&version) && found.len() < VERSIONS_MAX {
            found.push(version);
        }
    }
}

fn by_name(name: &str, head: &[u8]) -> Option<ElfFacts> {
    let machine = u16::from_le_bytes(head.get(18..20)?.try_into().ok()?);
    let class64 = *head.get(4)? == 2;
    let (soname, needed, runpath) = (Some(name.to_owned()), Vec::new(), Vec::new());
    Some(ElfFacts { class64, machine, soname, needed, runpath, interp: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found whatever the pieces.
    fn scan(path: &str, bytes: &[u8]) -> Option<FileFacts> {
        let by = |piece: usize| {
            let mut scan = Scan::new(path, bytes.len() as u64);
            bytes.chunks(piece).for_each(|bytes| scan.push(bytes));
            scan.finish()
        };
        let whole = by(bytes.len().max(1));
        for piece in [1, 7, 16, 100] {
            assert_eq!(by(piece), whole, "{path} in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn a_version_stands_between_nuls() {
        let text = b"x\x003.11.2\0y\x003.40.1\0\x003.11\0\x003.11.x\0 3.11.9\x003.11.2\0\x003.11.10";
        for (path, expected) in [
            ("usr/bin/python3.11", vec!["3.11.2"]),
            ("usr/lib/libpython3.11.so.1.0", vec!["3.11.2"]),
            ("usr/lib/libpython3.40.so", vec!["3.40.1"]),
        ] {
            assert_eq!(scan(path, text).unwrap().python, expected, "{path}");
        }
        for path in
            ["usr/bin/python3", "usr/bin/python3.13t", "libpython3.so", "python3.11-config", "python3.1"]
        {
            assert_eq!(scan(path, text), None, "{path}");
        }
        let two = b"\x003.11.2\0\x003.11.4\0";
        assert_eq!(scan("bin/python3.11", two).unwrap().python, ["3.11.2", "3.11.4"]);
    }

    #[test]
    fn libraries_and_texts() {
        let libc = elf::c_library(62, &["libc.so.6", "GLIBC_2.31"]);
        for path in ["lib/x86_64-linux-gnu/libc.so.6", "lib/libc-2.31.so"] {
            assert_eq!(scan(path, &libc).unwrap().glibc, Some((2, 31)));
        }
        assert_eq!(scan("lib/libm.so.6", &libc).unwrap().glibc, None);
        assert_eq!(scan("lib/a.so", &elf::shared_object()).unwrap().elf.unwrap().needed.len(), 2);
        let scheme = b"    'posix_local': {";
        assert!(scan("usr/lib/python3.11/sysconfig.py", scheme).unwrap().posix_local);
        assert!(scan("usr/lib/python3.13/sysconfig/__init__.py", scheme).unwrap().posix_local);
        assert_eq!(scan("usr/lib/python3.13/json/__init__.py", scheme), None);
        let conf = scan("etc/ld.so.conf.d/a.conf", b"# x\n /opt/lib \ninclude y\n").unwrap();
        assert_eq!(conf.library_directories, ["/opt/lib"]);
        assert_eq!(scan("etc/passwd", b"root"), None);
        let many: String = (0..100).map(|at| format!("/lib{at}\n")).collect();
        let conf = scan("etc/ld.so.conf", format!("/{}\n{many}", "x".repeat(PATH_MAX)).as_bytes()).unwrap();
        assert_eq!(
            (conf.library_directories.len(), &*conf.library_directories[0]),
            (DIRECTORIES_MAX, "/lib0")
        );
    }
}
