//! ldconfig: `/etc/ld.so.cache`, and the links named by sonames that a package may leave to it.
//!
//! The loader finds libraries in Debian's multiarch directories without a cache, but `ctypes.util.find_library` and
//! triton ask `ldconfig -p`, which prints it, and libraries below directories of `/etc/ld.so.conf` need it.
//!
//! The format is glibc's `glibc-ld.so.cache1.1` (2.32 and later; no legacy part, no extensions): a header of 48
//! bytes, entries of 24 bytes sorted downwards by the loader's own order of names, then the strings.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::root::view;
use super::{EmulateError, Root};
use crate::elf;
use crate::oci::Platform;
use crate::tree::{Node, TreePath};

const CACHE: &str = "etc/ld.so.cache";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// The loader's flags of a library for glibc on the platform: FLAG_ELF_LIBC6 and the ABI's bits.
const fn flags(platform: Platform) -> u32 {
    match platform {
        Platform::LinuxAmd64 => 0x0303,
        Platform::LinuxArm64 => 0x0a03,
    }
}

pub fn add(root: &mut Root<'_>, platform: Platform) -> Result<(), EmulateError> {
    let mut libraries: BTreeMap<String, String> = BTreeMap::new();
    let mut links = Vec::new();
    let mut seen = BTreeSet::new();
    for directory in directories(root, platform)? {
        // /lib and /usr/lib are one: each real directory counts once, under the name that came first.
        let real = directory.strip_prefix('/').unwrap_or(&directory);
        let real = TreePath::new(real).and_then(super::super::deb::merge)?;
        if !seen.insert(real.clone()) {
            continue;
        }
        let prefix = format!("{real}/");
        for path in root.below(&prefix) {
            let name = &path.as_str()[prefix.len()..];
            if name.contains('/') || !is_library_name(name) {
                continue;
            }
            let Some(found) = library(root, &path, platform) else { continue };
            let linked = matches!(root.get(path.as_str()), Some(Node::Symlink { .. }));
            // Of links only those for building count by name, as with ldconfig; others say what they lead to.
            let by_name = linked && name.ends_with(".so");
            let key = if by_name { name.to_owned() } else { found.unwrap_or_else(|| name.to_owned()) };
            if key.contains('/') || key.is_empty() {
                continue;
            }
            if key != name && root.get(&format!("{prefix}{key}")).is_none() {
                links.push((format!("{prefix}{key}"), name.to_owned()));
            }
            libraries.entry(key.clone()).or_insert_with(|| format!("{directory}/{key}"));
        }
    }
    for (link, target) in links {
        root.add_link(&link, &target)?;
    }
    let bytes = encode(&libraries, flags(platform));
    if root.read(CACHE)?.as_deref() != Some(&bytes[..]) {
        let content = crate::tree::Content::bytes(bytes);
        root.tree.insert(TreePath::new(CACHE)?, Node::File { mode: 0o644, content });
    }
    Ok(())
}

/// Where libraries are looked for, in order: ld.so.conf with its includes, then the built-in directories.
fn directories(root: &Root<'_>, platform: Platform) -> Result<Vec<String>, EmulateError> {
    let mut found = Vec::new();
    let main = root.read("etc/ld.so.conf")?.unwrap_or_default();
    for line in String::from_utf8_lossy(&main).lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ") {
            // Debian's only include: /etc/ld.so.conf.d/*.conf.
            let Some(directory) = pattern.trim().strip_suffix("*.conf") else { continue };
            for path in root.below(directory.trim_start_matches('/')) {
                if path.as_str().ends_with(".conf") {
                    let text = root.read(path.as_str())?.unwrap_or_default();
                    found.extend(String::from_utf8_lossy(&text).lines().filter_map(directory_line));
                }
            }
        } else {
            found.extend(directory_line(line));
        }
    }
    let multiarch = platform.multiarch();
    found.extend([format!("/lib/{multiarch}"), format!("/usr/lib/{multiarch}")]);
    found.extend(["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(str::to_owned));
    Ok(found)
}

fn directory_line(line: &str) -> Option<String> {
    let line = line.split('#').next()?.trim().trim_end_matches('/');
    TreePath::from_absolute(line).ok().map(|_| line.to_owned())
}

fn is_library_name(name: &str) -> bool {
    (name.starts_with("lib") || name.starts_with("ld-")) && (name.ends_with(".so") || name.contains(".so."))
}

/// The soname of the library that `path` leads to, if it is one for the platform.
fn library(root: &Root<'_>, path: &TreePath, platform: Platform) -> Option<Option<String>> {
    let (_, content) = root.file(path.as_str())?;
    let facts = elf::facts(&*view(content).ok()?)?;
    (facts.class64 && facts.machine == elf::machine(platform)).then_some(facts.soname)
}

fn encode(libraries: &BTreeMap<String, String>, flags: u32) -> Vec<u8> {
    let mut sorted: Vec<(&String, &String)> = libraries.iter().collect();
    sorted.sort_by(|a, b| order(b.0, a.0).then_with(|| a.1.cmp(b.1)));
    let mut strings = Vec::new();
    let mut entries = Vec::new();
    let base = HEADER + ENTRY * sorted.len();
    for (name, path) in sorted {
        // The name is the end of the path, so it needs no string of its own.
        let value = base + strings.len();
        let key = value + path.len() - name.len();
        strings.extend_from_slice(path.as_bytes());
        strings.push(0);
        for field in [flags, key as u32, value as u32, 0, 0, 0] {
            entries.extend_from_slice(&field.to_le_bytes());
        }
    }
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    bytes.extend_from_slice(&(libraries.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(strings.len() as u32).to_le_bytes());
    // Little endian, padding, no extensions, unused.
    bytes.push(2);
    bytes.resize(HEADER, 0);
    bytes.extend(entries);
    bytes.extend(strings);
    bytes
}

/// The loader's order of names: runs of digits as numbers, and after any other character.
fn order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match (x.is_ascii_digit(), y.is_ascii_digit()) {
                (true, true) => {
                    let number = |text: &mut &[u8]| {
                        let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
                        let (digits, rest) = text.split_at(end);
                        *text = rest;
                        let zeros = digits.iter().take_while(|b| **b == b'0').count();
                        (digits.len() - zeros, digits[zeros..].to_vec())
                    };
                    let result = number(&mut a).cmp(&number(&mut b));
                    if result.is_ne() {
                        return result;
                    }
                }
                (true, false) => return Ordering::Greater,
                (false, true) => return Ordering::Less,
                (false, false) if x == y => (a, b) = (&a[1..], &b[1..]),
                (false, false) => return x.cmp(y),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_loaders() {
        for (smaller, larger) in [
            ("libc.so.6", "libc.so.10"),
            ("libc.so", "libc.so.6"),
            ("libBrokenLocale.so.1", "libanl.so.1"),
            ("liba", "lib1"),
        ] {
            assert_eq!(order(smaller, larger), Ordering::Less, "{smaller} {larger}");
            assert_eq!(order(larger, smaller), Ordering::Greater, "{larger} {smaller}");
        }
    }

    #[test]
    fn bytes_of_the_cache() {
        let libraries = BTreeMap::from([("liba.so.1".to_owned(), "/lib/x/liba.so.1".to_owned())]);
        let bytes = encode(&libraries, 0x0303);
        assert_eq!(&bytes[..20], b"glibc-ld.so.cache1.1");
        assert_eq!(&bytes[20..32], &[1, 0, 0, 0, 17, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(&bytes[48..60], &[3, 3, 0, 0, 79, 0, 0, 0, 72, 0, 0, 0]);
        assert_eq!(&bytes[72..], b"/lib/x/liba.so.1\0");
    }
}
